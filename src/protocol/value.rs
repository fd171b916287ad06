//! What attributes hold: Terraform's values, and comfortable access to them.

use std::collections::BTreeMap;

use crate::{AttributePath, Number, Type};

/// A value of Terraform's type system.
///
/// Two sets are equal when they hold the same elements in any order; numbers are compared by value.
/// `Debug` shows the contents, so never format a configuration that may hold secrets: see [`crate::Schema::redact`].
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Not known before apply; what is known about it already, if anything.
    Unknown(Option<Box<Refinement>>),
    /// Not set.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A number of any size.
    Number(Number),
    /// A text.
    String(String),
    /// Elements of one type, in order.
    List(Vec<Value>),
    /// Elements of one type, without order or repetition.
    Set(Vec<Value>),
    /// Elements of different types, in order.
    Tuple(Vec<Value>),
    /// Elements of one type, by key.
    Map(BTreeMap<String, Value>),
    /// Attributes of different types, by name.
    Object(BTreeMap<String, Value>),
    /// A value that brings its own type, where the schema leaves the type open.
    Dynamic(Box<Dynamic>),
}

/// A value whose type the schema leaves open.
#[derive(Debug, Clone, PartialEq)]
pub struct Dynamic {
    /// The type it has.
    pub ty: Type,
    /// The value, of that type.
    pub value: Value,
}

/// What is known about an unknown value. Core holds us to it: the final value must agree.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Refinement {
    /// `Some(false)`: it will not be null. `Some(true)`: it will be.
    pub null: Option<bool>,
    /// It will begin with this text (at most 256 bytes).
    pub prefix: Option<String>,
    /// It will be at least this number; `true` if it may be equal.
    pub number_min: Option<(Number, bool)>,
    /// It will be at most this number; `true` if it may be equal.
    pub number_max: Option<(Number, bool)>,
    /// It will have at least so many elements.
    pub length_min: Option<u64>,
    /// It will have at most so many elements.
    pub length_max: Option<u64>,
}

static NULL: Value = Value::Null;
static UNKNOWN: Value = Value::Unknown(None);

impl Value {
    /// A value that only apply will know.
    pub fn unknown() -> Self {
        Value::Unknown(None)
    }

    /// A value that only apply will know, except that it will be set.
    pub fn unknown_not_null() -> Self {
        Value::Unknown(Some(Box::new(Refinement { null: Some(false), ..Refinement::default() })))
    }

    /// An object; attributes of the schema that are left out become null.
    pub fn object<K: Into<String>, V: Into<Value>>(attributes: impl IntoIterator<Item = (K, V)>) -> Self {
        Value::Object(attributes.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// A map.
    pub fn map<K: Into<String>, V: Into<Value>>(elements: impl IntoIterator<Item = (K, V)>) -> Self {
        Value::Map(elements.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// A list.
    pub fn list<V: Into<Value>>(elements: impl IntoIterator<Item = V>) -> Self {
        Value::List(elements.into_iter().map(Into::into).collect())
    }

    /// A set; repeated elements count once when it is sent.
    pub fn set<V: Into<Value>>(elements: impl IntoIterator<Item = V>) -> Self {
        Value::Set(elements.into_iter().map(Into::into).collect())
    }

    /// The value inside [`Value::Dynamic`], else the value itself.
    pub fn inner(&self) -> &Value {
        match self {
            Value::Dynamic(d) => d.value.inner(),
            other => other,
        }
    }

    /// An attribute of an object or the element of a map. Null when there is none, unknown inside an unknown.
    pub fn attr(&self, name: &str) -> &Value {
        match self.inner() {
            Value::Object(map) | Value::Map(map) => map.get(name).unwrap_or(&NULL),
            Value::Unknown(_) => &UNKNOWN,
            _ => &NULL,
        }
    }

    /// What a path leads to. Null when it leads nowhere, unknown when it leads into an unknown.
    pub fn at(&self, path: &AttributePath) -> &Value {
        path.steps.iter().fold(self, |value, step| match step {
            crate::Step::Attribute(name) | crate::Step::Key(name) => value.attr(name),
            crate::Step::Index(index) => match value.inner() {
                Value::Unknown(_) => &UNKNOWN,
                other => other.as_list().and_then(|list| list.get(usize::try_from(*index).ok()?)).unwrap_or(&NULL),
            },
        })
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self.inner() {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.inner() {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<&Number> {
        match self.inner() {
            Value::Number(n) => Some(n),
            _ => None,
        }
    }

    /// The number, if it is a whole one in range.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// The number, if it is a whole one in range and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// The nearest float, if it is a number.
    pub fn as_f64(&self) -> Option<f64> {
        Some(self.as_number()?.as_f64())
    }

    /// The elements of a map or the attributes of an object.
    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        match self.inner() {
            Value::Map(map) | Value::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The elements of a list, set or tuple.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self.inner() {
            Value::List(list) | Value::Set(list) | Value::Tuple(list) => Some(list),
            _ => None,
        }
    }

    /// Whether it is not set.
    pub fn is_null(&self) -> bool {
        matches!(self.inner(), Value::Null)
    }

    /// Whether it is itself unknown; an object with an unknown attribute is not.
    pub fn is_unknown(&self) -> bool {
        matches!(self.inner(), Value::Unknown(_))
    }

    /// Whether it is itself known; null counts as known.
    pub fn is_known(&self) -> bool {
        !self.is_unknown()
    }

    /// Whether it and everything in it is known.
    pub fn is_wholly_known(&self) -> bool {
        match self.inner() {
            Value::Unknown(_) => false,
            Value::List(list) | Value::Set(list) | Value::Tuple(list) => list.iter().all(Value::is_wholly_known),
            Value::Map(map) | Value::Object(map) => map.values().all(Value::is_wholly_known),
            _ => true,
        }
    }

    /// This object or map with one attribute replaced. Null becomes an object; anything else stays as it is.
    #[must_use]
    pub fn with_attr(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.set_attr(name, value);
        self
    }

    /// Replaces one attribute of an object or map. Null becomes an object; anything else stays as it is.
    pub fn set_attr(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        if let Value::Null = self {
            *self = Value::Object(BTreeMap::new());
        }
        if let Value::Object(map) | Value::Map(map) = self {
            map.insert(name.into(), value.into());
        }
    }

    /// The place of an attribute of an object or map, made null if it is not there; `None` for anything else.
    pub fn attr_mut(&mut self, name: &str) -> Option<&mut Value> {
        match self {
            Value::Object(map) | Value::Map(map) => Some(map.entry(name.to_owned()).or_default()),
            _ => None,
        }
    }

    /// Shows every part of the value, containers before their contents, with the path to it. Elements of sets have the
    /// path of their place, which is only good for showing.
    pub fn walk(&self, visit: &mut impl FnMut(&AttributePath, &Value)) {
        self.walk_from(&AttributePath::root(), visit);
    }

    fn walk_from(&self, path: &AttributePath, visit: &mut impl FnMut(&AttributePath, &Value)) {
        visit(path, self);
        match self.inner() {
            Value::List(list) | Value::Set(list) | Value::Tuple(list) => {
                for (i, value) in list.iter().enumerate() {
                    value.walk_from(&path.clone().index(i), visit);
                }
            }
            Value::Map(map) => {
                for (key, value) in map {
                    value.walk_from(&path.clone().key(key), visit);
                }
            }
            Value::Object(map) => {
                for (name, value) in map {
                    value.walk_from(&path.clone().attribute(name), visit);
                }
            }
            _ => {}
        }
    }

    /// What kind of value it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Unknown(_) => "an unknown value",
            Value::Null => "null",
            Value::Bool(_) => "a bool",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Set(_) => "a set",
            Value::Tuple(_) => "a tuple",
            Value::Map(_) => "a map",
            Value::Object(_) => "an object",
            Value::Dynamic(_) => "a value with its own type",
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Unknown(a), Value::Unknown(b)) => a == b,
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => a == b,
            (Value::Set(a), Value::Set(b)) => a == b || same_elements(a, b),
            (Value::Map(a), Value::Map(b)) | (Value::Object(a), Value::Object(b)) => a == b,
            (Value::Dynamic(a), Value::Dynamic(b)) => a == b,
            _ => false,
        }
    }
}

/// Whether two lists hold the same elements, each as often.
fn same_elements(a: &[Value], b: &[Value]) -> bool {
    let mut left: Vec<&Value> = b.iter().collect();
    a.len() == b.len()
        && a.iter().all(|x| match left.iter().position(|y| *y == x) {
            Some(i) => {
                left.swap_remove(i);
                true
            }
            None => false,
        })
}

/// The beginning of a text: at most so many bytes, and whole characters.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::String(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Value::String(value.clone())
    }
}

impl From<Number> for Value {
    fn from(value: Number) -> Self {
        Value::Number(value)
    }
}

macro_rules! from_integer {
    ($($t:ty),*) => {$(
        impl From<$t> for Value {
            fn from(value: $t) -> Self {
                Value::Number(value.into())
            }
        }
    )*};
}
from_integer!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

impl From<f64> for Value {
    /// Infinities and NaN, which Terraform does not have, become null.
    fn from(value: f64) -> Self {
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    /// `None` becomes null.
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    /// A list; it is sent as a set where the schema says so.
    fn from(value: Vec<T>) -> Self {
        Value::list(value)
    }
}

impl<T: Into<Value>> From<BTreeMap<String, T>> for Value {
    /// A map; it is sent as an object where the schema says so.
    fn from(value: BTreeMap<String, T>) -> Self {
        Value::map(value)
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    /// A list.
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        Value::list(iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_lenient_and_unknown_is_contagious() {
        let v = Value::object([
            ("cpu", Value::object([("cores", 4)])),
            ("later", Value::unknown()),
            ("tags", Value::set(["a", "b"])),
        ]);
        assert_eq!(v.attr("cpu").attr("cores").as_i64(), Some(4));
        assert!(v.attr("nowhere").attr("at all").is_null());
        assert!(v.attr("later").attr("x").is_unknown());
        assert!(v.is_known() && !v.is_wholly_known());
        assert_eq!(v.at(&AttributePath::new("tags").index(1)).as_str(), Some("b"));
        assert!(v.at(&AttributePath::new("tags").index(9)).is_null());
    }

    #[test]
    fn sets_are_equal_in_any_order_but_not_in_any_number() {
        assert_eq!(Value::set([1, 2, 2]), Value::set([2, 1, 2]));
        assert_ne!(Value::set([1, 2, 2]), Value::set([1, 1, 2]));
        assert_ne!(Value::list([1, 2]), Value::list([2, 1]));
    }

    #[test]
    fn walk_names_every_part() {
        let v = Value::object([("m", Value::map([("k", Value::list([7]))]))]);
        let mut seen = Vec::new();
        v.walk(&mut |path, _| seen.push(path.to_string()));
        assert_eq!(seen, ["(root)", "m", r#"m["k"]"#, r#"m["k"][0]"#]);
    }

    #[test]
    fn attributes_can_be_replaced() {
        let mut v = Value::Null.with_attr("a", 1).with_attr("a", 2);
        *v.attr_mut("b").unwrap() = true.into();
        assert_eq!(v, Value::object([("a", Value::from(2)), ("b", Value::from(true))]));
    }
}
