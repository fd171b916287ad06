//! The platform team's rights, read off the guide's page: they are enough, and each that is missing is named.
use protocol::Value;
use protocol::testing::State;

use super::clusters::{CLUSTER, POOL, PROD, apply, made, pool, prod, writes};
use super::pools::{block, core};
use super::says;
use super::support::World;

/// What the commands of the guide give a user: path and privilege.
fn granted(user: &str) -> Vec<(String, String)> {
    let guide = include_str!("../../../../docs/guides/rights.md");
    let role = |name: &str| {
        let made = guide.lines().find_map(|line| line.strip_prefix(&format!("# pveum role add {name} -privs ")));
        made.expect("a role of the guide").trim_matches('"').split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let mut granted = Vec::new();
    for line in guide.lines().filter_map(|line| line.strip_prefix("# pveum acl modify ")) {
        let words: Vec<&str> = line.split(' ').collect();
        if words[2] == user {
            granted.extend(role(words[4]).into_iter().map(|privilege| (words[0].to_owned(), privilege)));
        }
    }
    granted
}

/// A world in which the platform team's token has these rights.
async fn allowing(rights: &[(String, String)]) -> World {
    let mut world = simulator::World::three_sites().expect("a world");
    let user = world.users.iter_mut().find(|user| user.id == "platform@pve").expect("the platform team");
    user.acl.clear();
    for (path, privilege) in rights {
        match user.acl.iter_mut().find(|spec| spec.path == *path) {
            Some(spec) => spec.privileges.push(privilege.clone()),
            None => {
                let privileges = vec![privilege.clone()];
                user.acl.push(simulator::AclSpec { path: path.clone(), role: None, privileges, propagate: true });
            }
        }
    }
    World::of(world).await
}

#[tokio::test]
async fn the_platform_teams_rights_of_the_guide_are_enough_and_each_that_is_missing_is_named() {
    let rights = granted("platform@pve");
    assert_eq!(rights.len(), 5, "{rights:?}");
    let options = Value::object([("mac_prefix", "02:00:01")]);
    let config = prod().with_attr("datacenter_options", options);
    let world = allowing(&rights).await;
    let core_of = |world: &World| core(block(world, "platform"));
    let cluster = apply(&core_of(&world).await, CLUSTER, &State::default(), &config).await;
    assert!(cluster.diagnostics.is_empty(), "{:?}", cluster.diagnostics);
    let only = pool().with_attr("clusters", Value::set([PROD]));
    let pool = made(&core_of(&world).await, POOL, &only).await;
    for (kind, state) in [(POOL, pool), (CLUSTER, cluster.state)] {
        let gone = apply(&core_of(&world).await, kind, &state, &Value::Null).await;
        assert!(gone.state.value.is_null() && !gone.diagnostics.has_errors(), "{:?}", gone.diagnostics);
    }
    for (path, privilege) in rights.iter().filter(|(_, privilege)| privilege != "VM.Audit") {
        let fewer: Vec<_> =
            rights.iter().filter(|right| **right != (path.clone(), privilege.clone())).cloned().collect();
        let world = allowing(&fewer).await;
        let core = core_of(&world).await;
        world.sim.clear_requests();
        let refused = apply(&core, CLUSTER, &State::default(), &config).await;
        let at = if path == "/pool" { "/pool/moxxie" } else { path };
        let named = format!("{privilege} on {at}");
        assert!(
            says(&refused.diagnostics, &named) && refused.state.value.is_null(),
            "{named}: {:?}",
            refused.diagnostics
        );
        assert_eq!(writes(&world), Vec::<String>::new(), "{named}");
    }
}
