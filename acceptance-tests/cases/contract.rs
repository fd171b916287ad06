//! The gates of the contract between plan and apply, through the real CLIs; the number in a name is the gate's.

mod dark;
mod drift;
mod identity;
mod leaving;
mod pinning;
mod pools;
mod removal;
mod runs;

use crate::support::{by_hand, nodes, sound};
use harness::{SimulatedWorld, Workspace};

/// Fills the memory of every node of a cluster with machines of somebody else.
fn fill(world: &SimulatedWorld, cluster: &str) {
    for (index, node) in nodes(cluster).iter().enumerate() {
        let vmid = 9000 + u32::try_from(index).unwrap_or(0);
        let guest = by_hand(vmid, node, &format!("foreign-{index}"), 510 * 1024, None);
        world.cluster(cluster).create_vm(&guest).expect("a machine made by hand");
    }
}

/// Takes them away again.
fn empty(world: &SimulatedWorld, cluster: &str) {
    (9000..9003).for_each(|vmid| world.cluster(cluster).remove_vm(vmid));
}

/// The exit codes of a normal and of a refresh-only plan.
#[track_caller]
fn drift(workspace: &Workspace) -> (i32, i32) {
    let normal = sound(workspace.plan());
    let words = ["plan", "-input=false", "-detailed-exitcode", "-refresh-only"];
    let refresh_only = sound(workspace.run(&words));
    for run in [&normal, &refresh_only] {
        assert_ne!(run.code, 1, "{}\n{}", run.command, run.text());
    }
    (normal.code, refresh_only.code)
}
