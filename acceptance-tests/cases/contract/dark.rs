//! A cluster that does not answer, or shows only a part of itself: the others go on.
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{SimulatedWorld, Workspace, clis};
use serde_json::json;

use crate::sound;
use crate::support::{address, configure, instances, shown, workspace};

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

#[test]
fn a_dark_cluster_costs_one_look_and_one_warning_and_the_others_go_on() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = workspace(&world, &cli, "app", &machines());
        workspace.apply().expect(0);
        let before = instances(&workspace);
        let silence = Silence::begin();
        silence.stands_for_it(&world, &workspace);

        let run = sound(workspace.plan()).expect(0).says("Machines of cluster databarn-dr are not refreshed");
        // A look at a cluster is two calls at once; who found it dark doesn't look again, for however many machines.
        assert!((1..=2).contains(&silence.take()), "one look for all machines of a process");
        // The same summary for all of them, so that core shows one and counts the others.
        let said = run.flat().matches("Machines of cluster databarn-dr are not refreshed").count();
        assert_eq!(said, 1, "{}", run.text());
        drop(run.says("2 more similar warnings"));

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
