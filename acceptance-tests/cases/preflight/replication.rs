//! Replication of a source that goes (hazards.md OR 26; proxmox-ve.md §10.4).
use simulator::{Action, Nth, Rule};

use super::*;
use crate::moving::RETURNED;

#[test]
fn replication_of_a_source_that_is_removed_ends_right_before_that_and_not_earlier() {
    for cli in clis() {
        let scene = Scene::with(&cli, GONE, str::to_owned);
        scene.source.replicate(scene.vmid, "ws2");
        scene.workspace.plan().expect(2).says("Replication ends with the source").says("100-0");
        let (source, vmid) = (scene.source.clone(), scene.vmid);
        let started = std::sync::Arc::new(std::sync::Mutex::new(None));
        let seen = started.clone();
        let look = move |_: &simulator::Matched| *seen.lock().expect("it") = Some(source.is_replicated(vmid));
        scene.world.fault(Rule::on("POST", "/nodes/*/status/start", Action::call(look)).cluster(TO));
        scene.moved();
        assert_eq!(*started.lock().expect("it"), Some(true), "while the source could still become the machine again");
        assert!(!scene.source.is_replicated(scene.vmid));
    }
}

#[test]
fn a_machine_that_returns_to_its_source_is_replicated_as_before() {
    let scene = Scene::with(&cli(), RETURNED, str::to_owned);
    scene.source.replicate(scene.vmid, "ws2");
    scene.workspace.apply();
    assert!(scene.world.vm(FROM, NAME).running);
    assert!(scene.source.is_replicated(scene.vmid));
}

#[test]
fn a_job_that_cant_be_removed_keeps_the_fenced_source_and_the_next_apply_finishes() {
    let scene = Scene::new();
    scene.source.replicate(scene.vmid, "ws2");
    let refuse = Action::Refuse(500, "out of order".into());
    scene.world.fault(Rule::on("DELETE", "/cluster/replication/*", refuse).cluster(FROM).nth(Nth::Only(1)));
    scene.workspace.apply().expect(1).says("replication job 100-0 can't be removed").says("out of order");
    let source = scene.world.vm(FROM, NAME);
    assert!(source.template && scene.world.vm(TO, NAME).running, "{}", crate::moving::in_words(&source));
    scene.workspace.plan().expect(2).says("unfinished operation");
    scene.moved();
}

#[test]
fn a_token_that_cant_end_replication_is_refused() {
    let scene = Scene::of("app", &cli(), GONE, str::to_owned);
    scene.source.replicate(scene.vmid, "ws2");
    scene.refused(&["replication", "VM.Replicate on /vms/100", "100-0"]);
    scene.source.grant("app@pve", "/vms/100", "PVEVMAdmin").expect("a role");
    scene.moved();
}
