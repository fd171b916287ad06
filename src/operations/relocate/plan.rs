//! Owns what a move would be, as a whole: steps, every check with its answer, mappings, bytes, predicted time. It reads only.
use std::collections::BTreeMap;

use federation::migration::{Spread, StepInfo, checks_for, steps_of_a_move};
use federation::model::{Method, NicRequest};
use federation::placement::{ClusterFacts, Current, DiskRequest, Reason, Request, recheck};
use federation::{Bytes, Cluster, ClusterName, Slot, Span, Tag, VmName};

use super::Preview;
use super::preflight::{Finding, Passed, Preflight, disk_bytes, predicted_seconds};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Guest, Record};
use crate::journal::{Journal, Place};
use crate::notes::Copy;
use crate::site::Site;
use crate::spec::{Cpu, DiskWish, MigrationWish, NicWish, RebootPolicy, Resolved, VmSpec};

/// The check that is no part of preflight: what rules and capacity say.
const PLACEMENT: &str = "placement";

/// A reason of placement as something that stands in the way.
pub(super) fn placement(target: &ClusterName, reason: &Reason) -> Finding {
    Finding { id: PLACEMENT, text: format!("{target}: {reason}"), next: reason.relaxation() }
}

/// What a plan foresees of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// Nothing stands in the way.
    Predicted(Preview),
    /// The machine's own operation is open: where that stands. What it has made and fenced is no obstacle to it, so nothing else is
    /// asked before it has come to its end.
    UnderWay(String),
}

/// One check and what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its id.
    pub id: &'static str,
    /// The guide's name of the check that it is part of.
    pub guide: Option<&'static str>,
    /// What it asks.
    pub asks: &'static str,
    /// What stands in the way; empty where nothing does.
    pub findings: Vec<Finding>,
}

/// What a slot is before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The disk or network slot.
    pub slot: Slot,
    /// Its federation name, where it has one.
    pub name: Option<String>,
    /// The storage, or the bridge and VLAN, on the source.
    pub from: String,
    /// The same on the target.
    pub to: String,
}

/// A move that was not made.
#[derive(Debug, Clone)]
pub struct MigrationPlan {
    /// The machine's name.
    pub name: VmName,
    /// Where it is.
    pub from: Place,
    /// Where it goes. The node is chosen again at apply.
    pub to: Place,
    /// How.
    pub method: Method,
    /// The transfer storage, by its name on the source and on the target, where one was found.
    pub transfer: Option<(String, String)>,
    /// The storage of the target that everything is restored to; null where one was not found. What belongs elsewhere moves on
    /// from there.
    pub restore_storage: Option<String>,
    /// Size of all disks that move.
    pub bytes: Bytes,
    /// Size of those volumes that move on from the storage restored to.
    pub copied_again: Bytes,
    /// From shutdown to start on the target. Every byte is written and read once, at the path's rate or 100 MiB/s, and what
    /// moves on once more; a machine that is off, or that keeps running, has none. (Where Proxmox VE sends it, every byte is read once.)
    pub downtime: Span,
    /// From the first step to the last. Without a warm copy nothing is done ahead, so it is as long as the downtime of a
    /// running machine.
    pub duration: Span,
    /// What becomes of disks and networks.
    pub mappings: Vec<Mapping>,
    /// Every check.
    pub checks: Vec<Checked>,
    /// Every step, in order.
    pub steps: Vec<&'static StepInfo>,
    /// What is not as declared.
    pub warnings: Vec<Failure>,
}

impl MigrationPlan {
    /// Whether nothing stands in the way.
    pub fn feasible(&self) -> bool {
        self.checks.iter().all(|check| check.findings.is_empty())
    }
}

impl Fleet {
    /// What a move of `guest` to `target` would be. Touches nothing; what stands in the way is in the answer.
    ///
    /// # Errors
    /// Where it can't even be looked at: a cluster without connection, no node, a name that stands for nothing there.
    pub async fn migration_plan(
        &self,
        spec: &VmSpec,
        guest: &Guest,
        target: &ClusterName,
    ) -> Result<MigrationPlan, Failure> {
        let what = format!("A move of virtual machine {} to {target} can't be planned", spec.name);
        let source = self.need(guest.place.cluster.as_str(), &what)?.clone();
        let to_site = self.need(target.as_str(), &what)?.clone();
        if guest.place.cluster == *target {
            return Err(Failure::new(what).at(format!("it is there already: {}", guest.place)));
        }
        let inventory = self.inventory().await;
        let facts = inventory.clusters.get(target).cloned().unwrap_or_default();
        let resolved = self.resolve(spec, target, &facts, &what)?;
        let (to, older) = match guest.operation.as_ref().filter(|journal| journal.to.cluster == *target) {
            // Nothing is asked before it has come to its end.
            Some(journal) => (journal.to.clone(), Vec::new()),
            None => self.place_for_move(spec, guest, &to_site, &facts, &resolved, &what).await?,
        };
        let path = self.path(&source.name, target);
        let preflight = Preflight {
            fleet: self,
            source: &source,
            target: &to_site,
            spec,
            guest,
            to: &to,
            resolved: &resolved,
            older: &older,
        };
        let mut checks = vec![self.policy(&spec.request(guest), target).await];
        let (transfer, spread, warnings, findings) = match &guest.operation {
            // What it has made and fenced is no obstacle to it: what is asked of a move is asked once it has come to its end.
            Some(journal) => (journal.transfer.clone(), None, vec![under_way(spec, journal)], None),
            None => match preflight.run().await {
                Ok(passed) => (passed.transfer, passed.spread, passed.warnings, Some(Vec::new())),
                Err(found) => (None, preflight.spread(&guest.config).await.ok().flatten(), Vec::new(), Some(found)),
            },
        };
        checks.extend(findings.iter().flat_map(|findings| {
            checks_for(path.method).map(|check| {
                let of_check = findings.iter().filter(|found| found.id == check.id).cloned();
                Checked { id: check.id, guide: check.guide, asks: check.asks, findings: of_check.collect() }
            })
        }));
        let disks = guest.config.disks();
        let size = disk_bytes(&guest.config);
        let again = spread.as_ref().map_or(0, Spread::bytes);
        let seconds = predicted_seconds(size, again, &path);
        let live = path.method.of(guest.running) == Method::StorageMigration;
        let mut mappings: Vec<Mapping> = Vec::new();
        for (slot, storage) in &resolved.storages {
            let from = disks.get(&slot.to_string()).and_then(|disk| disk.storage()).unwrap_or_default();
            let name = spec.disks.get(slot).and_then(|disk| disk.storage.clone());
            mappings.push(Mapping { slot: *slot, name, from: from.to_owned(), to: storage.clone() });
        }
        let nics = guest.config.nics();
        for (slot, place) in &resolved.nics {
            let from = nics.get(&slot.to_string());
            let from = from.map(|nic| bridge(nic.bridge().unwrap_or_default(), nic.tag())).unwrap_or_default();
            let name = spec.nics.get(slot).and_then(|nic| nic.network.clone());
            mappings.push(Mapping { slot: *slot, name, from, to: bridge(&place.bridge, place.vlan) });
        }
        Ok(MigrationPlan {
            name: spec.name.clone(),
            from: guest.place.clone(),
            to,
            method: path.method,
            transfer,
            restore_storage: spread.map(|spread| spread.restore),
            bytes: Bytes(size),
            copied_again: Bytes(again),
            downtime: Span::from_secs(if guest.running && !live { seconds } else { 0 }),
            duration: Span::from_secs(seconds),
            mappings,
            checks,
            steps: steps_of_a_move(path.method.of(guest.running)),
            warnings,
        })
    }

    /// What rules and capacity say of the target.
    async fn policy(&self, request: &Request, target: &ClusterName) -> Checked {
        let rules = self.rules().await;
        let refused = recheck(&rules.federation, &*self.inventory().await, request, target).err().unwrap_or_default();
        Checked {
            id: PLACEMENT,
            guide: None,
            asks: "do the pool's rules and limits allow the target, and has it room",
            findings: refused.iter().map(|reason| placement(target, reason)).collect(),
        }
    }

    /// What a move would meet, as far as reading goes: what rules and capacity say of the target, everything preflight finds, or what it
    /// predicts. Touches nothing.
    ///
    /// # Errors
    /// Everything that would refuse it.
    pub async fn preview(
        &self,
        spec: &VmSpec,
        request: &Request,
        record: &Record,
        target: &ClusterName,
    ) -> Result<Outlook, Failure> {
        let what = format!("A move of virtual machine {} to {target} would be refused", spec.name);
        if self.is_lost(&record.cluster).await {
            return self.preview_recovery(spec, record, target).await;
        }
        let guest = self.present(record, &what).await?;
        if let Some(journal) = &guest.operation {
            return Ok(Outlook::UnderWay(journal.stands()));
        }
        let mut findings = self.policy(request, target).await.findings;
        let passed = match self.look_ahead(spec, &guest, target, &what).await {
            Ok(Ok(passed)) => Some(passed),
            Ok(Err(found)) => {
                findings.extend(found);
                None
            }
            // Placement has said why it can't even be looked at.
            Err(_) if !findings.is_empty() => None,
            Err(failure) => return Err(failure),
        };
        match passed {
            Some(passed) if findings.is_empty() => Ok(Outlook::Predicted(Preview {
                method: passed.path.method.of(guest.running),
                bytes: Bytes(disk_bytes(&guest.config)),
                duration: Span::from_secs(passed.predicted),
                backup: None,
                warnings: passed.warnings,
            })),
            _ => Err(super::preflight::refusal(&what, &findings)),
        }
    }

    /// Node and VMID that a move would come to, and the older copies there that make way for it.
    async fn place_for_move(
        &self,
        spec: &VmSpec,
        guest: &Guest,
        target: &Site,
        facts: &ClusterFacts,
        resolved: &Resolved,
        what: &str,
    ) -> Result<(Place, Vec<Copy>), Failure> {
        let node = self.node_for_move(guest, target, facts, spec, resolved, what).await?;
        let older = self.older_copies(target, guest).await;
        let vmid = match spec.vmid {
            Some(vmid) => vmid,
            None => self.vmid_on(target, spec, guest.place.vmid, &older, what).await?,
        };
        Ok((Place { cluster: target.name.clone(), node, vmid }, older))
    }

    /// Runs preflight for a move that nobody has begun. The inner error is what it finds.
    async fn look_ahead(
        &self,
        spec: &VmSpec,
        guest: &Guest,
        target: &ClusterName,
        what: &str,
    ) -> Result<Result<Passed, Vec<Finding>>, Failure> {
        let to_site = self.need(target.as_str(), what)?.clone();
        let from_site = self.need(guest.place.cluster.as_str(), what)?.clone();
        let facts = self.inventory().await.clusters.get(target).cloned().unwrap_or_default();
        let resolved = self.resolve(spec, target, &facts, what)?;
        let (to, older) = self.place_for_move(spec, guest, &to_site, &facts, &resolved, what).await?;
        let (source, target) = (&from_site, &to_site);
        let preflight =
            Preflight { fleet: self, source, target, spec, guest, to: &to, resolved: &resolved, older: &older };
        Ok(preflight.run().await)
    }
}

/// What is told of a machine whose own operation is open.
fn under_way(spec: &VmSpec, journal: &Journal) -> Failure {
    Failure::new(format!("Virtual machine {} has an open operation", spec.name))
        .at(journal.stands())
        .next("an apply of the machine, or `federate migrate`, brings it to its end; the checks of another move are asked then")
}

fn bridge(bridge: &str, vlan: Option<u16>) -> String {
    vlan.map_or_else(|| bridge.to_owned(), |vlan| format!("{bridge} vlan {vlan}"))
}

impl VmSpec {
    /// A guest as it is, under the federation names of its cluster: a storage or network that the cluster maps to no name stands
    /// for itself, its primary storage for none.
    pub fn of(guest: &Guest, cluster: &Cluster) -> VmSpec {
        let config = &guest.config;
        let name = config.name().and_then(|name| VmName::new(name).ok());
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let cpu = Cpu {
            cores: number(config.cores()),
            sockets: number(config.sockets()),
            model: config.cpu_type().unwrap_or("kvm64").to_owned(),
        };
        let mut disks = BTreeMap::new();
        for (slot, disk) in config.disks() {
            let Ok(slot) = slot.parse::<Slot>() else { continue };
            if slot.is_disk() && !disk.is_cdrom() && !disk.is_cloudinit() {
                let wish = DiskWish {
                    size: Bytes(disk.size_bytes().unwrap_or_default()),
                    storage: disk.storage().and_then(|storage| storage_name(storage, cluster)),
                    format: None,
                    ssd: disk.option_bool("ssd").unwrap_or(false),
                    discard: disk.option("discard") == Some("on"),
                    backup: disk.backup(),
                    volume: Some(disk.volume().to_owned()),
                };
                disks.insert(slot, wish);
            }
        }
        let mut nics = BTreeMap::new();
        for (slot, nic) in config.nics() {
            let Ok(slot) = slot.parse::<Slot>() else { continue };
            let on = nic.bridge().map(|bridge| network(bridge, nic.tag(), cluster)).unwrap_or_default();
            let wish = NicWish {
                network: on.network,
                bridge: on.bridge,
                vlan: on.vlan,
                model: nic.model().to_owned(),
                mac: nic.mac().map(str::to_owned),
                firewall: nic.firewall(),
            };
            nics.insert(slot, wish);
        }
        VmSpec {
            named: name.is_some(),
            name: name.unwrap_or_else(|| VmName::of_vmid(guest.place.vmid)),
            pool: guest.pool.clone(),
            vmid: None,
            node: None,
            cpu,
            memory: Bytes::from_mib(config.memory_mib()),
            disks,
            nics,
            tags: None,
            description: None,
            started: guest.running,
            on_boot: guest.on_boot(),
            protection: guest.protection(),
            agent: config.agent().enabled(),
            bios: None,
            machine: None,
            boot_order: None,
            clone: None,
            cloud_init: None,
            reboot: RebootPolicy::default(),
            migration: MigrationWish::default(),
        }
    }

    /// What placement looks at, for a machine that is there.
    pub fn request(&self, guest: &Guest) -> Request {
        let mut request = Request::new(self.name.clone());
        request.pool = self.pool.clone();
        request.node = self.node.clone();
        request.cpus = self.vcpus();
        request.memory = self.memory;
        let disk = |wish: &DiskWish| DiskRequest { size: wish.size, storage: wish.storage.clone() };
        request.disks = self.disks.iter().map(|(slot, wish)| (*slot, disk(wish))).collect();
        let nic =
            |wish: &NicWish| NicRequest { network: wish.network.clone(), bridge: wish.bridge.clone(), vlan: wish.vlan };
        let placed = |wish: &NicWish| wish.network.is_some() || wish.bridge.is_some();
        request.nics =
            self.nics.iter().filter(|(_, wish)| placed(wish)).map(|(slot, wish)| (*slot, nic(wish))).collect();
        request.tags = guest.config.tags().iter().filter_map(|tag| Tag::new(tag).ok()).collect();
        request.current = Some(Current { cluster: guest.place.cluster.clone(), vmid: guest.place.vmid });
        request
    }
}

impl Guest {
    /// What is recorded of it.
    pub fn record(&self) -> Record {
        Record {
            name: self.config.name().unwrap_or_default().to_owned(),
            cluster: self.place.cluster.clone(),
            node: self.place.node.clone(),
            vmid: self.place.vmid,
            uuid: self.uuid.clone(),
            pool: self.pool.clone(),
            running: Some(self.running),
            copies: self.mark.copies.clone(),
            identity: None,
        }
    }
}

/// The federation name of a storage: the class that it is one of, the first by name where it is several; none for the one that
/// machines get without naming any; else itself.
pub(crate) fn storage_name(storage: &str, cluster: &Cluster) -> Option<String> {
    let class = cluster.storage_classes.iter().find(|(_, stands_for)| *stands_for == storage);
    match class {
        Some((name, _)) => Some(name.clone()),
        None if cluster.resolve_storage(None).as_deref() == Some(storage) => None,
        None => Some(storage.to_owned()),
    }
}

/// The federation network that a bridge and VLAN are; themselves where they are none.
pub(crate) fn network(bridge: &str, vlan: Option<u16>, cluster: &Cluster) -> NicRequest {
    match cluster.network_on(bridge, vlan) {
        Some((name, _)) => NicRequest { network: Some(name.clone()), ..NicRequest::default() },
        None => NicRequest { bridge: Some(bridge.to_owned()), vlan, ..NicRequest::default() },
    }
}
