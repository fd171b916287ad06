//! What the target's nodes have to have: room, and a QEMU that is new enough (hazards.md OR 35).
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

/// Everything that ties a machine to its node, and what of it the finding says.
const TIES: [(&str, &str, &str); 17] = [
    ("scsi5", "/dev/disk/by-id/ata-X1,size=4G", "scsi5 is /dev/disk/by-id/ata-X1"),
    ("sata3", "cdrom,media=cdrom", "sata3 is the CD drive of its node"),
    ("virtiofs0", "dirid=share", "virtiofs0 shares the directory share of its node"),
    ("hostpci0", "mapping=gpu", "hostpci0 = mapping=gpu"),
    ("hostpci1", "0000:01:00.0,pcie=1", "hostpci1 = 0000:01:00.0,pcie=1"),
    ("usb0", "host=1234:5678", "usb0 = host=1234:5678"),
    ("usb1", "mapping=key", "usb1 = mapping=key"),
    ("serial1", "/dev/ttyS0", "serial1 = /dev/ttyS0"),
    ("parallel0", "/dev/parport0", "parallel0 = /dev/parport0"),
    ("rng0", "source=/dev/hwrng", "rng0 takes its numbers from /dev/hwrng"),
    ("vga", "virtio-gl,memory=64", "vga is virtio-gl"),
    ("ivshmem", "size=32,name=foo", "ivshmem shares memory"),
    ("affinity", "0,200-203", "affinity binds it to processors that"),
    ("numa0", "cpus=0-1,hostnodes=1,memory=1024,policy=bind", "numa0 binds it to the NUMA nodes 1"),
    ("hugepages", "1024", "hugepages needs pdpe1gb"),
    ("amd-sev", "type=snp", "amd-sev needs sev_snp"),
    ("args", "-drive file=/dev/sdz,if=none", "args names /dev/sdz"),
];

#[test]
fn what_ties_a_machine_to_its_node_is_refused_at_plan_by_name() {
    let scene = Scene::new();
    for (key, value, _) in TIES {
        scene.source.set_config(scene.vmid, key, Some(value));
    }
    let words: Vec<&str> = TIES.iter().map(|(_, _, words)| *words).collect();
    scene.refused(&words);
    for (key, _, _) in TIES {
        scene.source.set_config(scene.vmid, key, None);
    }
    // What only looks like it is carried.
    for (key, value) in [("rng0", "source=/dev/urandom"), ("serial0", "socket"), ("affinity", "0-1"), ("vga", "qxl")] {
        scene.source.set_config(scene.vmid, key, Some(value));
    }
    scene.source.set_config(scene.vmid, "numa0", Some("cpus=0,hostnodes=0,memory=1024"));
    scene.moved();
    let there = scene.world.vm(TO, NAME).config;
    assert_eq!((there["rng0"].as_str(), there["affinity"].as_str()), ("source=/dev/urandom", "0-1"));
}
