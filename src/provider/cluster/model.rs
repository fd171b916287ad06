//! Owns the way between a cluster's values and what is enrolled: what is planned, and what state shows. A table holds what each
//! leaf means and what stands for it where it is not set.
use std::collections::BTreeMap;

use federation::ClusterName;
use federation::model::{
    Cluster, Coordinates, MacPolicy, MigrationPath, Network, Overcommit, Pricing, Reserve, Transport, VmidRange, Window,
};
use protocol::Value;

use super::parse;
use crate::values::{Same, leaf};

/// What a value looks like.
enum Shape {
    /// A leaf: when two spellings mean the same, and what stands for one that is not set.
    Leaf(Same, fn() -> Value),
    /// An object.
    Object(&'static [(&'static str, Shape)]),
    /// A map of objects.
    Map(&'static Shape),
}

use Shape::{Leaf, Map, Object};

const fn plain() -> Shape {
    Leaf(Same::Exactly, || Value::Null)
}

const fn off() -> Shape {
    Leaf(Same::Exactly, || false.into())
}

const fn zero() -> Shape {
    Leaf(Same::Exactly, || 0.into())
}

static CLUSTER: &[(&str, Shape)] = &[
    ("name", plain()),
    ("display_name", plain()),
    ("tier", plain()),
    ("hosting_provider", plain()),
    ("location", plain()),
    ("country", plain()),
    ("coordinates", Object(&[("latitude", plain()), ("longitude", plain())])),
    ("tags", plain()),
    (
        "pricing",
        Object(&[
            ("currency", plain()),
            ("core_hour", zero()),
            ("gb_hour", zero()),
            ("storage_gb_month", plain()),
            ("egress_gb", zero()),
        ]),
    ),
    ("storage_classes", plain()),
    ("networks", Map(&NETWORK)),
    ("vmid_range", Object(&[("first", plain()), ("last", plain())])),
    ("cordoned", off()),
    ("draining", off()),
    (
        "overcommit",
        Object(&[
            ("cpu", Leaf(Same::Exactly, || Overcommit::default().cpu.into())),
            ("memory", Leaf(Same::Exactly, || Overcommit::default().memory.into())),
            ("storage", Leaf(Same::Exactly, || Overcommit::default().storage.into())),
        ]),
    ),
    (
        "reserve",
        Object(&[
            ("cpu", Leaf(Same::Exactly, || Reserve::default().cpu.into())),
            ("memory", Leaf(Same::Exactly, || Reserve::default().memory.into())),
            ("storage", Leaf(Same::Exactly, || Reserve::default().storage.into())),
        ]),
    ),
    ("migration_paths", Map(&PATH)),
    (
        "datacenter_options",
        Object(&[
            ("next_id", Object(&[("lower", plain()), ("upper", plain())])),
            ("mac_prefix", Leaf(Same::Stored(operations::Stored::Caseless), || Value::Null)),
            ("bwlimit", plain()),
        ]),
    ),
];

static NETWORK: Shape = Object(&[
    ("bridge", plain()),
    ("vlan", plain()),
    ("subnet", plain()),
    ("gateway", plain()),
    ("macs", Leaf(Same::Exactly, || MacPolicy::Keep.as_str().into())),
]);

static PATH: Shape = Object(&[
    ("method", Leaf(Same::Exactly, || MigrationPath::default().method.as_str().into())),
    ("max_bandwidth", Leaf(Same::AsBandwidth, || Value::Null)),
    ("link_encrypted", off()),
    ("encryption_required", off()),
    ("transport", Object(&[("type", Leaf(Same::Exactly, || parse::TRANSPORT.as_str().into())), ("storage", plain())])),
    ("wan", plain()),
    (
        "window",
        Object(&[
            ("days", plain()),
            ("from", plain()),
            ("to", plain()),
            ("zone", Leaf(Same::Exactly, || parse::ZONE.into())),
        ]),
    ),
    ("max_concurrent", Leaf(Same::Exactly, || MigrationPath::default().max_concurrent.into())),
]);

/// A value in the prior spelling where that means the same, with what stands for what is not set. `recorded`: it comes from a
/// record, which does not tell an empty collection from none.
fn spell(shape: &Shape, value: &Value, prior: &Value, recorded: bool) -> Value {
    if recorded && value.is_null() && says_nothing(prior) {
        return prior.clone();
    }
    match shape {
        Leaf(same, unset) => leaf(value, prior, *same, unset),
        _ if value.is_null() || value.is_unknown() => value.clone(),
        Object(attributes) => object(attributes, value, prior, recorded),
        Map(each) => Value::map(value.as_map().into_iter().flatten().map(|(key, value)| {
            let spelled = spell(each, value, prior.attr(key), recorded);
            (key.clone(), spelled)
        })),
    }
}

fn object(attributes: &[(&str, Shape)], value: &Value, prior: &Value, recorded: bool) -> Value {
    let spelled = attributes.iter().map(|(name, shape)| {
        let value = spell(shape, value.attr(name), prior.attr(name), recorded);
        ((*name).to_owned(), value)
    });
    Value::object(spelled)
}

/// Whether it is an empty collection, or an object of nothing.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Map(map) => map.is_empty(),
        Value::List(list) | Value::Set(list) => list.is_empty(),
        Value::Object(map) => map.values().all(Value::is_null),
        _ => false,
    }
}

/// The name, where it is known and is one.
pub(crate) fn name(value: &Value) -> Option<ClusterName> {
    ClusterName::new(value.attr("name").as_str()?).ok()
}

/// The inputs that are not known yet, by path.
pub(crate) fn unknown_inputs(planned: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    planned.walk(&mut |path, value| {
        if value.is_unknown() {
            unknown.push(path.to_string());
        }
    });
    unknown.retain(|path| path != "id");
    unknown
}

/// What is planned, attribute by attribute: a pure function of configuration and prior state (design.md §5).
pub(crate) fn planned(config: &Value, prior: &Value) -> Value {
    let id = prior.attr("id");
    let id = if id.is_null() { Value::unknown() } else { id.clone() };
    object(CLUSTER, config, prior, false).with_attr("id", id)
}

/// State of a cluster: what its record says, in the prior spelling where that means the same. `options`: the datacenter options
/// that are taken over, as they are now; `None` where the token may not see them. `id`: its identity, while it is enrolled.
pub(crate) fn state(
    name: &ClusterName,
    facts: &Cluster,
    options: Option<&BTreeMap<String, String>>,
    id: &str,
    prior: &Value,
) -> Value {
    let mut value = canonical(facts);
    value.set_attr("name", name.as_str());
    let former = prior.attr("datacenter_options");
    let options = match options {
        Some(options) if *options != parse::options(prior) => real_options(options, former),
        _ => former.clone(),
    };
    object(CLUSTER, &value, prior, true).with_attr("datacenter_options", options).with_attr("id", id)
}

/// State of a cluster that is not enrolled any more: as it was, but for its identity. The difference makes core call apply,
/// which writes the record again.
pub(crate) fn lost(prior: &Value) -> Value {
    prior.clone().with_attr("id", Value::Null)
}

fn text(of: Option<impl ToString>) -> Value {
    of.map(|text| text.to_string()).into()
}

fn some(map: BTreeMap<String, Value>) -> Value {
    if map.is_empty() { Value::Null } else { Value::Map(map) }
}

fn set<T: ToString>(of: impl IntoIterator<Item = T>) -> Value {
    let all: Vec<Value> = of.into_iter().map(|one| one.to_string().into()).collect();
    if all.is_empty() { Value::Null } else { Value::Set(all) }
}

/// Facts as values, each in its one canonical spelling.
fn canonical(facts: &Cluster) -> Value {
    let whole = |number: Option<u16>| Value::from(number.map(u64::from));
    let coordinates = |at: Coordinates| Value::object([("latitude", at.latitude), ("longitude", at.longitude)]);
    let range = |range: VmidRange| Value::object([("first", range.first), ("last", range.last)]);
    let factors =
        |cpu: f64, memory: f64, storage: f64| Value::object([("cpu", cpu), ("memory", memory), ("storage", storage)]);
    let network = |network: &Network| {
        Value::object([
            ("bridge", network.bridge.as_str().into()),
            ("vlan", whole(network.vlan)),
            ("subnet", network.subnet.as_deref().into()),
            ("gateway", network.gateway.as_deref().into()),
            ("macs", text(network.macs)),
        ])
    };
    let classes = facts.storage_classes.iter().map(|(class, storage)| (class.clone(), storage.as_str().into()));
    let networks = facts.networks.iter().map(|(name, facts)| (name.clone(), network(facts)));
    let paths = facts.migration_paths.iter().map(|(target, facts)| (target.to_string(), path(facts)));
    Value::object([
        ("display_name", facts.display_name.as_deref().into()),
        ("tier", text(facts.tier)),
        ("hosting_provider", facts.hosting_provider.as_deref().into()),
        ("location", facts.location.as_deref().into()),
        ("country", facts.country.as_deref().into()),
        ("coordinates", facts.coordinates.map_or(Value::Null, coordinates)),
        ("tags", set(&facts.tags)),
        ("pricing", facts.pricing.as_ref().map_or(Value::Null, pricing)),
        ("storage_classes", some(classes.collect())),
        ("networks", some(networks.collect())),
        ("vmid_range", facts.vmid_range.map_or(Value::Null, range)),
        ("cordoned", facts.cordoned.into()),
        ("draining", facts.draining.into()),
        ("overcommit", facts.overcommit.map_or(Value::Null, |of| factors(of.cpu, of.memory, of.storage))),
        ("reserve", facts.reserve.map_or(Value::Null, |of| factors(of.cpu, of.memory, of.storage))),
        ("migration_paths", some(paths.collect())),
    ])
}

fn pricing(facts: &Pricing) -> Value {
    let storage = facts.storage_gb_month.iter().map(|(class, price)| (class.clone(), (*price).into()));
    Value::object([
        ("currency", facts.currency.as_str().into()),
        ("core_hour", facts.core_hour.into()),
        ("gb_hour", facts.gb_hour.into()),
        ("storage_gb_month", some(storage.collect())),
        ("egress_gb", facts.egress_gb.into()),
    ])
}

fn path(facts: &MigrationPath) -> Value {
    let transport = |transport: &Transport| {
        Value::object([("type", text(Some(transport.kind))), ("storage", transport.storage.as_deref().into())])
    };
    let window = |window: &Window| {
        Value::object([
            ("days", set(&window.days)),
            ("from", window.from.as_str().into()),
            ("to", window.to.as_str().into()),
            ("zone", window.zone.as_str().into()),
        ])
    };
    Value::object([
        ("method", text(Some(facts.method))),
        ("max_bandwidth", text(facts.max_bandwidth)),
        ("link_encrypted", facts.link_encrypted.into()),
        ("encryption_required", facts.encryption_required.into()),
        ("transport", facts.transport.as_ref().map_or(Value::Null, transport)),
        ("wan", text(facts.wan)),
        ("window", facts.window.as_ref().map_or(Value::Null, window)),
        ("max_concurrent", facts.max_concurrent.into()),
    ])
}

/// Datacenter options as they are, where they differ from `former`.
fn real_options(options: &BTreeMap<String, String>, former: &Value) -> Value {
    let wished = |name: &str| parse::options(&Value::object([("datacenter_options", former.clone())])).remove(name);
    let each = |option: &str, attribute: &str, read: fn(&str) -> Value| {
        let is = options.get(option);
        if is == wished(option).as_ref() {
            former.attr(attribute).clone()
        } else {
            is.map_or(Value::Null, |is| read(is))
        }
    };
    Value::object([
        ("next_id", each("next-id", "next_id", parse::next_id)),
        ("mac_prefix", each("mac_prefix", "mac_prefix", |text| text.into())),
        ("bwlimit", each("bwlimit", "bwlimit", parse::bwlimit)),
    ])
}

#[cfg(test)]
mod tests;
