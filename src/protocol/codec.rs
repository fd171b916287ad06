//! Values as MessagePack, in the form Terraform's core sends and expects (`plugin-protocol.md` §10).

use std::collections::BTreeMap;

use rmpv::Value as Packed;

use crate::{AttributePath, Dynamic, Number, Refinement, Type, Value, ValueError};

/// How deeply containers may be nested in the bytes; every level of a value takes two.
const MAX_DEPTH: usize = 256;

/// Ext code of an unknown about which nothing is known.
const EXT_UNKNOWN: i8 = 0;
/// Ext code of an unknown about which something is known.
const EXT_REFINED: i8 = 12;
/// Longest prefix a refinement may have, in bytes; core refuses longer ones.
const MAX_PREFIX: usize = 256;

impl Value {
    /// Reads MessagePack of a value of this type. Never panics, whatever the bytes are.
    ///
    /// # Errors
    /// What is no MessagePack, or does not fit the type; with the path, and without the value.
    pub fn from_msgpack(bytes: &[u8], ty: &Type) -> Result<Value, ValueError> {
        let root = AttributePath::root();
        let mut rest = bytes;
        let packed = rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH)
            .map_err(|e| ValueError::new(&root, format!("not MessagePack: {:?}", e.kind())))?;
        if !rest.is_empty() {
            return Err(ValueError::new(&root, "more bytes after the value"));
        }
        decode(packed, ty, &root)
    }

    /// Writes the value as MessagePack of this type, after [`Type::conform`].
    ///
    /// # Errors
    /// The first part that does not fit the type.
    pub fn to_msgpack(&self, ty: &Type) -> Result<Vec<u8>, ValueError> {
        let root = AttributePath::root();
        let packed = encode(ty.conform(self.clone())?);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &packed)
            .map_err(|e| ValueError::new(&root, format!("cannot be written: {e}")))?;
        Ok(bytes)
    }
}

fn decode(packed: Packed, ty: &Type, path: &AttributePath) -> Result<Value, ValueError> {
    let found = kind(&packed);
    let wrong = || ValueError::new(path, format!("expected {ty}, found {found}"));
    match (ty, packed) {
        (_, Packed::Ext(code, data)) => decode_unknown(code, &data, path),
        (_, Packed::Nil) => Ok(Value::Null),
        (Type::Bool, Packed::Boolean(b)) => Ok(Value::Bool(b)),
        (Type::Number, packed) => decode_number(&packed).map(Value::Number).ok_or_else(wrong),
        (Type::String, Packed::String(s)) => {
            s.into_str().map(Value::String).ok_or_else(|| ValueError::new(path, "a string that is not UTF-8"))
        }
        (Type::List(t), Packed::Array(parts)) => Ok(Value::List(decode_elements(parts, t, path)?)),
        (Type::Set(t), Packed::Array(parts)) => Ok(Value::Set(decode_elements(parts, t, path)?)),
        (Type::Tuple(ts), Packed::Array(parts)) => {
            if ts.len() != parts.len() {
                return Err(ValueError::new(path, format!("expected {ty}, found {} elements", parts.len())));
            }
            let elements = ts.iter().zip(parts).enumerate();
            let elements = elements.map(|(i, (t, part))| decode(part, t, &path.clone().index(i)));
            Ok(Value::Tuple(elements.collect::<Result<_, _>>()?))
        }
        (Type::Map(t), Packed::Map(parts)) => {
            let mut map = BTreeMap::new();
            for (key, part) in parts {
                let key = decode_key(key, path)?;
                let value = decode(part, t, &path.clone().key(&key))?;
                insert(&mut map, key, value, path)?;
            }
            Ok(Value::Map(map))
        }
        (Type::Object(ts), Packed::Map(parts)) => decode_object(parts, ts, path),
        (Type::Dynamic, Packed::Array(parts)) => decode_dynamic(parts, path),
        _ => Err(wrong()),
    }
}

fn decode_elements(parts: Vec<Packed>, ty: &Type, path: &AttributePath) -> Result<Vec<Value>, ValueError> {
    parts.into_iter().enumerate().map(|(i, part)| decode(part, ty, &path.clone().index(i))).collect()
}

fn decode_object(
    parts: Vec<(Packed, Packed)>,
    types: &BTreeMap<String, Type>,
    path: &AttributePath,
) -> Result<Value, ValueError> {
    let mut object = BTreeMap::new();
    for (key, part) in parts {
        let name = decode_key(key, path)?;
        let inner = path.clone().attribute(&name);
        let ty = types.get(&name).ok_or_else(|| ValueError::new(&inner, "the schema has no such attribute"))?;
        let value = decode(part, ty, &inner)?;
        insert(&mut object, name, value, path)?;
    }
    match types.keys().find(|name| !object.contains_key(*name)) {
        Some(name) => Err(ValueError::new(&path.clone().attribute(name), "the attribute is missing")),
        None => Ok(Value::Object(object)),
    }
}

/// `[type, value]`
fn decode_dynamic(parts: Vec<Packed>, path: &AttributePath) -> Result<Value, ValueError> {
    let wrong = || ValueError::new(path, "not a value with its own type");
    let [ty, value] = <[Packed; 2]>::try_from(parts).map_err(|_| wrong())?;
    let json = match &ty {
        Packed::Binary(bytes) => bytes.as_slice(),
        Packed::String(text) => text.as_bytes(),
        _ => return Err(wrong()),
    };
    let json = serde_json::from_slice(json).map_err(|_| wrong())?;
    let ty = Type::from_json(&json).map_err(|_| wrong())?;
    let value = decode(value, &ty, path)?;
    Ok(Value::Dynamic(Box::new(Dynamic { ty, value })))
}

fn decode_key(key: Packed, path: &AttributePath) -> Result<String, ValueError> {
    match key {
        Packed::String(s) => s.into_str(),
        _ => None,
    }
    .ok_or_else(|| ValueError::new(path, "a key that is not a string"))
}

fn insert(
    map: &mut BTreeMap<String, Value>,
    key: String,
    value: Value,
    path: &AttributePath,
) -> Result<(), ValueError> {
    match map.insert(key, value) {
        Some(_) => Err(ValueError::new(path, "the same key twice")),
        None => Ok(()),
    }
}

fn decode_number(packed: &Packed) -> Option<Number> {
    match packed {
        Packed::Integer(i) => i.as_i64().map(Number::from).or_else(|| i.as_u64().map(Number::from)),
        Packed::F64(f) => Number::from_f64(*f),
        Packed::F32(f) => Number::from_f64(f64::from(*f)),
        Packed::String(s) => s.as_str()?.parse().ok(),
        _ => None,
    }
}

fn decode_unknown(code: i8, data: &[u8], path: &AttributePath) -> Result<Value, ValueError> {
    if code != EXT_REFINED {
        return Ok(Value::Unknown(None));
    }
    let wrong = || ValueError::new(path, "an unknown value with a refinement that cannot be read");
    let mut rest = data;
    let Ok(Packed::Map(parts)) = rmpv::decode::read_value_with_max_depth(&mut rest, 16) else {
        return Err(wrong());
    };
    let mut refinement = Refinement::default();
    for (key, part) in parts {
        let bound = |part: &Packed| {
            let [n, inclusive] = part.as_array()?.as_slice() else { return None };
            Some((decode_number(n)?, inclusive.as_bool()?))
        };
        match key.as_u64() {
            Some(1) => refinement.null = Some(part.as_bool().ok_or_else(wrong)?),
            Some(2) => refinement.prefix = Some(part.as_str().ok_or_else(wrong)?.to_owned()),
            Some(3) => refinement.number_min = Some(bound(&part).ok_or_else(wrong)?),
            Some(4) => refinement.number_max = Some(bound(&part).ok_or_else(wrong)?),
            Some(5) => refinement.length_min = Some(part.as_u64().ok_or_else(wrong)?),
            Some(6) => refinement.length_max = Some(part.as_u64().ok_or_else(wrong)?),
            _ => {} // from a newer core: to know less is allowed
        }
    }
    if refinement.null == Some(true) {
        return Ok(Value::Null);
    }
    let refined = refinement != Refinement::default();
    Ok(Value::Unknown(refined.then(|| Box::new(refinement))))
}

/// Writes a value that conforms to its type, so that nothing here can fail.
fn encode(value: Value) -> Packed {
    match value {
        Value::Unknown(None) => unrefined(),
        Value::Unknown(Some(refinement)) => encode_refined(*refinement),
        Value::Null => Packed::Nil,
        Value::Bool(b) => b.into(),
        // As decimal text: what core decodes from integers and floats differs in precision from what it decodes from its JSON
        // state, and Terraform's refresh-only plans compare the two to the bit (hashicorp/terraform#36403): exit code 2 where
        // nothing has drifted.
        Value::Number(n) => n.as_str().into(),
        Value::String(s) => s.into(),
        Value::List(l) | Value::Set(l) | Value::Tuple(l) => Packed::Array(l.into_iter().map(encode).collect()),
        Value::Map(m) | Value::Object(m) => Packed::Map(m.into_iter().map(|(k, v)| (k.into(), encode(v))).collect()),
        // Nothing is known of the type: core has a short form for both.
        Value::Dynamic(d) if d.ty == Type::Dynamic && !matches!(d.value, Value::Dynamic(_)) => encode(d.value),
        Value::Dynamic(d) => {
            Packed::Array(vec![Packed::Binary(d.ty.to_json().to_string().into_bytes()), encode(d.value)])
        }
    }
}

fn unrefined() -> Packed {
    Packed::Ext(EXT_UNKNOWN, vec![0])
}

/// Whole numbers that fit as integers, numbers that are exactly a float as floats, all else as decimal text.
fn encode_bound(n: &Number) -> Packed {
    match n.as_i64() {
        Some(i) => i.into(),
        None if n.is_whole() => n.as_str().into(),
        None => n.as_exact_f64().map_or_else(|| n.as_str().into(), Packed::F64),
    }
}

fn encode_refined(r: Refinement) -> Packed {
    let bound = |(n, inclusive): (Number, bool)| Packed::Array(vec![encode_bound(&n), inclusive.into()]);
    let mut parts: Vec<(Packed, Packed)> = Vec::new();
    let mut put = |key: u8, part: Option<Packed>| parts.extend(part.map(|part| (key.into(), part)));
    put(1, r.null.map(Into::into));
    put(2, r.prefix.map(|p| crate::value::head(&p, MAX_PREFIX).into()));
    put(3, r.number_min.map(bound));
    put(4, r.number_max.map(bound));
    put(5, r.length_min.map(Into::into));
    put(6, r.length_max.map(Into::into));
    if parts.is_empty() {
        return unrefined();
    }
    let mut data = Vec::new();
    match rmpv::encode::write_value(&mut data, &Packed::Map(parts)) {
        Ok(()) => Packed::Ext(EXT_REFINED, data),
        Err(_) => unrefined(), // to promise less is always allowed
    }
}

fn kind(packed: &Packed) -> &'static str {
    match packed {
        Packed::Nil => "null",
        Packed::Boolean(_) => "a bool",
        Packed::Integer(_) | Packed::F32(_) | Packed::F64(_) => "a number",
        Packed::String(_) => "a string",
        Packed::Binary(_) => "bytes",
        Packed::Array(_) => "a list",
        Packed::Map(_) => "a map or object",
        Packed::Ext(..) => "an unknown value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: impl Into<Value>, ty: &Type) -> Vec<u8> {
        value.into().to_msgpack(ty).unwrap()
    }

    fn refined(refinement: Refinement) -> Value {
        Value::Unknown(Some(Box::new(refinement)))
    }

    #[test]
    fn bytes_are_those_seen_on_the_wire() {
        // Every row was dumped from Terraform 1.11.4 (`plugin-protocol.md` §10).
        let not_null = Refinement { null: Some(false), ..Refinement::default() };
        let prefix = Refinement { prefix: Some("x-".into()), ..not_null.clone() };
        let number_min = Some((Number::from(0), true));
        let at_least_0 = Refinement { number_min, ..not_null.clone() };
        let rows: [(Value, Type, &[u8]); 10] = [
            (Value::unknown(), Type::String, b"\xd4\x00\x00"),
            (refined(not_null), Type::String, b"\xc7\x03\x0c\x81\x01\xc2"),
            (refined(prefix), Type::String, b"\xc7\x07\x0c\x82\x01\xc2\x02\xa2x-"),
            (refined(at_least_0), Type::Number, b"\xc7\x07\x0c\x82\x01\xc2\x03\x92\x00\xc3"),
            (Value::Null, Type::Bool, b"\xc0"),
            (42.into(), Type::Number, b"\x2a"),
            (1.5.into(), Type::Number, b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
            (0.1.into(), Type::Number, b"\xa30.1"),
            (Value::Number("18446744073709551616".parse().unwrap()), Type::Number, b"\xb418446744073709551616"),
            ("id-alpha".into(), Type::Dynamic, b"\x92\xc4\x08\"string\"\xa8id-alpha"),
        ];
        for (value, ty, expected) in rows {
            if !matches!(value, Value::Number(_)) {
                assert_eq!(value.to_msgpack(&ty).unwrap(), expected, "{value:?}");
            }
            let back = Value::from_msgpack(expected, &ty).unwrap();
            assert_eq!(back, ty.conform(value).unwrap());
        }
    }

    #[test]
    fn numbers_go_out_as_decimal_text_so_that_core_gives_them_the_precision_of_its_state() {
        let number = |text: &str| Value::Number(text.parse().unwrap());
        for (value, expected) in
            [(42.into(), "42"), (1.5.into(), "1.5"), (number("18446744073709551616"), "18446744073709551616")]
        {
            let packed = bytes(value, &Type::Number);
            assert_eq!(packed, bytes(expected, &Type::String));
        }
    }

    #[test]
    fn dynamic_values_bring_their_type() {
        let known_type = b"\x92\xc4\x08\"string\"\xd4\x00\x00";
        let value = Value::from_msgpack(known_type, &Type::Dynamic).unwrap();
        assert!(value.is_unknown());
        assert_eq!(bytes(value, &Type::Dynamic), known_type);
        assert_eq!(bytes(Value::unknown(), &Type::Dynamic), b"\xd4\x00\x00");
        assert_eq!(bytes(Value::Null, &Type::Dynamic), b"\xc0");
        let mixed = Value::from_msgpack(b"\x92\xc4\x19[\"tuple\",[\"bool\",\"any\"]]".as_slice(), &Type::Dynamic);
        assert!(mixed.is_err());
    }

    #[test]
    fn errors_name_the_place_and_not_the_value() {
        let ty = Type::object([("disks", Type::map(Type::object([("size", Type::Number)])))]);
        let other = Type::object([("disks", Type::map(Type::object([("size", Type::String)])))]);
        let value = Value::object([("disks", Value::map([("scsi0", Value::object([("size", "hunter2")]))]))]);
        let error = Value::from_msgpack(&bytes(value, &other), &ty).unwrap_err();
        assert_eq!(error.to_string(), r#"disks["scsi0"].size: expected number, found a string"#);
    }

    #[test]
    fn a_refinement_that_says_null_is_null_and_unknown_codes_are_unknown() {
        assert_eq!(Value::from_msgpack(b"\xc7\x03\x0c\x81\x01\xc3", &Type::String).unwrap(), Value::Null);
        assert_eq!(Value::from_msgpack(b"\xd4\x63\x00", &Type::String).unwrap(), Value::unknown());
        assert!(Value::from_msgpack(b"\xc7\x03\x0c\x81\x01\x07", &Type::String).is_err());
    }

    #[test]
    fn odd_bytes_are_errors() {
        let object = Type::object([("a", Type::String)]);
        let deep = vec![0x91; 100_000];
        let huge = b"\xdd\xff\xff\xff\xff".to_vec();
        let cases: [(&[u8], &Type); 8] = [
            (b"", &Type::String),
            (b"\xa1", &Type::String),
            (b"\xa1\xff", &Type::String),
            (b"\xc0\xc0", &Type::String),
            (b"\x80", &object),
            (b"\x82\xa1a\xc0\xa1a\xc0", &object),
            (&deep, &Type::Dynamic),
            (&huge, &Type::Dynamic),
        ];
        for (bytes, ty) in cases {
            assert!(Value::from_msgpack(bytes, ty).is_err(), "{:?}", &bytes[..bytes.len().min(8)]);
        }
        let infinity = b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00";
        assert!(Value::from_msgpack(infinity, &Type::Number).is_err());
    }
}
