//! Owns what a rehearsal tries on a fenced copy, and removing everything that one made, also one that was killed.
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use federation::PoolName;

use super::{REHEARSAL, Rehearsed};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Guest, Record};
use crate::identity::Found;
use crate::journal::{Holder, Journal, Place, create_pool, move_pool};
use crate::operation::Taken;
use crate::relocate::{LOCK, remove_fenced};
use crate::site::Site;
use crate::spec::VmSpec;

/// What came of removing.
#[derive(Debug, Default)]
pub struct Cleared {
    /// What was removed, by its place.
    pub removed: Vec<Place>,
    /// What Proxmox VE's own migration locked: no token can remove it, and each has the commands for root.
    pub locked: Vec<Failure>,
    /// What stays for another reason, or went only with trouble.
    pub left: Vec<Failure>,
}

const WHAT: &str = "Unable to remove what a rehearsal made";

impl Fleet {
    /// Tries to start a fenced copy and to remove it, as anybody might. What Proxmox VE answered.
    ///
    /// # Errors
    /// The fence doesn't hold: it could be started (and was stopped again), or removed. Or nobody can tell.
    pub async fn tries_fence(&self, copy: &Guest) -> Result<Vec<String>, String> {
        let at = &copy.place;
        let site = self.site(at.cluster.as_str()).ok_or("its cluster has no connection")?;
        let deadline = Instant::now() + Duration::from(self.settings().delete);
        let mut refusals = Vec::new();
        let refusal = match site.client.start_vm(&at.node, at.vmid, None).await {
            Ok(upid) => self.wait(site, &upid, deadline, "start").await.err().map(|failure| failure.detail()),
            Err(error) => Some(error.to_string()),
        };
        let runs = site.client.vm_status(&at.node, at.vmid).await.map(|now| !now.is_stopped());
        match (refusal, runs) {
            (Some(said), Ok(false)) => refusals.push(format!("start: {}", short(&said))),
            (_, Err(error)) => return Err(format!("{at}: whether it could be started can't be told: {error}")),
            _ => {
                // It is the rehearsal's own machine, and nothing is in it.
                let _ = site.client.stop_vm(&at.node, at.vmid, None).await;
                return Err(format!("{at}: the fenced copy could be started; it was stopped again"));
            }
        }
        let refusal = match site.client.delete_vm(&at.node, at.vmid).await {
            Ok(upid) => self.wait(site, &upid, deadline, "remove").await.err().map(|failure| failure.detail()),
            Err(error) => Some(error.to_string()),
        };
        match refusal {
            Some(said) => refusals.push(format!("remove: {}", short(&said))),
            None => return Err(format!("{at}: the fenced copy could be removed")),
        }
        Ok(refusals)
    }

    /// Removes every machine of rehearsals in `pool` that are over, with its copies and operations; `known`: those that this process
    /// made, which lists may not show yet.
    pub async fn clear_rehearsals(&self, pool: &PoolName, known: Option<&Record>) -> Cleared {
        let mut cleared = Cleared::default();
        let found: Vec<Rehearsed> = self.rehearsed(pool).await.into_iter().filter(|found| found.is_over).collect();
        let mut done = BTreeSet::new();
        let records = known.cloned().into_iter().chain(found.iter().map(|found| self.record_of(&found.guest)));
        for record in records {
            if done.insert(record.uuid.to_lowercase()) {
                self.clear_machine(pool, &record, &mut cleared).await;
            }
        }
        for left in self.rehearsed(pool).await.into_iter().filter(|left| left.is_over) {
            self.clear_copy(&left, &mut cleared).await;
        }
        for site in self.sites() {
            if let Err(failure) = self.close_create(site, pool).await {
                cleared.left.push(failure);
            }
        }
        cleared
    }

    /// Where the machine is that a copy belongs to: where its open move says.
    fn record_of(&self, guest: &Guest) -> Record {
        let record = guest.record();
        let Some(journal) = &guest.operation else { return record };
        match journal.machine().or(journal.from.as_ref()) {
            Some(place) => {
                Record { cluster: place.cluster.clone(), node: place.node.clone(), vmid: place.vmid, ..record }
            }
            None => record,
        }
    }

    async fn clear_machine(&self, pool: &PoolName, record: &Record, cleared: &mut Cleared) {
        let guest = match self.find(record).await {
            Found::Here(guest) => guest,
            Found::Elsewhere(guest) => guest,
            // What is left of it, if anything, is a copy.
            Found::Gone | Found::Unsure(_) | Found::Lost(_) => return,
        };
        let place = guest.place.clone();
        let facts = self.facts(place.cluster.as_str());
        let spec = VmSpec { pool: Some(pool.clone()), ..VmSpec::of(&guest, &facts) };
        match self.destroy(&spec, &guest.record(), None).await {
            Ok(warnings) => {
                cleared.removed.push(place);
                // What stays is found, and said, below.
                warnings.iter().for_each(|warning| tracing::info!(%warning, "removing a rehearsal's machine"));
            }
            Err(failure) => cleared.left.push(failure),
        }
    }

    /// Removes a copy whose machine is gone; only what is fenced, or what is sure to be of a rehearsal and stopped.
    async fn clear_copy(&self, left: &Rehearsed, cleared: &mut Cleared) {
        let at = &left.guest.place;
        let stays = || Failure::new(format!("A machine of a rehearsal stays: {at}"));
        if left.guest.config.lock() == Some(LOCK) {
            let id = at.vmid;
            cleared.locked.push(
                Failure::new(format!("Proxmox VE locked what its migration left: {at}"))
                    .at("no token can remove it")
                    .next(format!("on {}: qm unlock {id} && qm set {id} --protection 0 && qm destroy {id}", at.node)),
            );
            return;
        }
        if let Some(journal) = &left.guest.operation {
            cleared.left.push(
                stays()
                    .at(journal.in_words())
                    .next(format!("rehearse again: pool {} is open", move_pool(&journal.uuid))),
            );
            return;
        }
        let Some(site) = self.site(at.cluster.as_str()) else { return };
        let deadline = Instant::now() + Duration::from(self.settings().delete);
        if left.guest.running {
            let id = at.vmid;
            cleared.left.push(stays().at("it runs").next(format!("on {}: qm stop {id} && qm destroy {id}", at.node)));
            return;
        }
        match remove_fenced(site, at, self, deadline, WHAT).await {
            Ok(()) => cleared.removed.push(at.clone()),
            Err(failure) => cleared.left.push(failure.next(format!("on {}: qm destroy {}", at.node, at.vmid))),
        }
        site.changed().await;
    }

    /// Gives back the create of a rehearsal that was killed before it made anything.
    async fn close_create(&self, site: &Site, pool: &PoolName) -> Result<(), Failure> {
        let key = create_pool(pool.as_str(), REHEARSAL);
        let Ok(overview) = site.fresh().await else { return Ok(()) };
        let Some(found) = overview.operation(&key) else { return Ok(()) };
        if !self.is_abandoned(site, &found) && found.holder != Holder::me() {
            return Ok(());
        }
        let claim = Journal { holder: Holder::me(), ..found };
        let journal = match self.take(site, &key, &claim, WHAT).await? {
            Taken::Over(journal) => *journal,
            Taken::New => claim,
        };
        let deadline = Instant::now() + Duration::from(self.settings().delete);
        let made = self.made_before(site, &journal, None, WHAT, deadline).await?;
        if let Some(guest) = made {
            let spec = VmSpec::of(&guest, &self.facts(site.name.as_str()));
            self.destroy(&spec, &guest.record(), None).await?;
        }
        self.give_back(site, &key, journal.epoch).await.map_err(|error| {
            Failure::new(WHAT)
                .at(format!("cluster {}, pool {key}", site.name))
                .said(error)
                .next(format!("pvesh delete /pools --poolid {key}"))
        })
    }

    /// Archives that moves of this provider's made, by volume id, with their notes.
    ///
    /// # Errors
    /// What the cluster said.
    pub async fn archives_of_moves(
        &self,
        cluster: &str,
        node: &str,
        storage: &str,
    ) -> Result<Vec<(String, String)>, String> {
        let site = self.site(cluster).ok_or("it has no connection")?;
        let volumes = site.client.storage_content(node, storage, Some("backup"), None).await;
        let volumes = volumes.map_err(|error| error.to_string())?;
        let ours = volumes.into_iter().filter_map(|volume| Some((volume.volid, volume.notes?)));
        Ok(ours.filter(|(_, notes)| notes.starts_with("moxxie ")).collect())
    }
}

/// The last line of an error, which is what Proxmox VE said.
fn short(text: &str) -> String {
    text.lines().last().unwrap_or(text).trim().to_owned()
}
