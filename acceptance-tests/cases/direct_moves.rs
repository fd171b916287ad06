//! Moves that Proxmox VE carries out itself: paths with method `offline` and `storage-migration`, also where the provider is killed, and
//! where Proxmox VE's own migration breaks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::moving::{FROM, GONE, Layout, Machine, NAME, TO, Watch, in_words, wanted_on};
use crate::rights::guide;
use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};
use serde_json::json;
use simulator::{Action, Matched, Rule, VmSnapshot};

const STRANGER: &str = "6e6f6465-0000-4000-8000-00000000abcd";
const MIGRATION: &str = r#"source = "keep", keep_source = "3d""#;
/// Fewest points at which a move is killed. The rest, each write done and lost, in both directions and with a past, is the test
/// `history`'s, which needs no CLI.
const FEWEST: usize = 55;
/// Most applies until everything is settled.
const APPLIES: u32 = 3;
/// Runs at once: each is a CLI and a provider.
const AT_ONCE: usize = 2;
/// Of the calls that change nothing, every tenth is a point: where one is killed between two writes matters little.
const READS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Offline,
    Online,
}

/// A machine, the path of its move, and what must be true of it.
struct Site {
    world: SimulatedWorld,
    workspace: Workspace,
    before: VmSnapshot,
    uuid: String,
    vmid: u32,
}

impl Site {
    /// A configuration that moves `machine` by `method`.
    fn of(machine: &Machine, cli: &Cli, method: Method) -> Site {
        Site::seen_by("platform", machine, cli, method)
    }

    fn seen_by(role: &str, machine: &Machine, cli: &Cli, method: Method) -> Site {
        // Beside the platform team, the user of the guide's section about this token.
        let mover = guide::team(&["The token that a move hands over"]);
        let world = machine.world_with(|world| *world = mover.join(world.clone(), None));
        let workspace = machine.moving(&world, cli, role, MIGRATION);
        let (word, vlan) = match method {
            Method::Offline => ("offline", 220),
            // A guest that runs keeps its VLAN, so that it has to be the same there.
            Method::Online => ("storage-migration", 120),
        };
        let yaml = Layout::OneStorage.yaml();
        let path = "target_cluster: databarn-dr\n      method: backup-restore";
        assert!(yaml.contains(path) && yaml.contains("vlan: 220"));
        let yaml =
            yaml.replace(path, &path.replace("backup-restore", word)).replace("vlan: 220", &format!("vlan: {vlan}"));
        workspace.write("multi-site.yaml", yaml);
        let mut connections = world.connections();
        connections[TO]["migration_token"] = world.cluster(TO).token("moxxie").expect("its token").into();
        workspace.write("world.auto.tfvars.json", json!({ "clusters": connections }).to_string());
        let before = world.vm(FROM, NAME);
        let (uuid, vmid) = (machine.uuid(), machine.vmid());
        Site { world, workspace, before, uuid, vmid }
    }

    fn copy_on(&self, cluster: &str) -> Option<VmSnapshot> {
        self.world.copies(&self.uuid).into_iter().find(|vm| vm.cluster == cluster)
    }

    /// In what way it is not there alone, running and unharmed, with what Proxmox VE locked as all that is left.
    fn moved(&self, newest: u64) -> Vec<String> {
        let mut wrong = self.runs_on(TO, newest);
        match self.copy_on(FROM) {
            Some(left) if left.lock.as_deref() == Some("migrate") && !left.running => {
                if left.pool.as_deref() != Some("production-pool/retired") {
                    wrong.push(format!("what is left counts in {:?}", left.pool));
                }
            }
            left => wrong.push(format!("left is {:?}", left.map(|left| in_words(&left)))),
        }
        wrong
    }

    fn runs_on(&self, cluster: &str, newest: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let running = self.world.running_copies(&self.uuid);
        let [vm] = running.as_slice() else {
            return vec![format!("these run: {:?}", running.iter().map(in_words).collect::<Vec<_>>())];
        };
        if vm.cluster != cluster || vm.lock.is_some() || vm.pool.as_deref() != Some("production-pool") {
            wrong.push(format!("it runs on {} in pool {:?}, locked {:?}", vm.cluster, vm.pool, vm.lock));
        }
        if vm.disks.iter().map(|disk| disk.newest).max() < Some(newest) {
            wrong.push(format!("record {newest} is lost: {:?}", vm.disks));
        }
        let second =
            |vm: &VmSnapshot| vm.disks.iter().find(|disk| disk.slot == "scsi1").map(|disk| disk.sha256.clone());
        if second(vm) != second(&self.before) || second(vm).is_none() {
            wrong.push(format!("bytes differ: {:?}", vm.disks));
        }
        for key in ["name", "memory", "cores", "onboot", "protection", "smbios1"] {
            let value = |vm: &VmSnapshot| vm.config.get(key).cloned().unwrap_or_else(|| "0".into());
            if value(vm) != value(&self.before) {
                wrong.push(format!("{key} is {:?}, was {:?}", value(vm), value(&self.before)));
            }
        }
        let nic = |vm: &VmSnapshot| vm.config.get("net0").cloned().unwrap_or_default();
        let mac = |vm: &VmSnapshot| nic(vm).split(',').next().map(str::to_owned);
        if mac(vm) != mac(&self.before) || nic(vm).contains("link_down=1") || !vm.pending.is_empty() {
            wrong.push(format!("net0 is {}, was {}; pending {:?}", nic(vm), nic(&self.before), vm.pending));
        }
        let notes = vm.config.get("description").cloned().unwrap_or_default();
        if !notes.starts_with("The shop") || notes.contains("\"op\"") || notes.contains("do not") {
            wrong.push(format!("its notes are {notes:?}"));
        }
        // What Proxmox VE locks on success, and leaves.
        let locked = format!("{FROM}: VM {} has lock migrate", self.vmid);
        let litter = self.world.litter().into_iter().filter(|line| cluster != TO || *line != locked);
        wrong.extend(litter.map(|line| format!("litter: {line}")));
        wrong
    }

    /// What the warning tells an operator to do once content.
    fn operator_removes_the_source(&self) {
        let source = self.world.cluster(FROM);
        source.unlock(self.vmid).expect("qm unlock");
        source.set_config(self.vmid, "protection", None);
        source.remove_vm(self.vmid);
    }
}

fn each(method: Method, test: impl Fn(&Site)) {
    for cli in clis() {
        let machine = Machine::made_by(&cli);
        let site = Site::of(&machine, &cli, method);
        let watch = Watch::over(&site.world, &machine);
        test(&site);
        assert_eq!(watch.wrongs(), Vec::<String>::new(), "{:?}", cli.kind);
    }
}

/// Moves, shows what is left, removes it as an operator does, and destroys.
fn whole_way(site: &Site) {
    let source = site.world.cluster(FROM);
    let newest = source.guest_write(site.vmid).expect("it runs");
    site.workspace.plan_to("move.tfplan").expect(2).says("worldstream-prod").says("databarn-dr");
    let applied = site.workspace.apply_plan("move.tfplan").expect(0);
    assert_eq!(site.moved(newest), Vec::<String>::new());
    let said = applied.flat();
    assert!(said.contains(&format!("qm unlock {0} && qm destroy {0}", site.vmid)), "{said}");
    let left = site.copy_on(FROM).expect("the source");
    assert!(left.config["description"].contains("do not unlock, do not start"), "{:?}", left.config);
    site.workspace.plan().expect(0);
    site.operator_removes_the_source();
    site.workspace.plan().expect(0);
    site.workspace.destroy().expect(0);
    site.world.assert_clean();
}

#[test]
fn an_offline_move_is_carried_out_by_proxmox_ve_and_its_networks_are_put_right_before_it_starts() {
    each(Method::Offline, |site| {
        whole_way(site);
    });
}

#[test]
fn a_machine_moves_while_it_runs() {
    each(Method::Online, |site| {
        let stops = || site.world.requests().iter().filter(|call| call.path.contains("/status/s")).count();
        let before = stops();
        whole_way_online(site, before, &stops);
    });
}

fn whole_way_online(site: &Site, before: usize, stops: &dyn Fn() -> usize) {
    site.workspace.plan_to("move.tfplan").expect(2);
    site.workspace.apply_plan("move.tfplan").expect(0);
    assert_eq!(stops(), before, "nothing was shut down or started by us");
    assert_eq!(site.moved(site.world.newest_written(&site.uuid)), Vec::<String>::new());
    site.workspace.plan().expect(0);
    site.operator_removes_the_source();
    site.workspace.destroy().expect(0);
    site.world.assert_clean();
}

#[test]
fn what_is_locked_for_good_is_refused_before_anything_is_touched() {
    for cli in clis().into_iter().take(1) {
        let machine = Machine::made_by(&cli);
        let site = Site::of(&machine, &cli, Method::Online);
        site.world.clear_requests();
        let refused = |what: &str| {
            site.workspace.apply().expect(1).says("nothing was touched").says(what);
            assert_eq!(site.world.writes(), Vec::<String>::new());
        };
        site.workspace.edit("main.tf", MIGRATION, GONE);
        refused("locked_source");
        site.workspace.edit("main.tf", GONE, MIGRATION);
        // On another VLAN there: a guest that runs would be on the wrong one.
        site.workspace.edit("multi-site.yaml", "vlan: 120 }\n\n  - id: hetzner", "vlan: 220 }\n\n  - id: hetzner");
        refused("net0 is on VLAN 120, and would be on VLAN 220 there");
        site.workspace.edit("multi-site.yaml", "vlan: 220 }\n\n  - id: hetzner", "vlan: 120 }\n\n  - id: hetzner");
        site.world.cluster(FROM).set_ha(site.vmid, Some("started"));
        refused("is managed by HA");
        site.world.cluster(FROM).set_ha(site.vmid, None);
        // No token may set it there, and Proxmox VE would find that out when all is copied.
        site.world.cluster(FROM).set_config(site.vmid, "args", Some("-S"));
        refused("args is root's to set");
        site.world.cluster(FROM).set_config(site.vmid, "args", None);
        let mut connections = site.world.connections();
        site.workspace.write("world.auto.tfvars.json", json!({ "clusters": connections }).to_string());
        refused("has no token that may be handed to another cluster");
        // The app team's token is no administrator there.
        let weak = site.world.cluster(TO).token("app").expect("a token");
        connections[TO]["migration_token"] = weak.clone().into();
        site.workspace.write("world.auto.tfvars.json", json!({ "clusters": connections }).to_string());
        let said = site.workspace.apply().expect(1).flat();
        assert!(said.contains("the migration token of databarn-dr lacks Sys.Incoming on /"), "{said}");
        assert!(!said.contains(weak.split('=').next_back().expect("a secret")), "{said}");
        assert_eq!(site.world.writes(), Vec::<String>::new());
    }
}

#[test]
fn an_app_teams_token_is_refused_before_anything_is_touched() {
    let cli = harness::by_turns();
    let machine = Machine::made_by(&cli);
    let site = Site::seen_by("app", &machine, &cli, Method::Offline);
    site.world.clear_requests();
    let said = site.workspace.apply().expect(1).says("nothing was touched").flat();
    assert!(said.contains("VM.Migrate") && said.contains(&format!("/vms/{}", site.vmid)), "{said}");
    assert_eq!(site.world.writes(), Vec::<String>::new());
}

#[test]
fn a_migration_that_fails_is_taken_back_and_says_what_proxmox_ve_said() {
    for method in [Method::Offline, Method::Online] {
        each(method, |site| {
            let failing = Action::FailTask { message: "storage migration failed: no space left".into(), late: false };
            site.world.fault(Rule::on("POST", "*/remote_migrate", failing).cluster(FROM));
            let newest = site.world.cluster(FROM).guest_write(site.vmid).expect("it runs");
            let said = site.workspace.apply().expect(1);
            let said = said.says("no space left").says("the move was taken back").says("runs as before");
            drop(said);
            assert_eq!(site.runs_on(FROM, newest), Vec::<String>::new());
            assert!(site.copy_on(TO).is_none());
            site.world.clear_faults();
            site.workspace.apply().expect(0);
            assert_eq!(site.moved(newest), Vec::<String>::new());
        });
    }
}

#[test]
fn where_nobody_can_tell_which_is_the_newest_a_person_is_asked_and_nothing_is_touched() {
    each(Method::Offline, |site| {
        // The worker is killed in the middle: Proxmox VE cleans up nothing.
        let (source, vmid) = (site.world.cluster(FROM), site.vmid);
        let looks = AtomicUsize::new(0);
        let kill = move |_: &Matched| {
            if looks.fetch_add(1, Ordering::Relaxed) == 3 {
                source.kill_task("qmigrate", vmid);
            }
        };
        site.world.fault(Rule::on("GET", "/nodes/*/tasks/*qmigrate*/status", Action::call(kill)).cluster(FROM));
        let said = site.workspace.apply().expect(1).flat();
        assert!(said.contains("was cut off") && said.contains(&format!("qm unlock {vmid}")), "{said}");
        site.world.clear_faults();
        assert_eq!(site.world.running_copies(&site.uuid).len(), 0);
        site.world.clear_requests();
        site.workspace.apply().expect(1).says("was cut off");
        let left: Vec<String> = site.world.writes().into_iter().filter(|line| !line.contains("pools")).collect();
        assert_eq!(left, Vec::<String>::new(), "neither machine was touched");
        // What the message says.
        let target = site.world.cluster(TO);
        if site.copy_on(TO).is_some() || target.vm(vmid).is_some() {
            target.unlock(vmid).expect("qm unlock");
            target.remove_vm(vmid);
        }
        for volume in target.volumes().into_iter().filter(|volume| volume.owner == vmid) {
            assert!(target.free_volume(volume.node.as_deref().unwrap_or("db1"), &volume.volid), "{volume:?}");
        }
        site.world.cluster(FROM).unlock(vmid).expect("qm unlock");
        let newest = site.world.newest_held(&site.uuid);
        site.workspace.apply();
        site.workspace.apply();
        assert_eq!(site.moved(newest), Vec::<String>::new());
        site.workspace.plan().expect(0);
    });
}

/// The number of the first call that `is` in a move that nobody disturbs.
fn call_that(machine: &Machine, cli: &Cli, method: Method, is: impl Fn(&simulator::Request) -> bool) -> u64 {
    let site = Site::of(machine, cli, method);
    let _watch = Watch::over(&site.world, machine);
    site.world.clear_requests();
    site.workspace.apply().expect(0);
    let at = site.world.requests().iter().position(is).expect("such a call");
    at as u64 + 1
}

/// A move whose provider was killed at a call, which was done or not.
fn killed(machine: &Machine, cli: &Cli, method: Method, call: u64, executed: bool) -> Site {
    let site = Site::of(machine, cli, method);
    let _watch = Watch::over(&site.world, machine);
    let hit = site.workspace.killed_at(&site.world, &APPLY, call, executed, || {});
    assert!(matches!(hit, Killed::At(_)), "it was not killed");
    site.world.clear_faults();
    site
}

fn sends(call: &simulator::Request) -> bool {
    call.method == "POST" && call.path.ends_with("/remote_migrate")
}

#[test]
fn a_guest_that_shuts_down_right_after_it_was_sent_is_still_the_machine() {
    let cli = harness::by_turns();
    let machine = Machine::made_by(&cli);
    // The call that puts what came into its pool: Proxmox VE is done by then.
    let joins = |call: &simulator::Request| call.cluster == TO && call.method == "PUT" && call.path == "/pools";
    let call = call_that(&machine, &cli, Method::Online, joins);
    let site = killed(&machine, &cli, Method::Online, call, false);
    let newest = site.world.newest_written(&site.uuid);
    site.world.cluster(TO).stop(site.vmid);
    assert!(site.world.running_copies(&site.uuid).is_empty());
    site.workspace.apply().expect(0).never_says("qm destroy 100,");
    assert_eq!(site.moved(newest), Vec::<String>::new());
    site.workspace.plan().expect(0);
}

#[test]
fn a_source_that_somebody_unlocks_and_starts_is_not_run_beside() {
    let cli = harness::by_turns();
    let machine = Machine::made_by(&cli);
    let starts = |call: &simulator::Request| call.cluster == TO && call.path.ends_with("/status/start");
    let call = call_that(&machine, &cli, Method::Offline, starts);
    let site = killed(&machine, &cli, Method::Offline, call, false);
    let source = site.world.cluster(FROM);
    source.unlock(site.vmid).expect("qm unlock");
    source.start(site.vmid).expect("qm start");
    site.workspace.apply().expect(1).says("somebody unlocked and started it");
    let running = site.world.running_copies(&site.uuid);
    assert_eq!(running.iter().map(|vm| vm.cluster.as_str()).collect::<Vec<_>>(), [FROM]);
    // Its next stop leaves it startable: the fence that came too late was taken back.
    assert!(!running[0].pending.contains("template"), "{:?}", running[0].pending);
    source.stop(site.vmid);
    site.workspace.apply().expect(0);
    let left = site.copy_on(FROM).expect("the source");
    assert!(left.template && left.lock.is_none(), "{left:?}");
    assert_eq!(site.world.running_copies(&site.uuid).len(), 1);
    site.workspace.plan().expect(0);
    site.workspace.destroy().expect(0);
    site.world.assert_clean();
}

#[test]
fn a_vmid_that_another_machine_has_by_now_is_not_taken_for_the_source() {
    let cli = harness::by_turns();
    let machine = Machine::made_by(&cli);
    let joins = |call: &simulator::Request| call.cluster == TO && call.method == "PUT" && call.path == "/pools";
    let call = call_that(&machine, &cli, Method::Offline, joins);
    let site = killed(&machine, &cli, Method::Offline, call, false);
    let newest = site.world.newest_held(&site.uuid);
    site.operator_removes_the_source();
    let stranger = simulator::GuestSpec {
        vmid: site.vmid,
        node: site.before.node.clone(),
        config: [("name".to_owned(), "stranger".to_owned()), ("smbios1".to_owned(), format!("uuid={STRANGER}"))].into(),
        pool: None,
        running: false,
    };
    site.world.cluster(FROM).create_vm(&stranger).expect("a stranger");
    site.workspace.apply().expect(0).says("was not compared with its source");
    assert_eq!(site.runs_on(TO, newest), Vec::<String>::new());
    let there = site.world.cluster(FROM).vm(site.vmid).expect("the stranger");
    assert!(!there.running && !there.template && there.lock.is_none(), "{there:?}");
    site.workspace.plan().expect(0);
}

#[test]
fn root_who_unlocks_the_source_before_live_gets_it_back_and_what_was_sent_is_fenced() {
    let cli = harness::by_turns();
    let machine = Machine::made_by(&cli);
    let joins = |call: &simulator::Request| call.cluster == TO && call.method == "PUT" && call.path == "/pools";
    let call = call_that(&machine, &cli, Method::Offline, joins);
    let site = killed(&machine, &cli, Method::Offline, call, false);
    site.world.cluster(FROM).unlock(site.vmid).expect("qm unlock");
    wanted_on(&site.workspace, TO, FROM);
    site.workspace.apply().expect(0).says("What was sent before the source was unlocked stays");
    let running = site.world.running_copies(&site.uuid);
    assert_eq!(running.iter().map(|vm| vm.cluster.as_str()).collect::<Vec<_>>(), [FROM]);
    assert!(site.copy_on(TO).is_some_and(|left| left.template && !left.running));
    // A workspace is a place among those that run at once: the next one begins when this has ended.
    drop(site);
    // One that was started there meanwhile is not decided about.
    let site = killed(&machine, &cli, Method::Offline, call, false);
    site.world.cluster(TO).start(site.vmid).expect("qm start");
    site.world.cluster(TO).guest_write(site.vmid).expect("it runs");
    site.world.cluster(TO).stop(site.vmid);
    site.world.cluster(FROM).unlock(site.vmid).expect("qm unlock");
    site.workspace.apply().expect(1).says("may have run");
    assert!(site.world.running_copies(&site.uuid).is_empty());
}

#[test]
fn a_call_that_may_still_begin_a_migration_is_waited_for() {
    let cli = harness::by_turns();
    let machine = Machine::made_by(&cli);
    let call = call_that(&machine, &cli, Method::Online, sends);
    let site = killed(&machine, &cli, Method::Online, call, false);
    site.workspace.edit("main.tf", "  migration       =", "  timeouts = { update = \"2s\" }\n  migration =");
    site.world.clear_requests();
    site.workspace.apply().expect(1).says("Proxmox VE may still begin to send it");
    // The operation is taken over, which the source's notes show; the machine is left alone.
    let touched = |line: &String| line.contains("/qemu/") && !line.ends_with("/config");
    assert!(!site.world.writes().iter().any(touched), "{:?}", site.world.writes());
    site.world.advance(Duration::from_secs(360));
    let newest = site.world.newest_written(&site.uuid);
    site.workspace.apply().expect(0);
    assert_eq!(site.moved(newest), Vec::<String>::new());
}

/// Where the provider is killed.
#[derive(Debug, Clone)]
struct Point {
    method: Method,
    call: u64,
    executed: bool,
}

const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];

fn points(machine: &Machine, cli: &Cli, method: Method) -> Vec<Point> {
    let site = Site::of(machine, cli, method);
    let _watch = Watch::over(&site.world, machine);
    site.world.clear_requests();
    site.workspace.apply().expect(0);
    let calls = site.world.requests();
    let is_write = |n: &usize| calls[*n].method != "GET";
    let first = (0..calls.len()).find(is_write).expect("a move writes").saturating_sub(2);
    let chosen = (first..calls.len()).filter(|n| is_write(n) || n % READS == 0);
    // Most steps are those of both methods: what is done in one is lost in the other.
    let first = usize::from(method == Method::Online);
    let point = |(at, n): (usize, usize)| Point { method, call: n as u64 + 1, executed: (at + first) % 2 == 0 };
    chosen.enumerate().map(point).collect()
}

fn hold(machine: &Machine, cli: &Cli, point: &Point) -> Result<(), String> {
    let site = Site::of(machine, cli, point.method);
    let watch = Watch::over(&site.world, machine);
    let killed = site.workspace.killed_at(&site.world, &APPLY, point.call, point.executed, || watch.look("the kill"));
    let at = match &killed {
        Killed::At(hit) => format!("{} {} {}", hit.call.cluster, hit.call.method, hit.call.path),
        Killed::Never => "never".into(),
    };
    site.world.clear_faults();
    watch.begin(&site.world);
    // A call whose answer nobody got may still begin it for a while.
    site.world.advance(Duration::from_secs(360));
    let (written, held) = (site.world.newest_written(&site.uuid), site.world.newest_held(&site.uuid));
    let mut wrong = Vec::new();
    if written != held {
        wrong.push(format!("record {written} is nowhere, the newest is {held}"));
    }
    wrong.extend(converge(&site.workspace));
    wrong.extend(site.moved(written));
    wrong.extend(watch.wrongs());
    if wrong.is_empty() { Ok(()) } else { Err(format!("killed at {at}: {}", wrong.join("\n    "))) }
}

/// Plans and applies until a plan is empty.
fn converge(workspace: &Workspace) -> Vec<String> {
    let mut failed = Vec::new();
    for applies in 0..=APPLIES {
        let plan = workspace.plan_to("next.tfplan");
        match plan.code {
            0 => return Vec::new(),
            2 if applies < APPLIES => {
                let shown = plan.flat();
                if !shown.contains("operation") && !shown.contains(&format!("{FROM:?} -> {TO:?}")) {
                    failed.push(format!("the plan shows neither the operation nor the move: {shown}"));
                }
                let apply = workspace.apply_plan("next.tfplan");
                if apply.code != 0 {
                    failed.push(apply.flat());
                }
            }
            code => failed.push(format!("plan exits with {code} after {applies} applies: {}", plan.flat())),
        }
    }
    failed
}

#[test]
fn killed_at_any_call_a_direct_move_is_finished_by_the_next_apply() {
    let clis: Vec<(Cli, Machine)> = clis().into_iter().map(|cli| (cli.clone(), Machine::made_by(&cli))).collect();
    let (cli, machine) = &clis[0];
    let points: Vec<Point> =
        [Method::Offline, Method::Online].into_iter().flat_map(|method| points(machine, cli, method)).collect();
    let (next, broken) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(point) = points.get(at) else { return };
                    let (cli, machine) = &clis[at % clis.len()];
                    let held = catch_unwind(AssertUnwindSafe(|| hold(machine, cli, point)));
                    let why = match held {
                        Ok(Ok(())) => continue,
                        Ok(Err(why)) => why,
                        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into()),
                    };
                    broken.lock().expect("the list").push(format!("{:?}, {point:?}, {why}", cli.kind));
                }
            });
        }
    });
    let broken = broken.into_inner().expect("the list");
    println!("direct points: {}, held: {}", points.len(), points.len() - broken.len());
    assert!(broken.is_empty(), "{} points did not hold:\n{}", broken.len(), broken.join("\n"));
    assert!(points.len() >= FEWEST, "only {} points", points.len());
}

#[test]
fn a_person_may_move_it_on_and_back() {
    each(Method::Offline, |site| {
        site.workspace.apply().expect(0);
        // The way back is declared as backup and restore, and its old VMID is taken by what was left.
        wanted_on(&site.workspace, TO, FROM);
        site.workspace.apply().expect(0);
        let vm = site.world.running_copies(&site.uuid).pop().expect("it runs");
        assert_eq!(vm.cluster, FROM);
        assert_ne!(vm.vmid, site.vmid);
        site.workspace.plan().expect(0);
    });
}
