//! Resource pools and the three layers of rules, from a core's point of view against simulated clusters.
use std::collections::BTreeMap;
use std::sync::Arc;

use federation::Federation;
use operations::{Auth, ClusterConnection, Fleet, Settings, TlsTrust};
use proptest::prelude::*;
use protocol::testing::{Applied, CoreClient, Planned, State};
use protocol::{Diagnostics, Value};

use super::support::{TYPE as VM, World, nothing_set};
use super::{cluster, modern, says};

const POOL: &str = "moxxie_resource_pool";
const FEDERATION: &str = "moxxie_federation";
const BOTH: [&str; 2] = ["databarn-dr", "worldstream-prod"];

/// Connections alone, with a token of this role; no file.
pub(super) fn block(world: &World, role: &str) -> Value {
    let clusters = world.sim.clusters().into_iter().map(|cluster| {
        let connection = Value::object([
            ("endpoints", Value::list([cluster.url()])),
            ("api_token", cluster.token(role).expect("a token").into()),
            ("fingerprints", Value::list([cluster.fingerprint()])),
        ]);
        (cluster.name().to_owned(), connection)
    });
    Value::object([("clusters", Value::map(clusters))])
}

pub(super) async fn core(block: Value) -> CoreClient {
    let mut core = CoreClient::start(provider::Moxxie::new()).await.expect("a provider");
    // It carries decisions itself, so that no test's answer hangs on what another one left in the process's working folder.
    core.set_capabilities(modern());
    let said = core.configure(block).await.expect("an answer");
    assert!(!said.has_errors(), "{said:?}");
    core
}

/// Somebody who edits comments by hand.
pub(super) struct Person(pub(super) Fleet);

impl Person {
    pub(super) fn new(world: &World) -> Person {
        let connections = world.sim.clusters().into_iter().map(|cluster| {
            let token = cluster.token("platform").expect("a token");
            let mut connection = ClusterConnection::new(cluster.name(), [cluster.url()], Auth::Token(token.into()));
            connection.tls = TlsTrust::Fingerprints(vec![cluster.fingerprint().parse().expect("a fingerprint")]);
            connection
        });
        Person(Fleet::new(connections.collect(), Federation::default(), Settings::default()).expect("a fleet"))
    }

    pub(super) async fn comment(&self, cluster: &str, pool: &str) -> Option<String> {
        let site = self.0.site(cluster).expect("a cluster");
        site.client.pool(pool).await.expect("an answer").map(|pool| pool.comment.unwrap_or_default())
    }

    pub(super) async fn write(&self, cluster: &str, pool: &str, comment: &str) {
        self.0.site(cluster).expect("a cluster").client.update_pool(pool, comment).await.expect("a comment");
    }
}

fn pool(name: &str) -> Value {
    Value::object([
        ("name", Value::from(name)),
        ("clusters", Value::set(BOTH)),
        ("limits", Value::object([("max_vms", Value::from(20)), ("max_memory", "256GB".into())])),
    ])
}

fn vm(name: &str, pool: &str) -> Value {
    Value::object([
        ("name", Value::from(name)),
        ("pool", pool.into()),
        ("disks", Value::map([("scsi0", Value::object([("size", "4GB"), ("storage", "local-lvm")]))])),
    ])
}

/// Plans and applies, and holds the answers to core's rules.
async fn apply(core: &CoreClient, prior: &State, config: &Value) -> Applied {
    let plan = planned(core, prior, config).await;
    let again = core.replan(POOL, prior, config, &plan).await.expect("a plan");
    assert_eq!(again.violations, Vec::<String>::new());
    let done = core.apply(POOL, prior, config, &again).await.expect("an answer");
    assert_eq!((&done.violations, done.tainted), (&Vec::new(), false));
    done
}

async fn planned(core: &CoreClient, prior: &State, config: &Value) -> Planned {
    let plan = core.plan(POOL, prior, config).await.expect("a plan");
    assert!(!plan.diagnostics.has_errors(), "{:?}", plan.diagnostics);
    assert_eq!(plan.violations, Vec::<String>::new());
    plan
}

async fn made(core: &CoreClient, config: &Value) -> State {
    let done = apply(core, &State::default(), config).await;
    assert!(done.diagnostics.is_empty(), "{:?}", done.diagnostics);
    done.state
}

async fn read(core: &CoreClient, state: &State) -> (State, Diagnostics) {
    core.read(POOL, state).await.expect("an answer")
}

fn members(state: &State) -> Vec<String> {
    let list = state.value.attr("clusters").as_list().unwrap_or_default();
    let mut names: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_pool_is_written_to_every_member_completed_where_it_is_lost_and_leaves_nothing() {
    let world = World::start().await;
    let person = Person::new(&world);
    let block = block(&world, "platform");
    let state = made(&core(block.clone()).await, &pool("whole")).await;
    let copies = [person.comment(BOTH[0], "whole").await, person.comment(BOTH[1], "whole").await];
    assert!(copies[0].is_some() && copies[0] == copies[1], "{copies:?}");

    let (same, said) = read(&core(block.clone()).await, &state).await;
    assert_eq!((&same, said.is_empty()), (&state, true));

    for (lost, word) in [("People's words", "no record"), ("x [moxxie v1 {\"rev\":9} 0000000000000000] y", "damaged")] {
        person.write("databarn-dr", "whole", lost).await;
        let next = core(block.clone()).await;
        let (drifted, said) = read(&next, &state).await;
        assert!(says(&said, word) && says(&said, "databarn-dr"), "{said:?}");
        assert_eq!(members(&drifted), ["worldstream-prod"]);
        let done = apply(&next, &drifted, &pool("whole")).await;
        assert!(!done.diagnostics.has_errors(), "{:?}", done.diagnostics);
        assert_eq!(members(&done.state), BOTH);
        let comment = person.comment("databarn-dr", "whole").await.expect("the pool");
        let text = lost.split(" [").next().expect("the text around the record");
        assert!(comment.starts_with(&format!("{text} [moxxie v1 {{")), "{comment}");
    }

    let last = core(block).await;
    let (state, _) = read(&last, &state).await;
    let gone = apply(&last, &state, &Value::Null).await;
    assert!(!gone.diagnostics.has_errors() && gone.state.value.is_null(), "{:?}", gone.diagnostics);
    assert_eq!(person.comment("databarn-dr", "whole").await, None);
    assert_eq!(person.comment("worldstream-prod", "whole").await, None);
}

#[tokio::test]
async fn what_exists_is_imported_and_never_taken_over() {
    let world = World::start().await;
    let block = block(&world, "platform");
    let first = core(block.clone()).await;
    let ours = made(&first, &pool("ours")).await;
    // State has it, as the next plan of this folder sees.
    read(&core(block.clone()).await, &ours).await;
    for (name, word) in [("ours", "enrolled: revision 1"), ("production-pool", "without a record")] {
        let next = core(block.clone()).await;
        let done = apply(&next, &State::default(), &pool(name)).await;
        assert!(says(&done.diagnostics, word), "{:?}", done.diagnostics);
        assert!(says(&done.diagnostics, &format!("import moxxie_resource_pool.<label> {name}")));
        assert!(done.state.value.is_null());
        let (imported, said) = next.import(POOL, name).await.expect("an answer");
        assert!(!said.has_errors(), "{said:?}");
        let state = State { value: imported[0].state.clone(), private: imported[0].private.clone() };
        let (state, said) = read(&next, &state).await;
        assert!(said.is_empty(), "{said:?}");
        let done = apply(&next, &state, &pool(name)).await;
        assert!(!done.diagnostics.has_errors(), "{:?}", done.diagnostics);
        let (after, _) = read(&core(block.clone()).await, &done.state).await;
        assert_eq!(after, done.state);
    }
}

#[tokio::test]
async fn a_dark_member_is_a_warning_and_the_next_plan_completes_it() {
    let world = World::start().await;
    let block = block(&world, "platform");
    world.sim.cluster("databarn-dr").set_dark(true).await;
    let done = apply(&core(block.clone()).await, &State::default(), &pool("half")).await;
    assert!(!done.diagnostics.has_errors() && says(&done.diagnostics, "databarn-dr was not written"));
    assert_eq!(members(&done.state), BOTH, "what was planned");
    let dark = core(block.clone()).await;
    let (kept, said) = read(&dark, &done.state).await;
    assert!(says(&said, "Cluster databarn-dr does not answer"), "{said:?}");
    assert_eq!(kept, done.state);
    let refused = apply(&dark, &kept, &Value::Null).await;
    assert!(says(&refused.diagnostics, "nothing was touched"), "whether it holds machines can't be told");
    assert_eq!(refused.state, kept);

    world.sim.cluster("databarn-dr").set_dark(false).await;
    let back = core(block).await;
    let edit = pool("half").with_attr("description", "planned alike, whether the cluster answers or not");
    let plans = [planned(&dark, &kept, &edit).await, planned(&back, &kept, &edit).await];
    assert_eq!(plans[0].planned_state, plans[1].planned_state);
    assert_eq!(plans[0].planned_private, plans[1].planned_private);
    let (drifted, _) = read(&back, &kept).await;
    assert_eq!(members(&drifted), ["worldstream-prod"]);
    let done = apply(&back, &drifted, &pool("half")).await;
    assert!(done.diagnostics.is_empty(), "{:?}", done.diagnostics);
}

#[tokio::test]
async fn nobody_writes_over_somebody_else() {
    let world = World::start().await;
    let person = Person::new(&world);
    let block = block(&world, "platform");
    let mine = core(block.clone()).await;
    let state = made(&mine, &pool("shared")).await;
    let more = pool("shared").with_attr("description", "more");
    let stale = planned(&mine, &state, &more).await;
    // Another workspace, with the same state.
    let other = apply(&core(block.clone()).await, &state, &pool("shared").with_attr("max_moves_per_apply", 2)).await;
    assert!(!other.diagnostics.has_errors());
    let refused = core(block.clone()).await.apply(POOL, &state, &more, &stale).await.expect("an answer");
    assert!(says(&refused.diagnostics, "the plan is stale") && says(&refused.diagnostics, "revision 2"));
    assert_eq!(refused.state, state);

    // Two copies of one revision: whoever wrote them, neither counts.
    let comment = person.comment("databarn-dr", "shared").await.expect("a comment");
    let mut record = federation::block::read(&comment).expect("a record").value;
    record["limits"]["max_vms"] = 1.into();
    person.write("databarn-dr", "shared", &federation::block::write("", &record).expect("a record")).await;
    let (_, said) = read(&core(block.clone()).await, &other.state).await;
    assert!(said.has_errors() && says(&said, "revision 2 on databarn-dr and on worldstream-prod differ"), "{said:?}");
    let vm = core(block).await.plan(VM, &State::default(), &vm("conflict-1", "shared")).await.expect("a plan");
    assert!(vm.diagnostics.has_errors(), "nothing new is placed");
}

#[tokio::test]
async fn a_pool_that_holds_machines_stays() {
    let world = World::start().await;
    let all = core(block(&world, "platform")).await;
    let state = made(&all, &pool("full")).await;
    let config = vm("full-1", "full").with_attr("cluster", "databarn-dr");
    let config = config.with_attr("disks", Value::Null);
    let plan = all.plan(VM, &State::default(), &config).await.expect("a plan");
    let machine = all.apply(VM, &State::default(), &config, &plan).await.expect("an answer");
    assert!(!machine.diagnostics.has_errors(), "{:?}", machine.diagnostics);

    let fewer = pool("full").with_attr("clusters", Value::set(["worldstream-prod"]));
    let plan = planned(&all, &state, &fewer).await;
    assert!(says(&plan.diagnostics, "databarn-dr/100"), "a warning already in the plan: {:?}", plan.diagnostics);
    for config in [&fewer, &Value::Null] {
        let refused = apply(&all, &state, config).await;
        assert!(refused.diagnostics.has_errors() && says(&refused.diagnostics, "databarn-dr/100"));
        assert_eq!(refused.state, state);
    }
    let plan = all.plan(VM, &machine.state, &Value::Null).await.expect("a plan");
    let gone = all.apply(VM, &machine.state, &Value::Null, &plan).await.expect("an answer");
    assert!(!gone.diagnostics.has_errors(), "{:?}", gone.diagnostics);
    assert!(!apply(&all, &state, &fewer).await.diagnostics.has_errors());
    assert!(!world.sim.cluster("databarn-dr").pools().contains_key("full"));
}

/// Proxmox VE drops the rights on a pool's path with the pool (`proxmox-ve.md` §18.3).
#[tokio::test]
async fn a_pool_that_somebody_has_rights_on_stays_without_its_record_and_is_taken_in_again() {
    let world = World::start().await;
    let person = Person::new(&world);
    let block = block(&world, "platform");
    for path in ["/pool/granted", "/pool/granted/retired"] {
        let state = made(&core(block.clone()).await, &pool("granted")).await;
        world.sim.cluster(BOTH[0]).grant("app@pve", path, "PVEVMUser").expect("a role");
        let client = &person.0.site(BOTH[0]).expect("a cluster").client;
        let rights = || async {
            let acl = client.acl().await.expect("a list");
            acl.into_iter().filter(|entry| entry.path.starts_with("/pool/granted")).collect::<Vec<_>>()
        };
        let before = rights().await;
        let gone = apply(&core(block.clone()).await, &state, &Value::Null).await;
        assert!(!gone.diagnostics.has_errors() && gone.state.value.is_null(), "{:?}", gone.diagnostics);
        for word in [&format!("PVEVMUser of app@pve on {path}"), "pveum pool delete granted", BOTH[0]] {
            assert!(says(&gone.diagnostics, word), "{word}: {:?}", gone.diagnostics);
        }
        assert_eq!(rights().await, before);
        assert_eq!(person.comment(BOTH[0], "granted").await.as_deref(), Some(""), "no record is left");
        assert_eq!(person.comment(BOTH[1], "granted").await, None, "nobody has rights there");
        let refused = apply(&core(block.clone()).await, &State::default(), &pool("granted")).await;
        assert!(says(&refused.diagnostics, "import moxxie_resource_pool.<label> granted"), "{:?}", refused.diagnostics);
        client.delete_pool("granted").await.expect("an empty pool");
    }
}

#[tokio::test]
async fn another_name_is_another_pool() {
    let world = World::start().await;
    let all = core(block(&world, "platform")).await;
    let state = made(&all, &pool("old")).await;
    let plan = all.plan(POOL, &state, &pool("new")).await.expect("a plan");
    assert_eq!(plan.requires_replace, [protocol::AttributePath::new("name")]);
}

#[tokio::test]
async fn an_app_team_gets_the_platform_teams_policy_and_a_record_it_cannot_trust_keeps_new_machines_away() {
    let world = World::start().await;
    let person = Person::new(&world);
    let only = pool("production-pool").with_attr("clusters", Value::set(["databarn-dr"]));
    let platform = core(block(&world, "platform")).await;
    let (imported, _) = platform.import(POOL, "production-pool").await.expect("an answer");
    let state = State { value: imported[0].state.clone(), private: imported[0].private.clone() };
    assert!(!apply(&platform, &state, &only).await.diagnostics.has_errors());

    // Nothing but connections and the name of the pool.
    let app = block(&world, "app");
    for number in 1..=4 {
        let config = vm(&format!("app-{number}"), "production-pool").with_attr("disks", Value::Null);
        let plan = core(app.clone()).await.plan(VM, &State::default(), &config).await.expect("a plan");
        assert_eq!(cluster(&plan), "databarn-dr");
    }
    let config = vm("app-9", "production-pool").with_attr("disks", Value::Null);
    person.write("databarn-dr", "production-pool", "[moxxie v1 {\"rev\":1} 00]").await;
    let refused = core(app.clone()).await.plan(VM, &State::default(), &config).await.expect("a plan");
    assert!(refused.diagnostics.has_errors(), "nobody knows the policy now");
    // A pool that this token can't see, and so can't be told from one without a policy.
    let blind = vm("app-10", "nowhere").with_attr("disks", Value::Null);
    let refused = core(app).await.plan(VM, &State::default(), &blind).await.expect("a plan");
    assert!(says(&refused.diagnostics, "nowhere"), "{:?}", refused.diagnostics);
}

#[tokio::test]
async fn a_pool_reaches_a_machine_by_reference_and_a_literal_name_that_came_first_is_an_error() {
    let world = World::start().await;
    let config = |name: &str| vm(name, "later").with_attr("disks", Value::Null);
    let only = pool("later").with_attr("clusters", Value::set(["databarn-dr"]));
    // By reference: the pool is planned first.
    let first = core(block(&world, "platform")).await;
    planned(&first, &State::default(), &only).await;
    let plan = first.plan(VM, &State::default(), &config("later-1")).await.expect("a plan");
    assert_eq!(cluster(&plan), "databarn-dr");
    // What is unknown of the pool is unknown of the machine.
    let open = core(block(&world, "platform")).await;
    planned(&open, &State::default(), &only.clone().with_attr("placement_policy", Value::unknown())).await;
    let plan = open.plan(VM, &State::default(), &config("later-2")).await.expect("a plan");
    assert!(
        plan.planned_state.attr("cluster").is_unknown() && says(&plan.diagnostics, "placement_policy of pool later")
    );
    // Literally: the machine came first, when nobody knew the pool, or knew another policy.
    let late = core(block(&world, "platform")).await;
    let plan = late.plan(VM, &State::default(), &config("later-3")).await.expect("a plan");
    assert!(says(&plan.diagnostics, "No such resource pool"));
    let plan = late.plan(POOL, &State::default(), &only).await.expect("a plan");
    assert!(plan.diagnostics.has_errors() && says(&plan.diagnostics, "moxxie_resource_pool.<label>.name"));
    let at = plan.diagnostics.iter().find(|diagnostic| diagnostic.is_error()).and_then(|found| found.path.clone());
    assert_eq!(at, Some(protocol::AttributePath::new("name")));
    // One whose policy stays as it is may be named either way.
    let state = made(&first, &only).await;
    let known = core(block(&world, "platform")).await;
    known.plan(VM, &State::default(), &config("later-4")).await.expect("a plan");
    planned(&known, &state, &only).await;
    let edit = only.with_attr("limits", Value::object([("max_vms", 5)]));
    assert!(known.plan(POOL, &state, &edit).await.expect("a plan").diagnostics.has_errors());
}

#[tokio::test]
async fn apply_decides_from_the_inventory_that_travels_with_the_plan() {
    let world = World::start().await;
    let plain = block(&world, "platform");
    let facts = core(plain.clone()).await;
    made(&facts, &pool("travels")).await;
    let aliased = core(plain.clone()).await;
    let (seen, said) =
        aliased.read_data_source(FEDERATION, Value::object([("pools", Value::Null)])).await.expect("facts");
    assert!(!said.has_errors(), "{said:?}");
    assert_eq!(seen.attr("clusters").as_map().map(BTreeMap::len), Some(3));
    let inventory = seen.attr("inventory").as_str().expect("an inventory").to_owned();
    assert!(inventory.starts_with("moxxie-inventory-1:"));
    let fed = plain.clone().with_attr("inventory", inventory.as_str());
    let config = vm("travels-1", "travels").with_attr("disks", Value::Null);
    let plan = core(fed.clone()).await.plan(VM, &State::default(), &config).await.expect("a plan");
    let chosen = cluster(&plan);
    // The working folder is lost, the facts are others, and so is the policy.
    world.forget_decisions("travels-1");
    world.fill(&chosen);
    let other: Vec<&str> = BOTH.into_iter().filter(|name| *name != chosen).collect();
    let state = read(
        &core(plain.clone()).await,
        &State {
            value: Value::object([("name", Value::from("travels")), ("clusters", Value::set(BOTH))]),
            private: Vec::new(),
        },
    )
    .await
    .0;
    let moved = pool("travels").with_attr("clusters", Value::set(other));
    assert!(!apply(&core(plain.clone()).await, &state, &moved).await.diagnostics.has_errors());
    let late = core(fed).await;
    let again = late.replan(VM, &State::default(), &config, &plan).await.expect("a plan");
    assert_eq!((cluster(&again), &again.violations), (chosen, &Vec::new()));
    let refused = late.apply(VM, &State::default(), &config, &again).await.expect("an answer");
    assert!(says(&refused.diagnostics, "the plan is stale") && refused.state.value.is_null());

    let bad = CoreClient::start(provider::Moxxie::new()).await.expect("a provider");
    let said = bad.configure(plain.with_attr("inventory", &inventory[..inventory.len() - 9])).await.expect("an answer");
    assert!(says(&said, "it was cut or changed"), "{said:?}");
}

/// A pool's configuration.
fn any_pool() -> impl Strategy<Value = Value> {
    let size = prop::option::of(prop::sample::select(vec!["8GB", "8GiB", "1TB"]));
    let limits = prop::option::of((prop::option::of(1..4_i64), size));
    let rule = prop::sample::select(vec![("affinity", "cluster", "should"), ("location", "tag", "must_not")]);
    let rules = prop::option::of(prop::collection::vec(rule, 0..3));
    let weights = prop::option::of(prop::collection::btree_map(prop::sample::select(BOTH.to_vec()), 0..9_i64, 0..3));
    let strategy = prop::option::of(prop::sample::select(vec!["balanced", "cost", "geographic"]));
    let policy = prop::option::of((strategy, weights, rules));
    let moves = prop::option::of(prop::collection::btree_set(prop::sample::select(vec!["drain", "improve"]), 0..3));
    let description = prop::option::of(prop::sample::select(vec!["", "Two\nlines", "[moxxie v1 {} 00]"]));
    (limits, policy, moves, description, prop::option::of(1..3_i64)).prop_map(
        |(limits, policy, moves, description, most)| {
            let rule = |(kind, target, operator): (&str, &str, &str)| {
                Value::object([("type", kind), ("target", target), ("operator", operator), ("value", "x")])
            };
            let mut config = Value::object([("name", Value::from("any")), ("clusters", Value::set(BOTH))]);
            config.set_attr(
                "limits",
                limits
                    .map(|(vms, memory)| Value::object([("max_vms", Value::from(vms)), ("max_memory", memory.into())])),
            );
            config.set_attr(
                "placement_policy",
                policy.map(|(strategy, weights, rules)| {
                    Value::object([
                        ("strategy", Value::from(strategy)),
                        ("cluster_weights", weights.map(Value::map).into()),
                        ("rules", rules.map(|rules| Value::list(rules.into_iter().map(rule))).into()),
                    ])
                }),
            );
            for name in ["limits", "placement_policy"] {
                if nothing_set(config.attr(name)) {
                    config.set_attr(name, Value::Null);
                }
            }
            config.set_attr("automatic_moves", moves.map(Value::set));
            config.set_attr("description", description);
            config.set_attr("max_moves_per_apply", most);
            config
        },
    )
}

/// Whatever is configured is planned, applied, read back and planned again as core wants it, and the second plan is empty.
#[test]
fn a_pool_comes_back_as_it_was_configured() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let world = runtime.block_on(World::start());
    let person = Arc::new(Person::new(&world));
    let config = ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let held = runner.run(&(any_pool(), any_pool()), |(first, second)| {
        runtime.block_on(async {
            let core = core(block(&world, "platform")).await;
            let said = core.validate(POOL, first.clone()).await.expect("an answer");
            assert!(!said.has_errors(), "{said:?}");
            let mut state = State::default();
            for config in [&first, &second] {
                state = apply(&core, &state, config).await.state;
                let (read, said) = read(&core, &state).await;
                assert!(said.is_empty(), "{said:?}");
                assert_eq!(read, state);
                assert_eq!(planned(&core, &state, config).await.planned_state, state.value, "nothing is left to do");
            }
            let gone = apply(&core, &state, &Value::Null).await;
            assert!(!gone.diagnostics.has_errors(), "{:?}", gone.diagnostics);
            for name in BOTH {
                assert_eq!(person.comment(name, "any").await, None);
            }
        });
        Ok(())
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}
