//! Reading a VM: lists, config, pending, status (proxmox-ve.md §4, §5.2).

use serde_json::{Map, Value, json};

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::state::{Pending, Power, Vm};

/// Keys whose values are numbers in answers.
const NUMBERS: [&str; 18] = [
    "cores",
    "sockets",
    "onboot",
    "protection",
    "template",
    "numa",
    "balloon",
    "cpuunits",
    "acpi",
    "kvm",
    "tablet",
    "autostart",
    "localtime",
    "reboot",
    "vcpus",
    "ciupgrade",
    "freeze",
    "shares",
];

fn shown(key: &str, value: &str) -> Value {
    match value.parse::<i64>() {
        Ok(number) if NUMBERS.contains(&key) => json!(number),
        _ if key == "cipassword" => json!("**********"),
        _ => json!(value),
    }
}

/// `GET …/config`: pending changes merged in, unless `current=1`.
pub(crate) fn config(call: &mut Call<'_>) -> Answer {
    let vm = call.c().vm(call.param("node"), call.vmid())?;
    if let Some(snapshot) = call.get("snapshot") {
        return Err(ApiError::die(format!("snapshot '{snapshot}' does not exist")));
    }
    let mut conf = vm.conf.clone();
    if !call.flag("current") {
        for (key, change) in &vm.pending {
            match change {
                Pending::Set(value) => conf.insert(key.clone(), value.clone()),
                Pending::Delete { .. } => conf.remove(key),
            };
        }
    }
    let mut out: Map<_, _> = conf.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect();
    out.insert("digest".to_owned(), json!(vm.digest()));
    Ok(Value::Object(out).into())
}

/// `GET …/pending`
pub(crate) fn pending(call: &mut Call<'_>) -> Answer {
    let vm = call.c().vm(call.param("node"), call.vmid())?;
    let mut out = Vec::new();
    for (key, value) in &vm.conf {
        let mut entry = json!({"key": key, "value": shown(key, value)});
        match vm.pending.get(key) {
            Some(Pending::Set(new)) => entry["pending"] = shown(key, new),
            Some(Pending::Delete { force }) => entry["delete"] = json!(if *force { 2 } else { 1 }),
            None => {}
        }
        out.push(entry);
    }
    for (key, change) in vm.pending.iter().filter(|(key, _)| !vm.conf.contains_key(*key)) {
        if let Pending::Set(value) = change {
            out.push(json!({"key": key, "pending": shown(key, value)}));
        }
    }
    out.push(json!({"key": "digest", "value": vm.digest()}));
    Ok(json!(out).into())
}

fn summary(vm: &Vm, now: i64) -> Value {
    let running = vm.power != Power::Stopped;
    let mut out = json!({
        "vmid": vm.vmid, "name": vm.name(), "status": if running { "running" } else { "stopped" },
        "cpus": vm.cpus(), "maxmem": vm.memory(), "mem": if running { vm.memory() / 2 } else { 0 }, "cpu": 0.0,
        "disk": 0, "maxdisk": crate::reads::boot_disk_size(vm), "diskread": 0, "diskwrite": 0, "netin": 0, "netout": 0,
        "uptime": if running { (now - vm.started_at) / 1000 } else { 0 },
    });
    if running {
        out["pid"] = json!(vm.pid);
    }
    if vm.flag("template") {
        out["template"] = json!(1);
    }
    for key in ["tags", "lock"] {
        if let Some(value) = vm.conf.get(key) {
            out[key] = json!(value);
        }
    }
    out
}

/// `GET /nodes/{node}/qemu`
pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let (node, now) = (call.node(), call.st.now());
    let on_node = call.c().vms.values().filter(|vm| vm.node == node);
    let seen = on_node.filter(|vm| call.may(&format!("/vms/{}", vm.vmid), &["VM.Audit"]));
    Ok(json!(seen.map(|vm| summary(vm, now)).collect::<Vec<_>>()).into())
}

/// `GET …/status/current`
pub(crate) fn status(call: &mut Call<'_>) -> Answer {
    let now = call.st.now();
    let vm = call.c().vm(call.param("node"), call.vmid())?;
    let mut out = summary(vm, now);
    out["qmpstatus"] = json!(vm.power.qmp());
    let ha = call.c().ha.get(&format!("vm:{}", vm.vmid));
    out["ha"] = match ha {
        Some(resource) => json!({"managed": 1, "state": resource.state}),
        None => json!({"managed": 0}),
    };
    if vm.conf.get("agent").is_some_and(|agent| agent.starts_with('1') || agent.contains("enabled=1")) {
        out["agent"] = json!(1);
    }
    if vm.power != Power::Stopped {
        out["running-machine"] = json!("pc-i440fx-10.1+pve0");
        out["running-qemu"] = json!("10.1.2");
    }
    if call.c().is_9() {
        out["memhost"] = out["mem"].clone();
    }
    Ok(out.into())
}

/// `GET …/snapshot`: there are never any but the present.
pub(crate) fn snapshots(call: &mut Call<'_>) -> Answer {
    let vm = call.c().vm(call.param("node"), call.vmid())?;
    Ok(json!([{"name": "current", "description": "You are here!", "digest": vm.digest(), "running": i32::from(vm.power == Power::Running)}]).into())
}

fn agent(call: &Call<'_>) -> Result<(), ApiError> {
    let (node, vmid) = (call.node(), call.vmid());
    let vm = call.c().vm(&node, vmid)?;
    if !vm.conf.get("agent").is_some_and(|agent| agent.starts_with('1') || agent.contains("enabled=1")) {
        return Err(ApiError::die("No QEMU guest agent configured"));
    }
    if vm.power != Power::Running {
        return Err(ApiError::die(format!("VM {vmid} is not running")));
    }
    // A guest takes a few seconds to boot before its agent answers.
    if call.st.now() - vm.started_at < 2_000 {
        return Err(ApiError::die("QEMU guest agent is not running"));
    }
    Ok(())
}

/// `POST …/agent/ping`
pub(crate) fn agent_ping(call: &mut Call<'_>) -> Answer {
    let waits = call.c().vm(call.param("node"), call.vmid()).is_ok();
    if waits {
        // An unanswered ping waits a second.
        call.st.look(std::time::Duration::from_secs(1));
    }
    agent(call)?;
    Ok(json!({"result": {}}).into())
}

/// `GET …/agent/network-get-interfaces`
pub(crate) fn agent_network(call: &mut Call<'_>) -> Answer {
    if call.c().vm(call.param("node"), call.vmid()).is_ok() {
        // It is pinged first, too.
        call.st.look(std::time::Duration::from_secs(1));
    }
    agent(call)?;
    let vmid = call.vmid();
    let vm = call.c().vm(call.param("node"), vmid)?;
    let mut out = vec![json!({
        "name": "lo", "hardware-address": "00:00:00:00:00:00",
        "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}],
    })];
    for (place, (_, net)) in vm.conf.iter().filter(|(key, _)| crate::qemu::is_net(key)).enumerate() {
        let mac = net.split(',').next().and_then(|first| first.split_once('=')).map(|(_, mac)| mac.to_lowercase());
        let address = vm.conf.get(&format!("ipconfig{place}")).and_then(|ip| {
            ip.split(',').find_map(|part| part.strip_prefix("ip=")).and_then(|cidr| cidr.split_once('/'))
        });
        let addresses: Vec<_> = address
            .map(|(ip, prefix)| json!({"ip-address": ip, "ip-address-type": "ipv4", "prefix": prefix.parse::<u32>().unwrap_or(24)}))
            .into_iter()
            .collect();
        out.push(json!({"name": format!("eth{place}"), "hardware-address": mac, "ip-addresses": addresses}));
    }
    Ok(json!({"result": out}).into())
}
