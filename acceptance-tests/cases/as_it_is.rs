//! Machines as people set them in Proxmox VE's GUI: nothing of it is in the way of a plan, a change, a move or a removal, an import
//! writes down what is, and what Proxmox VE only spells otherwise is no difference.

use std::collections::BTreeMap;
use std::path::Path;

use harness::{Cli, SimulatedWorld, Workspace, clis};
use simulator::GuestSpec;

use crate::support::{PROVIDER, sound, workspace_of, yaml};

const MACHINES: &str = r#"
resource "moxxie_virtual_machine" "vm" {
  for_each        = toset([NAMES])
  name            = each.key
  pool            = "production-pool"
  cluster         = "worldstream-prod"
  memory          = "1GB"
  disks           = { scsi0 = { size = "2GB", storage = "fast" }, scsi1 = { size = "1GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
  cloud_init      = { user = "ops", dns = ["1.1.1.1", "8.8.8.8"] }
  migration       = { source = "delete", keep_archive = "0s" }
  reboot_policy   = "reboot"
}
"#;

/// What people set, each on a machine of its own.
const ODD: [(&str, &[(&str, &str)]); 7] = [
    ("boot", &[("usb0", "spice"), ("boot", "order=usb0;scsi0")]),
    ("nic", &[("net0", "e1000-82545em=")]),
    ("dns", &[("nameserver", "1.1.1.1,8.8.8.8, ns.example.net")]),
    ("size", &[("scsi1", "")]),
    ("name", &[("name", "")]),
    ("tags", &[("tags", "Web;_a")]),
    ("cores", &[("sockets", "8"), ("cpu", "cputype=host,flags=+pcid;-aes"), ("agent", "enabled=yes,type=isa")]),
];

/// Sets them on a cluster by hand.
fn set(world: &SimulatedWorld, cluster: &str, vmids: &BTreeMap<String, u32>) {
    let site = world.cluster(cluster);
    for (name, keys) in ODD {
        let vmid = vmids[name];
        for (key, value) in keys {
            let is = site.vm(vmid).expect("the machine").config.get(*key).cloned().unwrap_or_default();
            let value = match *key {
                "net0" => format!("{value}{}", is.split_once('=').map(|(_, rest)| rest).unwrap_or_default()),
                // A drive that somebody wrote into the file.
                "scsi1" => is.split(',').filter(|part| !part.starts_with("size=")).collect::<Vec<_>>().join(","),
                _ => (*value).to_owned(),
            };
            site.set_config(vmid, key, Some(value.as_str()).filter(|value| !value.is_empty()));
        }
    }
}

fn vmids(workspace: &Workspace) -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(workspace.root().join("terraform.tfstate")).expect("the state");
    let state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let instances = state["resources"][0]["instances"].as_array().cloned().unwrap_or_default();
    let vmid = |one: &serde_json::Value| one["attributes"]["vmid"].as_u64().and_then(|vmid| u32::try_from(vmid).ok());
    let key = |one: &serde_json::Value| one["index_key"].as_str().unwrap_or_default().to_owned();
    instances.iter().filter_map(|one| Some((key(one), vmid(one)?))).collect()
}

#[test]
fn what_was_set_in_the_gui_is_in_the_way_of_nothing() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        for cluster in ["worldstream-prod", "databarn-dr"] {
            world.cluster(cluster).set_option("tag-style", "case-sensitive=1");
        }
        let names: Vec<String> = ODD.iter().map(|(name, _)| format!("{name:?}")).collect();
        let workspace = workspace_of(&world, &cli, "app", "");
        workspace.write_main(&MACHINES.replace("NAMES", &names.join(", ")));
        sound(workspace.apply()).expect(0);
        let before = vmids(&workspace);
        set(&world, "worldstream-prod", &before);
        sound(workspace.plan()).expect(2).says("0 to add").says("0 to destroy");
        // A change around them; what is configured comes back, and the rest stays.
        workspace.edit("main.tf", "\"1GB\"\n", "\"2GB\"\n");
        sound(workspace.apply()).expect(0);
        let config = |cluster: &str, name: &str| world.cluster(cluster).vm(before[name]).expect("the machine").config;
        let here = "worldstream-prod";
        assert_eq!(config(here, "boot")["boot"], "order=usb0;scsi0");
        assert!(config(here, "nic")["net0"].starts_with("virtio="));
        assert_eq!(config(here, "dns")["nameserver"], "1.1.1.1 8.8.8.8");
        assert_eq!(config(here, "name")["name"], "name");
        assert_eq!(config(here, "tags")["tags"], "Web;_a");
        sound(workspace.plan()).expect(0);
        // Again, and straight to the other cluster.
        set(&world, "worldstream-prod", &before);
        workspace.edit("main.tf", "\"worldstream-prod\"", "\"databarn-dr\"");
        sound(workspace.apply()).expect(0);
        assert_eq!(world.cluster("databarn-dr").vms().len(), ODD.len());
        assert_eq!(config("databarn-dr", "boot")["boot"], "order=usb0;scsi0");
        assert_eq!(config("databarn-dr", "tags")["tags"], "Web;_a");
        sound(workspace.plan()).expect(0);
        // And gone, odd as they are.
        set(&world, "databarn-dr", &before);
        sound(workspace.destroy()).expect(0);
        world.assert_clean();
    }
}

#[test]
fn destroy_needs_nothing_of_state_but_place_and_uuid() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace_of(&world, &cli, "app", "");
        workspace.write_main(&MACHINES.replace("NAMES", "\"api\""));
        sound(workspace.apply()).expect(0);
        let file = workspace.root().join("terraform.tfstate");
        let text = std::fs::read_to_string(&file).expect("the state");
        let mut state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let vm = &mut state["resources"][0]["instances"][0]["attributes"];
        vm["name"] = "not a name".into();
        vm["memory"] = "no size".into();
        vm["cpu"]["cores"] = 0.into();
        vm["disks"]["scsi0"]["size"] = "nothing".into();
        vm["boot_order"] = serde_json::json!(["floppy0"]);
        vm["cloud_init"]["dns"] = serde_json::json!(["1.1.1.1,8.8.8.8"]);
        vm["network_devices"]["net0"]["model"] = "unheard-of".into();
        vm["network_devices"]["net0"]["mac"] = "none".into();
        std::fs::write(&file, state.to_string()).expect("the state");
        sound(workspace.run(&["destroy", "-input=false", "-auto-approve", "-refresh=false"])).expect(0);
        world.assert_clean();
    }
}

/// A machine that nobody would write down like this.
fn odd_machine(cluster: &simulator::ClusterHandle) -> u32 {
    let vmid = 4711;
    let config = [
        ("memory", "current=1024"),
        ("cores", "1"),
        ("sockets", "8"),
        ("vcpus", "4"),
        ("scsihw", "virtio-scsi-single"),
        ("scsi0", "ceph-pool:2"),
        ("scsi1", "ceph-pool:0.03"),
        ("scsi2", "ceph-pool:0.001"),
        ("net0", "virtio=BC:24:11:AA:00:01,bridge=vmbr0,tag=120"),
        ("net1", "e1000-82545em=bc:24:11:aa:00:02"),
        ("usb0", "spice"),
        ("cpu", "flags=+pcid;-aes"),
        ("machine", "pc-q35-9.0,viommu=intel"),
        ("tags", "Web;_a;x.y"),
        ("nameserver", "1.1.1.1;8.8.8.8"),
    ];
    let config = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let guest = GuestSpec { vmid, node: "ws1".into(), config, pool: Some("production-pool".into()), running: false };
    cluster.create_vm(&guest).expect("a machine made by hand");
    cluster.set_config(vmid, "description", Some(&"long ".repeat(1600)));
    cluster.set_config(vmid, "boot", Some("order=usb0;scsi0;hostpci3;scsi0"));
    cluster.set_config(vmid, "name", None);
    vmid
}

#[test]
fn what_an_import_reads_is_what_its_generated_configuration_plans() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let cluster = world.cluster("worldstream-prod");
        cluster.set_option("tag-style", "case-sensitive=1");
        let vmid = odd_machine(&cluster);
        let before = cluster.vm(vmid).expect("the machine").config;
        assert!(before["scsi1"].ends_with("size=31458K") && before["scsi2"].ends_with("size=1049K"), "{before:?}");
        let workspace = workspace_of(&world, &cli, "app", "");
        workspace.write_main(&format!(
            "import {{\n  to = moxxie_virtual_machine.found\n  id = \"worldstream-prod/{vmid}\"\n}}\n"
        ));
        world.clear_requests();
        let out = "-generate-config-out=found.tf";
        sound(workspace.run(&["plan", "-input=false", "-detailed-exitcode", out, "-out=the.tfplan"]))
            .expect(2)
            .says("1 to import, 0 to add, 0 to change, 0 to destroy");
        sound(workspace.apply_plan("the.tfplan")).expect(0);
        sound(workspace.plan()).expect(0);
        assert_eq!(world.writes(), Vec::<String>::new());
        // A change of it is that change and nothing else.
        workspace.edit("found.tf", "\"1GiB\"", "\"2GiB\"");
        sound(workspace.apply()).expect(0);
        let mut after = cluster.vm(vmid).expect("the machine").config;
        assert_eq!(after.insert("memory".into(), "current=1024".into()).as_deref(), Some("2048"));
        assert_eq!(after, before);
        sound(workspace.plan()).expect(0);
        // Named in Proxmox VE since: nobody configured a name.
        cluster.set_config(vmid, "name", Some("found"));
        sound(workspace.plan()).expect(0);
        cluster.set_config(vmid, "name", None);
        sound(workspace.plan()).expect(0);
        // Without the notes that leave no room it moves, nameless.
        workspace.remove("main.tf").write_main("");
        let found = std::fs::read_to_string(workspace.root().join("found.tf")).expect("the configuration");
        let keep = |line: &&str| {
            !["description", "node ", "node=", "bridge", "vlan"].iter().any(|key| line.trim_start().starts_with(key))
        };
        let lines: Vec<&str> = found.lines().filter(keep).collect();
        let moved = lines.join("\n").replace("\"worldstream-prod\"", "\"databarn-dr\"");
        workspace.write("found.tf", moved);
        cluster.set_config(vmid, "description", None);
        sound(workspace.apply()).expect(0);
        let there = world.cluster("databarn-dr").vm(vmid).expect("the machine").config;
        assert_eq!(there.get("name"), None);
        for key in ["sockets", "vcpus", "cpu", "machine", "net1", "usb0", "boot", "nameserver"] {
            let without = |line: &String| line.replace(",link_down=1", "");
            assert_eq!(there.get(key).map(without), before.get(key).map(without), "{key}");
        }
        sound(workspace.plan()).expect(0);
        sound(workspace.destroy()).expect(0);
        world.assert_clean();
    }
}

const SPELLED: &str = r#"
resource "moxxie_virtual_machine" "api" {
  name            = "api"
  pool            = "production-pool"
  cluster         = "worldstream-prod"
  memory          = "1024M"
  machine         = "type=q35,enable-s3=yes"
  agent           = true
  tags            = ["web", "Db", "a.b"]
  disks           = { scsi0 = { size = "2048MB", storage = "fast", ssd = true, discard = true } }
  network_devices = { net0 = { network = "app", mac = "bc:24:11:aa:bb:cc" } }
  cloud_init      = { ssh_keys = ["ssh-ed25519 AAAA me\n"], dns = [" 1.1.1.1", "8.8.8.8"] }
  migration       = { source = "delete", keep_archive = "0s", shutdown_timeout = "120s" }
  timeouts        = { create = "60m" }
  description     = <<-EOT
    Two lines,

      and blanks at the end.  
  EOT
}
"#;

#[test]
fn what_proxmox_ve_spells_otherwise_is_no_difference() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let cluster = world.cluster("worldstream-prod");
        let workspace = workspace_of(&world, &cli, "app", "");
        workspace.write_main(SPELLED);
        sound(workspace.apply()).expect(0);
        sound(workspace.plan()).expect(0);
        let vm = world.vm("worldstream-prod", "api");
        assert_eq!(vm.config["tags"], "a.b;db;web");
        assert!(vm.config["description"].ends_with("end."), "{:?}", vm.config["description"]);
        // The same in the spellings that the GUI, other tools and old versions leave.
        let disk = vm.config["scsi0"].replace("size=2G", "size=2097152K").replace("ssd=1", "ssd=yes");
        assert!(disk.contains("2097152K") && disk.contains("yes"), "{disk}");
        let upper = vm.config["net0"].replace("bc:24:11:aa:bb:cc", "BC:24:11:AA:BB:CC");
        let spellings = [
            ("memory", "current=1024"),
            ("machine", "enable-s3=1,type=q35"),
            ("agent", "enabled=on"),
            ("tags", "web,DB a.b;web"),
            ("nameserver", "1.1.1.1; 8.8.8.8"),
            ("sshkeys", "ssh-ed25519%20AAAA%20me%0A%0A"),
            ("boot", "order=scsi0"),
            ("scsi0", disk.as_str()),
            ("net0", upper.as_str()),
            ("cpu", "cputype=x86-64-v2-AES"),
            ("onboot", "1"),
        ];
        for (key, value) in spellings {
            cluster.set_config(vm.vmid, key, Some(value));
        }
        let plan = sound(workspace.plan());
        assert_eq!(plan.code, 0, "{}", plan.text());
        // And no write touches what only its spelling tells apart.
        workspace.edit("main.tf", "  agent ", "  on_boot = false\n  agent ");
        world.clear_requests();
        sound(workspace.apply()).expect(0);
        let writes: Vec<_> = world
            .requests()
            .into_iter()
            .filter(|call| call.path.ends_with("/config") && call.method != "GET")
            .collect();
        assert_eq!(writes.len(), 1, "{writes:?}");
        let keys: Vec<&String> =
            writes[0].params.keys().filter(|key| !["node", "vmid", "digest"].contains(&key.as_str())).collect();
        assert_eq!(keys, ["onboot"]);
        sound(workspace.plan()).expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

fn one(world: &SimulatedWorld, cli: &Cli, lines: &str) -> Workspace {
    let workspace = workspace_of(world, cli, "app", "");
    workspace.write_main(&format!(
        "resource \"moxxie_virtual_machine\" \"api\" {{\n  name = \"api\"\n  pool = \"production-pool\"\n  cluster = \
         \"worldstream-prod\"\n  reboot_policy = \"reboot\"\n{lines}\n  disks = {{ scsi0 = {{ size = \"2GB\", storage = \"fast\" }} }}\n}}\n"
    ));
    workspace
}

#[test]
fn a_value_that_would_end_in_a_property_string_is_refused_on_its_attribute() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = one(&world, &cli, "  cpu = { type = \"host,flags=+pcid\" }");
        let refused =
            sound(workspace.plan()).expect(1).says("Invalid type").says("cpu = { type = \"host,flags=+pcid\" }");
        drop(refused.says("holds ','"));
        workspace.edit("main.tf", "host,flags=+pcid", "host");
        workspace.edit("main.tf", "storage = \"fast\"", "storage = \"fast,size=1\"");
        sound(workspace.plan()).expect(1).says("Invalid storage");
        assert_eq!(world.writes(), Vec::<String>::new());
    }
}

#[test]
fn nobody_can_ask_anew_for_what_an_import_may_say() {
    let rows = [
        ("name = \"api\"", "name = \"\"", "A machine needs a name"),
        ("\"2GB\"", "\"31458K\"", "is not a whole number of MiB"),
        ("\"2GB\"", "\"0B\"", "is less than the least"),
        ("disks =", "network_devices = { net0 = {} }\n  disks =", "A network device needs a network or a bridge"),
        (
            "disks =",
            "description = join(\"\", [for i in range(1000) : \"xxxxxxxx\"])\n  disks =",
            "At most 7000 characters",
        ),
        ("disks =", "boot_order = [\"scsi0\", \"scsi0\"]\n  disks =", "A device is named twice"),
    ];
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        for (from, to, said) in rows {
            let workspace = one(&world, &cli, "");
            workspace.edit("main.tf", from, to);
            drop(sound(workspace.plan()).expect(1).says(said).says("on main.tf line"));
        }
        assert_eq!(world.writes(), Vec::<String>::new());
    }
}

#[test]
fn other_cores_take_vcpus_along_or_say_that_they_do_nothing() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let cluster = world.cluster("worldstream-prod");
        let workspace = one(&world, &cli, "  cpu = { cores = 4 }");
        sound(workspace.apply()).expect(0);
        let vm = || world.vm("worldstream-prod", "api");
        // All of them plugged in: fewer cores than that and it would not start.
        cluster.set_config(vm().vmid, "vcpus", Some("4"));
        sound(workspace.plan()).expect(0);
        workspace.edit("main.tf", "cores = 4", "cores = 2");
        sound(workspace.apply()).expect(0);
        assert!(vm().running && !vm().config.contains_key("vcpus") && vm().config["cores"] == "2", "{:?}", vm());
        // Fewer on purpose: they stay, and it is said what more cores do.
        cluster.set_config(vm().vmid, "vcpus", Some("1"));
        sound(workspace.plan()).expect(0);
        workspace.edit("main.tf", "cores = 2", "cores = 3");
        sound(workspace.plan()).expect(2).says("Virtual machine api has 1 of its 3 processors plugged in");
        sound(workspace.apply()).expect(0);
        assert!(vm().running && vm().config["vcpus"] == "1" && vm().config["cores"] == "3", "{:?}", vm());
        sound(workspace.plan()).expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}

#[test]
fn a_pool_that_begins_with_a_digit_is_read_and_kept_by_a_move() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        for cluster in ["worldstream-prod", "databarn-dr"] {
            world.cluster(cluster).create_pool("1-team");
        }
        let workspace = world.workspace(&cli, Path::new(PROVIDER), "platform");
        workspace.write("multi-site.yaml", yaml().replace("production-pool", "1-team"));
        workspace.write_main(&MACHINES.replace("NAMES", "\"api\"").replace("production-pool", "1-team"));
        sound(workspace.apply()).expect(0);
        let vm = world.vm("worldstream-prod", "api");
        assert_eq!(vm.pool.as_deref(), Some("1-team"));
        sound(workspace.plan()).expect(0);
        workspace.edit("main.tf", "\"worldstream-prod\"", "\"databarn-dr\"");
        sound(workspace.apply()).expect(0);
        assert_eq!(world.vm("databarn-dr", "api").pool.as_deref(), Some("1-team"));
        sound(workspace.plan()).expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}
