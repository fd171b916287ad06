//! Owns the way from a planned virtual machine to what the rules and the operations work with, and its static checks.
use std::collections::{BTreeMap, BTreeSet};

use federation::model::{Capability, NicRequest, Tier};
use federation::names::{STORAGE_ENDS, VALUE_ENDS};
use federation::placement::{Current, DiskRequest, Request};
use federation::{Bytes, ClusterName, PoolName, Slot, Span, Tag, VmName};
use operations::{Cpu, DiskWish, HealthWish, MigrationWish, NIC_MODELS, NicWish, OnUnhealthy, Source, VmSpec};
use protocol::{AttributePath, Diagnostics, Step, Value};

use crate::values::text;

mod first_boot;
mod fresh;
mod reader;

pub(crate) use fresh::{fresh, networks};
use reader::{is_mac, is_web_address};

/// What a request for placement was made of, or the inputs that are not known yet.
pub(crate) type Requested = Result<Request, Vec<String>>;

/// The inputs of placement that the configuration leaves unknown, by path.
fn unknown_inputs(planned: &Value) -> Vec<String> {
    let relevant = [
        "name",
        "pool",
        "ordinal",
        "location",
        "tier",
        "needs",
        "cpu",
        "memory",
        "disks",
        "network_devices",
        "tags",
        "vmid",
        "clone",
    ];
    let mut unknown = Vec::new();
    for name in relevant {
        planned.attr(name).walk(&mut |path, value| {
            let computed = matches!(path.steps.last(), Some(Step::Attribute(leaf))
                if ["volume", "mac", "bridge", "vlan"].contains(&leaf.as_str()));
            if value.is_unknown() && !computed && name != "vmid" {
                unknown.push(if path.is_root() { name.to_owned() } else { format!("{name}.{path}") });
            }
        });
    }
    unknown
}

/// The placement-relevant part of a planned machine. `pin` is the configured cluster.
pub(crate) fn request(planned: &Value, pin: Option<&str>, current: Option<Current>) -> Requested {
    let unknown = unknown_inputs(planned);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let spec = spec(planned);
    let mut request = Request::new(spec.name.clone());
    request.pool = spec.pool.clone();
    request.pin = pin.and_then(|name| ClusterName::new(name).ok());
    // A node that was chosen at apply is no wish of the user's.
    request.node = None;
    request.ordinal = planned.attr("ordinal").as_u64().and_then(|number| u32::try_from(number).ok());
    request.location = text(planned, "location");
    request.tier = text(planned, "tier").and_then(|tier| tier.parse().ok());
    request.needs = needs(planned).filter_map(|need| need.parse().ok()).collect();
    request.cpus = spec.vcpus();
    request.memory = spec.memory;
    let disk = |wish: &DiskWish| DiskRequest { size: wish.size, storage: wish.storage.clone() };
    request.disks = spec.disks.iter().map(|(slot, wish)| (*slot, disk(wish))).collect();
    let nic =
        |wish: &NicWish| NicRequest { network: wish.network.clone(), bridge: wish.bridge.clone(), vlan: wish.vlan };
    let placed = |wish: &NicWish| wish.network.is_some() || wish.bridge.is_some();
    request.nics = spec.nics.iter().filter(|(_, wish)| placed(wish)).map(|(slot, wish)| (*slot, nic(wish))).collect();
    request.tags = spec.tags.iter().flatten().filter_map(|tag| Tag::new(tag).ok()).collect();
    // Where it is already, nothing is copied any more.
    request.template = spec.clone.map(|clone| clone.template).filter(|_| current.is_none());
    request.current = current;
    Ok(request)
}

/// What a planned machine shall be, or one in state is. Parts that are not known yet are left out. It is always read: state and
/// what a plan took from it hold what somebody else set, which no rule for configurations is about ([`validate`] is the place of those).
pub(crate) fn spec(value: &Value) -> VmSpec {
    Reader { diags: &mut Diagnostics::new() }.spec(value)
}

fn needs(value: &Value) -> impl Iterator<Item = &str> {
    value.attr("needs").as_list().into_iter().flatten().filter_map(Value::as_str)
}

/// What a machine is called in messages: its name, or its VMID where it has none.
pub(crate) fn called(value: &Value) -> String {
    let name = text(value, "name").filter(|name| !name.is_empty());
    name.unwrap_or_else(|| VmName::of_vmid(vmid(value).unwrap_or_default()).to_string())
}

fn vmid(value: &Value) -> Option<u32> {
    value.attr("vmid").as_u64().and_then(|vmid| u32::try_from(vmid).ok())
}

/// Static checks of a configuration: everything that is wrong whatever the clusters say. Unknown values pass. What may stand there
/// only because the machine is so already is [`fresh`]'s.
pub(crate) fn validate(config: &Value, diags: &mut Diagnostics) {
    let mut reader = Reader { diags };
    reader.spec(config);
    if let Some(Err(error)) = config.attr("tier").as_str().map(str::parse::<Tier>) {
        diags.error_at(AttributePath::new("tier"), "Invalid tier", error.to_string());
    }
    for error in needs(config).filter_map(|need| need.parse::<Capability>().err()) {
        diags.error_at(AttributePath::new("needs"), "Invalid needs", error.to_string());
    }
    let unset = |name: &str| config.attr(name).is_null();
    if unset("pool") && unset("cluster") {
        diags.error_at(
            AttributePath::new("pool"),
            "A virtual machine needs a pool or a cluster",
            "Set `pool` to have its policy place the machine, or `cluster` to pin it; both may be set.",
        );
    }
}

/// Reads values, and reports on its path what can't be read. Null and unknown values read as nothing.
struct Reader<'a> {
    diags: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn spec(&mut self, value: &Value) -> VmSpec {
        let root = AttributePath::root();
        let name = self.name(value);
        let pool: Option<PoolName> = self.parsed(value, &root, "pool");
        let _cluster: Option<ClusterName> = self.parsed(value, &root, "cluster");
        let vmid = self.number(value, &root, "vmid", 100, 999_999_999);
        self.number(value, &root, "ordinal", 1, 1_000_000);
        let memory = self.memory(value);
        let tags = self.tags(value);
        let description = self.description(value);
        self.word(value, &root, "bios", &["seabios", "ovmf"]);
        self.timeouts(value);
        VmSpec {
            named: name.is_some(),
            name: name.unwrap_or_else(|| VmName::of_vmid(vmid.unwrap_or_default())),
            pool,
            vmid,
            node: text(value, "node"),
            cpu: self.cpu(value.attr("cpu")),
            memory: memory.unwrap_or(Bytes::from_gib(2)),
            disks: self.slots(value, "disks", true, Reader::disk),
            nics: self.slots(value, "network_devices", false, Reader::nic),
            tags,
            description,
            started: value.attr("started").as_bool().unwrap_or(true),
            on_boot: value.attr("on_boot").as_bool().unwrap_or(true),
            protection: value.attr("protection").as_bool().unwrap_or(false),
            agent: value.attr("agent").as_bool().unwrap_or(false),
            bios: text(value, "bios"),
            machine: self.part(value, &root, "machine", &[';']),
            boot_order: self.boot_order(value),
            clone: self.clone_of(value.attr("clone")),
            cloud_init: self.cloud_init(value.attr("cloud_init")),
            reboot: self.reboot_policy(value),
            migration: self.migration(value.attr("migration")),
        }
    }

    fn cpu(&mut self, value: &Value) -> Cpu {
        let root = AttributePath::new("cpu");
        let model = self.part(value, &root, "type", VALUE_ENDS);
        Cpu {
            cores: self.number(value, &root, "cores", 1, u32::MAX).unwrap_or(super::schema::defaults::CORES),
            sockets: self.number(value, &root, "sockets", 1, u32::MAX).unwrap_or(super::schema::defaults::SOCKETS),
            model: model.unwrap_or_else(|| super::schema::defaults::CPU_TYPE.to_owned()),
        }
    }

    /// The name; none where an import found a machine without one (`fresh` refuses that elsewhere).
    fn name(&mut self, value: &Value) -> Option<VmName> {
        value.attr("name").as_str().filter(|name| !name.is_empty())?;
        self.parsed(value, &AttributePath::root(), "name")
    }

    fn memory(&mut self, value: &Value) -> Option<Bytes> {
        let memory = self.size(value, &AttributePath::root(), "memory")?;
        let at = || AttributePath::new("memory");
        let least = Bytes::from_mib(16);
        if value.attr("memory").as_str().is_some_and(|text| text.parse::<Bytes>().is_err()) {
            // It was said that this is no size.
            return Some(memory);
        }
        if !memory.0.is_multiple_of(Bytes::MIB.0) {
            self.diags.error_at(at(), "Invalid memory", format!("{memory} is not a whole number of MiB."));
        } else if memory < least {
            self.diags.error_at(at(), "Invalid memory", format!("{memory} is less than the least, {least}."));
        }
        Some(memory)
    }

    fn slots<T>(
        &mut self,
        value: &Value,
        name: &str,
        disks: bool,
        read: fn(&mut Self, &Value, &AttributePath) -> Option<T>,
    ) -> BTreeMap<Slot, T> {
        let mut found = BTreeMap::new();
        for (key, value) in value.attr(name).as_map().into_iter().flatten() {
            let path = AttributePath::new(name).key(key.as_str());
            match key.parse::<Slot>() {
                Ok(slot) if slot.is_disk() == disks => {
                    if let Some(one) = read(self, value, &path) {
                        found.insert(slot, one);
                    }
                }
                Ok(_) | Err(_) => {
                    let accepted = if disks { "scsi0–30, virtio0–15, sata0–5 or ide0–3" } else { "net0–31" };
                    self.diags.error_at(path, "No such slot", format!("{key:?} is not a slot here: {accepted}."));
                }
            }
        }
        found
    }

    fn disk(&mut self, value: &Value, path: &AttributePath) -> Option<DiskWish> {
        self.word(value, path, "format", &["raw", "qcow2", "vmdk"]);
        let virtio = matches!(path.steps.last(), Some(Step::Key(slot)) if slot.starts_with("virtio"));
        if virtio && value.attr("ssd").as_bool() == Some(true) {
            let detail = "A disk on a virtio slot has no such property in Proxmox VE: use a scsi slot.";
            self.diags.error_at(path.clone().attribute("ssd"), "A virtio disk is never shown as an SSD", detail);
        }
        Some(DiskWish {
            size: self.size(value, path, "size")?,
            storage: self.part(value, path, "storage", STORAGE_ENDS).filter(|storage| !storage.is_empty()),
            format: text(value, "format"),
            ssd: value.attr("ssd").as_bool().unwrap_or(false),
            discard: value.attr("discard").as_bool().unwrap_or(false),
            backup: value.attr("backup").as_bool().unwrap_or(true),
            volume: text(value, "volume"),
        })
    }

    fn nic(&mut self, value: &Value, path: &AttributePath) -> Option<NicWish> {
        self.word(value, path, "model", &NIC_MODELS);
        let mac = text(value, "mac");
        if mac.as_deref().is_some_and(|mac| !is_mac(mac)) {
            let detail =
                "A MAC address is six pairs of hexadecimal digits, and not a multicast one: `BC:24:11:00:00:01`.";
            self.diags.error_at(path.clone().attribute("mac"), "Not a MAC address", detail);
        }
        let network = self.part(value, path, "network", VALUE_ENDS);
        let bridge = self.part(value, path, "bridge", VALUE_ENDS);
        let named = network.is_some();
        let vlan = self.number(value, path, "vlan", 1, 4094);
        Some(NicWish {
            network,
            bridge: bridge.filter(|_| !named),
            vlan: vlan.filter(|_| !named).and_then(|vlan| u16::try_from(vlan).ok()),
            model: text(value, "model").unwrap_or_else(|| super::schema::defaults::NIC_MODEL.to_owned()),
            mac: mac.map(|mac| mac.to_ascii_uppercase()),
            firewall: value.attr("firewall").as_bool().unwrap_or(false),
        })
    }

    fn migration(&mut self, value: &Value) -> MigrationWish {
        let path = AttributePath::new("migration");
        let mut wish = MigrationWish::default();
        self.word(value, &path, "method", &["backup-restore"]);
        self.word(value, &path, "source", &["keep", "delete"]);
        if value.attr("source").as_str() == Some("delete") {
            wish.source = Source::Delete;
        }
        let times = [
            ("keep_source", &mut wish.keep_source),
            ("keep_archive", &mut wish.keep_archive),
            ("shutdown_timeout", &mut wish.shutdown_timeout),
        ];
        for (name, place) in times {
            if let Some(span) = self.parsed::<Span>(value, &path, name) {
                *place = span;
            }
        }
        wish.max_downtime = self.parsed(value, &path, "max_downtime");
        self.word(value, &path, "on_unhealthy", &["keep", "return"]);
        if value.attr("on_unhealthy").as_str() == Some("return") {
            wish.on_unhealthy = OnUnhealthy::Return;
        }
        wish.health = self.health(value.attr("health"), &path.clone().attribute("health"));
        wish.force_stop = value.attr("force_stop").as_bool().unwrap_or(false);
        let known = federation::migration::ACCEPTED_LOSSES;
        for loss in value.attr("accept_loss").as_list().into_iter().flatten().filter_map(Value::as_str) {
            if known.contains(&loss) {
                wish.accept_loss.insert(loss.to_owned());
            } else {
                let detail = format!("{loss:?} is not one of {}.", known.join(", "));
                self.diags.error_at(path.clone().attribute("accept_loss"), "Unknown loss", detail);
            }
        }
        wish
    }

    fn health(&mut self, value: &Value, path: &AttributePath) -> Option<HealthWish> {
        if value.is_null() || value.is_unknown() {
            return None;
        }
        let deadline = self.parsed(value, path, "deadline").unwrap_or(Span::from_secs(300));
        let tcp = text(value, "tcp");
        let port = |address: &str| {
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if tcp.as_deref().is_some_and(|address| !port(address)) {
            self.diags.error_at(
                path.clone().attribute("tcp"),
                "Not an address",
                "`host:port` is accepted: `10.1.2.3:443`.",
            );
        }
        let http = text(value, "http");
        if http.as_deref().is_some_and(|url| !is_web_address(url)) {
            let detail = "`http://` or `https://`, a host and a path are accepted: `http://10.1.2.3/healthz`.";
            self.diags.error_at(path.clone().attribute("http"), "Not a web address", detail);
        }
        Some(HealthWish { agent: value.attr("agent").as_bool().unwrap_or(false), tcp, http, deadline })
    }

    fn tags(&mut self, value: &Value) -> Option<BTreeSet<String>> {
        let mut tags = BTreeSet::new();
        for tag in value.attr("tags").as_list()?.iter().filter_map(Value::as_str) {
            if let Err(error) = Tag::new(tag) {
                self.diags.error_at(AttributePath::new("tags"), "Not a tag", error.to_string());
            }
            tags.insert(tag.to_owned());
        }
        Some(tags)
    }

    fn description(&mut self, value: &Value) -> Option<String> {
        let description = text(value, "description")?;
        if description.chars().count() > DESCRIPTION_MAX {
            let detail = format!("At most {DESCRIPTION_MAX} characters: Proxmox VE takes no more.");
            self.diags.error_at(AttributePath::new("description"), "The description is too long", detail);
        }
        Some(description)
    }

    fn timeouts(&mut self, value: &Value) {
        for name in ["create", "update", "delete"] {
            self.parsed::<Span>(value.attr("timeouts"), &AttributePath::new("timeouts"), name);
        }
    }
}

/// What Proxmox VE takes (`proxmox-ve.md` §4).
const DESCRIPTION_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a new machine with this configuration is refused for.
    fn errors(config: Value) -> Vec<(String, String)> {
        let mut diags = Diagnostics::new();
        validate(&config, &mut diags);
        fresh(&config, &Value::Null, &crate::private::Private::default(), &mut diags);
        let path = |path: &Option<AttributePath>| path.as_ref().map(ToString::to_string).unwrap_or_default();
        diags.iter().map(|diag| (path(&diag.path), diag.summary.clone())).collect()
    }

    fn base() -> Value {
        Value::object([("name", "web-1"), ("pool", "production-pool")])
    }

    #[test]
    fn each_mistake_is_reported_on_its_attribute() {
        let disk = |size: &str| Value::map([("scsi0", Value::object([("size", size)]))]);
        let nic = |nic: Value| Value::map([("net0", nic)]);
        let address = |name: &str, ip: &str| {
            let addresses = Value::map([("net0", Value::object([(name, ip)]))]);
            base().with_attr("cloud_init", Value::object([("addresses", addresses)]))
        };
        let cases: Vec<(&str, Value, &str)> = vec![
            ("name", base().with_attr("name", "not a name"), "name"),
            ("pool", base().with_attr("pool", "moxxie-x"), "pool"),
            ("neither", base().with_attr("pool", Value::Null), "pool"),
            ("vmid", base().with_attr("vmid", 99), "vmid"),
            ("cores", base().with_attr("cpu", Value::object([("cores", 0)])), "cpu.cores"),
            ("memory unit", base().with_attr("memory", "4 parsecs"), "memory"),
            ("memory least", base().with_attr("memory", "1MB"), "memory"),
            ("fraction of a MiB", base().with_attr("memory", "100000001"), "memory"),
            ("disk size", base().with_attr("disks", disk("big")), r#"disks["scsi0"].size"#),
            ("disk slot", base().with_attr("disks", Value::map([("scsi99", Value::Null)])), r#"disks["scsi99"]"#),
            (
                "no network",
                base().with_attr("network_devices", nic(Value::Null.with_attr("model", "virtio"))),
                r#"network_devices["net0"]"#,
            ),
            (
                "mac",
                base().with_attr(
                    "network_devices",
                    nic(Value::object([("network", "app"), ("mac", "01:00:00:00:00:00")])),
                ),
                r#"network_devices["net0"].mac"#,
            ),
            ("tags", base().with_attr("tags", Value::set(["we b"])), "tags"),
            ("no name", base().with_attr("name", ""), "name"),
            ("part of a MiB", base().with_attr("disks", disk("31458K")), r#"disks["scsi0"].size"#),
            ("no size", base().with_attr("disks", disk("0B")), r#"disks["scsi0"].size"#),
            ("migration", base().with_attr("migration", Value::object([("source", "burn")])), "migration.source"),
            ("time", base().with_attr("migration", Value::object([("keep_source", "soon")])), "migration.keep_source"),
            (
                "web address",
                base().with_attr(
                    "migration",
                    Value::Null.with_attr("health", Value::object([("http", "ftp://10.1.2.3/")])),
                ),
                "migration.health.http",
            ),
            (
                "loss",
                base().with_attr("migration", Value::Null.with_attr("accept_loss", Value::set(["all"]))),
                "migration.accept_loss",
            ),
            ("description", base().with_attr("description", "x".repeat(8000)), "description"),
            ("policy", base().with_attr("reboot_policy", "never"), "reboot_policy"),
            ("boot", base().with_attr("boot_order", Value::list(["scsi0", "floppy"])), "boot_order[1]"),
            ("boot index", base().with_attr("boot_order", Value::list(["usb14"])), "boot_order[0]"),
            ("boot twice", base().with_attr("boot_order", Value::list(["scsi0", "scsi0"])), "boot_order[1]"),
            ("template", base().with_attr("clone", Value::object([("template", "")])), "clone.template"),
            (
                "key",
                base().with_attr("cloud_init", Value::object([("ssh_keys", Value::list(["x"]))])),
                "cloud_init.ssh_keys[0]",
            ),
            ("dns", base().with_attr("cloud_init", Value::object([("dns", Value::list(["x"]))])), "cloud_init.dns[0]"),
            ("address", address("ipv4", "10.1.2.3"), r#"cloud_init.addresses["net0"].ipv4"#),
            ("gateway", address("gateway4", "10.1.2.1"), r#"cloud_init.addresses["net0"].gateway4"#),
            (
                "virtio ssd",
                base().with_attr(
                    "disks",
                    Value::map([("virtio0", Value::object([("size", Value::from("1GB")), ("ssd", true.into())]))]),
                ),
                r#"disks["virtio0"].ssd"#,
            ),
        ];
        for (what, config, path) in cases {
            let found = errors(config);
            assert!(found.iter().any(|(at, _)| at == path), "{what}: {found:?}");
        }
        assert_eq!(errors(base()), []);
    }

    #[test]
    fn what_would_end_a_value_in_proxmox_ve_is_reported_on_its_attribute() {
        let cpu = |model: &str| base().with_attr("cpu", Value::object([("type", model)]));
        let disk = |storage: &str| {
            base().with_attr("disks", Value::map([("scsi0", Value::object([("size", "1GB"), ("storage", storage)]))]))
        };
        let nic = |name: &str, text: &str| {
            let nic = Value::object([(name, text), (if name == "network" { "bridge" } else { "model" }, "virtio")]);
            base().with_attr("network_devices", Value::map([("net0", nic)]))
        };
        let user = |user: &str| base().with_attr("cloud_init", Value::object([("user", user)]));
        let device = |name: &str| format!(r#"network_devices["net0"].{name}"#);
        for ends in [",", ";", "=", " ", "\n", ",flags=+pcid"] {
            let cases = [
                (cpu(&format!("host{ends}")), "cpu.type".to_owned()),
                (disk(&format!("fast{ends}")), r#"disks["scsi0"].storage"#.to_owned()),
                (nic("bridge", &format!("vmbr0{ends}")), device("bridge")),
                (nic("network", &format!("app{ends}")), device("network")),
            ];
            for (config, path) in cases {
                assert!(errors(config).iter().any(|(at, _)| *at == path), "{ends:?} in {path}");
            }
        }
        for (config, path) in [
            (disk("fast:"), r#"disks["scsi0"].storage"#),
            (base().with_attr("machine", "q35\nargs: -x"), "machine"),
            (base().with_attr("machine", "q35;pc"), "machine"),
            (user("ops\nargs: -x"), "cloud_init.user"),
        ] {
            assert!(errors(config).iter().any(|(at, _)| at == path), "{path}");
        }
        let fine = base().with_attr("machine", "pc-q35-9.0+pve1,viommu=intel");
        assert_eq!(errors(fine.with_attr("cpu", Value::object([("type", "custom-x.y_z")]))), []);
    }

    #[test]
    fn unknown_values_pass_validation_and_are_named_as_inputs() {
        let config = base().with_attr("memory", Value::unknown()).with_attr("disks", Value::unknown());
        assert_eq!(errors(config.clone()), []);
        assert_eq!(request(&config, None, None).unwrap_err(), ["memory", "disks"]);
    }
}
