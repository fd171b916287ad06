//! Machines of a site that is declared lost: Read says where they are recovered, the plan takes it from there and from nowhere else.
use std::time::Duration;

use protocol::Value;
use protocol::testing::{CoreClient, State};

use super::moves::{made, planned, proposes, read};
use super::says;
use super::support::{TYPE, World};

const YAML: &str = include_str!("../../../../acceptance-tests/cases/main_job/multi-site.yaml");
const LOST: &str = "worldstream-prod";

/// A provider that is told that the site is lost.
async fn told(world: &World, name: &str, yaml: &str) -> CoreClient {
    let block = world.block_of(name, yaml).with_attr("lost_clusters", Value::list([LOST]));
    let core = world.unconfigured().await;
    let said = core.configure(block).await.expect("an answer");
    assert!(!said.has_errors(), "{said:?}");
    core
}

/// Machines whose site is gone since their backup.
async fn lost(world: &World, names: &[&str]) -> Vec<(Value, State)> {
    let machines = made(world, names).await;
    let site = world.sim.cluster(LOST);
    site.schedule_backup("nightly", Some("production-pool"), "transfer", Duration::ZERO);
    world.sim.advance(Duration::from_secs(7200));
    assert_eq!(site.archives("transfer").len(), names.len(), "{:?}", site.newest_log("vzdump"));
    site.set_dark(true).await;
    machines
}

#[tokio::test]
async fn a_recovery_is_planned_whatever_the_facts_say_by_then_and_never_becomes_a_move() {
    let world = World::start().await;
    let machines = lost(&world, &["gone-1"]).await;
    let reader = told(&world, "lost.yaml", YAML).await;
    let (states, said) = read(&reader, &machines).await;
    assert!(proposes(&states[0]), "{said:?}");
    assert_eq!(states[0].value, machines[0].1.value, "it stays in state as it was");
    let config = &machines[0].0;
    assert_eq!(planned(&reader, config, &states[0]).await, "databarn-dr");

    // The site answers by then: the same plan, and apply refuses it with nothing touched.
    world.sim.cluster(LOST).set_dark(false).await;
    let again = told(&world, "again.yaml", YAML).await;
    let plan = again.plan(TYPE, &states[0], config).await.expect("a plan");
    assert_eq!(super::cluster(&plan), "databarn-dr");
    world.sim.clear_requests();
    let refused = again.apply(TYPE, &states[0], config, &plan).await.expect("an answer");
    assert!(says(&refused.diagnostics, "answers again"), "{:?}", refused.diagnostics);
    assert_eq!((refused.violations, refused.tainted), (Vec::new(), false));
    assert!(world.sim.requests().iter().all(|call| call.method == "GET"), "{:?}", world.sim.requests());
    // A refresh takes the proposal back, byte for byte.
    let (back, said) = read(&again, &[(Value::Null, states[0].clone())]).await;
    assert!(says(&said, "is declared lost, and answers"), "{said:?}");
    assert_eq!(back[0].private, machines[0].1.private);
}

/// Two storages hold backups, and in the target each is read by a node in a zone of its own: a file's age is its name there, read as
/// local time.
#[tokio::test]
async fn the_newest_backup_is_the_newest_in_whatever_zones_it_is_read() {
    let mut plan = simulator::World::three_sites().expect("a world");
    let second = serde_json::json!({ "type": "nfs", "content": ["backup"], "capacity": "1TiB", "server": "10.9.9.9", "export": "/b" });
    for (name, nodes) in [(LOST, None), ("databarn-dr", Some(["db2"]))] {
        let mut second = second.clone();
        second["nodes"] = serde_json::json!(nodes);
        let cluster = plan.clusters.get_mut(name).expect("the cluster");
        cluster.storages.insert("second".into(), serde_json::from_value(second).expect("a storage"));
    }
    let dr = plan.clusters.get_mut("databarn-dr").expect("the cluster");
    dr.nodes.get_mut("db2").expect("its node").utc_offset_minutes = Some(-600);
    let world = World::of(plan).await;
    let machines = made(&world, &["zoned-1"]).await;
    let site = world.sim.cluster(LOST);
    for storage in ["second", "transfer"] {
        site.schedule_backup("nightly", Some("production-pool"), storage, Duration::ZERO);
        world.sim.advance(Duration::from_secs(7200));
        assert_eq!(site.archives(storage).len(), 1, "{:?}", site.newest_log("vzdump"));
    }
    site.set_dark(true).await;
    let reader = told(&world, "zones.yaml", YAML).await;
    let (states, said) = read(&reader, &machines).await;
    assert!(proposes(&states[0]), "{said:?}");
    let private = String::from_utf8_lossy(&states[0].private).into_owned();
    assert!(private.contains("transfer:backup/") && !private.contains("second:backup/"), "{private}");
    assert_eq!(planned(&reader, &machines[0].0, &states[0]).await, "databarn-dr");
}

#[tokio::test]
async fn machines_of_one_lost_site_count_for_each_other() {
    let world = World::start().await;
    let machines = lost(&world, &["lost-1", "lost-2", "lost-3"]).await;
    let two = YAML.replacen("limits: { max_vms: 150", "limits: { max_vms: 2", 1);
    assert_ne!(two, YAML);
    let (states, said) = read(&told(&world, "two.yaml", &two).await, &machines).await;
    assert_eq!(states.iter().filter(|state| proposes(state)).count(), 2, "{said:?}");
    assert!(says(&said, "no cluster that sees its newest backup"), "{said:?}");
}
