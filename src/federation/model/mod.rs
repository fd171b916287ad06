//! The federation as a value: clusters with their facts, pools with limits and policy.
//!
//! A [`Federation`] is assembled from layers (configuration file, what is enrolled on the clusters, what is planned);
//! [`Federation::overlay`] puts one over another. Nothing here knows where a value came from.

mod cluster;
mod enrolled;
mod enrolment;
mod layers;
mod path;
mod pool;
mod resolve;
mod window;
pub(crate) mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use cluster::{
    Capability, CapacitySource, Cluster, Coordinates, MacPolicy, Network, Overcommit, Pricing, Reserve, Tier,
    VlanRange, VmidRange,
};
pub use enrolled::{Enrolled, Layered, Plans, Problem, Record, Sight, counts};
pub use enrolment::{Closed, ClusterSight, Datacenter, Enrolment};
pub use layers::Difference;
pub use path::{CrossConnect, LinkKind, Method, MigrationPath, Transport, TransportKind, Wan, Weekday, Window};
pub use pool::{AutomaticMove, Limits, Operator, Policy, Pool, Rule, RuleType, Strategy, Target};
pub use resolve::{NicOnCluster, NicRequest};
pub use words::WordError;

use crate::names::{ClusterName, PoolName};

/// All that is declared about the federation. Load and health are not here; they are in
/// [`crate::placement::Inventory`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Federation {
    /// The clusters by name.
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// The pools by name.
    pub pools: BTreeMap<PoolName, Pool>,
    /// Where nothing new of a pool is placed, and why: what is enrolled there is damaged, missing or can't be seen. Not
    /// declared by anybody, so no layer holds it.
    #[serde(skip)]
    pub closed: BTreeMap<PoolName, BTreeMap<ClusterName, String>>,
    /// Where nothing new is placed at all, and why: what is enrolled about the cluster itself can't be trusted or seen.
    #[serde(skip)]
    pub closed_clusters: BTreeMap<ClusterName, String>,
}

impl Federation {
    /// The cluster called `text`: by name, else by display name ignoring case.
    pub fn cluster_called(&self, text: &str) -> Option<(&ClusterName, &Cluster)> {
        self.clusters.get_key_value(text).or_else(|| {
            let wanted = text.to_lowercase();
            self.clusters
                .iter()
                .find(|(_, cluster)| cluster.display_name.as_deref().is_some_and(|name| name.to_lowercase() == wanted))
        })
    }
}

#[cfg(test)]
mod tests;
