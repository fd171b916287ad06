//! Owns the steps after the target is known to be well: what it gets, and what becomes of source and archive.
use std::time::Instant;

use proxmox::{Error, Params, VmConfig};

use super::preflight::ha_carried;
use super::{Move, archive};
use crate::failure::Failure;
use crate::guest::rfc3339;
use crate::journal::Place;
use crate::notes::{self, Copy, Kept, Mark, Origin, Retired};
use crate::site::Site;
use crate::spec::Source;

impl Move<'_> {
    /// Gives the target what a machine has, and takes the operation's mark off its notes.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        let to = self.journal.to.clone();
        let from = self.from();
        let config = self.target.client.vm_config(&to.node, to.vmid, false).await;
        let config = config.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
        let split = notes::split(config.description().unwrap_or_default());
        let mut mark = split.mark.without_operation();
        // What made way is gone, and where the machine is no copy of it is.
        for copy in &self.journal.older {
            mark.without_copy_at(&copy.cluster, copy.vmid);
        }
        mark.without_copy_at(&to.cluster, to.vmid);
        for kept in mark.archives.iter_mut().filter(|kept| kept.cluster.is_none()) {
            kept.cluster = Some(from.cluster.clone());
        }
        mark.archives.retain(|kept| !self.right_ends(kept));
        let origin = Origin { cluster: from.cluster.clone(), vmid: from.vmid };
        mark.from = Some(origin.clone());
        let now = self.target.now();
        if self.is_recovery() {
            // The backup is not ours, and nothing fenced what is left there.
            mark.lost.retain(|known| *known != origin);
            let fenced = mark.copies.iter().any(|copy| (&copy.cluster, copy.vmid) == (&origin.cluster, origin.vmid));
            if !fenced {
                mark.lost.push(origin);
            }
            return self.committed(&to, &split.text, &mark, config.digest()).await;
        }
        // One that only root can remove stays whatever is wished.
        let until = self.keep_source(now).or_else(|| self.is_direct().then_some(now));
        if let Some(until) = until {
            let op = Some(self.journal.op.clone());
            mark.list_copy(Copy { cluster: from.cluster.clone(), vmid: from.vmid, until, returned: false, op });
        }
        if let Some(until) = self.keep_archive(now) {
            let volid = self.archive_on_target()?;
            mark.archives.retain(|kept| kept.volid != volid);
            mark.archives.push(Kept { volid, until, cluster: Some(to.cluster.clone()) });
        }
        self.committed(&to, &split.text, &mark, config.digest()).await?;
        if let Some(state) = self.journal.undo.ha.clone() {
            self.manage_by_ha(&to, &state).await;
        }
        Ok(())
    }

    /// As the source was before it was fenced, or as its backup has it.
    async fn committed(&self, to: &Place, text: &str, mark: &Mark, digest: Option<&str>) -> Result<(), Failure> {
        let notes = self.notes(to, text, mark)?;
        let params = Params::new()
            .flag("onboot", self.journal.undo.onboot)
            .flag("protection", self.journal.undo.protection)
            .set("description", notes);
        let set = self.target.client.set_config(&to.node, to.vmid, params, digest).await;
        set.map_err(|error| self.at(to, "onboot, protection and notes can't be set", error))?;
        self.target.changed().await;
        Ok(())
    }

    /// Puts the target under HA as the source was, in the groups and rules of the same names. What preflight listed as skipped
    /// and the user accepted stays skipped.
    async fn manage_by_ha(&mut self, to: &Place, state: &str) {
        if let Err(error) = self.carry_ha(to, state).await {
            self.warnings.push(
                Failure::new("The machine is not managed by HA as it was")
                    .at(to.to_string())
                    .said(error)
                    .next("see to its HA on that cluster"),
            );
        }
    }

    async fn carry_ha(&self, to: &Place, state: &str) -> Result<(), Error> {
        let carried = ha_carried(&self.source, &self.target, self.from().vmid).await?;
        let (params, rules) = carried.map_or_else(Default::default, |carried| (carried.params, carried.rules));
        if self.target.client.ha_resource(to.vmid).await?.is_none() {
            self.target.client.create_ha_resource(to.vmid, params.set("state", state)).await?;
        }
        let sid = format!("vm:{}", to.vmid);
        for mut rule in rules.into_iter().filter(|rule| !rule.resources.contains(&sid)) {
            rule.resources.push(sid.clone());
            self.target.client.set_ha_rule_resources(&rule).await?;
        }
        Ok(())
    }

    pub(super) fn keep_source(&self, now: i64) -> Option<i64> {
        let wish = &self.spec.migration;
        let seconds = i64::try_from(wish.keep_source.as_secs_ceil()).unwrap_or(i64::MAX);
        (wish.source == Source::Keep && seconds > 0).then(|| until(now, wish.keep_source))
    }

    /// Until when the archive is kept. Under another VMID nobody could remove it later: a token's right to it comes through
    /// a machine of its VMID (`proxmox-ve.md` §17).
    pub(super) fn keep_archive(&self, now: i64) -> Option<i64> {
        let seconds = i64::try_from(self.spec.migration.keep_archive.as_secs_ceil()).unwrap_or(i64::MAX);
        let same_vmid = self.journal.to.vmid == self.from().vmid && !self.is_direct();
        (seconds > 0 && same_vmid).then(|| now.saturating_add(seconds))
    }

    /// Whether nobody could remove a kept archive any more once the source is gone: it has the source's VMID, and the machine another.
    fn right_ends(&self, kept: &Kept) -> bool {
        let (from, to) = (self.from().vmid, self.journal.to.vmid);
        !self.is_direct()
            && !self.is_recovery()
            && self.keep_source(0).is_none()
            && from != to
            && kept.vmid() == Some(from)
    }

    /// Retires or removes the source. The archive goes first: a token's right to it comes through a machine of its VMID
    /// (`proxmox-ve.md` §17).
    pub(super) async fn retire(&mut self) -> Result<(), Failure> {
        let from = self.from();
        if self.is_direct() {
            return self.leave_source(&from).await;
        }
        if self.keep_archive(0).is_none()
            && let Some(volid) = self.journal.archive.clone()
        {
            let removed = archive::remove(&self.source, &from, &volid, self.fleet, self.deadline).await;
            removed.map_err(|error| self.at(&from, "the archive can't be removed", error))?;
        }
        let config = match self.source.config(&from).await {
            Ok(config) => config,
            Err(error) if error.is_not_found() || error.is_permission_denied() => return Ok(()),
            Err(error) => return Err(self.at(&from, "the source can't be read", error)),
        };
        let ours = config.template() && config.uuid().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.journal.uuid));
        if !ours {
            self.warnings.push(
                Failure::new("The source of the move is not as it was left, and stays")
                    .at(format!("{from}: it is not fenced any more, or has another UUID"))
                    .next("keep it stopped, and see whether it ran since: what it wrote then is nowhere else"),
            );
            return Ok(());
        }
        for kept in notes::split(config.description().unwrap_or_default()).mark.archives {
            if self.right_ends(&kept) {
                let removed = self.fleet.remove_kept(&kept, &from.cluster, self.deadline).await;
                self.warnings.extend(removed.unwrap_or_else(Some));
            }
        }
        match self.keep_source(self.source.now()) {
            Some(until) => self.keep(&self.source, &from, &self.journal.to, &config, until).await,
            None => remove_fenced(&self.source, &from, self.fleet, self.deadline, &self.what).await,
        }
    }

    /// Leaves a fenced copy where it is, with a note of what it is, in the pool of retired machines where the token may. `to`:
    /// where the machine is now.
    pub(super) async fn keep(
        &self,
        site: &Site,
        at: &Place,
        to: &Place,
        config: &VmConfig,
        until: i64,
    ) -> Result<(), Failure> {
        let split = notes::split(config.description().unwrap_or_default());
        let line = format!(
            "RETIRED: moved to cluster {} (vmid {}). Do not start. Expires {}.",
            to.cluster,
            to.vmid,
            rfc3339(until)
        );
        let retired = Retired { op: self.journal.op.clone(), to: to.cluster.clone(), until, at: Some(site.now()) };
        let mark = Mark { retired: Some(retired), line: Some(line), ..Mark::default() };
        let params = Params::new().set("description", self.notes(at, &split.text, &mark)?);
        let set = site.client.set_config(&at.node, at.vmid, params, config.digest()).await;
        set.map_err(|error| self.at(at, "the copy's notes can't be written", error))?;
        self.retire_to_pool(site, at).await;
        Ok(())
    }

    /// Puts a copy where limits and jobs of the machine's pool don't see it, if the token may.
    pub(super) async fn retire_to_pool(&self, site: &Site, at: &Place) {
        let Some(pool) = self.spec.pool.as_ref().and_then(federation::PoolName::retired) else { return };
        let moved = match site.client.create_pool(pool.as_str(), None).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => site.client.add_pool_members(pool.as_str(), &[at.vmid], true).await,
        };
        if let Err(error) = moved.or_else(|error| if error.is_already_exists() { Ok(()) } else { Err(error) }) {
            tracing::info!(%pool, %error, "the retired copy stays in its pool");
        }
        site.changed().await;
    }

    /// Text and mark as notes; what doesn't fit says how to make it fit.
    pub(super) fn notes(&self, at: &Place, text: &str, mark: &Mark) -> Result<String, Failure> {
        notes::join(text, mark).map_err(|error| {
            Failure::new(&self.what)
                .at(format!("{at}: its notes would not fit: {error}"))
                .next("shorten its notes in Proxmox VE, or remove expired retired copies and archives, and apply again")
        })
    }
}

/// The end of a time that begins now: seconds since 1970.
pub(crate) fn until(now: i64, kept: federation::Span) -> i64 {
    now.saturating_add(i64::try_from(kept.as_secs_ceil()).unwrap_or(i64::MAX))
}

/// Removes a fenced source or retired copy, after its caller has proved whose it is.
pub(crate) async fn remove_fenced(
    site: &Site,
    place: &Place,
    fleet: &crate::fleet::Fleet,
    deadline: Instant,
    what: &str,
) -> Result<(), Failure> {
    let fail =
        |doing: &str, error: Error| Failure::new(what).at(format!("{place}: {doing}")).said(error).next("apply again");
    // Set aside when the source was shut down.
    site.leave_ha(place.vmid).await.map_err(|error| fail("it can't be taken out of HA", error))?;
    end_replication(site, place, fleet, deadline, what).await?;
    let set = site.client.set_config(&place.node, place.vmid, Params::new().flag("protection", false), None).await;
    set.map_err(|error| fail("its protection can't be lifted", error))?;
    let upid =
        site.client.delete_vm(&place.node, place.vmid).await.map_err(|error| fail("it can't be removed", error))?;
    fleet.wait(site, &upid, deadline, what).await
}

/// Removes the replication jobs of a guest that is about to be removed, and waits until they are gone: Proxmox VE removes no guest
/// that has one (`proxmox-ve.md` §5.3). They are left alone before, for until then the guest may become the machine again
/// (hazards.md OR 26).
async fn end_replication(
    site: &Site,
    place: &Place,
    fleet: &crate::fleet::Fleet,
    deadline: Instant,
    what: &str,
) -> Result<(), Failure> {
    let fail =
        |doing: &str, error: Error| Failure::new(what).at(format!("{place}: {doing}")).said(error).next("apply again");
    let until = deadline.min(Instant::now() + fleet.settings().replication_removed.into());
    let mut pause = site.client.settings().task_poll_first;
    loop {
        let jobs = site.client.replication_jobs().await;
        let jobs = jobs.map_err(|error| fail("its replication can't be read", error))?;
        let jobs: Vec<_> = jobs.into_iter().filter(|job| job.guest == Some(place.vmid)).collect();
        if jobs.is_empty() {
            return Ok(());
        }
        for job in jobs.iter().filter(|job| job.remove_job.is_none()) {
            site.client.remove_replication_job(&job.id).await.map_err(|error| {
                Failure::new(what)
                    .at(format!("{place}: replication job {} can't be removed", job.id))
                    .said(error)
                    .next("remove it (Datacenter → Replication), and apply again")
            })?;
        }
        if Instant::now() >= until {
            let names: Vec<String> =
                jobs.iter().map(|job| format!("{} to {}", job.id, job.target.as_deref().unwrap_or("?"))).collect();
            return Err(Failure::new(what)
                .at(format!("{place}: Proxmox VE has not removed its replication yet: {}", names.join(", ")))
                .next("see whether the node that it replicates to answers, and apply again"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(site.client.settings().task_poll_max);
    }
}
