//! Owns removing a machine, with its retired copies and kept archives; an open operation comes to its end first.
use std::time::{Duration, Instant};

use federation::Span;
use proxmox::Error;

use crate::absence::Trace;
use crate::failure::{Failure, Object, Remedy};
use crate::fleet::Fleet;
use crate::guest::{Guest, Record};
use crate::ha;
use crate::identity::Found;
use crate::site::Site;
use crate::spec::VmSpec;

impl Fleet {
    /// Removes a machine. Removing what is gone already is fine.
    ///
    /// # Errors
    /// Its protection, a cluster that can't be asked, or what Proxmox VE said.
    pub async fn destroy(
        &self,
        spec: &VmSpec,
        record: &Record,
        timeout: Option<Span>,
    ) -> Result<Vec<Failure>, Failure> {
        let what = format!("Unable to remove virtual machine {}", record.name);
        let deadline = Instant::now() + Duration::from(timeout.unwrap_or(self.settings().delete));
        let mut guest = match self.find(record).await {
            Found::Gone => return Ok(Vec::new()),
            Found::Here(guest) => *guest,
            Found::Elsewhere(guest) => {
                return Err(Failure::new(what)
                    .at(format!("somebody moved it to {}", guest.place))
                    .state("nothing was touched")
                    .next("have state say where it is, and destroy again")
                    .remedy(Remedy::Follow));
            }
            Found::Lost(open) => {
                if let Some(journal) = open {
                    self.settle_recovery(spec, *journal, None, &what, deadline).await?;
                }
                return Err(Failure::new(what)
                    .at(format!("cluster {} is lost, and the machine with it", record.cluster))
                    .state("nothing of it is on a cluster that answers")
                    .next("bring the cluster back, or forget the machine")
                    .remedy(Remedy::Forget(Object::Machine)));
            }
            Found::Unsure(why) => {
                return Err(Failure::new(what)
                    .at(why)
                    .state("nothing was touched")
                    .next("bring back what can't be asked, or forget the machine")
                    .remedy(Remedy::Forget(Object::Machine)));
            }
        };
        let mut warnings = Vec::new();
        if let Some(journal) = guest.operation.clone() {
            let settled = self.settle_for_removal(spec, journal, &what, deadline).await?;
            warnings = settled.warnings;
            guest = settled.guest;
        }
        let site = self.need(guest.place.cluster.as_str(), &what)?.clone();
        if guest.protection() {
            return Err(Failure::new(what)
                .at(format!("{}: its protection is on", guest.place))
                .state("nothing was touched")
                .next("set protection = false and apply, then destroy"));
        }
        let managed = self.is_managed(&site, &guest, &what).await?;
        while let Some(copy) = self.old_copy_of(&guest).await {
            // It goes with the machine, as a retired copy.
            guest = self.fence_old_copy(spec, guest, &copy, &what, deadline).await?.guest;
        }
        if let Some(copy) = self.unseen_old_copy(&guest).await {
            warnings.push(
                Failure::new(format!("The old copy of virtual machine {} may come back", record.name))
                    .at(format!("{copy}: its cluster was lost, and doesn't answer"))
                    .next("remove it there, if that cluster ever answers again: nothing knows of it any more"),
            );
        }
        warnings.extend(self.remove_leftovers(&guest, deadline, &what).await);
        self.remove(&site, &guest, managed, deadline, &what).await?;
        Ok(warnings)
    }

    /// What earlier moves left: the machine's retired copies and archives. The archives go before the machines
    /// of their VMIDs (`proxmox-ve.md` §17).
    async fn remove_leftovers(&self, guest: &Guest, deadline: Instant, what: &str) -> Vec<Failure> {
        let mut warnings = Vec::new();
        for kept in &guest.mark.archives {
            match self.remove_kept(kept, &guest.place.cluster, deadline).await {
                Ok(said) => warnings.extend(said),
                Err(failure) => warnings.push(failure),
            }
        }
        for copy in &guest.mark.copies {
            let removed = self.remove_copy(copy, &guest.uuid, deadline, what).await;
            warnings.extend(removed.unwrap_or_else(Some));
        }
        warnings
    }

    /// Whether HA manages it.
    ///
    /// # Errors
    /// Where it does, and the token can't take it out of HA: refused before anything is touched.
    async fn is_managed(&self, site: &Site, guest: &Guest, what: &str) -> Result<bool, Failure> {
        // What can't be read is left to the removal itself.
        if !site.client.ha_resource(guest.place.vmid).await.is_ok_and(|resource| resource.is_some()) {
            return Ok(false);
        }
        let Some(lacking) = site.lacks_ha().await else { return Ok(true) };
        Err(Failure::new(what)
            .at(format!("{}: {lacking}", guest.place))
            .state("nothing was touched")
            .next(format!("{}; then destroy again", ha::without_the_right(&guest.place))))
    }

    async fn remove(
        &self,
        site: &Site,
        guest: &Guest,
        managed: bool,
        deadline: Instant,
        what: &str,
    ) -> Result<(), Failure> {
        let at = &guest.place;
        let fail = |error: Error| {
            Failure::new(what).at(at.to_string()).said(error).state("it exists").next("mend that, and destroy again")
        };
        // HA would start it again, or stop it in its own way.
        if managed {
            site.leave_ha(at.vmid).await.map_err(fail)?;
        }
        let fail = |error: Error| match managed {
            true => fail(error).state("it exists, and is not managed by HA any more"),
            false => fail(error),
        };
        // Facts of the refresh may be minutes old, and a running machine can't be removed.
        let running =
            site.client.vm_status(&at.node, at.vmid).await.map_or(guest.running, |now| now.status == "running");
        if running {
            let upid = site.client.stop_vm(&at.node, at.vmid, None).await.map_err(fail)?;
            self.wait(site, &upid, deadline, what).await?;
        }
        let upid = match site.client.delete_vm(&at.node, at.vmid).await {
            Ok(upid) => upid,
            Err(error) if error.is_not_found() => return self.is_removed(site, guest, error, what).await,
            Err(error) => return Err(fail(error)),
        };
        self.wait(site, &upid, deadline, what).await.map_err(|failure| {
            failure.at(at.to_string()).state("it exists, as far as can be seen").next("mend that, and destroy again")
        })
    }

    /// What it means that its node says there is no such machine to remove: it is gone, or it has left for another node.
    async fn is_removed(&self, site: &Site, guest: &Guest, error: Error, what: &str) -> Result<(), Failure> {
        let at = &guest.place;
        let failure = |said: String| Failure::new(what).at(at.to_string()).said(said).state("it exists");
        match site.trace(at.vmid, &at.node).await {
            Trace::Nowhere => Ok(()),
            Trace::On(_, node, _) => Err(failure(error.to_string())
                .next(format!("it moved to node {node} of its cluster meanwhile: destroy again"))),
            Trace::Unclear(why) => Err(failure(why).next("wait until it has arrived, and destroy again")),
        }
    }
}
