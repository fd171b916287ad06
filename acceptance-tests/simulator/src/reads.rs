//! Cluster and node reads (proxmox-ve.md §10).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clock::Millis;
use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::state::{Cluster, Power, Vm};
use crate::world::Profile;

const SEE_STORAGE: [&str; 2] = ["Datastore.Audit", "Datastore.AllocateSpace"];

fn versions(c: &Cluster) -> (&'static str, &'static str) {
    match c.profile {
        Profile::V8_4 => ("8.4.1", "8.4"),
        Profile::V9_1 => ("9.1.9", "9.1"),
        Profile::V9_2 => ("9.2.11", "9.2"),
    }
}

/// `GET /version` and `GET /nodes/{node}/version`
pub(crate) fn version(call: &mut Call<'_>) -> Answer {
    let (version, release) = versions(call.c());
    Ok(json!({"version": version, "release": release, "repoid": "5ab3c6a4a9f0d1b2"}).into())
}

/// `GET /cluster/status`
pub(crate) fn cluster_status(call: &mut Call<'_>) -> Answer {
    let c = call.c();
    let mut out = Vec::new();
    if let Some(corosync) = &c.corosync {
        out.push(json!({
            "type": "cluster", "id": "cluster", "name": corosync, "nodes": c.nodes.len(),
            "version": c.nodes.len(), "quorate": i32::from(c.quorate),
        }));
    }
    for (place, (name, node)) in c.nodes.iter().enumerate() {
        out.push(json!({
            "type": "node", "id": format!("node/{name}"), "name": name,
            "nodeid": if c.corosync.is_some() { place + 1 } else { 0 },
            "ip": node.address, "local": i32::from(*name == call.entry),
            "online": i32::from(node.online), "level": "",
        }));
    }
    Ok(json!(out).into())
}

fn memory_used(c: &Cluster, node: &str) -> u64 {
    let guests: u64 = c.vms.values().filter(|vm| vm.node == node && vm.power != Power::Stopped).map(Vm::memory).sum();
    guests + (1 << 30)
}

fn cpu_used(c: &Cluster, node: &str) -> f64 {
    let busy: u64 = c.vms.values().filter(|vm| vm.node == node && vm.power == Power::Running).map(Vm::cpus).sum();
    let all = c.nodes.get(node).map_or(1, |facts| facts.cpus.max(1));
    (busy as f64 * 0.1 / f64::from(all)).min(1.0)
}

/// A node as `/nodes` and `/cluster/resources` show it.
fn node_entry(call: &Call<'_>, name: &str) -> Value {
    let c = call.c();
    let mut out = json!({"id": format!("node/{name}"), "node": name, "type": "node", "level": "", "status": "unknown"});
    let Some(node) = c.nodes.get(name) else { return out };
    out["status"] = json!(if node.online { "online" } else { "offline" });
    if node.online && call.may(&format!("/nodes/{name}"), &["Sys.Audit"]) {
        out["cpu"] = json!(cpu_used(c, name));
        out["maxcpu"] = json!(node.cpus);
        out["mem"] = json!(memory_used(c, name).min(node.memory));
        out["maxmem"] = json!(node.memory);
        out["disk"] = json!(8u64 << 30);
        out["maxdisk"] = json!(96u64 << 30);
        out["uptime"] = json!((call.st.now() - node.since) / 1000);
    }
    out
}

/// How long a guest's numbers hold after pvestatd told them last.
const FRESH: Millis = 300_000;

/// A guest as the cluster knows it: what pvestatd told last, the rest live (§2.5). Of a new guest, and of one whose node has told
/// nothing for long, there are neither name nor template (§18.17, §18.18).
pub(crate) fn guest_entry(c: &Cluster, vm: &Vm, now: Millis) -> Value {
    let mut out = json!({
        "id": format!("qemu/{}", vm.vmid), "vmid": vm.vmid, "type": "qemu",
        "node": vm.listed_on.as_ref().unwrap_or(&vm.node), "status": "unknown",
    });
    let node = c.nodes.get(&vm.node);
    let online = node.is_some_and(|node| node.online);
    let is_news = node.and_then(|node| node.silent_since).is_none_or(|since| now - since < FRESH);
    if let Some(seen) = vm.seen.as_ref().filter(|_| is_news) {
        out["status"] = json!(if online { seen.status.as_str() } else { "unknown" });
        out["name"] = json!(seen.name);
        out["template"] = json!(i32::from(vm.flag("template")));
        out["maxcpu"] = json!(vm.cpus());
        out["maxmem"] = json!(vm.memory());
        out["maxdisk"] = json!(boot_disk_size(vm));
        let running = vm.power == Power::Running;
        out["cpu"] = json!(if running { 0.1 } else { 0.0 });
        out["mem"] = json!(if running { vm.memory() / 2 } else { 0 });
        out["uptime"] = json!(seen.uptime);
        for key in ["disk", "diskread", "diskwrite", "netin", "netout"] {
            out[key] = json!(0);
        }
        if c.is_9() {
            out["memhost"] = out["mem"].clone();
        }
    }
    if let Some(lock) = vm.lock() {
        out["lock"] = json!(lock);
    }
    if let Some(tags) = vm.conf.get("tags") {
        out["tags"] = json!(tags);
    }
    // Who is in which pool is read a second later.
    if let Some(pool) = c.pool_of(vm.vmid).filter(|_| now - vm.made_at >= 1_000) {
        out["pool"] = json!(pool);
    }
    if let Some(ha) = c.ha.get(&format!("vm:{}", vm.vmid)) {
        out["hastate"] = json!(ha.state);
    }
    out
}

pub(crate) fn boot_disk_size(vm: &Vm) -> u64 {
    crate::qemu::drives(&vm.conf)
        .find(|drive| !drive.is_cdrom())
        .and_then(|drive| crate::util::parse_size(drive.option("size")?))
        .unwrap_or(0)
}

/// `GET /cluster/resources`
pub(crate) fn resources(call: &mut Call<'_>) -> Answer {
    let kind = call.get("type").map(str::to_owned);
    let wanted = |name: &str| kind.as_ref().is_none_or(|kind| kind == name);
    let c = call.c();
    let mut out = Vec::new();
    if wanted("vm") {
        let seen = c.vms.values().filter(|vm| call.may(&format!("/vms/{}", vm.vmid), &["VM.Audit"]));
        out.extend(seen.map(|vm| guest_entry(c, vm, call.st.now())));
    }
    if wanted("node") {
        out.extend(c.nodes.keys().map(|name| node_entry(call, name)));
    }
    if wanted("storage") {
        for (name, def) in &c.storages {
            if !call.may_any(&format!("/storage/{name}"), &SEE_STORAGE) || def.spec.disabled {
                continue;
            }
            for node in c.nodes.keys().filter(|node| def.on(node)) {
                let facts = crate::content::status_fields(call.st, &call.cluster, node, name, def);
                let up = facts["active"] == json!(1) && c.nodes.get(node).is_some_and(|n| n.online);
                out.push(json!({
                    "id": format!("storage/{node}/{name}"), "type": "storage", "storage": name, "node": node,
                    "plugintype": def.spec.kind, "content": facts["content"], "shared": facts["shared"],
                    "status": if up { "available" } else { "unknown" },
                    "disk": facts["used"], "maxdisk": facts["total"],
                }));
            }
        }
    }
    if kind.is_none() {
        let seen = c.pools.keys().filter(|pool| call.may(&format!("/pool/{pool}"), &["Pool.Audit"]));
        out.extend(seen.map(|pool| json!({"id": format!("/pool/{pool}"), "pool": pool, "type": "pool"})));
    }
    if wanted("sdn") && call.may_any("/sdn/zones/localnetwork", &["SDN.Audit", "SDN.Use"]) {
        for node in c.nodes.keys() {
            out.push(json!({
                "id": format!("sdn/{node}/localnetwork"), "type": "sdn", "sdn": "localnetwork", "node": node, "status": "ok",
            }));
        }
    }
    Ok(json!(out).into())
}

/// `GET /cluster/nextid`
pub(crate) fn next_id(call: &mut Call<'_>) -> Answer {
    if let Some(vmid) = call.number("vmid") {
        let taken = u32::try_from(vmid).is_ok_and(|vmid| call.c().vms.contains_key(&vmid));
        if taken {
            return Err(ApiError::param("vmid", format!("VM {vmid} already exists")));
        }
        return Ok(json!(vmid.to_string()).into());
    }
    let lower = call.c().options.get("next-id").and_then(|next| next.get("lower")).and_then(Value::as_str);
    let lower: u32 = lower.and_then(|text| text.parse().ok()).unwrap_or(100);
    // The range is of what is offered; nobody is kept from other numbers.
    let upper = call.c().options.get("next-id").and_then(|next| next.get("upper")).and_then(Value::as_str);
    let upper: u32 = upper.and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    match (lower..upper).find(|vmid| !call.c().vms.contains_key(vmid)) {
        Some(vmid) => Ok(json!(vmid.to_string()).into()),
        None => Err(ApiError::die("unable to get any free VMID in range")),
    }
}

/// `GET /cluster/options`
pub(crate) fn options(call: &mut Call<'_>) -> Answer {
    let all = call.may("/", &["Sys.Audit"]);
    let mut out: BTreeMap<String, Value> = call
        .c()
        .options
        .iter()
        .filter(|(key, _)| all || ["console", "tag-style"].contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    out.insert("allowed-tags".to_owned(), json!([]));
    Ok(json!(out).into())
}

/// `PUT /cluster/options`: no digest (§16).
pub(crate) fn set_options(call: &mut Call<'_>) -> Answer {
    call.c().need_quorum()?;
    let delete: Vec<String> =
        crate::util::split_list(call.get("delete").unwrap_or_default()).map(str::to_owned).collect();
    let mut given = call.params.clone();
    given.remove("delete");
    let options = &mut call.cm().options;
    for key in delete {
        options.remove(&key);
    }
    for (key, value) in given {
        let value = if key == "next-id" || key == "bwlimit" {
            let map: BTreeMap<_, _> = value.split(',').filter_map(|part| part.split_once('=')).collect();
            json!(map)
        } else {
            json!(value)
        };
        options.insert(key, value);
    }
    Ok(Value::Null.into())
}

/// Lists the simulator has nothing in: replication of a node, containers.
pub(crate) fn empty(_call: &mut Call<'_>) -> Answer {
    Ok(json!([]).into())
}

/// `GET /nodes`
pub(crate) fn nodes(call: &mut Call<'_>) -> Answer {
    let c = call.c();
    let mut out = Vec::new();
    for (name, node) in &c.nodes {
        let mut entry = node_entry(call, name);
        entry["ssl_fingerprint"] = json!(node.fingerprint);
        out.push(entry);
    }
    Ok(json!(out).into())
}

/// `GET /nodes/{node}/status`
pub(crate) fn node_status(call: &mut Call<'_>) -> Answer {
    let name = call.node();
    let c = call.c();
    let Some(node) = c.nodes.get(&name) else { return Err(ApiError::new(595, "No route to host")) };
    let (version, _) = versions(c);
    let used = memory_used(c, &name).min(node.memory);
    Ok(json!({
        "cpu": cpu_used(c, &name), "wait": 0, "idle": 0,
        "cpuinfo": {"cpus": node.cpus, "sockets": 1, "cores": node.cpus.div_ceil(2), "model": "Simulated x86-64",
            "mhz": "2900.000", "hvm": "1", "flags": node.cpu_flags, "user_hz": 100},
        "loadavg": ["0.10", "0.10", "0.10"],
        "memory": {"total": node.memory, "used": used, "free": node.memory - used, "available": node.memory - used},
        "rootfs": {"total": 96u64 << 30, "used": 8u64 << 30, "free": 88u64 << 30, "avail": 88u64 << 30},
        "swap": {"total": 0, "used": 0, "free": 0}, "ksm": {"shared": 0},
        "pveversion": format!("pve-manager/{version}/5ab3c6a4a9f0d1b2"),
        "kversion": "Linux 6.17.2-1-pve", "uptime": (call.st.now() - node.since) / 1000,
        "current-kernel": {"sysname": "Linux", "release": "6.17.2-1-pve", "version": "#1 SMP", "machine": "x86_64"},
        "boot-info": {"mode": "efi", "secureboot": 0},
    })
    .into())
}

fn interface(bridge: &crate::world::BridgeSpec) -> Value {
    let mut out = json!({
        "iface": bridge.name, "type": "bridge", "active": 1, "autostart": 1, "exists": 1,
        "method": if bridge.cidr.is_some() { "static" } else { "manual" }, "method6": "manual",
        "bridge_ports": "eno1", "bridge_stp": "off", "bridge_fd": "0", "families": ["inet"], "priority": 4,
    });
    if bridge.vlan_aware {
        out["bridge_vlan_aware"] = json!(1);
        out["bridge_vids"] = json!("2-4094");
    }
    if let Some((address, mask)) = bridge.cidr.as_ref().and_then(|cidr| cidr.split_once('/')) {
        out["cidr"] = json!(bridge.cidr);
        out["address"] = json!(address);
        out["netmask"] = json!(mask);
    }
    out
}

/// `GET /nodes/{node}/network`
pub(crate) fn network(call: &mut Call<'_>) -> Answer {
    let name = call.node();
    let kind = call.get("type").unwrap_or("any").to_owned();
    let Some(node) = call.c().nodes.get(&name) else { return Ok(json!([]).into()) };
    let bridges = ["any", "bridge", "any_bridge", "any_local_bridge", "include_sdn"].contains(&kind.as_str());
    let see = |bridge: &str| {
        call.may_any(&format!("/nodes/{name}"), &["Sys.Audit", "Sys.Modify"])
            || call.may_any(&format!("/sdn/zones/localnetwork/{bridge}"), &["SDN.Audit", "SDN.Use"])
    };
    let mut out: Vec<_> = node.bridges.iter().filter(|bridge| bridges && see(&bridge.name)).map(interface).collect();
    if (kind == "any" || kind == "eth") && call.may_any(&format!("/nodes/{name}"), &["Sys.Audit", "Sys.Modify"]) {
        out.push(
            json!({"iface": "eno1", "type": "eth", "active": 1, "exists": 1, "method": "manual", "method6": "manual"}),
        );
    }
    Ok(json!(out).into())
}

/// `GET /nodes/{node}/network/{iface}`
pub(crate) fn network_one(call: &mut Call<'_>) -> Answer {
    let (node, iface) = (call.node(), call.param("iface"));
    let bridge = call.c().nodes.get(&node).and_then(|facts| facts.bridges.iter().find(|b| b.name == iface));
    match bridge {
        Some(bridge) => Ok(interface(bridge).into()),
        None => Err(ApiError::param("iface", "interface does not exist")),
    }
}

/// `GET /nodes/{node}/certificates/info`
pub(crate) fn certificates(call: &mut Call<'_>) -> Answer {
    let name = call.node();
    let c = call.c();
    let Some(node) = c.nodes.get(&name) else { return Ok(json!([]).into()) };
    let issuer = format!("/CN=Proxmox Virtual Environment {}/O=PVE Cluster Manager CA", c.name);
    Ok(json!([
        {"filename": "pve-root-ca.pem", "fingerprint": c.ca_fingerprint, "pem": c.ca_pem, "subject": issuer, "issuer": issuer},
        {"filename": "pve-ssl.pem", "fingerprint": node.fingerprint, "pem": node.leaf_pem,
         "subject": format!("/CN={name}"), "issuer": issuer, "san": ["127.0.0.1", "localhost", name]},
    ])
    .into())
}
