//! Owns the reading of PVE's JSON, in which a number may be a text and a boolean is 0, 1 or missing.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A field of an object, unless it is null.
pub(crate) fn field<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// A whole number, however it is written; fractions are cut off.
pub(crate) fn as_u64(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok().or_else(|| whole(text.trim().parse().ok()?)),
        Value::Bool(flag) => Some(u64::from(*flag)),
        _ => None,
    }
}

fn whole(number: f64) -> Option<u64> {
    // 2^64 as the first number that does not fit; the cast cuts the fraction off.
    (0.0..18_446_744_073_709_551_616.0).contains(&number).then_some(number as u64)
}

pub(crate) fn as_f64(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

pub(crate) fn as_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => number.as_f64().map(|n| n != 0.0),
        Value::String(text) => parse_bool(text),
        _ => None,
    }
}

/// The spellings PVE accepts inside property strings (`proxmox-ve.md` §2.3).
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "0" | "off" | "no" | "false" | "" => Some(false),
        _ => None,
    }
}

/// A scalar as the text it would have in a configuration file; booleans as 0 and 1.
pub(crate) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(u8::from(*flag).to_string()),
        _ => None,
    }
}

// Each of these reads a `Value` first: with serde_json's `arbitrary_precision` numbers survive only that way.

pub(crate) fn opt_u64<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    Ok(as_u64(&Value::deserialize(d)?))
}

pub(crate) fn u64<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    Ok(as_u64(&Value::deserialize(d)?).unwrap_or(0))
}

pub(crate) fn opt_vmid<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    Ok(as_u64(&Value::deserialize(d)?).and_then(|id| u32::try_from(id).ok()))
}

pub(crate) fn opt_f64<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
    Ok(as_f64(&Value::deserialize(d)?))
}

pub(crate) fn flag<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    Ok(as_bool(&Value::deserialize(d)?).unwrap_or(false))
}

/// A number that is not 0, however it is written: a removal is 1, or 2 with force.
pub(crate) fn nonzero<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    Ok(as_u64(&Value::deserialize(d)?).is_some_and(|number| number != 0))
}

pub(crate) fn opt_flag<'de, D: Deserializer<'de>>(d: D) -> Result<Option<bool>, D::Error> {
    Ok(as_bool(&Value::deserialize(d)?))
}

pub(crate) fn opt_text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(as_text(&Value::deserialize(d)?))
}

pub(crate) fn text<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(as_text(&Value::deserialize(d)?).unwrap_or_default())
}

/// A comma-separated list, as in a storage's `content`; or a JSON array.
pub(crate) fn list<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let value = Value::deserialize(d)?;
    Ok(match &value {
        Value::Array(items) => items.iter().filter_map(as_text).collect(),
        other => as_text(other)
            .unwrap_or_default()
            .split([',', ';', ' '])
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_come_in_three_dresses() {
        for value in [json!(42), json!("42"), json!(42.9), json!("42.9")] {
            assert_eq!(as_u64(&value), Some(42), "{value}");
        }
        assert_eq!(as_u64(&json!(-1)), None);
        assert_eq!(as_u64(&json!(1e30)), None);
        assert_eq!(as_bool(&json!("0")), Some(false));
        assert_eq!(as_bool(&json!(1)), Some(true));
        assert_eq!(as_text(&json!(true)).as_deref(), Some("1"));
    }
}
