//! What is read key by key and still doesn't fit together: subnets, links that only one side knows, paths that their ends or
//! links can't carry. Findings are warnings: each may be meant so.

use std::collections::BTreeMap;

use crate::model::{Capability, Federation, Method};
use crate::names::ClusterName;
use crate::units::{Cidr, Span};

/// Round-trip time above which the guide recommends `backup-restore` ("network latency > 10 ms").
const LIVE_AT_MOST: Span = Span::from_millis(10);

/// Everything that doesn't fit together. `subnets`: the private ones, by cluster; public addresses are the world's to check.
pub(super) fn warnings(federation: &Federation, subnets: &BTreeMap<ClusterName, Cidr>) -> Vec<String> {
    let mut found = Vec::new();
    let all: Vec<(&ClusterName, &Cidr)> = subnets.iter().collect();
    for (index, (name, subnet)) in all.iter().enumerate() {
        for (other, theirs) in all.iter().skip(index + 1).filter(|(_, theirs)| subnet.overlaps(**theirs)) {
            let _ = theirs;
            found
                .push(format!("the private subnets of {name} and {other} overlap: nothing can be routed between them"));
        }
    }
    for (name, cluster) in &federation.clusters {
        for target in cluster.cross_connects.keys() {
            let back = federation.clusters.get(target).is_some_and(|other| other.cross_connects.contains_key(name));
            if !back {
                found.push(format!("{name} has a cross-connect to {target}, which declares none back"));
            }
        }
        for (target, path) in &cluster.migration_paths {
            if path.encryption_required && !cluster.link_encrypted(target) {
                found.push(format!(
                    "the path {name} → {target} requires encryption, and neither link_encrypted nor a vpn or direct \
                     cross-connect provides it: moves that don't encrypt by themselves are refused"
                ));
            }
            if path.method == Method::BackupRestore {
                continue;
            }
            if path.method == Method::StorageMigration {
                for end in [name, target] {
                    let declared = federation.clusters.get(end).map(|facts| &facts.capabilities);
                    if declared.and_then(|all| all.get(&Capability::LiveMigration)) == Some(&false) {
                        let method = path.method;
                        found.push(format!(
                            "the path {name} → {target} is {method}, and {end} has live_migration: false"
                        ));
                    }
                }
                let latency = cluster.cross_connects.get(target).and_then(|link| link.latency);
                if let Some(latency) = latency.filter(|latency| *latency > LIVE_AT_MOST) {
                    found.push(format!(
                        "the path {name} → {target} is {} over {latency}: above {LIVE_AT_MOST} backup-restore is the safe one",
                        path.method
                    ));
                }
            }
        }
    }
    found
}

/// A schedule of five fields, as cron has them.
pub(super) fn is_cron(text: &str) -> bool {
    let field =
        |field: &str| !field.is_empty() && field.chars().all(|c| c.is_ascii_alphanumeric() || "*/,-".contains(c));
    let fields: Vec<&str> = text.split_whitespace().collect();
    fields.len() == 5 && fields.into_iter().all(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_overlap_where_they_share_an_address() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        for (a, b, overlap) in [
            ("10.0.0.0/16", "10.0.5.0/24", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("0.0.0.0/0", "192.0.2.1/32", true),
            ("fd00::/8", "fd00:1::/32", true),
            ("fd00::/8", "10.0.0.0/8", false),
            ("::/0", "fd00::1/128", true),
        ] {
            assert_eq!(cidr(a).overlaps(cidr(b)), overlap, "{a} {b}");
            assert_eq!(cidr(b).overlaps(cidr(a)), overlap, "{b} {a}");
        }
        assert!(cidr("10.0.0.0/24").holds("10.0.0.1".parse().unwrap()));
        assert!(!cidr("10.0.0.0/24").holds("10.0.1.1".parse().unwrap()));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "x/8", "fd00::/129"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn schedules_have_five_fields() {
        assert!(is_cron("0 2 * * *") && is_cron("*/15 0-6 1,15 JAN MON"));
        assert!(!is_cron("daily") && !is_cron("0 2 * *") && !is_cron("0 2 * * ?;"));
    }
}
