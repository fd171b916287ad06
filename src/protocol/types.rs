//! Terraform's types: their JSON form, and whether a value is of one.

use std::{collections::BTreeMap, fmt};

use serde_json::Value as Json;

use crate::{AttributePath, Dynamic, Step, Value};

/// Types nested deeper than this are refused.
const MAX_DEPTH: usize = 64;

/// A type of Terraform's type system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Truth values.
    Bool,
    /// Numbers of any size.
    Number,
    /// Texts.
    String,
    /// Any value, which then brings its own type.
    Dynamic,
    /// Elements of one type, in order.
    List(Box<Type>),
    /// Elements of one type, without order.
    Set(Box<Type>),
    /// Elements of one type, by key.
    Map(Box<Type>),
    /// Attributes, each of its own type.
    Object(BTreeMap<String, Type>),
    /// Elements, each of its own type.
    Tuple(Vec<Type>),
}

/// A value that is not of the type it should be, or bytes that are no value. Never contains the value itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ValueError {
    /// Where it is.
    pub path: AttributePath,
    /// What is wrong there.
    pub message: String,
}

impl ValueError {
    pub(crate) fn new(path: &AttributePath, message: impl Into<String>) -> Self {
        Self { path: path.clone(), message: message.into() }
    }
}

/// What [`Type::conform`] does with attributes that the type does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    Refuse,
    Drop,
}

impl Type {
    /// A list of.
    pub fn list(element: Type) -> Self {
        Type::List(Box::new(element))
    }

    /// A set of.
    pub fn set(element: Type) -> Self {
        Type::Set(Box::new(element))
    }

    /// A map of.
    pub fn map(element: Type) -> Self {
        Type::Map(Box::new(element))
    }

    /// An object with these attributes.
    pub fn object<K: Into<String>>(attributes: impl IntoIterator<Item = (K, Type)>) -> Self {
        Type::Object(attributes.into_iter().map(|(k, t)| (k.into(), t)).collect())
    }

    /// The JSON form that the protocol uses, such as `["map","string"]`.
    pub fn to_json(&self) -> Json {
        let pair = |kind: &str, inner: Json| Json::Array(vec![kind.into(), inner]);
        match self {
            Type::Bool => "bool".into(),
            Type::Number => "number".into(),
            Type::String => "string".into(),
            Type::Dynamic => "dynamic".into(),
            Type::List(t) => pair("list", t.to_json()),
            Type::Set(t) => pair("set", t.to_json()),
            Type::Map(t) => pair("map", t.to_json()),
            Type::Object(ts) => pair("object", ts.iter().map(|(k, t)| (k.clone(), t.to_json())).collect()),
            Type::Tuple(ts) => pair("tuple", ts.iter().map(Type::to_json).collect()),
        }
    }

    /// Reads the JSON form; optional attributes of objects are read as attributes.
    ///
    /// # Errors
    /// What is not the JSON form of a type, or is nested too deeply.
    pub fn from_json(json: &Json) -> Result<Self, ValueError> {
        Self::from_json_at(json, 0)
            .ok_or_else(|| ValueError::new(&AttributePath::root(), "not the JSON form of a type"))
    }

    fn from_json_at(json: &Json, depth: usize) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        let next = |json: &Json| Self::from_json_at(json, depth + 1);
        match json {
            Json::String(name) => match name.as_str() {
                "bool" => Some(Type::Bool),
                "number" => Some(Type::Number),
                "string" => Some(Type::String),
                "dynamic" => Some(Type::Dynamic),
                _ => None,
            },
            Json::Array(parts) => match (parts.first()?.as_str()?, parts.get(1)?, parts.get(2)) {
                ("list", t, None) => Some(Type::list(next(t)?)),
                ("set", t, None) => Some(Type::set(next(t)?)),
                ("map", t, None) => Some(Type::map(next(t)?)),
                ("tuple", Json::Array(ts), None) => Some(Type::Tuple(ts.iter().map(next).collect::<Option<_>>()?)),
                ("object", Json::Object(ts), _) => {
                    Some(Type::Object(ts.iter().map(|(k, t)| Some((k.clone(), next(t)?))).collect::<Option<_>>()?))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The value as this type has it: attributes left out become null, a list becomes a set where a set is wanted (and
    /// a map an object, and so on), repeated elements of a set count once.
    ///
    /// # Errors
    /// The first part of the value that is of another type, or that the type does not have.
    pub fn conform(&self, value: Value) -> Result<Value, ValueError> {
        self.conform_at(value, &AttributePath::root(), Extra::Refuse)
    }

    /// Like [`Type::conform`], but attributes that the type does not have are left out.
    ///
    /// # Errors
    /// The first part of the value that is of another type.
    pub fn conform_dropping_extra(&self, value: Value) -> Result<Value, ValueError> {
        self.conform_at(value, &AttributePath::root(), Extra::Drop)
    }

    fn conform_at(&self, value: Value, path: &AttributePath, extra: Extra) -> Result<Value, ValueError> {
        let value = match value {
            Value::Unknown(_) | Value::Null => return Ok(value),
            Value::Dynamic(d) if *self != Type::Dynamic => d.value,
            other => other,
        };
        let elements = |t: &Type, list: Vec<Value>| -> Result<Vec<Value>, ValueError> {
            list.into_iter().enumerate().map(|(i, v)| t.conform_at(v, &path.clone().index(i), extra)).collect()
        };
        Ok(match (self, value) {
            (Type::Bool, v @ Value::Bool(_))
            | (Type::Number, v @ Value::Number(_))
            | (Type::String, v @ Value::String(_)) => v,
            (Type::List(t), Value::List(l) | Value::Set(l) | Value::Tuple(l)) => Value::List(elements(t, l)?),
            (Type::Set(t), Value::List(l) | Value::Set(l) | Value::Tuple(l)) => Value::Set(distinct(elements(t, l)?)),
            (Type::Map(t), Value::Map(m) | Value::Object(m)) => Value::Map(
                m.into_iter()
                    .map(|(k, v)| Ok((k.clone(), t.conform_at(v, &path.clone().key(k), extra)?)))
                    .collect::<Result<_, ValueError>>()?,
            ),
            (Type::Object(ts), Value::Map(m) | Value::Object(m)) => conform_object(ts, m, path, extra)?,
            (Type::Tuple(ts), Value::List(l) | Value::Tuple(l)) if ts.len() == l.len() => Value::Tuple(
                ts.iter()
                    .zip(l)
                    .enumerate()
                    .map(|(i, (t, v))| t.conform_at(v, &path.clone().index(i), extra))
                    .collect::<Result<_, _>>()?,
            ),
            (Type::Dynamic, Value::Dynamic(d)) => {
                let Dynamic { ty, value } = *d;
                let value = ty.conform_at(value, path, extra)?;
                Value::Dynamic(Box::new(Dynamic { ty, value }))
            }
            (Type::Dynamic, value) => {
                let ty = implied(&value);
                let value = ty.conform_at(value, path, extra)?;
                Value::Dynamic(Box::new(Dynamic { ty, value }))
            }
            (ty, value) => return Err(ValueError::new(path, format!("expected {ty}, found {}", value.kind()))),
        })
    }

    /// As much of a path as the protocol can express for this type: paths end before they go into a set, or nowhere.
    pub(crate) fn clip(&self, path: &AttributePath) -> AttributePath {
        let mut ty = self;
        let mut clipped = AttributePath::root();
        for step in &path.steps {
            // Authors may say `attribute` for the key of a map and the other way round.
            let (next, step) = match (ty, step) {
                (Type::Object(ts), Step::Attribute(name) | Step::Key(name)) => {
                    (ts.get(name), Step::Attribute(name.clone()))
                }
                (Type::Map(t), Step::Attribute(key) | Step::Key(key)) => (Some(&**t), Step::Key(key.clone())),
                (Type::List(t), Step::Index(i)) => (Some(&**t), Step::Index(*i)),
                (Type::Tuple(ts), Step::Index(i)) => {
                    (usize::try_from(*i).ok().and_then(|i| ts.get(i)), Step::Index(*i))
                }
                _ => break,
            };
            let Some(next) = next else { break };
            clipped.steps.push(step);
            ty = next;
        }
        clipped
    }
}

fn conform_object(
    types: &BTreeMap<String, Type>,
    mut attributes: BTreeMap<String, Value>,
    path: &AttributePath,
    extra: Extra,
) -> Result<Value, ValueError> {
    let mut object = BTreeMap::new();
    for (name, ty) in types {
        let value = attributes.remove(name).unwrap_or_default();
        object.insert(name.clone(), ty.conform_at(value, &path.clone().attribute(name), extra)?);
    }
    match attributes.into_keys().next() {
        Some(name) if extra == Extra::Refuse => {
            Err(ValueError::new(&path.clone().attribute(name), "the schema has no such attribute"))
        }
        _ => Ok(Value::Object(object)),
    }
}

/// The elements without repetitions, in the order of their first appearance.
fn distinct(elements: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::with_capacity(elements.len());
    let mut seen = std::collections::HashSet::new();
    for element in elements {
        // Texts, the usual elements, must not cost a comparison with all others.
        let is_new = match &element {
            Value::String(s) => seen.insert(s.clone()),
            // Two values that nobody knows yet may turn out different.
            other => !other.is_wholly_known() || !kept.contains(other),
        };
        if is_new {
            kept.push(element);
        }
    }
    kept
}

/// The type a value has when nothing else says so.
fn implied(value: &Value) -> Type {
    let common = |values: &mut dyn Iterator<Item = &Value>| {
        let mut types = values.filter(|v| !v.is_null() || matches!(v, Value::Dynamic(_))).map(implied);
        match types.next() {
            Some(first) if types.all(|t| t == first) => first,
            _ => Type::Dynamic,
        }
    };
    match value {
        Value::Unknown(_) | Value::Null => Type::Dynamic,
        Value::Bool(_) => Type::Bool,
        Value::Number(_) => Type::Number,
        Value::String(_) => Type::String,
        Value::List(l) => Type::list(common(&mut l.iter())),
        Value::Set(l) => Type::set(common(&mut l.iter())),
        Value::Map(m) => Type::map(common(&mut m.values())),
        Value::Tuple(l) => Type::Tuple(l.iter().map(implied).collect()),
        Value::Object(m) => Type::Object(m.iter().map(|(k, v)| (k.clone(), implied(v))).collect()),
        Value::Dynamic(_) => Type::Dynamic,
    }
}

impl fmt::Display for Type {
    /// As in configuration: `map(string)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Bool => f.write_str("bool"),
            Type::Number => f.write_str("number"),
            Type::String => f.write_str("string"),
            Type::Dynamic => f.write_str("any"),
            Type::List(t) => write!(f, "list({t})"),
            Type::Set(t) => write!(f, "set({t})"),
            Type::Map(t) => write!(f, "map({t})"),
            Type::Object(_) => f.write_str("object"),
            Type::Tuple(ts) => write!(f, "tuple of {}", ts.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_the_protocols() {
        let ty = Type::object([
            ("a", Type::list(Type::Number)),
            ("b", Type::Tuple(vec![Type::Bool, Type::Dynamic])),
            ("c", Type::map(Type::set(Type::String))),
        ]);
        let json = serde_json::json!(["object", {
            "a": ["list", "number"], "b": ["tuple", ["bool", "dynamic"]], "c": ["map", ["set", "string"]]
        }]);
        assert_eq!(ty.to_json(), json);
        assert_eq!(Type::from_json(&json).unwrap(), ty);
        let optional = serde_json::json!(["object", {"a": "string"}, ["a"]]);
        assert_eq!(Type::from_json(&optional).unwrap(), Type::object([("a", Type::String)]));
    }

    #[test]
    fn what_is_no_type_is_refused() {
        let mut deep = Json::from("string");
        for _ in 0..1000 {
            deep = Json::Array(vec!["list".into(), deep]);
        }
        let json = |s: &str| serde_json::from_str(s).unwrap();
        for bad in [json("1"), json("[]"), json(r#"["list"]"#), json(r#""text""#), json(r#"["tuple","string"]"#), deep]
        {
            assert!(Type::from_json(&bad).is_err());
        }
    }

    #[test]
    fn conforming_fills_in_and_names_what_does_not_fit() {
        let ty = Type::object([("tags", Type::set(Type::String)), ("size", Type::Number)]);
        let fitted = ty.conform(Value::object([("tags", Value::list(["b", "a", "b"]))])).unwrap();
        assert_eq!(fitted, Value::object([("tags", Value::set(["a", "b"])), ("size", Value::Null)]));

        let error = ty.conform(Value::object([("tags", Value::list([1]))])).unwrap_err();
        assert_eq!(error.to_string(), "tags[0]: expected string, found a number");
        let extra = Value::object([("speed", 1)]);
        assert_eq!(ty.conform(extra.clone()).unwrap_err().path, AttributePath::new("speed"));
        assert!(ty.conform_dropping_extra(extra).is_ok());
    }

    #[test]
    fn paths_end_before_a_set() {
        let inner = Type::object([("x", Type::String)]);
        let ty = Type::object([("s", Type::set(inner.clone())), ("m", Type::map(inner))]);
        assert_eq!(ty.clip(&AttributePath::new("s").index(0).attribute("x")), AttributePath::new("s"));
        let path = AttributePath::new("m").key("k").attribute("x");
        assert_eq!(ty.clip(&path), path);
        assert_eq!(ty.clip(&AttributePath::new("m").attribute("k").attribute("x")), path);
        assert_eq!(ty.clip(&AttributePath::new("nowhere")), AttributePath::root());
    }
}
