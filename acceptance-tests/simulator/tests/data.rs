//! The simulator's data files against what they claim to be.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(here(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(name: &str) -> Value {
    serde_json::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What of a schema file's rule the table must say too.
const SAME: [&str; 10] =
    ["type", "enum", "minimum", "maximum", "minLength", "maxLength", "optional", "requires", "alias", "keyAlias"];

fn compare_rule(place: &str, ours: &Value, theirs: &Value, shapes: &Value, wrong: &mut Vec<String>) {
    for key in SAME {
        if ours.get(key) != theirs.get(key) {
            wrong.push(format!("{place}: {key} is {:?}, the schema says {:?}", ours.get(key), theirs.get(key)));
        }
    }
    if ours.get("pattern").is_some() != theirs.get("pattern").is_some() {
        wrong.push(format!("{place}: pattern"));
    }
    match theirs.get("format") {
        Some(Value::Object(properties)) => {
            let shape = ours.get("shape").and_then(Value::as_str).map(|id| &shapes[id]);
            let Some(Value::Object(shape)) = shape else { return wrong.push(format!("{place}: no shape")) };
            compare_keys(place, shape, properties, wrong);
            for (key, rule) in properties {
                compare_rule(&format!("{place}.{key}"), &shape[key], rule, shapes, wrong);
            }
        }
        other if ours.get("format") != other => wrong.push(format!("{place}: format")),
        _ => {}
    }
}

fn compare_keys(
    place: &str,
    ours: &serde_json::Map<String, Value>,
    theirs: &serde_json::Map<String, Value>,
    wrong: &mut Vec<String>,
) {
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (ours.keys().collect(), theirs.keys().collect());
    if a != b {
        wrong.push(format!("{place}: keys differ: {:?}", a.symmetric_difference(&b).collect::<Vec<_>>()));
    }
}

/// Parameters and permissions are those of the official schema.
#[test]
fn the_table_is_the_official_schema() {
    let mut official = BTreeMap::new();
    for name in ["9.1", "9.1-adjacent", "firewall"] {
        let schema = json(&format!("api/official/{name}.json"));
        for endpoint in schema["endpoints"].as_array().expect("a list") {
            let key =
                format!("{} {}", endpoint["method"].as_str().expect("text"), endpoint["path"].as_str().expect("text"));
            official.entry(key).or_insert_with(|| endpoint.clone());
        }
    }
    let table = json("api/table.json");
    let mut wrong = Vec::new();
    for ours in table["endpoints"].as_array().expect("a list") {
        let key = format!("{} {}", ours["method"].as_str().expect("text"), ours["path"].as_str().expect("text"));
        let theirs = official.get(&key).unwrap_or_else(|| panic!("{key} is not in the schema"));
        for (name, default) in
            [("protected", Value::Bool(false)), ("proxyto", Value::Null), ("allowtoken", Value::Bool(true))]
        {
            if ours.get(name).unwrap_or(&default) != theirs.get(name).unwrap_or(&default) {
                wrong.push(format!("{key}: {name}"));
            }
        }
        for name in ["user", "check"] {
            if ours["permissions"].get(name) != theirs["permissions"].get(name) {
                wrong.push(format!("{key}: permission {name}"));
            }
        }
        let (a, b) = (ours["parameters"].as_object().expect("a map"), theirs["parameters"].as_object().expect("a map"));
        compare_keys(&key, a, b, &mut wrong);
        for (name, rule) in b {
            compare_rule(&format!("{key} {name}"), &a[name], rule, &table["shapes"], &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every item of proxmox-ve.md §15–17 is cited by a behaviour test, or fidelity.md says why not.
#[test]
fn every_fact_is_tested_or_excused() {
    let mut cited = String::new();
    for entry in std::fs::read_dir(here("tests")).expect("the tests") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("data.rs") {
            cited.push_str(&std::fs::read_to_string(path).expect("a file"));
        }
    }
    let citations: String =
        cited.lines().filter(|line| line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let words = |text: &str| {
        text.split(|c: char| c.is_whitespace() || ",:;()".contains(c))
            .filter_map(|word| word.trim_end_matches('.').strip_prefix('§').map(str::to_owned))
            .collect::<BTreeSet<_>>()
    };
    let cited = words(&citations);
    let excused = words(&text("fidelity.md"));
    let items: BTreeMap<String, String> = serde_json::from_str(&text("api/facts.json")).expect("a map");
    assert!(items.len() > 50);
    let open: Vec<_> = items.iter().filter(|(id, _)| !cited.contains(*id) && !excused.contains(*id)).collect();
    assert!(open.is_empty(), "neither cited nor excused: {open:#?}");
    let unknown: Vec<_> = cited
        .iter()
        .chain(&excused)
        .filter(|id| ["15.", "16.", "17."].iter().any(|start| id.starts_with(start)) && !items.contains_key(*id))
        .collect();
    assert!(unknown.is_empty(), "cited, but no such fact: {unknown:?}");
}

/// A small part of JSON Schema: what world.schema.json uses.
fn validate(place: &str, value: &Value, schema: &Value, root: &Value, wrong: &mut Vec<String>) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return validate(place, value, &root["$defs"][name], root, wrong);
    }
    let fits = match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    let listed = schema.get("enum").and_then(Value::as_array).is_none_or(|values| values.contains(value));
    if !fits || !listed {
        return wrong.push(format!("{place}: {value} does not fit"));
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            wrong.push(format!("{place}: {name} is missing"));
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let rule = schema.get("properties").and_then(|p| p.get(key)).or_else(|| schema.get("additionalProperties"));
        match rule {
            Some(Value::Bool(false)) => wrong.push(format!("{place}: unknown key {key}")),
            Some(rule @ Value::Object(_)) => validate(&format!("{place}.{key}"), inner, rule, root, wrong),
            _ => {}
        }
    }
    if let Some(rule) = schema.get("items") {
        for inner in value.as_array().into_iter().flatten() {
            validate(&format!("{place}[]"), inner, rule, root, wrong);
        }
    }
}

#[test]
fn worlds_fit_their_schema() {
    let schema = json("world.schema.json");
    for name in ["worlds/three-sites.yaml", "worlds/shared-images.yaml"] {
        simulator::World::from_yaml(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let value: Value = serde_saphyr::from_str(&text(name)).expect("YAML");
        let mut wrong = Vec::new();
        validate(name, &value, &schema, &schema, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn a_mistaken_world_is_refused() {
    for bad in ["clusters: {}\nnonsense: 1\n", "clusters: { a: { nodes: {} } }\n"] {
        assert!(simulator::World::from_yaml(bad).is_err(), "{bad}");
    }
}
