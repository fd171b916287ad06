//! Owns what this process knows of one cluster: its client, and one overview that all callers share.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation::block::{self, BlockError, Envelope};
use federation::model::{Enrolment, Record, Sight};
use federation::placement::GuestFacts;
use federation::{ClusterName, PoolName};
use proxmox::{Client, Permissions, Pool, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinSet;

use crate::guest::locked_for_good;
use crate::inventory::Structure;
use crate::journal::{Journal, OPERATIONS};

/// One cluster.
#[derive(Debug)]
pub struct Site {
    /// Its name.
    pub name: ClusterName,
    /// Its client.
    pub client: Client,
    overview: Mutex<Option<Looked>>,
    /// The last overview that [`Site::overview_since`] took, and when it began.
    survey: Mutex<Option<(Instant, Arc<Overview>)>>,
    /// Guests that were made a moment ago, by VMID: the overview shows them without name and sizes for some seconds.
    pub(crate) newborn: Mutex<BTreeMap<u32, GuestFacts>>,
    pub(crate) structure: Mutex<Option<(Instant, Arc<Structure>)>>,
    permissions: OnceCell<Option<Permissions>>,
    identity: OnceCell<String>,
    documents: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    macs: Mutex<Option<(Instant, Arc<Vec<MacsOf>>)>>,
}

/// The MAC addresses of one guest, in upper case.
#[derive(Debug)]
pub(crate) struct MacsOf {
    pub(crate) vmid: u32,
    pub(crate) node: String,
    /// SMBIOS UUID; empty where it has none.
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) macs: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Looked {
    at: Instant,
    found: proxmox::Result<Arc<Overview>>,
}

/// What `/cluster/resources` and `/pools` said, together.
#[derive(Debug)]
pub struct Overview {
    /// Nodes, guests and storages, as far as the token sees them. Names and status of guests lag by up to 10 s
    /// (`proxmox-ve.md` §2.5).
    pub resources: Vec<Resource>,
    /// Pools with their comments, as far as the token sees them.
    pub pools: Vec<Pool>,
    /// The pools among them whose comment holds a record of ours, sound or damaged.
    pub records: BTreeMap<PoolName, Sight>,
    /// What its pool `moxxie` shows: the cluster's own record. One that isn't seen counts as absent.
    pub enrolment: Sight<Enrolment>,
    /// The cluster's clock: seconds since 1970.
    pub now: i64,
}

impl Site {
    pub(crate) fn new(name: ClusterName, client: Client) -> Site {
        Site {
            name,
            client,
            overview: Mutex::new(None),
            survey: Mutex::new(None),
            newborn: Mutex::new(BTreeMap::new()),
            structure: Mutex::new(None),
            permissions: OnceCell::new(),
            identity: OnceCell::new(),
            documents: Mutex::new(BTreeMap::new()),
            macs: Mutex::new(None),
        }
    }

    /// The overview, not older than `age`. A cluster that could not be reached is not tried again in this process:
    /// one connect timeout is enough for all.
    ///
    /// # Errors
    /// What the cluster, or the network, said.
    pub async fn overview(&self, age: Duration) -> proxmox::Result<Arc<Overview>> {
        let mut known = self.overview.lock().await;
        if let Some(looked) = known.as_ref() {
            let dark = looked.found.as_ref().is_err_and(proxmox::Error::is_unreachable);
            if dark || (looked.found.is_ok() && looked.at.elapsed() <= age) {
                return looked.found.clone();
            }
        }
        let found = self.look().await.map(Arc::new);
        *known = Some(Looked { at: Instant::now(), found: found.clone() });
        found
    }

    /// The overview of this process, however old.
    ///
    /// # Errors
    /// As [`Site::overview`].
    pub async fn glance(&self) -> proxmox::Result<Arc<Overview>> {
        self.overview(Duration::MAX).await
    }

    /// Why it is dark, if this process can't reach it.
    pub async fn dark(&self) -> Option<String> {
        self.glance().await.err().filter(proxmox::Error::is_unreachable).map(|error| error.to_string())
    }

    /// The overview as it is now.
    ///
    /// # Errors
    /// As [`Site::overview`].
    pub async fn fresh(&self) -> proxmox::Result<Arc<Overview>> {
        self.overview(Duration::ZERO).await
    }

    /// An overview that was begun after `since`, its pools read before its guests: an operation whose pool is gone has made what
    /// it makes, and that is a guest then. Those who wait for one at the same time share it.
    ///
    /// # Errors
    /// As [`Site::overview`].
    pub(crate) async fn overview_since(&self, since: Instant) -> proxmox::Result<Arc<Overview>> {
        let mut last = self.survey.lock().await;
        if let Some((begun, overview)) = last.as_ref()
            && *begun > since
        {
            return Ok(overview.clone());
        }
        let known = self.overview.lock().await.as_ref().map(|looked| looked.found.clone());
        if let Some(Err(error)) = known.filter(|found| found.as_ref().is_err_and(proxmox::Error::is_unreachable)) {
            return Err(error);
        }
        let begun = Instant::now();
        let pools = self.client.pools().await?;
        let overview = Arc::new(self.put_together(self.client.cluster_resources(None).await?, pools));
        *last = Some((begun, overview.clone()));
        *self.overview.lock().await = Some(Looked { at: Instant::now(), found: Ok(overview.clone()) });
        Ok(overview)
    }

    /// Drops the overview: this process changed something there.
    pub(crate) async fn changed(&self) {
        *self.overview.lock().await = None;
    }

    async fn look(&self) -> proxmox::Result<Overview> {
        let (resources, pools) = tokio::try_join!(self.client.cluster_resources(None), self.client.pools())?;
        Ok(self.put_together(resources, pools))
    }

    fn put_together(&self, resources: Vec<Resource>, pools: Vec<Pool>) -> Overview {
        let records = pools.iter().filter_map(record).collect();
        let enrolment = pools.iter().find(|pool| pool.poolid == ENROLMENT).map_or(Sight::Absent, enrolment);
        Overview { resources, pools, records, enrolment, now: self.now() }
    }

    /// What the token may do, asked once; `None` where the cluster doesn't say.
    pub(crate) async fn permissions(&self) -> Option<&Permissions> {
        self.permissions.get_or_init(|| async { self.client.permissions(None).await.ok() }).await.as_ref()
    }

    /// The cluster's identity: its CA's fingerprint, or that of its single node; asked until it says so.
    ///
    /// # Errors
    /// What the cluster, or the network, said.
    pub(crate) async fn who(&self) -> proxmox::Result<String> {
        let asked = || async { self.client.cluster_identity().await.map(|identity| identity.to_string()) };
        self.identity.get_or_try_init(asked).await.cloned()
    }

    /// The lock of one pool's comment: Proxmox VE takes no digest there, so a process writes it one at a time.
    pub(crate) async fn document(&self, pool: &str) -> Arc<Mutex<()>> {
        self.documents.lock().await.entry(pool.to_owned()).or_default().clone()
    }

    /// The MAC addresses of its virtual machines, as far as the token sees them, not older than `age`: one read each, which many
    /// machines that move at once share. Templates, and so fenced copies, can't start and don't count, nor what is locked for good.
    pub(crate) async fn macs(&self, age: Duration) -> Arc<Vec<MacsOf>> {
        let mut known = self.macs.lock().await;
        if let Some((_, macs)) = known.as_ref().filter(|(at, _)| at.elapsed() <= age) {
            return macs.clone();
        }
        let overview = self.fresh().await.ok();
        let guests = overview.iter().flat_map(|overview| overview.guests());
        let mut asked = JoinSet::new();
        for guest in guests.filter(|guest| guest.kind == "qemu" && !guest.template) {
            let (Some(vmid), Some(node)) = (guest.vmid, guest.node.clone()) else { continue };
            let client = self.client.clone();
            let is_stopped = guest.status.as_deref() == Some("stopped");
            // The client bounds how many of these calls run at once.
            asked.spawn(async move {
                let config = client
                    .vm_config(&node, vmid, true)
                    .await
                    .ok()
                    // The overview doesn't say of a silent node's guests that they are templates (`proxmox-ve.md` §18.17).
                    .filter(|config| !config.template() && (!is_stopped || !locked_for_good(config)))?;
                let nics = config.nics();
                let macs = nics.values().filter_map(proxmox::NicSpec::mac).map(str::to_uppercase).collect();
                let uuid = config.uuid().unwrap_or_default();
                Some(MacsOf { vmid, node, uuid, name: config.name().unwrap_or_default().to_owned(), macs })
            });
        }
        let mut found: Vec<MacsOf> = asked.join_all().await.into_iter().flatten().collect();
        found.sort_by_key(|guest| guest.vmid);
        let found = Arc::new(found);
        *known = Some((Instant::now(), found.clone()));
        found
    }

    /// The cluster's clock: seconds since 1970; 0 before its first answer.
    pub fn now(&self) -> i64 {
        self.client.server_time().map_or(0, |time| time.now())
    }
}

/// The pool whose comment holds the cluster's own record. It holds no guests.
pub(crate) const ENROLMENT: &str = "moxxie";

/// What stands in its comment in the place of the record, once the cluster was taken out: it is enrolled no more, and has lost nothing.
pub(crate) const TAKEN_OUT: &str =
    "This cluster was taken out of the federation. The pool stays for the rights that are set on it.";

/// The record in a pool's comment, if there is one, sound or not.
fn record(pool: &Pool) -> Option<(PoolName, Sight)> {
    let name = PoolName::new(&pool.poolid).ok()?;
    Some((name, sight(pool.comment.as_deref()?)?))
}

/// What the pool of the cluster's own record shows.
fn enrolment(pool: &Pool) -> Sight<Enrolment> {
    let comment = pool.comment.as_deref().unwrap_or_default();
    let without = || if comment.contains(TAKEN_OUT) { Sight::Absent } else { Sight::Plain };
    sight(comment).unwrap_or_else(without)
}

/// The record in a comment; `None` where there is none.
pub(crate) fn sight<T: Serialize + DeserializeOwned>(comment: &str) -> Option<Sight<T>> {
    let damaged = |error: BlockError| match error {
        BlockError::Broken { why } => why,
        other => other.to_string(),
    };
    Some(match block::read(comment) {
        Err(BlockError::Missing) => return None,
        Err(error) => Sight::Damaged(damaged(error)),
        Ok(block) => match Envelope::<T>::from_block(&block) {
            Ok(envelope) => Sight::Record(Box::new(Record {
                id: envelope.id,
                rev: envelope.rev,
                sum: block.checksum,
                by: envelope.by,
                body: envelope.body,
            })),
            Err(error) => Sight::Damaged(damaged(error)),
        },
    })
}

impl Overview {
    /// Guests of any kind.
    pub fn guests(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(|resource| resource.vmid.is_some())
    }

    /// The guest with this VMID.
    pub fn guest(&self, vmid: u32) -> Option<&Resource> {
        self.guests().find(|guest| guest.vmid == Some(vmid))
    }

    /// Nodes that answer.
    pub fn online_nodes(&self) -> impl Iterator<Item = &str> {
        let online = |resource: &&Resource| resource.kind == "node" && resource.status.as_deref() == Some("online");
        self.resources.iter().filter(online).filter_map(|node| node.node.as_deref())
    }

    /// The operation in this pool, if it is one.
    pub fn operation(&self, pool: &str) -> Option<Journal> {
        let found = self.pools.iter().find(|found| found.poolid == pool)?;
        Journal::read(found.comment.as_deref()?)
    }

    /// Every operation, by its pool.
    pub fn operations(&self) -> BTreeMap<&str, Journal> {
        let ours = self.pools.iter().filter(|pool| pool.poolid.starts_with(OPERATIONS));
        ours.filter_map(|pool| Some((pool.poolid.as_str(), Journal::read(pool.comment.as_deref()?)?))).collect()
    }

    /// Whether a pool of this name exists, as far as the token sees.
    pub fn has_pool(&self, name: &str) -> bool {
        self.pools.iter().any(|pool| pool.poolid == name)
    }
}
