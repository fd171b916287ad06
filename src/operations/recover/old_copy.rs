//! Owns what becomes of the old copy of a recovered machine: nothing fenced it when its cluster was lost, so it may run again beside
//! the machine as soon as that answers.
use std::time::{Duration, Instant};

use proxmox::{Error, Params};

use crate::create::Outcome;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Guest, rfc3339};
use crate::journal::Place;
use crate::notes::{self, Copy, Mark, Retired};
use crate::relocate::{kept_for, node_of, until};
use crate::site::Site;
use crate::spec::VmSpec;

/// What the old copy of a recovered machine names as the operation that retired it.
pub(crate) const RECOVERY: &str = "recovery";

impl Site {
    /// The guest of this UUID that has the place's VMID on this cluster, wherever it is by now; asked past every cache.
    ///
    /// # Errors
    /// What the cluster said.
    pub(crate) async fn stands_at(&self, place: &Place, uuid: &str) -> Result<Option<Place>, Error> {
        let resources = self.client.cluster_resources(None).await?;
        let seen = resources.into_iter().find(|guest| guest.vmid == Some(place.vmid));
        let Some(node) = seen.and_then(|guest| guest.node) else { return Ok(None) };
        let (node, config) = self.config_and_node(&node, place.vmid, true).await?;
        let same = config.uuid().is_some_and(|own| own.eq_ignore_ascii_case(uuid));
        Ok(same.then(|| Place { node, ..place.clone() }))
    }
}

impl Fleet {
    /// Where an old copy of a recovered machine is, once its cluster answers again.
    pub(crate) async fn old_copy_of(&self, guest: &Guest) -> Option<Place> {
        for lost in &guest.mark.lost {
            if (&lost.cluster, lost.vmid) == (&guest.place.cluster, guest.place.vmid) {
                continue;
            }
            let Some(site) = self.site(lost.cluster.as_str()) else { continue };
            let Ok(overview) = site.glance().await else { continue };
            let Some(node) = overview.guest(lost.vmid).and_then(|guest| guest.node.clone()) else { continue };
            let Ok((node, config)) = site.config_and_node(&node, lost.vmid, true).await else { continue };
            if config.uuid().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&guest.uuid)) {
                return Some(Place { cluster: lost.cluster.clone(), node, vmid: lost.vmid });
            }
        }
        None
    }

    /// The cluster of an old copy that can't be looked at now: it may run again one day.
    pub(crate) async fn unseen_old_copy(&self, guest: &Guest) -> Option<String> {
        for lost in &guest.mark.lost {
            let dark = match self.site(lost.cluster.as_str()) {
                Some(site) => site.glance().await.is_err(),
                None => true,
            };
            if dark {
                return Some(format!("{}/{}", lost.cluster, lost.vmid));
            }
        }
        None
    }

    /// Fences the old copy: stopped, started by nobody, kept as a retired copy. It may hold what the machine wrote after its backup.
    /// May run any number of times: the machine's notes forget it last.
    ///
    /// # Errors
    /// What Proxmox VE said; the next apply goes on.
    pub(crate) async fn fence_old_copy(
        &self,
        spec: &VmSpec,
        guest: Guest,
        copy: &Place,
        what: &str,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let site = self.need(copy.cluster.as_str(), what)?.clone();
        let here = self.need(guest.place.cluster.as_str(), what)?.clone();
        let at = Place { node: node_of(&site, copy).await, ..copy.clone() };
        let until = until(here.now(), kept_for(&spec.migration));
        let fence = Fence { fleet: self, site: &site, at: &at, what };
        fence.stop(spec.migration.shutdown_timeout.into(), deadline).await?;
        fence.close(&guest, until).await?;
        let mut guest = here.guest_now(&guest.place.node, guest.place.vmid).await.map_err(|error| fence.at(error))?;
        guest.mark.lost.retain(|lost| (&lost.cluster, lost.vmid) != (&at.cluster, at.vmid));
        let op = Some(RECOVERY.to_owned());
        guest.mark.list_copy(Copy { cluster: at.cluster.clone(), vmid: at.vmid, until, returned: false, op });
        self.write_notes(&here, &guest, None, what).await?;
        let warning = Failure::new(format!("The old copy of virtual machine {} is fenced", spec.name))
            .at(at.to_string())
            .state(format!(
                "it is stopped and kept until {}: it may hold what the machine wrote after the backup that it was recovered from",
                rfc3339(until)
            ))
            .next("see whether anything of it is needed, before it goes");
        let guest = here.guest_now(&guest.place.node, guest.place.vmid).await.map_err(|error| fence.at(error))?;
        Ok(Outcome { guest, warnings: vec![warning] })
    }
}

struct Fence<'a> {
    fleet: &'a Fleet,
    site: &'a Site,
    at: &'a Place,
    what: &'a str,
}

impl Fence<'_> {
    fn at(&self, error: Error) -> Failure {
        Failure::new(self.what)
            .at(format!("{}: the old copy can't be fenced", self.at))
            .said(error)
            .state("both copies may run")
            .next(format!("on {}: qm stop {}; mend that, and apply again", self.at.node, self.at.vmid))
    }

    async fn runs(&self) -> Result<bool, Failure> {
        let status = self.site.client.vm_status(&self.at.node, self.at.vmid).await.map_err(|error| self.at(error))?;
        Ok(status.status != "stopped")
    }

    /// Stops it, hard where it doesn't shut down in time: it must not run beside the machine. HA would start it again.
    async fn stop(&self, patience: Duration, deadline: Instant) -> Result<(), Failure> {
        let client = &self.site.client;
        if client.ha_resource(self.at.vmid).await.is_ok_and(|resource| resource.is_some()) {
            client.set_ha_state(self.at.vmid, "ignored").await.map_err(|error| self.at(error))?;
        }
        if !self.runs().await? {
            return Ok(());
        }
        let upid = client.shutdown_vm(&self.at.node, self.at.vmid, Some(patience), true).await;
        let upid = upid.map_err(|error| self.at(error))?;
        self.fleet.wait(self.site, &upid, deadline, self.what).await
    }

    /// Has nobody start it: the fence of a move's source, with a note of what it is (design.md §6).
    async fn close(&self, machine: &Guest, until: i64) -> Result<(), Failure> {
        let read = async || {
            self.site.client.vm_config(&self.at.node, self.at.vmid, true).await.map_err(|error| self.at(error))
        };
        let config = read().await?;
        let split = notes::split(config.description().unwrap_or_default());
        if !config.template() || split.mark.retired.is_none() {
            let to = &machine.place;
            let line = format!(
                "RETIRED: recovered on cluster {} (vmid {}) after the loss of this one. Do not start. Expires {}.",
                to.cluster,
                to.vmid,
                rfc3339(until)
            );
            let retired = Retired { op: RECOVERY.to_owned(), to: to.cluster.clone(), until, at: Some(self.site.now()) };
            let mark = Mark { retired: Some(retired), line: Some(line), ..Mark::default() };
            let text = notes::join(&split.text, &mark).map_err(|error| {
                Failure::new(self.what)
                    .at(format!("{}: its notes would not fit: {error}", self.at))
                    .next("shorten its notes")
            })?;
            let params = Params::new()
                .flag("onboot", false)
                .flag("template", true)
                .flag("protection", true)
                .set("description", text);
            let set = self.site.client.set_config(&self.at.node, self.at.vmid, params, config.digest()).await;
            set.map_err(|error| self.at(error))?;
        }
        self.site.changed().await;
        if read().await?.template() && !self.runs().await? {
            return Ok(());
        }
        // Merely pending: somebody started it in between.
        Err(Failure::new(self.what)
            .at(format!("{}: somebody started the old copy meanwhile", self.at))
            .state("both copies may run")
            .next("apply again"))
    }
}
