//! POST qemu: creating a VM; a restore starts here too (proxmox-ve.md §5.1).

use std::collections::BTreeMap;

use serde_json::json;

use crate::acl::Auth;
use crate::backup::restore;
use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::qemu::config::CONTROL;
use crate::qemu::{is_drive, options};
use crate::state::{Cluster, State, Vm};
use crate::tasks::{At, Step, Work};

/// `POST /nodes/{node}/qemu`
pub(crate) fn post(call: &mut Call<'_>) -> Answer {
    call.c().need_quorum()?;
    let (node, vmid) = (call.node(), call.vmid());
    let pool = call.get("pool").map(str::to_owned);
    if let Some(pool) = pool.as_ref().filter(|pool| !call.c().pools.contains_key(*pool)) {
        return Err(ApiError::forbid(&format!("pool '{pool}' does not exist")));
    }
    if let Some(storage) = call.get("storage") {
        call.need(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    }
    let of_pool = pool.as_ref().is_some_and(|pool| call.may(&format!("/pool/{pool}"), &["VM.Allocate"]));
    let of_vm = call.may(&format!("/vms/{vmid}"), &["VM.Allocate"]);
    let archive = call.get("archive").map(str::to_owned);
    let overwrite = archive.is_some()
        && call.flag("force")
        && call.c().vms.contains_key(&vmid)
        && call.may(&format!("/vms/{vmid}"), &["VM.Backup"]);
    if !of_pool && !of_vm && !overwrite {
        return Err(ApiError::forbid(""));
    }
    // Rights on a VM that is not there yet come through the pool it will be in.
    let on = if of_vm { format!("/vms/{vmid}") } else { format!("/pool/{}", pool.clone().unwrap_or_default()) };
    let given: BTreeMap<String, String> = call
        .params
        .iter()
        .filter(|(key, _)| !CONTROL.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some(archive) = archive {
        return restore::post(call, archive, given, &on);
    }
    for (key, value) in &given {
        options::permit(call.c(), &call.auth, &on, key, Some(value), None)?;
        if is_drive(key) && !call.auth.is_root() {
            options::permit_volume(call, vmid, key, value)?;
        }
    }
    options::check_memory(given.get("memory").map(String::as_str), given.get("balloon").map(String::as_str))?;
    refuse_taken(call, "create", vmid)?;
    stub(call.st, &call.cluster.clone(), &node, vmid);
    let work = Create { auth: call.auth.clone(), node: node.clone(), vmid, given, pool, start: call.flag("start") };
    let (cluster, user) = (call.cluster.clone(), call.user());
    Ok(json!(call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind: "qmcreate", id: &vmid.to_string(), user: &user, delay_ms: 200 },
        Box::new(work)
    ))
    .into())
}

/// The check is cluster-wide.
pub(crate) fn refuse_taken(call: &Call<'_>, verb: &str, vmid: u32) -> Result<(), ApiError> {
    match call.c().vms.get(&vmid) {
        Some(vm) => {
            Err(ApiError::die(format!("unable to {verb} VM {vmid} - VM {vmid} already exists on node '{}'", vm.node)))
        }
        None => Ok(()),
    }
}

/// The locked stub is there before the UPID is.
pub(crate) fn stub(st: &mut State, cluster: &str, node: &str, vmid: u32) {
    let mut vm = Vm::new(vmid, node);
    vm.conf.insert("lock".to_owned(), "create".to_owned());
    vm.made_at = st.now();
    st.cluster_mut(cluster).vms.insert(vmid, vm);
}

struct Create {
    auth: Auth,
    node: String,
    vmid: u32,
    given: BTreeMap<String, String>,
    pool: Option<String>,
    start: bool,
}

impl Create {
    /// Tags are asked for on the VM itself, which is in no pool yet (proxmox-ve.md §18.2; before 9.2 its pool's rights count).
    fn permit_tags(&self, c: &Cluster) -> Result<(), ApiError> {
        if !c.is_9_2() || self.auth.is_root() || !self.given.contains_key("tags") {
            return Ok(());
        }
        c.need(&self.auth, &format!("/vms/{}", self.vmid), &["VM.Config.Options"])
    }

    fn fail(&self, st: &mut State, cluster: &str, made: &[String], error: &ApiError) -> Step {
        for volid in made {
            st.free_volume(cluster, &self.node, volid);
        }
        st.cluster_mut(cluster).vms.remove(&self.vmid);
        Step::error(format!("unable to create VM {} - {}", self.vmid, error.in_task()))
    }
}

/// Fills a new configuration: volumes are made, identity and boot order completed.
pub(crate) fn fill(
    st: &mut State,
    cluster: &str,
    node: &str,
    vmid: u32,
    given: &BTreeMap<String, String>,
    made: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut conf = BTreeMap::new();
    for (key, value) in given {
        let stored = options::normal(st, cluster, node, vmid, key, value)?;
        if is_drive(key) {
            let (old, new) = (crate::qemu::Drive::parse(key, value), crate::qemu::Drive::parse(key, &stored));
            if new.has_volume() && new.volume != old.volume {
                made.push(new.volume);
            }
        }
        conf.insert(key.clone(), stored);
    }
    if !conf.contains_key("smbios1") {
        let uuid = st.fresh_uuid("smbios");
        conf.insert("smbios1".to_owned(), format!("uuid={uuid}"));
    }
    if !conf.contains_key("vmgenid") {
        let uuid = st.fresh_uuid("vmgenid");
        conf.insert("vmgenid".to_owned(), uuid);
    }
    if !conf.contains_key("boot") {
        let disk = crate::qemu::drives(&conf)
            .find(|d| !d.is_cdrom() && !d.slot.starts_with("efi") && !d.slot.starts_with("tpm"));
        let net = conf.keys().find(|key| crate::qemu::is_net(key)).cloned();
        let order: Vec<_> = disk.map(|d| d.slot).into_iter().chain(net).collect();
        if !order.is_empty() {
            conf.insert("boot".to_owned(), format!("order={}", order.join(";")));
        }
    }
    let seconds = st.seconds();
    conf.insert("meta".to_owned(), format!("creation-qemu=10.1.2,ctime={seconds}"));
    conf.retain(|_, value| !value.is_empty());
    Ok(conf)
}

impl Work for Create {
    fn step(&mut self, st: &mut State, at: &At) -> Step {
        let cluster = at.cluster.clone();
        let mut made = Vec::new();
        let filled = fill(st, &cluster, &self.node, self.vmid, &self.given, &mut made);
        let late = st.late_failure(at).map_or(Ok(()), |message| Err(ApiError::die(message)));
        let late = late.and_then(|()| self.permit_tags(st.cluster(&cluster)));
        let conf = match filled.and_then(|conf| late.map(|()| conf)) {
            Ok(conf) => conf,
            Err(error) => return self.fail(st, &cluster, &made, &error),
        };
        let c = st.cluster_mut(&cluster);
        if !c.quorate {
            let error = ApiError::die("cluster not ready - no quorum?");
            return self.fail(st, &cluster, &made, &error);
        }
        if let Some(vm) = c.vms.get_mut(&self.vmid) {
            vm.conf = conf;
        }
        if let Some(pool) = self.pool.as_ref().and_then(|pool| c.pools.get_mut(pool)) {
            pool.vms.insert(self.vmid);
        }
        if self.start {
            // A failure to start shows in a task of its own (§17.c3).
            st.say(at, "Execute autostart");
            let user = st.task(at).map(|task| task.user.clone()).unwrap_or_default();
            let work = crate::qemu::power::start_work(&self.node, self.vmid);
            st.spawn(
                &cluster,
                crate::tasks::New {
                    node: &self.node,
                    kind: "qmstart",
                    id: &self.vmid.to_string(),
                    user: &user,
                    delay_ms: 500,
                },
                work,
            );
        }
        Step::ok()
    }

    fn cleanup(&mut self, st: &mut State, at: &At, reason: &str) -> String {
        st.cluster_mut(&at.cluster).vms.remove(&self.vmid);
        reason.to_owned()
    }
}
