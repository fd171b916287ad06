//! Mistakes in `moxxie_cluster`.
use super::batch::Row;
use super::row;

/// A cluster with these lines beside its name.
fn cluster(lines: &str) -> String {
    format!("resource \"moxxie_cluster\" \"NAME\" {{\n  name = \"worldstream-prod\"\n  {lines}\n}}\n")
}

/// A network of it.
fn network(lines: &str) -> String {
    cluster(&format!("networks = {{ app = {{ {lines} }} }}"))
}

/// A path out of it.
fn path(lines: &str) -> String {
    cluster(&format!("migration_paths = {{ databarn-dr = {{ {lines} }} }}"))
}

/// All of them.
pub fn clusters() -> Vec<Row> {
    vec![
        row("no name", cluster("").replace("  name = \"worldstream-prod\"\n", ""), "resource", &["name", "required"]),
        row("a name with a blank", cluster("").replace("worldstream-prod", "not a name"), "name =", &["Invalid name"]),
        row("another tier", cluster("tier = \"third\""), "tier", &["third", "primary", "secondary", "edge"]),
        row("a currency in words", cluster("pricing = { currency = \"euros\" }"), "pricing", &["ISO 4217"]),
        row(
            "a price below nothing",
            cluster("pricing = { currency = \"EUR\", core_hour = -1 }"),
            "pricing",
            &["core_hour"],
        ),
        row(
            "a latitude beyond the pole",
            cluster("coordinates = { latitude = 91, longitude = 4 }"),
            "coordinates",
            &["latitude"],
        ),
        row("an empty bridge", network("bridge = \"\""), "networks", &["bridge", "name it"]),
        row("a VLAN of 5000", network("bridge = \"vmbr0\", vlan = 5000"), "networks", &["vlan"]),
        row(
            "a subnet without its length",
            network("bridge = \"vmbr0\", subnet = \"10.1.20.0\""),
            "networks",
            &["CIDR"],
        ),
        row(
            "a gateway outside its subnet",
            network("bridge = \"vmbr0\", subnet = \"10.1.20.0/24\", gateway = \"10.1.21.1\""),
            "networks",
            &["not in the subnet"],
        ),
        row("another word for MACs", network("bridge = \"vmbr0\", macs = \"maybe\""), "networks", &["keep", "new"]),
        row(
            "a range that ends before it begins",
            cluster("vmid_range = { first = 200, last = 100 }"),
            "vmid_range",
            &["below the first"],
        ),
        row("a share above one", cluster("reserve = { memory = 15 }"), "reserve", &["memory"]),
        row("an overcommit of nothing", cluster("overcommit = { cpu = 0 }"), "overcommit", &["cpu"]),
        row("a path to itself", path("").replace("databarn-dr", "worldstream-prod"), "migration_paths", &["to itself"]),
        row("another method", path("method = \"teleport\""), "migration_paths", &["teleport", "backup-restore"]),
        row("a rate without a unit", path("max_bandwidth = \"500\""), "migration_paths", &["max_bandwidth"]),
        row(
            "another transport",
            path("transport = { type = \"pigeon\" }"),
            "migration_paths",
            &["pigeon", "shared-storage"],
        ),
        row(
            "a window at 25:00",
            path("window = { from = \"25:00\", to = \"04:00\" }"),
            "migration_paths",
            &["25:00", "HH:MM"],
        ),
        row(
            "a zone that is none",
            path("window = { from = \"22:00\", to = \"04:00\", zone = \"Europe/Amsterdm\" }"),
            "migration_paths",
            &["Europe/Amsterdm", "not a time zone"],
        ),
        row("no moves at once", path("max_concurrent = 0"), "migration_paths", &["max_concurrent"]),
        row(
            "a MAC prefix of a group",
            cluster("datacenter_options = { mac_prefix = \"01:00:5E\" }"),
            "datacenter_options",
            &["mac_prefix"],
        ),
        row(
            "a limit of a kind that is none",
            cluster("datacenter_options = { bwlimit = { teleport = \"1Gbps\" } }"),
            "datacenter_options",
            &["teleport", "none of"],
        ),
    ]
}
