//! Clusters and the second layer of rules, from a core's point of view against simulated clusters.
use protocol::testing::{Applied, CoreClient, Planned, State};
use protocol::{Diagnostics, Value};
use serde_json::json;

use super::pools::{Person, block, core};
use super::says;
use super::support::{TYPE as VM, World};

pub(super) const CLUSTER: &str = "moxxie_cluster";
pub(super) const POOL: &str = "moxxie_resource_pool";
pub(super) const PROD: &str = "worldstream-prod";
const DR: &str = "databarn-dr";

pub(super) fn prod() -> Value {
    Value::object([
        ("name", Value::from(PROD)),
        ("location", "Amsterdam, NL".into()),
        ("storage_classes", Value::map([("fast", "ceph-pool")])),
        ("networks", Value::map([("app", Value::object([("bridge", Value::from("vmbr0")), ("vlan", 120.into())]))])),
    ])
}

fn dr() -> Value {
    Value::object([
        ("name", Value::from(DR)),
        ("location", "Rotterdam, NL".into()),
        ("storage_classes", Value::map([("fast", "zfs-pool")])),
    ])
}

pub(super) fn pool() -> Value {
    Value::object([("name", Value::from("shared")), ("clusters", Value::set([PROD, DR]))])
}

fn vm(name: &str) -> Value {
    let disk = Value::object([("size", "4GB"), ("storage", "fast")]);
    Value::object([("name", Value::from(name)), ("pool", "shared".into()), ("disks", Value::map([("scsi0", disk)]))])
}

async fn planned(core: &CoreClient, kind: &str, prior: &State, config: &Value) -> Planned {
    let plan = core.plan(kind, prior, config).await.expect("a plan");
    assert_eq!(plan.violations, Vec::<String>::new());
    plan
}

/// Plans and applies, and holds the answers to core's rules.
pub(super) async fn apply(core: &CoreClient, kind: &str, prior: &State, config: &Value) -> Applied {
    let plan = planned(core, kind, prior, config).await;
    assert!(!plan.diagnostics.has_errors(), "{:?}", plan.diagnostics);
    let again = core.replan(kind, prior, config, &plan).await.expect("a plan");
    assert_eq!(again.violations, Vec::<String>::new());
    let done = core.apply(kind, prior, config, &again).await.expect("an answer");
    assert_eq!((&done.violations, done.tainted), (&Vec::new(), false));
    done
}

pub(super) async fn made(core: &CoreClient, kind: &str, config: &Value) -> State {
    let done = apply(core, kind, &State::default(), config).await;
    assert!(done.diagnostics.is_empty(), "{:?}", done.diagnostics);
    done.state
}

async fn read(core: &CoreClient, state: &State) -> (State, Diagnostics) {
    core.read(CLUSTER, state).await.expect("an answer")
}

/// A record for the Proxmox VE pool that the app team's token may use.
async fn enrolled_pool(core: &CoreClient) {
    let (imported, _) = core.import(POOL, "production-pool").await.expect("an answer");
    let config = pool().with_attr("clusters", Value::set([PROD])).with_attr("name", "production-pool");
    let done = apply(core, POOL, &taken_in(&imported), &config).await;
    assert!(done.diagnostics.is_empty(), "{:?}", done.diagnostics);
}

/// The record in a cluster's pool `moxxie`, as JSON.
async fn record(person: &Person, cluster: &str) -> serde_json::Value {
    let comment = person.comment(cluster, "moxxie").await.expect("a pool");
    federation::block::read(&comment).expect("a sound block").value
}

/// The one object of an import.
fn taken_in(imported: &[protocol::ImportedResource]) -> State {
    assert_eq!(imported.len(), 1);
    State { value: imported[0].state.clone(), private: imported[0].private.clone() }
}

/// The write requests of everybody since the log was cleared.
pub(super) fn writes(world: &World) -> Vec<String> {
    let all = world.sim.requests();
    let writes = all.iter().filter(|request| request.method != "GET");
    writes.map(|request| format!("{} {} {}", request.cluster, request.method, request.path)).collect()
}

#[tokio::test]
async fn a_cluster_is_enrolled_changed_and_leaves_nothing() {
    let world = World::start().await;
    let person = Person::new(&world);
    let block = block(&world, "platform");
    let state = made(&core(block.clone()).await, CLUSTER, &prod()).await;
    assert_eq!(state.value.attr("id").as_str(), Some(world.sim.cluster(PROD).ca_fingerprint().as_str()));
    let first = record(&person, PROD).await;
    assert_eq!((&first["rev"], &first["name"]), (&json!(1), &json!(PROD)));
    assert_eq!(first["facts"]["networks"]["app"]["vlan"], json!(120));
    world.sim.clear_requests();
    let next = core(block.clone()).await;
    let (same, said) = read(&next, &state).await;
    assert_eq!((&same, said.is_empty()), (&state, true), "{said:?}");
    let plan = planned(&next, CLUSTER, &same, &prod()).await;
    assert_eq!((&plan.planned_state, plan.diagnostics.is_empty()), (&same.value, true), "{:?}", plan.diagnostics);
    assert_eq!(writes(&world), Vec::<String>::new());

    // Words of people around the block stay.
    let comment = person.comment(PROD, "moxxie").await.expect("a comment");
    person.write(PROD, "moxxie", &format!("Ask Ann. {comment} Or Bob.")).await;
    let moved = prod().with_attr("location", "Haarlem, NL");
    let done = apply(&core(block.clone()).await, CLUSTER, &state, &moved).await;
    assert!(done.diagnostics.is_empty(), "{:?}", done.diagnostics);
    let comment = person.comment(PROD, "moxxie").await.expect("a comment");
    assert!(comment.starts_with("Ask Ann. [moxxie v1 ") && comment.ends_with("] Or Bob."), "{comment}");
    assert_eq!(record(&person, PROD).await["rev"], json!(2));
    let (same, said) = read(&core(block.clone()).await, &done.state).await;
    assert_eq!((&same, said.is_empty()), (&done.state, true), "{said:?}");

    let gone = apply(&core(block.clone()).await, CLUSTER, &same, &Value::Null).await;
    assert!(!gone.diagnostics.has_errors() && gone.state.value.is_null(), "{:?}", gone.diagnostics);
    let left = person.comment(PROD, "moxxie").await.expect("the pool stays");
    assert!(left.starts_with("Ask Ann. Or Bob.") && !left.contains("[moxxie"), "their words stay: {left}");
    made(&core(block).await, CLUSTER, &prod()).await;
    let again = person.comment(PROD, "moxxie").await.expect("a comment");
    assert!(again.starts_with("Ask Ann. Or Bob. [moxxie v1 ") && again.ends_with(']'), "{again}");
}

/// Proxmox VE drops the rights on a pool's path with the pool (`proxmox-ve.md` §18.3).
#[tokio::test]
async fn a_cluster_that_leaves_keeps_the_rights_that_everybody_has_on_its_pools() {
    let world = World::start().await;
    let person = Person::new(&world);
    let block = block(&world, "platform");
    let client = &person.0.site(PROD).expect("a cluster").client;
    let rights = || async {
        let acl = client.acl().await.expect("a list");
        acl.into_iter().filter(|entry| entry.path.starts_with("/pool/moxxie")).collect::<Vec<_>>()
    };
    client.create_pool("moxxie-moves", None).await.expect("a pool");
    let before = rights().await;
    assert!(before.iter().any(|entry| entry.ugid == "app@pve" && entry.path == "/pool/moxxie-moves"), "{before:?}");
    for _ in 0..2 {
        let state = made(&core(block.clone()).await, CLUSTER, &prod()).await;
        let gone = apply(&core(block.clone()).await, CLUSTER, &state, &Value::Null).await;
        assert!(!gone.diagnostics.has_errors() && gone.state.value.is_null(), "{:?}", gone.diagnostics);
        for command in ["pveum pool delete moxxie", "pveum pool delete moxxie-moves"] {
            assert!(says(&gone.diagnostics, command), "{:?}", gone.diagnostics);
        }
        assert_eq!(rights().await, before);
        let left = person.comment(PROD, "moxxie").await.expect("the pool stays");
        assert_eq!(left.matches("taken out of the federation").count(), 1, "{left}");
    }
    // It is as if it had never been enrolled: nothing is lost, and nothing is closed.
    let (none, said) = core(block.clone()).await.import(CLUSTER, PROD).await.expect("an answer");
    assert!(none.is_empty() && says(&said, "It is not enrolled"), "{said:?}");
}

#[tokio::test]
async fn an_enrolled_cluster_is_imported_and_never_taken_over() {
    let world = World::start().await;
    let block = block(&world, "platform");
    let ours = made(&core(block.clone()).await, CLUSTER, &prod()).await;
    // State has it, as the next plan of this folder sees.
    read(&core(block.clone()).await, &ours).await;
    world.sim.clear_requests();
    let other = core(block.clone()).await;
    let plan = planned(&other, CLUSTER, &State::default(), &prod()).await;
    assert!(says(&plan.diagnostics, "is enrolled already") && !plan.diagnostics.has_errors());
    let refused = apply(&other, CLUSTER, &State::default(), &prod()).await;
    assert!(
        says(&refused.diagnostics, "terraform import moxxie_cluster.<label> worldstream-prod"),
        "{:?}",
        refused.diagnostics
    );
    assert!(refused.state.value.is_null());
    let (imported, said) = other.import(CLUSTER, PROD).await.expect("an answer");
    assert_eq!((imported.len(), said.is_empty()), (1, true), "{said:?}");
    let (state, said) = read(&other, &taken_in(&imported)).await;
    assert!(said.is_empty(), "{said:?}");
    let plan = planned(&other, CLUSTER, &state, &prod()).await;
    assert_eq!((&plan.planned_state, plan.diagnostics.is_empty()), (&state.value, true), "{:?}", plan.diagnostics);
    assert_eq!(writes(&world), Vec::<String>::new());
    let (none, said) = other.import(CLUSTER, DR).await.expect("an answer");
    assert!(none.is_empty() && says(&said, "It is not enrolled"), "{said:?}");
}

/// All tests have one working folder, so this one has a cluster to itself.
#[tokio::test]
async fn an_enrolment_that_was_killed_before_state_had_it_is_gone_on_with() {
    let world = World::start().await;
    let block = block(&world, "platform");
    let edge = Value::object([("name", "hetzner-edge"), ("location", "Frankfurt, DE")]);
    made(&core(block.clone()).await, CLUSTER, &edge).await;
    let again = made(&core(block.clone()).await, CLUSTER, &edge).await;
    assert_eq!(federation_rev(&again), 2);
    read(&core(block.clone()).await, &again).await;
    let refused = apply(&core(block).await, CLUSTER, &State::default(), &edge).await;
    assert!(says(&refused.diagnostics, "is enrolled already"), "once state has it, it is nobody's to take over");
}

#[tokio::test]
async fn a_record_that_was_changed_lost_or_damaged_is_told_apart_and_mended() {
    let world = World::start().await;
    let person = Person::new(&world);
    let block = block(&world, "platform");
    let mut state = made(&core(block.clone()).await, CLUSTER, &prod()).await;
    for (comment, word) in [
        ("People's words", "has lost its record"),
        ("x [moxxie v1 {\"rev\":9} 0000000000000000] y", "has a damaged record"),
    ] {
        person.write(PROD, "moxxie", comment).await;
        let next = core(block.clone()).await;
        let (drifted, said) = read(&next, &state).await;
        assert!(says(&said, word), "{said:?}");
        let rev = federation_rev(&state);
        let done = apply(&next, CLUSTER, &drifted, &prod()).await;
        assert!(!done.diagnostics.has_errors(), "{:?}", done.diagnostics);
        state = done.state;
        assert_eq!(state.value.attr("id").as_str(), Some(world.sim.cluster(PROD).ca_fingerprint().as_str()));
        assert_eq!(record(&person, PROD).await["rev"], json!(rev + 1), "no revision is used twice");
    }
    // Gone altogether.
    person.0.site(PROD).expect("a cluster").client.delete_pool("moxxie").await.expect("a pool");
    let next = core(block.clone()).await;
    let (drifted, said) = read(&next, &state).await;
    assert!(says(&said, "is not enrolled any more"), "{said:?}");
    state = apply(&next, CLUSTER, &drifted, &prod()).await.state;
    // Changed by another workspace, which imported it.
    let other = core(block.clone()).await;
    let (imported, _) = other.import(CLUSTER, PROD).await.expect("an answer");
    let theirs = apply(&other, CLUSTER, &taken_in(&imported), &prod().with_attr("country", "NL")).await;
    assert!(theirs.diagnostics.is_empty(), "{:?}", theirs.diagnostics);
    let stale = apply(&core(block.clone()).await, CLUSTER, &state, &prod().with_attr("tier", "primary")).await;
    assert!(says(&stale.diagnostics, "the plan is stale"), "{:?}", stale.diagnostics);
    assert_eq!(record(&person, PROD).await["facts"]["country"], json!("NL"), "nobody writes over somebody else");
    let (drifted, said) = read(&core(block.clone()).await, &state).await;
    assert!(says(&said, "was changed by somebody else"), "{said:?}");
    assert_eq!(drifted.value.attr("country").as_str(), Some("NL"));
}

fn federation_rev(state: &State) -> u64 {
    let kept: serde_json::Value = serde_json::from_slice(&state.private).expect("JSON");
    kept["revision"]["rev"].as_u64().expect("a revision")
}

#[tokio::test]
async fn two_records_of_one_revision_are_an_error_by_name() {
    let world = World::start().await;
    let person = Person::new(&world);
    let block = block(&world, "platform");
    let state = made(&core(block.clone()).await, CLUSTER, &prod()).await;
    let mut other = record(&person, PROD).await;
    other["by"] = json!("bob elsewhere");
    other["facts"]["location"] = json!("Elsewhere");
    person.write(PROD, "moxxie", &federation::block::write("", &other).expect("a block")).await;
    let (same, said) = read(&core(block.clone()).await, &state).await;
    assert!(says(&said, "two were written at once") && says(&said, "bob elsewhere") && said.has_errors(), "{said:?}");
    assert_eq!(same, state);
    let refused = apply(&core(block).await, CLUSTER, &state, &prod().with_attr("tier", "primary")).await;
    assert!(says(&refused.diagnostics, "two were written at once"), "{:?}", refused.diagnostics);
    assert_eq!(record(&person, PROD).await, other, "nothing was touched");
}

#[tokio::test]
async fn datacenter_options_are_opt_in_announced_and_put_back() {
    let world = World::start().await;
    let options = || ["mac_prefix", "bwlimit", "next-id"].map(|option| world.sim.cluster(PROD).option(option));
    let before = options();
    assert!(before[0].as_deref() == Some("\"BC:24:11\"") && before[1].is_none(), "{before:?}");
    let block = block(&world, "platform");
    let wished = Value::object([
        ("mac_prefix", Value::from("02:00:01")),
        ("bwlimit", Value::map([("restore", "500Mbps")])),
        ("next_id", Value::object([("lower", 1000), ("upper", 2000)])),
    ]);
    let config = prod().with_attr("datacenter_options", wished.clone());
    let first = core(block.clone()).await;
    let plan = planned(&first, CLUSTER, &State::default(), &config).await;
    assert!(says(&plan.diagnostics, "affects every user of this cluster"), "{:?}", plan.diagnostics);
    let made = apply(&first, CLUSTER, &State::default(), &config).await;
    assert!(made.diagnostics.is_empty(), "{:?}", made.diagnostics);
    let set = options();
    assert_eq!(set[0].as_deref(), Some("\"02:00:01\""));
    assert!(set[1].as_deref().is_some_and(|limit| limit.contains("61035")), "{set:?}");
    let (same, said) = read(&core(block.clone()).await, &made.state).await;
    assert_eq!((&same, said.is_empty()), (&made.state, true), "{said:?}");

    // Changed by hand: drift, set again.
    world.sim.cluster(PROD).set_option("mac_prefix", "02:00:09");
    let (drifted, _) = read(&core(block.clone()).await, &made.state).await;
    assert_eq!(drifted.value.attr("datacenter_options").attr("mac_prefix").as_str(), Some("02:00:09"));
    let mended = apply(&core(block.clone()).await, CLUSTER, &drifted, &config).await;
    assert_eq!(options(), set, "{:?}", mended.diagnostics);

    // One taken out goes back as it was; the others with the resource.
    let fewer = prod().with_attr("datacenter_options", Value::object([("bwlimit", wished.attr("bwlimit").clone())]));
    let done = apply(&core(block.clone()).await, CLUSTER, &mended.state, &fewer).await;
    assert!(!done.diagnostics.has_errors(), "{:?}", done.diagnostics);
    let now = options();
    assert_eq!((&now[0], &now[1], &now[2]), (&before[0], &set[1], &before[2]));
    let gone = apply(&core(block).await, CLUSTER, &done.state, &Value::Null).await;
    assert!(!gone.diagnostics.has_errors() && gone.state.value.is_null(), "{:?}", gone.diagnostics);
    assert_eq!(options(), before);
}

#[tokio::test]
async fn what_the_token_lacks_is_named_before_anything_is_touched() {
    let world = World::start().await;
    let app = core(block(&world, "app")).await;
    world.sim.clear_requests();
    let refused = apply(&app, CLUSTER, &State::default(), &prod()).await;
    assert!(says(&refused.diagnostics, "the token lacks Pool.Allocate on /pool/moxxie"), "{:?}", refused.diagnostics);
    assert_eq!(writes(&world), Vec::<String>::new());
}

#[tokio::test]
async fn a_cluster_that_is_in_use_stays() {
    let world = World::start().await;
    let person = Person::new(&world);
    let block = block(&world, "platform");
    let all = core(block.clone()).await;
    let cluster = made(&all, CLUSTER, &prod()).await;
    made(&all, CLUSTER, &dr()).await;
    let pool = made(&all, POOL, &pool()).await;
    let refused = apply(&core(block.clone()).await, CLUSTER, &cluster, &Value::Null).await;
    assert!(says(&refused.diagnostics, "resource pool shared"), "{:?}", refused.diagnostics);
    assert_eq!(refused.state, cluster);
    let gone = apply(&core(block.clone()).await, POOL, &pool, &Value::Null).await;
    assert!(gone.state.value.is_null(), "{:?}", gone.diagnostics);
    let client = &person.0.site(PROD).expect("a cluster").client;
    let journal = json!({"op": "x", "kind": "move", "name": "web-1", "uuid": "u", "step": "backup", "at": 1,
        "from": {"cluster": PROD, "node": "ws1", "vmid": 100}, "to": {"cluster": DR, "node": "db1", "vmid": 100},
        "holder": {"machine": "m", "boot": "b", "pid": 1, "start": 1, "run": "ann on laptop"},
        "undo": {"onboot": true, "running": true, "protection": false}});
    client.create_pool("moxxie-moves", None).await.expect("a pool");
    for (comment, word) in [(journal.to_string(), "to databarn-dr"), ("{}".to_owned(), "can't be read")] {
        client.create_pool("moxxie-moves/move-u", Some(&comment)).await.expect("a pool");
        let refused = apply(&core(block.clone()).await, CLUSTER, &cluster, &Value::Null).await;
        let said = &refused.diagnostics;
        assert!(says(said, "operation moxxie-moves/move-u") && says(said, word), "{said:?}");
        client.delete_pool("moxxie-moves/move-u").await.expect("a pool");
    }
    let gone = apply(&core(block).await, CLUSTER, &cluster, &Value::Null).await;
    assert!(gone.state.value.is_null(), "{:?}", gone.diagnostics);
    assert!(client.pool("moxxie-moves").await.expect("an answer").is_some(), "rights of others are on it");
}

/// A provider block in which `as_name` leads to the cluster `to`.
fn leading(world: &World, as_name: &str, to: &str, without: &[&str]) -> Value {
    let block = block(world, "platform");
    let mut clusters = block.attr("clusters").as_map().cloned().expect("connections");
    let connection = clusters[to].clone();
    clusters.retain(|name, _| !without.contains(&name.as_str()));
    clusters.insert(as_name.to_owned(), connection);
    Value::object([("clusters", Value::Map(clusters))])
}

#[tokio::test]
async fn a_removed_connection_keeps_state_and_a_removal_needs_it() {
    let world = World::start().await;
    let state = made(&core(block(&world, "platform")).await, CLUSTER, &prod()).await;
    let without = core(leading(&world, DR, DR, &[PROD])).await;
    let (kept, said) = read(&without, &state).await;
    assert!(kept == state && !said.has_errors() && says(&said, "it has no connection"), "{said:?}");
    let plan = planned(&without, CLUSTER, &kept, &prod()).await;
    assert!(!plan.diagnostics.has_errors() && plan.planned_state == state.value, "{:?}", plan.diagnostics);
    let refused = apply(&without, CLUSTER, &state, &Value::Null).await;
    assert!(says(&refused.diagnostics, "removed block") && refused.state == state, "{:?}", refused.diagnostics);
    let unconnected = planned(&without, CLUSTER, &State::default(), &prod()).await;
    assert!(unconnected.diagnostics.has_errors(), "a create without a connection is the user's own mistake");
}

#[tokio::test]
async fn another_cluster_and_one_under_two_names_are_errors() {
    let world = World::start().await;
    let state = made(&core(block(&world, "platform")).await, CLUSTER, &prod()).await;
    let (was, is) = (world.sim.cluster(PROD).ca_fingerprint(), world.sim.cluster(DR).ca_fingerprint());
    // As if it had been installed anew.
    let anew = core(leading(&world, PROD, DR, &[DR])).await;
    let (same, said) = read(&anew, &state).await;
    assert!(said.has_errors() && says(&said, &was) && says(&said, &is) && same == state, "{said:?}");
    let refused = apply(&anew, CLUSTER, &state, &prod().with_attr("tier", "edge")).await;
    assert!(says(&refused.diagnostics, &was) && says(&refused.diagnostics, &is), "{:?}", refused.diagnostics);
    let left = apply(&anew, CLUSTER, &state, &Value::Null).await;
    assert!(left.state.value.is_null() && says(&left.diagnostics, "was left as it is"), "{:?}", left.diagnostics);
    assert!(Person::new(&world).comment(DR, "moxxie").await.is_none());
    // The same cluster twice. Its address is spelled in two ways, as through two of its nodes.
    let mut twice = leading(&world, "again", PROD, &[]);
    let url = world.sim.cluster(PROD).url().replace("127.0.0.1", "localhost");
    let again = twice.attr_mut("clusters").and_then(|clusters| clusters.attr_mut("again")).expect("a connection");
    again.set_attr("endpoints", Value::list([url]));
    let twice = core(twice).await;
    let (_, said) = read(&twice, &state).await;
    assert!(
        said.has_errors() && says(&said, "again and worldstream-prod are one cluster")
            || says(&said, "worldstream-prod and again are one cluster"),
        "{said:?}"
    );
    let config = prod().with_attr("name", "again");
    let refused = apply(&twice, CLUSTER, &State::default(), &config).await;
    assert!(says(&refused.diagnostics, "are one cluster"), "{:?}", refused.diagnostics);
    let renamed = planned(&core(block(&world, "platform")).await, CLUSTER, &state, &prod().with_attr("name", DR)).await;
    assert!(says(&renamed.diagnostics, "A cluster's name is for life"), "{:?}", renamed.diagnostics);
}

#[tokio::test]
async fn facts_complete_a_configuration_of_connections_and_a_record_that_cannot_be_trusted_closes_its_cluster() {
    let world = World::start().await;
    let person = Person::new(&world);
    let all = core(block(&world, "platform")).await;
    for config in [prod(), dr()] {
        made(&all, CLUSTER, &config).await;
    }
    enrolled_pool(&all).await;
    let app = || async { core(block(&world, "app")).await };
    let config = vm("web").with_attr("pool", "production-pool");
    let plan = planned(&app().await, VM, &State::default(), &config).await;
    assert!(!plan.diagnostics.has_errors(), "the class `fast` is enrolled: {:?}", plan.diagnostics);
    let sound = person.comment(PROD, "moxxie").await.expect("a comment");
    for (comment, word) in
        [("", "has lost its record"), ("x [moxxie v1 {\"rev\":9} 0000000000000000] y", "its record is damaged")]
    {
        person.write(PROD, "moxxie", comment).await;
        let plan = planned(&app().await, VM, &State::default(), &config).await;
        assert!(plan.diagnostics.has_errors() && says(&plan.diagnostics, word), "{:?}", plan.diagnostics);
    }
    person.0.site(PROD).expect("a cluster").client.delete_pool("moxxie").await.expect("a pool");
    // With the pool went the team's right to see it.
    world.sim.cluster(PROD).grant("app@pve", "/pool/moxxie", "PVEPoolUser").expect("a role");
    let plan = planned(&app().await, VM, &State::default(), &config).await;
    assert!(plan.diagnostics.has_errors() && says(&plan.diagnostics, "it has no record"), "{:?}", plan.diagnostics);
    person.0.site(PROD).expect("a cluster").client.create_pool("moxxie", Some(&sound)).await.expect("a pool");
    let plan = planned(&core(block(&world, "narrow")).await, VM, &State::default(), &config).await;
    assert!(says(&plan.diagnostics, "the token lacks Pool.Audit on /pool/moxxie"), "{:?}", plan.diagnostics);
    let plan = planned(&app().await, VM, &State::default(), &config).await;
    assert!(!plan.diagnostics.has_errors(), "{:?}", plan.diagnostics);
}

#[tokio::test]
async fn a_cordoned_or_draining_cluster_takes_nothing_new() {
    let world = World::start().await;
    let platform = core(block(&world, "platform")).await;
    let mut state = made(&platform, CLUSTER, &prod()).await;
    enrolled_pool(&platform).await;
    let config = vm("web").with_attr("pool", "production-pool");
    let there = planned(&core(block(&world, "app")).await, VM, &State::default(), &config).await;
    assert!(!there.diagnostics.has_errors(), "{:?}", there.diagnostics);
    for (flag, word) in [("cordoned", "cordoned"), ("draining", "draining")] {
        let done = apply(&core(block(&world, "platform")).await, CLUSTER, &state, &prod().with_attr(flag, true)).await;
        assert!(done.diagnostics.is_empty(), "{:?}", done.diagnostics);
        state = done.state;
        let plan = planned(&core(block(&world, "app")).await, VM, &State::default(), &config).await;
        assert!(plan.diagnostics.has_errors() && says(&plan.diagnostics, word), "{flag}: {:?}", plan.diagnostics);
    }
}

#[tokio::test]
async fn a_planned_cluster_is_seen_by_reference_and_a_literal_name_that_came_first_is_an_error() {
    let world = World::start().await;
    let platform = core(block(&world, "platform")).await;
    let clusters = [made(&platform, CLUSTER, &prod()).await, made(&platform, CLUSTER, &dr()).await];
    made(&platform, POOL, &pool()).await;
    // By reference the cluster comes first, and its planned facts are what a machine is placed by.
    let next = core(block(&world, "platform")).await;
    let cordoned = prod().with_attr("cordoned", true);
    assert!(!planned(&next, CLUSTER, &clusters[0], &cordoned).await.diagnostics.has_errors());
    for name in ["ref-1", "ref-2", "ref-3", "ref-4"] {
        let plan = planned(&next, VM, &State::default(), &vm(name)).await;
        assert_eq!(plan.planned_state.attr("cluster").as_str(), Some(DR), "{:?}", plan.diagnostics);
    }
    // The other way round it would have been placed by what is going to change.
    let next = core(block(&world, "platform")).await;
    planned(&next, VM, &State::default(), &vm("literal-1")).await;
    let late = planned(&next, CLUSTER, &clusters[0], &cordoned).await;
    assert!(
        late.diagnostics.has_errors() && says(&late.diagnostics, "moxxie_cluster.<label>.name"),
        "{:?}",
        late.diagnostics
    );
    let same = planned(&next, CLUSTER, &clusters[1], &dr()).await;
    assert!(!same.diagnostics.has_errors(), "what doesn't change makes no difference: {:?}", same.diagnostics);
    // At apply the record is written and seen by what comes after it in the same process.
    let next = core(block(&world, "platform")).await;
    let done = apply(&next, CLUSTER, &clusters[0], &cordoned).await;
    assert!(done.diagnostics.is_empty(), "{:?}", done.diagnostics);
    let plan = planned(&next, VM, &State::default(), &vm("after-1")).await;
    assert_eq!(plan.planned_state.attr("cluster").as_str(), Some(DR));
}
