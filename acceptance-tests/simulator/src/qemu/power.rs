//! Start, stop, shutdown and their kin: everything but rights and quorum is checked in the task (§5.2).

use serde_json::json;

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::qemu::{Drive, config, drives, is_net};
use crate::state::{Cluster, Power, State};
use crate::tasks::{At, Once, Outcome, Step, Work};

/// The work of a qmstart.
pub(crate) fn start_work(node: &str, vmid: u32) -> Box<dyn Work> {
    let node = node.to_owned();
    Box::new(Once(Some(move |st: &mut State, at: &At| {
        let cluster = at.cluster.clone();
        start(st, at, &cluster, &node, vmid)
    })))
}

fn start(st: &mut State, at: &At, cluster: &str, node: &str, vmid: u32) -> Result<(), ApiError> {
    let vm = st.cluster(cluster).vm(node, vmid)?;
    if vm.flag("template") {
        return Err(ApiError::die("you can't start a vm if it's a template"));
    }
    if vm.power == Power::Prelaunch && vm.lock() == Some("backup") {
        // The paused QEMU of a backup is let go (§5.2, §17).
        st.say(at, format!("resuming VM {vmid}"));
        st.power_on(cluster, vmid);
        return Ok(());
    }
    vm.check_lock()?;
    if vm.flock.is_some() {
        return Err(ApiError::die(format!("can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout")));
    }
    if vm.power != Power::Stopped {
        return Err(ApiError::die(format!("VM {vmid} already running")));
    }
    config::apply_pending(st, cluster, node, vmid)?;
    check_host(st, cluster, node, vmid)?;
    st.power_on(cluster, vmid);
    Ok(())
}

/// Is what the configuration names there?
pub(crate) fn check_host(st: &State, cluster: &str, node: &str, vmid: u32) -> Result<(), ApiError> {
    let c = st.cluster(cluster);
    let vm = c.vm(node, vmid)?;
    let Some(facts) = c.nodes.get(node) else { return Err(Cluster::missing(node, vmid)) };
    for drive in drives(&vm.conf).filter(|drive| drive.has_volume()) {
        let storage = drive.volume.split(':').next().unwrap_or_default();
        c.usable(storage, node, None)?;
        if st.volume(cluster, node, &drive.volume).is_none() {
            return Err(ApiError::die(format!("volume '{}' does not exist", drive.volume)));
        }
    }
    for drive in drives(&vm.conf).filter(Drive::is_path) {
        if !facts.devices.contains(&drive.volume) {
            // QEMU's log has the reason: the node has no such file.
            return Err(ApiError::die("start failed: QEMU exited with code 1"));
        }
    }
    for (_, share) in vm.conf.iter().filter(|(key, _)| key.starts_with("virtiofs")) {
        let name = share.split(',').next().unwrap_or_default();
        let name = name.strip_prefix("dirid=").unwrap_or(name);
        if !facts.devices.contains(&format!("dir:{name}")) {
            return Err(ApiError::die("virtiofs needs exactly one mapping for this node"));
        }
    }
    if let Some(script) = vm.conf.get("hookscript").filter(|script| !st.has_snippet(cluster, node, script)) {
        return Err(ApiError::die(format!("script '{script}' does not exist")));
    }
    for (_, net) in vm.conf.iter().filter(|(key, _)| is_net(key)) {
        let bridge = net.split(',').find_map(|part| part.strip_prefix("bridge="));
        if let Some(bridge) = bridge.filter(|name| !facts.bridges.iter().any(|known| known.name == *name)) {
            return Err(ApiError::die(format!("bridge '{bridge}' does not exist")));
        }
    }
    super::machines::check(c, node, vm.conf.get("machine").map(String::as_str))?;
    if vm.cpus() > u64::from(facts.cpus) {
        return Err(ApiError::die(format!("MAX {} vcpus allowed per VM on this node", facts.cpus)));
    }
    if vm.conf.get("vcpus").and_then(|vcpus| vcpus.parse().ok()).is_some_and(|vcpus: u64| vcpus > vm.cpus()) {
        // More are to be plugged in than there are sockets and cores for.
        return Err(ApiError::die("start failed: QEMU exited with code 1"));
    }
    let taken: u64 =
        c.vms.values().filter(|vm| vm.node == node && vm.power == Power::Running).map(|vm| vm.memory()).sum();
    if taken + vm.memory() > facts.memory {
        return Err(ApiError::die("start failed: QEMU exited with code 1"));
    }
    Ok(())
}

fn refuse_skiplock(call: &Call<'_>) -> Result<(), ApiError> {
    if call.get("skiplock").is_some() && !call.auth.is_root() {
        return Err(ApiError::param("skiplock", "Only root may use this option."));
    }
    Ok(())
}

/// Managed by HA: a request, answered as soon as it is written down.
fn through_ha(call: &mut Call<'_>, kind: &str, state: &'static str) -> Option<String> {
    let (cluster, node, vmid, user) = (call.cluster.clone(), call.node(), call.vmid(), call.user());
    let sid = format!("vm:{vmid}");
    call.c().ha.get(&sid).filter(|resource| resource.is_managed())?;
    let work = Once(Some(move |st: &mut State, at: &At| {
        st.say(at, format!("Requesting HA {state} for VM {vmid}"));
        if let Some(resource) = st.cluster_mut(&at.cluster).ha.get_mut(&sid) {
            resource.state = state.to_owned();
            resource.stop_by = None;
        }
        Ok(())
    }));
    Some(call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind, id: &vmid.to_string(), user: &user, delay_ms: 100 },
        Box::new(work),
    ))
}

fn spawn(call: &mut Call<'_>, kind: &str, delay: u64, work: Box<dyn Work>) -> Answer {
    let (cluster, node, vmid, user) = (call.cluster.clone(), call.node(), call.vmid(), call.user());
    Ok(json!(call.st.spawn(
        &cluster,
        crate::tasks::New { node: &node, kind, id: &vmid.to_string(), user: &user, delay_ms: delay },
        work
    ))
    .into())
}

/// `POST …/status/start`
pub(crate) fn post_start(call: &mut Call<'_>) -> Answer {
    refuse_skiplock(call)?;
    call.c().need_quorum()?;
    if let Some(upid) = through_ha(call, "hastart", "started") {
        return Ok(json!(upid).into());
    }
    let work = start_work(&call.node(), call.vmid());
    spawn(call, "qmstart", 500, work)
}

/// `POST …/status/stop`
pub(crate) fn post_stop(call: &mut Call<'_>) -> Answer {
    refuse_skiplock(call)?;
    if let Some(upid) = through_ha(call, "hastop", "stopped") {
        return Ok(json!(upid).into());
    }
    let (cluster, node, vmid) = (call.cluster.clone(), call.node(), call.vmid());
    let id = vmid.to_string();
    if call.flag("overrule-shutdown") {
        let running = |t: &crate::tasks::Task| t.kind == "qmshutdown" && t.id == id && t.is_running();
        let found: Vec<_> = call.c().tasks.iter().enumerate().filter(|(_, t)| running(t)).map(|(i, _)| i).collect();
        for index in found {
            call.st.terminate(&At { cluster: cluster.clone(), index });
        }
    }
    let work = Once(Some(move |st: &mut State, at: &At| {
        let vm = st.cluster(&at.cluster).vm(&node, vmid)?;
        vm.check_lock()?;
        if vm.power != Power::Stopped {
            let cluster = at.cluster.clone();
            st.power_off(&cluster, vmid);
        }
        Ok(())
    }));
    spawn(call, "qmstop", 500, Box::new(work))
}

struct Shutdown {
    node: String,
    vmid: u32,
    timeout_ms: u64,
    force: bool,
    waited: bool,
    /// Started again afterwards.
    reboot: bool,
}

impl Work for Shutdown {
    fn step(&mut self, st: &mut State, at: &At) -> Step {
        let cluster = at.cluster.clone();
        let vm = match st.cluster(&cluster).vm(&self.node, self.vmid) {
            Ok(vm) => vm,
            Err(error) => return Step::error(error.message),
        };
        if let Err(error) = vm.check_lock() {
            return Step::error(error.message);
        }
        if vm.power == Power::Stopped {
            return if self.reboot { Step::error(format!("VM {} not running", self.vmid)) } else { Step::ok() };
        }
        let (obeys, takes) = (!vm.ignores_shutdown, vm.shutdown_ms);
        if !self.waited {
            self.waited = true;
            return Step::wait_ms(if obeys { takes.min(self.timeout_ms) } else { self.timeout_ms });
        }
        let hard = !obeys || self.timeout_ms < takes;
        if !self.force && hard {
            return Step::error("VM quit/powerdown failed - got timeout");
        }
        st.power_off(&cluster, self.vmid);
        if hard && let Some(vm) = st.cluster_mut(&cluster).vms.get_mut(&self.vmid) {
            vm.hard_stops += 1;
        }
        if self.reboot {
            return match start(st, at, &cluster, &self.node, self.vmid) {
                Ok(()) => Step::ok(),
                Err(error) => Step::error(error.in_task()),
            };
        }
        Step::End(Outcome::Ok)
    }
}

fn shutdown(call: &mut Call<'_>, kind: &str, reboot: bool) -> Answer {
    let (node, vmid) = (call.node(), call.vmid());
    let timeout = call.number("timeout").and_then(|s| u64::try_from(s).ok()).unwrap_or(60);
    let force = call.flag("forceStop");
    let work = Shutdown { node, vmid, timeout_ms: timeout * 1000, force, waited: false, reboot };
    spawn(call, kind, 10, Box::new(work))
}

/// `POST …/status/shutdown`
pub(crate) fn post_shutdown(call: &mut Call<'_>) -> Answer {
    refuse_skiplock(call)?;
    if let Some(upid) = through_ha(call, "hastop", "stopped") {
        return Ok(json!(upid).into());
    }
    if call.c().vms.get(&call.vmid()).is_some_and(|vm| vm.power == Power::Paused) {
        return Err(ApiError::die("VM is paused - cannot shutdown"));
    }
    shutdown(call, "qmshutdown", false)
}

/// `POST …/status/reboot`
pub(crate) fn post_reboot(call: &mut Call<'_>) -> Answer {
    let vmid = call.vmid();
    let vm = call.c().vm(call.param("node"), vmid)?;
    if vm.power == Power::Stopped {
        return Err(ApiError::die(format!("VM {vmid} not running")));
    }
    shutdown(call, "qmreboot", true)
}

/// `POST …/status/suspend` (to memory) and `…/resume`.
fn pause(call: &mut Call<'_>, kind: &str, from: Power, to: Power) -> Answer {
    refuse_skiplock(call)?;
    let (node, vmid) = (call.node(), call.vmid());
    let vm = call.c().vm(&node, vmid)?;
    if vm.power == Power::Stopped {
        return Err(ApiError::die(format!("VM {vmid} not running")));
    }
    if vm.flag("template") && to == Power::Running {
        return Err(ApiError::die(format!("VM {vmid} is a template and cannot be resumed")));
    }
    let work = Once(Some(move |st: &mut State, at: &At| {
        let cluster = at.cluster.clone();
        st.flush(&cluster, vmid);
        let vm = st.cluster(&cluster).vm(&node, vmid)?;
        if vm.lock() != Some("backup") {
            vm.check_lock()?;
        }
        let power = vm.power;
        if power == from || (power == Power::Prelaunch && to == Power::Running) {
            if to == Power::Running {
                st.power_on(&cluster, vmid);
            } else {
                st.cluster_mut(&cluster).vm_mut(&node, vmid)?.power = to;
            }
        }
        Ok(())
    }));
    spawn(call, kind, 100, Box::new(work))
}

/// `POST …/status/suspend`
pub(crate) fn post_suspend(call: &mut Call<'_>) -> Answer {
    pause(call, "qmpause", Power::Running, Power::Paused)
}

/// `POST …/status/resume`
pub(crate) fn post_resume(call: &mut Call<'_>) -> Answer {
    pause(call, "qmresume", Power::Paused, Power::Running)
}
