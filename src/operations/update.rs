//! Owns changing a machine where it is: settings, disks, network devices, pool, running or not; and what is past its date.
use std::time::{Duration, Instant};

use federation::model::NicRequest;
use federation::{Bytes, Slot, Span};
use proxmox::{DiskSpec, Error, NicSpec, Params};

use crate::create::Outcome;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Guest, Record};
use crate::journal::Place;
use crate::relocate::remove_fenced;
use crate::site::Site;
use crate::spec::{DiskWish, NicPlace, NicWish, VmSpec, join_tags};

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
        let changed = self.configure(&site, &place, old, new, &what).await?;
        self.grow(&site, &place, old, new, &what, deadline).await?;
        self.power(&site, &guest, new, deadline, &what).await?;
        let fail = |error: Error| {
            Failure::new(&what).at(place.to_string()).said(error).state("the changes were made").next("plan again")
        };
        let guest = site.guest_now(&place.node, place.vmid).await.map_err(fail)?;
        if changed && guest.running {
            let pending = site.client.vm_pending(&place.node, place.vmid).await.map_err(fail)?;
            let keys: Vec<String> = pending.into_iter().filter(|one| one.is_pending()).map(|one| one.key).collect();
            if !keys.is_empty() {
                warnings.push(
                    Failure::new(format!("Virtual machine {} takes a change at its next restart", new.name))
                        .at(format!("{place}: {}", keys.join(", ")))
                        .next("restart it through Proxmox VE (a restart inside the guest is not enough)"),
                );
            }
        }
        Ok(Outcome { guest, warnings })
    }

    /// One PUT with everything that differs. Whether there was anything.
    async fn configure(
        &self,
        site: &Site,
        at: &Place,
        old: &VmSpec,
        new: &VmSpec,
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
            let params = self.difference(site, &guest, old, new, what)?;
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

    /// The parameters that bring a guest from what it is to what is wanted, where the user's wish changed or reality drifted.
    fn difference(
        &self,
        site: &Site,
        guest: &Guest,
        old: &VmSpec,
        new: &VmSpec,
        what: &str,
    ) -> Result<Params, Failure> {
        let config = &guest.config;
        let mut params = Params::new();
        let mut delete: Vec<String> = Vec::new();
        if config.name() != Some(new.name.as_str()) {
            params = params.set("name", &new.name);
        }
        if config.cores() != u64::from(new.cpu.cores) {
            params = params.set("cores", new.cpu.cores);
        }
        if config.sockets() != u64::from(new.cpu.sockets) {
            params = params.set("sockets", new.cpu.sockets);
        }
        if config.cpu_type().unwrap_or("kvm64") != new.cpu.model {
            params = params.set("cpu", &new.cpu.model);
        }
        if config.memory_mib() != new.memory.as_mib() {
            params = params.set("memory", new.memory.as_mib());
        }
        let flags = [
            ("onboot", config.onboot(), new.on_boot),
            ("protection", config.protection(), new.protection),
            ("agent", config.agent().enabled(), new.agent),
        ];
        for (key, _, wanted) in flags.into_iter().filter(|(_, is, wanted)| is != wanted) {
            params = params.flag(key, wanted);
        }
        if let Some(tags) = &new.tags {
            let is: std::collections::BTreeSet<String> = config.tags().into_iter().collect();
            match (is == *tags, tags.is_empty()) {
                (true, _) => {}
                (false, true) => delete.push("tags".into()),
                (false, false) => params = params.set("tags", join_tags(tags)),
            }
        }
        if let Some(description) = &new.description
            && *description != guest.description
        {
            let notes = crate::notes::join(description, &guest.mark).map_err(|error| {
                Failure::new(what).at(format!("{}: {error}", guest.place)).next("shorten `description`")
            })?;
            params = params.set("description", notes);
        }
        params = self.disk_differences(site, guest, old, new, params, &mut delete, what)?;
        params = self.nic_differences(site, guest, old, new, params, &mut delete, what)?;
        if !delete.is_empty() {
            params = params.set("delete", delete.join(","));
        }
        Ok(params)
    }

    #[expect(clippy::too_many_arguments, reason = "one difference, seen whole")]
    fn disk_differences(
        &self,
        site: &Site,
        guest: &Guest,
        old: &VmSpec,
        new: &VmSpec,
        mut params: Params,
        delete: &mut Vec<String>,
        what: &str,
    ) -> Result<Params, Failure> {
        let found = guest.config.disks().unwrap_or_default();
        let declared = self.facts(site.name.as_str());
        for (slot, wish) in &new.disks {
            let Some(disk) = found.get(&slot.to_string()) else {
                let storage = declared.resolve_storage(wish.storage.as_deref()).ok_or_else(|| {
                    Failure::new(what)
                        .at(format!(
                            "cluster {}: disk {slot} names no storage, and the cluster has no primary one",
                            site.name
                        ))
                        .next("set `storage` of the disk")
                })?;
                params = params.set(slot.to_string(), wish.allocation(&storage));
                continue;
            };
            let mut wanted = disk.clone();
            set_options(&mut wanted, wish);
            if wanted.properties().to_string() != disk.properties().to_string() {
                params = params.set(slot.to_string(), wanted.properties());
            }
        }
        delete.extend(taken_out(&old.disks, &new.disks).filter(|slot| found.contains_key(slot)));
        Ok(params)
    }

    #[expect(clippy::too_many_arguments, reason = "one difference, seen whole")]
    fn nic_differences(
        &self,
        site: &Site,
        guest: &Guest,
        old: &VmSpec,
        new: &VmSpec,
        mut params: Params,
        delete: &mut Vec<String>,
        what: &str,
    ) -> Result<Params, Failure> {
        let found = guest.config.nics().unwrap_or_default();
        let declared = self.facts(site.name.as_str());
        for (slot, wish) in &new.nics {
            let request = NicRequest { network: wish.network.clone(), bridge: wish.bridge.clone(), vlan: wish.vlan };
            let on = declared.resolve_network(&request).ok_or_else(|| {
                Failure::new(what).at(format!("network device {slot} names neither a network nor a bridge"))
            })?;
            let place = NicPlace { bridge: on.bridge, vlan: on.vlan };
            let Some(nic) = found.get(&slot.to_string()) else {
                params = params.set(slot.to_string(), wish.device(&place, false));
                continue;
            };
            let wanted = nic_as_wished(nic, wish, &place);
            if wanted.properties().to_string() != nic.properties().to_string() {
                params = params.set(slot.to_string(), wanted.properties());
            }
        }
        delete.extend(taken_out(&old.nics, &new.nics).filter(|slot| found.contains_key(slot)));
        Ok(params)
    }

    /// Grows disks to the wished size. The call is absolute, so that making it twice is making it once.
    async fn grow(
        &self,
        site: &Site,
        at: &Place,
        old: &VmSpec,
        new: &VmSpec,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let grown: Vec<(&Slot, Bytes)> = new
            .disks
            .iter()
            .filter(|(slot, wish)| old.disks.get(*slot).is_some_and(|had| had.size < wish.size))
            .map(|(slot, wish)| (slot, wish.size))
            .collect();
        if grown.is_empty() {
            return Ok(());
        }
        let fail = |error: Error| Failure::new(what).at(at.to_string()).said(error).next("mend that, and apply again");
        let config = site.client.vm_config(&at.node, at.vmid, false).await.map_err(fail)?;
        let disks = config.disks().unwrap_or_default();
        for (slot, size) in grown {
            let is = disks.get(&slot.to_string()).and_then(DiskSpec::size_bytes).unwrap_or_default();
            if is >= size.0 {
                continue;
            }
            let size = proxmox::format_size(size.0);
            let resized = site.client.resize_disk(&at.node, at.vmid, &slot.to_string(), &size, None).await;
            let resized = resized.map_err(|error| {
                fail(error).state(format!("disk {slot} has its former size; what came before it was changed"))
            })?;
            if let Some(upid) = resized {
                self.wait(site, &upid, deadline, what).await?;
            }
        }
        site.changed().await;
        Ok(())
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
        let ours =
            guest.is_retired() && guest.config.template() && guest.uuid.eq_ignore_ascii_case(uuid) && !guest.running;
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

/// Slots that were configured and are no longer.
fn taken_out<'a, T>(
    old: &'a std::collections::BTreeMap<Slot, T>,
    new: &'a std::collections::BTreeMap<Slot, T>,
) -> impl Iterator<Item = String> + 'a {
    old.keys().filter(|slot| !new.contains_key(slot)).map(ToString::to_string)
}

/// Sets the options that we model; the others stay as they are. An option that is at its default is not written.
fn set_options(disk: &mut DiskSpec, wish: &DiskWish) {
    if disk.option_bool("ssd").unwrap_or(false) != wish.ssd {
        disk.set_option("ssd", wish.ssd.then_some("1"));
    }
    if (disk.option("discard") == Some("on")) != wish.discard {
        disk.set_option("discard", wish.discard.then_some("on"));
    }
    if disk.backup() != wish.backup {
        disk.set_option("backup", (!wish.backup).then_some("0"));
    }
}

fn nic_as_wished(nic: &NicSpec, wish: &NicWish, place: &NicPlace) -> NicSpec {
    let mut wanted = nic.clone();
    let mac = wish.mac.as_deref().or(nic.mac()).map(str::to_owned);
    let same_mac = mac.as_deref().zip(nic.mac()).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
    if nic.model() != wish.model || !same_mac {
        wanted.set_model(&wish.model, mac.as_deref());
    }
    if nic.bridge() != Some(place.bridge.as_str()) {
        wanted.set_bridge(&place.bridge);
    }
    if nic.tag() != place.vlan {
        wanted.set_tag(place.vlan);
    }
    if nic.firewall() != wish.firewall {
        wanted.set_firewall(wish.firewall);
    }
    wanted
}
