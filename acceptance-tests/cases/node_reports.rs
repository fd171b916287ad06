//! What running Proxmox VE's own code showed, where a user meets it: starts that fail, nodes that say nothing.
use std::time::Duration;

use harness::{SimulatedWorld, clis};
use serde_json::json;
use simulator::{Action, Rule};

use crate::support::{configure, sound, workspace};

const PROD: &str = "worldstream-prod";

/// What Proxmox VE says when QEMU can't start: its whole command line.
fn forty_lines() -> String {
    let devices = "-device virtio-scsi-pci,id=scsihw0,bus=pci.0,addr=0x5 ".repeat(60);
    format!(
        "start failed: command '/usr/bin/kvm -id 100 -name 'api,debug-threads=on' {devices}-machine 'type=pc+pve1'' failed: got timeout"
    )
}

#[test]
fn after_a_first_start_that_failed_the_next_plan_starts_it_and_the_error_is_short() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = json!({ "api": { "pool": "production-pool", "cluster": PROD, "tags": ["one"] } });
        let own = workspace(&world, &cli, "app", &vm);
        world.fault(Rule::on("POST", "*/status/start", Action::FailTask { message: forty_lines(), late: false }));
        let made = sound(own.apply()).expect(0).says("Unable to start the virtual machine").says("UPID:");
        let made = made.says("command '/usr/bin/kvm …' failed: got timeout").never_says("virtio-scsi-pci");
        assert!(made.text().len() < 8_000, "{}", made.text());
        // At once, while the overview says no more than "unknown".
        sound(own.plan()).expect(2).says("started");
        world.clear_faults();
        sound(own.apply()).expect(0);
        assert!(world.vm(PROD, "api").running);
        sound(own.plan()).expect(0);
    }
}

#[test]
fn machines_of_a_node_that_tells_nothing_any_more_stay_what_they_are() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let vm = json!({ "api": { "pool": "production-pool", "cluster": PROD } });
        let own = workspace(&world, &cli, "app", &vm);
        sound(own.apply()).expect(0);
        world.advance(Duration::from_secs(60));
        let node = world.vm(PROD, "api").node;
        world.cluster(PROD).set_silent(&node, true);
        for minutes in [2, 10] {
            world.advance(Duration::from_secs(60 * minutes));
            sound(own.plan()).expect(0);
        }
        // It is managed as before, and its name is not free.
        configure(&own, &json!({ "api": { "pool": "production-pool", "cluster": PROD, "tags": ["two"] } }));
        sound(own.apply()).expect(0);
        assert_eq!(world.vm(PROD, "api").config["tags"], "two");
        // One workspace at a time: each holds a place among the runs of the CLI.
        let files = own.files();
        drop(own);
        let other = workspace(&world, &cli, "app", &vm);
        sound(other.apply()).expect(1).says("has this name already");
        drop(other);
        let own = workspace(&world, &cli, "app", &vm);
        let state = files.iter().find(|(path, _)| path.ends_with("terraform.tfstate")).expect("a state");
        own.write("terraform.tfstate", &state.1);
        sound(own.destroy()).expect(0);
        world.assert_clean();
    }
}
