//! The target's end of a migration: the task `qmtunnel`, and what it is told to do (proxmox-ve.md §9).

use std::collections::{BTreeMap, BTreeSet};

use super::endpoint::{Remote, from_afar};
use crate::acl::Auth;
use crate::error::ApiError;
use crate::firewall::GuestFirewall;
use crate::qemu::{create, machines, options, power};
use crate::state::{Power, State, Vm};
use crate::storage::Place;
use crate::tasks::{At, New, Outcome, Step, Work};

/// An open tunnel, as the source holds it.
pub(super) struct Tunnel {
    at: At,
    pub(super) node: String,
    vmid: u32,
    auth: Auth,
    /// The lock that the target guest must have: `create`, later `migrate`.
    lock: &'static str,
    /// To be freed when the migration is called off.
    volumes: Vec<String>,
    /// The source's cluster, at the other end of the line.
    from: String,
}

/// What is to be opened.
pub(super) struct Wanted<'a> {
    pub(super) vmid: u32,
    pub(super) storages: &'a BTreeSet<String>,
    pub(super) bridges: &'a BTreeSet<String>,
    /// The task `qmigrate`.
    pub(super) peer: &'a At,
}

/// The task: it waits for commands, and ends when nobody sends any more.
struct Listen {
    peer: At,
    node: String,
    vmid: u32,
}

impl Work for Listen {
    fn step(&mut self, st: &mut State, at: &At) -> Step {
        let due = st.task(&self.peer).filter(|task| task.is_running()).map(|task| task.due);
        match due.filter(|_| !st.is_cut(&self.peer.cluster, &at.cluster)) {
            Some(due) => Step::wait_ms(u64::try_from(due - st.now()).unwrap_or(0) + 1),
            None => {
                abandon(st, &at.cluster, &self.node, self.vmid);
                Step::error("mtunnel exited unexpectedly")
            }
        }
    }

    fn cleanup(&mut self, st: &mut State, at: &At, reason: &str) -> String {
        abandon(st, &at.cluster, &self.node, self.vmid);
        reason.to_owned()
    }
}

/// The stream of a live migration ended too early: QEMU gives up. One that has all of it stays paused.
fn abandon(st: &mut State, cluster: &str, node: &str, vmid: u32) {
    if st.cluster(cluster).vm(node, vmid).is_ok_and(|vm| vm.power == Power::Inmigrate) {
        st.power_off(cluster, vmid);
    }
}

/// What the first call of a tunnel asks for, in PVE's order: rights, storages, bridges, quorum, the vmid.
fn check(st: &State, remote: &Remote, auth: &Auth, wanted: &Wanted<'_>) -> Result<(), ApiError> {
    let (c, vmid) = (st.cluster(&remote.cluster), wanted.vmid);
    c.need(auth, &format!("/vms/{vmid}"), &["VM.Allocate"])?;
    c.need(auth, "/", &["Sys.Incoming"])?;
    for storage in wanted.storages {
        permit_storage(st, &remote.cluster, &remote.node, auth, storage)?;
    }
    let known = c.nodes.get(&remote.node).map(|facts| facts.bridges.as_slice()).unwrap_or_default();
    if let Some(missing) = wanted.bridges.iter().find(|name| !known.iter().any(|bridge| bridge.name == **name)) {
        return Err(ApiError::die(format!("bridge '{missing}' does not exist")));
    }
    c.need_quorum()?;
    match c.vms.get(&vmid) {
        Some(vm) => Err(ApiError::param(
            "vmid",
            format!("unable to create empty VM config - VM {vmid} already exists on node '{}'", vm.node),
        )),
        None => Ok(()),
    }
}

fn permit_storage(st: &State, cluster: &str, node: &str, auth: &Auth, storage: &str) -> Result<(), ApiError> {
    let c = st.cluster(cluster);
    let def = c.usable(storage, node, None)?;
    c.need(auth, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    if def.content.contains("images") {
        return Ok(());
    }
    Err(ApiError::die(format!("storage '{storage}' does not support vm images")))
}

impl Tunnel {
    /// Opens it: the stub is there from now on.
    pub(super) fn open(
        st: &mut State,
        remote: Remote,
        auth: Auth,
        wanted: &Wanted<'_>,
    ) -> Result<(Tunnel, String), ApiError> {
        check(st, &remote, &auth, wanted).map_err(from_afar)?;
        let (Remote { cluster, node }, vmid) = (remote, wanted.vmid);
        create::stub(st, &cluster, &node, vmid);
        let work = Listen { peer: wanted.peer.clone(), node: node.clone(), vmid };
        let upid = st.spawn(
            &cluster,
            New { node: &node, kind: "qmtunnel", id: &vmid.to_string(), user: &auth.id(), delay_ms: 100 },
            Box::new(work),
        );
        let at = At { index: st.cluster(&cluster).tasks.len() - 1, cluster };
        st.say(&at, "mtunnel started");
        let from = wanted.peer.cluster.clone();
        let mut tunnel = Tunnel { at, node, vmid, auth, lock: "create", volumes: Vec::new(), from };
        tunnel.command(st, "version", |_, _| Ok(()))?;
        Ok((tunnel, upid))
    }

    pub(super) fn cluster(&self) -> &str {
        &self.at.cluster
    }

    fn is_broken(&self, st: &State) -> bool {
        st.is_cut(&self.from, &self.at.cluster) || st.task(&self.at).is_none_or(|task| !task.is_running())
    }

    /// Whether bytes still get through.
    pub(super) fn check(&self, st: &State) -> Result<(), ApiError> {
        if self.is_broken(st) {
            return Err(ApiError::die("writing to tunnel failed: broken pipe"));
        }
        Ok(())
    }

    /// One command: sent, checked against the lock it needs, done, answered.
    fn command<T>(
        &mut self,
        st: &mut State,
        name: &str,
        act: impl FnOnce(&mut Tunnel, &mut State) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.check(st)?;
        st.say(&self.at, format!("received command '{name}'"));
        let locked = st.cluster(&self.at.cluster).vm(&self.node, self.vmid).map(Vm::lock);
        let answer = match locked {
            Err(error) => Err(error),
            Ok(lock) if lock != Some(self.lock) => {
                Err(ApiError::die("Encountered wrong lock - aborting mtunnel command handling."))
            }
            Ok(_) => act(self, st),
        };
        answer.map_err(|error| {
            let why = format!("failed to handle '{name}' command - {}", error.in_task());
            ApiError::die(format!("error - tunnel command '{{\"cmd\":\"{name}\"}}' failed - {why}"))
        })
    }

    /// A new volume; `name` is `disk-import` for one that is copied, `disk` for one that is mirrored.
    pub(super) fn allocate(
        &mut self,
        st: &mut State,
        name: &str,
        storage: &str,
        size: u64,
        stem: &str,
        format: &str,
    ) -> Result<String, ApiError> {
        self.command(st, name, |tunnel, st| {
            let (cluster, node) = (tunnel.at.cluster.clone(), tunnel.node.clone());
            permit_storage(st, &cluster, &node, &tunnel.auth, storage)?;
            // A format that the storage doesn't have becomes its own.
            let files = st.cluster(&cluster).storage(storage)?.is_file_based();
            let place = Place { cluster: &cluster, node: &node, storage };
            let volid = st.allocate_as(&place, tunnel.vmid, size, stem, if files { format } else { "raw" })?;
            tunnel.volumes.push(volid.clone());
            Ok(volid)
        })
    }

    /// Puts the bytes of a source's volume on one of the target's.
    pub(super) fn write(&self, st: &mut State, volid: &str, content: u64, bytes: &[u8]) -> Result<(), ApiError> {
        self.check(st)?;
        self.check_room(st, volid)?;
        let gone = || ApiError::die(format!("volume '{volid}' does not exist"));
        let (key, name) = st.locate(&self.at.cluster, &self.node, volid).ok_or_else(gone)?;
        let volume = st.stores.get_mut(&key).and_then(|store| store.volumes.get_mut(name)).ok_or_else(gone)?;
        volume.content = content;
        std::fs::write(&volume.file, bytes).map_err(|error| ApiError::die(error.to_string()))
    }

    /// Whether a volume's storage takes more bytes.
    pub(super) fn check_room(&self, st: &State, volid: &str) -> Result<(), ApiError> {
        let store = st.locate(&self.at.cluster, &self.node, volid).and_then(|(key, _)| st.stores.get(&key));
        match store {
            Some(store) if store.full => Err(ApiError::die("No space left on device")),
            Some(store) if store.offline => Err(ApiError::die("Input/output error")),
            _ => Ok(()),
        }
    }

    /// The whole configuration, with the rights that each key of it takes.
    pub(super) fn configure(
        &mut self,
        st: &mut State,
        conf: BTreeMap<String, String>,
        guest: &Carried,
    ) -> Result<(), ApiError> {
        self.command(st, "config", |tunnel, st| {
            let c = st.cluster_mut(&tunnel.at.cluster);
            let on = format!("/vms/{}", tunnel.vmid);
            // Handed on beside the others, and nobody's right is asked for.
            for (key, value) in conf.iter().filter(|(key, _)| !["vmgenid", "meta"].contains(&key.as_str())) {
                options::permit(c, &tunnel.auth, &on, key, Some(value), None)?;
            }
            let vm = c.vm_to_write(&tunnel.node, tunnel.vmid)?;
            vm.conf = conf;
            vm.conf.insert("lock".to_owned(), "migrate".to_owned());
            vm.firewall = guest.firewall.clone();
            (vm.ignores_shutdown, vm.shutdown_ms) = (guest.ignores_shutdown, guest.shutdown_ms);
            tunnel.lock = "migrate";
            Ok(())
        })
    }

    /// QEMU is started and waits for the guest; `machine` is what the source's runs as.
    pub(super) fn start(&mut self, st: &mut State, machine: &str) -> Result<(), ApiError> {
        self.command(st, "start", |tunnel, st| {
            let (cluster, now) = (tunnel.at.cluster.clone(), st.now());
            power::check_host(st, &cluster, &tunnel.node, tunnel.vmid)?;
            machines::check(st.cluster(&cluster), &tunnel.node, Some(machine))?;
            let vm = st.cluster_mut(&cluster).vm_mut(&tunnel.node, tunnel.vmid)?;
            (vm.power, vm.started_at, vm.pid) = (Power::Inmigrate, now, 20_000 + tunnel.vmid);
            Ok(())
        })
    }

    /// QEMU has all of the guest, paused.
    pub(super) fn arrive(&self, st: &mut State, written: u64) -> Result<(), ApiError> {
        self.check(st)?;
        let vm = st.cluster_mut(&self.at.cluster).vm_mut(&self.node, self.vmid)?;
        if vm.power != Power::Inmigrate {
            return Err(ApiError::die("migration status error: failed"));
        }
        (vm.power, vm.written) = (Power::Paused, written);
        Ok(())
    }

    /// The guest goes on where it was.
    pub(super) fn resume(&mut self, st: &mut State) -> Result<(), ApiError> {
        self.command(st, "resume", |tunnel, st| {
            let vm = st.cluster_mut(&tunnel.at.cluster).vm_mut(&tunnel.node, tunnel.vmid)?;
            if vm.power != Power::Paused {
                return Err(ApiError::die(format!("VM {} not running", tunnel.vmid)));
            }
            vm.power = Power::Running;
            Ok(())
        })
    }

    /// The stream has ended before all of the guest was there.
    pub(super) fn abandon(&self, st: &mut State) {
        abandon(st, &self.at.cluster, &self.node, self.vmid);
    }

    pub(super) fn stop(&mut self, st: &mut State) -> Result<(), ApiError> {
        self.command(st, "stop", |tunnel, st| {
            let cluster = tunnel.at.cluster.clone();
            st.power_off(&cluster, tunnel.vmid);
            Ok(())
        })
    }

    pub(super) fn unlock(&mut self, st: &mut State) -> Result<(), ApiError> {
        self.command(st, "unlock", |tunnel, st| {
            st.cluster_mut(&tunnel.at.cluster).vm_to_write(&tunnel.node, tunnel.vmid)?.conf.remove("lock");
            Ok(())
        })
    }

    /// Ends the task; with `cleanup` the guest and its disks go.
    pub(super) fn quit(&mut self, st: &mut State, cleanup: bool) -> Result<(), ApiError> {
        self.check(st)?;
        let at = self.at.clone();
        st.say(&at, "received command 'quit'");
        if cleanup {
            for volid in std::mem::take(&mut self.volumes) {
                st.say(&at, format!("freeing volume '{volid}' as part of cleanup"));
                st.free_volume(&at.cluster, &self.node, &volid);
            }
            let c = st.cluster_mut(&at.cluster);
            match c.vm_to_write(&self.node, self.vmid).map(|_| ()) {
                Ok(()) => {
                    c.vms.remove(&self.vmid);
                }
                Err(error) => st.say(&at, error.message),
            }
        }
        st.say(&at, "switching to exit-mode, waiting for client to disconnect");
        st.say(&at, "mtunnel exited");
        st.end_task(&at, Outcome::Ok);
        Ok(())
    }
}

/// What goes with a guest besides its configuration and disks.
pub(super) struct Carried {
    firewall: GuestFirewall,
    ignores_shutdown: bool,
    shutdown_ms: u64,
}

impl Carried {
    pub(super) fn of(vm: &Vm) -> Carried {
        Carried { firewall: vm.firewall.clone(), ignores_shutdown: vm.ignores_shutdown, shutdown_ms: vm.shutdown_ms }
    }
}
