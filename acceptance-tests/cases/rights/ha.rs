//! The role for machines under high availability, beside the app team's: what it holds suffices, and nothing else in it.
use harness::{Cli, Run, SimulatedWorld, Workspace, clis};
use serde_json::json;
use simulator::{Options, World};

use super::guide::{self, Team};
use crate::support::{configure, sound, workspace};

const FROM: &str = "worldstream-prod";
const TO: &str = "databarn-dr";
const RULE: &str = "prefer-new-nodes";
/// Its `migration` in the configuration, and one that does without HA on the target.
const GONE: &str = r#"source = "delete", keep_archive = "0s""#;
const UNMANAGED: &str = r#"source = "delete", keep_archive = "0s", accept_loss = ["ha"]"#;

/// App team and HA role, as the page gives them.
fn both() -> Team {
    guide::team(&["App team", "High availability"])
}

fn wanted(on: &str) -> serde_json::Value {
    json!({ "api": { "pool": "production-pool", "cluster": on } })
}

/// A machine under HA, bound by a rule that the target has too. On one cluster the team has other rights, where `except` says so.
fn managed(team: &Team, except: Option<(&str, &Team)>, cli: &Cli) -> (SimulatedWorld, Workspace, u32) {
    let world = team.join(World::three_sites().expect("the world"), except);
    let world = SimulatedWorld::start(world, Options::default());
    let workspace = workspace(&world, cli, &team.token, &wanted(FROM));
    sound(workspace.apply()).expect(0);
    let vmid = world.vm(FROM, "api").vmid;
    world.cluster(FROM).set_ha(vmid, Some("started"));
    world.cluster(FROM).add_ha_rule(RULE, "ws1:2,ws2", Some(vmid));
    world.cluster(TO).add_ha_rule(RULE, "db1", None);
    world.clear_requests();
    (world, workspace, vmid)
}

/// Nothing was written, and the machine runs under HA where it was.
#[track_caller]
fn untouched(world: &SimulatedWorld, vmid: u32, why: &Run) {
    assert_eq!(world.writes(), Vec::<String>::new(), "{}", why.text());
    assert_eq!(world.machines(), [format!("{FROM}/api")]);
    assert!(world.vm(FROM, "api").running);
    assert_eq!(world.cluster(FROM).ha_state(vmid).as_deref(), Some("started"));
}

#[test]
fn the_ha_role_of_the_guide_is_enough_to_move_and_remove_what_ha_manages() {
    let team = both();
    for cli in clis() {
        let (world, workspace, vmid) = managed(&team, None, &cli);
        // Replication is left alone, so it takes no right.
        configure(&workspace, &wanted(TO));
        sound(workspace.apply()).expect(0);
        assert_eq!(world.machines(), [format!("{TO}/api")]);
        assert_eq!(world.cluster(TO).ha_state(vmid).as_deref(), Some("started"));
        assert_eq!(world.cluster(TO).ha_rules_of(vmid), [RULE]);
        assert_eq!(world.cluster(FROM).ha_state(vmid), None);
        sound(workspace.plan()).expect(0);
        sound(workspace.destroy()).expect(0);
        assert_eq!(world.cluster(TO).ha_state(vmid), None);
        world.assert_clean();
    }
}

#[test]
fn each_right_of_the_ha_role_is_needed_and_named_with_its_path_before_anything_is_touched() {
    let (app, both) = (guide::team(&["App team"]), both());
    let role: Vec<_> = both.rights.difference(&app.rights).cloned().collect();
    assert!(!role.is_empty());
    for cli in clis() {
        for (path, privilege) in &role {
            let less = both.without(path, privilege);
            let named = format!("{privilege} on {path}");
            for cluster in [FROM, TO] {
                let (world, workspace, vmid) = managed(&both, Some((cluster, &less)), &cli);
                configure(&workspace, &wanted(TO));
                sound(workspace.plan()).expect(2).says(&named);
                let run = sound(workspace.apply()).expect(1).says(&named).says("nothing was touched");
                untouched(&world, vmid, &run);
            }
            let (world, workspace, vmid) = managed(&less, None, &cli);
            let run = sound(workspace.destroy()).expect(1).says(&named).says("nothing was touched");
            untouched(&world, vmid, &run);
        }
    }
}

#[test]
fn without_the_ha_role_on_the_target_what_is_skipped_is_listed_at_plan() {
    let (app, both) = (guide::team(&["App team"]), both());
    for cli in clis() {
        let (world, workspace, vmid) = managed(&both, Some((TO, &app)), &cli);
        workspace.edit("main.tf", GONE, UNMANAGED);
        configure(&workspace, &wanted(TO));
        sound(workspace.plan()).expect(2).says("A loss is accepted (ha_target)").says("managed by HA");
        sound(workspace.apply()).expect(0).says("A loss is accepted (ha_target)");
        assert_eq!(world.machines(), [format!("{TO}/api")]);
        assert_eq!(world.cluster(TO).ha_state(vmid), None);
        sound(workspace.destroy()).expect(0);
        world.assert_clean();
    }
}
