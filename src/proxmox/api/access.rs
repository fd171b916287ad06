//! Owns the question what we may do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Client, Params, Result, de};

/// Effective privileges by ACL path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions(BTreeMap<String, BTreeMap<String, bool>>);

impl Permissions {
    /// Whether a privilege holds on a path: granted there, or on the nearest listed path above it and propagating.
    ///
    /// PVE lists a path with all that holds on it, so the nearest listed one decides.
    pub fn has(&self, path: &str, privilege: &str) -> bool {
        let mut at = path;
        loop {
            if let Some(privileges) = self.0.get(if at.is_empty() { "/" } else { at }) {
                let propagates = privileges.get(privilege);
                return propagates.is_some_and(|propagates| at == path || path == "/" || *propagates);
            }
            match at.rfind('/') {
                Some(cut) if !at.is_empty() && at != "/" => at = &at[..cut],
                _ => return false,
            }
        }
    }

    /// The privileges of `wanted` that do not hold on `path`.
    pub fn missing<'a>(&self, path: &str, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted.iter().copied().filter(|privilege| !self.has(path, privilege)).collect()
    }

    /// The listed paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The privileges listed on a path, with whether each propagates.
    pub fn on(&self, path: &str) -> Option<&BTreeMap<String, bool>> {
        self.0.get(path)
    }

    /// All privileges held anywhere.
    pub fn privileges(&self) -> BTreeSet<&str> {
        self.0.values().flat_map(|on_path| on_path.keys().map(String::as_str)).collect()
    }

    fn from_value(value: &Value) -> Option<Self> {
        let on_path = |value: &Value| {
            let privileges = value.as_object()?.iter();
            Some(
                privileges
                    .map(|(privilege, propagate)| (privilege.clone(), de::as_bool(propagate).unwrap_or(false)))
                    .collect(),
            )
        };
        // Perl sends an empty hash as an empty list now and then.
        if value.as_array().is_some_and(Vec::is_empty) {
            return Some(Self::default());
        }
        let paths = value.as_object()?.iter();
        paths.map(|(path, privileges)| Some((path.clone(), on_path(privileges)?))).collect::<Option<_>>().map(Self)
    }
}

/// A grant on a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct AclEntry {
    /// The path.
    pub path: String,
    /// User, group or token.
    pub ugid: String,
    /// The role.
    pub roleid: String,
}

impl Client {
    /// Grants on the paths whose rights we may change; others are left out, unless we have Sys.Audit on `/access`. Permissions.Modify
    /// changes them, and on an object whoever may allocate it: VM.Allocate, Pool.Allocate, Datastore.Allocate (`proxmox-ve.md` §18.31).
    ///
    /// # Errors
    /// None of its own.
    pub async fn acl(&self) -> Result<Vec<AclEntry>> {
        self.get("/access/acl", Params::new()).await
    }

    /// Our own effective privileges, on one path or all listed ones. Anyone may ask this of themselves.
    ///
    /// # Errors
    /// [`crate::Error::Unexpected`] if the answer is not a map of maps.
    pub async fn permissions(&self, path: Option<&str>) -> Result<Permissions> {
        let call = "/access/permissions";
        let answer: Value = self.get(call, Params::new().opt("path", path)).await?;
        Permissions::from_value(&answer)
            .ok_or_else(|| crate::Error::unexpected(self.describe("GET", call), "not a map of paths to privileges"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_nearest_listed_path_decides() {
        let all = Permissions::from_value(&json!({
            "/": {"Sys.Audit": 1, "Sys.Modify": 0},
            "/vms": {"VM.Audit": 1, "VM.Backup": "1"},
            "/vms/100": {"VM.Audit": 1},
            "/pool/team": {"Pool.Audit": 0},
        }))
        .unwrap();
        assert!(all.has("/", "Sys.Audit") && all.has("/", "Sys.Modify"));
        assert!(all.has("/nodes/pve1", "Sys.Audit") && !all.has("/nodes/pve1", "Sys.Modify"));
        assert!(all.has("/vms/101", "VM.Backup") && !all.has("/vms/100", "VM.Backup"));
        assert!(all.has("/pool/team", "Pool.Audit") && !all.has("/pool/team/a", "Pool.Audit"));
        assert_eq!(all.missing("/vms/100", &["VM.Audit", "VM.Backup"]), ["VM.Backup"]);
        assert!(!Permissions::default().has("/vms", "VM.Audit"));
    }
}
