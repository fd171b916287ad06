//! HA resources, as far as they change what start and stop mean (proxmox-ve.md §10.4).

use serde_json::{Value, json};

use crate::clock::Millis;
use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::state::{Power, State};

pub(crate) struct HaResource {
    pub(crate) state: String,
    pub(crate) comment: Option<String>,
    pub(crate) max_restart: i64,
    pub(crate) max_relocate: i64,
    /// Its group (PVE 8).
    pub(crate) group: Option<String>,
    /// A stop request's force deadline.
    pub(crate) stop_by: Option<Millis>,
}

impl HaResource {
    /// Whether start and stop go through HA.
    pub(crate) fn is_managed(&self) -> bool {
        self.state != "ignored"
    }
}

/// `vm:100`, for `100` too.
fn sid(call: &Call<'_>) -> String {
    let sid = call.param("sid");
    if sid.contains(':') { sid.to_owned() } else { format!("vm:{sid}") }
}

fn vmid_of(sid: &str) -> Option<u32> {
    sid.split_once(':')?.1.parse().ok()
}

fn entry(c: &crate::state::Cluster, sid: &str, resource: &HaResource) -> Value {
    let mut out = json!({
        "sid": sid, "type": "vm", "state": resource.state, "max_restart": resource.max_restart,
        "max_relocate": resource.max_relocate, "digest": digest(c),
    });
    if let Some(comment) = &resource.comment {
        out["comment"] = json!(comment);
    }
    if let Some(group) = &resource.group {
        out["group"] = json!(group);
    }
    out
}

fn digest(c: &crate::state::Cluster) -> String {
    let text: String = c.ha.iter().map(|(sid, r)| format!("{sid} {} {:?}\n", r.state, r.comment)).collect();
    crate::util::sha1_hex(&text)
}

/// `GET /cluster/ha/resources`
pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let c = call.c();
    Ok(json!(c.ha.iter().map(|(sid, resource)| entry(c, sid, resource)).collect::<Vec<_>>()).into())
}

/// `GET /cluster/ha/resources/{sid}`
pub(crate) fn one(call: &mut Call<'_>) -> Answer {
    let sid = sid(call);
    match call.c().ha.get(&sid) {
        Some(resource) => Ok(entry(call.c(), &sid, resource).into()),
        None => Err(ApiError::die(format!("no such resource '{sid}'"))),
    }
}

/// `POST /cluster/ha/resources`
pub(crate) fn create(call: &mut Call<'_>) -> Answer {
    call.c().need_quorum()?;
    let sid = sid(call);
    if call.get("group").is_some() && call.c().is_9() {
        return Err(ApiError::die("invalid parameter 'group': ha groups have been migrated to rules"));
    }
    if call.c().ha.contains_key(&sid) {
        return Err(ApiError::die(format!("create resource failed: resource ID '{sid}' already defined")));
    }
    if vmid_of(&sid).is_none_or(|vmid| !call.c().vms.contains_key(&vmid)) {
        return Err(ApiError::die(format!("resource '{sid}' does not exist in cluster")));
    }
    let group = call.get("group").map(str::to_owned);
    if let Some(missing) = group.as_ref().filter(|group| !call.c().ha_groups.contains_key(*group)) {
        return Err(ApiError::die(format!("create resource failed: no such group '{missing}'")));
    }
    let resource = HaResource {
        group,
        state: normal(call.get("state").unwrap_or("started")),
        comment: call.get("comment").map(str::to_owned),
        max_restart: call.number("max_restart").unwrap_or(1),
        max_relocate: call.number("max_relocate").unwrap_or(1),
        stop_by: None,
    };
    call.cm().ha.insert(sid, resource);
    Ok(Value::Null.into())
}

/// `enabled` is an old word for `started`.
fn normal(state: &str) -> String {
    if state == "enabled" { "started" } else { state }.to_owned()
}

/// `PUT /cluster/ha/resources/{sid}`
pub(crate) fn update(call: &mut Call<'_>) -> Answer {
    call.c().need_quorum()?;
    let sid = sid(call);
    if call.get("digest").is_some_and(|sent| sent != digest(call.c())) {
        return Err(ApiError::die("detected modified configuration - file changed by other user? Try again."));
    }
    let state = call.get("state").map(normal);
    let comment = call.get("comment").map(str::to_owned);
    let Some(resource) = call.cm().ha.get_mut(&sid) else {
        return Err(ApiError::die(format!("update resource failed: no such resource '{sid}'")));
    };
    if let Some(state) = state {
        resource.state = state;
        resource.stop_by = None;
    }
    if comment.is_some() {
        resource.comment = comment;
    }
    Ok(Value::Null.into())
}

/// `DELETE /cluster/ha/resources/{sid}`
pub(crate) fn remove(call: &mut Call<'_>) -> Answer {
    call.c().need_quorum()?;
    let sid = sid(call);
    if call.cm().ha.remove(&sid).is_none() {
        return Err(ApiError::die(format!("cannot delete service '{sid}', not HA managed!")));
    }
    if call.c().is_9() && call.get("purge").is_none_or(|flag| flag == "1") {
        crate::ha_rules::purge(call.cm(), &sid);
    }
    Ok(Value::Null.into())
}

/// `GET /cluster/ha/status/current`
pub(crate) fn status(call: &mut Call<'_>) -> Answer {
    let c = call.c();
    let mut out = vec![json!({
        "id": "quorum", "type": "quorum", "node": call.entry, "status": if c.quorate { "OK" } else { "No quorum" },
        "quorate": i32::from(c.quorate),
    })];
    for (sid, resource) in &c.ha {
        let vm = vmid_of(sid).and_then(|vmid| c.vms.get(&vmid));
        let running = vm.is_some_and(|vm| vm.power == Power::Running);
        let state = if resource.state == "ignored" {
            "ignored"
        } else if running {
            "started"
        } else {
            "stopped"
        };
        out.push(json!({
            "id": format!("service:{sid}"), "type": "service", "sid": sid, "state": state, "crm_state": state,
            "request_state": resource.state, "node": vm.map(|vm| vm.node.clone()), "status": state,
        }));
    }
    Ok(json!(out).into())
}

/// One look of the managers: what is asked for and not so is done.
pub(crate) fn round(st: &mut State, cluster: &str) {
    let now = st.now();
    let c = st.cluster_mut(cluster);
    if !c.quorate {
        return;
    }
    let mut start = Vec::new();
    let mut kill = Vec::new();
    for (sid, resource) in &mut c.ha {
        let Some(vm) = vmid_of(sid).and_then(|vmid| c.vms.get(&vmid)) else { continue };
        let online = c.nodes.get(&vm.node).is_some_and(|node| node.online);
        match (resource.state.as_str(), vm.power) {
            ("started", Power::Stopped) if online && vm.lock().is_none() => start.push((vm.node.clone(), vm.vmid)),
            ("stopped" | "disabled", Power::Running) => {
                // HA asks politely and kills at the deadline, a minute by default (§16).
                let by = *resource.stop_by.get_or_insert(now + 60_000);
                let asked = by - 60_000;
                let obeyed = !vm.ignores_shutdown
                    && now - asked >= i64::try_from(vm.shutdown_ms.saturating_sub(3_000)).unwrap_or(i64::MAX);
                if obeyed || now >= by {
                    kill.push((vm.vmid, !obeyed));
                }
            }
            _ => {}
        }
    }
    for (node, vmid) in start {
        let work = crate::qemu::power::start_work(&node, vmid);
        st.spawn(
            cluster,
            crate::tasks::New { node: &node, kind: "qmstart", id: &vmid.to_string(), user: "root@pam", delay_ms: 100 },
            work,
        );
    }
    for (vmid, hard) in kill {
        st.power_off(cluster, vmid);
        if hard && let Some(vm) = st.cluster_mut(cluster).vms.get_mut(&vmid) {
            vm.hard_stops += 1;
        }
    }
}
