//! The contract of plan and apply, over many pairs through the real CLIs with somebody else's changes in between: an apply does
//! exactly what its plan showed, or is refused by us, naming what changed, with nothing touched and nothing tainted.
mod foreign;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Mutex;

use crate::support::{
    self, CLUSTERS, Instance, Shown, address, broken, by_hand, configure, images, instances, nodes, shown,
    shown_in_text,
};
use foreign::{Dice, Foreign};
use harness::{Cli, Run, SimulatedWorld, Workspace, clis};
use serde_json::{Value, json};
use simulator::{NodePower, Options, World};

/// Pairs in all, and in one world.
const PAIRS: usize = 208;
const PER_WORLD: usize = 26;

/// How a pair runs.
#[derive(Debug)]
struct How {
    direct: bool,
    flags: Vec<String>,
    foreign: Vec<Foreign>,
    /// The change is there when the plan is made and gone when it is applied.
    reversed: bool,
}

/// One world with one workspace, and what has come of its pairs.
struct Series<'a> {
    world: &'a SimulatedWorld,
    workspace: Workspace,
    dice: Dice,
    vms: BTreeMap<String, Value>,
    next: usize,
    log: Vec<String>,
    by_hand: Vec<(&'static str, u32)>,
    refused: usize,
    exact: usize,
}

impl Series<'_> {
    fn cluster(&self, name: &str) -> simulator::ClusterHandle {
        self.world.cluster(name)
    }

    /// A machine of state that is where state says.
    fn snapshot(&self, name: &str) -> Option<simulator::VmSnapshot> {
        let instance = instances(&self.workspace).remove(name)?;
        self.world.copies(&instance.uuid).into_iter().find(|vm| !vm.template)
    }

    fn befall(&mut self, foreign: &Foreign) {
        match foreign {
            Foreign::Nothing => {}
            Foreign::FillMemory(cluster) => {
                for (index, node) in nodes(cluster).iter().enumerate() {
                    let vmid = 9000 + u32::try_from(index).unwrap_or(0);
                    let guest = by_hand(vmid, node, &format!("foreign-{index}"), 510 * 1024, None);
                    if self.cluster(cluster).create_vm(&guest).is_ok() {
                        self.by_hand.push((cluster, vmid));
                    }
                }
            }
            Foreign::AddToPool(cluster) => {
                let pool = if *cluster == "hetzner-edge" { "development-pool" } else { "production-pool" };
                let guest = by_hand(9100, nodes(cluster)[0], "foreign-db", 1024, Some(pool));
                if self.cluster(cluster).create_vm(&guest).is_ok() {
                    self.by_hand.push((cluster, 9100));
                }
            }
            Foreign::StorageGone(cluster) => self.cluster(cluster).set_storage_online(images(cluster), false),
            Foreign::Dark(cluster) => self.world.wait(self.cluster(cluster).set_dark(true)),
            Foreign::NoQuorum(cluster) => self.cluster(cluster).set_quorum(false),
            Foreign::NodesDown(cluster) => {
                nodes(cluster).iter().for_each(|node| self.cluster(cluster).power_node(node, NodePower::Off));
            }
            Foreign::MoveAway(name) => {
                let Some(vm) = self.snapshot(name) else { return };
                let others: Vec<&str> = CLUSTERS.into_iter().filter(|cluster| *cluster != vm.cluster).collect();
                let to = self.dice.pick(&others);
                let moved = self.cluster(&vm.cluster).move_vm_by_hand(vm.vmid, to, nodes(to)[0], images(to));
                if moved.is_ok() && self.dice.roll(2) == 0 {
                    // Not on a cluster that something else befell.
                    let _ = self.cluster(to).start(vm.vmid);
                }
            }
            Foreign::Resize(name) => {
                let Some(vm) = self.snapshot(name) else { return };
                self.cluster(&vm.cluster).set_config(vm.vmid, "memory", Some("3072"));
            }
            Foreign::Retag(name) => {
                let Some(vm) = self.snapshot(name) else { return };
                self.cluster(&vm.cluster).set_config(vm.vmid, "tags", Some("foreign"));
            }
            Foreign::AnotherPlan(inner) => {
                self.befall(inner);
                let words = ["plan", "-input=false", "-lock=false", "-out=another.tfplan"];
                self.ours(&self.workspace.run(&words));
            }
            Foreign::FolderGone => drop(self.workspace.remove(".terraform")),
            Foreign::FolderOfAnEarlierPlan => {
                let (now, earlier) = (self.workspace.root().join(".terraform"), self.workspace.root().join("earlier"));
                self.workspace.remove(".terraform");
                // There is no earlier one before the first pair.
                let _ = std::fs::rename(earlier, now);
            }
        }
    }

    /// Everything is as it was, but for machines that were moved or changed.
    fn mend(&mut self) {
        for (cluster, vmid) in std::mem::take(&mut self.by_hand) {
            self.cluster(cluster).remove_vm(vmid);
        }
        for name in CLUSTERS {
            let cluster = self.cluster(name);
            self.world.wait(cluster.set_dark(false));
            cluster.set_quorum(true);
            cluster.set_storage_online(images(name), true);
            nodes(name).iter().for_each(|node| cluster.power_node(node, NodePower::On));
        }
        // A machine that somebody carried away and left off is for its owner to start; here that is us.
        for instance in instances(&self.workspace).values() {
            for vm in self.world.copies(&instance.uuid).into_iter().filter(|vm| !vm.running && !vm.template) {
                // One whose volumes are short of something stays off; the next plan shows it.
                let _ = self.cluster(&vm.cluster).start(vm.vmid);
            }
        }
    }

    /// The user's edit. Returns extra words for plan.
    fn edit(&mut self) -> Vec<String> {
        let names: Vec<String> = self.vms.keys().cloned().collect();
        let existing: Vec<String> = instances(&self.workspace).into_keys().collect();
        let mut flags = Vec::new();
        match self.dice.roll(10) {
            0..=2 if names.len() < 5 => self.add(),
            3 if existing.len() > 1 => drop(self.vms.remove(&self.dice.pick(&existing))),
            4 if !existing.is_empty() => {
                let name = self.dice.pick(&existing);
                let memory = self.dice.pick(&["1GB", "2GB", "4GB"]);
                if let Some(vm) = self.vms.get_mut(&name) {
                    vm["memory"] = memory.into();
                }
            }
            5 if !existing.is_empty() => {
                let name = self.dice.pick(&existing);
                let cluster = self.dice.pick(&["worldstream-prod", "databarn-dr"]);
                if let Some(vm) = self.vms.get_mut(&name) {
                    vm["cluster"] = cluster.into();
                    vm["pool"] = "wide-pool".into();
                }
            }
            6 if !existing.is_empty() => {
                flags.push(format!("-replace={}", address(&self.dice.pick(&existing))));
            }
            7 if !existing.is_empty() => {
                let name = self.dice.pick(&existing);
                self.workspace.run(&["taint", &address(&name)]).expect(0);
            }
            8 if !names.is_empty() => {
                let name = self.dice.pick(&names);
                flags.push(format!("-target={}", address(&name)));
            }
            _ => {}
        }
        if self.vms.len() < 2 {
            self.add();
            self.add();
        }
        configure(&self.workspace, &json!(self.vms));
        flags
    }

    fn add(&mut self) {
        self.next += 1;
        let number = self.next;
        let name = self.dice.pick(&["web", "db", "app"]);
        let name = if self.dice.roll(3) == 0 { format!("{name}-x{number}x") } else { format!("{name}-{number}") };
        let mut vm = json!({ "pool": self.dice.pick(&["production-pool", "wide-pool", "wide-pool"]), "memory": "2GB" });
        if self.dice.roll(3) == 0 {
            vm["tags"] = json!(["database"]);
        }
        if self.dice.roll(6) == 0 {
            vm["cluster"] = "databarn-dr".into();
        }
        self.vms.insert(name, vm);
    }

    /// One pair; `false` where there was nothing to apply.
    fn pair(&mut self) -> bool {
        let mut flags = self.edit();
        if self.dice.roll(3) == 0 {
            flags.push(format!("-parallelism={}", self.dice.pick(&[1, 10])));
        }
        let before = instances(&self.workspace);
        let existing: Vec<String> = before.keys().cloned().collect();
        let many = 1 + self.dice.roll(2);
        let foreign: Vec<Foreign> = (0..many).map(|_| Foreign::any(&mut self.dice, &existing)).collect();
        let direct = self.dice.roll(3) == 0;
        // Nobody takes the folder away from under a command that waits for an answer.
        let foreign = match direct {
            true => foreign.into_iter().filter(|foreign| !foreign.is_folder()).collect(),
            false => foreign,
        };
        let reversed = self.dice.roll(6) == 0;
        let how = How { direct, flags, foreign, reversed };
        self.log.push(format!("{how:?} with {}", json!(self.vms)));
        let happened = if how.direct { self.direct(&how) } else { self.saved(&how) };
        let Some((plan, run)) = happened else {
            self.mend();
            return false;
        };
        self.judge(&how, &before, &plan, &run);
        self.mend();
        if self.dice.roll(2) == 0 {
            let refreshed = self.workspace.run(&["apply", "-input=false", "-auto-approve", "-refresh-only"]);
            self.ours(&refreshed.expect(0));
        }
        true
    }

    fn before_the_plan(&mut self, how: &How) {
        if how.reversed {
            how.foreign.iter().for_each(|foreign| self.befall(foreign));
        }
    }

    fn between(&mut self, how: &How) {
        if how.reversed {
            self.mend();
            if !how.direct {
                self.befall(&Foreign::FolderGone);
            }
        } else {
            how.foreign.iter().for_each(|foreign| self.befall(foreign));
        }
    }

    fn saved(&mut self, how: &How) -> Option<(BTreeMap<String, Shown>, Run)> {
        self.before_the_plan(how);
        let mut words = vec!["plan", "-input=false", "-detailed-exitcode", "-out=the.tfplan"];
        words.extend(how.flags.iter().map(String::as_str));
        let run = self.workspace.run(&words);
        self.ours(&run);
        if run.code != 2 {
            return None;
        }
        let plan = shown(&self.workspace, "the.tfplan");
        self.between(how);
        let parallelism = how.flags.iter().find(|flag| flag.starts_with("-parallelism"));
        let mut words = vec!["apply", "-input=false"];
        words.extend(parallelism.map(String::as_str));
        words.push("the.tfplan");
        let run = self.workspace.run(&words);
        // What another folder may hold one day.
        let (now, earlier) = (self.workspace.root().join(".terraform"), self.workspace.root().join("earlier"));
        if !earlier.exists() {
            let _ = std::fs::rename(now, earlier);
        }
        Some((plan, run))
    }

    /// The same in one command, which asks in between.
    fn direct(&mut self, how: &How) -> Option<(BTreeMap<String, Shown>, Run)> {
        self.before_the_plan(how);
        let mut words = vec!["apply", "-no-color"];
        words.extend(how.flags.iter().map(String::as_str));
        let mut command = self.workspace.command(&words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the CLI");
        let mut out = child.stdout.take().expect("its output");
        let mut said = Vec::new();
        let asked = loop {
            let mut some = [0; 4096];
            let read = out.read(&mut some).unwrap_or(0);
            said.extend_from_slice(&some[..read]);
            let end = &said[said.len().saturating_sub(64)..];
            if read == 0 || String::from_utf8_lossy(end).contains("Enter a value:") {
                break read > 0;
            }
        };
        let plan = shown_in_text(&String::from_utf8_lossy(&said));
        if asked {
            self.between(how);
            let mut to = child.stdin.take().expect("its input");
            to.write_all(b"yes\n").expect("an answer");
        }
        out.read_to_end(&mut said).expect("the rest");
        let end = child.wait_with_output().expect("its end");
        let run = Run {
            code: end.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&said).into_owned(),
            stderr: String::from_utf8_lossy(&end.stderr).into_owned(),
            command: format!("{:?} apply {}", self.workspace.cli().kind, how.flags.join(" ")),
        };
        self.ours(&run);
        asked.then_some((plan, run))
    }

    /// Whatever goes wrong is said by us.
    fn ours(&self, run: &Run) {
        assert_eq!(broken(&run.flat()), None, "{}\n{}\n{}", self.story(), run.command, run.text());
        let flat = run.flat();
        let by_us = ["State:", "No cluster can take", "can't", "is stale", "not supported"];
        assert!(
            run.code != 1 || by_us.iter().any(|said| flat.contains(said)),
            "an error that is not ours: {}\n{}\n{}",
            self.story(),
            run.command,
            run.text()
        );
    }

    fn story(&self) -> String {
        self.log.join("\n")
    }

    fn judge(&mut self, how: &How, before: &BTreeMap<String, Instance>, plan: &BTreeMap<String, Shown>, run: &Run) {
        self.ours(run);
        let after = instances(&self.workspace);
        let log = self.story();
        let story = || format!("{log}\n{plan:?}\nbefore {before:?}\nafter {after:?}\n{}", run.text());
        assert!([0, 1].contains(&run.code), "{}", story());
        for (name, instance) in &after {
            let tainted_by_user = before.get(name).is_some_and(|instance| instance.tainted);
            assert!(!instance.tainted || tainted_by_user, "{name} is tainted: {}", story());
        }
        let mut short = Vec::new();
        for (name, shown) in plan {
            let now = after.get(name);
            let was = before.get(name);
            let replaced = shown.actions.contains('+');
            let done = match (shown.stays(), now) {
                (false, now) => now.is_none(),
                (true, None) => false,
                (true, Some(now)) if replaced => was.is_none_or(|was| was.uuid != now.uuid),
                (true, Some(_)) => run.code == 0 || shown.actions == "create",
            };
            if !done {
                short.push(name.clone());
                continue;
            }
            let Some(now) = now else {
                let left = was.map(|was| self.world.copies(&was.uuid)).unwrap_or_default();
                assert!(left.is_empty(), "{name} was destroyed and is there: {left:?} {}", story());
                continue;
            };
            if let Some(cluster) = &shown.cluster {
                assert_eq!(&now.cluster, cluster, "{name} is not where its plan showed it: {}", story());
            }
            let copies = self.world.copies(&now.uuid);
            assert_eq!(copies.len(), 1, "{name}: {copies:?} {}", story());
            assert_eq!(copies[0].cluster, now.cluster, "{name} is not where state has it: {}", story());
        }
        // What was refused was not made: no machine of a planned name that state doesn't know.
        for name in short.iter().filter(|name| !after.contains_key(*name)) {
            let made = self.world.machines().into_iter().any(|machine| machine.ends_with(&format!("/{name}")));
            let carried_off = before.contains_key(name);
            assert!(!made || carried_off, "{name} was refused and made: {}", story());
        }
        assert_eq!(run.code == 0, short.is_empty(), "{short:?} {}", story());
        if run.code == 0 {
            self.exact += 1;
        } else {
            self.refused += 1;
            let flat = run.flat();
            let mut names: Vec<String> = how.foreign.iter().flat_map(Foreign::names).collect();
            // What a move can't carry (a change of an earlier pair that waits for a restart) is listed there.
            names.push("preflight refuses it".to_owned());
            // Core plans the removal of what left the configuration before it refreshes it: moved in an earlier pair, it is
            // refused in this one.
            names.push("somebody moved it to".to_owned());
            assert!(names.iter().any(|name| flat.contains(name)), "the refusal names none of {names:?}: {}", story());
        }
    }
}

fn series(cli: &Cli, seed: u64, pairs: usize) -> (usize, usize) {
    let world = World::from_yaml(&support::all_share_transfer()).expect("the world");
    let world = SimulatedWorld::start(world, Options { seed, ..Options::default() });
    let workspace = support::workspace(&world, cli, "platform", &json!({}));
    let mut series = Series {
        world: &world,
        workspace,
        dice: Dice(seed),
        vms: BTreeMap::new(),
        next: 0,
        log: Vec::new(),
        by_hand: Vec::new(),
        refused: 0,
        exact: 0,
    };
    let mut done = 0;
    let mut tries = 0;
    while done < pairs {
        tries += 1;
        assert!(tries < 4 * pairs, "too many plans without a change: {}", series.story());
        done += usize::from(series.pair());
    }
    series.workspace.destroy().expect(0);
    (series.exact, series.refused)
}

#[test]
fn plan_pairs() {
    let seed: u64 = std::env::var("MOXXIE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_125);
    let clis = clis();
    let todo = Mutex::new((0..PAIRS / PER_WORLD).collect::<Vec<_>>());
    let done = Mutex::new((0, 0));
    let worker = || {
        while let Some(index) = { todo.lock().expect("the list").pop() } {
            let seed = seed + index as u64;
            let said = std::panic::catch_unwind(|| series(&clis[index % clis.len()], seed, PER_WORLD));
            let Ok((exact, refused)) = said else { panic!("plan pairs: seed {seed}") };
            let mut done = done.lock().expect("the count");
            *done = (done.0 + exact, done.1 + refused);
        }
    };
    std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        for worker in workers {
            worker.join().expect("every pair to hold");
        }
    });
    let (exact, refused) = *done.lock().expect("the count");
    assert!(refused >= PAIRS / 10, "only {refused} were refused: the changes in between don't bite");
    println!("plan pairs: {}, inconsistent: 0 (exact {exact}, refused {refused})", exact + refused);
}
