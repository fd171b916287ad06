//! Owns one machine that moves between two sites: the world with it, the workspace that knows it, and what must hold of it.
#![allow(dead_code, reason = "each test that includes this uses its part")]
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use harness::{Cli, SimulatedWorld, Workspace};
use simulator::{Action, ClusterHandle, GuestSpec, Options, Rule, VmSnapshot, World};

pub const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
pub const YAML: &str = include_str!("../main_job/multi-site.yaml");
const MAIN: &str = include_str!("main.tf");
/// Where it is at first.
pub const FROM: &str = "worldstream-prod";
/// Where it goes.
pub const TO: &str = "databarn-dr";
pub const NAME: &str = "shop-db";
const POOL: &str = "production-pool";
/// Its `migration` in `main.tf`.
pub const GONE: &str = r#"source = "delete", keep_archive = "0s""#;
/// The same, but source and archive are kept.
pub const KEPT: &str = r#"source = "keep", keep_source = "3d", keep_archive = "2d""#;

/// The target is never well (nothing listens there), and the source takes the machine back.
pub const RETURNED: &str = r#"source = "delete", keep_archive = "0s", on_unhealthy = "return", health = {http = "http://127.0.0.1:9/",deadline = "0s"}"#;
/// The target is never well, and stays.
pub const UNWELL: &str = r#"source = "delete", keep_archive = "0s", on_unhealthy = "keep", health = {http = "http://127.0.0.1:9/",deadline = "0s"}"#;

/// What may be left beside the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// A retired copy and an archive.
    CopyAndArchive,
    /// A retired copy.
    Copy,
    /// A retired copy or nothing: it may have been taken back before it ran elsewhere.
    PerhapsCopy,
}

impl From<bool> for Left {
    fn from(kept: bool) -> Left {
        if kept { Left::CopyAndArchive } else { Left::Nothing }
    }
}

/// What its volumes lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One storage, here and there.
    OneStorage,
    /// Three storages here, which are three others there. Most bytes are on the second, beside which nothing else lies; EFI
    /// variables, TPM state and the cloud-init drive lie beside the first disk. There, the first is of a kind whose tools don't
    /// say what they make.
    ThreeStorages,
}

/// The storages of [`Layout::ThreeStorages`], on the source.
pub const HERE: [&str; 3] = ["ceph-pool", "local-lvm", "cold-nfs"];
/// The same on the target.
pub const THERE: [&str; 3] = ["zfs-pool", "bulk-lvm", "archive-nfs"];
/// What is where, as indexes of these.
pub const SPREAD: [(&str, usize); 6] =
    [("scsi0", 0), ("efidisk0", 0), ("tpmstate0", 0), ("ide2", 0), ("scsi1", 1), ("scsi2", 2)];

impl Layout {
    /// A world without the machine.
    pub fn world(self) -> SimulatedWorld {
        SimulatedWorld::start(self.plan(), Options::default())
    }

    /// The same, before it starts.
    pub fn plan(self) -> World {
        let mut world = World::three_sites().expect("the world of three sites");
        if self == Layout::ThreeStorages {
            let mut add = |cluster: &str, name: &str, kind: &str, server: Option<&str>| {
                let export = server.map(|_| format!("/srv/{name}"));
                let storage = serde_json::json!({"type": kind, "content": ["images"], "capacity": "10TiB", "server": server, "export": export});
                let storage = serde_json::from_value(storage).expect("a storage");
                world.clusters.get_mut(cluster).expect("the cluster").storages.insert(name.to_owned(), storage);
            };
            add(FROM, HERE[2], "nfs", Some("10.0.0.5"));
            add(TO, THERE[1], "lvmthin", None);
            add(TO, THERE[2], "nfs", Some("192.168.100.6"));
            let app = world.users.iter_mut().find(|user| user.id == "app@pve").expect("the user");
            for name in [HERE[2], THERE[1], THERE[2]] {
                let may = serde_json::json!({"path": format!("/storage/{name}"), "role": "PVEDatastoreUser"});
                app.acl.push(serde_json::from_value(may).expect("a rule"));
            }
        }
        world
    }

    pub fn yaml(self) -> String {
        let classes = |storages: [&str; 3]| {
            let [fast, bulk, cold] = storages;
            format!("storage_classes: {{ fast: {fast}, bulk: {bulk}, cold: {cold} }}")
        };
        match self {
            Layout::OneStorage => YAML.to_owned(),
            Layout::ThreeStorages => YAML
                .replace("storage_classes: { fast: ceph-pool }", &classes(HERE))
                .replace("storage_classes: { fast: zfs-pool }", &classes(THERE)),
        }
    }

    fn main(self) -> String {
        let two = MAIN.to_owned();
        let one = r#"scsi0 = { size = "8GB", storage = "fast" }
    scsi1 = { size = "4GB", storage = "fast" }"#;
        let three = r#"scsi0 = { size = "2GB", storage = "fast" }
    scsi1 = { size = "8GB", storage = "bulk" }
    scsi2 = { size = "1GB", storage = "cold", format = "qcow2" }"#;
        assert!(two.contains(one));
        match self {
            Layout::OneStorage => two,
            Layout::ThreeStorages => two.replace(one, three).replace(
                "  memory      =",
                "  bios        = \"ovmf\"\n  cloud_init  = { user = \"ops\" }\n  memory      =",
            ),
        }
    }
}

/// A machine that the provider made once, to be put into any number of worlds.
pub struct Machine {
    state: Vec<u8>,
    vm: VmSnapshot,
    layout: Layout,
}

impl Machine {
    /// Has the provider make it.
    pub fn made_by(cli: &Cli) -> Machine {
        Machine::made_with(cli, Layout::OneStorage)
    }

    /// The same with another layout.
    pub fn made_with(cli: &Cli, layout: Layout) -> Machine {
        let world = layout.world();
        let workspace = configured(&world, cli, "app", layout);
        workspace.apply().expect(0);
        let state = std::fs::read(workspace.root().join("terraform.tfstate")).expect("the state");
        Machine { state, vm: world.vm(FROM, NAME), layout }
    }

    pub fn uuid(&self) -> String {
        self.vm.uuid.clone().expect("a UUID")
    }

    pub fn vmid(&self) -> u32 {
        self.vm.vmid
    }

    /// A new world that holds it, running, as if it had always been there.
    pub fn world(&self) -> SimulatedWorld {
        self.world_with(|_| {})
    }

    /// The same, changed before it starts.
    pub fn world_with(&self, change: impl FnOnce(&mut World)) -> SimulatedWorld {
        let mut plan = self.layout.plan();
        change(&mut plan);
        let world = SimulatedWorld::start(plan, Options::default());
        world.cluster(FROM).create_vm(&self.guest()).expect("the machine");
        world
    }

    fn guest(&self) -> GuestSpec {
        let mut config: BTreeMap<String, String> = self.vm.config.clone();
        for disk in &self.vm.disks {
            let storage = disk.volid.split(':').next().unwrap_or_default();
            let options = config[&disk.slot].split_once(',').map(|(_, options)| options.to_owned()).unwrap_or_default();
            let options: Vec<&str> = options.split(',').filter(|part| !part.starts_with("size=")).collect();
            let format = disk.volid.ends_with(".qcow2").then(|| "format=qcow2".to_owned());
            let options = options.iter().map(|o| (*o).to_owned()).filter(|o| !o.is_empty()).chain(format);
            let drive = [format!("{storage}:{}", (disk.size >> 30).max(1))].into_iter().chain(options);
            config.insert(disk.slot.clone(), drive.collect::<Vec<_>>().join(","));
        }
        if self.layout == Layout::ThreeStorages {
            // An empty drive that is made anew, and one that the provider has no word for.
            config.insert("ide2".into(), format!("{}:cloudinit", HERE[0]));
            config.insert("tpmstate0".into(), format!("{}:1,version=v2.0", HERE[0]));
        }
        GuestSpec { vmid: self.vm.vmid, node: self.vm.node.clone(), config, pool: Some(POOL.into()), running: true }
    }

    /// A workspace with the token of `role`, whose state knows it where it is at first. `migration`: [`GONE`] or [`KEPT`].
    pub fn workspace(&self, world: &SimulatedWorld, cli: &Cli, role: &str, migration: &str) -> Workspace {
        let workspace = configured(world, cli, role, self.layout);
        workspace.edit("main.tf", GONE, migration);
        let mut state: serde_json::Value = serde_json::from_slice(&self.state).expect("the state");
        // Which cluster it was is noted there, and each world makes its own CAs.
        if let Some(instance) = state["resources"][0]["instances"][0].as_object_mut() {
            instance.remove("private");
        }
        for part in migration.split(", ") {
            let (name, value) = part.split_once(" = ").expect("name = value");
            let value = match value.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                None => serde_json::Value::from(value.trim_matches('"')),
                Some(inner) => {
                    let mut object = serde_json::json!({ "agent": false, "tcp": null, "http": null });
                    for (name, value) in inner.split(',').filter_map(|part| part.split_once(" = ")) {
                        object[name] = value.trim_matches('"').into();
                    }
                    object
                }
            };
            state["resources"][0]["instances"][0]["attributes"]["migration"][name] = value;
        }
        workspace.write("terraform.tfstate", state.to_string());
        workspace
    }

    /// The same, with a configuration that moves it.
    pub fn moving(&self, world: &SimulatedWorld, cli: &Cli, role: &str, migration: &str) -> Workspace {
        let workspace = self.workspace(world, cli, role, migration);
        wanted_on(&workspace, FROM, TO);
        workspace
    }

    /// Whether it is on `cluster` and nowhere else, running, unharmed and settled; else every way in which it is not.
    /// `newest`: a record it must still have, or one of its copies. `left`: what is to be left beside it.
    pub fn settled_on(
        &self,
        world: &SimulatedWorld,
        before: &VmSnapshot,
        cluster: &str,
        newest: u64,
        left: impl Into<Left>,
    ) -> Vec<String> {
        let left = left.into();
        let uuid = self.uuid();
        let mut wrong = Vec::new();
        let running = world.running_copies(&uuid);
        if running.len() != 1 || running[0].cluster != cluster {
            let all: Vec<String> = world.copies(&uuid).iter().map(in_words).collect();
            wrong.push(format!("it does not run on {cluster} alone: {}", all.join("; ")));
            return wrong;
        }
        let vm = &running[0];
        let copies = world.copies(&uuid);
        let fits = match left {
            Left::Nothing => copies.len() == 1,
            Left::Copy | Left::CopyAndArchive => copies.len() == 2,
            Left::PerhapsCopy => copies.len() <= 2,
        };
        if !fits || copies.iter().any(|copy| copy.cluster != cluster && !copy.template) {
            let all: Vec<String> = copies.iter().map(in_words).collect();
            wrong.push(format!("there are these copies: {}", all.join("; ")));
        }
        let of_copies = matches!(left, Left::Copy | Left::PerhapsCopy);
        if of_copies && world.newest_held(&uuid) < newest {
            wrong.push(format!("record {newest} is nowhere"));
        }
        if !of_copies && vm.disks.iter().map(|disk| disk.newest).max() < Some(newest) {
            wrong.push(format!("record {newest} is lost: {:?}", vm.disks));
        }
        // The guest writes to its first disk alone.
        let others = |vm: &VmSnapshot| -> BTreeMap<String, String> {
            let others = vm.disks.iter().filter(|disk| disk.slot != "scsi0");
            others.map(|disk| (disk.slot.clone(), disk.sha256.clone())).collect()
        };
        if others(vm) != others(before) {
            wrong.push(format!("bytes differ: {:?}, were {:?}", vm.disks, before.disks));
        }
        if self.layout == Layout::ThreeStorages {
            let storages = if cluster == FROM { HERE } else { THERE };
            for (slot, at) in SPREAD {
                let on = vm.config.get(slot).cloned().unwrap_or_default();
                if !on.starts_with(&format!("{}:", storages[at])) {
                    wrong.push(format!("{slot} is {on:?}, not on {}", storages[at]));
                }
            }
            if vm.config.get("scsi2").is_none_or(|disk| !disk.contains(".qcow2")) {
                wrong.push(format!("scsi2 is no qcow2 any more: {:?}", vm.config.get("scsi2")));
            }
        }
        for key in ["name", "memory", "cores", "onboot", "protection", "smbios1"] {
            let value = |vm: &VmSnapshot| vm.config.get(key).cloned().unwrap_or_else(|| "0".into());
            if value(vm) != value(before) {
                wrong.push(format!("{key} is {:?}, was {:?}", value(vm), value(before)));
            }
        }
        if vm.template || vm.config.get("net0").is_some_and(|net| net.contains("link_down=1")) {
            wrong.push(format!("it is fenced or has no link: {:?}", vm.config));
        }
        if !vm.pending.is_empty() {
            wrong.push(format!("changes wait for a restart: {:?}", vm.pending));
        }
        let notes = vm.config.get("description").map(String::as_str).unwrap_or_default();
        if !notes.starts_with("The shop") || notes.contains("\"op\"") || notes.contains("do not start") {
            wrong.push(format!("its notes are {:?}", vm.config.get("description")));
        }
        let litter = world.litter();
        let archives = litter.iter().filter(|line| line.contains("archive ")).count();
        let kept = usize::from(left == Left::CopyAndArchive);
        if litter.len() != kept || archives != kept {
            wrong.push(format!("litter: {litter:?}"));
        }
        wrong
    }
}

fn configured(world: &SimulatedWorld, cli: &Cli, role: &str, layout: Layout) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), role);
    workspace.write("main.tf", layout.main()).write("multi-site.yaml", layout.yaml());
    workspace
}

/// Edits the configuration: the machine is wanted on another cluster.
pub fn wanted_on(workspace: &Workspace, from: &str, to: &str) {
    workspace.edit("main.tf", &format!("cluster     = {from:?}"), &format!("cluster     = {to:?}"));
}

/// A copy, for messages.
pub fn in_words(vm: &VmSnapshot) -> String {
    let fenced = if vm.template { ", fenced" } else { "" };
    format!("{}/{} {}{fenced}", vm.cluster, vm.vmid, vm.status)
}

/// Watches a machine at every call that changes something: it writes, and never runs twice.
#[derive(Clone)]
pub struct Watch {
    clusters: Vec<ClusterHandle>,
    vmid: u32,
    uuid: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    pub fn over(world: &SimulatedWorld, machine: &Machine) -> Watch {
        let watch =
            Watch { clusters: world.clusters(), vmid: machine.vmid(), uuid: machine.uuid(), seen: Arc::default() };
        watch.begin(world);
        watch
    }

    /// Begins, again where all fault rules were taken away.
    pub fn begin(&self, world: &SimulatedWorld) {
        for method in ["POST", "PUT", "DELETE"] {
            let watch = self.clone();
            world.fault(Rule::on(method, "*", Action::call(move |call| watch.look(&call.path))));
        }
    }

    /// Has the guest write, and looks how many copies run.
    pub fn look(&self, at: &str) {
        let mut running = Vec::new();
        for cluster in &self.clusters {
            let Some(vm) = cluster.vm(self.vmid).filter(|vm| vm.uuid.as_deref() == Some(&self.uuid)) else { continue };
            if vm.running {
                running.push(in_words(&vm));
                cluster.guest_write(self.vmid);
            }
        }
        if running.len() > 1 {
            self.seen.lock().expect("the list").push(format!("two run before {at}: {}", running.join(", ")));
        }
    }

    /// What must not have been seen.
    pub fn wrongs(&self) -> Vec<String> {
        self.seen.lock().expect("the list").clone()
    }
}
