//! Owns changing a machine where it is: settings, disks, network devices, pool, running or not; and what is past its date.
use std::time::{Duration, Instant};

use federation::Span;
use federation::placement::ClusterFacts;
use proxmox::Error;

use crate::create::Outcome;
use crate::difference::Difference;
use crate::disks;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Guest, Record};
use crate::journal::Place;
use crate::relocate::remove_fenced;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// How often a change is made again when somebody else changed the configuration in between.
const DIGEST_TRIES: u32 = 5;

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
        let mut warnings = self.remove_expired(&site, &guest, deadline, &what).await?;
        self.change_pool(&site, &guest, new, &what).await?;
        let place = guest.place.clone();
        let on = self.places(&site, new, &what).await?;
        self.configure(&site, &place, (Some(old), new), &on, None, &what).await?;
        let moved = disks::to_move(old, new, &on, &guest.config);
        warnings.extend(self.move_disks(&site, &place, &moved, &what, deadline).await?);
        self.grow(&site, &place, &disks::to_grow(old, new), &what, deadline).await?;
        self.power(&site, &guest, new, deadline, &what).await?;
        let fail = |error: Error| {
            Failure::new(&what).at(place.to_string()).said(error).state("the changes were made").next("plan again")
        };
        let guest = site.guest_now(&place.node, place.vmid).await.map_err(fail)?;
        if guest.running {
            // Of an earlier apply, too, that was killed before its restart.
            warnings.extend(self.take_what_waits(&site, &place, new, deadline, &what).await?);
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
        for attempt in 1..=DIGEST_TRIES {
            let guest = site.guest_now(&at.node, at.vmid).await.map_err(fail)?;
            let params = Difference { guest: &guest, old, new, on, uuid }.params(what)?;
            if params.is_empty() {
                return Ok(false);
            }
            let set = site.client.set_config_async(&at.node, at.vmid, params, guest.config.digest()).await;
            match set {
                Ok(upid) => {
                    if let Some(upid) = upid {
                        let deadline = Instant::now() + Duration::from(self.settings().update);
                        self.wait(site, &upid, deadline, what).await?;
                    }
                    site.changed().await;
                    return Ok(true);
                }
                Err(error) if error.is_digest_mismatch() && attempt < DIGEST_TRIES => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(true)
    }

    /// Starts or shuts down a machine.
    async fn power(
        &self,
        site: &Site,
        guest: &Guest,
        new: &VmSpec,
        deadline: Instant,
        what: &str,
    ) -> Result<(), Failure> {
        let at = &guest.place;
        match (guest.running, new.started) {
            (false, true) => self.start(site, at, deadline).await,
            (true, false) => {
                let wish = &new.migration;
                let fail = |error: Error| {
                    Failure::new(what).at(at.to_string()).said(error).state("it runs").next("see to the guest")
                };
                let upid = site
                    .client
                    .shutdown_vm(&at.node, at.vmid, Some(wish.shutdown_timeout.into()), wish.force_stop)
                    .await;
                let upid = upid.map_err(fail)?;
                self.wait(site, &upid, deadline, what).await
            }
            _ => Ok(()),
        }
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
        let mut warnings = Vec::new();
        let mut mark = guest.mark.clone();
        let expired: Vec<_> = mark.copies.iter().filter(|copy| copy.until <= now).cloned().collect();
        for copy in expired {
            match self.remove_copy(&copy, &guest.uuid, deadline, what).await {
                Ok(()) => mark.copies.retain(|kept| *kept != copy),
                Err(failure) => warnings.push(failure),
            }
        }
        let expired: Vec<_> = mark.archives.iter().filter(|kept| kept.until <= now).cloned().collect();
        for kept in expired {
            match crate::relocate::remove_archive(site, &guest.place, &kept.volid, self, deadline).await {
                Ok(()) => mark.archives.retain(|other| *other != kept),
                Err(error) => warnings.push(Failure::new(what).at(format!("archive {} stays", kept.volid)).said(error)),
            }
        }
        let left = Guest { mark, ..guest.clone() };
        self.write_notes(site, &left, None, what).await?;
        site.changed().await;
        Ok(warnings)
    }

    /// Removes a retired copy, after proving that it is one of this machine.
    pub(crate) async fn remove_copy(
        &self,
        copy: &crate::notes::Copy,
        uuid: &str,
        deadline: Instant,
        what: &str,
    ) -> Result<(), Failure> {
        let site = self.need(copy.cluster.as_str(), what)?.clone();
        let place = |node: &str| Place { cluster: copy.cluster.clone(), node: node.to_owned(), vmid: copy.vmid };
        let overview = site.fresh().await.map_err(|error| crate::create::dark(what, &site.name, error))?;
        let Some(node) = overview.guest(copy.vmid).and_then(|guest| guest.node.clone()) else {
            // Removed by hand, or out of sight for this token: in neither case is there anything to do for us.
            return Ok(());
        };
        let place = place(&node);
        let guest = match site.guest_now(&node, copy.vmid).await {
            Ok(guest) => guest,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(Failure::new(what).at(place.to_string()).said(error).next("apply again")),
        };
        if !guest.uuid.eq_ignore_ascii_case(uuid) {
            // Removed by hand, and its VMID is another's by now.
            return Ok(());
        }
        if guest.is_left_behind() && !guest.config.template() {
            let id = copy.vmid;
            return Err(Failure::new(format!("A source that Proxmox VE locked stays: {}/{id}", copy.cluster))
                .at(format!("{place}: no token can remove it"))
                .next(format!("on {node}: qm unlock {id} && qm set {id} --protection 0 && qm destroy {id}")));
        }
        let ours = guest.is_retired() && guest.config.template() && !guest.running;
        if !ours {
            return Err(Failure::new(format!(
                "A retired copy is not as it was left, and stays: {}/{}",
                copy.cluster, copy.vmid
            ))
            .at(format!("{place}: it is not a fenced copy of this machine any more"))
            .next("look at it, and remove it by hand"));
        }
        remove_fenced(&site, &place, self, deadline, what).await?;
        site.changed().await;
        Ok(())
    }
}
