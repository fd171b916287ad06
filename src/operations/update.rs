//! Owns changing a machine where it is: settings, disks, network devices, pool, running or not; and what is past its date.
use std::time::{Duration, Instant};

use federation::Span;
use federation::placement::ClusterFacts;
use proxmox::{Error, PendingValue};

use crate::create::Outcome;
use crate::difference::Difference;
use crate::disks;
use crate::failure::{Failure, FailureKind};
use crate::fleet::Fleet;
use crate::guest::{Guest, Record};
use crate::journal::Place;
use crate::notes::Kept;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// How often a change is made again when somebody else changed the configuration in between, or holds it.
const TRIES: u32 = 5;

impl Fleet {
    /// Makes a machine what `new` says, touching only what differs from `old`; removes what is past its date.
    ///
    /// # Errors
    /// What Proxmox VE said; what was changed before stays changed, and the next plan shows the rest.
    pub async fn update(
        &self,
        old: &VmSpec,
        new: &VmSpec,
        record: &Record,
        timeout: Option<Span>,
    ) -> Result<Outcome, Failure> {
        let what = format!("Unable to update virtual machine {}", new.name);
        let deadline = Instant::now() + Duration::from(timeout.unwrap_or(self.settings().update));
        let guest = self.present(record, &what).await?;
        let site = self.need(guest.place.cluster.as_str(), &what)?.clone();
        let place = guest.place.clone();
        let on = self.places(&site, new, &what).await?;
        // What can't be carried out is refused before anything is.
        Difference { guest: &guest, old: Some(old), new, on: &on, uuid: None }.params(&what)?;
        let mut warnings = self.remove_expired(&site, &guest, deadline, &what).await?;
        self.change_pool(&site, &guest, new, &what).await?;
        let stops = guest.running && !new.started;
        if stops {
            // Before anything is written: what is written to a machine that runs may wait, and its stop takes nothing in.
            self.shut_down(&site, &place, new, deadline, &what).await?;
        }
        self.configure(&site, &place, (Some(old), new), &on, None, &what).await?;
        let moved = disks::to_move(old, new, &on, &guest.config);
        warnings.extend(self.move_disks(&site, &place, &moved, &what, deadline).await?);
        self.grow(&site, &place, &disks::to_grow(old, new), &what, deadline).await?;
        if new.started && !guest.running {
            self.start(&site, &place, deadline).await?;
        }
        let fail = |error: Error| {
            Failure::new(&what).at(place.to_string()).said(error).state("the changes were made").next("plan again")
        };
        let guest = site.guest_now(&place.node, place.vmid).await.map_err(fail)?;
        if guest.running {
            // Of an earlier apply, too, that was killed before its restart.
            warnings.extend(self.take_what_waits(&site, &place, new, deadline, &what).await?);
        } else {
            self.write_what_waits(&site, &place, new, &what).await?;
        }
        Ok(Outcome { guest, warnings })
    }

    /// What federation names are on the cluster of a machine that exists. Facts are asked for only where a disk names no
    /// storage and the cluster declares no primary one.
    async fn places(&self, site: &Site, spec: &VmSpec, what: &str) -> Result<Resolved, Failure> {
        if let Ok(resolved) = self.resolve(spec, &site.name, &ClusterFacts::default(), what) {
            return Ok(resolved);
        }
        let facts = site.take_facts(self.settings().fact_age.into()).await;
        if let Ok(resolved) = self.resolve(spec, &site.name, &facts, what) {
            return Ok(resolved);
        }
        // What is there already needs no storage named.
        let mut named = spec.clone();
        named.disks.retain(|_, disk| disk.storage.is_some());
        self.resolve(&named, &site.name, &facts, what)
    }

    /// One call with everything that differs. Whether there was anything.
    pub(crate) async fn configure(
        &self,
        site: &Site,
        at: &Place,
        (old, new): (Option<&VmSpec>, &VmSpec),
        on: &Resolved,
        uuid: Option<&str>,
        what: &str,
    ) -> Result<bool, Failure> {
        let fail = |error: Error| {
            Failure::new(what)
                .at(at.to_string())
                .said(error)
                .state("its configuration is as it was")
                .next("mend that, and apply again")
        };
        for attempt in 1..=TRIES {
            let mut guest = site.guest_now(&at.node, at.vmid).await.map_err(fail)?;
            if old.is_some_and(|old| lacks_a_disk(&guest, old)) {
                // It may leave at the next restart alone.
                let values = site.client.vm_pending(&at.node, at.vmid).await.map_err(fail)?;
                guest.waiting = values.into_iter().filter(PendingValue::is_pending).collect();
            }
            let params = Difference { guest: &guest, old, new, on, uuid }.params(what)?;
            if params.is_empty() {
                return Ok(false);
            }
            let set = site.client.set_config_async(&at.node, at.vmid, params, guest.config.digest()).await;
            match set {
                Ok(upid) => {
                    if let Some(upid) = upid {
                        let deadline = Instant::now() + Duration::from(self.settings().update);
                        match self.wait(site, &upid, deadline, what).await {
                            // Proxmox VE waited for 10 s by then.
                            Err(failure) if failure.kind == FailureKind::Held && attempt < TRIES => continue,
                            waited => waited?,
                        }
                    }
                    site.changed().await;
                    return Ok(true);
                }
                Err(error) if error.is_digest_mismatch() && attempt < TRIES => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(true)
    }

    /// Shuts a machine down, and waits until it is off: HA's task ends when the wish is noted.
    async fn shut_down(
        &self,
        site: &Site,
        at: &Place,
        new: &VmSpec,
        deadline: Instant,
        what: &str,
    ) -> Result<(), Failure> {
        let wish = &new.migration;
        let fail = |error: Error| {
            let failure = Failure::new(what).at(at.to_string()).said(error);
            failure.state("it runs, and nothing else was changed").next("see to the guest, and apply again")
        };
        let timeout = Some(wish.shutdown_timeout.into());
        let upid = site.client.shutdown_vm(&at.node, at.vmid, timeout, wish.force_stop).await.map_err(fail)?;
        self.wait(site, &upid, deadline, what).await?;
        let mut pause = site.client.settings().task_poll_first;
        while !site.client.vm_status(&at.node, at.vmid).await.map_err(fail)?.is_stopped() {
            if self.is_stopping() || Instant::now() >= deadline {
                let mut failure = Failure::new(what).at(format!("{at}: it was asked to shut down, and runs still"));
                failure.kind = FailureKind::Interrupted;
                return Err(failure.state("nothing else was changed").next("apply again once it is off"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(site.client.settings().task_poll_max);
        }
        site.changed().await;
        Ok(())
    }

    async fn change_pool(&self, site: &Site, guest: &Guest, new: &VmSpec, what: &str) -> Result<(), Failure> {
        if !guest.pool_is_known || guest.pool == new.pool {
            return Ok(());
        }
        let vmid = guest.place.vmid;
        let changed = match (&guest.pool, &new.pool) {
            (_, Some(pool)) => {
                self.ensure_pool(site, pool.as_str(), what).await?;
                site.client.add_pool_members(pool.as_str(), &[vmid], true).await
            }
            (Some(pool), None) => site.client.remove_pool_members(pool.as_str(), &[vmid]).await,
            (None, None) => Ok(()),
        };
        site.changed().await;
        changed.map_err(|error| {
            Failure::new(what)
                .at(guest.place.to_string())
                .said(error)
                .state("it is in its former pool")
                .next("the token needs Pool.Allocate on both pools")
        })
    }

    /// Removes retired copies and archives that are past their date. What can't be removed now is a warning, and shows again.
    async fn remove_expired(
        &self,
        site: &Site,
        guest: &Guest,
        deadline: Instant,
        what: &str,
    ) -> Result<Vec<Failure>, Failure> {
        if guest.expired.is_none() {
            return Ok(Vec::new());
        }
        let now = site.now();
        let here = &guest.place;
        let mut warnings = Vec::new();
        let mut mark = guest.mark.clone();
        let copies: Vec<_> = mark.copies.iter().filter(|copy| copy.until <= now).cloned().collect();
        // The right to an archive goes with the last machine of its VMID, so that it goes first.
        let with_copy =
            |kept: &Kept| copies.iter().any(|copy| kept.vmid() == Some(copy.vmid) && copy.vmid != here.vmid);
        let archives: Vec<_> =
            mark.archives.iter().filter(|kept| kept.until <= now || with_copy(kept)).cloned().collect();
        for kept in archives {
            match self.remove_kept(&kept, &here.cluster, deadline).await {
                Ok(said) => {
                    mark.archives.retain(|other| *other != kept);
                    warnings.extend(said);
                }
                Err(failure) => warnings.push(failure),
            }
        }
        for copy in copies {
            match self.remove_copy(&copy, &guest.uuid, deadline, what).await {
                Ok(said) => {
                    mark.copies.retain(|kept| *kept != copy);
                    warnings.extend(said);
                }
                Err(failure) => warnings.push(failure),
            }
        }
        let left = Guest { mark, ..guest.clone() };
        self.write_notes(site, &left, None, what).await?;
        site.changed().await;
        Ok(warnings)
    }
}

/// Whether a disk that was there is not in its slot.
fn lacks_a_disk(guest: &Guest, old: &VmSpec) -> bool {
    old.disks.iter().any(|(slot, had)| had.volume.is_some() && guest.config.get(&slot.to_string()).is_none())
}
