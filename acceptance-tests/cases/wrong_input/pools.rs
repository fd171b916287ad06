//! Owns the mistakes in pools and data sources: static ones, which `validate` finds without asking anybody.
use super::batch::Row;
use super::row;

/// A pool with these lines beside its name and clusters.
fn pool(lines: &str) -> String {
    format!(
        "resource \"moxxie_resource_pool\" \"NAME\" {{\n  name = \"team\"\n  clusters = [\"a\", \"b\"]\n  {lines}\n}}\n"
    )
}

fn policy(lines: &str) -> String {
    pool(&format!("placement_policy = {{ {lines} }}"))
}

fn rule(from: &str, to: &str) -> String {
    let rule = "{ type = \"affinity\", target = \"cluster\", operator = \"must\", value = \"a\" }";
    policy(&format!("rules = [{}]", rule.replace(from, to)))
}

fn placement(lines: &str) -> String {
    format!("data \"moxxie_placement\" \"NAME\" {{\n  pool = \"team\"\n  {lines}\n}}\n")
}

fn migration(lines: &str) -> String {
    format!("data \"moxxie_migration_plan\" \"NAME\" {{\n  machine = \"web-1\"\n  {lines}\n}}\n")
}

/// Pools.
pub fn pools() -> Vec<Row> {
    vec![
        row("a reserved name", pool("").replace("\"team\"", "\"moxxie-moves\""), "name", &["reserved"]),
        row("an empty pool name", pool("").replace("\"team\"", "\"\""), "name", &["Invalid name"]),
        row("four levels", pool("").replace("\"team\"", "\"a/b/c/d\""), "name", &["Invalid name"]),
        row("a pool name with a blank", pool("").replace("\"team\"", "\"my team\""), "name", &["Invalid name"]),
        row("no clusters", pool("").replace("[\"a\", \"b\"]", "[]"), "clusters", &["at least one cluster"]),
        row(
            "a cluster's name in capitals",
            pool("").replace("\"a\", \"b\"", "\"A B\""),
            "clusters",
            &["Invalid clusters"],
        ),
        row("no guests at all", pool("limits = { max_vms = 0 }"), "limits", &["from 1 to"]),
        row("half a core", pool("limits = { max_cpu_cores = 0.5 }"), "limits", &["whole number"]),
        row("memory without a unit", pool("limits = { max_memory = \"64\" }"), "limits", &["no unit"]),
        row("storage of nothing", pool("limits = { max_storage = \"0GB\" }"), "limits", &["no limit"]),
        row(
            "storage past all bounds",
            pool("limits = { max_storage = \"99999999999999TB\" }"),
            "limits",
            &["max_storage"],
        ),
        row(
            "a strategy that is none",
            policy("strategy = \"random\""),
            "placement_policy",
            &["balanced, performance, cost, geographic"],
        ),
        row(
            "a weight for a stranger",
            policy("cluster_weights = { c = 5 }"),
            "placement_policy",
            &["not one of the pool's clusters"],
        ),
        row(
            "a weight below nothing",
            policy("cluster_weights = { a = -1 }"),
            "placement_policy",
            &["whole number from 0"],
        ),
        row(
            "a weight in pieces",
            policy("cluster_weights = { a = 1.5 }"),
            "placement_policy",
            &["whole number from 0"],
        ),
        row(
            "a rule type that is none",
            rule("affinity", "gravity"),
            "placement_policy",
            &["affinity, anti-affinity, location"],
        ),
        row("a target that is none", rule("\"cluster\"", "\"rack\""), "placement_policy", &["cluster, node, tag"]),
        row(
            "an operator that is none",
            rule("\"must\"", "\"shall\""),
            "placement_policy",
            &["must, should, must_not, should_not"],
        ),
        row("a rule about nothing", rule("\"a\"", "\" \""), "placement_policy", &["A rule without a value"]),
        row("a rule without an operator", rule(", operator = \"must\"", ""), "rules", &["operator"]),
        row(
            "a move that is none",
            pool("automatic_moves = [\"always\"]"),
            "automatic_moves",
            &["drain, violations, improve"],
        ),
        row("no moves per apply", pool("max_moves_per_apply = 0"), "max_moves_per_apply", &["from 1"]),
        row("moves in pieces", pool("max_moves_per_apply = 1.5"), "max_moves_per_apply", &["whole number"]),
    ]
}

/// Data sources.
pub fn data() -> Vec<Row> {
    vec![
        row("a placement without requests", placement(""), "data", &["requests"]),
        row(
            "a placement in a reserved pool",
            placement("requests = {}").replace("\"team\"", "\"moxxie\""),
            "pool",
            &["reserved"],
        ),
        row("a request's name", placement("requests = { \"a b\" = {} }"), "requests", &["Invalid name"]),
        row(
            "a request's memory",
            placement("requests = { a = { memory = \"much\" } }"),
            "requests",
            &["Invalid memory"],
        ),
        row(
            "a request's disk slot",
            placement("requests = { a = { disks = { hda = { size = \"8GB\" } } } }"),
            "requests",
            &["No such slot"],
        ),
        row(
            "a request's network",
            placement("requests = { a = { network_devices = { net0 = {} } } }"),
            "requests",
            &["needs a network or a bridge"],
        ),
        row(
            "an ability that is none",
            placement("requests = { a = { needs = [\"wings\"] } }"),
            "requests",
            &["supports_ceph"],
        ),
        row(
            "two requests for one",
            placement("requests = { a = {}, b = { name = \"a\" } }"),
            "requests",
            &["Two requests for one machine"],
        ),
        row(
            "an inline rule about nothing",
            placement(
                "requests = {}\n  placement_policy = { rules = [{ type = \"affinity\", target = \"tag\", operator = \"must\", value = \"\" }] }",
            ),
            "placement_policy",
            &["A rule without a value"],
        ),
        row("an inline limit", placement("requests = {}\n  limits = { max_memory = \"8\" }"), "limits", &["no unit"]),
        row("a move without a target", migration(""), "data", &["target"]),
        row("a target that can be no cluster", migration("target = \"a b\""), "target", &["Invalid target"]),
        row(
            "a downtime in words",
            migration("target = \"a\"\n  max_downtime = \"short\""),
            "max_downtime",
            &["Invalid max_downtime"],
        ),
        row(
            "a loss that is none",
            migration("target = \"a\"\n  accept_loss = [\"all\"]"),
            "accept_loss",
            &["snapshots"],
        ),
        row(
            "pools that are none",
            "data \"moxxie_federation\" \"NAME\" {\n  pools = [\"a b\"]\n}\n".to_owned(),
            "pools",
            &["Invalid pools"],
        ),
    ]
}
