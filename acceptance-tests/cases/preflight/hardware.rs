//! What the target's nodes have to have: room, and a QEMU that is new enough (operations-review 35).
use super::*;

const NODES: [&str; 3] = ["db1", "db2", "db3"];

#[test]
fn a_thin_pool_that_could_fill_up_is_refused_whatever_was_given_out() {
    let no_reserve = |yaml: &str| {
        yaml.replace("primary_storage: zfs-pool", "primary_storage: zfs-pool\n    # none kept").replace(
            "    tags: [disaster-recovery, secondary]",
            "    tags: [disaster-recovery, secondary]\n    reserve: { storage: 0 }",
        )
    };
    let scene = Scene::with(&cli(), GONE, no_reserve);
    // 20 TiB but 10 GiB: placement gives out half as much again, and the machine's disks may grow to 12 GiB.
    let config = [("name", "big"), ("scsi0", "zfs-pool:20470")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let guest = |node: &str, vmid| GuestSpec {
        vmid,
        node: node.into(),
        config: config.clone().into(),
        pool: None,
        running: false,
    };
    for (node, vmid) in NODES.into_iter().zip(900..) {
        scene.target.create_vm(&guest(node, vmid)).expect("a guest");
    }
    scene.refused(&["storage_space", "zfs-pool really has 10 GiB free", "grow to 12 GiB"]);
    // Where one node has room, it goes there.
    scene.target.remove_vm(902);
    scene.moved();
    assert_eq!(scene.world.vm(TO, NAME).node, "db3");
}

#[test]
fn a_machine_type_newer_than_the_targets_qemu_is_refused() {
    let scene = Scene::new();
    scene.source.set_config(scene.vmid, "machine", Some("pc-q35-9.2+pve1"));
    for node in NODES {
        scene.target.set_newest_machine(node, "9.0");
    }
    scene.workspace.edit("main.tf", "memory      = ", "machine     = \"pc-q35-9.2+pve1\"\n  memory      = ");
    scene.refused(&["machine_type", "knows machine types up to 9.0, the machine is pinned to pc-q35-9.2+pve1"]);
    for node in NODES {
        scene.target.set_newest_machine(node, "9.2");
    }
    scene.moved();
}

/// Without the right to ask the agent a machine that is well would look unwell, past the point of no return.
#[test]
fn an_agent_that_the_token_may_not_ask_is_refused_before_anything_is_touched() {
    let scene = Scene::of("app", &cli(), GONE, str::to_owned);
    scene.workspace.edit("main.tf", GONE, &format!("{GONE}, health = {{ agent = true }}"));
    // The target is of 9; before that it is VM.Monitor.
    scene.refused(&["the token lacks VM.GuestAgent.Audit on /pool/production-pool"]);
}
