//! The main job with the real CLI: plan picks the cluster, apply creates, a changed plan moves, destroy leaves nothing.
use std::path::Path;

use harness::{Cli, SimulatedWorld, Workspace, clis};

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const MAIN: &str = include_str!("main_job/main.tf");
const YAML: &str = include_str!("main_job/multi-site.yaml");

fn workspace(world: &SimulatedWorld, cli: &Cli, role: &str) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), role);
    workspace.write("main.tf", MAIN).write("multi-site.yaml", YAML);
    workspace
}

/// The clusters that a plan file shows, by address.
fn planned(workspace: &Workspace, file: &str) -> Vec<(String, String)> {
    let plan = workspace.show_plan(file);
    let changes = plan["resource_changes"].as_array().cloned().unwrap_or_default();
    let cluster =
        |change: &serde_json::Value| change["change"]["after"]["cluster"].as_str().unwrap_or("unknown").to_owned();
    changes.iter().map(|change| (change["address"].as_str().unwrap_or_default().to_owned(), cluster(change))).collect()
}

#[test]
fn a_plan_names_the_clusters_and_apply_does_exactly_that() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app");
        workspace.plan_to("first.tfplan").expect(2).says("place 1 of web-* in production-pool");
        let first = planned(&workspace, "first.tfplan");
        assert!(first.iter().all(|(_, cluster)| cluster != "unknown"), "{first:?}");
        assert_eq!(world.writes(), Vec::<String>::new(), "a plan writes nothing");
        // Another process, with no trace of the first.
        workspace.remove(".terraform");
        workspace.plan_to("second.tfplan").expect(2);
        assert_eq!(planned(&workspace, "second.tfplan"), first);
        workspace.apply_plan("second.tfplan").expect(0);
        for (address, state) in workspace.state() {
            let cluster = first.iter().find(|(planned, _)| *planned == address).map(|(_, cluster)| cluster.as_str());
            assert_eq!(state["cluster"].as_str(), cluster, "{address}");
            let vm = world.vm(cluster.unwrap_or_default(), state["name"].as_str().unwrap_or_default());
            assert_eq!(state["id"].as_str(), vm.uuid.as_deref());
            assert!(vm.running, "{address} does not run");
        }
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn a_changed_cluster_moves_the_machine_with_every_byte() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app");
        workspace.apply().expect(0);
        let before = world.vm("worldstream-prod", "shop-db");
        world.cluster("worldstream-prod").guest_write(before.vmid);
        let before = world.vm("worldstream-prod", "shop-db");
        workspace.edit("main.tf", "cluster     = \"worldstream-prod\"", "cluster     = \"databarn-dr\"");
        let planned = workspace.plan().expect(2).says("1 to change, 0 to destroy");
        planned.says("Virtual machine shop-db moves, and is down meanwhile").says("24 GiB of disks");
        workspace.apply().expect(0);
        let after = world.vm("databarn-dr", "shop-db");
        assert_eq!((after.vmid, &after.uuid), (before.vmid, &before.uuid));
        assert_eq!(world.running_copies(before.uuid.as_deref().unwrap_or_default()).len(), 1);
        assert_eq!(world.copies(before.uuid.as_deref().unwrap_or_default()).len(), 1, "source = delete");
        let mac = |vm: &simulator::VmSnapshot| vm.config["net0"].split(',').next().unwrap_or_default().to_owned();
        assert_eq!(mac(&after), mac(&before));
        assert!(after.config["net0"].contains("tag=220"), "the network is mapped: {}", after.config["net0"]);
        // scsi0 takes the guest's records, so it is compared by its newest; scsi1 by its bytes.
        assert!(after.disks[0].newest >= before.disks[0].newest, "{:?} {:?}", before.disks, after.disks);
        assert_eq!(after.disks[1].sha256, before.disks[1].sha256);
        assert!(after.disks.iter().all(|disk| disk.volid.starts_with("zfs-pool:")), "{:?}", after.disks);
        assert_eq!(world.litter(), Vec::<String>::new());
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn a_kept_source_is_fenced_and_goes_with_the_machine() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app");
        workspace.edit(
            "main.tf",
            "source = \"delete\", keep_archive = \"0s\"",
            "keep_source = \"3d\", keep_archive = \"1d\"",
        );
        workspace.apply().expect(0);
        workspace.edit("main.tf", "cluster     = \"worldstream-prod\"", "cluster     = \"databarn-dr\"");
        workspace.apply().expect(0);
        let source = world.vm("worldstream-prod", "shop-db");
        assert!(source.template && !source.running, "fenced: {source:?}");
        assert_eq!(source.config.get("protection").map(String::as_str), Some("1"));
        assert_eq!(source.config.get("onboot").map(String::as_str).unwrap_or("0"), "0");
        let state = &workspace.state()["moxxie_virtual_machine.shop"];
        assert_eq!(state["retired_copies"][0]["cluster"], "worldstream-prod");
        assert_eq!(state["description"], "The shop");
        assert_eq!(world.cluster("databarn-dr").archives("transfer").len(), 1);
        workspace.plan().expect(0);
        // Past its date it is a difference, and apply removes it.
        world.advance(std::time::Duration::from_secs(2 * 86_400));
        workspace.plan().expect(2).says("archive");
        workspace.apply().expect(0);
        assert_eq!(world.cluster("databarn-dr").archives("transfer").len(), 0);
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn everything_that_can_change_in_place_does() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app");
        workspace.apply().expect(0);
        let before = world.vm("worldstream-prod", "shop-db");
        workspace
            .edit("main.tf", "memory      = \"8GB\"", "memory      = \"16GB\"\n  cpu         = { cores = 4, sockets = 2 }\n  tags        = [\"db\", \"paid\"]\n  on_boot     = false")
            .edit("main.tf", "description = \"The shop\"", "description = \"Line 1\\nLine 2; with = signs & more\"")
            .edit("main.tf", "scsi1 = { size = \"16GB\", storage = \"fast\" }", "scsi1 = { size = \"24GB\", storage = \"fast\", ssd = true }\n    scsi2 = { size = \"1GB\", storage = \"fast\" }");
        workspace.plan().expect(2).says("0 to add, 1 to change, 0 to destroy");
        workspace.apply().expect(0);
        let after = world.vm("worldstream-prod", "shop-db");
        assert_eq!((after.vmid, &after.uuid), (before.vmid, &before.uuid));
        let get = |key: &str| after.config.get(key).map(String::as_str);
        assert_eq!(get("tags"), Some("db;paid"));
        assert_eq!(get("onboot").unwrap_or("0"), "0");
        assert!(
            get("description").is_some_and(|text| text.contains("with = signs & more")),
            "{:?}",
            get("description")
        );
        let size = |slot: &str| after.disks.iter().find(|disk| disk.slot == slot).map(|disk| disk.size >> 30);
        assert_eq!((size("scsi1"), size("scsi2")), (Some(24), Some(1)));
        workspace.plan().expect(0);
        // Taken out of the configuration, a disk is detached, not destroyed.
        workspace.edit("main.tf", "\n    scsi2 = { size = \"1GB\", storage = \"fast\" }", "");
        workspace.apply().expect(0);
        assert_eq!(
            world.vm("worldstream-prod", "shop-db").disks.last().map(|disk| disk.slot.clone()),
            Some("unused0".into())
        );
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn an_import_changes_nothing() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "platform");
        workspace.apply().expect(0);
        let vm = world.vm("worldstream-prod", "shop-db");
        for id in [format!("worldstream-prod/{}", vm.vmid), vm.uuid.clone().unwrap_or_default(), "shop-db".into()] {
            workspace.run(&["state", "rm", "moxxie_virtual_machine.shop"]).expect(0);
            world.clear_requests();
            workspace.run(&["import", "-input=false", "moxxie_virtual_machine.shop", &id]).expect(0);
            // What lives in configuration alone comes with one in-place update, which calls no cluster to change anything.
            workspace.plan().expect(2).says("0 to add, 1 to change, 0 to destroy");
            workspace.apply().expect(0);
            workspace.plan().expect(0);
            assert_eq!(world.writes(), Vec::<String>::new(), "import id {id}");
        }
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn no_secret_is_anywhere() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let mut workspace = workspace(&world, &cli, "app");
        workspace.env("TF_LOG", "trace");
        let mut said = workspace.plan_to("canary.tfplan").expect(2).text();
        said += &workspace.apply_plan("canary.tfplan").expect(0).text();
        workspace.edit("main.tf", "cluster     = \"worldstream-prod\"", "cluster     = \"databarn-dr\"");
        said += &workspace.plan_to("canary.tfplan").expect(2).text();
        said += &workspace.apply_plan("canary.tfplan").expect(0).text();
        assert!(said.contains("provider.terraform-provider-moxxie"), "the provider's own log is in it");
        workspace.run(&["show", "-json", "canary.tfplan"]).expect(0);
        for (variable, token) in world.tokens("app") {
            let secret = token.rsplit('=').next().unwrap_or_default().to_owned();
            assert!(secret.len() > 30, "{variable} holds a secret");
            assert!(!said.contains(&secret), "{variable} is in a log");
            for (file, bytes) in workspace.files() {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{variable} is in {}", file.display());
            }
            for cluster in world.clusters() {
                assert!(!cluster.vms().iter().any(|vm| vm.config.values().any(|value| value.contains(&secret))));
            }
        }
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn a_pool_of_the_file_is_made_on_first_need() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "platform");
        let yaml = YAML.replace("name: production-pool", "name: fresh-pool");
        workspace.write("multi-site.yaml", yaml).edit("main.tf", "production-pool", "fresh-pool");
        assert!(!world.cluster("worldstream-prod").pools().contains_key("fresh-pool"));
        workspace.apply().expect(0);
        assert!(world.cluster("worldstream-prod").pools().contains_key("fresh-pool"));
        assert_eq!(world.vm("worldstream-prod", "shop-db").pool.as_deref(), Some("fresh-pool"));
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        assert_eq!(world.machines(), Vec::<String>::new());
        // A token that may not make it is told so before anything is touched.
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(&cli, Path::new(PROVIDER), "app");
        workspace.write("main.tf", MAIN.replace("production-pool", "fresh-pool"));
        workspace.write("multi-site.yaml", YAML.replace("name: production-pool", "name: fresh-pool"));
        workspace.apply().expect(1).says("on /pool/fresh-pool");
        world.assert_clean();
        assert_eq!(workspace.state().len(), 0, "nothing is tainted");
    }
}

#[test]
fn another_pool_moves_the_machine_where_it_must() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app");
        // From a pool of two sites, without a pin, into one that only the second of them is in.
        let yaml = YAML.replace("clusters: [hetzner-edge, databarn-dr]", "clusters: [databarn-dr]");
        workspace.write("multi-site.yaml", yaml).edit("main.tf", "  cluster     = \"worldstream-prod\"\n", "");
        workspace.edit(
            "main.tf",
            "\"shop-db\"\n  pool        = \"production-pool\"",
            "\"web-9\"\n  pool        = \"production-pool\"",
        );
        workspace.apply().expect(0);
        let at = workspace.state()["moxxie_virtual_machine.shop"]["cluster"].clone();
        assert_eq!(at, "worldstream-prod", "the 9th of five places is the 4th");
        world.cluster("databarn-dr").create_pool("development-pool");
        workspace.edit(
            "main.tf",
            "\"web-9\"\n  pool        = \"production-pool\"",
            "\"web-9\"\n  pool        = \"development-pool\"",
        );
        workspace.plan_to("pool.tfplan").expect(2).says("0 to destroy");
        assert!(
            planned(&workspace, "pool.tfplan").contains(&("moxxie_virtual_machine.shop".into(), "databarn-dr".into()))
        );
        workspace.apply_plan("pool.tfplan").expect(0);
        assert_eq!(world.vm("databarn-dr", "web-9").pool.as_deref(), Some("development-pool"));
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn a_move_that_fails_is_taken_back() {
    for cli in clis() {
        fail_a_move(&cli, "platform");
        // Its token may not remove a failed restore, which is in no pool yet: the source runs again all the same.
        fail_a_move(&cli, "app");
    }
}

fn fail_a_move(cli: &Cli, role: &str) {
    use simulator::{Action, Rule};
    {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, cli, role);
        workspace.apply().expect(0);
        let before = world.vm("worldstream-prod", "shop-db");
        workspace.edit("main.tf", "cluster     = \"worldstream-prod\"", "cluster     = \"databarn-dr\"");
        let failure = Action::FailTask { message: "no space left on device".into(), late: true };
        let rule = world.fault(Rule::on("POST", "/nodes/*/qemu", failure).cluster("databarn-dr"));
        let failed = workspace.apply().expect(1);
        let failed = failed.says("no space left on device").says("the move was taken back").says("runs as before");
        let after = world.vm("worldstream-prod", "shop-db");
        assert!(after.running && !after.template);
        for key in ["onboot", "protection", "description", "template"] {
            assert_eq!(after.config.get(key), before.config.get(key), "{key}");
        }
        if role == "app" {
            failed.says("A failed restore stays").says("qm destroy");
            // What the message asks of an operator.
            let site = world.cluster("databarn-dr");
            let stub = site.vms().into_iter().find(|vm| !vm.config.contains_key("name")).expect("the stub");
            site.remove_vm(stub.vmid);
            for volume in site.volumes().iter().filter(|volume| volume.owner == stub.vmid) {
                assert!(site.free_volume(&stub.node, &volume.volid));
            }
        }
        assert_eq!(world.litter(), Vec::<String>::new());
        let shop = |workspace: &Workspace| workspace.state()["moxxie_virtual_machine.shop"]["cluster"].clone();
        assert_eq!(shop(&workspace), "worldstream-prod");
        workspace.plan().expect(2);
        world.unfault(rule);
        workspace.apply().expect(0);
        assert_eq!(shop(&workspace), "databarn-dr");
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn a_move_leaves_a_trail_and_asks_whether_the_target_is_well() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app");
        let (plain, audited) =
            ("clusters    = var.clusters", "clusters    = var.clusters\n  audit_file  = \"audit.jsonl\"");
        workspace.edit("main.tf", plain, audited);
        workspace.apply().expect(0);
        workspace.edit("main.tf", "cluster     = \"worldstream-prod\"", "cluster     = \"databarn-dr\"");
        // More than is allowed is refused before anything is touched.
        workspace.edit("main.tf", "source = \"delete\",", "source = \"delete\", max_downtime = \"1s\",");
        world.clear_requests();
        workspace.plan().expect(2).says("would be refused").says("max_downtime: about");
        workspace.apply().expect(1).says("max_downtime").says("nothing was touched");
        assert_eq!(world.writes(), Vec::<String>::new());
        // A target that is not well keeps both copies, and the operation stays open.
        let health = "health = { tcp = \"127.0.0.1:9\", deadline = \"1s\" },";
        workspace.edit("main.tf", "max_downtime = \"1s\",", &format!("max_downtime = \"1h\", {health}"));
        workspace.apply().expect(1).says("127.0.0.1:9 does not answer within 1s").says("went past");
        let uuid = world.vm("databarn-dr", "shop-db").uuid.unwrap_or_default();
        assert_eq!((world.copies(&uuid).len(), world.running_copies(&uuid).len()), (2, 1));
        workspace.plan().expect(2).says("unfinished operation");
        workspace.edit("main.tf", health, "");
        workspace.apply().expect(0);
        workspace.plan().expect(0);
        assert_eq!(world.copies(&uuid).len(), 1);
        audit_trail(&workspace);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

fn audit_trail(workspace: &Workspace) {
    let trail = std::fs::read_to_string(workspace.root().join("audit.jsonl")).expect("the trail");
    let lines: Vec<serde_json::Value> = trail.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let steps: Vec<&str> = lines.iter().filter_map(|line| line["step"].as_str()).collect();
    let until_start =
        ["taken", "shutdown", "onboot", "backup", "fence", "transfer", "restore", "spread", "verify", "live", "start"];
    assert!(steps.starts_with(&until_start), "{steps:?}");
    assert_eq!(steps.last(), Some(&"release"));
    let of = |step: &str| lines.iter().find(|line| line["step"] == step).unwrap_or_else(|| panic!("no line of {step}"));
    assert!(of("health")["outcome"].as_str().is_some_and(|outcome| outcome.starts_with("failed")));
    assert!(of("taken")["predicted_downtime"].as_u64() > Some(0), "{}", of("taken"));
    assert!(of("taken")["from"].as_str().is_some_and(|from| from.starts_with("worldstream-prod/")));
    assert!(of("start")["downtime"].as_u64().is_some(), "{}", of("start"));
    assert!(of("transfer")["bytes"].as_u64() > Some(0), "{}", of("transfer"));
}
