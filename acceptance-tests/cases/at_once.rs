//! Two people apply at the same time, each in a folder of their own: nothing of what both want clashes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::support::{self, broken, workspace, yaml};
use harness::{SimulatedWorld, Workspace, clis};
use serde_json::{Value, json};
use simulator::VmSnapshot;

/// Machines in each of the two folders.
const EACH: usize = 50;
/// Names that both folders have.
const BOTH: usize = 5;
/// The pool's limit: fewer than the names.
const LIMIT: usize = 70;

fn wanted(team: &str) -> Value {
    let machine = || json!({ "pool": "wide-pool", "memory": "512MB", "disk": "1GB" });
    let own = (BOTH + 1..=EACH).map(|n| (format!("{team}-{n:02}"), machine()));
    let shared = (1..=BOTH).map(|n| (format!("both-{n}"), machine()));
    own.chain(shared).collect::<serde_json::Map<_, _>>().into()
}

fn limited() -> String {
    let clusters = "clusters: [worldstream-prod, databarn-dr, hetzner-edge]\n";
    assert!(yaml().contains(clusters), "the file has changed");
    yaml().replacen(clusters, &format!("{clusters}    limits: {{ max_vms: {LIMIT} }}\n"), 1)
}

/// The machines of the pool, on all clusters.
fn machines(world: &SimulatedWorld) -> Vec<VmSnapshot> {
    world
        .clusters()
        .iter()
        .flat_map(|cluster| cluster.vms())
        .filter(|vm| vm.pool.as_deref() == Some("wide-pool"))
        .collect()
}

/// Operations that are open.
fn operations(world: &SimulatedWorld) -> Vec<String> {
    let pools = world.clusters().into_iter().flat_map(|cluster| cluster.pools().into_keys());
    pools.filter(|pool| pool.starts_with("moxxie-moves/")).collect()
}

/// Applies both plans at once and says what each printed, and its exit code.
fn at_once(workspaces: &[Workspace]) -> Vec<(i32, String)> {
    let apply = ["apply", "-input=false", "-no-color", "plan"];
    let mut children: Vec<_> = workspaces.iter().map(|workspace| workspace.start(&apply, "apply")).collect();
    let deadline = Instant::now() + Duration::from_secs(900);
    let codes = children.iter_mut().map(|child| {
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                return status.code().unwrap_or(-1);
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("an apply doesn't come to an end");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let codes: Vec<i32> = codes.collect();
    codes.into_iter().zip(workspaces).map(|(code, workspace)| (code, workspace.output("apply"))).collect()
}

#[test]
fn a_hundred_machines_from_two_processes_clash_in_no_name_vmid_or_limit() {
    let world = SimulatedWorld::three_sites();
    let clis = clis();
    // With two CLIs one of each, as two teams may have.
    let workspaces: Vec<Workspace> = ["a", "b"]
        .into_iter()
        .zip(clis.iter().cycle())
        .map(|(team, cli)| {
            let workspace = workspace(&world, cli, "platform", &wanted(team));
            workspace.write("multi-site.yaml", limited());
            workspace.plan_to("plan").expect(2);
            workspace
        })
        .collect();
    let outcomes = at_once(&workspaces);
    let made = machines(&world);
    let calls = world.requests().len();
    println!("two at once: {} machines of {} wanted, limit {LIMIT}, {calls} calls", made.len(), 2 * EACH);
    for (code, text) in &outcomes {
        assert_eq!(broken(text), None, "{text}");
        assert_eq!(*code, 1, "more is wanted than there is place for\n{text}");
    }
    let said: String = outcomes.iter().map(|(_, text)| text.as_str()).collect();
    assert!(said.contains("max_vms"), "who got no place is told why\n{said}");
    assert_eq!(made.len(), LIMIT, "the pool is filled to its limit, and no further");
    unique(&made, "name", |vm| vm.config["name"].clone());
    unique(&made, "vmid", |vm| vm.vmid);
    unique(&made, "UUID", |vm| vm.uuid.clone());
    assert_eq!(operations(&world), Vec::<String>::new());
    let in_state: usize = workspaces.iter().map(|workspace| support::instances(workspace).len()).sum();
    assert_eq!(in_state, LIMIT, "each machine is somebody's");
    // What each team has is what its plan says it has; only what found no place is still wanted, and refused by name.
    for workspace in &workspaces {
        let has = support::instances(workspace);
        let vms: serde_json::Map<String, Value> = wanted("a")
            .as_object()
            .into_iter()
            .chain(wanted("b").as_object())
            .flatten()
            .filter(|(name, _)| has.contains_key(*name))
            .map(|(name, vm)| (name.clone(), vm.clone()))
            .collect();
        support::configure(workspace, &vms.into());
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
    }
    assert_eq!(machines(&world).len(), 0);
    assert_eq!(operations(&world), Vec::<String>::new());
}

fn unique<T: Ord + std::fmt::Debug>(vms: &[VmSnapshot], what: &str, key: impl Fn(&VmSnapshot) -> T) {
    let mut by: BTreeMap<T, BTreeSet<String>> = BTreeMap::new();
    for vm in vms {
        by.entry(key(vm)).or_default().insert(format!("{}/{}", vm.cluster, vm.vmid));
    }
    let twice: Vec<_> = by.iter().filter(|(_, at)| at.len() > 1).collect();
    assert!(twice.is_empty(), "one {what} twice: {twice:?}");
    assert_eq!(by.len(), vms.len());
}
