//! The backup of one guest: refusals, what is told of it, the copy, the archive, and what is pruned for it.

use super::{PARTS, Phase, Running, Vzdump, archive_size, clock};
use crate::backup::archive;
use crate::backup::contents::snapshot;
use crate::error::ApiError;
use crate::qemu::{drives, is_unused};
use crate::state::{Power, State, Vm};
use crate::storage::Archive;
use crate::tasks::{At, Step};
use crate::util::{archive_date, format_size, log_date};

impl Vzdump {
    /// Up to the point where bytes begin to flow.
    pub(super) fn begin(&mut self, st: &mut State, at: &At, vmid: u32) -> Result<Running, ApiError> {
        let cluster = at.cluster.clone();
        let missing = || ApiError::die(format!("unable to find VM '{vmid}'"));
        let vm = st.cluster(&cluster).vms.get(&vmid).ok_or_else(missing)?;
        st.cluster(&cluster).need(&self.auth, &format!("/vms/{vmid}"), &["VM.Backup"])?;
        let was = vm.power;
        let mode = if was == Power::Stopped { "stop".to_owned() } else { self.mode.clone() };
        self.limits(st, &cluster, vmid)?;
        let ha = st.cluster(&cluster).ha.get(&format!("vm:{vmid}"));
        if was != Power::Stopped && mode == "stop" && ha.is_some_and(|r| r.state == "started") {
            return Err(ApiError::die(
                "Cannot execute a backup with stop mode on a HA managed and enabled Service. Use snapshot mode or disable the Service.",
            ));
        }
        self.describe(st, at, vmid, was, &mode)?;
        let stays_up = st.cluster(&cluster).vms.get(&vmid).is_some_and(|vm| vm.ignores_shutdown);
        if was != Power::Stopped && mode == "stop" && stays_up {
            // Nobody stops it hard for a backup (§18.15).
            self.info(st, at, "stopping virtual guest");
            return Err(ApiError::die("VM quit/powerdown failed - got timeout"));
        }
        let vm = st.cluster_mut(&cluster).vm_to_write(&self.node, vmid)?;
        vm.check_lock()?;
        vm.conf.insert("lock".to_owned(), "backup".to_owned());
        let started = st.now();
        let (volname, path) = self.name_archive(st, at, vmid, started);
        self.info(st, at, format!("creating vzdump archive '{path}'"));
        match was {
            Power::Stopped => {
                self.info(st, at, "starting kvm to execute backup task");
                if let Some(vm) = st.cluster_mut(&cluster).vms.get_mut(&vmid) {
                    vm.power = Power::Prelaunch;
                    vm.pid = 20_000 + vmid;
                    vm.started_at = started;
                }
            }
            _ if mode == "stop" => {
                self.info(st, at, "stopping virtual guest");
                st.power_off(&cluster, vmid);
            }
            _ => {}
        }
        st.flush(&cluster, vmid);
        let (header, bytes) = snapshot(st, &cluster, &self.node, vmid)?;
        if was != Power::Stopped && mode == "stop" {
            // The guest runs again as soon as the job has its starting point.
            st.power_on(&cluster, vmid);
            self.info(st, at, "resuming VM again after stop");
        }
        let uuid = st.fresh_uuid("backup");
        self.info(st, at, format!("started backup task '{uuid}'"));
        let logical: u64 = header.disks.iter().map(|disk| disk.logical).sum();
        let part_ms = (st.transfer_ms(&self.place(&cluster), logical) / PARTS).max(100);
        Ok(Running { vmid, started, volname, header, bytes, logical, was, part_ms })
    }

    /// Retention and the limit of protected archives (§6).
    fn limits(&self, st: &State, cluster: &str, vmid: u32) -> Result<(), ApiError> {
        let name = &self.storage;
        let allocate = st.cluster(cluster).has(&self.auth, &format!("/storage/{name}"), &["Datastore.Allocate"]);
        let Some(store) = st.store(&self.place(cluster)) else { return Ok(()) };
        let of_guest = || store.archives.values().filter(move |archive| archive.vmid == vmid);
        if self.protected && !allocate && of_guest().filter(|a| a.protected).count() >= 5 {
            return Err(ApiError::die(format!(
                "The number of protected backups per guest is limited to 5 on storage '{name}'"
            )));
        }
        let counted = of_guest().filter(|archive| !archive.protected).count();
        match self.keep_last(st, cluster).filter(|_| !self.remove && !self.protected) {
            Some(limit) if counted >= limit => Err(ApiError::die(format!(
                "There is a max backup limit of {limit} enforced by the target storage or the vzdump parameters. Either increase the limit or delete old backups."
            ))),
            _ => Ok(()),
        }
    }

    /// How many to keep, when that is limited.
    fn keep_last(&self, st: &State, cluster: &str) -> Option<usize> {
        let of_storage = st.cluster(cluster).storages.get(&self.storage)?.spec.prune_backups.clone();
        let keep = self.keep.clone().or(of_storage)?;
        keep.split(',').find_map(|part| part.strip_prefix("keep-last=")).and_then(|n| n.parse().ok())
    }

    /// The lines that differ between a stopped and a running guest (§17.c13).
    fn describe(&self, st: &mut State, at: &At, vmid: u32, was: Power, mode: &str) -> Result<(), ApiError> {
        let vm = st.cluster(&at.cluster).vm(&self.node, vmid)?;
        let mut disks = Vec::new();
        for drive in drives(&vm.conf).filter(|d| d.is_backed_up()) {
            if drive.option("backup").is_some_and(|flag| flag == "0" || flag == "no") {
                disks.push(format!("exclude disk '{}' '{}' (backup=no)", drive.slot, drive.volume));
            } else if drive.slot == "efidisk0" && vm.conf.get("bios").is_none_or(|bios| bios != "ovmf") {
                disks.push(format!("exclude disk 'efidisk0' '{}' (efidisk but no OVMF BIOS)", drive.volume));
            } else {
                let size = st.volume(&at.cluster, &self.node, &drive.volume).map_or(0, |v| v.logical);
                disks.push(format!("include disk '{}' '{}' {}", drive.slot, drive.volume, format_size(size)));
            }
        }
        let pending = !vm.pending.is_empty();
        let unused: Vec<_> = vm.conf.iter().filter(|(key, _)| is_unused(key)).map(|(_, v)| v.clone()).collect();
        let head = vec![format!("VM Name: {}", vm.name())];
        let how = vec![format!("backup mode: {mode}"), "ionice priority: 7".to_owned()];
        let status = if was == Power::Stopped { "stopped" } else { "running" };
        let order = if was == Power::Stopped { [how, head, disks] } else { [head, disks, how] };
        self.info(st, at, format!("status = {status}"));
        for line in order.concat() {
            self.info(st, at, line);
        }
        if pending {
            self.info(st, at, "pending configuration changes found (not included into backup)");
        }
        for volume in unused {
            self.info(st, at, format!("skip unused drive '{volume}' (not included into backup)"));
        }
        Ok(())
    }

    fn name_archive(&self, st: &State, at: &At, vmid: u32, started: i64) -> (String, String) {
        let mount = st.cluster(&at.cluster).storages.get(&self.storage).map(|def| def.mount(&self.storage));
        let mut second = self.local(st, at, started);
        loop {
            let file = format!("vzdump-qemu-{vmid}-{}.vma{}", archive_date(second), self.extension);
            let volname = format!("backup/{file}");
            let taken = st.store(&self.place(&at.cluster)).is_some_and(|store| store.archives.contains_key(&volname));
            if !taken {
                return (volname, format!("{}/dump/{file}", mount.unwrap_or_default()));
            }
            second += 1;
        }
    }

    pub(super) fn copy(&mut self, st: &mut State, at: &At, part: u64) -> Step {
        let Some(running) = &self.running else { return self.finish(st, at) };
        let (vmid, logical, wait) = (running.vmid, running.logical, running.part_ms);
        let size = archive_size(logical, self.extension);
        let free = st.store(&self.place(&at.cluster)).map_or(0, crate::storage::Store::free);
        if free < size {
            st.say(at, "ERROR: vma_queue_write: write error - Broken pipe");
            self.info(st, at, "aborting backup job");
            if let Some(running) = self.running.take() {
                self.release(st, at, &running);
            }
            let text = "vma_queue_write: write error - Broken pipe";
            self.fail_guest(st, at, vmid, text);
            self.phase = Phase::Next;
            return Step::wait_ms(100);
        }
        let done = logical * part / PARTS;
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        self.info(
            st,
            at,
            format!(
                "{:3}% ({:.1} GiB of {:.1} GiB) in {}s, read: 200.0 MiB/s, write: 120.0 MiB/s",
                part * 100 / PARTS,
                gib(done),
                gib(logical),
                part * wait / 1000
            ),
        );
        if part < PARTS {
            self.phase = Phase::Copy(part + 1);
            return Step::wait_ms(wait);
        }
        self.complete(st, at);
        self.phase = Phase::Next;
        Step::wait_ms(100)
    }

    /// The archive gets its final name last, so what is listed is complete.
    fn complete(&mut self, st: &mut State, at: &At) {
        let Some(running) = self.running.take() else { return };
        let vmid = running.vmid;
        let seconds = (st.now() - running.started) / 1000;
        let gib = running.logical as f64 / (1u64 << 30) as f64;
        self.info(st, at, format!("transferred {gib:.2} GiB in {seconds} seconds"));
        let file = st.folder.join("archives").join(format!("{:016x}", st.fresh("archive")));
        if let Err(error) = archive::write(&file, &running.header, &running.bytes) {
            self.release(st, at, &running);
            return self.fail_guest(st, at, vmid, &error.to_string());
        }
        self.release(st, at, &running);
        let size = archive_size(running.logical, self.extension);
        self.info(st, at, format!("archive file size: {:.2}GB", size as f64 / 1e9));
        let notes = self.render_notes(st, at, vmid);
        let ctime = running.started / 1000;
        let archive = Archive { vmid, ctime, size, notes: notes.clone(), protected: self.protected, file };
        if !notes.is_empty() {
            self.info(st, at, "adding notes to backup");
        }
        if self.protected {
            self.info(st, at, "marking backup as protected");
        }
        crate::backup::write_side_files(&archive);
        if let Some(store) = st.store_mut(&self.place(&at.cluster)) {
            store.archives.insert(running.volname.clone(), archive);
        }
        self.prune(st, at, vmid);
        self.info(st, at, format!("Finished Backup of VM {vmid} ({})", clock(seconds)));
        let now = st.now();
        let local = self.local(st, at, now);
        self.info(st, at, format!("Backup finished at {}", log_date(local)));
    }

    fn render_notes(&self, st: &State, at: &At, vmid: u32) -> String {
        let c = st.cluster(&at.cluster);
        let name = c.vms.get(&vmid).map(Vm::name).unwrap_or_default();
        self.notes
            .replace("{{cluster}}", c.corosync.as_deref().unwrap_or("standalone node"))
            .replace("{{guestname}}", &name)
            .replace("{{node}}", &self.node)
            .replace("{{vmid}}", &vmid.to_string())
            .replace("\\n", "\n")
    }

    /// Older unprotected archives of the same vmid go, whichever cluster made them (§8 hazards).
    fn prune(&self, st: &mut State, at: &At, vmid: u32) {
        let Some(keep) = self.keep_last(st, &at.cluster).filter(|_| self.remove) else { return };
        self.info(st, at, format!("prune older backups with retention: keep-last={keep}"));
        let Some(store) = st.store_mut(&self.place(&at.cluster)) else { return };
        let mut old: Vec<_> = store
            .archives
            .iter()
            .filter(|(_, archive)| archive.vmid == vmid && !archive.protected)
            .map(|(name, archive)| (archive.ctime, name.clone()))
            .collect();
        old.sort();
        old.truncate(old.len().saturating_sub(keep));
        let count = old.len();
        for (_, name) in old {
            if let Some(archive) = store.archives.remove(&name) {
                crate::backup::remove_files(&archive);
            }
        }
        self.info(st, at, format!("pruned {count} backup(s) not covered by keep-retention policy"));
    }

    /// The guest gets its lock and its QEMU back to what they were.
    pub(super) fn release(&self, st: &mut State, at: &At, running: &Running) {
        let Some(vm) = st.cluster_mut(&at.cluster).vms.get_mut(&running.vmid) else { return };
        if vm.lock() == Some("backup") {
            vm.conf.remove("lock");
        }
        if running.was != Power::Stopped {
            return;
        }
        let now = vm.power;
        if now == Power::Prelaunch {
            vm.power = Power::Stopped;
            vm.pid = 0;
            self.info(st, at, "stopping kvm after backup task");
        } else {
            // Somebody started the guest meanwhile: the archive is older than its disk (§17).
            self.info(st, at, format!("kvm status changed after backup ('{}') - keep VM running", now.qmp()));
        }
    }
}
