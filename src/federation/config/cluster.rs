//! One entry of `clusters`.

use std::collections::BTreeMap;

use super::consistency::is_cron;
use super::tree::Value;
use super::walk::{Section, nearest};
use super::{FileConnection, derive};
use crate::model::{
    Capability, CapacitySource, Cluster, Coordinates, CrossConnect, LinkKind, MacPolicy, Network, Overcommit, Pricing,
    Reserve, VlanRange, VmidRange,
};
use crate::names::{ClusterName, STORAGE_ENDS, VALUE_ENDS};
use crate::units::{Bandwidth, Bytes, Cidr, Span};

/// A storage as the file declares it.
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) performance: Option<String>,
}

/// Reads a cluster; `known` are the ids of all clusters of the file. With it come its connection and its private subnet.
pub(super) fn read(section: &Section<'_>, known: &[&str]) -> (Cluster, Option<FileConnection>, Option<Cidr>) {
    let mut cluster = Cluster {
        display_name: section.text("name"),
        tier: section.parsed("tier"),
        hosting_provider: section.text("provider"),
        location: section.text("location"),
        country: section.text("country"),
        tags: section.texts("tags").into_iter().map(|(tag, _)| tag).collect(),
        cordoned: section.bool("cordoned"),
        draining: section.bool("draining"),
        capacity: section.parsed::<CapacitySource>("capacity"),
        vmid_range: vmid_range(section),
        coordinates: section.section("coordinates").and_then(|section| coordinates(&section)),
        pricing: section.section("pricing").map(|section| pricing(&section)),
        overcommit: section.section("overcommit").map(|section| overcommit(&section)),
        reserve: section.section("reserve").map(|section| reserve(&section)),
        ..Cluster::default()
    };
    section.inert(&["metadata"]);
    if let Some(classes) = section.section("storage_classes") {
        cluster.storage_classes = classes
            .names()
            .filter_map(|(class, _, _)| {
                Some((class.to_owned(), classes.part(class, classes.text(class), STORAGE_ENDS)?))
            })
            .collect();
    }
    if let Some(networks) = section.section("networks") {
        cluster.networks = networks
            .names()
            .filter_map(|(name, _, node)| Some((name.to_owned(), network(&networks.section_at(name, node)?)?)))
            .collect();
    }
    if let Some(capabilities) = section.section("capabilities") {
        read_capabilities(&mut cluster, &capabilities);
    }
    let mut subnet = None;
    if let Some(network) = section.section("network") {
        subnet = read_network(&mut cluster, &network, known);
    }
    if let Some(storage) = section.section("storage") {
        read_storage(&mut cluster, &storage, known);
    }
    let connection = section.section("connection").and_then(|section| connection(&section));
    section.finish();
    (cluster, connection, subnet)
}

fn connection(section: &Section<'_>) -> Option<FileConnection> {
    let mut endpoints: Vec<String> = Vec::new();
    let mut written = section.texts("endpoints");
    if let Some(url) = section.text("api_url") {
        written.insert(0, (url, section.place("api_url")));
    }
    for (url, at) in &written {
        match endpoint(url) {
            Ok(url) => endpoints.push(url),
            Err(why) => section.problem(*at, "api_url", why),
        }
    }
    let api_url = section.get("api_url").and_then(|_| endpoints.first().cloned());
    if written.is_empty() {
        section.problem(section.at, "", "the key \"api_url\" is missing (https://host:8006/api2/json)");
    }
    for secret in ["password", "api_token"] {
        if section.get(secret).is_some() {
            let why = format!("secrets do not belong into this file; name an environment variable with {secret}_env");
            section.problem(section.place(secret), secret, why);
        }
    }
    let timeout = match section.get("connection_timeout").map(|node| &node.value) {
        Some(Value::Text(_)) => section.parsed("connection_timeout"),
        Some(_) => section.int("connection_timeout", 1, 3600).map(|seconds| Span::from_secs(seconds.unsigned_abs())),
        None => None,
    };
    let connection = FileConnection {
        username: section.text("username"),
        password_env: section.text("password_env"),
        api_token_env: section.text("api_token_env"),
        fingerprints: section.texts("fingerprints").into_iter().map(|(text, _)| text).collect(),
        ca_file: section.text("ca_file"),
        verify_ssl: section.bool("verify_ssl"),
        connection_timeout: timeout,
        api_url,
        endpoints,
    };
    section.finish();
    (!connection.endpoints.is_empty()).then_some(connection)
}

/// The base address of an API URL. The URL itself is never quoted: people put passwords there.
fn endpoint(url: &str) -> Result<String, &'static str> {
    let rest = url.strip_prefix("https://").ok_or("it must begin with https://")?;
    let base = rest.strip_suffix('/').unwrap_or(rest);
    let base = base.strip_suffix("/api2/json").unwrap_or(base);
    if base.contains('@') {
        return Err("credentials do not belong into an address");
    }
    if base.is_empty() || base.contains(['/', '?', '#', ' ']) {
        return Err("https://host:port is expected, with or without /api2/json behind it");
    }
    Ok(format!("https://{base}"))
}

fn coordinates(section: &Section<'_>) -> Option<Coordinates> {
    let latitude = section.number("latitude", -90.0, 90.0);
    let longitude = section.number("longitude", -180.0, 180.0);
    for key in ["latitude", "longitude"] {
        if section.get(key).is_none() {
            section.problem(section.at, "", format!("the key {key:?} is missing"));
        }
    }
    section.finish();
    Coordinates::new(latitude?, longitude?)
}

fn pricing(section: &Section<'_>) -> Pricing {
    const MOST: f64 = 1e9;
    let price = |key: &str| section.number(key, 0.0, MOST).unwrap_or(0.0);
    let mut pricing = Pricing {
        currency: section.required_text("currency").unwrap_or_default(),
        core_hour: price("core_hour"),
        gb_hour: price("gb_hour"),
        storage_gb_month: BTreeMap::new(),
        egress_gb: price("egress_gb"),
    };
    if let Some(classes) = section.section("storage_gb_month") {
        pricing.storage_gb_month = classes
            .names()
            .filter_map(|(class, _, _)| Some((class.to_owned(), classes.number(class, 0.0, MOST)?)))
            .collect();
    }
    section.finish();
    pricing
}

fn overcommit(section: &Section<'_>) -> Overcommit {
    let default = Overcommit::default();
    let factor = |key: &str, default: f64| section.number(key, 0.01, 100.0).unwrap_or(default);
    let value = Overcommit {
        cpu: factor("cpu", default.cpu),
        memory: factor("memory", default.memory),
        storage: factor("storage", default.storage),
    };
    section.finish();
    value
}

fn reserve(section: &Section<'_>) -> Reserve {
    let default = Reserve::default();
    let share = |key: &str, default: f64| section.number(key, 0.0, 1.0).unwrap_or(default);
    let value = Reserve {
        cpu: share("cpu", default.cpu),
        memory: share("memory", default.memory),
        storage: share("storage", default.storage),
    };
    section.finish();
    value
}

fn vmid_range(section: &Section<'_>) -> Option<VmidRange> {
    let range = section.section("vmid_range")?;
    let first = range.int("first", 100, 999_999_999);
    let last = range.int("last", 100, 999_999_999);
    range.finish();
    let (first, last) = (u32::try_from(first?).ok()?, u32::try_from(last?).ok()?);
    if last < first {
        range.problem(range.at, "", format!("it ends at {last}, before it begins at {first}"));
        return None;
    }
    Some(VmidRange { first, last })
}

fn network(section: &Section<'_>) -> Option<Network> {
    let network = Network {
        bridge: section.part("bridge", section.required_text("bridge"), VALUE_ENDS).unwrap_or_default(),
        vlan: section.int("vlan", 1, 4094).and_then(|vlan| u16::try_from(vlan).ok()),
        subnet: section.text("subnet"),
        gateway: section.text("gateway"),
        macs: section.parsed::<MacPolicy>("macs"),
    };
    let subnet: Option<Cidr> = section.parsed("subnet");
    let gateway: Option<std::net::IpAddr> = network.gateway.as_deref().and_then(|text| text.parse().ok());
    if let Some(text) = network.gateway.as_deref().filter(|_| gateway.is_none()) {
        section.problem(section.place("gateway"), "gateway", format!("{text:?} is not an address"));
    }
    if let (Some(subnet), Some(gateway)) = (subnet, gateway)
        && !subnet.holds(gateway)
    {
        section.problem(section.place("gateway"), "gateway", format!("{gateway} is not in the network's subnet"));
    }
    section.finish();
    (!network.bridge.is_empty()).then_some(network)
}

fn read_capabilities(cluster: &mut Cluster, section: &Section<'_>) {
    // 0 is what the guide's tools took for "not said".
    cluster.max_vms = section.count("max_vms").filter(|most| *most > 0);
    for capability in Capability::ALL {
        if let Some(value) = section.bool(capability.as_str()) {
            cluster.capabilities.insert(*capability, value);
        }
    }
    section.finish();
}

fn read_network(cluster: &mut Cluster, section: &Section<'_>, known: &[&str]) -> Option<Cidr> {
    let _: Option<Cidr> = section.parsed("public_subnet");
    let private = section.parsed("private_subnet");
    cluster.bridges = section.texts("bridges").into_iter().map(|(bridge, _)| bridge).collect();
    cluster.vlan_range = vlan_range(section);
    if section.get("uplink_speed").is_some() {
        let _: Option<Bandwidth> = section.parsed("uplink_speed");
    }
    section.inert(&["public_subnet", "private_subnet", "uplink_speed"]);
    let links = section.get_either("cross_connects", "cross_connect");
    for link in section.sections("cross_connects", links) {
        let connect = CrossConnect {
            kind: link.parsed::<LinkKind>("type"),
            latency: link.parsed("latency"),
            bandwidth: link.parsed("bandwidth"),
        };
        if let Some(target) = cluster_ref(&link, "target_cluster", known) {
            cluster.cross_connects.insert(target, connect);
        }
        link.finish();
    }
    section.finish();
    private
}

fn vlan_range(section: &Section<'_>) -> Option<VlanRange> {
    section.get("vlan_range")?;
    let numbers: Vec<Option<u16>> = section
        .list("vlan_range")
        .iter()
        .map(|(_, node)| match node.value {
            Value::Int(_, vlan) if (1..=4094).contains(&vlan) => u16::try_from(vlan).ok(),
            _ => None,
        })
        .collect();
    match numbers.as_slice() {
        [Some(first), Some(last)] if first <= last => Some(VlanRange { first: *first, last: *last }),
        _ => {
            let why = "two VLAN tags from 1 to 4094 are expected, the smaller first: [100, 199]";
            section.problem(section.place("vlan_range"), "vlan_range", why);
            None
        }
    }
}

fn read_storage(cluster: &mut Cluster, section: &Section<'_>, known: &[&str]) {
    let mut backends = Vec::new();
    let listed = section.get("backends");
    for backend in section.sections("backends", listed) {
        let _: (Option<Bytes>, Option<Bytes>) = (backend.parsed("capacity"), backend.parsed("available"));
        backend.texts("features");
        one_of(&backend, "type", &["ceph", "lvm", "nfs", "zfs", "dir", "btrfs", "cifs", "iscsi", "pbs"]);
        let performance = one_of(&backend, "performance_tier", &derive::PERFORMANCE);
        backend.inert(&["type", "capacity", "available", "features"]);
        if let Some(name) = backend.required_text("name") {
            if let Some(performance) = &performance {
                cluster.storage_performance.insert(name.clone(), performance.clone());
            }
            backends.push(Backend { name, performance });
        }
        backend.finish();
    }
    cluster.primary_storage = section.part("primary_storage", section.text("primary_storage"), STORAGE_ENDS);
    if let Some(primary) = &cluster.primary_storage {
        let names: Vec<&str> = backends.iter().map(|backend| backend.name.as_str()).collect();
        if !names.is_empty() && !names.contains(&primary.as_str()) {
            let why = format!("{primary:?} is none of the backends: {}", names.join(", "));
            section.problem(section.place("primary_storage"), "primary_storage", why);
        }
    }
    derive::storage_classes(cluster, &backends);
    let targets = section.get("replication_targets");
    for target in section.sections("replication_targets", targets) {
        cluster_ref(&target, "target_cluster", known);
        target.text("target_storage");
        let schedule = target.text("schedule");
        if let Some(schedule) = schedule.filter(|schedule| !is_cron(schedule)) {
            let why = format!("{schedule:?} is no schedule of five fields: \"0 2 * * *\"");
            target.problem(target.place("schedule"), "schedule", why);
        }
        one_of(&target, "type", &["async", "sync"]);
        target.finish();
    }
    section.inert(&["replication_targets"]);
    section.finish();
}

/// A word out of a list.
fn one_of(section: &Section<'_>, key: &str, accepted: &[&str]) -> Option<String> {
    let text = section.text(key)?;
    if accepted.contains(&text.as_str()) {
        return Some(text);
    }
    section.problem(section.place(key), key, format!("{text:?} is none of {}", accepted.join(", ")));
    None
}

/// A required reference to a cluster of the file.
pub(super) fn cluster_ref(section: &Section<'_>, key: &str, known: &[&str]) -> Option<ClusterName> {
    let text = section.required_text(key)?;
    check_ref(section, key, section.place(key), &text, known)
}

/// A reference to a cluster of the file, or a problem with the nearest name.
pub(super) fn check_ref(
    section: &Section<'_>,
    key: &str,
    at: super::tree::At,
    text: &str,
    known: &[&str],
) -> Option<ClusterName> {
    if known.contains(&text) {
        return text.parse().ok();
    }
    let hint = match nearest(text, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("there are {}", known.join(", ")),
    };
    section.problem(at, key, format!("there is no cluster {text:?}; {hint}"));
    None
}
