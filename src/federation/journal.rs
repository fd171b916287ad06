//! What the decision journal is keyed by, and digests: equal for equal meaning, on every machine.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::digest::{canonical_json, sha256_hex};
use crate::model::Policy;
use crate::placement::{Inventory, Request};

/// The key of the decision journal: SHA-256 in hexadecimal over the federation's identity, the workspace, and everything
/// placement looks at, in canonical units and order.
///
/// `clusters` is what the federation is made of: the names of its clusters, which are for life and, unlike fingerprints,
/// known in every walk even of a dark site; no endpoints, no credentials. Their order does not matter. Pool and VM name are
/// in `request`; where the VM is now (`current`) is left out, because at apply a replaced VM is gone.
pub fn decision_key(clusters: &[impl AsRef<str>], workspace: &str, request: &Request) -> String {
    #[derive(Serialize)]
    struct Canonical<'a> {
        format: &'static str,
        clusters: BTreeSet<&'a str>,
        workspace: &'a str,
        request: Request,
    }
    digest_of(&Canonical {
        format: "moxxie decision 1",
        clusters: clusters.iter().map(AsRef::as_ref).collect(),
        workspace,
        request: Request { current: None, ..request.clone() },
    })
}

/// Digest of a policy's meaning: rules in any order and defaults written out or not give the same.
pub fn policy_digest(policy: &Policy) -> String {
    let mut policy = policy.clone();
    policy.rules.sort();
    policy.rules.dedup();
    digest_of(&policy)
}

/// Digest of an inventory's facts, without the time it was taken: the identity of a plan made from it.
pub fn inventory_digest(inventory: &Inventory) -> String {
    digest_of(&inventory.clusters)
}

/// None of the values above has a map with keys that are not texts, the only thing JSON cannot write; if one ever had,
/// the empty text would be digested, which no decision matches.
fn digest_of(value: &impl Serialize) -> String {
    sha256_hex(canonical_json(value).unwrap_or_default().as_bytes())
}

#[cfg(test)]
mod tests {
    //! Equal meaning, equal key; anything that matters changes it.

    use super::*;
    use crate::model::{Operator, Rule, RuleType, Strategy, Target};
    use crate::names::{ClusterName, VmName};
    use crate::placement::{Current, DiskRequest};
    use crate::units::Bytes;

    fn key(clusters: &[&str], workspace: &str, request: &Request) -> String {
        decision_key(clusters, workspace, request)
    }

    fn request() -> Request {
        let mut request = Request::new(VmName::new("web-1").unwrap());
        request.memory = "8GB".parse().unwrap();
        let disk = DiskRequest { size: Bytes::from_gib(40), storage: Some("fast".into()) };
        request.disks.insert("scsi0".parse().unwrap(), disk);
        request
    }

    #[test]
    fn spelling_order_and_place_do_not_matter() {
        let base = key(&["ams", "rtm"], "default", &request());
        assert_eq!(base.len(), 64);
        let mut same = request();
        same.memory = "8192MiB".parse().unwrap();
        same.current = Some(Current { cluster: ClusterName::new("ams").unwrap(), vmid: 100 });
        assert_eq!(key(&["rtm", "ams"], "default", &same), base);
    }

    #[test]
    fn everything_else_does() {
        let base = key(&["ams", "rtm"], "default", &request());
        assert_ne!(key(&["ams"], "default", &request()), base);
        assert_ne!(key(&["ams", "rtm"], "staging", &request()), base);
        let changes: [fn(&mut Request); 6] = [
            |r| r.cpus = 2,
            |r| r.memory = Bytes::from_gib(9),
            |r| r.name = VmName::new("web-2").unwrap(),
            |r| r.ordinal = Some(1),
            |r| r.pin = Some(ClusterName::new("ams").unwrap()),
            |r| r.disks.clear(),
        ];
        for change in changes {
            let mut request = request();
            change(&mut request);
            assert_ne!(key(&["ams", "rtm"], "default", &request), base);
        }
    }

    #[test]
    fn policies_and_inventories_have_digests_of_their_meaning() {
        let rule = |value: &str| Rule {
            kind: RuleType::Location,
            target: Target::Cluster,
            operator: Operator::Must,
            value: value.into(),
        };
        let policy = |rules| Policy { rules, ..Policy::default() };
        assert_eq!(
            policy_digest(&policy(vec![rule("a"), rule("b")])),
            policy_digest(&policy(vec![rule("b"), rule("a")]))
        );
        let spelled: Policy = serde_json::from_str(r#"{"strategy":"balanced","cluster_weights":{}}"#).unwrap();
        assert_eq!(policy_digest(&spelled), policy_digest(&Policy::default()));
        assert_ne!(policy_digest(&policy(vec![rule("a")])), policy_digest(&Policy::default()));
        let cost = Policy { strategy: Strategy::Cost, ..Policy::default() };
        assert_ne!(policy_digest(&cost), policy_digest(&Policy::default()));

        let early = Inventory { taken_at: 1, ..Inventory::default() };
        let mut late = Inventory { taken_at: 2, ..Inventory::default() };
        assert_eq!(inventory_digest(&early), inventory_digest(&late));
        late.clusters.insert(ClusterName::new("ams").unwrap(), Default::default());
        assert_ne!(inventory_digest(&early), inventory_digest(&late));
    }
}
