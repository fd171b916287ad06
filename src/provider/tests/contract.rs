//! The contract of plan and apply against an in-process core: what the CLIs are too old for, and properties over many values.
#[path = "contract/absence.rs"]
mod absence;
#[path = "contract/clusters.rs"]
mod clusters;
#[path = "contract/moves.rs"]
mod moves;
#[path = "contract/odd.rs"]
mod odd;
#[path = "contract/pools.rs"]
mod pools;
#[path = "contract/promises.rs"]
mod promises;
#[path = "contract/recovery.rs"]
mod recovery;
#[path = "contract/rights.rs"]
mod rights;
mod support;
#[path = "contract/wishes.rs"]
mod wishes;

use proptest::prelude::*;
use protocol::testing::{Planned, State};
use protocol::{ClientCapabilities, Value};
use support::{TYPE, World, known, vm};

/// Held by tests that write or remove this run's note of a validate walk: the process has one working folder.
static NOTE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A core that hands `planned_private` back (Terraform 1.16).
fn modern() -> ClientCapabilities {
    ClientCapabilities { store_planned_private: true, write_only_attributes_allowed: true, ..Default::default() }
}

fn cluster(planned: &Planned) -> String {
    assert!(!planned.diagnostics.has_errors(), "{:?}", planned.diagnostics);
    assert_eq!(planned.violations, Vec::<String>::new());
    planned.planned_state.attr("cluster").as_str().expect("a known cluster").to_owned()
}

fn says(diagnostics: &protocol::Diagnostics, text: &str) -> bool {
    diagnostics.iter().any(|diagnostic| format!("{} {}", diagnostic.summary, diagnostic.detail).contains(text))
}

#[tokio::test]
async fn a_decision_travels_in_planned_private_and_apply_refuses_what_the_facts_forbid() {
    let world = World::start().await;
    let mut core = world.core().await;
    core.set_capabilities(modern());
    let config = vm("private-api");
    let plan = core.plan(TYPE, &State::default(), &config).await.expect("a plan");
    let planned = cluster(&plan);
    assert!(!plan.planned_private.is_empty());
    assert!(
        !world.journal().iter().any(|file| file.1.contains("private-api")),
        "the journal is for cores that need it"
    );
    // In another process, with the cluster full and nothing else of the plan.
    world.fill(&planned);
    let mut apply = world.core().await;
    apply.set_capabilities(modern());
    let again = apply.replan(TYPE, &State::default(), &config, &plan).await.expect("a plan");
    assert_eq!(cluster(&again), planned);
    let refused = apply.apply(TYPE, &State::default(), &config, &again).await.expect("an answer");
    assert!(says(&refused.diagnostics, "the plan is stale") && says(&refused.diagnostics, &planned));
    assert!(refused.state.value.is_null() && !refused.tainted);
    world.empty(&planned);
    let mut apply = world.core().await;
    apply.set_capabilities(modern());
    let again = apply.replan(TYPE, &State::default(), &config, &plan).await.expect("a plan");
    let done = apply.apply(TYPE, &State::default(), &config, &again).await.expect("an answer");
    assert_eq!((done.violations, done.diagnostics.has_errors()), (Vec::new(), false), "{:?}", done.diagnostics);
    assert!(!String::from_utf8_lossy(&done.state.private).contains("pinned"), "a decision is no state");
}

/// The journal's one entry about a machine, made to be another run's.
fn given_to_another_run(world: &World, about: &str) {
    let entries: Vec<_> = world.journal().into_iter().filter(|(_, text)| text.contains(about)).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    let (path, text) = &entries[0];
    let mut entry: serde_json::Value = serde_json::from_str(text).expect("JSON");
    entry["run"] = "another".into();
    std::fs::write(path, entry.to_string()).expect("the entry");
}

#[tokio::test]
async fn the_plan_walk_reads_no_other_runs_entry_and_the_apply_walk_obeys_it() {
    let _alone = NOTE.lock().await;
    let world = World::start().await;
    let config = vm("walk-api");
    // The validate walk is a process of its own; it tells this run from one that applies a saved plan.
    world.unconfigured().await.validate(TYPE, config.clone()).await.expect("an answer");
    let core = world.core().await;
    let plan = core.plan(TYPE, &State::default(), &config).await.expect("a plan");
    let first = cluster(&plan);
    // The same run: the decision stands, in either walk, whatever the facts say now.
    world.fill(&first);
    let apply = world.core().await;
    assert_eq!(cluster(&apply.plan(TYPE, &State::default(), &config).await.expect("a plan")), first);
    assert_eq!(cluster(&apply.replan(TYPE, &State::default(), &config, &plan).await.expect("a plan")), first);
    // Another run's entry.
    given_to_another_run(&world, "walk-api");
    let apply = world.core().await;
    let obeyed = apply.replan(TYPE, &State::default(), &config, &plan).await.expect("a plan");
    assert_eq!(cluster(&obeyed), first, "the deferral flag tells the apply walk");
    assert_eq!(obeyed.violations, Vec::<String>::new());
    let fresh = world.core().await.plan(TYPE, &State::default(), &config).await.expect("a plan");
    assert_ne!(cluster(&fresh), first, "the plan walk decides afresh");
}

/// What `terraform test` does with a provider block in the test file: one process, which is asked by every run in turn.
#[tokio::test]
async fn what_one_run_of_a_test_placed_and_saw_is_not_the_next_runs() {
    let world = World::start().await;
    let yaml = include_str!("../../../acceptance-tests/cases/main_job/multi-site.yaml");
    let one = yaml.replacen("limits: { max_vms: 150,", "limits: { max_vms: 1,", 1);
    assert_ne!(one, yaml);
    for client in [modern(), ClientCapabilities::default()] {
        let mut core = world.unconfigured().await;
        core.set_capabilities(client);
        let said = core.configure(world.block_of("one-machine.yaml", &one)).await.expect("an answer");
        assert!(!said.has_errors(), "{said:?}");
        // The pool takes one machine. Each run makes another one and removes it.
        let mut last: Option<String> = None;
        for run in ["run-one", "run-two", "run-three"] {
            let config = vm(run);
            if let Some(full) = &last {
                world.fill(full);
            }
            let plan = core.plan(TYPE, &State::default(), &config).await.expect("a plan");
            let planned = cluster(&plan);
            assert_ne!(Some(&planned), last.as_ref(), "{run} sees what the clusters are now");
            if let Some(full) = &last {
                world.empty(full);
            }
            let again = core.replan(TYPE, &State::default(), &config, &plan).await.expect("a plan");
            let made = core.apply(TYPE, &State::default(), &config, &again).await.expect("an answer");
            assert!(!made.diagnostics.has_errors(), "{run}: {:?}", made.diagnostics);
            let gone = core.plan(TYPE, &made.state, &Value::Null).await.expect("a plan");
            let gone = core.apply(TYPE, &made.state, &Value::Null, &gone).await.expect("an answer");
            assert!(!gone.diagnostics.has_errors() && gone.state.value.is_null(), "{run}: {:?}", gone.diagnostics);
            last = Some(planned);
        }
    }
}

#[tokio::test]
async fn without_a_validate_walk_a_saved_plan_is_applied() {
    let _alone = NOTE.lock().await;
    let world = World::start().await;
    let config = vm("saved-api");
    world.unconfigured().await.validate(TYPE, config.clone()).await.expect("an answer");
    let plan = world.core().await.plan(TYPE, &State::default(), &config).await.expect("a plan");
    let first = cluster(&plan);
    given_to_another_run(&world, "saved-api");
    world.fill(&first);
    world.forget_validate();
    // As OpenTofu asks: nothing in the request tells the walk.
    let again = world.core().await.plan(TYPE, &State::default(), &config).await.expect("a plan");
    assert_eq!(cluster(&again), first);
}

#[tokio::test]
async fn what_was_lost_is_said_and_decided_again() {
    let world = World::start().await;
    let config = vm("lost-api");
    let plan = world.core().await.plan(TYPE, &State::default(), &config).await.expect("a plan");
    world.forget_decisions("lost-api");
    let again = world.core().await.replan(TYPE, &State::default(), &config, &plan).await.expect("a plan");
    assert!(says(&again.diagnostics, "did not travel"), "{:?}", again.diagnostics);
    assert_eq!(again.violations, Vec::<String>::new(), "the facts are the same");
}

/// A machine's configuration; `None` leaves an attribute out.
fn any_config() -> impl Strategy<Value = Value> {
    let memory = prop::option::of(prop::sample::select(vec!["2GB", "4GiB", "2048M"]));
    let pin = prop::option::of(prop::sample::select(vec!["worldstream-prod", "databarn-dr"]));
    let size = prop::sample::select(vec!["8GB", "8GiB", "16GB"]);
    let slots = prop::collection::btree_set(prop::sample::select(vec!["scsi0", "scsi1", "virtio0"]), 0..3);
    let network = prop::sample::select(vec![Some("app"), None]);
    let flags = prop::collection::vec(prop::option::of(any::<bool>()), 4);
    let tags = prop::option::of(prop::collection::btree_set(prop::sample::select(vec!["web", "database"]), 0..3));
    let cores = prop::option::of(1..4_i64);
    let migration = prop::option::of(prop::sample::select(vec!["keep", "delete"]));
    (memory, pin, size, slots, network, flags, tags, cores, migration).prop_map(
        |(memory, pin, size, slots, network, flags, tags, cores, migration)| {
            let mut config = Value::object([("name", "pure-api"), ("pool", "production-pool")]);
            config.set_attr("memory", memory);
            config.set_attr("cluster", pin);
            if !slots.is_empty() {
                let disk = || Value::object([("size", size), ("storage", "fast")]);
                config.set_attr("disks", Value::map(slots.into_iter().map(|slot| (slot, disk()))));
            }
            let nic = match network {
                Some(network) => Value::object([("network", Value::from(network))]),
                None => Value::object([("bridge", Value::from("vmbr0")), ("vlan", 7.into())]),
            };
            config.set_attr("network_devices", Value::map([("net0", nic)]));
            for (name, flag) in ["started", "on_boot", "protection", "agent"].into_iter().zip(flags) {
                config.set_attr(name, flag);
            }
            if let Some(tags) = tags {
                config.set_attr("tags", Value::set(tags));
            }
            if let Some(cores) = cores {
                config.set_attr("cpu", Value::object([("cores", cores)]));
            }
            if let Some(source) = migration {
                config.set_attr("migration", Value::object([("source", source)]));
            }
            config
        },
    )
}

/// Three views of one federation: as it is, with other facts, and with no cluster that answers.
struct Views {
    runtime: tokio::runtime::Runtime,
    views: Vec<(World, protocol::testing::CoreClient)>,
}

impl Views {
    fn new() -> Views {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let views = runtime.block_on(async {
            let calm = World::start().await;
            let other = World::start().await;
            other.fill("worldstream-prod");
            other.sim.cluster("databarn-dr").set_quorum(false);
            let dark = World::start().await;
            for cluster in dark.sim.clusters() {
                cluster.set_dark(true).await;
            }
            let mut views = Vec::new();
            for world in [calm, other, dark] {
                let core = world.core().await;
                views.push((world, core));
            }
            views
        });
        Views { runtime, views }
    }
}

/// The plan of an existing object is a function of what core hands over, whatever the clusters say and whether they answer.
#[test]
fn the_plan_of_an_existing_machine_does_not_depend_on_facts() {
    let views = Views::new();
    let first = || views.runtime.block_on(views.views[0].0.core());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let priors = (any_config(), any_config(), any::<bool>());
    let held = runner.run(&priors, |(before, config, open)| {
        let created = views.runtime.block_on(first().plan(TYPE, &State::default(), &before)).expect("a plan");
        prop_assume!(!created.diagnostics.has_errors());
        prop_assert_eq!(&created.violations, &Vec::<String>::new());
        let mut prior = known(&created.planned_state);
        if open {
            prior.set_attr("operation", "move to databarn-dr: source not yet retired");
        }
        let prior = State { value: prior, private: br#"{"vmid_taken":["databarn-dr"]}"#.to_vec() };
        let mut plans = Vec::new();
        for (_, core) in &views.views {
            plans.push(views.runtime.block_on(core.plan(TYPE, &prior, &config)).expect("a plan"));
        }
        for plan in &plans {
            prop_assert_eq!(&plan.planned_state, &plans[0].planned_state);
            prop_assert_eq!(&plan.planned_private, &plans[0].planned_private);
            prop_assert_eq!(plan.diagnostics.has_errors(), plans[0].diagnostics.has_errors());
            prop_assert_eq!(&plan.violations, &Vec::<String>::new());
            prop_assert!(plan.requires_replace.is_empty());
        }
        Ok(())
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}

/// Every configured leaf is planned as configured or as it was, over every schema of the provider.
#[test]
fn planned_is_configured_or_prior_over_all_schemas() {
    let _alone = NOTE.blocking_lock();
    let views = Views::new();
    let core = &views.views[0].1;
    let schemas: Vec<_> = core.schema().resources.clone().into_iter().collect();
    assert!(!schemas.is_empty());
    for (name, schema) in schemas {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 128,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let pair = (support::of_schema(&schema, true), support::of_schema(&schema, false), any::<bool>());
        let held = runner.run(&pair, |(before, config, update)| {
            // Core plans nothing that was not validated.
            for config in [&before, &config] {
                let said = views.runtime.block_on(core.validate(&name, config.clone())).expect("an answer");
                prop_assume!(!said.has_errors());
            }
            let mut prior = State::default();
            if update {
                let created = views.runtime.block_on(core.plan(&name, &prior, &before)).expect("a plan");
                prop_assume!(!created.diagnostics.has_errors());
                prior.value = known(&created.planned_state);
            }
            let plan = views.runtime.block_on(core.plan(&name, &prior, &config)).expect("a plan");
            // An error is an answer too; a plan that core would refuse is not.
            prop_assert_eq!(&plan.violations, &Vec::<String>::new());
            Ok(())
        });
        held.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
