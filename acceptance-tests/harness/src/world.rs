//! Owns a simulated federation that a test drives and a workspace reaches.
use std::ops::Deref;

use simulator::{Options, Pace, Simulator, World};

use crate::cli::Cli;
use crate::workspace::Workspace;

/// A running simulator with the runtime it runs in; both end when dropped.
#[derive(Debug)]
pub struct SimulatedWorld {
    sim: Option<Simulator>,
    runtime: tokio::runtime::Runtime,
}

impl Deref for SimulatedWorld {
    type Target = Simulator;

    fn deref(&self) -> &Simulator {
        // Taken out on drop alone.
        self.sim.as_ref().expect("a world that was not dropped")
    }
}

impl Drop for SimulatedWorld {
    fn drop(&mut self) {
        let _inside = self.runtime.enter();
        drop(self.sim.take());
    }
}

impl SimulatedWorld {
    /// The guide's scenario 1: three sites, of which the first two share a transfer storage. Time is stepped.
    ///
    /// # Panics
    /// When it can't start: no socket, no folder.
    pub fn three_sites() -> SimulatedWorld {
        SimulatedWorld::start(World::three_sites().expect("the world of three sites"), Options::default())
    }

    /// The same with time that goes by by itself: `scale` seconds of the clusters per real second.
    ///
    /// # Panics
    /// As [`SimulatedWorld::three_sites`].
    pub fn three_sites_at(scale: f64) -> SimulatedWorld {
        let options = Options { clock: Pace::Wall { scale }, ..Options::default() };
        SimulatedWorld::start(World::three_sites().expect("the world of three sites"), options)
    }

    /// Any world.
    ///
    /// # Panics
    /// When it can't start.
    pub fn start(world: World, options: Options) -> SimulatedWorld {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime for the simulator");
        let sim = runtime.block_on(Simulator::start(world, options)).expect("the simulated world");
        SimulatedWorld { sim: Some(sim), runtime }
    }

    /// Waits for something of the simulator's.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Name of the environment variable that holds the token of a cluster.
    pub fn token_variable(cluster: &str) -> String {
        format!("MOXXIE_TOKEN_{}", cluster.to_uppercase().replace('-', "_"))
    }

    /// The tokens of `role` by the environment variable that is to hold them.
    ///
    /// # Panics
    /// When a cluster has no such role.
    pub fn tokens(&self, role: &str) -> Vec<(String, String)> {
        let token = |name: &str| self.cluster(name).token(role).unwrap_or_else(|| panic!("{name} has no token {role}"));
        self.clusters().iter().map(|c| (SimulatedWorld::token_variable(c.name()), token(c.name()))).collect()
    }

    /// Connections to every cluster, as the value of the provider block's `clusters`. No secret is in it.
    pub fn connections(&self) -> serde_json::Value {
        let connection = |cluster: &simulator::ClusterHandle| {
            serde_json::json!({
                "endpoints": [cluster.url()],
                "api_token_env": SimulatedWorld::token_variable(cluster.name()),
                "fingerprints": [cluster.fingerprint()],
            })
        };
        self.clusters().iter().map(|cluster| (cluster.name().to_owned(), connection(cluster))).collect()
    }

    /// A workspace whose environment holds the tokens of `role`, and whose variable `clusters` the connections.
    pub fn workspace(&self, cli: &Cli, provider: &std::path::Path, role: &str) -> Workspace {
        let mut workspace = Workspace::new(cli, provider);
        for (variable, token) in self.tokens(role) {
            workspace.env(&variable, &token);
        }
        let variables = serde_json::json!({ "clusters": self.connections() });
        workspace.write("world.auto.tfvars.json", variables.to_string());
        workspace
    }

    /// The virtual machine of this name on a cluster.
    ///
    /// # Panics
    /// When there is not exactly one.
    #[track_caller]
    pub fn vm(&self, cluster: &str, name: &str) -> simulator::VmSnapshot {
        let vms = self.cluster(cluster).vms();
        let mut found: Vec<_> = vms.into_iter().filter(|vm| vm.config.get("name").is_some_and(|n| n == name)).collect();
        assert_eq!(found.len(), 1, "{cluster} has {} machines called {name}", found.len());
        found.remove(0)
    }

    /// All virtual machines, as `cluster/name`.
    pub fn machines(&self) -> Vec<String> {
        let mut all = Vec::new();
        for cluster in self.clusters() {
            for vm in cluster.vms() {
                let name = vm.config.get("name").cloned().unwrap_or_else(|| format!("?{}", vm.vmid));
                all.push(format!("{}/{name}", cluster.name()));
            }
        }
        all.sort();
        all
    }

    /// Panics unless nothing is left: no machine, no litter.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.machines(), Vec::<String>::new(), "machines are left");
        assert_eq!(self.litter(), Vec::<String>::new(), "litter is left");
    }

    /// Write requests since the log was cleared: method and path.
    pub fn writes(&self) -> Vec<String> {
        let all = self.requests();
        let writes = all.iter().filter(|request| request.method != "GET");
        writes.map(|request| format!("{} {} {}", request.cluster, request.method, request.path)).collect()
    }
}
