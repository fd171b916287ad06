//! Carries out the commands of the guide's page of rights, as `pveum` would: what they give a user is what a test runs with.
use std::collections::{BTreeMap, BTreeSet};

use simulator::{AclSpec, TokenSpec, UserSpec, World};

const PAGE: &str = include_str!("../../../docs/guides/rights.md");
/// Roles that Proxmox VE brings, as far as the page uses them.
const BUILT_IN: [(&str, &[&str]); 2] =
    [("PVEDatastoreUser", &["Datastore.AllocateSpace", "Datastore.Audit"]), ("PVESDNUser", &["SDN.Audit", "SDN.Use"])];

/// A right: path and privilege.
pub type Right = (String, String);

/// What sections of the page give one user.
#[derive(Debug, Clone)]
pub struct Team {
    /// `app@pve`.
    pub user: String,
    /// `app@pve!moxxie`.
    pub token: String,
    /// Every right.
    pub rights: BTreeSet<Right>,
}

/// The commands of a section, in order.
fn commands(heading: &str) -> Vec<&'static str> {
    let start = PAGE.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("the page has no {heading:?}"));
    let section = &PAGE[start + 1..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    section.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.starts_with("pveum ")).collect()
}

/// Words of a command, quoted ones as one.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in command.split('"').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Carries out every command of these sections, on a cluster that has nothing yet.
///
/// # Panics
/// For a command that `pveum` would refuse: a user or role that isn't there, one that is, words it doesn't know.
pub fn team(headings: &[&str]) -> Team {
    let mut roles: BTreeMap<String, Vec<String>> =
        BUILT_IN.map(|(name, own)| (name.to_owned(), own.iter().map(|own| (*own).to_owned()).collect())).into();
    let mut users = BTreeSet::new();
    let mut tokens = BTreeSet::new();
    let mut rights = BTreeSet::new();
    for command in headings.iter().flat_map(|heading| commands(heading)) {
        let words = words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[1..] {
            ["user", "add", user] => assert!(users.insert(user.to_owned()), "{command}: it is there"),
            ["role", "add", role, "-privs", privileges] => {
                let privileges = privileges.split(' ').map(str::to_owned).collect();
                assert!(roles.insert(role.to_owned(), privileges).is_none(), "{command}: it is there");
            }
            ["acl", "modify", path, "-user", user, "-role", role] => {
                assert!(users.contains(user), "{command}: no such user");
                let role = roles.get(role).unwrap_or_else(|| panic!("{command}: no such role"));
                rights.extend(role.iter().map(|privilege| (path.to_owned(), privilege.clone())));
            }
            ["user", "token", "add", user, id, "-privsep", "0"]
            | ["user", "token", "add", user, id, "-privsep", "0", "-expire", ..] => {
                assert!(users.contains(user), "{command}: no such user");
                tokens.insert(format!("{user}!{id}"));
            }
            _ => panic!("{command}: not a command that is known here"),
        }
    }
    assert!(users.len() == 1 && tokens.len() == 1, "{headings:?} are about {users:?} with {tokens:?}");
    Team { user: users.pop_first().expect("one"), token: tokens.pop_first().expect("one"), rights }
}

impl Team {
    /// The same without one right.
    pub fn without(&self, path: &str, privilege: &str) -> Team {
        let mut less = self.clone();
        assert!(less.rights.remove(&(path.to_owned(), privilege.to_owned())), "{privilege} on {path} is not held");
        less
    }

    fn account(&self) -> UserSpec {
        let mut acl: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (path, privilege) in &self.rights {
            acl.entry(path).or_default().push(privilege.clone());
        }
        let rule = |(path, privileges): (&str, Vec<String>)| AclSpec {
            path: path.to_owned(),
            role: None,
            privileges,
            propagate: true,
        };
        let id = self.token.rsplit('!').next().unwrap_or_default().to_owned();
        let token = TokenSpec { id, privsep: false, secret: None, acl: Vec::new() };
        UserSpec {
            id: self.user.clone(),
            password: None,
            acl: acl.into_iter().map(rule).collect(),
            tokens: vec![token],
        }
    }

    /// Has the team in place of the world's own user of that name: on one cluster with other rights where `except` says so.
    pub fn join(&self, mut world: World, except: Option<(&str, &Team)>) -> World {
        world.users.retain(|user| user.id != self.user);
        for (name, cluster) in &mut world.clusters {
            let team = except.filter(|(other, _)| other == name).map_or(self, |(_, team)| team);
            cluster.users.push(team.account());
        }
        world
    }
}
