//! What core proposes as the new state before it asks the provider to plan.

use std::collections::BTreeMap;

use crate::{Attribute, AttributeKind, NestingMode, Schema, Value};

/// Prior state overlaid with configuration: what is configured wins, what is computed and not configured stays.
///
/// Elements of nested lists are matched by index, of maps by key; of sets by being equal in all that is configured.
pub fn proposed_new(schema: &Schema, prior: &Value, config: &Value) -> Value {
    if config.is_null() {
        return Value::Null;
    }
    object(&schema.attributes, prior, config)
}

fn object(attributes: &[Attribute], prior: &Value, config: &Value) -> Value {
    if config.as_map().is_none() {
        return config.clone();
    }
    Value::object(attributes.iter().map(|a| (&a.name, attribute(a, prior.attr(&a.name), config.attr(&a.name)))))
}

fn attribute(a: &Attribute, prior: &Value, config: &Value) -> Value {
    if config.is_null() {
        return if a.computed { prior.clone() } else { Value::Null };
    }
    let AttributeKind::Nested { mode, attributes } = &a.kind else { return config.clone() };
    match (mode, config) {
        (NestingMode::Single, _) => object(attributes, prior, config),
        (NestingMode::Map, Value::Map(elements)) => {
            let elements = elements.iter().map(|(k, v)| (k.clone(), object(attributes, prior.attr(k), v)));
            Value::Map(elements.collect::<BTreeMap<_, _>>())
        }
        (NestingMode::List, Value::List(elements)) => {
            let before = |i: usize| prior.as_list().and_then(|l| l.get(i)).cloned().unwrap_or_default();
            Value::List(elements.iter().enumerate().map(|(i, v)| object(attributes, &before(i), v)).collect())
        }
        (NestingMode::Set, Value::Set(elements)) => {
            let mut left: Vec<&Value> = prior.as_list().unwrap_or_default().iter().collect();
            let mut merged = |v: &Value| match left.iter().position(|p| object(attributes, p, v) == **p) {
                Some(i) => left.swap_remove(i).clone(),
                None => object(attributes, &Value::Null, v),
            };
            Value::Set(elements.iter().map(&mut merged).collect())
        }
        _ => config.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_wins_and_computed_stays() {
        let disk = vec![Attribute::number("size").required(), Attribute::string("volume").computed()];
        let schema = Schema::new(
            "",
            vec![
                Attribute::string("id").computed(),
                Attribute::string("note").optional(),
                Attribute::nested("disks", NestingMode::Map, disk).optional(),
            ],
        );
        let disk = |size: i64, volume: Option<&str>| {
            Value::object([("size", Value::from(size)), ("volume", Value::from(volume))])
        };
        let prior = Value::object([
            ("id", Value::from("i")),
            ("note", "old".into()),
            ("disks", Value::map([("a", disk(1, Some("vol-a"))), ("b", disk(1, Some("vol-b")))])),
        ]);
        let config = schema.ty().conform(Value::object([("disks", Value::map([("a", disk(2, None))]))])).unwrap();
        let proposed = proposed_new(&schema, &prior, &config);
        assert_eq!(proposed.attr("id").as_str(), Some("i"));
        assert!(proposed.attr("note").is_null());
        assert_eq!(*proposed.attr("disks"), Value::map([("a", disk(2, Some("vol-a")))]));
        assert!(proposed_new(&schema, &prior, &Value::Null).is_null());
    }
}
