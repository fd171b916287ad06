//! YAML as a tree whose every node knows its line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{ConfigError, LARGEST_FILE, Problem};

/// Deepest nesting that is read. The format itself needs nine levels; at thirty a thread of 2 MiB overflows in a debug build.
const DEEPEST: usize = 16;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, At, Node)>),
}

impl Value {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, ConfigError> {
    let whole =
        |message: String| ConfigError { problems: vec![Problem { line: 0, column: 0, path: String::new(), message }] };
    if text.len() > LARGEST_FILE {
        return Err(whole(format!("the file has {} bytes, more than the {LARGEST_FILE} that are read", text.len())));
    }
    let mut options = serde_saphyr::Options::default();
    // "NO" is Norway and "on" is a word; only true and false are truth values.
    options.strict_booleans = true;
    // Reading goes down a level of the stack with each level of nesting, and an overflow can't be caught.
    if let Some(budget) = &mut options.budget {
        budget.max_depth = DEEPEST;
    }
    let node: Node = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location();
        ConfigError {
            problems: vec![Problem {
                line: place.map_or(0, |place| place.line()),
                column: place.map_or(0, |place| place.column()),
                path: String::new(),
                message: first_line(&error.without_snippet().to_string()),
            }],
        }
    })?;
    if matches!(node.value, Value::Null) {
        return Err(whole("the file is empty; it needs at least the section \"clusters\"".to_owned()));
    }
    Ok(node)
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("not YAML");
    // The place is printed by us already.
    line.split(" at line ").next().unwrap_or(line).to_owned()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned: Spanned<Value> = Spanned::deserialize(deserializer)?;
        let at = At { line: spanned.referenced.line(), column: spanned.referenced.column() };
        Ok(Node { at, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let at = At { line: key.referenced.line(), column: key.referenced.column() };
            entries.push((key.value, at, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}
