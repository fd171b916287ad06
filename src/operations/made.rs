//! Owns what is found of a create before it begins: a machine that this folder or a dead run made already, or another of its name.
use std::time::Instant;

use proxmox::Resource;

use crate::clone::{Template, is_ours};
use crate::create::dark;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::Guest;
use crate::journal::{Holder, Journal, Place};
use crate::operation::Taken;
use crate::site::Site;
use crate::spec::VmSpec;

impl Fleet {
    /// A create of this name that was interrupted on another cluster, before facts changed the plan: it is given back where
    /// it made nothing, else this one is refused.
    pub(crate) async fn none_elsewhere(
        &self,
        site: &Site,
        key: &str,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        for other in self.sites().filter(|other| other.name != site.name) {
            let Ok(overview) = other.glance().await else { continue };
            let Some(found) = overview.operation(key) else { continue };
            let claim = Journal { holder: Holder::me(), ..found };
            let (journal, made) = match self.take(other, key, &claim, what).await? {
                Taken::Over(journal) => {
                    (*journal.clone(), self.made_before(other, &journal, None, what, deadline).await?)
                }
                // Given back since we looked.
                Taken::New => (claim, None),
            };
            if let Some(guest) = made {
                let place = &guest.place;
                return Err(Failure::new(what)
                    .at(format!("{place}: an interrupted create made it there, and the plan has {}", site.name))
                    .state("that machine exists and was never finished; nothing was touched by this run")
                    .next(format!(
                        "import it (id \"{}/{}\"), or remove it and apply again",
                        place.cluster, place.vmid
                    )));
            }
            self.give_back(other, key, journal.epoch).await.map_err(|error| dark(what, &other.name, error))?;
        }
        Ok(())
    }

    /// Where the machine is already: this working folder made it, and was killed before state had it.
    ///
    /// # Errors
    /// Any other machine of the pool with this name, on any cluster that answers.
    pub(crate) async fn made_already(&self, here: &Site, spec: &VmSpec, what: &str) -> Result<Option<Place>, Failure> {
        let pool = spec.pool.as_ref().map(|pool| pool.as_str());
        let birth = self.births().of(pool.unwrap_or_default(), spec.name.as_str());
        let mut ours = None;
        if let Some(birth) = birth.filter(|birth| birth.place.cluster == here.name) {
            let node = crate::relocate::node_of(here, &birth.place).await;
            match here.config_and_node(&node, birth.place.vmid, false).await {
                Ok((node, config)) if config.uuid().is_some_and(|own| own.eq_ignore_ascii_case(&birth.uuid)) => {
                    ours = Some(Place { node, ..birth.place });
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() || error.is_permission_denied() => {}
                Err(error) => return Err(dark(what, &here.name, error)),
            }
        }
        for site in self.sites() {
            let Ok(overview) = site.overview(self.settings().fact_age.into()).await else { continue };
            let is_ours = |guest: &Resource| {
                ours.as_ref().is_some_and(|place| place.cluster == site.name && Some(place.vmid) == guest.vmid)
            };
            let mut taken = None;
            for guest in overview.guests().filter(|guest| guest.pool.as_deref() == pool && !is_ours(guest)) {
                let same_name = match guest.name.as_deref() {
                    Some(name) => !guest.template && name == spec.name.as_str(),
                    None => site.is_called(guest, spec.name.as_str()).await,
                };
                if same_name {
                    taken = guest.vmid;
                    break;
                }
            }
            if let Some(vmid) = taken {
                return Err(Failure::new(what)
                    .at(format!("cluster {}: guest {vmid} of the same pool has this name already", site.name))
                    .state("nothing was touched")
                    .next(format!("import it (id \"{}/{vmid}\"), or choose another name", site.name)));
            }
        }
        Ok(ours)
    }

    /// The machine that an interrupted create has made, once its task has ended.
    pub(crate) async fn made_before(
        &self,
        site: &Site,
        journal: &Journal,
        template: Option<&Template>,
        what: &str,
        deadline: Instant,
    ) -> Result<Option<Guest>, Failure> {
        let to = &journal.to;
        self.end_of_tasks(site, to, "qmcreate", what, deadline).await?;
        self.end_of_copy(site, journal, template, what, deadline).await?;
        match site.guest_now(&to.node, to.vmid).await {
            Ok(guest) if is_ours(&guest, journal) => Ok(Some(guest)),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() || error.is_permission_denied() => Ok(None),
            Err(error) => Err(dark(what, &site.name, error)),
        }
    }
}

impl Site {
    /// Whether a guest that the overview shows without a name has this one, and is no template: that of a node which tells nothing any
    /// more (`proxmox-ve.md` §18.17), or one that was made a moment ago. One that can't be read isn't known to.
    async fn is_called(&self, guest: &Resource, name: &str) -> bool {
        let (Some(vmid), Some(node), true) = (guest.vmid, guest.node.as_deref(), guest.kind == "qemu") else {
            return false;
        };
        let config = self.client.vm_config(node, vmid, false).await;
        config.is_ok_and(|config| config.name() == Some(name) && !config.template())
    }
}

pub(crate) fn other_request(what: &str, found: &Journal) -> Failure {
    Failure::new(what)
        .at(format!("{}: an interrupted create of this name asked for something else", found.to))
        .state("that machine exists and was never finished; nothing was touched by this run")
        .next(format!(
            "import it (id \"{}/{}\"), or remove it in Proxmox VE and apply again",
            found.to.cluster, found.to.vmid
        ))
}
