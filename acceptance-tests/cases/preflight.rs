//! What is checked before a machine is touched: each finding is said at plan, refuses apply with nothing touched, and goes when it
//! is mended or its loss accepted.
mod ha;
mod hardware;
mod idle;
mod mount;
mod network;
mod replication;
mod window;

use std::sync::OnceLock;

use crate::moving::{FROM, GONE, Machine, NAME, TO, YAML};
use harness::{Cli, SimulatedWorld, Workspace, clis};
use simulator::{ClusterHandle, GuestSpec, VmSnapshot};

fn cli() -> Cli {
    clis().remove(0)
}

fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(|| Machine::made_by(&cli()))
}

/// A world with the machine, and a workspace that wants it moved.
struct Scene {
    world: SimulatedWorld,
    workspace: Workspace,
    source: ClusterHandle,
    target: ClusterHandle,
    vmid: u32,
    before: VmSnapshot,
}

impl Scene {
    /// `edit`: of the federation file.
    fn with(cli: &Cli, migration: &str, edit: impl Fn(&str) -> String) -> Scene {
        Scene::of("platform", cli, migration, edit)
    }

    /// With the token of `role`.
    fn of(role: &str, cli: &Cli, migration: &str, edit: impl Fn(&str) -> String) -> Scene {
        let scene = Scene::in_world(machine().world(), role, cli, migration);
        scene.workspace.write("multi-site.yaml", edit(YAML));
        scene
    }

    fn in_world(world: SimulatedWorld, role: &str, cli: &Cli, migration: &str) -> Scene {
        let workspace = machine().moving(&world, cli, role, migration);
        let before = world.vm(FROM, NAME);
        let (source, target) = (world.cluster(FROM), world.cluster(TO));
        Scene { world, workspace, source, target, vmid: machine().vmid(), before }
    }

    fn new() -> Scene {
        Scene::with(&cli(), GONE, str::to_owned)
    }

    /// The plan says all of `words`, apply refuses with them, and nothing is touched.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        self.world.clear_requests();
        let plan = self.workspace.plan().expect(2);
        let apply = self.workspace.apply().expect(1).says("nothing was touched");
        for word in words {
            assert!(plan.flat().contains(word), "plan doesn't say {word:?}: {}", plan.text());
            assert!(apply.flat().contains(word), "apply doesn't say {word:?}: {}", apply.text());
        }
        assert_eq!(self.world.writes(), Vec::<String>::new());
    }

    /// The machine is on the target, whole, and nothing is to be done.
    #[track_caller]
    fn moved(&self) {
        self.workspace.apply().expect(0);
        self.workspace.plan().expect(0);
        let newest = self.world.newest_written(&machine().uuid());
        let wrong = machine().settled_on(&self.world, &self.before, TO, newest, false);
        assert_eq!(wrong, Vec::<String>::new());
    }
}
