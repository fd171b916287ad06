//! A site is gone, and declared lost: its machines are recovered elsewhere from their newest backups, also when apply is killed, and
//! what comes back is fenced.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::moving::{FROM, GONE, Layout, Machine, NAME, TO, in_words};
use crate::rights::guide;
use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};
use serde_json::json;
use simulator::{Action, Matched, Rule, VmSnapshot};

const PIN: &str = "  cluster     = \"worldstream-prod\"\n";
const CLUSTERS: &str = "  clusters    = var.clusters\n";
/// A password's hash: not a secret of ours, and in no message.
const HASH: &str = "$5$canary$qPbDbzEXqfKcMq1LvvVQ6bGGnQ0mJPQ0hpnM2x8Ew2A";
const STORAGE: &str = "transfer";
/// Fewest points at which a recovery is killed.
const FEWEST: usize = 60;
/// Most applies until everything is settled.
const APPLIES: u32 = 3;
/// Runs at once: each is a CLI and a provider.
const AT_ONCE: usize = 2;

/// A machine that was backed up, wrote since, and whose site is gone.
struct Loss {
    world: SimulatedWorld,
    workspace: Workspace,
    uuid: String,
    vmid: u32,
    /// As it was when it was backed up.
    backed_up: VmSnapshot,
    newest: u64,
}

impl Loss {
    /// As the app team sees it, with what the page of rights gives for a recovery.
    fn of(machine: &Machine, cli: &Cli) -> Loss {
        Loss::seen_by(&["App team", "Recovery"], machine, cli)
    }

    fn seen_by(rights: &[&str], machine: &Machine, cli: &Cli) -> Loss {
        let team = guide::team(rights);
        let world = machine.world_with(|world| *world = team.join(world.clone(), None));
        Loss::in_world(world, "moxxie", machine, cli)
    }

    fn in_world(world: SimulatedWorld, role: &str, machine: &Machine, cli: &Cli) -> Loss {
        let workspace = machine.workspace(&world, cli, role, GONE);
        workspace.edit("main.tf", PIN, "");
        let (uuid, vmid) = (machine.uuid(), machine.vmid());
        let source = world.cluster(FROM);
        // Masked by a cluster, and plain in a backup.
        source.set_config(vmid, "cipassword", Some(HASH));
        source.guest_write(vmid);
        source.schedule_backup("nightly", Some("production-pool"), STORAGE, Duration::ZERO);
        world.advance(Duration::from_secs(3600));
        assert_eq!(source.archives(STORAGE).len(), 1, "{:?}", source.newest_log("vzdump"));
        let backed_up = world.vm(FROM, NAME);
        let newest = world.newest_held(&uuid);
        source.guest_write(vmid);
        source.guest_write(vmid);
        assert!(world.newest_held(&uuid) > newest);
        let loss = Loss { world, workspace, uuid, vmid, backed_up, newest };
        loss.dark(true);
        loss
    }

    fn dark(&self, dark: bool) {
        self.world.wait(self.world.cluster(FROM).set_dark(dark));
    }

    /// Declares the site lost, or takes that back.
    fn declare(&self, lost: bool) {
        self.declare_lost(if lost { &[FROM] } else { &[] });
    }

    /// Declares just these sites lost. A cluster that answers again may do so at another address.
    fn declare_lost(&self, lost: &[&str]) {
        let main = std::fs::read_to_string(self.workspace.root().join("main.tf")).expect("the configuration");
        let kept = main.split_inclusive('\n').filter(|line| !line.trim_start().starts_with("lost_clusters"));
        let main: String = kept.collect();
        assert!(main.contains(CLUSTERS), "{main}");
        self.workspace.write("main.tf", main.replace(CLUSTERS, &format!("{CLUSTERS}  lost_clusters = {lost:?}\n")));
        self.workspace.write("world.auto.tfvars.json", json!({ "clusters": self.world.connections() }).to_string());
    }

    /// In what way it does not run once, beside a fenced copy at most, with no operation open.
    fn runs_once(&self) -> Vec<String> {
        let copies = self.world.copies(&self.uuid);
        let running = copies.iter().filter(|vm| vm.running).count();
        let fenced = copies.iter().filter(|vm| vm.template && vm.cluster == FROM).count();
        let mut wrong = self.open();
        if running != 1 || copies.len() != running + fenced {
            wrong.push(format!("there are {}", copies.iter().map(in_words).collect::<Vec<_>>().join(", ")));
        }
        let on = copies.iter().find(|vm| vm.running).map(|vm| vm.cluster.clone());
        if on.as_deref() == Some(TO) {
            wrong.extend(self.wrongs());
        }
        wrong
    }

    /// Operations that are open.
    fn open(&self) -> Vec<String> {
        let pools = [FROM, TO].map(|cluster| self.world.cluster(cluster).pools().into_keys());
        let open = pools.into_iter().flatten().filter(|pool| pool.starts_with("moxxie-moves/"));
        open.map(|pool| format!("{pool} is open")).collect()
    }

    /// In what way the machine is not on the target as its backup has it, running.
    fn wrongs(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let there: Vec<VmSnapshot> =
            self.world.copies(&self.uuid).into_iter().filter(|vm| vm.cluster != FROM).collect();
        let [vm] = there.as_slice() else {
            return vec![format!("beside the lost one there are {:?}", there.iter().map(in_words).collect::<Vec<_>>())];
        };
        if vm.cluster != TO || !vm.running || vm.vmid != self.vmid {
            wrong.push(format!("it is not as it was: {}", in_words(vm)));
        }
        let held = |vm: &VmSnapshot| vm.disks.iter().map(|disk| disk.newest).max();
        if held(vm) < Some(self.newest) {
            wrong.push(format!("record {} of the backup is not there: {:?}", self.newest, vm.disks));
        }
        let second =
            |vm: &VmSnapshot| vm.disks.iter().find(|disk| disk.slot == "scsi1").map(|disk| disk.sha256.clone());
        if second(vm) != second(&self.backed_up) {
            wrong.push("bytes of scsi1 differ".into());
        }
        for key in ["name", "memory", "cores", "onboot", "protection", "smbios1"] {
            let value = |vm: &VmSnapshot| vm.config.get(key).cloned().unwrap_or_else(|| "0".into());
            if value(vm) != value(&self.backed_up) {
                wrong.push(format!("{key} is {:?}, was {:?}", value(vm), value(&self.backed_up)));
            }
        }
        if vm.config.get("net0").is_none_or(|net| net.contains("link_down=1") || !net.contains("tag=220")) {
            wrong.push(format!("its network is {:?}", vm.config.get("net0")));
        }
        let notes = vm.config.get("description").map(String::as_str).unwrap_or_default();
        if !notes.starts_with("The shop") || notes.contains("\"op\"") {
            wrong.push(format!("its notes are {notes:?}"));
        }
        // The backup is the operator's.
        let archives = self.world.cluster(TO).archives(STORAGE).len();
        if archives != 1 {
            wrong.push(format!("{archives} backups are there"));
        }
        wrong.extend(self.open());
        wrong
    }
}

#[test]
fn a_machine_of_a_lost_site_is_recovered_and_its_old_copy_is_fenced_when_that_answers() {
    for cli in clis() {
        let loss = Loss::of(&Machine::made_by(&cli), &cli);
        // A site that doesn't answer is not lost.
        loss.workspace.plan().expect(0).says("does not answer");
        loss.declare(true);
        loss.world.clear_requests();
        let plan = loss.workspace.plan().expect(2).never_says(HASH);
        let plan = plan.says(&format!("{FROM:?} -> {TO:?}")).says("is recovered from its backup of").says("is lost");
        assert!(!plan.flat().contains("must be replaced"), "{}", plan.text());
        assert_eq!(loss.world.writes(), Vec::<String>::new());
        loss.workspace.apply().expect(0).never_says(HASH);
        assert_eq!(loss.wrongs(), Vec::<String>::new());
        loss.workspace.plan().expect(0);

        // It was no end of the world: the site answers, and what runs there runs twice.
        loss.dark(false);
        loss.declare(false);
        assert_eq!(loss.world.running_copies(&loss.uuid).len(), 2);
        loss.workspace.plan().expect(2).says("answers again: apply fences the old copy");
        loss.workspace.apply().expect(0).says("The old copy of virtual machine shop-db is fenced");
        let running = loss.world.running_copies(&loss.uuid);
        assert!(
            running.len() == 1 && running[0].cluster == TO,
            "{:?}",
            running.iter().map(in_words).collect::<Vec<_>>()
        );
        let old = loss.world.vm(FROM, NAME);
        assert!(old.template && !old.running && old.config["protection"] == "1", "{:?}", old.config);
        assert_eq!(loss.wrongs(), Vec::<String>::new());
        loss.workspace.plan().expect(0);

        // Then the other site is lost, and what is left of the first loss, which has its VMID, is in nobody's way.
        let target = loss.world.cluster(TO);
        target.schedule_backup("nightly", Some("production-pool"), STORAGE, Duration::ZERO);
        loss.world.advance(Duration::from_secs(3600));
        loss.world.wait(target.set_dark(true));
        loss.declare_lost(&[TO]);
        loss.workspace.plan().expect(2).says(&format!("{TO:?} -> {FROM:?}")).says("gets another VMID");
        loss.workspace.apply().expect(0);
        let back: Vec<VmSnapshot> =
            loss.world.running_copies(&loss.uuid).into_iter().filter(|vm| vm.cluster == FROM).collect();
        assert!(back.len() == 1 && back[0].vmid != loss.vmid, "{:?}", back.iter().map(in_words).collect::<Vec<_>>());
        loss.workspace.plan().expect(0);
        // Where it was lost first answers, so it goes there too; where it was lost last, nobody can look.
        loss.workspace.destroy().expect(0).says("The old copy of virtual machine shop-db may come back");
        assert_eq!(loss.world.machines(), [format!("{TO}/{NAME}")]);
    }
}

/// What stands in the way is said at plan, and nothing is touched.
#[test]
fn what_can_not_be_recovered_stays_and_says_why() {
    let cli = &clis()[0];
    let machine = Machine::made_by(cli);
    // Declared lost by mistake: it answers, so what runs there stays.
    let loss = Loss::of(&machine, cli);
    loss.dark(false);
    loss.declare(true);
    loss.workspace.plan().expect(0).says("Cluster worldstream-prod is declared lost, and answers");
    // Whose a backup is takes a right that no pool gives.
    let app = Loss::seen_by(&["App team"], &machine, cli);
    app.declare(true);
    app.workspace.plan().expect(0).says("can't be recovered").says("VM.Backup on /vms/100");
    // Nobody sees a backup of it: another machine of its VMID is another machine.
    loss.dark(true);
    loss.declare(true);
    loss.world.cluster(TO).set_storage_online(STORAGE, false);
    let run = loss.workspace.plan().expect(0);
    run.says("can't be recovered").says("no cluster of its pool sees a backup of VMID 100 with its UUID");
    loss.world.cluster(TO).set_storage_online(STORAGE, true);
    // The machine went with its site, and so it can't be removed.
    loss.workspace.destroy().expect(1).says("is lost, and the machine with it");
    // It is pinned there: a pin is moved by its own configuration alone.
    loss.workspace.edit("main.tf", "  description = \"The shop\"\n", &format!("{PIN}  description = \"The shop\"\n"));
    loss.workspace.plan().expect(0).says("is pinned, and should leave");
    loss.workspace.edit("main.tf", PIN, &PIN.replace(FROM, TO));
    loss.workspace.plan().expect(2).says("is recovered from its backup of");
    // The VMID is taken there by now, which the refresh sees and the plan says.
    assert_eq!(loss.wrongs(), ["beside the lost one there are []"]);
    // Between plan and apply the site answers again: what was planned is refused, with nothing touched.
    loss.workspace.plan_to("lost.tfplan").expect(2);
    loss.dark(false);
    loss.world.clear_requests();
    let run = loss.workspace.apply_plan("lost.tfplan");
    assert_eq!((run.code, loss.world.running_copies(&loss.uuid).len()), (1, 1), "{}", run.text());
}

/// A restore that fails leaves nothing but the backup, and the next apply tries again.
#[test]
fn a_recovery_that_fails_is_taken_back() {
    let cli = &clis()[0];
    let machine = Machine::made_by(cli);
    // A failed restore is in no pool, so that an app team's token may not remove it.
    let loss = Loss::in_world(machine.world(), "platform", &machine, cli);
    loss.declare(true);
    for late in [false, true] {
        let fails = Action::FailTask { message: "command 'vma extract' failed: exit code 1".into(), late };
        let rule = loss.world.fault(Rule::on("POST", "/nodes/*/qemu", fails).cluster(TO));
        loss.workspace.apply().expect(1).says("nothing of the recovery is left");
        assert_eq!((loss.wrongs(), loss.open()), (vec!["beside the lost one there are []".to_owned()], Vec::new()));
        loss.world.unfault(rule);
    }
    loss.workspace.apply().expect(0);
    assert_eq!(loss.wrongs(), Vec::<String>::new());
    // What the app team's token may not remove is named with the command for it.
    let app = Loss::of(&machine, cli);
    app.declare(true);
    let fails = Action::FailTask { message: "no space left on device".into(), late: false };
    app.world.fault(Rule::on("POST", "/nodes/*/qemu", fails).cluster(TO));
    app.workspace.apply().expect(1).says("the recovery was taken back").says("qm destroy 100");
    assert_eq!(app.open(), Vec::<String>::new());
}

/// What was planned is what is restored: not another backup, and not beside a machine that runs again.
#[test]
fn what_the_plan_saw_is_recovered_or_nothing() {
    let cli = &clis()[0];
    let machine = Machine::made_by(cli);
    let loss = Loss::of(&machine, cli);
    loss.declare(true);
    loss.workspace.plan_to("lost.tfplan").expect(2);
    // The storage with the newest is away at apply, and an older one is on another.
    loss.world.cluster(TO).set_storage_online(STORAGE, false);
    loss.world.clear_requests();
    loss.workspace.apply_plan("lost.tfplan").expect(1).says("sees no backup of it");
    assert_eq!(loss.world.writes(), Vec::<String>::new());
    loss.world.cluster(TO).set_storage_online(STORAGE, true);
    // The site answers while the backup is restored: it is not started beside the machine.
    answers_at(&loss, "POST", "/nodes/*/qemu", "/nodes/*/tasks/*/status");
    loss.workspace.plan_to("lost.tfplan").expect(2);
    loss.workspace.apply_plan("lost.tfplan").expect(1).says("cluster worldstream-prod answers again");
    assert!(loss.world.requests().iter().any(|call| call.method == "POST" && call.path.ends_with("/qemu")));
    let started = |call: &simulator::Request| call.cluster == TO && call.path.ends_with("/status/start");
    assert!(!loss.world.requests().iter().any(started), "it ran twice");
    assert_eq!(loss.open(), Vec::<String>::new());
}

/// Past "live" the machine is elsewhere, whatever comes back: that is fenced before the machine starts, by the run that found it silent.
#[test]
fn a_site_that_answers_right_before_the_start_is_fenced_first() {
    let cli = &clis()[0];
    let loss = Loss::of(&Machine::made_by(cli), cli);
    loss.declare(true);
    let twice = Arc::new(AtomicUsize::new(0));
    let (sites, vmid, seen) = (loss.world.clusters(), loss.vmid, Arc::clone(&twice));
    let look = move |_: &Matched| {
        let running = sites.iter().filter(|site| site.vm(vmid).is_some_and(|vm| vm.running)).count();
        seen.fetch_add(running, Ordering::SeqCst);
    };
    // Its links are set up, and then its status is asked.
    answers_at(&loss, "PUT", "/nodes/*/qemu/*/config", "/nodes/*/qemu/*/status/current");
    loss.world.fault(Rule::on("POST", "/nodes/*/qemu/*/status/start", Action::call(look)).cluster(TO));
    loss.workspace.apply().expect(0).says("The old copy of virtual machine shop-db is fenced");
    assert_eq!(twice.load(Ordering::SeqCst), 0, "one ran when the other was started");
    loss.world.clear_faults();
    loss.declare(false);
    loss.workspace.plan().expect(0);
    assert_eq!(loss.runs_once(), Vec::<String>::new());
}

/// Has the lost site answer again once this call is made on the target, by the next time that `then` is asked there.
fn answers_at(loss: &Loss, method: &str, path: &str, then: &str) {
    let (cluster, (done, answers)) = (loss.world.cluster(FROM), std::sync::mpsc::channel());
    let begun = Arc::new(AtomicUsize::new(0));
    let first = Arc::clone(&begun);
    let begin = move |_: &Matched| {
        if first.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        let (cluster, done) = (cluster.clone(), done.clone());
        // Not waited for here: a rule is carried out by a thread that the simulator needs for it.
        std::thread::spawn(move || {
            runtime().block_on(cluster.set_dark(false));
            let _ = done.send(());
        });
    };
    let answers = Mutex::new(Some(answers));
    let wait = move |_: &Matched| {
        if begun.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(answers) = answers.lock().expect("it").take() {
            let _ = answers.recv_timeout(Duration::from_secs(20));
        }
    };
    loss.world.fault(Rule::on(method, path, Action::call(begin)).cluster(TO));
    loss.world.fault(Rule::on("GET", then, Action::call(wait)).cluster(TO));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];

/// What is killed, and what happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// The recovery; the site stays lost.
    Recovery,
    /// The recovery; the site answers again, still declared lost.
    Answers,
    /// The apply that fences the old copy, once the site answers again.
    Fence,
}

struct Point {
    case: Case,
    call: u64,
    executed: bool,
}

impl Case {
    /// Everything up to the apply that is killed.
    fn begin(self, machine: &Machine, cli: &Cli) -> Loss {
        let loss = Loss::of(machine, cli);
        loss.declare(true);
        if self == Case::Fence {
            loss.workspace.apply().expect(0);
            loss.dark(false);
            loss.declare(false);
        }
        loss
    }

    /// A point for every call that writes, done and lost; where the site answers again it is all the same who has heard of it.
    fn points(self, machine: &Machine, cli: &Cli) -> Vec<Point> {
        let loss = self.begin(machine, cli);
        loss.world.clear_requests();
        loss.workspace.apply().expect(0);
        let calls = loss.world.requests();
        let writes = (0..calls.len()).filter(|n| calls[*n].method != "GET");
        let how: &[bool] = if self == Case::Answers { &[true] } else { &[true, false] };
        writes
            .flat_map(|n| how.iter().map(move |executed| Point { case: self, call: n as u64 + 1, executed: *executed }))
            .collect()
    }
}

/// The provider is killed at every call that writes; the next applies leave the machine running once, and nothing else.
#[test]
fn recovery_points() {
    let machines: Vec<(Cli, Machine)> =
        clis().into_iter().map(|cli| (cli.clone(), Machine::made_with(&cli, Layout::OneStorage))).collect();
    let (cli, machine) = &machines[0];
    let points: Vec<Point> =
        [Case::Recovery, Case::Answers, Case::Fence].into_iter().flat_map(|case| case.points(machine, cli)).collect();
    let next = AtomicUsize::new(0);
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(point) = points.get(at) else { break };
                    let (cli, machine) = &machines[at % machines.len()];
                    let held = catch_unwind(AssertUnwindSafe(|| hold(machine, cli, point)));
                    let wrong = held.unwrap_or_else(|panic| {
                        vec![panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into())]
                    });
                    if !wrong.is_empty() {
                        let how = if point.executed { "done" } else { "lost" };
                        let line = format!("{:?}, call {} {how}: {}", point.case, point.call, wrong.join("\n    "));
                        broken.lock().expect("the list").push(line);
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().expect("the list");
    println!("recovery points: {}, held: {}", points.len(), points.len() - broken.len());
    assert!(broken.is_empty(), "{} points did not hold:\n{}", broken.len(), broken.join("\n"));
    assert!(points.len() >= FEWEST, "only {} points", points.len());
}

fn hold(machine: &Machine, cli: &Cli, point: &Point) -> Vec<String> {
    let loss = point.case.begin(machine, cli);
    let mut wrong = Vec::new();
    if let Killed::Never = loss.workspace.killed_at(&loss.world, &APPLY, point.call, point.executed, || {}) {
        wrong.push("it ended before".to_owned());
    }
    if point.case == Case::Answers {
        loss.dark(false);
        loss.declare(true);
    }
    for applies in 0..=APPLIES {
        let plan = loss.workspace.plan_to("next.tfplan");
        match plan.code {
            0 if point.case == Case::Recovery => {
                wrong.extend(loss.wrongs());
                return wrong;
            }
            0 => {
                wrong.extend(loss.runs_once());
                return wrong;
            }
            2 if applies < APPLIES => drop(loss.workspace.apply_plan("next.tfplan")),
            code => wrong.push(format!("plan exits with {code} after {applies} applies: {}", plan.flat())),
        }
    }
    wrong
}
