//! What a test may see and do behind the API's back.

mod hands;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::MutexGuard;

use tokio::sync::oneshot;

use crate::bytes;
use crate::genesis;
use crate::qemu::{Drive, config, drives};
use crate::server::{Shared, Switch};
use crate::snapshot::{ArchiveSnapshot, VmSnapshot, VolumeSnapshot, each_store, open_archive, snapshot};
use crate::state::State;
use crate::world::GuestSpec;
use crate::{Result, SimulatorError};

/// What [`ClusterHandle::power_node`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodePower {
    /// As if the plug was pulled.
    Off,
    /// Boots: left-over backup locks go, guests with onboot start.
    On,
    /// Off, and back on a minute later by the clusters' clock.
    Reboot,
}

/// One cluster of a running simulator.
#[derive(Clone)]
pub struct ClusterHandle {
    pub(crate) shared: Shared,
    pub(crate) name: String,
    pub(crate) urls: Vec<String>,
    pub(crate) switches: Vec<Switch>,
}

impl std::fmt::Debug for ClusterHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClusterHandle({} at {:?})", self.name, self.urls)
    }
}

impl ClusterHandle {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Name in the world.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens: `https://127.0.0.1:PORT`, without path.
    pub fn url(&self) -> String {
        self.urls.first().cloned().unwrap_or_default()
    }

    /// All addresses: one, or with [`crate::Listen::PerNode`] one per node in the order of their names.
    pub fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    /// SHA-256 of the entry node's certificate, upper-case hex with colons.
    pub fn fingerprint(&self) -> String {
        let st = self.lock();
        st.cluster(&self.name).nodes.values().next().map(|node| node.fingerprint.clone()).unwrap_or_default()
    }

    /// The same for every node.
    pub fn fingerprints(&self) -> Vec<String> {
        self.lock().cluster(&self.name).nodes.values().map(|node| node.fingerprint.clone()).collect()
    }

    /// The cluster's CA certificate.
    pub fn ca_pem(&self) -> String {
        self.lock().cluster(&self.name).ca_pem.clone()
    }

    /// SHA-256 of the CA certificate: the cluster's identity.
    pub fn ca_fingerprint(&self) -> String {
        self.lock().cluster(&self.name).ca_fingerprint.clone()
    }

    /// The whole token `user@realm!id=secret`, by its id (`app`, `platform`) or by `user@realm!id`.
    pub fn token(&self, role: &str) -> Option<String> {
        let st = self.lock();
        let tokens = &st.cluster(&self.name).access.tokens;
        tokens
            .iter()
            .find(|(id, _)| *id == role || id.split('!').nth(1) == Some(role))
            .map(|(id, token)| format!("{id}={}", token.secret))
    }

    /// Names of all tokens, without secrets.
    pub fn token_ids(&self) -> Vec<String> {
        self.lock().cluster(&self.name).access.tokens.keys().cloned().collect()
    }

    /// A VM, or `None`.
    pub fn vm(&self, vmid: u32) -> Option<VmSnapshot> {
        let mut st = self.lock();
        st.flush(&self.name, vmid);
        snapshot(&st, &self.name, vmid)
    }

    /// All VMs by id.
    pub fn vms(&self) -> Vec<VmSnapshot> {
        let mut st = self.lock();
        st.flush_all();
        let ids: Vec<u32> = st.cluster(&self.name).vms.keys().copied().collect();
        ids.into_iter().filter_map(|vmid| snapshot(&st, &self.name, vmid)).collect()
    }

    /// All image volumes on its storages.
    pub fn volumes(&self) -> Vec<VolumeSnapshot> {
        let mut st = self.lock();
        st.flush_all();
        let mut out = Vec::new();
        each_store(&st, &self.name, |storage, node, def, key| {
            for (name, volume) in st.stores.get(key).iter().flat_map(|store| &store.volumes) {
                out.push(VolumeSnapshot {
                    volid: format!("{storage}:{name}"),
                    node: (!def.is_shared()).then(|| node.to_owned()),
                    owner: volume.owner,
                    size: volume.logical,
                    sha256: bytes::sha256(&volume.file),
                });
            }
        });
        out
    }

    /// The archives of a storage.
    pub fn archives(&self, storage: &str) -> Vec<ArchiveSnapshot> {
        let st = self.lock();
        let mut out = Vec::new();
        each_store(&st, &self.name, |name, _, _, key| {
            let archives = st.stores.get(key).into_iter().filter(|_| name == storage).flat_map(|s| &s.archives);
            out.extend(archives.map(|(file, archive)| {
                let (uuid, disks) = open_archive(archive);
                ArchiveSnapshot {
                    volid: format!("{name}:{file}"),
                    vmid: archive.vmid,
                    notes: archive.notes.clone(),
                    protected: archive.protected,
                    ctime: archive.ctime,
                    uuid,
                    disks,
                }
            }));
        });
        out
    }

    /// Pools: comment and members.
    pub fn pools(&self) -> BTreeMap<String, (String, BTreeSet<u32>)> {
        let st = self.lock();
        let pools = &st.cluster(&self.name).pools;
        pools.iter().map(|(name, pool)| (name.clone(), (pool.comment.clone(), pool.vms.clone()))).collect()
    }

    /// An option of the datacenter as JSON text; `None` where it is not set.
    pub fn option(&self, name: &str) -> Option<String> {
        self.lock().cluster(&self.name).options.get(name).map(ToString::to_string)
    }

    /// Sets an option of the datacenter by hand.
    pub fn set_option(&self, name: &str, value: &str) {
        self.lock().cluster_mut(&self.name).options.insert(name.to_owned(), value.into());
    }

    /// A pool made by hand; one that exists stays as it is.
    pub fn create_pool(&self, name: &str) {
        let mut st = self.lock();
        st.cluster_mut(&self.name).pools.entry(name.to_owned()).or_default();
    }

    /// A guest made by hand, without a task.
    ///
    /// # Errors
    /// When the id is taken or what the configuration names is not there.
    pub fn create_vm(&self, guest: &GuestSpec) -> Result<()> {
        genesis::add_guest(&mut self.lock(), &self.name, guest)
    }

    /// Takes a guest away by hand, with its disks.
    pub fn remove_vm(&self, vmid: u32) {
        let mut st = self.lock();
        st.power_off(&self.name, vmid);
        let Some(vm) = st.cluster_mut(&self.name).vms.remove(&vmid) else { return };
        for volid in config::volumes(&vm) {
            st.free_volume(&self.name, &vm.node, &volid);
        }
        for pool in st.cluster_mut(&self.name).pools.values_mut() {
            pool.vms.remove(&vmid);
        }
    }

    /// Frees a volume by hand, as `pvesm free` does; whether it was there.
    pub fn free_volume(&self, node: &str, volid: &str) -> bool {
        self.lock().free_volume(&self.name, node, volid)
    }

    /// Sets a key by hand, lock or no lock; `None` removes it. Drives are taken as they stand.
    pub fn set_config(&self, vmid: u32, key: &str, value: Option<&str>) {
        let mut st = self.lock();
        let Some(vm) = st.cluster_mut(&self.name).vms.get_mut(&vmid) else { return };
        match value {
            Some(value) => vm.conf.insert(key.to_owned(), value.to_owned()),
            None => vm.conf.remove(key),
        };
    }

    /// What somebody does who changes a setting in the GUI: what a running guest can't take stays pending.
    ///
    /// # Errors
    /// PVE's text.
    pub fn change(&self, vmid: u32, key: &str, value: &str) -> Result<()> {
        let mut st = self.lock();
        let node = st.cluster(&self.name).vms.get(&vmid).map(|vm| vm.node.clone());
        let Some(node) = node else { return Err(SimulatorError(format!("no VM {vmid}"))) };
        crate::qemu::config::set(&mut st, &self.name, &node, vmid, key, value)
            .map_err(|error| SimulatorError(error.message))
    }

    /// What somebody does who presses Start: PVE's rules hold (template, lock, prelaunch).
    ///
    /// # Errors
    /// PVE's text.
    pub fn start(&self, vmid: u32) -> Result<()> {
        self.by_hand(vmid, "qmstart", |node| crate::qemu::power::start_work(node, vmid))
    }

    /// Puts a hook script, or a text for cloud-init, on a storage, for each node that has it: `snippets/x.pl`.
    pub fn put_snippet(&self, storage: &str, name: &str) {
        self.lock().each_store(&self.name, storage, |store| {
            store.snippets.insert(name.to_owned());
        });
    }

    /// Converts a disk on its storage by hand.
    ///
    /// # Errors
    /// When there is no such disk, or its storage keeps no files.
    pub fn convert(&self, vmid: u32, slot: &str, format: &str) -> Result<()> {
        let mut st = self.lock();
        crate::qemu::disks::convert(&mut st, &self.name, vmid, slot, format)
            .map_err(|error| SimulatorError(error.message))
    }

    /// Pulls the guest's plug.
    pub fn stop(&self, vmid: u32) {
        self.lock().power_off(&self.name, vmid);
    }

    fn by_hand(&self, vmid: u32, kind: &str, work: impl FnOnce(&str) -> Box<dyn crate::tasks::Work>) -> Result<()> {
        let mut st = self.lock();
        let node = st.cluster(&self.name).vms.get(&vmid).map(|vm| vm.node.clone());
        let Some(node) = node else { return Err(SimulatorError(format!("no VM {vmid}"))) };
        let upid = st.spawn(
            &self.name,
            crate::tasks::New { node: &node, kind, id: &vmid.to_string(), user: "root@pam", delay_ms: 0 },
            work(&node),
        );
        let now = st.now();
        st.run_until(now);
        let exit = st.cluster(&self.name).tasks.iter().find(|task| task.upid == upid).and_then(|t| t.exit.clone());
        match exit.as_deref() {
            Some("OK") | None => Ok(()),
            Some(text) => Err(SimulatorError(text.to_owned())),
        }
    }

    /// The guest of a running VM writes a record now; its number, or `None` when it does not run.
    pub fn guest_write(&self, vmid: u32) -> Option<u64> {
        let mut st = self.lock();
        st.event();
        st.flush(&self.name, vmid);
        let vm = snapshot(&st, &self.name, vmid)?;
        vm.running.then(|| vm.disks.iter().map(|disk| disk.newest).max().unwrap_or(0))
    }

    /// Whether the guest ignores ACPI and agent when it is to shut down.
    pub fn set_ignores_shutdown(&self, vmid: u32, ignores: bool) {
        if let Some(vm) = self.lock().cluster_mut(&self.name).vms.get_mut(&vmid) {
            vm.ignores_shutdown = ignores;
        }
    }

    /// How long a copy of a machine takes; one second where nothing is said.
    pub fn set_clone_time(&self, time: std::time::Duration) {
        self.lock().cluster_mut(&self.name).clone_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    }

    /// How long the guest takes to shut down; three seconds where nothing is said.
    pub fn set_shutdown_time(&self, vmid: u32, time: std::time::Duration) {
        if let Some(vm) = self.lock().cluster_mut(&self.name).vms.get_mut(&vmid) {
            vm.shutdown_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        }
    }

    /// Adds a backup of all guests, or of a pool's, to the schedule; it runs after `within`, and each day after.
    pub fn schedule_backup(&self, id: &str, pool: Option<&str>, storage: &str, within: std::time::Duration) {
        let mut st = self.lock();
        let next_run = st.now() + i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        st.cluster_mut(&self.name).jobs.push(crate::jobs::Job {
            id: id.to_owned(),
            enabled: true,
            next_run,
            storage: storage.to_owned(),
            node: None,
            pool: pool.map(str::to_owned),
            vmids: Vec::new(),
        });
    }

    /// Adds a rule to which nodes a guest goes: an HA group where there are groups (PVE 8), else a rule. `vmid`: a guest that
    /// HA manages and that it names.
    pub fn add_ha_rule(&self, name: &str, nodes: &str, vmid: Option<u32>) {
        let mut st = self.lock();
        let c = st.cluster_mut(&self.name);
        let resources: Vec<String> = vmid.iter().map(|vmid| format!("vm:{vmid}")).collect();
        if c.is_9() {
            let kind = "node-affinity".to_owned();
            let rule = crate::ha_rules::HaRule { kind, resources, nodes: Some(nodes.to_owned()), affinity: None };
            c.ha_rules.insert(name.to_owned(), rule);
            return;
        }
        c.ha_groups.insert(name.to_owned(), nodes.to_owned());
        for sid in resources {
            if let Some(resource) = c.ha.get_mut(&sid) {
                resource.group = Some(name.to_owned());
            }
        }
    }

    /// The rules, or the group, that name a guest.
    pub fn ha_rules_of(&self, vmid: u32) -> Vec<String> {
        let st = self.lock();
        let c = st.cluster(&self.name);
        let sid = format!("vm:{vmid}");
        let rules = c.ha_rules.iter().filter(|(_, rule)| rule.resources.contains(&sid)).map(|(name, _)| name.clone());
        rules.chain(c.ha.get(&sid).and_then(|resource| resource.group.clone())).collect()
    }

    /// Edits every pool's comment, as a person would in the GUI.
    pub fn edit_pool_comments(&self, edit: impl Fn(&str) -> String) {
        for pool in self.lock().cluster_mut(&self.name).pools.values_mut() {
            pool.comment = edit(&pool.comment);
        }
    }

    /// What a node's processors can do, as `/proc/cpuinfo` names it.
    pub fn set_cpu_flags(&self, node: &str, flags: &str) {
        if let Some(node) = self.lock().cluster_mut(&self.name).nodes.get_mut(node) {
            node.cpu_flags = flags.to_owned();
        }
    }

    /// Kinds of the tasks that concern a guest, oldest first.
    pub fn tasks_of(&self, vmid: u32) -> Vec<String> {
        let st = self.lock();
        let id = vmid.to_string();
        st.cluster(&self.name).tasks.iter().filter(|task| task.id == id).map(|task| task.kind.clone()).collect()
    }

    /// Log of the newest task of a kind.
    pub fn newest_log(&self, kind: &str) -> Vec<String> {
        let st = self.lock();
        let newest = st.cluster(&self.name).tasks.iter().rfind(|task| task.kind == kind);
        newest.map(|task| task.log.clone()).unwrap_or_default()
    }

    /// Switches a node.
    pub fn power_node(&self, node: &str, power: NodePower) {
        let mut st = self.lock();
        match power {
            NodePower::Off => st.node_down(&self.name, node),
            NodePower::On => st.node_back(&self.name, node),
            NodePower::Reboot => st.node_reboot(&self.name, node),
        }
    }

    /// Takes quorum away or gives it back.
    pub fn set_quorum(&self, quorate: bool) {
        self.lock().cluster_mut(&self.name).quorate = quorate;
    }

    /// Refuses connections, and cuts none that are open; they end with their next answer at the latest after 5 s idle.
    pub async fn set_dark(&self, dark: bool) {
        self.lock().cluster_mut(&self.name).dark = dark;
        for switch in &self.switches {
            let (done, taken) = oneshot::channel();
            if switch.send((dark, done)).is_ok() {
                // A listener that ended is dark for good.
                let _ = taken.await;
            }
        }
    }

    /// No space left on a storage, for all who mount it.
    pub fn fill_storage(&self, storage: &str) {
        self.lock().fill_storage(&self.name, storage);
    }

    /// There is room again on a storage that was filled.
    pub fn make_room(&self, storage: &str) {
        self.lock().each_store(&self.name, storage, |store| store.full = false);
    }

    /// Takes a storage off line, or back.
    pub fn set_storage_online(&self, storage: &str, online: bool) {
        self.lock().each_store(&self.name, storage, |store| store.offline = !online);
    }

    /// Cuts the file of an archive short, as bit rot or a full disk would.
    ///
    /// # Errors
    /// When there is no such archive, or its file cannot be written.
    pub fn corrupt_archive(&self, volid: &str) -> Result<()> {
        let st = self.lock();
        let node = st.cluster(&self.name).nodes.keys().next().cloned().unwrap_or_default();
        let archive = st.archive(&self.name, &node, volid);
        let archive = archive.ok_or_else(|| SimulatorError(format!("no archive '{volid}'")))?;
        let cut = std::fs::read(&archive.file).and_then(|all| std::fs::write(&archive.file, &all[..all.len() / 2]));
        cut.map_err(|error| SimulatorError(error.to_string()))
    }

    /// Adds an HA resource, state as in PVE (`started`, `stopped`, `ignored`).
    pub fn set_ha(&self, vmid: u32, state: Option<&str>) {
        let mut st = self.lock();
        let ha = &mut st.cluster_mut(&self.name).ha;
        let sid = format!("vm:{vmid}");
        match state {
            Some(state) => {
                let resource = crate::ha::HaResource {
                    state: state.to_owned(),
                    comment: None,
                    max_restart: 1,
                    max_relocate: 1,
                    group: None,
                    stop_by: None,
                };
                ha.insert(sid, resource);
            }
            None => {
                ha.remove(&sid);
            }
        }
    }

    /// State of an HA resource; `None` where the guest is not one.
    pub fn ha_state(&self, vmid: u32) -> Option<String> {
        self.lock().cluster(&self.name).ha.get(&format!("vm:{vmid}")).map(|resource| resource.state.clone())
    }

    /// The moment in a migration inside the cluster when its nodes contradict each other (proxmox-ve.md §18): the configuration is on
    /// `to` already, or with `None` on no node that is asked, and lists still name the node that it left. It lasts until
    /// [`ClusterHandle::arrive`].
    pub fn migrate_inside(&self, vmid: u32, to: Option<&str>) {
        let mut st = self.lock();
        let Some(vm) = st.cluster_mut(&self.name).vms.get_mut(&vmid) else { return };
        vm.listed_on = Some(vm.node.clone());
        vm.in_flight = to.is_none();
        if let Some(to) = to {
            to.clone_into(&mut vm.node);
        }
    }

    /// Ends that moment: lists name the node that has the configuration.
    pub fn arrive(&self, vmid: u32) {
        let mut st = self.lock();
        let Some(vm) = st.cluster_mut(&self.name).vms.get_mut(&vmid) else { return };
        vm.listed_on = None;
        vm.in_flight = false;
    }

    /// Carries a stopped VM to another cluster as an operator would by hand: same vmid, UUID and bytes, all disks on
    /// one storage there.
    ///
    /// # Errors
    /// When the id is taken there or there is no room.
    pub fn move_vm_by_hand(&self, vmid: u32, to: &str, node: &str, storage: &str) -> Result<()> {
        let mut st = self.lock();
        st.power_off(&self.name, vmid);
        let text = |error: crate::error::ApiError| SimulatorError(error.message);
        if !st.clusters.contains_key(to) {
            return Err(SimulatorError(format!("no cluster '{to}'")));
        }
        if st.cluster(to).vms.contains_key(&vmid) {
            return Err(SimulatorError(format!("VM {vmid} already exists on '{to}'")));
        }
        let Some(mut vm) = st.cluster_mut(&self.name).vms.remove(&vmid) else {
            return Err(SimulatorError(format!("no VM {vmid}")));
        };
        let old_node = std::mem::replace(&mut vm.node, node.to_owned());
        let slots: Vec<Drive> = drives(&vm.conf).filter(|drive| drive.has_volume()).collect();
        for mut drive in slots {
            let Some(volume) = st.volume(&self.name, &old_node, &drive.volume).cloned() else { continue };
            let place = crate::storage::Place { cluster: to, node, storage };
            let volid = st.copy_volume(&volume, &place, vmid, "raw").map_err(text)?;
            st.free_volume(&self.name, &old_node, &drive.volume);
            drive.volume = volid;
            vm.conf.insert(drive.slot.clone(), drive.print());
        }
        for pool in st.cluster_mut(&self.name).pools.values_mut() {
            pool.vms.remove(&vmid);
        }
        st.cluster_mut(to).vms.insert(vmid, vm);
        Ok(())
    }
}
