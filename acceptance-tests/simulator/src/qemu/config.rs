//! Changing a configuration: PUT and POST config, pending changes, resize (proxmox-ve.md §4).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::qemu::{Drive, is_drive, is_net, is_unused, options};
use crate::state::{Pending, Power, State, Vm};
use crate::tasks::{At, Once};
use crate::util::{format_size, split_list};

/// Parameters of the call that are not configuration.
pub(crate) const CONTROL: [&str; 22] = [
    "node",
    "vmid",
    "digest",
    "delete",
    "revert",
    "force",
    "skiplock",
    "background_delay",
    "import-working-storage",
    "archive",
    "storage",
    "unique",
    "pool",
    "start",
    "bwlimit",
    "live-restore",
    "ha-managed",
    "newid",
    "target",
    "full",
    "snapname",
    "format",
];

struct Change {
    set: BTreeMap<String, String>,
    delete: Vec<String>,
    revert: Vec<String>,
    force: bool,
}

fn read_change(call: &Call<'_>) -> Result<Change, ApiError> {
    if call.get("skiplock").is_some() && !call.auth.is_root() {
        return Err(ApiError::param("skiplock", "Only root may use this option."));
    }
    let set: BTreeMap<String, String> = call
        .params
        .iter()
        .filter(|(key, _)| !CONTROL.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let list = |key: &str| split_list(call.get(key).unwrap_or_default()).map(str::to_owned).collect::<Vec<_>>();
    let change = Change { set, delete: list("delete"), revert: list("revert"), force: call.flag("force") };
    if change.set.is_empty() && change.delete.is_empty() && change.revert.is_empty() {
        return Err(ApiError::die("no options specified"));
    }
    if let Some(key) = change.delete.iter().find(|key| change.set.contains_key(*key)) {
        return Err(ApiError::param("delete", format!("you can't use '-{key}' and -delete {key}' at the same time")));
    }
    Ok(change)
}

fn permit(call: &Call<'_>, change: &Change) -> Result<(), ApiError> {
    let vmid = call.vmid();
    let on = format!("/vms/{vmid}");
    let conf = call.c().vms.get(&vmid).map(|vm| &vm.conf);
    for (key, value) in &change.set {
        let old = conf.and_then(|conf| conf.get(key)).map(String::as_str);
        options::permit(call.c(), &call.auth, &on, key, Some(value), old)?;
        if is_drive(key) && !call.auth.is_root() {
            options::permit_volume(call, vmid, key, value)?;
        }
    }
    for key in change.delete.iter().chain(&change.revert) {
        let old = conf.and_then(|conf| conf.get(key)).map(String::as_str);
        options::permit(call.c(), &call.auth, &on, key, None, old)?;
    }
    Ok(())
}

fn check(call: &mut Call<'_>, change: &Change) -> Result<(), ApiError> {
    let (node, vmid) = (call.node(), call.vmid());
    let digest = call.get("digest").map(str::to_owned);
    let skiplock = call.flag("skiplock");
    let vm = call.cm().vm_to_write(&node, vmid)?;
    if digest.is_some_and(|sent| sent != vm.digest()) {
        return Err(ApiError::die("checksum mismatch (file change by other user?)"));
    }
    let unlocks = change.delete.iter().any(|key| key == "lock");
    if !skiplock && !unlocks {
        vm.check_lock()?;
    }
    let is_there = |device: &str| {
        let known = change.set.contains_key(device) || vm.conf.contains_key(device) || vm.pending.contains_key(device);
        known && !change.delete.iter().any(|key| key == device)
    };
    options::check_boot(change.set.get("boot").map(String::as_str), is_there)?;
    let value = |key: &str| change.set.get(key).or_else(|| vm.conf.get(key)).map(String::as_str);
    options::check_memory(value("memory"), value("balloon"))
}

/// `PUT …/config`: done when it answers.
pub(crate) fn put(call: &mut Call<'_>) -> Answer {
    let change = read_change(call)?;
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    call.c().vm(&node, vmid)?;
    permit(call, &change)?;
    check(call, &change)?;
    apply(call.st, &cluster, &node, vmid, change)?;
    Ok(Value::Null.into())
}

/// `POST …/config`: a task.
pub(crate) fn post(call: &mut Call<'_>) -> Answer {
    let change = read_change(call)?;
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    call.c().vm(&node, vmid)?;
    permit(call, &change)?;
    check(call, &change)?;
    let on = node.clone();
    let work = Once(Some(move |st: &mut State, at: &At| {
        st.cluster_mut(&at.cluster).vm_to_write(&on, vmid)?.check_lock()?;
        let cluster = at.cluster.clone();
        apply(st, &cluster, &on, vmid, change)
    }));
    let user = call.user();
    let upid = call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind: "qmconfig", id: &vmid.to_string(), user: &user, delay_ms: 100 },
        Box::new(work),
    );
    Ok(json!(upid).into())
}

/// Sets one key, as root does.
pub(crate) fn set(
    st: &mut State,
    cluster: &str,
    node: &str,
    vmid: u32,
    key: &str,
    value: &str,
) -> Result<(), ApiError> {
    let set = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    apply(st, cluster, node, vmid, Change { set, delete: Vec::new(), revert: Vec::new(), force: false })
}

/// Changes that reach a running guest at once.
fn is_live(vm: &Vm, key: &str, value: Option<&str>) -> bool {
    let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let fast = ["name", "description", "onboot", "protection", "tags", "startup", "shares", "lock", "vmstatestorage"];
    let cdrom = |text: &str| Drive::parse(key, text).is_cdrom();
    fast.contains(&key)
        || is_net(key)
        || is_unused(key)
        || matches!(stem, "scsi" | "virtio" | "usb")
        || (is_drive(key) && value.or(vm.conf.get(key).map(String::as_str)).is_some_and(cdrom))
}

fn apply(st: &mut State, cluster: &str, node: &str, vmid: u32, change: Change) -> Result<(), ApiError> {
    st.flush(cluster, vmid);
    for key in &change.revert {
        st.cluster_mut(cluster).vm_mut(node, vmid)?.pending.remove(key);
    }
    for key in &change.delete {
        delete_key(st, cluster, node, vmid, key, change.force)?;
    }
    for (key, value) in &change.set {
        let vm = st.cluster(cluster).vm(node, vmid)?;
        let live = vm.power == Power::Stopped || is_live(vm, key, Some(value));
        let stored = options::normal(st, cluster, node, vmid, key, value)?;
        let vm = st.cluster_mut(cluster).vm_mut(node, vmid)?;
        if !live {
            if vm.conf.get(key) == Some(&stored) {
                vm.pending.remove(key);
            } else {
                attached(vm, key, &stored);
                vm.pending.insert(key.clone(), Pending::Set(stored));
            }
            continue;
        }
        vm.pending.remove(key);
        store(vm, key, stored);
    }
    if st.cluster(cluster).vm(node, vmid)?.power == Power::Stopped {
        // Of a stopped guest any change takes all that waited (§18.4, §18.26).
        apply_pending(st, cluster, node, vmid)?;
    }
    Ok(())
}

/// An unused volume that is attached again is unused no more, from the moment on when that is asked for.
fn attached(vm: &mut Vm, key: &str, value: &str) {
    if is_drive(key) {
        let volume = Drive::parse(key, value).volume;
        vm.conf.retain(|other, value| !(is_unused(other) && *value == volume));
    }
}

/// Stores a value; a disk that makes room becomes unused.
pub(crate) fn store(vm: &mut Vm, key: &str, stored: String) {
    if is_drive(key)
        && let Some(old) = vm.conf.get(key).map(|old| Drive::parse(key, old))
        && old.has_volume()
        && !old.is_cdrom()
        && old.volume != Drive::parse(key, &stored).volume
    {
        add_unused(vm, &old.volume);
    }
    attached(vm, key, &stored);
    if stored.is_empty() {
        vm.conf.remove(key);
    } else {
        vm.conf.insert(key.to_owned(), stored);
    }
}

/// The first free `unusedN`.
pub(crate) fn add_unused(vm: &mut Vm, volid: &str) -> Option<String> {
    if vm.conf.iter().any(|(key, value)| is_unused(key) && value == volid) {
        return None;
    }
    let key = (0..256).map(|n| format!("unused{n}")).find(|key| !vm.conf.contains_key(key))?;
    vm.conf.insert(key.clone(), volid.to_owned());
    Some(key)
}

fn delete_key(st: &mut State, cluster: &str, node: &str, vmid: u32, key: &str, force: bool) -> Result<(), ApiError> {
    let vm = st.cluster_mut(cluster).vm_mut(node, vmid)?;
    vm.pending.remove(key);
    let Some(old) = vm.conf.get(key).cloned() else { return Ok(()) };
    if is_unused(key) {
        vm.conf.remove(key);
        if !is_referenced(vm, &old) {
            st.free_volume(cluster, node, &old);
        }
        return Ok(());
    }
    let boots = vm.conf.get("boot").is_some_and(|boot| boot.split(['=', ';', ',']).any(|one| one == key));
    if vm.power != Power::Stopped && is_drive(key) && boots && !Drive::parse(key, &old).is_cdrom() {
        return Err(ApiError::param(key, format!("hotplug problem - can't unplug bootdisk '{key}'")));
    }
    if boots {
        boot_without(vm, key);
    }
    if vm.power != Power::Stopped && !is_live(vm, key, None) {
        vm.pending.insert(key.to_owned(), Pending::Delete { force });
        return Ok(());
    }
    vm.conf.remove(key);
    drop_drive(st, cluster, node, vmid, key, &old, force)
}

/// What is deleted leaves the boot order, and does not come back into it when it is set again (qemu-server's `update_vm_api`).
fn boot_without(vm: &mut Vm, key: &str) {
    let Some(order) = vm.conf.get("boot").and_then(|boot| boot.strip_prefix("order=")) else { return };
    let left: Vec<&str> = order.split(';').filter(|one| *one != key).collect();
    // Of an order without devices one blank is left.
    let boot = if left.is_empty() { " ".to_owned() } else { format!("order={}", left.join(";")) };
    if vm.power == Power::Stopped {
        vm.conf.insert("boot".to_owned(), boot);
    } else {
        vm.pending.insert("boot".to_owned(), Pending::Set(boot));
    }
}

/// Removes one key, as root does.
pub(crate) fn unset(st: &mut State, cluster: &str, node: &str, vmid: u32, key: &str) -> Result<(), ApiError> {
    let change = Change { set: BTreeMap::new(), delete: vec![key.to_owned()], revert: Vec::new(), force: false };
    apply(st, cluster, node, vmid, change)
}

/// A removed drive line: the volume stays as unused, unless forced or made by PVE itself.
fn drop_drive(
    st: &mut State,
    cluster: &str,
    node: &str,
    vmid: u32,
    key: &str,
    old: &str,
    force: bool,
) -> Result<(), ApiError> {
    let drive = Drive::parse(key, old);
    if !is_drive(key) || !drive.has_volume() {
        return Ok(());
    }
    if drive.is_cloud_init() || (force && !drive.is_cdrom()) {
        st.free_volume(cluster, node, &drive.volume);
    } else if !drive.is_cdrom() {
        add_unused(st.cluster_mut(cluster).vm_mut(node, vmid)?, &drive.volume);
    }
    Ok(())
}

fn is_referenced(vm: &Vm, volid: &str) -> bool {
    vm.conf.iter().any(|(key, value)| (is_drive(key) || is_unused(key)) && Drive::parse(key, value).volume == volid)
}

/// A full stop and start applies what waited.
pub(crate) fn apply_pending(st: &mut State, cluster: &str, node: &str, vmid: u32) -> Result<(), ApiError> {
    let pending = std::mem::take(&mut st.cluster_mut(cluster).vm_mut(node, vmid)?.pending);
    for (key, change) in pending {
        let vm = st.cluster_mut(cluster).vm_mut(node, vmid)?;
        match change {
            Pending::Set(value) => store(vm, &key, value),
            Pending::Delete { force } => {
                if let Some(old) = vm.conf.remove(&key) {
                    drop_drive(st, cluster, node, vmid, &key, &old, force)?;
                }
            }
        }
    }
    Ok(())
}

/// Every volume a configuration names, disks and unused ones.
pub(crate) fn volumes(vm: &Vm) -> BTreeSet<String> {
    let named = vm.conf.iter().filter(|(key, _)| is_drive(key) || is_unused(key));
    named
        .map(|(key, value)| Drive::parse(key, value))
        .filter(|drive| drive.has_volume() && (!drive.is_cdrom() || drive.is_cloud_init()))
        .map(|drive| drive.volume)
        .collect()
}

/// `PUT …/resize`
pub(crate) fn resize(call: &mut Call<'_>) -> Answer {
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    let (disk, size) = (call.param("disk").to_owned(), call.param("size").to_owned());
    let digest = call.get("digest").map(str::to_owned);
    let vm = call.cm().vm_to_write(&node, vmid)?;
    if digest.is_some_and(|sent| sent != vm.digest()) {
        return Err(ApiError::die("checksum mismatch (file change by other user?)"));
    }
    vm.check_lock()?;
    let Some(line) = vm.conf.get(&disk) else {
        return Err(ApiError::die(format!("disk '{disk}' does not exist")));
    };
    let drive = Drive::parse(&disk, line);
    let Some(volume) = call.st.volume(&cluster, &node, &drive.volume) else {
        return Err(ApiError::die(format!("volume '{}' does not exist", drive.volume)));
    };
    let (storage, now) = (drive.volume.split(':').next().unwrap_or_default().to_owned(), volume.logical);
    call.need(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    let Some(wanted) = options::resized(now, &size) else {
        return Err(ApiError::param("size", "value does not match the regex pattern"));
    };
    let on = node.clone();
    let work = Once(Some(move |st: &mut State, at: &At| {
        if wanted < now {
            return Err(ApiError::die("shrinking disks is not supported"));
        }
        let (key, name) = st
            .locate(&at.cluster, &on, &drive.volume)
            .map(|(key, name)| (key, name.to_owned()))
            .ok_or_else(|| ApiError::die(format!("volume '{}' does not exist", drive.volume)))?;
        if let Some(store) = st.stores.get_mut(&key) {
            if store.free() < wanted - now {
                return Err(ApiError::die("unable to resize image: No space left on device"));
            }
            if let Some(volume) = store.volumes.get_mut(&name) {
                volume.logical = wanted;
            }
        }
        let vm = st.cluster_mut(&at.cluster).vm_mut(&on, vmid)?;
        let mut drive = drive;
        drive.options.insert("size".to_owned(), format_size(wanted));
        vm.conf.insert(disk, drive.print());
        Ok(())
    }));
    let user = call.user();
    let upid = call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind: "resize", id: &vmid.to_string(), user: &user, delay_ms: 100 },
        Box::new(work),
    );
    Ok(json!(upid).into())
}
