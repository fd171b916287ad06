//! Whole-VM copies: clone, template; and a disk that is converted by hand.

use std::collections::BTreeMap;

use serde_json::json;

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::qemu::{Drive, create, drives, is_net, is_unused, options};
use crate::state::{Power, State};
use crate::storage::{Place, named_format, split_volid};
use crate::tasks::{At, Once};

/// `POST …/clone`: always a full clone here, unless the source is no template and `full` is not 1 – which PVE makes full too.
pub(crate) fn clone(call: &mut Call<'_>) -> Answer {
    call.c().need_quorum()?;
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    let newid: u32 = call.param("newid").parse().unwrap_or(0);
    let target = call.get("target").unwrap_or(&node).to_owned();
    let pool = call.get("pool").map(str::to_owned);
    let storage = call.get("storage").map(str::to_owned);
    let vm = call.c().vm(&node, vmid)?;
    vm.check_lock()?;
    let template = vm.flag("template");
    if template && !call.flag("full") && call.get("full").is_some() && storage.is_some() {
        return Err(ApiError::die("parameter 'storage' not allowed for linked clones"));
    }
    let source = vm.conf.clone();
    if call.c().vms.contains_key(&newid) {
        return Err(ApiError::die(format!("unable to create VM {newid}: config file already exists")));
    }
    if let Some(pool) = pool.as_ref().filter(|pool| !call.c().pools.contains_key(*pool)) {
        return Err(ApiError::forbid(&format!("pool '{pool}' does not exist")));
    }
    let is_local = |drive: &Drive| {
        let on = drive.volume.split(':').next().unwrap_or_default();
        drive.has_volume() && call.c().storage(on).is_ok_and(|def| !def.is_shared())
    };
    if target != node && drives(&source).any(|drive| is_local(&drive)) {
        return Err(ApiError::die(format!("can't clone VM to node '{target}' (VM uses local storage)")));
    }
    for drive in drives(&source).filter(|drive| drive.has_volume()) {
        let on = storage.as_deref().or_else(|| drive.volume.split(':').next()).unwrap_or_default().to_owned();
        call.need(&format!("/storage/{on}"), &["Datastore.AllocateSpace"])?;
    }
    for net in source.iter().filter(|(key, _)| is_net(key)).map(|(_, net)| net) {
        options::permit_bridge(call.c(), &call.auth, net)?;
    }
    let name = call.get("name").map(str::to_owned);
    let description = call.get("description").map(str::to_owned);
    create::stub(call.st, &cluster, &target, newid);
    if let Some(vm) = call.cm().vms.get_mut(&newid) {
        vm.conf.insert("lock".to_owned(), "clone".to_owned());
    }
    let from = node.clone();
    let work = Once(Some(move |st: &mut State, at: &At| {
        let copy = Copy { from: &from, target: &target, vmid, newid, storage: storage.as_deref() };
        let conf = copy_config(st, at, &copy, source).inspect_err(|_| {
            for volid in crate::qemu::destroy::volumes_of(st, &at.cluster, &target, newid) {
                st.free_volume(&at.cluster, &target, &volid);
            }
            st.cluster_mut(&at.cluster).vms.remove(&newid);
        })?;
        let c = st.cluster_mut(&at.cluster);
        if let Some(vm) = c.vms.get_mut(&newid) {
            vm.conf = conf;
            vm.conf.insert("name".to_owned(), name.unwrap_or_else(|| format!("Copy-of-VM-{vmid}")));
            if let Some(description) = description {
                vm.conf.insert("description".to_owned(), description);
            }
        }
        if let Some(pool) = pool.and_then(|pool| c.pools.get_mut(&pool)) {
            pool.vms.insert(newid);
        }
        Ok(())
    }));
    let (takes, user) = (call.c().clone_ms, call.user());
    Ok(json!(call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind: "qmclone", id: &vmid.to_string(), user: &user, delay_ms: takes },
        Box::new(work)
    ))
    .into())
}

struct Copy<'a> {
    from: &'a str,
    target: &'a str,
    vmid: u32,
    newid: u32,
    storage: Option<&'a str>,
}

/// A clone copies notes, tags and onboot, and gets an identity of its own (§16).
fn copy_config(
    st: &mut State,
    at: &At,
    copy: &Copy<'_>,
    source: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let cluster = at.cluster.clone();
    st.flush(&cluster, copy.vmid);
    let mut conf = source;
    conf.retain(|key, _| !is_unused(key) && !["lock", "template", "parent", "protection"].contains(&key.as_str()));
    let keys: Vec<String> = drives(&conf).map(|drive| drive.slot).collect();
    for key in keys {
        let mut drive = Drive::parse(&key, &conf[&key]);
        if !drive.has_volume() || (drive.is_cdrom() && !drive.is_cloud_init()) {
            continue;
        }
        let storage =
            copy.storage.or_else(|| split_volid(&drive.volume).map(|(storage, _)| storage)).unwrap_or_default();
        let place = Place { cluster: &cluster, node: copy.target, storage };
        let volid = if drive.is_cloud_init() {
            st.allocate(&place, copy.newid, 4 << 20, "cloudinit")?
        } else {
            let Some(volume) = st.volume(&cluster, copy.from, &drive.volume).cloned() else {
                return Err(ApiError::die(format!("volume '{}' does not exist", drive.volume)));
            };
            st.say(at, format!("create full clone of drive {key} ({})", drive.volume));
            st.copy_volume(&volume, &place, copy.newid, named_format(&drive.volume).unwrap_or("raw"))?
        };
        drive.volume = volid;
        conf.insert(key, drive.print());
    }
    let nets: Vec<String> = conf.keys().filter(|key| is_net(key)).cloned().collect();
    for key in nets {
        let parts: Vec<_> = conf[&key].split(',').map(str::to_owned).collect();
        let model = parts[0].split('=').next().unwrap_or("virtio").to_owned();
        let rest: String = parts[1..].iter().map(|part| format!(",{part}")).collect();
        let fresh = options::normal_net(st, &cluster, &format!("{model}{rest}"));
        conf.insert(key, fresh);
    }
    conf.insert("smbios1".to_owned(), format!("uuid={}", st.fresh_uuid("smbios")));
    conf.insert("vmgenid".to_owned(), st.fresh_uuid("vmgenid"));
    conf.insert("meta".to_owned(), format!("creation-qemu=10.1.2,ctime={}", st.seconds()));
    Ok(conf)
}

/// `POST …/template`: the disks become base images.
pub(crate) fn template(call: &mut Call<'_>) -> Answer {
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    let vm = call.cm().vm_to_write(&node, vmid)?;
    vm.check_lock()?;
    if vm.flag("template") {
        return Err(ApiError::die("you can't convert a template to a template"));
    }
    if vm.power != Power::Stopped {
        return Err(ApiError::die("you can't convert a VM to template if VM is running"));
    }
    let on = node.clone();
    let work = Once(Some(move |st: &mut State, at: &At| {
        let vm = st.cluster_mut(&at.cluster).vm_to_write(&on, vmid)?;
        vm.conf.insert("template".to_owned(), "1".to_owned());
        let disks: Vec<Drive> = drives(&vm.conf).filter(|d| d.has_volume() && !d.is_cdrom()).collect();
        for mut drive in disks {
            let Some((key, name)) = st.locate(&at.cluster, &on, &drive.volume).map(|(k, n)| (k, n.to_owned())) else {
                continue;
            };
            let base = name.replace("vm-", "base-");
            if let Some(store) = st.stores.get_mut(&key)
                && let Some(mut volume) = store.volumes.remove(&name)
            {
                volume.base = true;
                store.volumes.insert(base.clone(), volume);
            }
            let storage = drive.volume.split(':').next().unwrap_or_default();
            drive.volume = format!("{storage}:{base}");
            let slot = drive.slot.clone();
            st.cluster_mut(&at.cluster).vm_mut(&on, vmid)?.conf.insert(slot, drive.print());
        }
        Ok(())
    }));
    let user = call.user();
    Ok(json!(call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind: "qmtemplate", id: &vmid.to_string(), user: &user, delay_ms: 200 },
        Box::new(work)
    ))
    .into())
}

/// Converts a disk on its storage, as root does.
pub(crate) fn convert(st: &mut State, cluster: &str, vmid: u32, slot: &str, format: &str) -> Result<(), ApiError> {
    let vm = st.cluster(cluster).vms.get(&vmid).ok_or_else(|| ApiError::die(format!("no VM {vmid}")))?;
    let (node, line) = (vm.node.clone(), vm.conf.get(slot).cloned().unwrap_or_default());
    st.flush(cluster, vmid);
    let mut drive = Drive::parse(slot, &line);
    let old = drive.volume.clone();
    let storage = old.split(':').next().unwrap_or_default();
    let Some(volume) = st.volume(cluster, &node, &old).cloned() else {
        return Err(ApiError::die(format!("volume '{old}' does not exist")));
    };
    drive.volume = st.copy_volume(&volume, &Place { cluster, node: &node, storage }, vmid, format)?;
    st.cluster_mut(cluster).vm_mut(&node, vmid)?.conf.insert(slot.to_owned(), drive.print());
    st.free_volume(cluster, &node, &old);
    Ok(())
}
