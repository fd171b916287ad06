//! Owns finding out, once per process and pool, which machines should leave their clusters by the rules alone: the facts and
//! configurations that `federation::placement` decides that from (design.md §4.4).
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use federation::model::{AutomaticMove, Layered};
use federation::placement::{DiskRequest, Due, Inventory, Request, Settled, due, settle};
use federation::{Bytes, Cluster, ClusterName, PoolName, Slot};
use proxmox::VmConfig;
use tokio::task::JoinSet;

use crate::fleet::Fleet;
use crate::relocate::plan::{network, storage_name};
use crate::relocate::predicted_seconds;
use crate::site::Site;

/// Answers of this process by pool, and the rules they were made from.
pub(crate) type Solved = BTreeMap<PoolName, (Arc<Layered>, Arc<Vec<Settled>>)>;

impl Fleet {
    /// The machines of a pool that should leave their clusters, each with what is to be done about it. Made once per process:
    /// whoever asks first, everybody gets the same answer, as long as the rules stay what they were.
    ///
    /// Of machines that should leave the configuration is read, one call each: the inventory knows neither their storages nor
    /// their networks nor what is passed through to them.
    ///
    /// `facts` stands in for what the clusters say now. Without, they are asked for all that a decision needs only where their
    /// guests alone show that somebody should leave.
    pub async fn moves(&self, rules: &Arc<Layered>, facts: Option<&Inventory>, pool: &PoolName) -> Arc<Vec<Settled>> {
        let mut solved = self.solved.lock().await;
        if let Some((from, settled)) = solved.get(pool)
            && (Arc::ptr_eq(from, rules) || from.federation == rules.federation)
        {
            return settled.clone();
        }
        let settled = match facts {
            Some(facts) => self.solve(rules, facts, pool).await,
            None if self.is_calm(rules, pool).await => Vec::new(),
            None => self.solve(rules, &*self.inventory().await, pool).await,
        };
        let settled = Arc::new(settled);
        solved.insert(pool.clone(), (rules.clone(), settled.clone()));
        settled
    }

    /// Whether nobody of the pool should leave, as far as guests and nodes alone tell.
    async fn is_calm(&self, rules: &Layered, pool: &PoolName) -> bool {
        let improves = AutomaticMove::Improve;
        let asks = rules.federation.pools.get(pool).is_some_and(|pool| pool.automatic_moves.contains(&improves));
        !asks && due(&rules.federation, &self.guests_alone().await, pool).is_empty()
    }

    async fn solve(&self, rules: &Layered, inventory: &Inventory, pool: &PoolName) -> Vec<Settled> {
        let dues = due(&rules.federation, inventory, pool);
        let completed = self.completed(rules, dues).await;
        settle(&rules.federation, inventory, pool, completed, |request, from, to| {
            let path = rules.federation.clusters.get(from)?.migration_paths.get(to)?;
            let window = path.window.as_ref()?;
            // The source's clock, as its answers give it.
            let now = self.site(from.as_str()).map_or(0, |site| site.now());
            // What preflight will say, which knows the target's storages too: what moves on from one to another takes longer.
            let misfit = window.misfit(now, predicted_seconds(request.disk_total().0, 0, path))?;
            Some(format!("the path {from} → {to} is open {window}: {misfit}"))
        })
    }

    /// Completes what the inventory knows of machines by their configurations; an error is why nobody will move one.
    async fn completed(&self, rules: &Layered, dues: Vec<Due>) -> Vec<(Due, Result<Request, String>)> {
        let mut asked = JoinSet::new();
        for (at, due) in dues.iter().enumerate() {
            let Some(site) = self.site(due.cluster.as_str()).map(Arc::clone) else { continue };
            let cluster = rules.federation.clusters.get(&due.cluster).cloned().unwrap_or_default();
            let due = due.clone();
            asked.spawn(async move { (at, site.completed(&due, &cluster).await) });
        }
        // The client bounds how many of these calls run at once.
        let mut answers: BTreeMap<usize, Result<Request, String>> = asked.join_all().await.into_iter().collect();
        let unseen = |due: &Due| Err(format!("cluster {} has no connection", due.cluster));
        dues.into_iter()
            .enumerate()
            .map(|(at, due)| {
                let request = answers.remove(&at).unwrap_or_else(|| unseen(&due));
                (due, request)
            })
            .collect()
    }
}

impl Site {
    async fn completed(&self, due: &Due, cluster: &Cluster) -> Result<Request, String> {
        let config = self.client.vm_config(&due.node, due.vmid, true).await.map_err(|error| error.to_string())?;
        request(due, &config, cluster)
    }
}

/// The request with disks and networks under their federation names. Or why the machine can't be moved.
fn request(due: &Due, config: &VmConfig, cluster: &Cluster) -> Result<Request, String> {
    if let Some(tie) = config.host_ties().into_iter().next() {
        return Err(tie.what);
    }
    if let Some(lock) = config.lock() {
        return Err(format!("it is locked ({lock})"));
    }
    let mut request = due.request.clone();
    for (slot, disk) in config.disks() {
        let Ok(slot) = slot.parse::<Slot>() else { continue };
        if slot.is_disk() && !disk.is_cdrom() && !disk.is_cloudinit() {
            let storage = disk.storage().and_then(|storage| storage_name(storage, cluster));
            request.disks.insert(slot, DiskRequest { size: Bytes(disk.size_bytes().unwrap_or_default()), storage });
        }
    }
    for (slot, nic) in config.nics() {
        let (Ok(slot), Some(bridge)) = (slot.parse::<Slot>(), nic.bridge()) else { continue };
        request.nics.insert(slot, network(bridge, nic.tag(), cluster));
    }
    Ok(request)
}

/// What is told of a pool's machines that should leave: who moves, who waits, who would, and whom nobody will move.
pub fn in_words(settled: &[Settled]) -> Vec<String> {
    use federation::placement::Verdict;
    let mut lines = Vec::new();
    let mut missing: BTreeSet<&str> = BTreeSet::new();
    for Settled { due, verdict } in settled {
        let name = &due.request.name;
        lines.push(match verdict {
            Verdict::Move(to) => format!("{name} moves from {} to {} ({})", to.from, to.to, to.why),
            Verdict::Wait(to, why) => format!("{name} waits to move from {} to {}: {why} ({})", to.from, to.to, to.why),
            Verdict::Advice(to) => {
                missing.insert(due.cause.word().as_str());
                format!("{name} would move from {} to {} ({})", to.from, to.to, to.why)
            }
            Verdict::Stays(why) => format!("{name} stays on {}, and nobody will move it: {why}", due.cluster),
        });
    }
    if !missing.is_empty() {
        let words: Vec<String> = missing.into_iter().map(|word| format!("{word:?}")).collect();
        lines.push(format!("the pool's automatic_moves lacks {}, so this is advice", words.join(", ")));
    }
    lines
}

/// A cluster's leftovers, for people: whom no pool's policy can move off it while it drains.
pub fn left_in_words(cluster: &ClusterName, left: &[String]) -> String {
    format!("cluster {cluster} drains, and nobody will move: {}", left.join(", "))
}

#[cfg(test)]
mod tests {
    use federation::model::Network;
    use federation::placement::{Cause, Proposal, Verdict};

    use super::*;

    fn due() -> Due {
        Due {
            cluster: "ams".parse().expect("a name"),
            vmid: 100,
            node: "n1".into(),
            cause: Cause::Drain,
            automatic: true,
            request: Request::new("web-1".parse().expect("a name")),
        }
    }

    fn cluster() -> Cluster {
        let network = Network { bridge: "vmbr0".into(), vlan: Some(120), subnet: None, gateway: None, macs: None };
        Cluster {
            storage_classes: [("fast".to_owned(), "ceph".to_owned())].into(),
            primary_storage: Some("zfs".to_owned()),
            networks: [("app".to_owned(), network)].into(),
            ..Cluster::default()
        }
    }

    #[test]
    fn what_a_machine_needs_elsewhere_is_told_in_federation_names() {
        let config = VmConfig::from_conf(
            "scsi0: ceph:vm-100-disk-0,size=8G\nscsi1: local-lvm:vm-100-disk-1,size=4G\nscsi2: zfs:vm-100-disk-2,size=1G\nide2: none,media=cdrom\n\
             net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=120\nnet1: virtio=BC:24:11:00:00:02,bridge=vmbr9\n",
        );
        let request = request(&due(), &config, &cluster()).expect("it can move");
        let storage = |slot: &str| request.disks[&slot.parse::<Slot>().expect("a slot")].storage.clone();
        assert_eq!((storage("scsi0"), storage("scsi1")), (Some("fast".into()), Some("local-lvm".into())));
        assert_eq!((request.disks.len(), request.disk_total()), (3, Bytes::from_gib(13)));
        assert_eq!(storage("scsi2"), None, "what machines get that name no storage");
        let nic = |slot: &str| request.nics[&slot.parse::<Slot>().expect("a slot")].clone();
        assert_eq!(nic("net0").network.as_deref(), Some("app"));
        assert_eq!(nic("net1").bridge.as_deref(), Some("vmbr9"));
    }

    #[test]
    fn what_is_tied_to_its_node_is_moved_by_nobody() {
        let config = VmConfig::from_conf("hostpci0: 0000:01:00.0\n");
        assert!(request(&due(), &config, &cluster()).is_err_and(|why| why.contains("hostpci0")));
        let config = VmConfig::from_conf("lock: backup\n");
        assert!(request(&due(), &config, &cluster()).is_err_and(|why| why.contains("backup")));
    }

    #[test]
    fn people_are_told_who_moves_waits_would_and_stays() {
        let proposal = Proposal {
            from: "ams".parse().expect("a name"),
            to: "rtm".parse().expect("a name"),
            placement: "p".into(),
            why: "ams drains".into(),
        };
        let settled = |verdict| Settled { due: due(), verdict };
        let all = [
            settled(Verdict::Move(proposal.clone())),
            settled(Verdict::Wait(proposal.clone(), "first db-1".into())),
            settled(Verdict::Advice(proposal)),
            settled(Verdict::Stays("it is locked".into())),
        ];
        assert_eq!(
            in_words(&all),
            [
                "web-1 moves from ams to rtm (ams drains)",
                "web-1 waits to move from ams to rtm: first db-1 (ams drains)",
                "web-1 would move from ams to rtm (ams drains)",
                "web-1 stays on ams, and nobody will move it: it is locked",
                "the pool's automatic_moves lacks \"drain\", so this is advice",
            ]
        );
    }
}
