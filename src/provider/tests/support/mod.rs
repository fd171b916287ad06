//! A simulated federation and cores that ask about it; values made from schemas.
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use protocol::testing::CoreClient;
use protocol::{Attribute, AttributeKind, NestingMode, Schema, Type, Value};
use simulator::{GuestSpec, Options, Simulator};

/// The resource that is planned.
pub const TYPE: &str = "moxxie_virtual_machine";

/// A federation, and the working folder of whoever asks about it: one for all tests, as the process has one.
pub struct World {
    /// The clusters.
    pub sim: Simulator,
    /// This world's own federation files: a test that writes one must not cut off another test that reads its own.
    files: tempfile::TempDir,
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            std::env::set_current_dir(folder.path()).expect("a working folder");
            let yaml = include_str!("../../../../acceptance-tests/cases/main_job/multi-site.yaml");
            std::fs::write(folder.path().join("multi-site.yaml"), yaml).expect("the federation's file");
            folder
        })
        .path()
}

impl World {
    /// The world of three sites.
    pub async fn start() -> World {
        World::of(simulator::World::three_sites().expect("a world")).await
    }

    /// These clusters.
    pub async fn of(world: simulator::World) -> World {
        folder();
        let files = tempfile::tempdir().expect("a folder");
        World { sim: Simulator::start(world, Options::default()).await.expect("a simulator"), files }
    }

    /// The provider block with another federation file of this name.
    pub fn block_of(&self, name: &str, yaml: &str) -> Value {
        let file = self.files.path().join(name);
        std::fs::write(&file, yaml).expect("a federation's file");
        self.block().with_attr("config_file", file.display().to_string())
    }

    /// The provider block.
    fn block(&self) -> Value {
        let clusters = self.sim.clusters().into_iter().map(|cluster| {
            let connection = Value::object([
                ("endpoints", Value::list([cluster.url()])),
                ("api_token", cluster.token("platform").expect("a token").into()),
                ("fingerprints", Value::list([cluster.fingerprint()])),
            ]);
            (cluster.name().to_owned(), connection)
        });
        let file = folder().join("multi-site.yaml").display().to_string();
        Value::object([("config_file", Value::from(file)), ("clusters", Value::map(clusters))])
    }

    /// A process that was not configured.
    pub async fn unconfigured(&self) -> CoreClient {
        CoreClient::start(provider::Moxxie::new()).await.expect("a provider")
    }

    /// A configured process.
    pub async fn core(&self) -> CoreClient {
        let core = self.unconfigured().await;
        let said = core.configure(self.block()).await.expect("an answer");
        assert!(!said.has_errors(), "{said:?}");
        core
    }

    /// Fills the memory of every node of a cluster.
    pub fn fill(&self, cluster: &str) {
        let nodes: &[&str] = match cluster {
            "worldstream-prod" => &["ws1", "ws2", "ws3"],
            "databarn-dr" => &["db1", "db2", "db3"],
            _ => &["hz1"],
        };
        for (vmid, node) in (9000..).zip(nodes) {
            let config = [("name", format!("foreign-{vmid}")), ("memory", (510 * 1024).to_string())];
            let config = config.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            let guest = GuestSpec { vmid, node: (*node).to_owned(), config, pool: None, running: true };
            self.sim.cluster(cluster).create_vm(&guest).expect("a machine made by hand");
        }
    }

    /// Takes them away again.
    pub fn empty(&self, cluster: &str) {
        (9000..9003).for_each(|vmid| self.sim.cluster(cluster).remove_vm(vmid));
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(folder().join(".terraform/moxxie"));
        folder.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }

    /// The entries of the decision journal.
    pub fn journal(&self) -> Vec<(PathBuf, String)> {
        let entries = self.files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "json"));
        entries.filter_map(|file| std::fs::read_to_string(&file).ok().map(|text| (file, text))).collect()
    }

    /// Takes the note of the validate walk away.
    pub fn forget_validate(&self) {
        for file in self.files().iter().filter(|file| file.extension().is_none()) {
            std::fs::remove_file(file).expect("a file less");
        }
    }

    /// Takes the entries about machines of this name away.
    pub fn forget_decisions(&self, name: &str) {
        for (file, _) in self.journal().iter().filter(|(_, text)| text.contains(name)) {
            std::fs::remove_file(file).expect("a file less");
        }
    }
}

/// A machine that its pool places. Its name is in its placement, and so in the journal.
pub fn vm(name: &str) -> Value {
    Value::object([
        ("name", Value::from(name)),
        ("pool", "production-pool".into()),
        ("memory", "4GB".into()),
        ("disks", Value::map([("scsi0", Value::object([("size", "8GB"), ("storage", "fast")]))])),
    ])
}

/// A plan with every unknown made something.
pub fn known(planned: &Value) -> Value {
    fill("", planned)
}

fn fill(name: &str, value: &Value) -> Value {
    match value {
        Value::Unknown(_) => match name {
            "vmid" => 100.into(),
            "vlan" => 120.into(),
            "id" => "7fa193eb-c1bf-4bb8-8351-fe742f245f74".into(),
            "retired_copies" | "boot_order" => Value::List(Vec::new()),
            "mac" => "BC:24:11:00:00:01".into(),
            "cluster" => "worldstream-prod".into(),
            other => other.into(),
        },
        Value::Object(map) => {
            Value::Object(map.iter().map(|(name, value)| (name.clone(), fill(name, value))).collect())
        }
        Value::Map(map) => Value::Map(map.iter().map(|(key, value)| (key.clone(), fill(name, value))).collect()),
        other => other.clone(),
    }
}

/// Any configuration that a schema allows; texts are such as the static checks let through. `known`: nothing is unknown.
pub fn of_schema(schema: &Schema, known: bool) -> BoxedStrategy<Value> {
    object(&schema.attributes, known).prop_map(one_of_two).boxed()
}

/// A network device has a network or a bridge, and a machine a pool or a cluster.
fn one_of_two(mut config: Value) -> Value {
    let devices = config.attr("network_devices").as_map().cloned();
    if let Some(devices) = devices {
        let devices = devices.into_iter().map(|(slot, mut device)| {
            if device.attr("network").is_null() {
                if device.attr("bridge").is_null() {
                    device.set_attr("bridge", "vmbr0");
                }
            } else {
                device.set_attr("bridge", Value::Null);
                if device.attr("network").is_known() {
                    device.set_attr("vlan", Value::Null);
                }
            }
            (slot, device)
        });
        config.set_attr("network_devices", Value::map(devices));
    }
    // A machine asks for what the clusters of its pool have: most of what is left would be refused by placement alone.
    if config.as_map().is_some_and(|map| map.contains_key("needs")) {
        let fits = config.attr("cluster").is_null() && config.attr("pool").as_str() == Some("production-pool");
        if !fits && config.attr("tier").is_known() {
            config.set_attr("tier", Value::Null);
        } else if config.attr("tier").as_str() == Some("edge") {
            config.set_attr("tier", "secondary");
        }
        if config.attr("needs").is_known() && !config.attr("needs").is_null() {
            config.set_attr("needs", if fits { Value::set(["supports_ha"]) } else { Value::Null });
        }
    }
    if config.as_map().is_some_and(|map| map.contains_key("pool")) && config.attr("pool").is_null() {
        config.set_attr("pool", "production-pool");
    }
    config
}

fn object(attributes: &[Attribute], known: bool) -> BoxedStrategy<Value> {
    let each: Vec<BoxedStrategy<(String, Value)>> = attributes
        .iter()
        .map(|attribute| {
            let name = attribute.name.clone();
            of(attribute, known).prop_map(move |value| (name.clone(), value)).boxed()
        })
        .collect();
    each.prop_map(Value::object).boxed()
}

fn of(attribute: &Attribute, known: bool) -> BoxedStrategy<Value> {
    if !attribute.required && !attribute.optional {
        return Just(Value::Null).boxed();
    }
    let some = match &attribute.kind {
        AttributeKind::Nested { mode, attributes } => nested(attribute, *mode, attributes, known),
        _ => leaf(&attribute.name, &attribute.ty()),
    };
    match (attribute.required, known) {
        (true, _) => some,
        (false, true) => prop_oneof![1 => Just(Value::Null), 2 => some].boxed(),
        (false, false) => prop_oneof![4 => Just(Value::Null), 8 => some, 1 => Just(Value::unknown())].boxed(),
    }
}

fn nested(attribute: &Attribute, mode: NestingMode, attributes: &[Attribute], known: bool) -> BoxedStrategy<Value> {
    // Parts that depend on each other.
    match attribute.name.as_str() {
        "reserve" => return Just(Value::object([("memory", 0.25)])).boxed(),
        "vmid_range" => return Just(Value::object([("first", 1000), ("last", 1999)])).boxed(),
        "next_id" => return Just(Value::object([("lower", 1000), ("upper", 2000)])).boxed(),
        "transport" => return Just(Value::object([("storage", "transfer")])).boxed(),
        _ => {}
    }
    let one = object(attributes, known);
    match mode {
        // One in which nothing is set is refused as a slip.
        NestingMode::Single => one.prop_map(|one| if nothing_set(&one) { Value::Null } else { one }).boxed(),
        NestingMode::Map => {
            let keys: &[&str] = match attribute.name.as_str() {
                "disks" => &["scsi0", "virtio1", "sata2"],
                "migration_paths" => &["databarn-dr", "hetzner-edge"],
                "network_devices" | "addresses" => &["net0", "net1"],
                _ => &["a", "b"],
            };
            prop::collection::btree_map(prop::sample::select(keys.to_vec()), one, 0..3).prop_map(Value::map).boxed()
        }
        NestingMode::List => prop::collection::vec(one, 0..3).prop_map(Value::List).boxed(),
        NestingMode::Set => one.prop_map(|one| Value::Set(vec![one])).boxed(),
    }
}

/// Whether it is an object in which everything is null: a slip, as far as one can see.
pub fn nothing_set(value: &Value) -> bool {
    matches!(value, Value::Object(parts) if parts.values().all(Value::is_null))
}

fn leaf(name: &str, ty: &Type) -> BoxedStrategy<Value> {
    match ty {
        Type::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Type::Number => {
            let least = if name == "vmid" { 100 } else { 1 };
            (least..least + 3_i64).prop_map(Value::from).boxed()
        }
        Type::List(element) => prop::collection::vec(leaf(name, element), 0..3).prop_map(Value::List).boxed(),
        // A weight is for one of the pool's clusters.
        Type::Set(_) if name == "clusters" => {
            let more = prop_oneof![Just(vec!["worldstream-prod"]), Just(vec!["worldstream-prod", "databarn-dr"])];
            more.prop_map(Value::set).boxed()
        }
        Type::Set(element) => leaf(name, element).prop_map(|one| Value::Set(vec![one])).boxed(),
        Type::Map(_) if name == "bwlimit" => {
            let limit = prop::sample::select(vec!["500Mbps", "1Gbps", "1000Mbps"]);
            limit.prop_map(|limit| Value::map([("restore", limit)])).boxed()
        }
        Type::Map(element) => leaf(name, element).prop_map(|one| Value::map([("worldstream-prod", one)])).boxed(),
        _ => {
            let words: &[&str] = match name {
                "name" => &["any-1", "any"],
                "pool" => &["production-pool", "development-pool"],
                "cluster" | "clusters" => &["worldstream-prod", "databarn-dr"],
                "memory" | "size" | "max_memory" | "max_storage" => &["8GB", "8GiB", "16G"],
                "keep_source" | "keep_archive" | "shutdown_timeout" | "create" | "update" | "delete"
                | "max_downtime" | "deadline" => &["60s", "1m", "2h"],
                "mac" => &["BC:24:11:00:00:01", "bc:24:11:00:00:01"],
                "source" => &["keep", "delete"],
                "on_unhealthy" => &["keep", "return"],
                "http" => &["http://10.1.2.3/healthz"],
                "strategy" => &["balanced", "cost"],
                "tier" => &["primary", "edge"],
                "needs" => &["supports_ha", "supports_ceph"],
                "currency" => &["EUR", "USD"],
                "subnet" => &["10.1.20.0/24"],
                "gateway" => &["10.1.20.1"],
                "macs" => &["keep", "new"],
                "wan" => &["write", "read"],
                "max_bandwidth" => &["1Gbps", "1000Mbps", "10Mbps"],
                "days" => &["sat", "sun"],
                "from" | "to" => &["22:00", "05:30"],
                "zone" => &["UTC", "Europe/Amsterdam"],
                "mac_prefix" => &["BC:24:11", "bc:24:11"],
                "format" => &["raw", "qcow2"],
                "bios" => &["seabios", "ovmf"],
                "reboot_policy" => &["warn", "reboot"],
                "boot_order" => &["scsi0", "net0"],
                "ssh_keys" => &["ssh-ed25519 AAAA one", "ssh-ed25519 AAAA two"],
                "ipv4" => &["10.1.2.3/24", "10.1.2.4/24"],
                "gateway4" => &["10.1.2.1"],
                "ipv6" => &["2001:db8::3/64"],
                "gateway6" => &["2001:db8::1"],
                "dns" => &["10.1.2.1"],
                "model" => &["virtio", "e1000"],
                "method" => &["backup-restore"],
                "accept_loss" => &["snapshots", "unused-disks"],
                "type" => &["affinity", "location"],
                "automatic_moves" => &["drain", "improve"],
                "operator" => &["must", "should"],
                "target" => &["cluster", "tag"],
                _ => &["fast", "app", "x86-64-v2-AES"],
            };
            prop::sample::select(words.to_vec()).prop_map(Value::from).boxed()
        }
    }
}
