//! Owns which names of clusters, pools and networks there are: what the federation file declares, and the configuration itself.
use std::collections::BTreeSet;

use federation::Federation;
use federation::config::nearest;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Block, Body, Structure};

use crate::read::{key, text};

/// What a text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Cluster,
    Pool,
    Network,
}

/// The names of one kind.
#[derive(Debug, Default)]
struct Names {
    all: BTreeSet<String>,
    /// Others that there are, but that nobody is asked whether they were meant: bridges differ by a digit.
    others: BTreeSet<String>,
    /// Some are made of what is not written out: a name that isn't here may be one of them.
    open: bool,
}

/// The names there are.
#[derive(Debug, Default)]
pub(crate) struct Known {
    clusters: Names,
    pools: Names,
    networks: Names,
}

/// What the texts of an attribute of this name are; `top`: it stands at the top of its block. All schemas keep to that.
pub(crate) fn kind_of(attribute: &str, top: bool) -> Option<Kind> {
    match attribute {
        "cluster" | "clusters" | "lost_clusters" => Some(Kind::Cluster),
        // Of a migration plan. In a rule it says what the rule is about.
        "target" if top => Some(Kind::Cluster),
        "pool" => Some(Kind::Pool),
        "network" => Some(Kind::Network),
        _ => None,
    }
}

/// What the keys of a map of this name are. The provider block's `clusters` declares them.
pub(crate) fn kind_of_keys(attribute: &str) -> Option<Kind> {
    matches!(attribute, "cluster_weights" | "migration_paths").then_some(Kind::Cluster)
}

impl Known {
    /// What the federation file declares.
    pub(crate) fn of(federation: Option<&Federation>) -> Known {
        let mut known = Known::default();
        let Some(federation) = federation else {
            // Nothing says which clusters, pools and networks there are: the connections may name all of them, or a record on
            // the clusters does.
            [&mut known.clusters, &mut known.pools, &mut known.networks]
                .into_iter()
                .for_each(|names| names.open = true);
            return known;
        };
        known.clusters.all.extend(federation.clusters.keys().map(ToString::to_string));
        known.pools.all.extend(federation.pools.keys().map(ToString::to_string));
        for cluster in federation.clusters.values() {
            known.networks.all.extend(cluster.networks.keys().cloned());
            // A name that nobody maps stands for itself, a bridge.
            known.networks.others.extend(cluster.bridges.iter().cloned());
            known.networks.others.extend(cluster.networks.values().map(|network| network.bridge.clone()));
        }
        known
    }

    /// Adds what a file of the configuration declares.
    pub(crate) fn declare(&mut self, body: &Body) {
        for block in body.iter().filter_map(Structure::as_block) {
            let labels: Vec<&str> = block.labels.iter().map(|label| label.as_str()).collect();
            match (block.ident.as_str(), labels.as_slice()) {
                ("provider", ["moxxie"]) => self.clusters.keys(block, "clusters"),
                ("resource", ["moxxie_cluster", _]) => {
                    self.clusters.value(block, "name");
                    self.networks.keys(block, "networks");
                }
                ("resource", ["moxxie_resource_pool", _]) => self.pools.value(block, "name"),
                _ => {}
            }
        }
    }

    /// What is wrong with a name, in words, and whether it may be meant so; `None` where it is known or can't be judged.
    pub(crate) fn wrong(&self, kind: Kind, name: &str) -> Option<(String, bool)> {
        let (names, what) = match kind {
            Kind::Cluster => (&self.clusters, "cluster"),
            Kind::Pool => (&self.pools, "pool"),
            Kind::Network => (&self.networks, "network"),
        };
        if names.all.is_empty() || names.all.contains(name) || names.others.contains(name) {
            return None;
        }
        let all: Vec<&str> = names.all.iter().map(String::as_str).collect();
        let near = nearest(name, &all);
        let open = names.open || kind == Kind::Network;
        match near {
            Some(near) => Some((format!("there is no {what} {name:?}; did you mean {near:?}?"), open)),
            // It may be declared where nobody looks here: another workspace's record, a bridge.
            None if open => None,
            None => Some((format!("there is no {what} {name:?}; there are {}", all.join(", ")), false)),
        }
    }
}

impl Names {
    /// The text of an attribute.
    fn value(&mut self, block: &Block, name: &str) {
        match block.body.get_attribute(name).map(|attribute| text(&attribute.value)) {
            Some(Some(name)) => drop(self.all.insert(name)),
            Some(None) => self.open = true,
            None => {}
        }
    }

    /// The keys of an attribute.
    fn keys(&mut self, block: &Block, name: &str) {
        match block.body.get_attribute(name).map(|attribute| &attribute.value) {
            Some(Expression::Object(object)) => {
                for (entry, _) in object.iter() {
                    match key(entry) {
                        Some(key) => drop(self.all.insert(key)),
                        None => self.open = true,
                    }
                }
            }
            Some(_) => self.open = true,
            None => {}
        }
    }
}
