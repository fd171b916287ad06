//! Mistakes on their paths, and the way from configuration over the record back to the same state.
use super::*;

fn base() -> Value {
    let rule = [("type", "affinity"), ("target", "cluster"), ("operator", "should"), ("value", "ams")];
    Value::object([
        ("name", Value::from("production-pool")),
        ("clusters", Value::set(["ams", "rtm"])),
        ("limits", Value::object([("max_vms", Value::from(150)), ("max_memory", "2TB".into())])),
        (
            "placement_policy",
            Value::object([
                ("strategy", Value::from("cost")),
                ("cluster_weights", Value::map([("ams", 80), ("rtm", 20)])),
                ("rules", Value::list([Value::object(rule)])),
            ]),
        ),
    ])
}

fn errors(config: &Value) -> Vec<(String, String)> {
    let mut diags = Diagnostics::new();
    validate(config, &mut diags);
    let path = |path: &Option<AttributePath>| path.as_ref().map(ToString::to_string).unwrap_or_default();
    diags.iter().map(|diag| (path(&diag.path), diag.detail.clone())).collect()
}

#[test]
fn each_mistake_is_reported_on_its_attribute_with_what_is_accepted() {
    let policy = |name: &str, value: Value| {
        let policy = base().attr("placement_policy").clone().with_attr(name, value);
        base().with_attr("placement_policy", policy)
    };
    let rule = |name: &str, value: &str| {
        let rule = base().attr("placement_policy").attr("rules").as_list().expect("rules")[0].clone();
        policy("rules", Value::list([rule.clone(), rule.with_attr(name, value)]))
    };
    let limit = |name: &str, value: Value| base().with_attr("limits", Value::Null.with_attr(name, value));
    let cases: Vec<(Value, &str, &str)> = vec![
        (base().with_attr("name", "moxxie-x"), "name", "reserved"),
        (base().with_attr("clusters", Value::set(Vec::<Value>::new())), "clusters", "at least one"),
        (base().with_attr("clusters", Value::set(["ams", "rtm", "no cluster"])), "clusters", "no cluster"),
        (limit("max_vms", 0.into()), "limits.max_vms", "from 1"),
        (limit("max_cpu_cores", 1.5.into()), "limits.max_cpu_cores", "whole number"),
        (limit("max_memory", "much".into()), "limits.max_memory", "much"),
        (limit("max_storage", "0".into()), "limits.max_storage", "no limit"),
        (policy("strategy", "fair".into()), "placement_policy.strategy", "geographic"),
        (policy("cluster_weights", Value::map([("fra", 1)])), r#"placement_policy.cluster_weights["fra"]"#, "ams, rtm"),
        (
            policy("cluster_weights", Value::map([("ams", -1)])),
            r#"placement_policy.cluster_weights["ams"]"#,
            "0 to 1000000",
        ),
        (rule("type", "nearness"), "placement_policy.rules[1].type", "anti-affinity"),
        (rule("target", "rack"), "placement_policy.rules[1].target", "node"),
        (rule("operator", "may"), "placement_policy.rules[1].operator", "must_not"),
        (rule("value", " "), "placement_policy.rules[1].value", "Name a"),
        (base().with_attr("automatic_moves", Value::set(["always"])), "automatic_moves", "drain"),
        (base().with_attr("max_moves_per_apply", 0), "max_moves_per_apply", "from 1"),
    ];
    for (config, path, words) in cases {
        let found = errors(&config);
        assert!(found.iter().any(|(at, detail)| at == path && detail.contains(words)), "{path}: {found:?}");
    }
    assert_eq!(errors(&base()), []);
}

#[test]
fn unknown_values_pass_and_are_named() {
    let config = base().with_attr("clusters", Value::unknown()).with_attr("placement_policy", Value::unknown());
    assert_eq!(errors(&config), []);
    assert_eq!(unknown_inputs(&planned(&config, &Value::Null)), ["clusters", "placement_policy"]);
}

#[test]
fn what_was_planned_comes_back_from_its_record_to_the_letter() {
    for config in [
        base(),
        base().with_attr("limits", Value::Null).with_attr("placement_policy", Value::Null),
        base().with_attr("limits", Value::Null.with_attr("max_vms", Value::Null)),
        base().with_attr("placement_policy", Value::Null.with_attr("rules", Value::List(Vec::new()))),
        base().with_attr("description", "").with_attr("automatic_moves", Value::set(["improve", "drain"])),
    ] {
        let plan = super::super::schema::schema().ty().conform(planned(&config, &Value::Null)).expect("a plan");
        let text = serde_json::to_string(&pool(&plan)).expect("its record");
        let record: Pool = serde_json::from_str(&text).expect("the same");
        let name = name(&plan).expect("a name");
        let state = state(&name, &record, &clusters(&plan), &plan);
        assert_eq!(super::super::schema::schema().ty().conform(state.clone()).expect("a state"), plan);
        assert_eq!(planned(&config, &state), planned(&config, &plan), "and so nothing changes");
    }
}

#[test]
fn another_spelling_is_no_change_and_another_meaning_is() {
    let prior = planned(&base(), &Value::Null);
    let spelled =
        base().with_attr("limits", Value::object([("max_vms", Value::from(150)), ("max_memory", "2048G".into())]));
    assert_eq!(planned(&spelled, &prior).attr("limits").attr("max_memory"), &"2TB".into());
    let mut changed = pool(&prior);
    changed.limits.max_memory = Some(Bytes::from_gib(1));
    let state = state(&name(&prior).expect("a name"), &changed, &clusters(&prior), &prior);
    assert_eq!(state.attr("limits").attr("max_memory"), &"1GiB".into());
    assert_eq!(state.attr("limits").attr("max_vms"), &150.into());
    assert_eq!(state.attr("placement_policy"), prior.attr("placement_policy"));
}
