//! What a plan showed is what its apply does, or is refused.
use std::path::Path;

use harness::{Cli, Kind, SimulatedWorld, clis};
use serde_json::json;
use simulator::{Action, Nth, Rule};

use super::{empty, fill, sound};
use crate::support::{self, address, configure, instances, shown, workspace};

/// Where a plan file has machine `name`.
fn at(workspace: &harness::Workspace, file: &str, name: &str) -> String {
    shown(workspace, file).remove(name).and_then(|shown| shown.cluster).expect("a known cluster")
}

#[test]
fn gate_01_an_older_plan_is_applied_as_it_was_shown() {
    for cli in clis() {
        for plan_id in [false, true] {
            let world = SimulatedWorld::three_sites();
            let workspace = workspace(&world, &cli, "app", &json!({ "api": { "pool": "production-pool" } }));
            if plan_id {
                workspace.edit("main.tf", "clusters    = var", "plan_id = plantimestamp()\n  clusters = var");
            }
            sound(workspace.plan_to("one.tfplan")).expect(2);
            let one = at(&workspace, "one.tfplan", "api");
            fill(&world, &one);
            sound(workspace.plan_to("two.tfplan")).expect(2);
            assert_ne!(at(&workspace, "two.tfplan", "api"), one, "the facts bite");
            empty(&world, &one);
            sound(workspace.apply_plan("one.tfplan")).expect(0);
            assert_eq!(instances(&workspace)["api"].cluster, one);
            workspace.plan().expect(0);
        }
    }
}

#[test]
fn gate_02_a_plan_that_was_not_applied_is_forgotten() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app", &json!({ "api": { "pool": "production-pool" } }));
        workspace.plan_to("one.tfplan").expect(2);
        let one = at(&workspace, "one.tfplan", "api");
        fill(&world, &one);
        sound(workspace.plan_to("two.tfplan")).expect(2);
        let two = at(&workspace, "two.tfplan", "api");
        assert_ne!(two, one);
        // Applied after all, the first is refused.
        let run = sound(workspace.apply_plan("one.tfplan")).expect(1).says("the plan is stale").says(&one);
        drop(run.says("nothing was touched"));
        assert!(instances(&workspace).is_empty());
        sound(workspace.plan_to("three.tfplan")).expect(2);
        assert_eq!(at(&workspace, "three.tfplan", "api"), two, "no loop");
        sound(workspace.apply()).expect(0);
        assert_eq!(instances(&workspace)["api"].cluster, two);
        workspace.plan().expect(0);
    }
}

#[test]
fn gate_04_only_the_plan_file_travels_and_the_cluster_is_full_now() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app", &json!({ "api": { "pool": "production-pool" } }));
        workspace.plan_to("the.tfplan").expect(2);
        let planned = at(&workspace, "the.tfplan", "api");
        workspace.remove(".terraform");
        fill(&world, &planned);
        world.clear_requests();
        let run = sound(workspace.apply_plan("the.tfplan")).expect(1);
        drop(run.says("the plan is stale").says(&planned).says("memory").says("plan again"));
        assert_eq!(world.writes(), Vec::<String>::new(), "nothing was touched");
        assert!(instances(&workspace).is_empty(), "no state, nothing tainted");
        // With room, a plan file alone does what it showed, whatever else has changed.
        workspace.remove("terraform.tfstate");
        sound(workspace.plan_to("the.tfplan")).expect(2);
        let planned = at(&workspace, "the.tfplan", "api");
        workspace.remove(".terraform");
        empty(&world, if planned == "databarn-dr" { "worldstream-prod" } else { "databarn-dr" });
        let other = if planned == "databarn-dr" { "worldstream-prod" } else { "databarn-dr" };
        let guest = support::by_hand(9100, support::nodes(other)[0], "foreign", 1024, Some("production-pool"));
        world.cluster(other).create_vm(&guest).expect("a machine made by hand");
        sound(workspace.apply_plan("the.tfplan")).expect(0).never_says("did not travel");
        assert_eq!(instances(&workspace)["api"].cluster, planned);
    }
}

/// A provider that looks, whose data source feeds `inventory` of the one that acts.
const LOOKS: &str = r#"
provider "moxxie" {
  alias       = "looks"
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.clusters
}

data "moxxie_federation" "now" { provider = moxxie.looks }
"#;

/// The plan file and the configuration in a folder that no plan ran in.
fn elsewhere(world: &SimulatedWorld, cli: &Cli, workspace: &harness::Workspace) -> harness::Workspace {
    let fresh = world.workspace(cli, Path::new(support::PROVIDER), "app");
    for file in ["main.tf", "multi-site.yaml", "vms.auto.tfvars.json", "world.auto.tfvars.json", "the.tfplan"] {
        fresh.write(file, std::fs::read(workspace.root().join(file)).expect("a file of the configuration"));
    }
    fresh
}

#[test]
fn gate_03_in_a_fresh_folder_the_inventory_of_the_plan_decides_whatever_has_changed_since() {
    for cli in clis() {
        for inventory in [true, false] {
            let world = SimulatedWorld::three_sites();
            let planner = workspace(&world, &cli, "app", &json!({ "api": { "pool": "production-pool" } }));
            if inventory {
                let main = std::fs::read_to_string(planner.root().join("main.tf")).expect("the configuration");
                let fed = "inventory = data.moxxie_federation.now.inventory\n  clusters = var";
                planner.write("main.tf", main.replacen("clusters    = var", fed, 1) + LOOKS);
            }
            sound(planner.plan_to("the.tfplan")).expect(2);
            let full = at(&planner, "the.tfplan", "api");
            // With its first choice full the plan says another; with room again, facts would say the first.
            fill(&world, &full);
            sound(planner.plan_to("the.tfplan")).expect(2);
            let planned = at(&planner, "the.tfplan", "api");
            assert_ne!(planned, full);
            empty(&world, &full);
            let guest = support::by_hand(9100, support::nodes(&planned)[0], "foreign", 1024, None);
            world.cluster(&planned).create_vm(&guest).expect("a machine made by hand");
            let mut fresh = elsewhere(&world, &cli, &planner);
            drop(planner);
            // The command line does not show the file, so that `inventory` is the only thing that can come along.
            fresh.env("TF_CLI_ARGS_apply", "-input=false the.tfplan");
            let run = fresh.run(&["apply"]);
            if inventory {
                sound(run).expect(0).never_says("did not travel");
                assert_eq!(instances(&fresh)["api"].cluster, planned);
                sound(fresh.plan()).expect(0);
            } else if cli.keeps_planned_private() {
                // Core itself brought the decision along.
                sound(run).expect(0).never_says("did not travel");
                assert_eq!(instances(&fresh)["api"].cluster, planned);
            } else {
                // Nothing came along: core refuses another cluster, and we say why above it.
                drop(run.expect(1).says("did not travel").says("feed `inventory` from data.moxxie_federation"));
                assert!(instances(&fresh).is_empty());
            }
        }
    }
}

#[test]
fn two_configurations_of_the_provider_in_one_run_keep_their_plans_word() {
    for cli in clis() {
        for saved in [true, false] {
            let world = SimulatedWorld::three_sites();
            let vms = json!({ "api": { "pool": "production-pool" }, "web-1": { "pool": "production-pool" } });
            let workspace = workspace(&world, &cli, "app", &vms);
            let main = std::fs::read_to_string(workspace.root().join("main.tf")).expect("the configuration");
            let second = "resource \"moxxie_virtual_machine\" \"second\" {\n  for_each = toset([\"red\", \"blue\", \"gold\"])\n  \
                          provider = moxxie.looks\n  name     = each.key\n  pool     = \"production-pool\"\n}\n";
            workspace.write("main.tf", main + LOOKS + second);
            let shown = if saved {
                sound(workspace.plan_to("the.tfplan")).expect(2);
                let shown = shown(&workspace, "the.tfplan");
                sound(workspace.apply_plan("the.tfplan")).expect(0).never_says("did not travel");
                shown
            } else {
                let run = sound(workspace.apply()).expect(0).never_says("did not travel");
                support::shown_in_text(&run.stdout)
            };
            let made = instances(&workspace);
            assert_eq!(made.len(), 5);
            let told =
                shown.iter().filter(|(name, shown)| shown.cluster.as_ref() == Some(&made[*name].cluster)).count();
            assert_eq!(told, shown.len(), "{shown:?}\n{made:?}");
            assert_eq!(shown.len(), if saved { 5 } else { 2 }, "the text shows those of the variable");
            sound(workspace.plan()).expect(0);
        }
    }
}

/// OpenTofu's encryption of plan files.
const ENCRYPTED: &str = r#"
key_provider "pbkdf2" "k" { passphrase = "correct horse battery staple" }
method "aes_gcm" "m" { keys = key_provider.pbkdf2.k }
plan { method = method.aes_gcm.m }
"#;

#[test]
fn an_encrypted_plan_finds_its_decision_in_the_working_folder() {
    for cli in clis().into_iter().filter(|cli| cli.kind == Kind::OpenTofu) {
        let world = SimulatedWorld::three_sites();
        let mut workspace = workspace(&world, &cli, "app", &json!({ "api": { "pool": "production-pool" } }));
        workspace.env("TF_ENCRYPTION", ENCRYPTED);
        sound(workspace.plan_to("the.tfplan")).expect(2);
        let first = at(&workspace, "the.tfplan", "api");
        fill(&world, &first);
        sound(workspace.plan_to("the.tfplan")).expect(2);
        let planned = at(&workspace, "the.tfplan", "api");
        assert_ne!(planned, first);
        let bytes = std::fs::read(workspace.root().join("the.tfplan")).expect("the plan");
        assert!(!bytes.starts_with(b"PK"), "it is encrypted");
        empty(&world, &first);
        sound(workspace.apply_plan("the.tfplan")).expect(0).never_says("did not travel");
        assert_eq!(instances(&workspace)["api"].cluster, planned);
    }
}

const TESTS: &str = r#"
run "shown" {
  command = plan
  assert {
    condition     = moxxie_virtual_machine.vm["api"].cluster == "worldstream-prod"
    error_message = "planned elsewhere"
  }
}

run "made" {
  assert {
    condition     = moxxie_virtual_machine.vm["api"].cluster == "worldstream-prod"
    error_message = "made elsewhere"
  }
}

run "another" {
  variables {
    vms = { api = { pool = "production-pool" }, db = { pool = "production-pool", cluster = "databarn-dr" } }
  }
  assert {
    condition     = moxxie_virtual_machine.vm["db"].cluster == "databarn-dr"
    error_message = "made elsewhere"
  }
}
"#;

#[test]
fn the_clis_own_tests_run_over_it_and_leave_nothing() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app", &json!({ "api": { "pool": "production-pool" } }));
        workspace.write("place.tftest.hcl", TESTS);
        sound(workspace.run(&["test"])).expect(0).says("3 passed, 0 failed");
        world.assert_clean();
    }
}

/// Machines that must be spread, with names that say nothing of their order.
fn spread() -> serde_json::Value {
    let names = ["blue", "red", "gold", "green", "grey", "pink"];
    let vm = json!({ "pool": "production-pool", "tags": ["database"], "memory": "1GB" });
    names.into_iter().map(|name| (name.to_owned(), vm.clone())).collect::<serde_json::Map<_, _>>().into()
}

/// Runs in all, with one and with ten at a time, direct and saved.
const RUNS: usize = 50;

fn spread_once(cli: &Cli, run: usize) {
    let world = SimulatedWorld::three_sites();
    let workspace = workspace(&world, cli, "app", &spread());
    let parallelism = format!("-parallelism={}", [1, 10][run % 2]);
    if run % 4 < 2 {
        let plan = sound(workspace.run(&["plan", "-input=false", "-out=the.tfplan", &parallelism])).expect(0);
        // Six names without numbers in one group: only the ledger of this plan spreads them, and the plan says so where core
        // doesn't carry the decisions itself.
        let leans = "A placement leans on other machines of this plan";
        drop(if cli.keeps_planned_private() { plan.never_says(leans) } else { plan.says(leans) });
        sound(workspace.run(&["apply", "-input=false", &parallelism, "the.tfplan"])).expect(0).never_says("stale");
    } else {
        let words = ["apply", "-input=false", "-auto-approve", &parallelism];
        sound(workspace.run(&words)).expect(0).never_says("stale");
    }
    let vms = instances(&workspace);
    let on = |cluster: &str| vms.values().filter(|vm| vm.cluster == cluster).count();
    assert_eq!((on("worldstream-prod"), on("databarn-dr")), (3, 3), "{vms:?}");
}

#[test]
fn gate_05_a_spread_is_never_stale_because_its_siblings_are_half_done() {
    let clis = clis();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let clis = &clis;
            scope.spawn(move || {
                for run in (half..RUNS).step_by(2) {
                    spread_once(&clis[run / 2 % clis.len()], run / 2);
                }
            });
        }
    });
}

#[test]
fn gate_06_when_one_of_a_spread_fails_the_next_plan_moves_nothing() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app", &spread());
        let broken = Action::FailTask { message: "no luck".into(), late: false };
        world.fault(Rule::on("POST", "/nodes/*/qemu", broken).nth(Nth::Only(2)));
        sound(workspace.run(&["apply", "-input=false", "-auto-approve", "-parallelism=1"])).expect(1).says("no luck");
        world.clear_faults();
        let before = instances(&workspace);
        assert_eq!(before.len(), 5);
        sound(workspace.plan_to("next.tfplan")).expect(2).says("1 to add, 0 to change, 0 to destroy");
        sound(workspace.apply_plan("next.tfplan")).expect(0);
        let after = instances(&workspace);
        assert!(before.iter().all(|(name, vm)| after[name] == *vm), "{before:?}\n{after:?}");
        workspace.plan().expect(0);
    }
}

#[test]
fn replaced_and_tainted_machines_go_where_their_plan_says() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app", &json!({ "api": { "pool": "production-pool" } }));
        workspace.apply().expect(0);
        let first = instances(&workspace)["api"].clone();
        let replace = format!("-replace={}", address("api"));
        let out = "-out=the.tfplan";
        fill(&world, &first.cluster);
        sound(workspace.run(&["plan", "-input=false", out, &replace])).expect(0);
        let planned = at(&workspace, "the.tfplan", "api");
        empty(&world, &first.cluster);
        sound(workspace.apply_plan("the.tfplan")).expect(0);
        let second = instances(&workspace)["api"].clone();
        assert_eq!(second.cluster, planned);
        assert_ne!(second.uuid, first.uuid);
        assert!(world.copies(&first.uuid).is_empty());
        workspace.run(&["taint", &address("api")]).expect(0);
        sound(workspace.run(&["apply", "-input=false", "-auto-approve"])).expect(0);
        assert!(!instances(&workspace)["api"].tainted);
        workspace.plan().expect(0);
    }
}

#[test]
fn two_workspaces_of_one_folder_do_not_read_each_others_decisions() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app", &json!({ "api": { "pool": "production-pool" } }));
        workspace.plan_to("one.tfplan").expect(2);
        let one = at(&workspace, "one.tfplan", "api");
        workspace.run(&["workspace", "new", "other"]).expect(0);
        fill(&world, &one);
        sound(workspace.plan_to("two.tfplan")).expect(2);
        let two = at(&workspace, "two.tfplan", "api");
        assert_ne!(one, two);
        empty(&world, &one);
        workspace.run(&["workspace", "select", "default"]).expect(0);
        sound(workspace.apply_plan("one.tfplan")).expect(0);
        assert_eq!(instances(&workspace)["api"].cluster, one);
    }
}

#[test]
fn inputs_that_are_not_known_yet_are_named_and_the_cluster_is_decided_at_apply() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app", &json!({ "api": { "pool": "production-pool" } }));
        let main = std::fs::read_to_string(workspace.root().join("main.tf")).expect("the configuration");
        workspace.write("main.tf", main + "\nresource \"terraform_data\" \"size\" { input = \"4GB\" }\n");
        workspace.edit("main.tf", "memory   = each.value.memory", "memory   = terraform_data.size.output");
        sound(workspace.plan_to("the.tfplan")).expect(2).says("depends on what is not known yet: memory");
        assert_eq!(shown(&workspace, "the.tfplan")["api"].cluster, None);
        sound(workspace.apply_plan("the.tfplan")).expect(0).never_says("did not travel");
        workspace.plan().expect(0);
        // The same in one command, with another machine that is known.
        configure(&workspace, &json!({ "api": { "pool": "production-pool" }, "web-1": { "pool": "production-pool" } }));
        sound(workspace.run(&["apply", "-input=false", "-auto-approve", "-replace=terraform_data.size"])).expect(0);
        assert_eq!(instances(&workspace).len(), 2);
        workspace.plan().expect(0);
    }
}

#[test]
fn a_machine_that_grows_where_there_is_no_room_left_is_refused_at_apply() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = |memory: &str| json!({ "api": { "pool": "production-pool", "memory": memory } });
        let workspace = workspace(&world, &cli, "app", &vm("2GB"));
        workspace.apply().expect(0);
        let api = instances(&workspace)["api"].clone();
        configure(&workspace, &vm("64GB"));
        workspace.plan_to("the.tfplan").expect(2);
        fill(&world, &api.cluster);
        world.advance(std::time::Duration::from_secs(20));
        world.clear_requests();
        sound(workspace.apply_plan("the.tfplan")).expect(1).says("the plan is stale").says(&api.cluster);
        assert_eq!(world.writes(), Vec::<String>::new());
        assert_eq!(instances(&workspace)["api"], api);
    }
}
