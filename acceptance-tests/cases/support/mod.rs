//! What the cases about plan and apply share: a configuration of machines by name, what a plan shows, what people do by hand.
#![allow(dead_code, reason = "each case uses its part")]
use std::collections::BTreeMap;
use std::path::Path;

use harness::{Cli, Run, SimulatedWorld, Workspace};
use serde_json::{Value, json};
use simulator::{GuestSpec, VmSnapshot};

/// The provider under test.
pub const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");

/// The three clusters of the world.
pub const CLUSTERS: [&str; 3] = ["worldstream-prod", "databarn-dr", "hetzner-edge"];

/// Their storages for images that take part.
pub fn images(cluster: &str) -> &'static str {
    match cluster {
        "worldstream-prod" => "ceph-pool",
        "databarn-dr" => "zfs-pool",
        _ => "local-lvm",
    }
}

/// What core says when a provider breaks the contract.
pub const BROKEN: [&str; 6] = [
    "Provider produced inconsistent final plan",
    "Provider produced invalid plan",
    "Provider produced inconsistent result after apply",
    "Provider returned invalid result object after apply",
    "This is a bug in the provider",
    "The plugin encountered an error",
];

/// The first of [`BROKEN`] that a text says.
pub fn broken(flat: &str) -> Option<&'static str> {
    BROKEN.into_iter().find(|said| flat.contains(said))
}

/// Panics where the provider broke the contract.
#[track_caller]
pub fn sound(run: Run) -> Run {
    assert_eq!(broken(&run.flat()), None, "{}\n{}", run.command, run.text());
    run
}

const MAIN: &str = r#"
variable "vms" {
  type = map(object({
    pool    = optional(string)
    cluster = optional(string)
    memory  = optional(string)
    disk    = optional(string, "8GB")
    tags    = optional(set(string))
  }))
}

resource "moxxie_virtual_machine" "vm" {
  for_each = var.vms
  name     = each.key
  pool     = each.value.pool
  cluster  = each.value.cluster
  memory   = each.value.memory
  tags     = each.value.tags

  disks           = { scsi0 = { size = each.value.disk, storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
  migration       = { source = "delete", keep_archive = "0s" }
}
"#;

const YAML: &str = include_str!("../main_job/multi-site.yaml");

/// The file of the federation: the main job's with a pool over all three clusters.
pub fn yaml() -> String {
    let wide = "resource_pools:\n  - name: wide-pool\n    clusters: [worldstream-prod, databarn-dr, hetzner-edge]\n    \
                placement_policy: { strategy: balanced, cluster_weights: { worldstream-prod: 40, databarn-dr: 40, hetzner-edge: 20 } }\n";
    YAML.replace("resource_pools:\n", wide)
}

/// A workspace with machines by name, their attributes as in the variable `vms`.
pub fn workspace(world: &SimulatedWorld, cli: &Cli, role: &str, vms: &Value) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), role);
    workspace.write_main(MAIN).write("multi-site.yaml", yaml());
    configure(&workspace, vms);
    workspace
}

/// A workspace with a configuration of its own.
pub fn workspace_of(world: &SimulatedWorld, cli: &Cli, role: &str, main: &str) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), role);
    workspace.write("main.tf", main).write("multi-site.yaml", yaml());
    workspace
}

/// Sets the machines.
pub fn configure(workspace: &Workspace, vms: &Value) {
    workspace.write("vms.auto.tfvars.json", json!({ "vms": vms }).to_string());
}

/// The address of a machine.
pub fn address(name: &str) -> String {
    format!("moxxie_virtual_machine.vm[\"{name}\"]")
}

/// What a plan says of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `create`, `update`, `delete`, or two of them for a replacement, joined by `+`.
    pub actions: String,
    /// Where it will be; `None` where that is known after apply.
    pub cluster: Option<String>,
}

impl Shown {
    /// Whether the machine exists after the apply.
    pub fn stays(&self) -> bool {
        self.actions != "delete"
    }
}

/// What a plan file shows, by the machine's name. What does not change is left out.
pub fn shown(workspace: &Workspace, file: &str) -> BTreeMap<String, Shown> {
    let plan = workspace.show_plan(file);
    let mut found = BTreeMap::new();
    for change in plan["resource_changes"].as_array().into_iter().flatten() {
        if change["type"] != "moxxie_virtual_machine" {
            continue;
        }
        let words = change["change"]["actions"].as_array().cloned().unwrap_or_default();
        let actions = words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("+");
        if ["no-op", "read"].contains(&actions.as_str()) {
            continue;
        }
        let cluster = change["change"]["after"]["cluster"].as_str().map(str::to_owned);
        let name = |side: &str| change["change"][side]["name"].as_str().map(str::to_owned);
        let name = name("after").or_else(|| name("before")).unwrap_or_default();
        found.insert(name, Shown { actions, cluster });
    }
    found
}

/// The same out of the text that a plan prints, for a direct apply, which has no file. A cluster that does not change is not in
/// it.
pub fn shown_in_text(text: &str) -> BTreeMap<String, Shown> {
    let mut found: BTreeMap<String, Shown> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("# moxxie_virtual_machine.vm[\"") {
            let Some((name, what)) = rest.split_once("\"] ") else { continue };
            let actions = match what {
                _ if what.contains("will be created") => "create",
                _ if what.contains("updated in-place") => "update",
                _ if what.contains("replaced") => "delete+create",
                _ if what.contains("will be destroyed") => "delete",
                _ => continue,
            };
            found.insert(name.to_owned(), Shown { actions: actions.to_owned(), cluster: None });
            current = Some(name.to_owned());
        }
        let attribute = line.trim_start_matches(['+', '~', '-', ' ']);
        if let (Some(name), Some(value)) = (&current, attribute.strip_prefix("cluster "))
            && let Some(shown) = found.get_mut(name)
        {
            let value = value.rsplit("-> ").next().unwrap_or_default().trim_start_matches([' ', '=']);
            shown.cluster = value.split('"').nth(1).map(str::to_owned);
        }
    }
    found
}

/// One machine of the state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Where state has it.
    pub cluster: String,
    /// Its UUID.
    pub uuid: String,
    /// Its VMID.
    pub vmid: u32,
    /// Whether core would replace it.
    pub tainted: bool,
}

/// The machines of the state file by name, without starting a CLI.
pub fn instances(workspace: &Workspace) -> BTreeMap<String, Instance> {
    let text = std::fs::read_to_string(workspace.root().join("terraform.tfstate")).unwrap_or_default();
    let state: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut found = BTreeMap::new();
    for resource in state["resources"].as_array().into_iter().flatten() {
        if resource["type"] != "moxxie_virtual_machine" {
            continue;
        }
        for instance in resource["instances"].as_array().into_iter().flatten() {
            let text = |name: &str| instance["attributes"][name].as_str().unwrap_or_default().to_owned();
            let vmid = instance["attributes"]["vmid"].as_u64().and_then(|vmid| u32::try_from(vmid).ok());
            let tainted = instance["status"] == "tainted";
            let one = Instance { cluster: text("cluster"), uuid: text("id"), vmid: vmid.unwrap_or(0), tainted };
            found.insert(text("name"), one);
        }
    }
    found
}

/// A machine made by hand.
pub fn by_hand(vmid: u32, node: &str, name: &str, memory_mib: u64, pool: Option<&str>) -> GuestSpec {
    GuestSpec {
        vmid,
        node: node.to_owned(),
        config: BTreeMap::from([
            ("name".to_owned(), name.to_owned()),
            ("memory".to_owned(), memory_mib.to_string()),
            ("cores".to_owned(), "1".to_owned()),
        ]),
        pool: pool.map(str::to_owned),
        running: true,
    }
}

/// Moves a machine to another cluster by hand, pool and network as they should be there.
pub fn carry(world: &SimulatedWorld, vm: &VmSnapshot, to: &str, node: &str, pool: Option<&str>) {
    world.cluster(&vm.cluster).remove_vm(vm.vmid);
    let vlan = match to {
        "worldstream-prod" => "tag=120",
        "databarn-dr" => "tag=220",
        _ => "tag=320",
    };
    let mut config = vm.config.clone();
    for (key, value) in &mut config {
        if key.starts_with("scsi") && value.contains("vm-") {
            *value = format!("{}:8", images(to));
        }
        if key.starts_with("net") {
            let parts = value.split(',').map(|part| if part.starts_with("tag=") { vlan } else { part });
            *value = parts.collect::<Vec<_>>().join(",");
        }
    }
    let guest =
        GuestSpec { vmid: vm.vmid, node: node.to_owned(), config, pool: pool.map(str::to_owned), running: vm.running };
    world.cluster(to).create_vm(&guest).expect("room for the machine");
}

/// Nodes of a cluster.
pub fn nodes(cluster: &str) -> &'static [&'static str] {
    match cluster {
        "worldstream-prod" => &["ws1", "ws2", "ws3"],
        "databarn-dr" => &["db1", "db2", "db3"],
        _ => &["hz1"],
    }
}

/// The world of three sites, of which here all three mount the storage for transfers, so that every move has a way.
pub fn all_share_transfer() -> String {
    let world = include_str!("../../simulator/worlds/three-sites.yaml");
    let edge = "      local: { type: dir, content: [iso, vztmpl, backup], capacity: 400GiB }\n";
    let transfer = "      transfer: { type: nfs, content: [backup], capacity: 20TiB, server: 10.200.0.5, export: /srv/transfer, rate: 200, \
                    across: worldstream-prod }\n";
    assert!(world.contains(edge), "the world has changed");
    world.replace(edge, &format!("{edge}{transfer}"))
}
