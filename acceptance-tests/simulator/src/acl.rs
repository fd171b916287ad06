//! Who may do what: users, tokens, roles as data, and how rights come down a path (proxmox-ve.md §1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::Value;

use crate::error::ApiError;
use crate::state::Cluster;
use crate::world::{AclSpec, Profile};
use crate::{Result, SimulatorError};

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Auth {
    /// `user@realm`; empty for nobody.
    pub(crate) user: String,
    /// Part after the `!`.
    pub(crate) token: Option<String>,
}

impl Auth {
    pub(crate) fn id(&self) -> String {
        match &self.token {
            Some(token) => format!("{}!{token}", self.user),
            None => self.user.clone(),
        }
    }

    /// The real root, not a token of it.
    pub(crate) fn is_root(&self) -> bool {
        self.user == "root@pam" && self.token.is_none()
    }
}

#[derive(Default)]
pub(crate) struct Access {
    /// Password by user.
    pub(crate) users: BTreeMap<String, Option<String>>,
    /// By `user@realm!id`.
    pub(crate) tokens: BTreeMap<String, Token>,
    pub(crate) acl: Vec<Rule>,
    /// Tickets handed out: ticket → (user, CSRF token, issued at in seconds).
    pub(crate) tickets: BTreeMap<String, (String, String, i64)>,
}

pub(crate) struct Token {
    pub(crate) secret: String,
    pub(crate) privsep: bool,
}

pub(crate) struct Rule {
    pub(crate) path: String,
    /// User or token id.
    pub(crate) subject: String,
    pub(crate) privileges: BTreeSet<String>,
    /// The role it was granted as.
    pub(crate) role: String,
    pub(crate) propagate: bool,
}

fn roles() -> &'static BTreeMap<String, Vec<String>> {
    static ROLES: OnceLock<BTreeMap<String, Vec<String>>> = OnceLock::new();
    ROLES.get_or_init(|| serde_json::from_str(include_str!("../api/roles.json")).unwrap_or_default())
}

/// The privileges of a role in a PVE version; `None` for an unknown role.
pub(crate) fn role(name: &str, profile: Profile) -> Option<BTreeSet<String>> {
    let privileges = roles().get(name)?;
    let exists = |p: &&String| match profile {
        Profile::V9_1 | Profile::V9_2 => p.as_str() != "VM.Monitor",
        Profile::V8_4 => !p.starts_with("VM.GuestAgent.") && p.as_str() != "VM.Replicate",
    };
    Some(privileges.iter().filter(exists).cloned().collect())
}

impl Access {
    /// What a pool takes with it (proxmox-ve.md §18.3): every rule on its path and below, and making it again brings none back. One
    /// that is nested in another takes nothing.
    pub(crate) fn forget_pool(&mut self, name: &str) {
        if name.contains('/') {
            return;
        }
        let path = format!("/pool/{name}");
        let below = format!("{path}/");
        self.acl.retain(|rule| rule.path != path && !rule.path.starts_with(&below));
    }

    pub(crate) fn grant(&mut self, subject: &str, spec: &AclSpec, profile: Profile) -> Result<()> {
        let mut privileges: BTreeSet<String> = spec.privileges.iter().cloned().collect();
        if let Some(name) = &spec.role {
            privileges
                .extend(role(name, profile).ok_or_else(|| SimulatorError(format!("world file: no role '{name}'")))?);
        }
        self.acl.push(Rule {
            path: normal(&spec.path),
            subject: subject.to_owned(),
            privileges,
            role: spec.role.clone().unwrap_or_else(|| "Custom".to_owned()),
            propagate: spec.propagate,
        });
        Ok(())
    }
}

/// No double and no trailing slash.
fn normal(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

impl Cluster {
    /// Privileges of one subject on a path, with whether they propagate. A deeper rule replaces the shallower.
    fn subject_privileges(&self, subject: &str, path: &str) -> BTreeMap<String, bool> {
        if subject == "root@pam" {
            let all = role("Administrator", self.profile).unwrap_or_default();
            return all.into_iter().map(|privilege| (privilege, true)).collect();
        }
        let mut found = BTreeMap::new();
        let mut at = String::new();
        let steps = std::iter::once("").chain(path.split('/').filter(|part| !part.is_empty()));
        for (depth, step) in steps.enumerate() {
            if depth > 0 {
                at.push('/');
                at.push_str(step);
            }
            let here = if depth == 0 { "/" } else { at.as_str() };
            let rules: Vec<_> = self
                .access
                .acl
                .iter()
                .filter(|rule| rule.subject == subject && rule.path == here && (rule.propagate || here == path))
                .collect();
            if !rules.is_empty() {
                found =
                    rules.iter().flat_map(|rule| rule.privileges.iter().map(|p| (p.clone(), rule.propagate))).collect();
            }
        }
        // A pool's rights come on top, for its members.
        for (name, pool) in &self.pools {
            let member =
                path.strip_prefix("/vms/").and_then(|id| id.parse().ok()).is_some_and(|id| pool.vms.contains(&id))
                    || path.strip_prefix("/storage/").is_some_and(|id| pool.storages.contains(id));
            if member {
                found.extend(self.subject_privileges(subject, &format!("/pool/{name}")));
            }
        }
        found
    }

    /// Effective privileges on a path.
    pub(crate) fn privileges(&self, auth: &Auth, path: &str) -> BTreeMap<String, bool> {
        let path = normal(path);
        let of_user = self.subject_privileges(&auth.user, &path);
        let separated = auth.token.is_some() && self.access.tokens.get(&auth.id()).is_none_or(|token| token.privsep);
        if !separated {
            return of_user;
        }
        let of_token = self.subject_privileges(&auth.id(), &path);
        of_user.into_iter().filter(|(privilege, _)| of_token.contains_key(privilege)).collect()
    }

    pub(crate) fn has(&self, auth: &Auth, path: &str, wanted: &[&str]) -> bool {
        let held = self.privileges(auth, path);
        wanted.iter().all(|privilege| held.contains_key(*privilege))
    }

    pub(crate) fn has_any(&self, auth: &Auth, path: &str, wanted: &[&str]) -> bool {
        let held = self.privileges(auth, path);
        wanted.iter().any(|privilege| held.contains_key(*privilege))
    }

    /// All of them, or 403 naming the first that is missing.
    pub(crate) fn need(&self, auth: &Auth, path: &str, wanted: &[&str]) -> std::result::Result<(), ApiError> {
        let held = self.privileges(auth, path);
        match wanted.iter().find(|privilege| !held.contains_key(**privilege)) {
            Some(missing) => Err(ApiError::forbid(&format!("{path}, {missing}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn need_any(&self, auth: &Auth, path: &str, wanted: &[&str]) -> std::result::Result<(), ApiError> {
        if self.has_any(auth, path, wanted) {
            return Ok(());
        }
        Err(ApiError::forbid(&format!("{path}, {}", wanted.join("|"))))
    }

    /// `check_volume_access` of PVE (proxmox-ve.md §1.4): `owner` is the guest of the volume, `as_vmid` the guest
    /// it is wanted for.
    pub(crate) fn need_volume(
        &self,
        auth: &Auth,
        storage: &str,
        backup: bool,
        owner: Option<u32>,
        as_vmid: Option<u32>,
        volid: &str,
    ) -> std::result::Result<(), ApiError> {
        let on_storage = format!("/storage/{storage}");
        if self.has(auth, &on_storage, &["Datastore.Allocate"]) {
            return Ok(());
        }
        match owner {
            Some(owner) if as_vmid == Some(owner) => Ok(()),
            Some(owner) if backup => {
                self.need(auth, &on_storage, &["Datastore.AllocateSpace"])?;
                self.need(auth, &format!("/vms/{owner}"), &["VM.Backup"])
            }
            Some(owner) => {
                self.need(auth, &on_storage, &["Datastore.Audit"])?;
                self.need(auth, &format!("/vms/{owner}"), &["VM.Config.Disk"])
            }
            None => {
                if self.has_any(auth, &on_storage, &["Datastore.AllocateSpace", "Datastore.Audit"]) {
                    return Ok(());
                }
                Err(ApiError::die(format!("missing privileges to access {volid}")))
            }
        }
    }

    /// Evaluates the `check` of an endpoint's permission data.
    pub(crate) fn check(
        &self,
        auth: &Auth,
        check: &Value,
        params: &BTreeMap<String, String>,
    ) -> std::result::Result<(), ApiError> {
        let Some(items) = check.as_array() else { return Ok(()) };
        let kind = items.first().and_then(Value::as_str).unwrap_or_default();
        match kind {
            "and" => items[1..].iter().try_for_each(|item| self.check(auth, item, params)),
            "or" => {
                if items[1..].iter().any(|item| self.check(auth, item, params).is_ok()) {
                    return Ok(());
                }
                Err(ApiError::forbid(""))
            }
            "perm" => self.check_perm(auth, items, params),
            "userid-param" => {
                let same = params.get("userid").is_some_and(|user| *user == auth.user);
                if same { Ok(()) } else { Err(ApiError::forbid("")) }
            }
            "userid-group" => {
                let wanted = strings(items.get(1));
                let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
                self.need(auth, "/access/groups", &wanted)
            }
            _ => Err(ApiError::forbid("")),
        }
    }

    fn check_perm(
        &self,
        auth: &Auth,
        items: &[Value],
        params: &BTreeMap<String, String>,
    ) -> std::result::Result<(), ApiError> {
        let template = items.get(1).and_then(Value::as_str).unwrap_or("/");
        let options: Vec<_> = items.get(3..).unwrap_or_default().iter().filter_map(Value::as_str).collect();
        if let Some(place) = options.iter().position(|option| *option == "require_param") {
            let needed = options.get(place + 1).copied().unwrap_or_default();
            if !params.contains_key(needed) {
                return Err(ApiError::forbid(""));
            }
        }
        let mut path = template.to_owned();
        for (key, value) in params {
            path = path.replace(&format!("{{{key}}}"), value);
        }
        let wanted = strings(items.get(2));
        let mut names: Vec<_> = wanted.iter().map(String::as_str).collect();
        if self.profile == Profile::V8_4 && names.iter().any(|name| name.starts_with("VM.GuestAgent.")) {
            // Before PVE 9 the agent's calls asked for one privilege (proxmox-ve.md §14).
            names = vec!["VM.Monitor"];
        }
        if options.contains(&"any") { self.need_any(auth, &path, &names) } else { self.need(auth, &path, &names) }
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
        .unwrap_or_default()
}
