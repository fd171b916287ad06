//! What the clusters keep of themselves and of pools for everybody: reading it, and the layers of the federation's rules
//! (design.md §3).
mod cluster;
mod copies;
mod datacenter;
mod holds;
mod remove;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use federation::model::{ClusterSight, Enrolled, Layered, Plans, Sight};
use federation::{ClusterName, Federation, PoolName};
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::site::{Overview, Site};

pub use cluster::{ClusterFound, ClusterRecord, ClusterWritten};
pub use copies::{PoolCopies, PoolFound};
pub use write::{PoolWritten, Revision};

/// The rules that were put together last, and from what.
#[derive(Debug)]
pub(crate) struct Rules {
    from: Vec<Arc<Overview>>,
    enrolled: Arc<Enrolled>,
    layered: Arc<Layered>,
}

impl Fleet {
    /// What is enrolled on the clusters that answer, as this process last saw them.
    pub async fn enrolled(&self) -> Arc<Enrolled> {
        self.current().await.0
    }

    /// The federation's rules: what is declared, completed and overruled by what is enrolled, and of clusters by what this
    /// process plans.
    pub async fn rules(&self) -> Arc<Layered> {
        self.current().await.1
    }

    async fn current(&self) -> (Arc<Enrolled>, Arc<Layered>) {
        let seen = self.glances().await;
        let mut rules = self.rules.lock().await;
        let fits = |rules: &Rules| {
            rules.from.len() == seen.len() && rules.from.iter().zip(&seen).all(|(a, (_, b))| Arc::ptr_eq(a, b))
        };
        if let Some(rules) = rules.as_ref().filter(|rules| fits(rules)) {
            return (rules.enrolled.clone(), rules.layered.clone());
        }
        let (mut clusters, mut pools) = (BTreeMap::new(), BTreeMap::<PoolName, BTreeMap<ClusterName, Sight>>::new());
        for (cluster, shown) in shown(&seen, self.declared()).await {
            for (pool, sight) in shown.pools {
                pools.entry(pool).or_default().insert(cluster.clone(), sight);
            }
            clusters.insert(cluster, shown.itself);
        }
        let enrolled = Enrolled::of(&pools, self.declared());
        let enrolled = Arc::new(enrolled.with_clusters(&clusters, self.declared()));
        let planned = Plans { clusters: self.planned_clusters(), ..Plans::default() };
        let layered = Arc::new(self.declared().layered(&enrolled, &planned));
        *self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(layered.clone());
        let from = seen.into_iter().map(|(_, overview)| overview).collect();
        *rules = Some(Rules { from, enrolled: enrolled.clone(), layered: layered.clone() });
        (enrolled, layered)
    }

    /// The overview of every cluster that answers, all asked at once, in the order of their names.
    pub(crate) async fn glances(&self) -> Vec<(Arc<Site>, Arc<Overview>)> {
        let mut asked = JoinSet::new();
        for site in self.sites() {
            let site = Arc::clone(site);
            asked.spawn(async move {
                let overview = site.glance().await.ok()?;
                Some((site, overview))
            });
        }
        let mut seen: Vec<_> = asked.join_all().await.into_iter().flatten().collect();
        seen.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        seen
    }

    /// Guests in a PVE pool or one nested in it, on the clusters that answer, as `cluster/vmid (name)`.
    pub async fn guests_in_pool(&self, name: &PoolName, on: impl Fn(&ClusterName) -> bool) -> Vec<String> {
        let seen = self.glances().await;
        seen.iter()
            .filter(|(site, _)| on(&site.name))
            .flat_map(|(site, overview)| guests(site, overview, name))
            .collect()
    }

    /// The clusters that answer and have a PVE pool of this name, and whether it holds a record.
    pub async fn has_pool(&self, name: &PoolName) -> BTreeMap<ClusterName, bool> {
        let seen = self.glances().await;
        let found = seen.iter().filter(|(_, overview)| overview.has_pool(name.as_str()));
        found.map(|(site, overview)| (site.name.clone(), overview.records.contains_key(name))).collect()
    }
}

/// What one cluster shows of itself, and of every pool that is to be on it.
struct Shown {
    itself: ClusterSight,
    pools: BTreeMap<PoolName, Sight>,
}

/// What every cluster that answers shows. One that has to be asked something for that is asked while the others are.
async fn shown(seen: &[(Arc<Site>, Arc<Overview>)], declared: &Federation) -> BTreeMap<ClusterName, Shown> {
    let mut pools = members(seen, declared);
    let mut asked = JoinSet::new();
    for (site, overview) in seen {
        let (site, overview) = (Arc::clone(site), Arc::clone(overview));
        let pools = pools.remove(&site.name).unwrap_or_default();
        asked.spawn(async move {
            let (itself, pools) = tokio::join!(site.itself(&overview), site.shows(&overview, pools));
            (site.name.clone(), Shown { itself, pools })
        });
    }
    asked.join_all().await.into_iter().collect()
}

/// Every pool that is declared or enrolled anywhere, and whether it is to be on the cluster, by cluster that answers.
fn members(
    seen: &[(Arc<Site>, Arc<Overview>)],
    declared: &Federation,
) -> BTreeMap<ClusterName, BTreeMap<PoolName, bool>> {
    let mut members: BTreeMap<&PoolName, BTreeSet<&ClusterName>> = BTreeMap::new();
    for (name, pool) in &declared.pools {
        members.entry(name).or_default().extend(&pool.clusters);
    }
    for (_, overview) in seen {
        for (name, sight) in &overview.records {
            let members = members.entry(name).or_default();
            if let Sight::Record(record) = sight {
                members.extend(&record.body.clusters);
            }
        }
    }
    let on = |site: &Site| members.iter().map(|(pool, on)| ((*pool).clone(), on.contains(&site.name))).collect();
    seen.iter().map(|(site, _)| (site.name.clone(), on(site))).collect()
}

impl Overview {
    /// What is seen of a pool; one that isn't seen counts as absent.
    pub(crate) fn shows(&self, name: &PoolName) -> Sight {
        match self.records.get(name) {
            Some(sight) => sight.clone(),
            None if self.has_pool(name.as_str()) => Sight::Plain,
            None => Sight::Absent,
        }
    }
}

impl Site {
    /// What is seen of the cluster itself. Only one with a record is asked who it is.
    async fn itself(&self, overview: &Overview) -> ClusterSight {
        let sight = self.enrolment(overview).await;
        let identity = if matches!(sight, Sight::Record(_)) { self.who().await.ok() } else { None };
        ClusterSight { sight, identity }
    }

    /// What is seen of pools, of which some are to be here.
    async fn shows(&self, overview: &Overview, pools: BTreeMap<PoolName, bool>) -> BTreeMap<PoolName, Sight> {
        let mut shown = BTreeMap::new();
        for (name, is_member) in pools {
            let sight = if is_member { self.sight(overview, &name).await } else { overview.shows(&name) };
            shown.insert(name, sight);
        }
        shown
    }

    /// What is seen of a pool; where nothing is, whether the token would see it.
    pub(crate) async fn sight(&self, overview: &Overview, name: &PoolName) -> Sight {
        match overview.shows(name) {
            Sight::Absent if !self.may_see(name.as_str()).await => {
                Sight::NoRight(format!("Pool.Audit on /pool/{name} of {}", self.name))
            }
            sight => sight,
        }
    }

    /// Whether the token may see a pool (Pool.Audit or Pool.Allocate, `proxmox-ve.md` §10.3). A cluster that doesn't say
    /// is taken at its word that there is no such pool.
    pub(crate) async fn may_see(&self, name: &str) -> bool {
        let permissions = self.permissions().await;
        let path = format!("/pool/{name}");
        permissions.is_none_or(|all| all.has(&path, "Pool.Audit") || all.has(&path, "Pool.Allocate"))
    }
}

/// Guests in a pool or one nested in it.
fn guests(site: &Site, overview: &Overview, name: &PoolName) -> Vec<String> {
    let inside = |pool: &str| {
        pool == name.as_str() || pool.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('/'))
    };
    let found = overview.guests().filter(|guest| guest.pool.as_deref().is_some_and(inside));
    found
        .map(|guest| {
            let vmid = guest.vmid.unwrap_or_default();
            format!("{}/{vmid} ({})", site.name, guest.name.as_deref().unwrap_or("no name yet"))
        })
        .collect()
}

/// A failure about a pool, before anything was touched.
pub(crate) fn untouched(what: &str, place: impl Into<String>) -> Failure {
    Failure::new(what).at(place).state("nothing was touched")
}
