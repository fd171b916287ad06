//! A cluster that does not answer, or shows only a part of itself: the others go on.
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Run, SimulatedWorld, Workspace, clis};
use serde_json::json;
use simulator::{Options, World};

use super::sound;
use crate::support::{PROVIDER, address, configure, instances, shown, workspace};

const PLATFORM: &str = include_str!("../teams/platform.tf");
const DARK: &str = "databarn-dr";

/// An address that takes connections and never says a word; it counts them.
struct Silence {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Silence {
    fn begin() -> Silence {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let port = listener.local_addr().expect("its address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for connection in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                open.push(connection);
            }
        });
        Silence { port, connections }
    }

    /// Has [`DARK`] be there, for this workspace.
    fn stands_for_it(&self, world: &SimulatedWorld, workspace: &Workspace) {
        let mut clusters = world.connections();
        clusters[DARK]["endpoints"] = json!([format!("https://127.0.0.1:{}", self.port)]);
        clusters[DARK]["connect_timeout"] = json!("300ms");
        workspace.write("world.auto.tfvars.json", json!({ "clusters": clusters }).to_string());
    }

    fn take(&self) -> usize {
        self.connections.swap(0, Ordering::SeqCst)
    }
}

/// Three machines on the dark cluster, one elsewhere.
fn machines() -> serde_json::Value {
    let on = |cluster: &str| json!({ "pool": "production-pool", "cluster": cluster });
    json!({ "db-1": on(DARK), "db-2": on(DARK), "db-3": on(DARK), "api": on("worldstream-prod") })
}

/// That the provider is under test is one warning, the dark cluster another: with all that it stops, and alone.
#[track_caller]
fn one_warning(run: &Run) {
    let flat = run.flat();
    assert_eq!(flat.matches("Warning: ").count(), 2, "{}", run.text());
    assert_eq!(flat.matches("Warning: Cluster databarn-dr does not answer").count(), 1, "{}", run.text());
    assert!(!flat.contains("similar warning"), "{}", run.text());
    for stopped in [
        "Its machines, its pools and its own record are not refreshed",
        "Nothing new is placed there",
        "changed or destroyed",
    ] {
        assert!(flat.contains(stopped), "{}", run.text());
    }
}

/// Everything that a platform team has: clusters, pools with a machine, and machines that two pools and no pool hold.
#[test]
fn a_dark_cluster_is_one_warning_for_clusters_pools_and_machines_together() {
    for cli in clis() {
        let mut world = World::three_sites().expect("the world of three sites");
        world.clusters.values_mut().for_each(|cluster| cluster.pools.clear());
        let world = SimulatedWorld::start(world, Options::default());
        let workspace = world.workspace(&cli, Path::new(PROVIDER), "platform");
        let more: String = ["one", "two"]
            .map(|name| {
                format!(
                    "resource \"moxxie_virtual_machine\" \"{name}\" {{\n  name = \"{name}\"\n  cluster = moxxie_cluster.dr.name\n  \
                     disks = {{ scsi0 = {{ size = \"2GB\", storage = \"fast\" }} }}\n}}\n"
                )
            })
            .concat();
        workspace.write("main.tf", format!("{PLATFORM}{more}"));
        sound(workspace.apply()).expect(0);
        sound(workspace.plan()).expect(0);
        let silence = Silence::begin();
        silence.stands_for_it(&world, &workspace);
        one_warning(&sound(workspace.plan()).expect(0));
        assert!((1..=2).contains(&silence.take()), "one look for everything of a process");
        // Two that are dark are two.
        world.wait(world.cluster("hetzner-edge").set_dark(true));
        let run = sound(workspace.plan()).expect(0);
        assert_eq!(run.flat().matches("does not answer").count(), 2, "{}", run.text());
        world.wait(world.cluster("hetzner-edge").set_dark(false));
        workspace.write("world.auto.tfvars.json", json!({ "clusters": world.connections() }).to_string());
        sound(workspace.destroy()).expect(0);
        world.assert_clean();
    }
}

#[test]
fn a_dark_cluster_costs_one_look_and_one_warning_and_the_others_go_on() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app", &machines());
        workspace.apply().expect(0);
        let before = instances(&workspace);
        let silence = Silence::begin();
        silence.stands_for_it(&world, &workspace);

        let run = sound(workspace.plan()).expect(0);
        // A look at a cluster is two calls at once; who found it dark doesn't look again, for however many machines.
        assert!((1..=2).contains(&silence.take()), "one look for all machines of a process");
        one_warning(&run);

        // A new one goes where somebody answers, whatever its weights say; one that is pinned there goes nowhere.
        let mut wanted = machines();
        for n in 1..=5 {
            wanted[format!("web-{n}")] = json!({ "pool": "production-pool" });
        }
        configure(&workspace, &wanted);
        sound(workspace.plan_to("the.tfplan")).expect(2);
        let placed = shown(&workspace, "the.tfplan");
        assert_eq!(placed.len(), 5);
        assert!(placed.values().all(|shown| shown.cluster.as_deref() == Some("worldstream-prod")), "{placed:?}");
        sound(workspace.apply_plan("the.tfplan")).expect(0);
        wanted["db-4"] = json!({ "pool": "production-pool", "cluster": DARK });
        configure(&workspace, &wanted);
        sound(workspace.plan()).expect(1).says("No cluster can take virtual machine db-4").says(DARK);

        // Nothing moves away from it or to it, and nobody is created a second time.
        let mut wanted = machines();
        wanted["db-1"]["cluster"] = json!("worldstream-prod");
        wanted["api"]["cluster"] = json!(DARK);
        configure(&workspace, &wanted);
        silence.take();
        world.clear_requests();
        let run = workspace.run(&[
            "apply",
            "-input=false",
            "-auto-approve",
            "-target",
            &address("db-1"),
            "-target",
            &address("api"),
        ]);
        drop(sound(run).expect(1).says(DARK).says("touched"));
        assert_eq!(world.writes(), Vec::<String>::new());
        assert_eq!(instances(&workspace)["db-1"], before["db-1"]);
        assert_eq!(instances(&workspace)["api"], before["api"]);

        // The rest can be destroyed; what is on it stays in state.
        configure(&workspace, &machines());
        sound(workspace.destroy()).expect(1).says(DARK);
        let left = instances(&workspace);
        assert_eq!(left.keys().collect::<Vec<_>>(), ["db-1", "db-2", "db-3"]);
        workspace.write("world.auto.tfvars.json", json!({ "clusters": world.connections() }).to_string());
        sound(workspace.plan()).expect(2).says("1 to add, 0 to change, 0 to destroy");
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}
