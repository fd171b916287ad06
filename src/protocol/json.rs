//! Values as JSON, the form in which state is stored; driven by the type, or without one.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::{AttributePath, Dynamic, Type, Value, ValueError};

impl Value {
    /// Reads stored state. Attributes that are left out become null; a text that is a number or a truth value becomes
    /// one where the type wants it, and the other way round, as core itself does.
    ///
    /// # Errors
    /// What is no JSON, or does not fit the type; with the path, and without the value.
    pub fn from_json(bytes: &[u8], ty: &Type) -> Result<Value, ValueError> {
        decode(parse(bytes)?, ty, &AttributePath::root(), false)
    }

    /// Like [`Value::from_json`], but attributes that the type does not have are left out.
    ///
    /// # Errors
    /// What is no JSON, or does not fit the type; with the path, and without the value.
    pub fn from_json_dropping_extra(bytes: &[u8], ty: &Type) -> Result<Value, ValueError> {
        decode(parse(bytes)?, ty, &AttributePath::root(), true)
    }

    /// Reads JSON as what it is: objects, tuples, texts, numbers and truth values.
    ///
    /// # Errors
    /// What is no JSON.
    pub fn from_json_untyped(bytes: &[u8]) -> Result<Value, ValueError> {
        untyped(parse(bytes)?, &AttributePath::root())
    }

    /// Writes the value as stored state of this type, after [`Type::conform`].
    ///
    /// # Errors
    /// The first part that does not fit the type, or is unknown.
    pub fn to_json(&self, ty: &Type) -> Result<Vec<u8>, ValueError> {
        Ok(encode(ty.conform(self.clone())?, &AttributePath::root())?.to_string().into_bytes())
    }
}

fn parse(bytes: &[u8]) -> Result<Json, ValueError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let message = format!("not JSON at line {} column {}", e.line(), e.column());
        ValueError::new(&AttributePath::root(), message)
    })
}

fn decode(json: Json, ty: &Type, path: &AttributePath, drop_extra: bool) -> Result<Value, ValueError> {
    let found = kind(&json);
    let wrong = || ValueError::new(path, format!("expected {ty}, found {found}"));
    let elements = |t: &Type, list: Vec<Json>| -> Result<Vec<Value>, ValueError> {
        list.into_iter().enumerate().map(|(i, v)| decode(v, t, &path.clone().index(i), drop_extra)).collect()
    };
    Ok(match (ty, json) {
        (_, Json::Null) => Value::Null,
        (Type::Dynamic, Json::Object(parts)) => decode_dynamic(parts, path, drop_extra)?,
        (Type::Bool, Json::Bool(b)) => Value::Bool(b),
        (Type::Bool, Json::String(s)) => Value::Bool(s.parse().map_err(|_| wrong())?),
        (Type::Number, Json::Number(n)) => Value::Number(n.to_string().parse().map_err(|_| wrong())?),
        (Type::Number, Json::String(s)) => Value::Number(s.parse().map_err(|_| wrong())?),
        (Type::String, Json::String(s)) => Value::String(s),
        (Type::String, Json::Number(n)) => Value::String(n.to_string()),
        (Type::String, Json::Bool(b)) => Value::String(b.to_string()),
        (Type::List(t), Json::Array(list)) => Value::List(elements(t, list)?),
        (Type::Set(t), Json::Array(list)) => Value::Set(elements(t, list)?),
        (Type::Tuple(ts), Json::Array(list)) if ts.len() == list.len() => Value::Tuple(
            ts.iter()
                .zip(list)
                .enumerate()
                .map(|(i, (t, v))| decode(v, t, &path.clone().index(i), drop_extra))
                .collect::<Result<_, _>>()?,
        ),
        (Type::Map(t), Json::Object(parts)) => Value::Map(
            parts
                .into_iter()
                .map(|(k, v)| {
                    let value = decode(v, t, &path.clone().key(&k), drop_extra)?;
                    Ok((k, value))
                })
                .collect::<Result<_, ValueError>>()?,
        ),
        (Type::Object(ts), Json::Object(parts)) => decode_object(parts, ts, path, drop_extra)?,
        _ => return Err(wrong()),
    })
}

fn decode_object(
    mut parts: Map<String, Json>,
    types: &BTreeMap<String, Type>,
    path: &AttributePath,
    drop_extra: bool,
) -> Result<Value, ValueError> {
    let mut object = BTreeMap::new();
    for (name, ty) in types {
        let part = parts.remove(name).unwrap_or_default();
        object.insert(name.clone(), decode(part, ty, &path.clone().attribute(name), drop_extra)?);
    }
    match parts.into_iter().next() {
        Some((name, _)) if !drop_extra => {
            Err(ValueError::new(&path.clone().attribute(name), "the schema has no such attribute"))
        }
        _ => Ok(Value::Object(object)),
    }
}

/// `{"value": …, "type": …}`
fn decode_dynamic(mut parts: Map<String, Json>, path: &AttributePath, drop_extra: bool) -> Result<Value, ValueError> {
    let (Some(value), Some(ty), true) = (parts.remove("value"), parts.remove("type"), parts.is_empty()) else {
        return Err(ValueError::new(path, "not a value with its own type"));
    };
    let ty = Type::from_json(&ty).map_err(|e| ValueError::new(path, e.message))?;
    let value = decode(value, &ty, path, drop_extra)?;
    Ok(Value::Dynamic(Box::new(Dynamic { ty, value })))
}

fn untyped(json: Json, path: &AttributePath) -> Result<Value, ValueError> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(b),
        Json::String(s) => Value::String(s),
        Json::Number(n) => {
            Value::Number(n.to_string().parse().map_err(|_| ValueError::new(path, "a number out of range"))?)
        }
        Json::Array(list) => Value::Tuple(
            list.into_iter().enumerate().map(|(i, v)| untyped(v, &path.clone().index(i))).collect::<Result<_, _>>()?,
        ),
        Json::Object(parts) => Value::Object(
            parts
                .into_iter()
                .map(|(k, v)| {
                    let value = untyped(v, &path.clone().attribute(&k))?;
                    Ok((k, value))
                })
                .collect::<Result<_, ValueError>>()?,
        ),
    })
}

/// Writes a value that conforms to its type.
fn encode(value: Value, path: &AttributePath) -> Result<Json, ValueError> {
    Ok(match value {
        Value::Unknown(_) => return Err(ValueError::new(path, "an unknown value cannot be stored")),
        Value::Null => Json::Null,
        Value::Bool(b) => b.into(),
        Value::Number(n) => {
            serde_json::from_str(n.as_str()).map_err(|_| ValueError::new(path, "a number that JSON does not have"))?
        }
        Value::String(s) => s.into(),
        Value::List(l) | Value::Set(l) | Value::Tuple(l) => Json::Array(
            l.into_iter().enumerate().map(|(i, v)| encode(v, &path.clone().index(i))).collect::<Result<_, _>>()?,
        ),
        Value::Map(m) | Value::Object(m) => Json::Object(
            m.into_iter()
                .map(|(k, v)| {
                    let json = encode(v, &path.clone().attribute(&k))?;
                    Ok((k, json))
                })
                .collect::<Result<_, ValueError>>()?,
        ),
        Value::Dynamic(d) => {
            let ty = d.ty.to_json();
            serde_json::json!({ "value": encode(d.value, path)?, "type": ty })
        }
    })
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "a map or object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        for text in ["18446744073709551616", "0.123456789012345678901234567890", "-1.5", "0"] {
            let value = Value::from_json(text.as_bytes(), &Type::Number).unwrap();
            assert_eq!(value.as_number().unwrap().as_str(), text);
            assert_eq!(value.to_json(&Type::Number).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn state_of_an_older_schema_is_read_leniently_only_when_asked() {
        let ty = Type::object([("size", Type::Number), ("new", Type::String)]);
        let state = br#"{"size": "12", "gone": true}"#;
        let error = Value::from_json(state, &ty).unwrap_err();
        assert_eq!(error.path, AttributePath::new("gone"));
        let value = Value::from_json_dropping_extra(state, &ty).unwrap();
        assert_eq!(value, Value::object([("size", Value::from(12)), ("new", Value::Null)]));
        let raw = Value::from_json_untyped(state).unwrap();
        assert_eq!(raw.attr("gone").as_bool(), Some(true));
    }

    #[test]
    fn dynamic_values_bring_their_type() {
        let ty = Type::Dynamic;
        let value = Value::from_json(br#"{"value": ["a"], "type": ["list", "string"]}"#, &ty).unwrap();
        assert_eq!(value.as_list().unwrap()[0].as_str(), Some("a"));
        let back = Value::from_json(&value.to_json(&ty).unwrap(), &ty).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn what_does_not_fit_is_named_and_not_shown() {
        let ty = Type::object([("a", Type::list(Type::Bool))]);
        let error = Value::from_json(br#"{"a": [true, "hunter2"]}"#, &ty).unwrap_err();
        assert_eq!(error.to_string(), "a[1]: expected bool, found a string");
        assert!(Value::from_json(&b"[".repeat(100_000), &Type::Dynamic).is_err());
        assert!(Value::from_json(b"1e999999999", &Type::Number).is_err());
        assert!(Value::unknown().to_json(&Type::String).is_err());
    }
}
