//! YAML as a tree whose every node knows its line and column.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

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
    /// Where its text stands in the file, in bytes; where an alias stands for it, where that text was defined.
    span: Option<Range<usize>>,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// A whole number, as the file spells it and as a number.
    Int(Box<str>, i64),
    /// Any other number, likewise.
    Float(Box<str>, f64),
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
            Value::Int(..) | Value::Float(..) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, ConfigError> {
    let mut node: Node = read(text).map_err(|problem| ConfigError { problems: vec![problem] })?;
    if matches!(node.value, Value::Null) {
        let problem = whole("the file is empty; it needs at least the section \"clusters\"".to_owned());
        return Err(ConfigError { problems: vec![problem] });
    }
    node.spell(text);
    Ok(node)
}

/// Reads one YAML document of at most [`LARGEST_FILE`] bytes into a type. Every YAML file of a person is read so, that one word
/// means the same in all of them: `yes`, `no`, `on` and `off` are words, and only `true` and `false` are truth values.
///
/// # Errors
/// What is wrong with it, with line and column; no value of the file is quoted but an unknown key.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
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
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location();
        Problem {
            line: place.map_or(0, |place| place.line()),
            column: place.map_or(0, |place| place.column()),
            path: String::new(),
            message: first_line(&error.without_snippet().to_string()),
        }
    })
}

fn whole(message: String) -> Problem {
    Problem { line: 0, column: 0, path: String::new(), message }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("not YAML");
    // The place is printed by us already.
    line.split(" at line ").next().unwrap_or(line).to_owned()
}

impl Node {
    /// Gives every number the spelling that it has in the file: `1.10` is not `1.1` where a text is meant.
    fn spell(&mut self, text: &str) {
        let spelled = self.span.clone().and_then(|span| text.get(span)).map(str::trim).filter(|text| !text.is_empty());
        match &mut self.value {
            Value::Int(spelling, _) | Value::Float(spelling, _) => {
                if let Some(spelled) = spelled {
                    *spelling = spelled.into();
                }
            }
            Value::List(items) => items.iter_mut().for_each(|item| item.spell(text)),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, _, node)| node.spell(text)),
            Value::Null | Value::Bool(_) | Value::Text(_) => {}
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned: Spanned<Value> = Spanned::deserialize(deserializer)?;
        let at = At { line: spanned.referenced.line(), column: spanned.referenced.column() };
        Ok(Node { at, value: spanned.value, span: bytes(&spanned.defined) })
    }
}

fn bytes(place: &Location) -> Option<Range<usize>> {
    let span = place.span();
    let from = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    Some(from..from.checked_add(length)?)
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
        Ok(Value::Int(value.to_string().into(), value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        let spelling = value.to_string().into();
        Ok(match i64::try_from(value) {
            Ok(whole) => Value::Int(spelling, whole),
            Err(_) => Value::Float(spelling, value as f64),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value.to_string().into(), value))
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
