//! Machines made from a template, and what cloud-init is told, through the real CLIs.

use std::collections::BTreeMap;

use harness::{Cli, SimulatedWorld, Workspace, clis};
use serde_json::Value;
use simulator::{GuestSpec, VmSnapshot};

use crate::support::{self, images, instances, nodes, sound, workspace_of};

const MAIN: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

variable "secret" {
  type      = string
  ephemeral = true
  default   = null
}

provider "moxxie" {
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.clusters
}

resource "moxxie_virtual_machine" "web" {
  name            = "web-1"
  pool            = "production-pool"
  disks           = { scsi0 = { size = "6GB" } }
  network_devices = { net0 = { network = "app" } }
  clone           = { template = "golden" }
  # more
}
"#;

/// What the second kind of machine adds.
const CLOUD_INIT: &str = r#"cloud_init = {
    user                = "ops"
    ssh_keys            = ["ssh-ed25519 AAAAC3Nza+/= ops@example.org", "ssh-rsa AAAAB3== two"]
    password_wo         = var.secret
    password_wo_version = 1
    addresses           = { net0 = { ipv4 = "10.1.2.3/24", gateway4 = "10.1.2.1" } }
    dns                 = ["10.1.2.1", "9.9.9.9"]
  }
  migration = { source = "delete", keep_archive = "0s" }
"#;

/// Puts the template on a cluster: two disks, a network device, notes and tags of its own.
fn template(world: &SimulatedWorld, cluster: &str) -> VmSnapshot {
    let storage = images(cluster);
    let config = [
        ("name", "golden"),
        ("template", "1"),
        ("memory", "1024"),
        ("cores", "1"),
        ("description", "The golden image"),
        ("tags", "golden"),
        ("boot", "order=scsi0"),
        ("scsihw", "virtio-scsi-single"),
        ("scsi0", &format!("{storage}:4")),
        ("scsi1", &format!("{storage}:2")),
        ("net0", "virtio,bridge=vmbr0"),
    ];
    let config: BTreeMap<_, _> = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let guest = GuestSpec {
        vmid: 9000,
        node: nodes(cluster)[0].to_owned(),
        config,
        pool: Some("production-pool".to_owned()),
        running: false,
    };
    world.cluster(cluster).create_vm(&guest).expect("room for the template");
    world.vm(cluster, "golden")
}

fn workspace(world: &SimulatedWorld, cli: &Cli, more: &str) -> Workspace {
    workspace_of(world, cli, "app", &MAIN.replace("# more", more))
}

/// What a property string says of one key.
fn part<'a>(vm: &'a VmSnapshot, key: &str, part: &str) -> Option<&'a str> {
    vm.config.get(key)?.split(',').find_map(|one| one.strip_prefix(part)?.strip_prefix('='))
}

/// Nothing is left of it but the template.
#[track_caller]
fn only_the_template(world: &SimulatedWorld, cluster: &str) {
    assert_eq!(world.machines(), [format!("{cluster}/golden")]);
    assert_eq!(world.litter(), Vec::<String>::new(), "litter is left");
}

#[test]
fn a_machine_is_made_from_a_template_where_there_is_one() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        // The pool prefers the other cluster by far.
        let golden = template(&world, "databarn-dr");
        let workspace = workspace(&world, &cli, "");
        sound(workspace.plan_to("the.tfplan")).expect(2).says("databarn-dr").says("1 to add");
        sound(workspace.apply_plan("the.tfplan")).expect(0);
        let vm = world.vm("databarn-dr", "web-1");
        assert!(vm.running);
        assert_eq!(instances(&workspace)["web-1"].uuid, vm.uuid.clone().unwrap_or_default());
        assert_ne!(vm.uuid, golden.uuid);
        assert_ne!(part(&vm, "net0", "virtio"), part(&golden, "net0", "virtio"));
        assert_eq!(part(&vm, "net0", "tag"), Some("220"));
        assert_eq!(part(&vm, "scsi0", "size"), Some("6G"), "grown");
        assert_eq!(part(&vm, "scsi1", "size"), Some("2G"), "copied, and otherwise left alone");
        assert!(vm.config["scsi1"].starts_with("zfs-pool:vm-"), "{:?}", vm.config);
        assert_eq!(vm.config["memory"], "2048");
        assert!(!vm.config.contains_key("template") && !vm.config.contains_key("lock"));
        let notes = vm.config.get("description").map_or("", String::as_str);
        assert!(!notes.contains("moxxie v1"), "{notes}");
        assert_eq!(world.vm("databarn-dr", "golden").config, golden.config, "the template is as it was");
        sound(workspace.plan()).expect(0);
        // Read at create only.
        world.clear_requests();
        workspace.edit("main.tf", "template = \"golden\"", "template = \"another\"");
        sound(workspace.plan()).expect(2).says("0 to add, 1 to change, 0 to destroy");
        sound(workspace.apply()).expect(0);
        assert_eq!(world.writes(), Vec::<String>::new());
        sound(workspace.plan()).expect(0);
        workspace.edit("main.tf", "  clone           = { template = \"another\" }\n", "");
        sound(workspace.apply()).expect(0);
        assert_eq!(world.writes(), Vec::<String>::new());
        sound(workspace.plan()).expect(0);
        sound(workspace.destroy()).expect(0);
        only_the_template(&world, "databarn-dr");
    }
}

#[test]
fn a_cluster_without_the_template_is_no_candidate() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let plain = workspace(&world, &cli, "");
        let nowhere = sound(plain.plan()).expect(1);
        drop(nowhere.says("golden").says("worldstream-prod").says("databarn-dr"));
        template(&world, "databarn-dr");
        let pinned = workspace(&world, &cli, "cluster = \"worldstream-prod\"");
        drop(sound(pinned.plan()).expect(1).says("golden").says("worldstream-prod"));
        // Larger than what is configured: nothing is copied.
        plain.edit("main.tf", "6GB", "3GB");
        world.clear_requests();
        drop(sound(plain.apply()).expect(1).says("scsi0").says("can't shrink"));
        only_the_template(&world, "databarn-dr");
        // Gone between plan and apply.
        plain.edit("main.tf", "3GB", "6GB");
        sound(plain.plan_to("the.tfplan")).expect(2);
        world.cluster("databarn-dr").remove_vm(9000);
        drop(sound(plain.apply_plan("the.tfplan")).expect(1).says("golden"));
        world.assert_clean();
    }
}

/// The federation file with a second class of storage, and a second network, on the first cluster alone.
fn with_slow() -> String {
    let app = "      app: { bridge: vmbr0, vlan: 120 }\n";
    let yaml = support::yaml().replace("fast: ceph-pool", "fast: ceph-pool, slow: local-lvm");
    let yaml = yaml.replace(app, &format!("{app}      lab: {{ bridge: vmbr1, vlan: 130 }}\n"));
    assert!(yaml.contains("slow: local-lvm") && yaml.contains("lab:"), "the file has changed");
    yaml
}

const MOVES: &str = "cluster = \"worldstream-prod\"\n  migration = { source = \"delete\", keep_archive = \"0s\" }";

#[test]
fn a_copy_goes_to_the_storage_that_clone_names() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        template(&world, "worldstream-prod");
        let workspace = workspace(&world, &cli, MOVES);
        workspace.write("multi-site.yaml", with_slow());
        workspace.edit("main.tf", "template = \"golden\"", "template = \"golden\", storage = \"slow\"");
        workspace.edit("main.tf", "network = \"app\"", "network = \"lab\"");
        world.clear_requests();
        sound(workspace.apply()).expect(0);
        let vm = world.vm("worldstream-prod", "web-1");
        for slot in ["scsi0", "scsi1"] {
            assert!(vm.config[slot].starts_with("local-lvm:vm-"), "{slot}: {:?}", vm.config);
        }
        let twice = world.writes().into_iter().filter(|call| call.ends_with("/move_disk")).collect::<Vec<_>>();
        assert_eq!(twice, Vec::<String>::new(), "copied once, to where it stays");
        sound(workspace.plan()).expect(0);
        assert_eq!(part(&vm, "net0", "bridge"), Some("vmbr1"));
        // Read at create only: it moves to where there is no such storage and network, with what is configured by then.
        workspace.edit("main.tf", "network = \"lab\"", "network = \"app\"");
        workspace.edit("main.tf", "worldstream-prod", "databarn-dr");
        workspace.edit("main.tf", "size = \"6GB\"", "size = \"6GB\", storage = \"fast\"");
        sound(workspace.apply()).expect(0);
        let moved = world.vm("databarn-dr", "web-1");
        assert!(moved.config["scsi0"].starts_with("zfs-pool:"), "{:?}", moved.config);
        assert_eq!((part(&moved, "net0", "bridge"), part(&moved, "net0", "tag")), (Some("vmbr0"), Some("220")));
        sound(workspace.plan()).expect(0);
        sound(workspace.destroy()).expect(0);
        only_the_template(&world, "worldstream-prod");
    }
}

#[test]
fn a_template_on_local_storage_is_copied_on_its_node() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let config = [("name", "golden"), ("template", "1"), ("memory", "1024"), ("scsi0", "local-lvm:4")];
        let config = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let pool = Some("production-pool".to_owned());
        let guest = GuestSpec { vmid: 9000, node: "ws2".to_owned(), config, pool, running: false };
        let cluster = world.cluster("worldstream-prod");
        cluster.create_vm(&guest).expect("room for the template");
        // The fullest node, which nobody would choose.
        cluster.create_vm(&support::by_hand(800, "ws2", "busy", 65536, None)).expect("room");
        let workspace = workspace(&world, &cli, "cluster = \"worldstream-prod\"");
        sound(workspace.apply()).expect(0);
        let vm = world.vm("worldstream-prod", "web-1");
        assert_eq!((vm.node.as_str(), vm.running), ("ws2", true));
        assert!(vm.config["scsi0"].starts_with("ceph-pool:vm-"), "{:?}", vm.config);
        sound(workspace.plan()).expect(0);
        sound(workspace.destroy()).expect(0);
        // Wanted on another node: refused before anything is touched.
        workspace.edit("main.tf", "cluster = \"worldstream-prod\"", "cluster = \"worldstream-prod\"\n  node = \"ws1\"");
        world.clear_requests();
        let refused = sound(workspace.apply()).expect(1);
        drop(refused.says("is on node ws2 and its storage is local").says("nothing was touched"));
        cluster.remove_vm(800);
        only_the_template(&world, "worldstream-prod");
    }
}

#[test]
fn a_slow_copy_whose_apply_is_killed_is_waited_for_and_made_once() {
    for cli in clis() {
        let apply = ["apply", "-input=false", "-auto-approve"];
        let copy = {
            let world = SimulatedWorld::three_sites();
            template(&world, "worldstream-prod");
            let workspace = workspace(&world, &cli, MOVES);
            world.clear_requests();
            sound(workspace.apply()).expect(0);
            let copy = world.requests().iter().position(|call| call.path.ends_with("/clone")).expect("a copy");
            u64::try_from(copy).unwrap_or(0) + 1
        };
        let world = SimulatedWorld::three_sites();
        template(&world, "worldstream-prod");
        let cluster = world.cluster("worldstream-prod");
        cluster.set_clone_time(std::time::Duration::from_secs(6));
        let workspace = workspace(&world, &cli, MOVES);
        let killed = workspace.killed_at(&world, &apply, copy, true, || {});
        let harness::Killed::At(hit) = killed else { panic!("never killed") };
        assert!(hit.call.path.ends_with("/clone"), "{hit:?}");
        drop(sound(workspace.plan()).expect(2).says("1 to add"));
        assert!(world.litter().iter().any(|left| left.contains("qmclone")), "it goes on: {:?}", world.litter());
        sound(workspace.apply()).expect(0);
        let copies = cluster.tasks_of(9000).into_iter().filter(|kind| kind == "qmclone").count();
        assert_eq!(copies, 1);
        assert_eq!(world.machines(), ["worldstream-prod/golden", "worldstream-prod/web-1"]);
        assert!(world.vm("worldstream-prod", "web-1").running);
        sound(workspace.plan()).expect(0);
        sound(workspace.destroy()).expect(0);
        only_the_template(&world, "worldstream-prod");
    }
}

/// What cloud-init is told in a guest's configuration.
fn told(vm: &VmSnapshot) -> BTreeMap<&str, &str> {
    let keys = ["ciuser", "sshkeys", "ipconfig0", "nameserver"];
    keys.into_iter().filter_map(|key| Some((key, vm.config.get(key)?.as_str()))).collect()
}

/// The machine after a restart, which takes what waited for it: that key alone.
#[track_caller]
fn restarted(world: &SimulatedWorld, key: &str) -> VmSnapshot {
    let vm = world.vm("worldstream-prod", "web-1");
    assert_eq!(vm.pending.iter().collect::<Vec<_>>(), [key]);
    let cluster = world.cluster("worldstream-prod");
    cluster.stop(vm.vmid);
    cluster.start(vm.vmid).expect("a start");
    world.vm("worldstream-prod", "web-1")
}

#[test]
fn cloud_init_is_told_and_its_password_is_nowhere() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        template(&world, "worldstream-prod");
        let mut workspace = workspace(&world, &cli, CLOUD_INIT);
        workspace.env("TF_LOG", "trace").env("TF_VAR_secret", "canary-of-the-guest-1");
        let mut said = sound(workspace.plan_to("the.tfplan")).expect(2).text();
        said += &sound(workspace.apply_plan("the.tfplan")).expect(0).text();
        let vm = world.vm("worldstream-prod", "web-1");
        let keys = "ssh-ed25519%20AAAAC3Nza%2B%2F%3D%20ops%40example.org%0Assh-rsa%20AAAAB3%3D%3D%20two";
        let wanted = [
            ("ciuser", "ops"),
            ("sshkeys", keys),
            ("ipconfig0", "ip=10.1.2.3/24,gw=10.1.2.1"),
            ("nameserver", "10.1.2.1 9.9.9.9"),
        ];
        assert_eq!(told(&vm), BTreeMap::from(wanted));
        assert!(vm.config.values().any(|value| value.contains("cloudinit")), "a drive carries it: {:?}", vm.config);
        let first = vm.config["cipassword"].clone();
        said += &sound(workspace.plan()).expect(0).text();
        // Another password alone is not written, another version is.
        world.clear_requests();
        workspace.env("TF_VAR_secret", "canary-of-the-guest-2");
        said += &sound(workspace.plan_to("empty.tfplan")).expect(0).text();
        said += &sound(workspace.apply()).expect(0).text();
        assert_eq!(world.writes(), Vec::<String>::new());
        workspace.edit("main.tf", "password_wo_version = 1", "password_wo_version = 2");
        said += &sound(workspace.plan_to("second.tfplan")).expect(2).says("1 to change").text();
        said += &sound(workspace.apply_plan("second.tfplan")).expect(0).text();
        let vm = restarted(&world, "cipassword");
        let second = vm.config["cipassword"].clone();
        assert_ne!(first, second);
        said += &sound(workspace.plan()).expect(0).text();
        // Something else is written without it.
        workspace.env("TF_VAR_secret", "canary-of-the-guest-3");
        workspace.edit("main.tf", "\"ops\"", "\"admin\"");
        said += &sound(workspace.apply()).expect(0).text();
        let vm = restarted(&world, "ciuser");
        assert_eq!((vm.config["ciuser"].as_str(), &vm.config["cipassword"]), ("admin", &second));
        said += &sound(workspace.plan()).expect(0).text();
        assert!(said.contains("provider.terraform-provider-moxxie"), "the provider's own log is in it");
        workspace.env("TF_LOG", "");
        let state: Value = workspace.state()["moxxie_virtual_machine.web"].clone();
        assert!(state["cloud_init"]["password_wo"].is_null(), "{state}");
        let secret = "canary-of-the-guest";
        if let Some(at) = said.find(secret) {
            let around = said.get(at.saturating_sub(300)..(at + 100).min(said.len())).unwrap_or_default();
            panic!("the password is in a log: {around}");
        }
        for file in ["the.tfplan", "second.tfplan"] {
            let plan = workspace.run(&["show", "-json", file]).expect(0).text();
            assert!(!plan.contains(secret), "the password is in {file}");
        }
        for (file, bytes) in workspace.files() {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "the password is in {}", file.display());
        }
        sound(workspace.destroy()).expect(0);
        only_the_template(&world, "worldstream-prod");
    }
}

#[test]
fn gate_13_an_import_of_a_copy_with_cloud_init_asks_for_no_change() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        template(&world, "worldstream-prod");
        let mut workspace = workspace(&world, &cli, CLOUD_INIT);
        workspace.env("TF_VAR_secret", "canary-of-the-guest-1");
        sound(workspace.apply()).expect(0);
        let web = instances(&workspace)["web-1"].clone();
        workspace.run(&["state", "rm", "moxxie_virtual_machine.web"]).expect(0);
        world.clear_requests();
        let import =
            format!("import {{\n  to = moxxie_virtual_machine.web\n  id = \"worldstream-prod/{}\"\n}}\n", web.vmid);
        workspace.write("import.tf", import);
        sound(workspace.plan_to("the.tfplan")).expect(2).says("1 to import, 0 to add").says("0 to destroy");
        sound(workspace.apply_plan("the.tfplan")).expect(0);
        assert_eq!(world.writes(), Vec::<String>::new());
        assert_eq!(instances(&workspace)["web-1"], web);
        sound(workspace.plan()).expect(0);
    }
}
