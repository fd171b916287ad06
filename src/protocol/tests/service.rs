//! What core sees of a provider, over real gRPC in this process.

#[path = "../examples/smallest/thing.rs"]
mod thing;

use protocol::{
    AttributePath, ClientCapabilities, Diagnostics, Value,
    testing::{CoreClient, State},
};
use thing::{ECHO, Smallest, THING};

async fn core() -> CoreClient {
    let core = CoreClient::start(Smallest::default()).await.unwrap();
    assert!(core.configure(Value::object([("greeting", "hello")])).await.unwrap().is_empty());
    core
}

fn config(name: &str) -> Value {
    Value::object([("name", Value::from(name)), ("size", 0.1.into()), ("secret_wo", "hunter2".into())])
}

fn only(diagnostics: &Diagnostics) -> &protocol::Diagnostic {
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    diagnostics.iter().next().unwrap()
}

#[tokio::test]
async fn a_thing_lives_and_dies() {
    let core = core().await;
    let planned = core.plan(THING, &State::default(), &config("a")).await.unwrap();
    assert_eq!(planned.violations, Vec::<String>::new());
    assert!(planned.planned_state.attr("id").is_unknown());
    assert!(planned.planned_state.attr("secret_wo").is_null(), "write-only values are not planned");
    let again = core.replan(THING, &State::default(), &config("a"), &planned).await.unwrap();
    assert_eq!(again.violations, Vec::<String>::new());

    let created = core.apply(THING, &State::default(), &config("a"), &again).await.unwrap();
    assert_eq!(created.violations, Vec::<String>::new());
    assert_eq!(created.state.value.attr("id").as_str(), Some("id of a"));
    assert_eq!(created.state.value.attr("size").as_number().unwrap().as_str(), "0.1");
    let (read, _) = core.read(THING, &created.state).await.unwrap();
    assert_eq!(read, created.state);

    let renamed = core.plan(THING, &read, &config("b")).await.unwrap();
    assert_eq!(renamed.requires_replace, [AttributePath::new("name")]);
    let destroy = core.plan(THING, &read, &Value::Null).await.unwrap();
    let gone = core.apply(THING, &read, &Value::Null, &destroy).await.unwrap();
    assert!(gone.violations.is_empty() && gone.state == State::default());
}

#[tokio::test]
async fn the_private_of_the_plan_comes_back_where_core_stores_it() {
    let mut core = core().await;
    let first = core.plan(THING, &State::default(), &config("a")).await.unwrap();
    let mut marked = first.clone();
    marked.planned_private = b"mine".to_vec();
    let without = core.replan(THING, &State::default(), &config("a"), &marked).await.unwrap();
    assert_eq!(without.planned_private, b"planned once");
    core.set_capabilities(ClientCapabilities { store_planned_private: true, ..Default::default() });
    let with = core.replan(THING, &State::default(), &config("a"), &marked).await.unwrap();
    assert_eq!(with.planned_private, b"mine");
}

#[tokio::test]
async fn a_panic_is_a_message_and_the_next_call_works() {
    let core = core().await;
    let diagnostics = core.validate(THING, config("panic")).await.unwrap();
    let message = only(&diagnostics);
    assert!(message.detail.contains("ValidateResourceConfig: boom in validate"), "{}", message.detail);
    assert!(message.detail.contains("Nothing was changed."));
    assert!(core.validate(THING, config("fine")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_panic_in_apply_or_read_loses_nothing() {
    let core = core().await;
    let value = Value::object([("id", "1"), ("name", "a")]);
    let prior = State { value: core.schema().resources[THING].ty().conform(value).unwrap(), private: b"p".to_vec() };
    let planned = core.plan(THING, &prior, &config("panic at apply")).await.unwrap();
    let applied = core.apply(THING, &prior, &config("panic at apply"), &planned).await.unwrap();
    assert!(only(&applied.diagnostics).detail.contains("boom in apply"));
    assert_eq!(applied.state.value, prior.value);

    let created = core.plan(THING, &State::default(), &config("panic at apply")).await.unwrap();
    let created = core.apply(THING, &State::default(), &config("panic at apply"), &created).await.unwrap();
    assert!(created.state.value.is_null() && !created.tainted);

    let value = prior.value.clone().with_attr("name", "unreadable");
    let prior = State { value, private: b"p".to_vec() };
    let (read, diagnostics) = core.read(THING, &prior).await.unwrap();
    assert!(diagnostics.has_errors());
    assert_eq!(read, prior);
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_a_message_with_its_place() {
    let planned = core().await.plan(THING, &State::default(), &config("misfit")).await.unwrap();
    let message = only(&planned.diagnostics);
    assert_eq!(message.path, Some(AttributePath::new("size")));
    assert!(message.detail.contains("expected number, found a string"), "{}", message.detail);
}

#[tokio::test]
async fn messages_point_at_attributes_but_never_into_a_set() {
    let core = core().await;
    let diagnostics = core.validate(THING, config("bad")).await.unwrap();
    assert_eq!(only(&diagnostics).path, Some(AttributePath::new("name")));
    let diagnostics = core.validate(THING, config("bad tag")).await.unwrap();
    assert_eq!(only(&diagnostics).path, Some(AttributePath::new("tags")));
}

#[tokio::test]
async fn write_only_values_are_refused_where_core_would_store_them() {
    let mut core = core().await;
    assert!(core.validate(THING, config("a")).await.unwrap().is_empty());
    core.set_capabilities(ClientCapabilities::default());
    let diagnostics = core.validate(THING, config("a")).await.unwrap();
    let message = only(&diagnostics);
    assert_eq!(message.path, Some(AttributePath::new("secret_wo")));
    assert!(!message.detail.contains("hunter2"));
    assert!(core.validate(THING, Value::object([("name", "a")])).await.unwrap().is_empty());
}

#[tokio::test]
async fn stored_state_is_read_by_the_current_schema() {
    let core = core().await;
    let json = br#"{"id": "1", "name": "a", "size": 18446744073709551616, "was": "once"}"#;
    let (value, diagnostics) = core.upgrade(THING, 1, json).await.unwrap();
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert_eq!(value.attr("size").as_number().unwrap().as_str(), "18446744073709551616");
    let (_, older) = core.upgrade(THING, 0, json).await.unwrap();
    assert!(older.is_empty(), "what an older version had more is dropped: {older:?}");
    let (_, broken) = core.upgrade(THING, 1, br#"{"size": "big"}"#).await.unwrap();
    assert_eq!(only(&broken).path, Some(AttributePath::new("size")));
    let (_, nothing) = core.upgrade(THING, 1, b"").await.unwrap();
    assert!(nothing.has_errors());
}

#[tokio::test]
async fn import_move_and_data_sources_answer() {
    let core = core().await;
    let (found, _) = core.import(THING, "7").await.unwrap();
    assert_eq!(found[0].state.attr("id").as_str(), Some("7"));
    let other = "registry.terraform.io/example/other";
    let (moved, diagnostics) = core.move_state(other, "other_thing", br#"{"a": 1}"#, THING).await.unwrap();
    assert!(moved.value.is_null());
    assert!(only(&diagnostics).detail.contains("import"));
    let (echo, _) = core.read_data_source(ECHO, Value::object([("say", "x")])).await.unwrap();
    assert_eq!(echo.attr("say").as_str(), Some("x"));
}

#[tokio::test]
async fn state_of_the_own_type_is_taken_over_from_any_registry_address() {
    let core = core().await;
    let stored = br#"{"id": "1", "name": "a", "size": 0.1, "gone_since": true}"#;
    let prefix = THING.split('_').next().unwrap();
    for address in
        [prefix.to_owned(), format!("registry.opentofu.org/fork/{prefix}"), format!("registry.terraform.io/a/{prefix}")]
    {
        let (moved, diagnostics) = core.move_state(&address, THING, stored, THING).await.unwrap();
        assert!(diagnostics.is_empty(), "{address}: {diagnostics:?}");
        assert_eq!(moved.value.attr("name").as_str(), Some("a"), "{address}");
        assert_eq!(moved.private, b"kept beside it");
    }
    for address in ["registry.terraform.io/example/other", "other"] {
        let (moved, diagnostics) = core.move_state(address, THING, stored, THING).await.unwrap();
        let said = only(&diagnostics);
        assert!(
            moved.value.is_null() && said.detail.contains(address) && said.summary.contains("another provider"),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn thirty_megabytes_pass_both_ways() {
    let core = core().await;
    let long = "x".repeat(30 << 20);
    let planned = core.plan(THING, &State::default(), &config(&long)).await.unwrap();
    assert_eq!(planned.planned_state.attr("name").as_str().map(str::len), Some(long.len()));
}

#[tokio::test]
async fn stop_reaches_a_running_apply() {
    let core = core().await;
    let planned = core.plan(THING, &State::default(), &config("slow")).await.unwrap();
    let (none, slow) = (State::default(), config("slow"));
    let (applied, stopped) = tokio::join!(core.apply(THING, &none, &slow, &planned), core.stop());
    assert_eq!(stopped.unwrap(), "");
    assert_eq!(only(&applied.unwrap().diagnostics).summary, "Stopped");
}
