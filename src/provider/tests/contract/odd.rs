//! Any configuration that the official schema's grammar allows, set by hand: read, planned as it is, changed around, moved or refused, and
//! destroyed. The grammar is the simulator's own table of the API.
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use protocol::testing::{CoreClient, State};
use protocol::{Attribute, AttributeKind, Diagnostics, NestingMode, Value};
use serde_json::Value as Json;
use simulator::GuestSpec;

use super::support::{TYPE, World};

/// How many machines are tried. One that fails names its seed.
const SEEDS: u64 = 60;

const TABLE: &str = include_str!("../../../../acceptance-tests/simulator/api/table.json");
const FROM: &str = "worldstream-prod";
const TO: &str = "databarn-dr";

/// Parameters of the call that are no configuration, and two that say what a machine is to us: a lock is somebody's work under way, a
/// template runs no more.
const NOT_TRIED: [&str; 11] =
    ["node", "vmid", "delete", "digest", "force", "revert", "skiplock", "lock", "template", "cdrom", "memory"];

/// Keys that tie a machine to its node, or name a file of it.
const TIES: [&str; 14] = [
    "args",
    "affinity",
    "cicustom",
    "hookscript",
    "hostpci",
    "hugepages",
    "ivshmem",
    "numa",
    "parallel",
    "rng",
    "serial",
    "unused",
    "usb",
    "virtiofs",
];

/// Values by the rules of the API's table, all from one seed.
struct Grammar {
    table: Json,
    runner: TestRunner,
}

impl Grammar {
    fn new(seed: u64) -> Grammar {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Grammar {
            table: serde_json::from_str(TABLE).expect("the table"),
            runner: TestRunner::new_with_rng(Config::default(), rng),
        }
    }

    fn any<S: Strategy>(&mut self, strategy: S) -> S::Value {
        strategy.new_tree(&mut self.runner).expect("a value").current()
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.any(0..n) == 0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let at = self.any(0..of.len());
        of[at]
    }

    /// A configuration: some of all keys, each with a value of its rule. `disks`: volumes for drives, one each.
    fn config(&mut self, disks: &[String]) -> BTreeMap<String, String> {
        let endpoints = self.table["endpoints"].as_array().cloned().unwrap_or_default();
        let call = |e: &&Json| e["path"] == "/nodes/{node}/qemu/{vmid}/config" && e["method"] == "PUT";
        let rules = endpoints.iter().find(call).expect("the call")["parameters"].clone();
        let rules = rules.as_object().cloned().unwrap_or_default();
        let mut config = BTreeMap::new();
        for (name, rule) in rules.iter().filter(|(name, _)| !NOT_TRIED.contains(&name.as_str())) {
            if !self.one_in(3) {
                continue;
            }
            let key = match rule["max_index"].as_u64() {
                Some(most) => name.replace("[n]", &self.any(0..=most).to_string()),
                None => name.clone(),
            };
            let value = self.value(&key, rule);
            config.insert(key, value);
        }
        let memory = self.any(16_u32..4096);
        config
            .insert("memory".to_owned(), if self.one_in(2) { memory.to_string() } else { format!("current={memory}") });
        self.drives(&mut config, disks);
        config
    }

    /// Drives name what is there; the rest of their lines is as it came. One that would be too much names a path or nothing.
    fn drives(&mut self, config: &mut BTreeMap<String, String>, disks: &[String]) {
        let mut disks = disks.iter();
        let is_drive = |key: &str| {
            let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
            ["scsi", "virtio", "sata", "ide", "efidisk", "tpmstate"].contains(&stem) && stem != key
        };
        for (key, line) in config.iter_mut().filter(|(key, _)| is_drive(key)) {
            let dropped = ["file=", "volume=", "import-from=", "format=", "size=", "media="];
            let options: Vec<String> = line
                .split(',')
                .filter(|part| part.contains('=') && !dropped.iter().any(|key| part.starts_with(key)))
                .map(str::to_owned)
                .collect();
            let size =
                self.pick(&["", ",size=1G", ",size=1024M", ",size=1048576K", ",size=1073741824", ",size=31458K"]);
            let volume = match disks.next() {
                Some(volume) => volume.clone(),
                // EFI variables and TPM state are on no CD.
                None if key.starts_with("efidisk") || key.starts_with("tpmstate") => {
                    line.clear();
                    continue;
                }
                None => "none,media=cdrom".to_owned(),
            };
            let size = if volume.starts_with("none") { "" } else { size };
            let file = if self.one_in(4) { "file=" } else { "" };
            *line = [vec![format!("{file}{volume}{size}")], options].concat().join(",");
        }
        config.retain(|key, line| !is_drive(key) || !line.is_empty());
    }

    fn value(&mut self, key: &str, rule: &Json) -> String {
        if let Some(values) = rule["enum"].as_array() {
            let at = self.any(0..values.len());
            return values[at].as_str().map_or_else(|| values[at].to_string(), str::to_owned);
        }
        if let Some(shape) = rule["shape"].as_str() {
            return self.properties(key, shape);
        }
        if let Some(format) = rule["format"].as_str() {
            return self.format(key, format);
        }
        if let Some(pattern) = rule["pattern"].as_str() {
            return self.matching(pattern);
        }
        let least = rule["minimum"].as_f64().unwrap_or(0.0);
        let most = rule["maximum"].as_f64().unwrap_or(least + 8.0).min(least + 8.0);
        match rule["type"].as_str() {
            Some("boolean") => self.pick(&["0", "1"]).to_owned(),
            Some("integer") => self.any(least as i64..=most as i64).to_string(),
            Some("number") => format!("{}", self.any(least as i64..=most as i64) as f64 + 0.5).replace("8.5", "8"),
            _ => self.text(key),
        }
    }

    fn text(&mut self, key: &str) -> String {
        match key {
            "description" => self.any("[ a-zA-Z0-9äß%#=:;\n-]{0,60}[ \n\t]{0,3}"),
            "searchdomain" => self.pick(&["example.net", "a.example b.example", " "]).to_owned(),
            _ => self.any("[a-z0-9äß=;%][ a-z0-9äß=;,%-]{0,10}"),
        }
    }

    fn format(&mut self, key: &str, format: &str) -> String {
        let known = self.table["formats"][format].clone();
        match (format, known["kind"].as_str()) {
            ("address-list", _) => {
                let separator = self.pick(&[" ", ",", ";", ", ", "  "]);
                let mut all = vec!["1.1.1.1", "8.8.8.8", "2001:db8::1", "ns.example.net"];
                all.truncate(self.any(1_usize..=4));
                all.join(separator)
            }
            ("pve-qm-bootdev-list", _) => {
                self.pick(&["scsi0", "usb0;scsi0", "hostpci3", "net0;ide2;usb13", "scsi0;scsi0"]).to_owned()
            }
            ("pve-qm-bootdisk", _) => "scsi0".to_owned(),
            ("pve-cpuset", _) => "0-1,3".to_owned(),
            ("pve-phys-bits", _) => "host".to_owned(),
            ("pve-startup-order", _) => self.pick(&["1", "order=1,up=30"]).to_owned(),
            ("pve-hotplug-features", _) => self.pick(&["0", "1", "network,disk", "disk;cpu;memory"]).to_owned(),
            ("pve-ipv4-config", _) => self.pick(&["dhcp", "10.1.20.5/24"]).to_owned(),
            ("pve-ipv6-config", _) => self.pick(&["auto", "dhcp", "2001:db8::5/64"]).to_owned(),
            ("ipv4", _) => "10.1.20.1".to_owned(),
            ("ipv6", _) => "2001:db8::1".to_owned(),
            ("urlencoded", _) => "ssh-ed25519%20AAAA%20me%0A".to_owned(),
            ("pve-bridge-id", _) => self.pick(&["vmbr0", "vmbr1"]).to_owned(),
            ("pve-volume-id-or-qm-path" | "pve-volume-id" | "pve-volume-id-or-absolute-path", _) => {
                self.pick(&["local:snippets/x.yaml", "ceph-pool:vm-9-disk-0"]).to_owned()
            }
            (_, Some("list")) => {
                let of = known["of"].as_str().unwrap_or_default().to_owned();
                let many = self.any(1_usize..4);
                let separator = self.pick(&[";", ",", " "]);
                (0..many).map(|_| self.format(key, &of)).collect::<Vec<_>>().join(separator)
            }
            (_, Some("property-string")) => self.properties(key, known["shape"].as_str().unwrap_or_default()),
            (_, Some("regex")) => self.matching(known["regex"].as_str().unwrap_or_default()),
            _ => self.any("[a-z][a-z0-9]{1,8}"),
        }
    }

    /// A text that a pattern of Perl's allows, in ASCII.
    fn matching(&mut self, pattern: &str) -> String {
        let plain = pattern
            .replace("(?i:", "(?:")
            .replace("\\d", "[0-9]")
            .replace("\\S", "[!-~]")
            .replace(".+", "[a-z0-9/_-]{1,9}");
        let plain = plain.replace("[-_.\\w[0-9]]", "[-_.a-zA-Z0-9]").replace("\\s", " ");
        let plain: String = plain.chars().filter(|c| *c != '^' && *c != '$').collect();
        // What is excluded begins with the `^` that went.
        let plain = plain.replace("[/\\.:]+", "[a-z0-9]{1,6}").replace("[,;]+", "[a-z0-9.]{1,6}");
        let strategy = proptest::string::string_regex(&plain).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let text: String = self.any(strategy);
        // Cut where it is long; a name ends in a letter or digit.
        let cut: String = text.chars().take(40).collect();
        if cut == text { text } else { cut.trim_end_matches(['-', '.', '_', ';']).to_owned() }
    }

    fn properties(&mut self, key: &str, shape: &str) -> String {
        let rules = self.table["shapes"][shape].as_object().cloned().unwrap_or_default();
        let mut parts = Vec::new();
        for (name, rule) in &rules {
            let alias = rule["alias"].is_string() || rule["keyAlias"].is_string();
            let needed = rule["optional"] != true && rule["optional"] != 1;
            if alias || !(needed || self.one_in(3)) || (rule["type"].is_null() && rule["enum"].is_null()) {
                continue;
            }
            let value = match rule["type"].as_str() {
                Some("boolean") => self.pick(&["0", "1", "yes", "off", "true"]).to_owned(),
                // Its check is code: a model of Proxmox VE's, or one of the datacenter's own.
                _ if name == "cputype" => {
                    self.pick(&["host", "kvm64", "x86-64-v2-AES", "custom-x", "EPYC-v4"]).to_owned()
                }
                _ => self.value(key, rule),
            };
            let bare = !rule["default_key"].is_null() && self.one_in(2);
            let value = value.replace(',', "");
            if bare {
                parts.insert(0, value);
            } else {
                parts.push(format!("{name}={value}"));
            }
        }
        if key.starts_with("net") && !parts.iter().any(|part| part.contains("macaddr")) {
            let model = self.pick(&["virtio", "e1000-82545em", "vmxnet3", "ne2k_pci"]);
            parts.retain(|part| !part.starts_with("model=") && part.contains('='));
            let mac = self.pick(&["BC:24:11:0a:0b:0C", "bc:24:11:00:00:01"]);
            parts.insert(0, format!("{model}={mac}"));
        }
        parts.join(",")
    }
}

/// The configuration that a CLI generates of an imported machine: every value of state that may be configured.
fn generated(attributes: &[Attribute], state: &Value) -> Value {
    Value::object(attributes.iter().map(|attribute| {
        let value = state.attr(&attribute.name);
        let written = attribute.required || attribute.optional;
        let value = match &attribute.kind {
            _ if !written || value.is_null() => Value::Null,
            AttributeKind::Nested { mode: NestingMode::Single, attributes } => generated(attributes, value),
            AttributeKind::Nested { mode: NestingMode::Map, attributes } => {
                let map = value.as_map().into_iter().flatten();
                Value::map(map.map(|(key, value)| (key.clone(), generated(attributes, value))))
            }
            _ => value.clone(),
        };
        (attribute.name.clone(), value)
    }))
}

/// One machine of the run.
struct Case<'a> {
    world: &'a World,
    core: CoreClient,
    seed: u64,
    vmid: u32,
    set: BTreeMap<String, String>,
}

impl Case<'_> {
    fn told(&self, what: &str, said: &Diagnostics) -> String {
        format!("seed {}: {what}: {said:?}\n{:#?}", self.seed, self.set)
    }

    async fn plan(&self, state: &State, config: &Value, what: &str) -> protocol::testing::Planned {
        let said = self.core.validate(TYPE, config.clone()).await.expect("an answer");
        assert!(!said.has_errors(), "{}", self.told(what, &said));
        let plan = self.core.plan(TYPE, state, config).await.expect("a plan");
        assert!(!plan.diagnostics.has_errors(), "{}", self.told(what, &plan.diagnostics));
        assert_eq!(plan.violations, Vec::<String>::new(), "{}", self.told(what, &plan.diagnostics));
        plan
    }

    async fn read(&self, state: &State, what: &str) -> State {
        let (state, said) = self.core.read(TYPE, state).await.expect("an answer");
        assert!(!said.has_errors(), "{}", self.told(what, &said));
        assert!(!state.value.is_null(), "{}", self.told(what, &said));
        state
    }

    /// Imported, and the configuration that is generated of it plans nothing, now and later.
    async fn import(&self) -> (State, Value) {
        let (found, said) = self.core.import(TYPE, &format!("{FROM}/{}", self.vmid)).await.expect("an answer");
        assert!(!said.has_errors() && found.len() == 1, "{}", self.told("import", &said));
        let state = State { value: found[0].state.clone(), private: found[0].private.clone() };
        let state = self.read(&state, "read").await;
        let attributes = self.core.schema().resources[TYPE].attributes.clone();
        let config = generated(&attributes, &state.value);
        for what in ["what was generated", "the same again"] {
            let plan = self.plan(&state, &config, what).await;
            assert_eq!(plan.planned_state, state.value, "{}", self.told(what, &plan.diagnostics));
        }
        (state, config)
    }

    /// A change around what is odd is made, and is all that changes.
    async fn change(&self, state: &State, config: &Value) -> (State, Value) {
        let config = config.clone().with_attr("on_boot", config.attr("on_boot") != &true.into());
        let before = self.world.sim.cluster(FROM).vm(self.vmid).expect("the machine").config;
        let plan = self.plan(state, &config, "a change").await;
        let done = self.core.apply(TYPE, state, &config, &plan).await.expect("an answer");
        assert!(!done.diagnostics.has_errors(), "{}", self.told("a change", &done.diagnostics));
        let mut after = self.world.sim.cluster(FROM).vm(self.vmid).expect("the machine").config;
        after.insert("onboot".to_owned(), before.get("onboot").cloned().unwrap_or_default());
        let mut before = before;
        before.entry("onboot".to_owned()).or_default();
        // A machine in no pool says itself that it is managed.
        before.remove("description");
        after.remove("description");
        assert_eq!(after, before, "{}", self.told("what is changed", &done.diagnostics));
        let state = self.read(&done.state, "read after a change").await;
        let plan = self.plan(&state, &config, "after a change").await;
        assert_eq!(plan.planned_state, state.value, "{}", self.told("after a change", &plan.diagnostics));
        (state, config)
    }

    /// It moves, or is refused with nothing touched, by the plan or by apply; where it is then.
    async fn go(&self, state: &State, config: &Value) -> State {
        let config = config.clone().with_attr("cluster", TO).with_attr("node", Value::Null);
        let devices = config.attr("network_devices").as_map().cloned().unwrap_or_default();
        // What the cluster made of a network is another's elsewhere.
        let devices = devices.into_iter().map(|(slot, nic)| {
            let named = !nic.attr("network").is_null();
            (slot, if named { nic.with_attr("bridge", Value::Null).with_attr("vlan", Value::Null) } else { nic })
        });
        let config = config.with_attr("network_devices", Value::map(devices));
        let plan = self.core.plan(TYPE, state, &config).await.expect("a plan");
        if plan.diagnostics.has_errors() {
            // The plan refuses what the rules forbid there: by name, on the attribute.
            let told = self.told("a move", &plan.diagnostics);
            assert!(told.contains("may not be on"), "{told}");
            return self.read(state, "read after a refusal").await;
        }
        assert_eq!(plan.violations, Vec::<String>::new(), "{}", self.told("a move", &plan.diagnostics));
        let before = self.world.sim.cluster(FROM).vm(self.vmid).expect("the machine").config;
        let done = self.core.apply(TYPE, state, &config, &plan).await.expect("an answer");
        if done.diagnostics.has_errors() {
            let told = self.told("a move", &done.diagnostics);
            assert!(told.contains("nothing was touched"), "{told}");
            assert_eq!(self.world.sim.cluster(FROM).vm(self.vmid).expect("the machine").config, before, "{told}");
        }
        self.read(&done.state, "read after a move").await
    }

    async fn destroy(&self, state: &State) {
        let plan = self.plan_destroy(state).await;
        let done = self.core.apply(TYPE, state, &Value::Null, &plan).await.expect("an answer");
        if done.diagnostics.has_errors() {
            let told = self.told("destroy", &done.diagnostics);
            assert!(told.contains("its protection is on"), "{told}");
            for cluster in [FROM, TO] {
                self.world.sim.cluster(cluster).set_config(self.vmid, "protection", Some("0"));
            }
            let done = self.core.apply(TYPE, state, &Value::Null, &plan).await.expect("an answer");
            assert!(!done.diagnostics.has_errors(), "{}", self.told("destroy", &done.diagnostics));
        }
        let is_there = |cluster: &&str| self.world.sim.cluster(cluster).vm(self.vmid).is_some();
        assert_eq!([FROM, TO].iter().filter(|c| is_there(c)).count(), 0, "seed {}: it is there still", self.seed);
    }

    async fn plan_destroy(&self, state: &State) -> protocol::testing::Planned {
        let plan = self.core.plan(TYPE, state, &Value::Null).await.expect("a plan");
        assert!(!plan.diagnostics.has_errors(), "{}", self.told("destroy", &plan.diagnostics));
        plan
    }
}

/// A machine made by hand with what the grammar gives for this seed.
fn made(world: &World, seed: u64) -> (u32, BTreeMap<String, String>) {
    let mut grammar = Grammar::new(seed);
    let vmid = 5000 + u32::try_from(seed).expect("small");
    let cluster = world.sim.cluster(FROM);
    let uuid = format!("0a1b2c3d-0000-4000-8000-{seed:012}");
    let base = [
        ("name".to_owned(), format!("odd-{seed}")),
        ("memory".to_owned(), "512".to_owned()),
        ("smbios1".to_owned(), format!("uuid={uuid}")),
        ("scsi0".to_owned(), "ceph-pool:1".to_owned()),
        ("scsi1".to_owned(), "ceph-pool:1".to_owned()),
    ];
    let guest = GuestSpec { vmid, node: "ws1".into(), config: base.into(), pool: None, running: false };
    cluster.create_vm(&guest).expect("a machine made by hand");
    let made = cluster.vm(vmid).expect("the machine").config;
    let volume = |slot: &str| made[slot].split(',').next().unwrap_or_default().to_owned();
    let mut set = grammar.config(&[volume("scsi0"), volume("scsi1")]);
    let smbios = set.get("smbios1").map(|line| {
        let rest = line.split(',').filter(|part| !part.starts_with("uuid=")).map(|part| format!(",{part}"));
        rest.collect::<String>()
    });
    set.insert("smbios1".to_owned(), format!("uuid={}{}", uuid.to_uppercase(), smbios.unwrap_or_default()));
    for slot in ["scsi0", "scsi1"] {
        cluster.set_config(vmid, slot, None);
    }
    if grammar.one_in(4) {
        cluster.set_config(vmid, "name", None);
    }
    if seed.is_multiple_of(2) {
        // Without what ties it to its node, so that not all are refused.
        set.retain(|key, _| !TIES.contains(&key.trim_end_matches(|c: char| c.is_ascii_digit())));
        set.insert("net0".to_owned(), "virtio=BC:24:11:0a:0b:0C,bridge=vmbr0,tag=120".to_owned());
        set.retain(|key, _| key == "net0" || !key.starts_with("net"));
    }
    for (key, value) in &set {
        cluster.set_config(vmid, key, Some(value));
    }
    (vmid, set)
}

/// The life of one machine; whether it could move.
async fn life(world: Arc<World>, seed: u64) -> bool {
    let (vmid, set) = made(&world, seed);
    let case = Case { world: &world, core: world.core().await, seed, vmid, set };
    let (state, config) = case.import().await;
    let (state, config) = case.change(&state, &config).await;
    let state = case.go(&state, &config).await;
    case.destroy(&state).await;
    state.value.attr("cluster").as_str() == Some(TO)
}

#[tokio::test]
async fn any_configuration_is_read_planned_changed_moved_and_destroyed() {
    let world = Arc::new(World::start().await);
    let (mut moved, mut failed) = (0, Vec::new());
    for seed in 0..SEEDS {
        match tokio::spawn(life(world.clone(), seed)).await {
            Ok(has_moved) => moved += u32::from(has_moved),
            Err(_) => failed.push(seed),
        }
    }
    assert_eq!(failed, Vec::<u64>::new(), "seeds whose machines did not make it");
    assert!(moved > SEEDS as u32 / 10, "{moved} of {SEEDS} moved");
}
