//! Owns all clusters of this process: connections, the federation's rules, and one snapshot of facts.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use federation::model::Layered;
use federation::placement::Inventory;
use federation::{Cluster, ClusterName, Federation, Span};
use proxmox::{Client, ClusterConnection, Limits};
use tokio::sync::{Mutex, OnceCell, OwnedSemaphorePermit, Semaphore, watch};

use crate::audit::Audit;
use crate::births::Births;
use crate::enrolment::Rules;
use crate::failure::Failure;
use crate::journal::Journal;
use crate::moves::Solved;
use crate::site::Site;

/// Waits and limits of the operations. Every wait is here or in the client's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long the holder of an operation on another machine may be silent before it is taken over.
    pub lease: Span,
    /// Most calls under way at once, all clusters together.
    pub concurrency: usize,
    /// Longest time for a create, where the user sets none.
    pub create: Span,
    /// Longest time for an update or a move, where the user sets none.
    pub update: Span,
    /// Longest time for a removal, where the user sets none.
    pub delete: Span,
    /// How old facts may be that a decision is checked against at apply.
    pub fact_age: Span,
    /// How long an archive may take to show up on the target (attribute caches of network file systems: up to 60 s).
    pub archive_visible: Span,
    /// How long after its call a migration to another cluster may still begin, though nothing shows it yet: the node connects to
    /// the other cluster before there is a task, and each of those calls has a timeout of its own (`proxmox-ve.md` §9).
    pub late_migration: Span,
    /// How long Proxmox VE may take to remove a replication job of a source that goes: it does so once a minute.
    pub replication_removed: Span,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lease: Span::from_secs(15 * 60),
            concurrency: 32,
            create: Span::from_secs(3600),
            update: Span::from_secs(24 * 3600),
            delete: Span::from_secs(3600),
            fact_age: Span::from_secs(10),
            archive_visible: Span::from_secs(120),
            late_migration: Span::from_secs(300),
            replication_removed: Span::from_secs(180),
        }
    }
}

/// Calls under way per node of a cluster: pveproxy has three workers (`proxmox-ve.md` §2.5).
const PER_NODE: usize = 4;

/// The clusters of one federation.
#[derive(Debug)]
pub struct Fleet {
    sites: BTreeMap<ClusterName, Arc<Site>>,
    declared: Federation,
    /// Clusters that the operator declares lost.
    lost: BTreeSet<ClusterName>,
    /// Operations that were open when this process first looked: cluster, pool, journal.
    pub(crate) open: OnceCell<Vec<(ClusterName, String, Journal)>>,
    pub(crate) rules: Mutex<Option<Rules>>,
    /// Moves that rules ask for, by pool.
    pub(crate) solved: Mutex<Solved>,
    /// Facts of clusters that this process plans or has written: the third layer. Held for a look-up, never over an await.
    planned: std::sync::Mutex<BTreeMap<ClusterName, Cluster>>,
    /// The rules as they were put together last; none before [`Fleet::warm`]. Held for a look-up, never over an await.
    pub(crate) known: std::sync::Mutex<Option<Arc<Layered>>>,
    settings: Settings,
    inventory: OnceCell<Arc<Inventory>>,
    stop: watch::Sender<bool>,
    audit: Audit,
    /// Held for a look-up, never over an await.
    slots: std::sync::Mutex<BTreeMap<String, Arc<Semaphore>>>,
    births: Births,
    /// VMIDs that this process gave out.
    given_out: std::sync::Mutex<BTreeSet<u32>>,
}

impl Fleet {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// A connection that can't work: its addresses, credentials or trust.
    pub fn new(
        connections: Vec<ClusterConnection>,
        federation: Federation,
        settings: Settings,
    ) -> Result<Fleet, Vec<Failure>> {
        let limits = Limits::new(settings.concurrency, PER_NODE);
        let mut sites = BTreeMap::new();
        let mut failures = Vec::new();
        for connection in connections {
            let name = connection.name.clone();
            let made = Client::new(connection, limits.clone());
            match (ClusterName::new(&name), made) {
                (Ok(name), Ok(client)) => {
                    sites.insert(name.clone(), Arc::new(Site::new(name, client)));
                }
                (Err(error), _) => failures.push(Failure::new("Unable to use a cluster's name").said(error)),
                (_, Err(error)) => failures.push(
                    Failure::new(format!("Unable to connect to cluster {name}"))
                        .at(error.to_string())
                        .next("mend its entry in `clusters` of the provider block"),
                ),
            }
        }
        if !failures.is_empty() {
            return Err(failures);
        }
        Ok(Fleet {
            sites,
            declared: federation,
            lost: BTreeSet::new(),
            open: OnceCell::new(),
            rules: Mutex::new(None),
            solved: Mutex::default(),
            planned: std::sync::Mutex::default(),
            known: std::sync::Mutex::default(),
            settings,
            inventory: OnceCell::new(),
            stop: watch::Sender::new(false),
            audit: Audit::default(),
            slots: std::sync::Mutex::default(),
            births: Births::default(),
            given_out: std::sync::Mutex::default(),
        })
    }

    /// Has every step of an operation written down.
    #[must_use]
    pub fn audited(self, audit: Audit) -> Fleet {
        Fleet { audit, ..self }
    }

    /// Has machines of these clusters be recovered elsewhere while the clusters don't answer ([`Fleet::recover`]).
    #[must_use]
    pub fn with_lost(self, lost: BTreeSet<ClusterName>) -> Fleet {
        Fleet { lost, ..self }
    }

    /// Whether a cluster is declared lost and does not answer, as far as this process has asked. One that answers is not lost,
    /// whatever is declared: what runs there must not run twice. Nor is one whose certificate is refused: somebody answers there.
    pub async fn is_lost(&self, name: &ClusterName) -> bool {
        self.lost.contains(name)
            && match self.site(name.as_str()) {
                Some(site) => site.glance().await.is_err_and(|error| is_silence(&error)),
                None => false,
            }
    }

    /// The same, asked anew: what this process found may be hours old.
    pub(crate) async fn still_lost(&self, name: &ClusterName) -> bool {
        self.lost.contains(name)
            && match self.site(name.as_str()) {
                Some(site) => site.client.version().await.is_err_and(|error| is_silence(&error)),
                None => false,
            }
    }

    /// Whether the operator declares a cluster lost.
    pub fn is_declared_lost(&self, name: &ClusterName) -> bool {
        self.lost.contains(name)
    }

    /// The audit trail.
    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// A place among the `most` of this process that may do one thing at a time: back up on one node, use one path.
    pub(crate) async fn slot(&self, name: String, most: u32) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut slots = self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let made = || Arc::new(Semaphore::new(usize::try_from(most.max(1)).unwrap_or(1)));
            slots.entry(name).or_insert_with(made).clone()
        };
        // Never closed, so there is always a place in the end.
        places.acquire_owned().await.ok()
    }

    /// Remembers in `folder` what creates for `state` (a workspace: another one of the folder has another state) have made,
    /// until state has it ([`Fleet::find`] is asked for it): a create that was killed after its last call is known again.
    /// Without, such a create is refused with the import id.
    #[must_use]
    pub fn remembering_in(self, folder: std::path::PathBuf, state: String) -> Fleet {
        Fleet { births: Births::in_folder(folder, state), ..self }
    }

    pub(crate) fn births(&self) -> &Births {
        &self.births
    }

    /// What the provider block and its file declare: the first of the three layers, see [`Fleet::rules`].
    pub fn declared(&self) -> &Federation {
        &self.declared
    }

    /// Waits and limits.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The clusters with a connection.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.sites.values()
    }

    /// One cluster, if it has a connection.
    pub fn site(&self, name: &str) -> Option<&Arc<Site>> {
        self.sites.get(name)
    }

    /// What holds of a cluster in all layers, as the rules were put together last: what this process plans itself, what is
    /// enrolled, what is declared (design.md §3). Before [`Fleet::warm`] what is declared.
    pub fn facts(&self, name: &str) -> Cluster {
        let known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let federation = known.as_ref().map_or(&self.declared, |known| &known.federation);
        federation.clusters.get(name).cloned().unwrap_or_default()
    }

    /// Puts the rules together where nobody has asked for them yet in this process, for [`Fleet::facts`].
    pub async fn warm(&self) {
        let cold = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_none();
        if cold {
            self.rules().await;
        }
    }

    /// Tells the rest of this process what a cluster's facts become; `None`: what its record says counts again.
    pub async fn plan_cluster(&self, name: &ClusterName, facts: Option<Cluster>) {
        {
            let mut planned = self.planned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match facts {
                Some(facts) => drop(planned.insert(name.clone(), facts)),
                None => drop(planned.remove(name)),
            }
        }
        self.put_together_again().await;
    }

    /// Something that the rules are made of has changed.
    pub(crate) async fn put_together_again(&self) {
        *self.rules.lock().await = None;
        self.rules().await;
    }

    /// What this process plans of clusters.
    pub(crate) fn planned_clusters(&self) -> BTreeMap<ClusterName, Cluster> {
        self.planned.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// One cluster that an operation needs.
    ///
    /// # Errors
    /// Where it has no connection.
    pub(crate) fn need(&self, name: &str, what: &str) -> Result<&Arc<Site>, Failure> {
        self.site(name).ok_or_else(|| {
            Failure::new(what)
                .at(format!("cluster {name} has no connection in this configuration"))
                .state("nothing was touched")
                .next(format!("add {name} to `clusters` of the provider block"))
        })
    }

    /// The one snapshot of this process, taken before its first write.
    pub async fn inventory(&self) -> Arc<Inventory> {
        self.inventory.get_or_init(|| async { Arc::new(self.take_inventory(Duration::MAX).await) }).await.clone()
    }

    /// Facts not older than the settings allow, for checking a decision at apply.
    pub(crate) async fn recent_inventory(&self) -> Inventory {
        self.take_inventory(self.settings.fact_age.into()).await
    }

    /// The first VMID from `from` that is neither taken nor given out, which is then given out.
    pub(crate) fn reserve(&self, from: u32, taken: &BTreeSet<u32>) -> u32 {
        let mut given_out = self.given_out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut vmid = from;
        while taken.contains(&vmid) || given_out.contains(&vmid) {
            vmid = vmid.saturating_add(1);
        }
        given_out.insert(vmid);
        vmid
    }

    /// The user wants to stop: operations end at their next step boundary.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether the user wants to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Comes back when the user wants to stop.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives in `self`, so waiting can't fail.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Whether nobody answered, as far as can be told.
pub(crate) fn is_silence(error: &proxmox::Error) -> bool {
    error.is_unreachable() && error.tls_failure().is_none()
}
