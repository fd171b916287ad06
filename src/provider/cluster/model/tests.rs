//! A cluster's values, there and back.
use protocol::{Diagnostics, Value};

use super::*;

fn name() -> ClusterName {
    "ams".parse().expect("a name")
}

/// Everything the schema has.
fn whole() -> Value {
    let window = Value::object([
        ("days", Value::set(["sat", "sun"])),
        ("from", "22:00".into()),
        ("to", "05:00".into()),
        ("zone", "Europe/Amsterdam".into()),
    ]);
    let path = Value::object([
        ("method", Value::from("backup-restore")),
        ("max_bandwidth", "1000Mbps".into()),
        ("link_encrypted", true.into()),
        ("transport", Value::object([("storage", "transfer")])),
        ("wan", "write".into()),
        ("window", window),
        ("max_concurrent", 2.into()),
    ]);
    let network = Value::object([
        ("bridge", Value::from("vmbr1")),
        ("vlan", 120.into()),
        ("subnet", "10.1.20.0/24".into()),
        ("gateway", "10.1.20.1".into()),
        ("macs", "new".into()),
    ]);
    let pricing = Value::object([
        ("currency", Value::from("EUR")),
        ("core_hour", 0.015.into()),
        ("storage_gb_month", Value::map([("fast", 0.08)])),
    ]);
    let options = Value::object([
        ("next_id", Value::object([("lower", 1000), ("upper", 2000)])),
        ("mac_prefix", "bc:24:11".into()),
        ("bwlimit", Value::map([("restore", "500Mbps"), ("default", "1Gbps")])),
    ]);
    Value::object([
        ("name", Value::from("ams")),
        ("display_name", "Amsterdam".into()),
        ("tier", "primary".into()),
        ("hosting_provider", "Worldstream".into()),
        ("location", "Amsterdam, NL".into()),
        ("country", "NL".into()),
        ("coordinates", Value::object([("latitude", 52.37), ("longitude", 4.9)])),
        ("tags", Value::set(["production", "eu"])),
        ("pricing", pricing),
        ("storage_classes", Value::map([("fast", "ceph-pool")])),
        ("networks", Value::map([("app", network)])),
        ("vmid_range", Value::object([("first", 1000), ("last", 1999)])),
        ("cordoned", true.into()),
        ("overcommit", Value::object([("cpu", 2)])),
        ("reserve", Value::object([("memory", 0.2)])),
        ("migration_paths", Value::map([("rtm", path)])),
        ("datacenter_options", options),
    ])
}

#[test]
fn everything_comes_back_as_it_was_written() {
    let mut said = Diagnostics::new();
    parse::validate(&whole(), &mut said);
    assert!(said.is_empty(), "{said:?}");
    let planned = planned(&whole(), &Value::Null);
    let facts = parse::facts(&planned);
    // Through JSON, as the record keeps it.
    let recorded: Cluster = serde_json::from_value(serde_json::to_value(&facts).expect("JSON")).expect("facts");
    assert_eq!(recorded, facts);
    let options = parse::options(&planned);
    let shown = state(&name(), &recorded, Some(&options), "AA", &planned.clone().with_attr("id", "AA"));
    assert_eq!(shown, planned.with_attr("id", "AA"));
    assert_eq!(
        options.into_iter().collect::<Vec<_>>(),
        [("bwlimit", "default=122070,restore=61035"), ("mac_prefix", "BC:24:11"), ("next-id", "lower=1000,upper=2000")]
            .map(|(option, value)| (option.to_owned(), value.to_owned()))
    );
}

#[test]
fn what_is_imported_needs_no_change() {
    let config = super::planned(&whole(), &Value::Null);
    let imported = state(&name(), &parse::facts(&config), Some(&parse::options(&config)), "AA", &Value::Null);
    let planned = super::planned(&whole(), &imported);
    // Bandwidths of the datacenter come back from KiB/s, which most round numbers are not.
    let without = |value: &Value| value.clone().with_attr("datacenter_options", Value::Null);
    assert_eq!(without(&planned), without(&imported));
    assert_eq!(parse::options(&planned), parse::options(&imported));
    let empty = Value::object([("name", Value::from("ams")), ("storage_classes", Value::Map(Default::default()))]);
    let created = super::planned(&empty, &Value::Null);
    assert_eq!(created.attr("draining"), &false.into());
    let read = state(&name(), &parse::facts(&created), Some(&Default::default()), "AA", &created);
    assert_eq!(read, created.with_attr("id", "AA"), "an empty map and none are one in the record");
}

#[test]
fn drift_shows_where_it_is() {
    let prior = planned(&whole(), &Value::Null).with_attr("id", "AA");
    let mut facts = parse::facts(&prior);
    facts.location = Some("Elsewhere".into());
    facts.networks.clear();
    let mut options = parse::options(&prior);
    options.insert("mac_prefix".into(), "02:00:01".into());
    let shown = state(&name(), &facts, Some(&options), "AA", &prior);
    let mut changed: Vec<&str> = Vec::new();
    for (attribute, value) in shown.as_map().expect("an object") {
        if value != prior.attr(attribute) {
            changed.push(attribute);
        }
    }
    assert_eq!(changed, ["datacenter_options", "location", "networks"]);
    let options = shown.attr("datacenter_options");
    assert_eq!(options.attr("mac_prefix"), &"02:00:01".into());
    assert_eq!(options.attr("bwlimit"), prior.attr("datacenter_options").attr("bwlimit"));
    let unseen = state(&name(), &facts, None, "AA", &prior);
    assert_eq!(unseen.attr("datacenter_options"), prior.attr("datacenter_options"));
    assert!(lost(&prior).attr("id").is_null());
    assert!(planned(&whole(), &lost(&prior)).attr("id").is_unknown(), "so that core calls apply");
}

#[test]
fn wrong_values_are_named_where_they_stand() {
    let at = |path: &[&str], value: Value| {
        let mut config = whole();
        let mut here = &mut config;
        for step in path {
            if here.attr(step).is_null() {
                here.set_attr(*step, Value::Null);
            }
            here = here.attr_mut(step).expect("a place");
        }
        *here = value;
        config
    };
    let cases: [(&[&str], Value, &str); 21] = [
        (&["name"], "no name!".into(), "name"),
        (&["tier"], "best".into(), "tier"),
        (&["coordinates", "latitude"], 91.into(), "coordinates.latitude"),
        (&["pricing", "currency"], "euro".into(), "pricing.currency"),
        (&["pricing", "core_hour"], (-1).into(), "pricing.core_hour"),
        (&["networks", "app", "bridge"], "vmbr0,tag=5".into(), "networks[\"app\"].bridge"),
        (&["storage_classes", "fast"], "ceph:8".into(), "storage_classes[\"fast\"]"),
        (&["networks", "app", "vlan"], 4095.into(), "networks[\"app\"].vlan"),
        (&["networks", "app", "subnet"], "10.1.20.0".into(), "networks[\"app\"].subnet"),
        (&["networks", "app", "gateway"], "10.1.21.1".into(), "networks[\"app\"].gateway"),
        (&["networks", "app", "macs"], "swap".into(), "networks[\"app\"].macs"),
        (&["vmid_range", "first"], 99.into(), "vmid_range.first"),
        (&["vmid_range", "last"], 500.into(), "vmid_range.last"),
        (&["overcommit", "cpu"], 0.into(), "overcommit.cpu"),
        (&["reserve", "memory"], 15.into(), "reserve.memory"),
        (&["migration_paths", "rtm", "max_bandwidth"], "500MB/s".into(), "migration_paths[\"rtm\"].max_bandwidth"),
        (&["migration_paths", "rtm", "window", "from"], "25:00".into(), "migration_paths[\"rtm\"].window.from"),
        (&["migration_paths", "rtm", "wan"], "both".into(), "migration_paths[\"rtm\"].wan"),
        (&["datacenter_options", "mac_prefix"], "BD:24:11".into(), "datacenter_options.mac_prefix"),
        (&["datacenter_options", "next_id", "upper"], 1000.into(), "datacenter_options.next_id.upper"),
        (
            &["datacenter_options", "bwlimit"],
            Value::map([("backup", "1Mbps")]),
            "datacenter_options.bwlimit[\"backup\"]",
        ),
    ];
    for (path, value, expected) in cases {
        let mut said = Diagnostics::new();
        parse::validate(&at(path, value), &mut said);
        let places: Vec<String> =
            said.iter().map(|said| said.path.as_ref().map_or(String::new(), |at| at.to_string())).collect();
        assert_eq!(places, [expected], "{path:?}: {said:?}");
    }
    let mut said = Diagnostics::new();
    let path = Value::map([("ams", Value::object([("max_concurrent", 1)]))]);
    parse::validate(&at(&["migration_paths"], path), &mut said);
    assert_eq!(said.iter().count(), 1, "a path to itself: {said:?}");
}
