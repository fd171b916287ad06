//! Owns reading a cluster's values: facts and datacenter options, and every static check of a configuration.
use std::collections::BTreeMap;
use std::net::IpAddr;

use federation::model::{
    Cluster, Coordinates, MigrationPath, Network, Overcommit, Pricing, Reserve, Transport, TransportKind, VmidRange,
    Weekday, Window,
};
use federation::names::{STORAGE_ENDS, VALUE_ENDS, ends_early};
use federation::{Bandwidth, ClusterName};
use protocol::{AttributePath, Diagnostics, Value};

use crate::reading::Reader;
use crate::values::text;

/// The transport of a path that names none.
pub(super) const TRANSPORT: TransportKind = TransportKind::SharedStorage;
/// The time zone of a window that names none.
pub(super) const ZONE: &str = "UTC";

/// What a wholly known plan or state says. What can't be read is left out; [`validate`] reports it.
pub(crate) fn facts(value: &Value) -> Cluster {
    Reader { diags: &mut Diagnostics::new() }.facts(value)
}

/// The datacenter options of a plan or state by Proxmox VE's names, in its spelling.
pub(crate) fn options(value: &Value) -> BTreeMap<String, String> {
    Reader { diags: &mut Diagnostics::new() }.options(value)
}

/// Static checks of a configuration: everything that is wrong whatever the clusters say. Unknown values pass.
pub(crate) fn validate(config: &Value, diags: &mut Diagnostics) {
    let mut reader = Reader { diags };
    let name: Option<ClusterName> = reader.parsed(config, &AttributePath::root(), "name");
    let facts = reader.facts(config);
    reader.options(config);
    if let Some(name) = name.filter(|name| facts.migration_paths.contains_key(name)) {
        let at = AttributePath::new("migration_paths").key(name.as_str());
        diags.error_at(at, "A path of a cluster to itself", format!("Machines don't move from {name} to {name}."));
    }
}

/// The parts of a cluster.
trait ClusterParts {
    fn facts(&mut self, value: &Value) -> Cluster;
    fn coordinates(&mut self, value: &Value) -> Option<Coordinates>;
    fn pricing(&mut self, value: &Value) -> Option<Pricing>;
    fn price(&mut self, value: &Value, at: &AttributePath, name: &str) -> Option<f64>;
    fn network(&mut self, value: &Value, at: &AttributePath) -> Option<Network>;
    fn vmid_range(&mut self, value: &Value) -> Option<VmidRange>;
    fn overcommit(&mut self, value: &Value) -> Option<Overcommit>;
    fn reserve(&mut self, value: &Value) -> Option<Reserve>;
    fn path(&mut self, value: &Value, at: &AttributePath) -> Option<MigrationPath>;
    fn window(&mut self, value: &Value, at: &AttributePath) -> Option<Window>;
    fn options(&mut self, value: &Value) -> BTreeMap<String, String>;
    fn bandwidths(&mut self, value: &Value, at: &AttributePath) -> Option<String>;
}

/// Whether there is an object to read.
fn there(value: &Value) -> bool {
    !value.is_null() && value.is_known()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_map().into_iter().flatten()
}

impl ClusterParts for Reader<'_> {
    fn facts(&mut self, value: &Value) -> Cluster {
        let root = AttributePath::root();
        let tags = value.attr("tags").as_list().into_iter().flatten().filter_map(Value::as_str);
        let mut facts = Cluster {
            display_name: text(value, "display_name"),
            tier: self.parsed(value, &root, "tier"),
            hosting_provider: text(value, "hosting_provider"),
            location: text(value, "location"),
            country: text(value, "country"),
            coordinates: self.coordinates(value.attr("coordinates")),
            tags: tags.map(str::to_owned).collect(),
            pricing: self.pricing(value.attr("pricing")),
            vmid_range: self.vmid_range(value.attr("vmid_range")),
            cordoned: value.attr("cordoned").as_bool(),
            draining: value.attr("draining").as_bool(),
            overcommit: self.overcommit(value.attr("overcommit")),
            reserve: self.reserve(value.attr("reserve")),
            ..Cluster::default()
        };
        for (class, storage) in entries(value.attr("storage_classes")) {
            let Some(storage) = storage.as_str() else { continue };
            if storage.trim().is_empty() || class.trim().is_empty() {
                let at = AttributePath::new("storage_classes").key(class.as_str());
                self.diags.error_at(
                    at,
                    "Invalid storage_classes",
                    "Both names are needed: the class's and the storage's.",
                );
            }
            if let Some(wrong) = ends_early(storage.trim(), STORAGE_ENDS) {
                let at = AttributePath::new("storage_classes").key(class.as_str());
                let detail = format!("{storage:?} holds {wrong:?}, which ends the name where Proxmox VE reads it.");
                self.diags.error_at(at, "Invalid storage_classes", detail);
            }
            facts.storage_classes.insert(class.clone(), storage.to_owned());
        }
        for (name, network) in entries(value.attr("networks")) {
            let at = AttributePath::new("networks").key(name.as_str());
            facts.networks.extend(self.network(network, &at).map(|network| (name.clone(), network)));
        }
        for (target, path) in entries(value.attr("migration_paths")) {
            let at = AttributePath::new("migration_paths").key(target.as_str());
            let name: Option<ClusterName> = self.element(target, at.clone());
            let path = self.path(path, &at);
            facts.migration_paths.extend(name.zip(path));
        }
        facts
    }

    fn coordinates(&mut self, value: &Value) -> Option<Coordinates> {
        let at = AttributePath::new("coordinates");
        let within = |most: f64| move |degrees: f64| degrees.abs() <= most;
        let latitude = self.number(value, &at, "latitude", "a latitude from -90 to 90", within(90.0));
        let longitude = self.number(value, &at, "longitude", "a longitude from -180 to 180", within(180.0));
        Coordinates::new(latitude?, longitude?)
    }

    fn pricing(&mut self, value: &Value) -> Option<Pricing> {
        if !there(value) {
            return None;
        }
        let at = AttributePath::new("pricing");
        let mut pricing = Pricing {
            currency: text(value, "currency").unwrap_or_default(),
            core_hour: self.price(value, &at, "core_hour").unwrap_or_default(),
            gb_hour: self.price(value, &at, "gb_hour").unwrap_or_default(),
            egress_gb: self.price(value, &at, "egress_gb").unwrap_or_default(),
            ..Pricing::default()
        };
        let code = pricing.currency.as_str();
        if value.attr("currency").is_known() && !(code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())) {
            self.wrong(&at, "currency", format!("{code:?} is not an ISO 4217 code; accepted: \"EUR\", \"USD\"."));
        }
        for class in entries(value.attr("storage_gb_month")).map(|(class, _)| class) {
            let prices = at.clone().attribute("storage_gb_month");
            let price = self.price(value.attr("storage_gb_month"), &prices, class);
            pricing.storage_gb_month.extend(price.map(|price| (class.clone(), price)));
        }
        Some(pricing)
    }

    fn price(&mut self, value: &Value, at: &AttributePath, name: &str) -> Option<f64> {
        self.number(value, at, name, "a price of 0 or more", |price| price >= 0.0 && price.is_finite())
    }

    fn network(&mut self, value: &Value, at: &AttributePath) -> Option<Network> {
        let vlan = self.whole(value, at, "vlan", 1..=4094);
        let network = Network {
            bridge: text(value, "bridge").unwrap_or_default(),
            vlan: vlan.and_then(|vlan| u16::try_from(vlan).ok()),
            subnet: text(value, "subnet"),
            gateway: text(value, "gateway"),
            macs: self.parsed(value, at, "macs"),
        };
        if value.attr("bridge").as_str().is_some_and(|bridge| bridge.trim().is_empty()) {
            self.wrong(at, "bridge", "A network is a bridge or SDN vnet of the cluster: name it.");
        } else if let Some(wrong) = ends_early(&network.bridge, VALUE_ENDS) {
            let detail = format!("It holds {wrong:?}, which ends the name where Proxmox VE reads it.");
            self.wrong(at, "bridge", detail);
        }
        let subnet = network.subnet.as_deref().map(cidr);
        if subnet == Some(None) {
            self.wrong(at, "subnet", "Not addresses in CIDR notation; accepted: \"10.1.20.0/24\", \"2001:db8::/64\".");
        }
        let gateway = network.gateway.as_deref().map(str::parse::<IpAddr>);
        match (gateway, subnet.flatten()) {
            (Some(Err(_)), _) => self.wrong(at, "gateway", "Not an IP address."),
            (Some(Ok(gateway)), Some(subnet)) if !inside(gateway, subnet) => {
                self.wrong(at, "gateway", format!("{gateway} is not in the subnet."));
            }
            _ => {}
        }
        (!network.bridge.is_empty()).then_some(network)
    }

    fn vmid_range(&mut self, value: &Value) -> Option<VmidRange> {
        let at = AttributePath::new("vmid_range");
        let first = self.whole(value, &at, "first", 100..=999_999_999);
        let last = self.whole(value, &at, "last", 100..=999_999_999);
        let (first, last) = (first?, last?);
        if last < first {
            self.wrong(&at, "last", format!("{last} is below the first, {first}."));
        }
        Some(VmidRange { first, last })
    }

    fn overcommit(&mut self, value: &Value) -> Option<Overcommit> {
        let (at, usual) = (AttributePath::new("overcommit"), Overcommit::default());
        let mut factor = |name: &str, usual: f64| {
            let above_zero = |factor: f64| factor > 0.0 && factor <= 1000.0;
            self.number(value, &at, name, "a factor above 0 and up to 1000", above_zero).unwrap_or(usual)
        };
        let (cpu, memory, storage) =
            (factor("cpu", usual.cpu), factor("memory", usual.memory), factor("storage", usual.storage));
        there(value).then_some(Overcommit { cpu, memory, storage })
    }

    fn reserve(&mut self, value: &Value) -> Option<Reserve> {
        let (at, usual) = (AttributePath::new("reserve"), Reserve::default());
        let mut share = |name: &str, usual: f64| {
            let part = |share: f64| (0.0..=1.0).contains(&share);
            self.number(value, &at, name, "a share from 0 to 1", part).unwrap_or(usual)
        };
        let (cpu, memory, storage) =
            (share("cpu", usual.cpu), share("memory", usual.memory), share("storage", usual.storage));
        there(value).then_some(Reserve { cpu, memory, storage })
    }

    fn path(&mut self, value: &Value, at: &AttributePath) -> Option<MigrationPath> {
        let usual = MigrationPath::default();
        let transport = value.attr("transport");
        let within = at.clone().attribute("transport");
        let kind = self.parsed(transport, &within, "type").unwrap_or(TRANSPORT);
        let path = MigrationPath {
            method: self.parsed(value, at, "method").unwrap_or(usual.method),
            max_bandwidth: self.parsed(value, at, "max_bandwidth"),
            link_encrypted: value.attr("link_encrypted").as_bool().unwrap_or(usual.link_encrypted),
            encryption_required: value.attr("encryption_required").as_bool().unwrap_or(usual.encryption_required),
            transport: there(transport).then(|| Transport { kind, storage: text(transport, "storage") }),
            wan: self.parsed(value, at, "wan"),
            window: self.window(value.attr("window"), &at.clone().attribute("window")),
            max_concurrent: self.whole(value, at, "max_concurrent", 1..=1000).unwrap_or(usual.max_concurrent),
        };
        there(value).then_some(path)
    }

    fn window(&mut self, value: &Value, at: &AttributePath) -> Option<Window> {
        for name in ["from", "to"] {
            if let Some(time) = value.attr(name).as_str().filter(|time| !is_time_of_day(time)) {
                self.wrong(at, name, format!("{time:?} is not a time of day; accepted: \"HH:MM\", 00:00 to 23:59."));
            }
        }
        let zone = text(value, "zone").unwrap_or_else(|| ZONE.to_owned());
        if !Window::knows_zone(&zone) {
            self.wrong(at, "zone", format!("{zone:?} is not a time zone; accepted: \"UTC\", \"Europe/Amsterdam\"."));
        }
        let days = value.attr("days").as_list().into_iter().flatten().filter_map(Value::as_str);
        let days = days.filter_map(|day| self.element::<Weekday>(day, at.clone().attribute("days"))).collect();
        Some(Window { days, from: text(value, "from")?, to: text(value, "to")?, zone })
    }

    fn options(&mut self, value: &Value) -> BTreeMap<String, String> {
        let value = value.attr("datacenter_options");
        let at = AttributePath::new("datacenter_options");
        let mut options = BTreeMap::new();
        let within = at.clone().attribute("next_id");
        let lower = self.whole(value.attr("next_id"), &within, "lower", 100..=999_999_999);
        let upper = self.whole(value.attr("next_id"), &within, "upper", 101..=1_000_000_000);
        if let (Some(lower), Some(upper)) = (lower, upper) {
            if upper <= lower {
                self.wrong(&within, "upper", format!("{upper} is not above the lower end, {lower}."));
            }
            options.insert("next-id".to_owned(), format!("lower={lower},upper={upper}"));
        }
        if let Some(prefix) = text(value, "mac_prefix") {
            if !is_mac_prefix(&prefix) {
                let accepted = "one to three pairs of hexadecimal digits, the first even: \"BC:24:11\"";
                self.wrong(
                    &at,
                    "mac_prefix",
                    format!("{prefix:?} begins no MAC address of one card; accepted: {accepted}."),
                );
            }
            options.insert("mac_prefix".to_owned(), prefix.to_uppercase());
        }
        let bandwidths = self.bandwidths(value.attr("bwlimit"), &at.attribute("bwlimit"));
        options.extend(bandwidths.map(|text| ("bwlimit".to_owned(), text)));
        options
    }

    fn bandwidths(&mut self, value: &Value, at: &AttributePath) -> Option<String> {
        const KINDS: [&str; 5] = ["clone", "default", "migration", "move", "restore"];
        let mut parts = Vec::new();
        for (kind, limit) in entries(value) {
            let at = at.clone().key(kind.as_str());
            if !KINDS.contains(&kind.as_str()) {
                let detail = format!("{kind:?} is none of {}.", KINDS.join(", "));
                self.diags.error_at(at, "Invalid bwlimit", detail);
                continue;
            }
            let limit = limit.as_str().and_then(|limit| self.element::<Bandwidth>(limit, at));
            parts.extend(limit.map(|limit| format!("{kind}={}", limit.to_kib_per_second())));
        }
        (!parts.is_empty()).then(|| parts.join(","))
    }
}

/// `next-id` as Proxmox VE spells it, as a value.
pub(super) fn next_id(text: &str) -> Value {
    let part = |name: &str| {
        let found = text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        Value::from(found.and_then(|number| number.parse::<u64>().ok()))
    };
    Value::object([("lower", part("lower")), ("upper", part("upper"))])
}

/// `bwlimit` as Proxmox VE spells it, in KiB/s, as a value.
pub(super) fn bwlimit(text: &str) -> Value {
    let parts = text.split(',').filter_map(|part| part.split_once('='));
    let limits = parts.filter_map(|(kind, kib)| {
        let bits = kib.trim().parse::<u64>().ok()?.checked_mul(8 * 1024)?;
        Some((kind.trim().to_owned(), Bandwidth::from_bits_per_second(bits).to_string()))
    });
    Value::map(limits)
}

/// An address and the length of its prefix.
fn cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let (address, length) = (address.parse::<IpAddr>().ok()?, length.parse::<u32>().ok()?);
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

fn inside(address: IpAddr, (network, length): (IpAddr, u32)) -> bool {
    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }
    let differ = bits(address) ^ bits(network);
    address.is_ipv4() == network.is_ipv4() && differ.leading_zeros() >= length
}

fn is_time_of_day(text: &str) -> bool {
    let two = |digits: &str, most: u8| {
        digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse().is_ok_and(|n: u8| n <= most)
    };
    text.split_once(':').is_some_and(|(hours, minutes)| two(hours, 23) && two(minutes, 59))
}

/// One to three octets, of which the first is not of a group of cards (its lowest bit is off).
fn is_mac_prefix(text: &str) -> bool {
    let octets: Vec<&str> = text.split(':').collect();
    let hex = |octet: &&str| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit());
    let one_card = u8::from_str_radix(octets[0], 16).is_ok_and(|first| first & 1 == 0);
    octets.len() <= 3 && octets.iter().all(hex) && one_card
}
