//! Owns what this process knows of the federation's rules: what is declared, what is enrolled on the clusters, and what this
//! configuration plans (design.md §3). The third layer reaches a machine only where its pool was planned before it.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation::model::{Enrolled, Layered, Plans};
use federation::{Cluster, ClusterName, Federation, Pool, PoolName};

/// What a pool or cluster of this configuration becomes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Planned<T> {
    /// This.
    Known(T),
    /// It depends on what is not known yet: these attributes.
    Unknown(Vec<String>),
}

/// The third layer, and who asked before it was there.
#[derive(Debug, Default)]
pub(crate) struct Layers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    planned: BTreeMap<PoolName, Planned<Pool>>,
    clusters: BTreeMap<ClusterName, Planned<Cluster>>,
    /// Pools that a machine was decided with, as it saw them, before they were planned.
    asked: BTreeMap<PoolName, Option<Pool>>,
    /// Clusters that a machine was decided with, likewise.
    asked_clusters: BTreeMap<ClusterName, Option<Cluster>>,
    last: Option<(Arc<Enrolled>, Arc<Layered>)>,
}

impl Layers {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held halfway; and what is in it is whole at every point.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The three layers put together.
    pub(crate) fn together(&self, declared: &Federation, enrolled: &Arc<Enrolled>) -> Arc<Layered> {
        let mut inner = self.inner();
        if let Some((from, layered)) = &inner.last
            && Arc::ptr_eq(from, enrolled)
        {
            return layered.clone();
        }
        let plans = Plans { pools: known(&inner.planned), clusters: known(&inner.clusters) };
        let layered = Arc::new(declared.layered(enrolled, &plans));
        inner.last = Some((enrolled.clone(), layered.clone()));
        layered
    }

    /// What is declared and planned alone: the same whatever the clusters say.
    pub(crate) fn written(&self, declared: &Federation) -> Layered {
        let inner = self.inner();
        let plans = Plans { pools: known(&inner.planned), clusters: known(&inner.clusters) };
        declared.layered(&Enrolled::default(), &plans)
    }

    /// A machine is decided with this pool: what it sees now is noted, unless this configuration planned the pool already.
    pub(crate) fn asked(&self, name: &PoolName, seen: Option<&Pool>) {
        let mut inner = self.inner();
        if !inner.planned.contains_key(name) {
            inner.asked.entry(name.clone()).or_insert_with(|| seen.map(what_counts));
        }
    }

    /// The same of a cluster that it may be placed on.
    pub(crate) fn asked_cluster(&self, name: &ClusterName, seen: Option<&Cluster>) {
        let mut inner = self.inner();
        if !inner.clusters.contains_key(name) {
            inner.asked_clusters.entry(name.clone()).or_insert_with(|| seen.map(without_names));
        }
    }

    /// What makes a planned pool unknown.
    pub(crate) fn unknown(&self, name: &PoolName) -> Option<Vec<String>> {
        self.inner().planned.get(name).and_then(Planned::inputs)
    }

    /// What makes a planned cluster unknown.
    pub(crate) fn unknown_cluster(&self, name: &ClusterName) -> Option<Vec<String>> {
        self.inner().clusters.get(name).and_then(Planned::inputs)
    }

    /// A cluster is planned, or was written just now.
    pub(crate) fn plan_cluster(&self, name: &ClusterName, planned: Planned<Cluster>) {
        let mut inner = self.inner();
        inner.clusters.insert(name.clone(), planned);
        inner.last = None;
    }

    /// A cluster is not going to be what was planned: what its record says counts.
    pub(crate) fn forget_cluster(&self, name: &ClusterName) {
        let mut inner = self.inner();
        inner.clusters.remove(name);
        inner.last = None;
    }

    /// Whether a machine was decided with another idea of the cluster than `now`.
    pub(crate) fn cluster_came_too_late(&self, name: &ClusterName, now: Option<&Cluster>) -> bool {
        self.inner().asked_clusters.get(name).is_some_and(|asked| *asked != now.map(without_names))
    }

    /// A pool is planned, or was written just now.
    pub(crate) fn plan(&self, name: &PoolName, planned: Planned<Pool>) {
        let mut inner = self.inner();
        inner.planned.insert(name.clone(), planned);
        inner.last = None;
    }

    /// A pool is not going to be what was planned: what the clusters hold counts.
    pub(crate) fn forget(&self, name: &PoolName) {
        let mut inner = self.inner();
        inner.planned.remove(name);
        inner.last = None;
    }

    /// Whether a machine was decided with another idea of the pool than `now`.
    pub(crate) fn came_too_late(&self, name: &PoolName, now: Option<&Pool>) -> bool {
        self.inner().asked.get(name).is_some_and(|asked| *asked != now.map(what_counts))
    }
}

impl<T> Planned<T> {
    fn inputs(&self) -> Option<Vec<String>> {
        match self {
            Planned::Unknown(inputs) => Some(inputs.clone()),
            Planned::Known(_) => None,
        }
    }
}

/// What is planned and known.
fn known<K: Ord + Clone, T: Clone>(planned: &BTreeMap<K, Planned<T>>) -> BTreeMap<K, T> {
    let known = planned.iter().filter_map(|(name, planned)| match planned {
        Planned::Known(facts) => Some((name.clone(), facts.clone())),
        Planned::Unknown(_) => None,
    });
    known.collect()
}

/// A cluster's facts without what is for people alone.
fn without_names(cluster: &Cluster) -> Cluster {
    // What is planned says of every flag that it is off; what nobody has declared means the same.
    let off = |flag: Option<bool>| flag.filter(|on| *on);
    let (cordoned, draining) = (off(cluster.cordoned), off(cluster.draining));
    Cluster { display_name: None, cordoned, draining, ..cluster.clone() }
}

/// What placement looks at.
fn what_counts(pool: &Pool) -> Pool {
    let policy = Some(pool.policy());
    Pool { clusters: pool.clusters.clone(), limits: pool.limits, policy, ..Pool::default() }
}

#[cfg(test)]
mod tests {
    use federation::model::Limits;

    use super::*;

    fn name() -> PoolName {
        "prod".parse().expect("a name")
    }

    fn pool(most: u32) -> Pool {
        let limits = Limits { max_vms: Some(most), ..Limits::default() };
        Pool { clusters: ["ams".parse().expect("a name")].into(), limits, ..Pool::default() }
    }

    #[test]
    fn a_planned_pool_is_seen_by_who_comes_later() {
        let layers = Layers::default();
        let (declared, enrolled) = (Federation::default(), Arc::new(Enrolled::default()));
        assert!(layers.together(&declared, &enrolled).federation.pools.is_empty());
        layers.plan(&name(), Planned::Unknown(vec!["clusters".into()]));
        assert!(layers.together(&declared, &enrolled).federation.pools.is_empty());
        assert_eq!(layers.unknown(&name()), Some(vec!["clusters".into()]));
        layers.plan(&name(), Planned::Known(pool(5)));
        assert_eq!(layers.together(&declared, &enrolled).federation.pools[&name()], pool(5));
        assert_eq!(layers.unknown(&name()), None);
        layers.forget(&name());
        assert!(layers.together(&declared, &enrolled).federation.pools.is_empty());
    }

    #[test]
    fn who_asked_before_is_told_only_where_it_matters() {
        let layers = Layers::default();
        assert!(!layers.came_too_late(&name(), Some(&pool(5))), "nobody asked");
        layers.asked(&name(), Some(&pool(5)));
        layers.asked(&name(), Some(&pool(6)));
        let described = Pool { description: Some("x".into()), policy: Some(Default::default()), ..pool(5) };
        assert!(!layers.came_too_late(&name(), Some(&described)), "the same policy");
        assert!(layers.came_too_late(&name(), Some(&pool(6))));
        let after = Layers::default();
        after.plan(&name(), Planned::Known(pool(5)));
        after.asked(&name(), Some(&pool(5)));
        assert!(!after.came_too_late(&name(), Some(&pool(6))), "it came after the plan");
        let without = Layers::default();
        without.asked(&name(), None);
        assert!(without.came_too_late(&name(), Some(&pool(5))));
    }
}
