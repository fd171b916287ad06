//! Keys and digests of decisions: equal for equal meaning, on every machine.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::digest::{canonical_json, sha256_hex};
use crate::model::Policy;
use crate::names::ClusterName;
use crate::placement::{Inventory, Request};

/// What a decision is filed under.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'a> {
    /// Name and identity (fingerprint of the CA) of every cluster of the federation; no endpoints, no credentials.
    /// Where an identity is not known, the name alone stands.
    pub clusters: &'a [(ClusterName, Option<String>)],
    /// The workspace.
    pub workspace: &'a str,
    /// The placement-relevant part of the configuration. Where the VM is now (`current`) is left out: at apply a
    /// replaced VM is gone.
    pub request: &'a Request,
}

/// SHA-256 in hexadecimal over the parts in canonical units and order.
pub fn decision_key(parts: KeyParts<'_>) -> String {
    #[derive(Serialize)]
    struct Canonical<'a> {
        format: &'static str,
        clusters: BTreeSet<&'a (ClusterName, Option<String>)>,
        workspace: &'a str,
        request: Request,
    }
    let request = Request { current: None, ..parts.request.clone() };
    digest_of(&Canonical {
        format: "moxxie decision 1",
        clusters: parts.clusters.iter().collect(),
        workspace: parts.workspace,
        request,
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
