//! The shape of configuration and state, as the provider declares it.

use std::collections::BTreeMap;

use crate::{AttributePath, Type, Value};

/// Everything a provider has.
#[derive(Debug, Clone, Default)]
pub struct ProviderSchema {
    /// The provider block.
    pub provider: Schema,
    /// Managed resources, by type name.
    pub resources: BTreeMap<String, Schema>,
    /// Data sources, by type name.
    pub data_sources: BTreeMap<String, Schema>,
}

/// The shape of one block of configuration.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// Version of the stored state; raise it when old state has to be rewritten.
    pub version: i64,
    /// The arguments and results, in the order the documentation shows them.
    pub attributes: Vec<Attribute>,
    /// What it is, in Markdown.
    pub description: String,
}

/// One argument or result.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// Its name: lower case letters, digits and underscores.
    pub name: String,
    /// What it holds.
    pub kind: AttributeKind,
    /// It must be configured.
    pub required: bool,
    /// It may be configured.
    pub optional: bool,
    /// The provider may set it.
    pub computed: bool,
    /// Core does not show it.
    pub sensitive: bool,
    /// It is never stored: neither in plan nor in state.
    pub write_only: bool,
    /// Why it should not be used any more, and what to use.
    pub deprecated: Option<String>,
    /// What it means, in Markdown, with unit, range and default.
    pub description: String,
}

/// What an attribute holds.
#[derive(Debug, Clone)]
pub enum AttributeKind {
    /// A value of a type.
    Type(Type),
    /// One or more objects with attributes of their own.
    Nested {
        /// What collects the objects.
        mode: NestingMode,
        /// What each of them has.
        attributes: Vec<Attribute>,
    },
}

/// What collects the objects of a nested attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NestingMode {
    /// There is one.
    Single,
    /// They are in order.
    List,
    /// They have no order.
    Set,
    /// They have keys.
    Map,
}

impl Schema {
    /// A schema of version 0.
    pub fn new(description: impl Into<String>, attributes: Vec<Attribute>) -> Self {
        Self { version: 0, attributes, description: description.into() }
    }

    /// The type of its values.
    pub fn ty(&self) -> Type {
        object_type(&self.attributes)
    }

    /// The attribute a path leads to or into, if it leads to one.
    pub fn attribute(&self, path: &AttributePath) -> Option<&Attribute> {
        let mut found: Option<&Attribute> = None;
        for step in &path.steps {
            let crate::Step::Attribute(name) = step else { continue };
            let attributes = match found.map(|a| &a.kind) {
                None => &self.attributes,
                Some(AttributeKind::Nested { attributes, .. }) => attributes,
                Some(AttributeKind::Type(_)) => break, // into an object that is one value
            };
            found = Some(attributes.iter().find(|a| a.name == *name)?);
        }
        found
    }

    /// The value with every sensitive or write-only part replaced by the text `(sensitive)`, for logs.
    pub fn redact(&self, value: Value) -> Value {
        replace(&self.attributes, value, &|a| a.sensitive || a.write_only, &|v| match v {
            Value::Null | Value::Unknown(_) => v,
            _ => "(sensitive)".into(),
        })
    }

    /// What core would refuse about this schema, in words; empty when it is sound.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        attribute_problems(&self.attributes, "", false, &mut problems);
        problems
    }

    /// Paths of write-only attributes that are set (or will be).
    pub(crate) fn write_only_set(&self, value: &Value) -> Vec<AttributePath> {
        let mut paths: Vec<AttributePath> = Vec::new();
        value.walk(&mut |path, part| {
            if paths.last().is_some_and(|found| path.starts_with(found)) {
                return; // the whole was named already
            }
            let is_attribute = matches!(path.steps.last(), Some(crate::Step::Attribute(_)));
            if is_attribute && !part.is_null() && self.attribute(path).is_some_and(|a| a.write_only) {
                paths.push(path.clone());
            }
        });
        paths
    }
}

impl Attribute {
    /// An attribute of a type; say with [`Attribute::required`], [`Attribute::optional`] or [`Attribute::computed`]
    /// who sets it.
    pub fn new(name: impl Into<String>, ty: Type) -> Self {
        Self::of_kind(name, AttributeKind::Type(ty))
    }

    /// A text.
    pub fn string(name: impl Into<String>) -> Self {
        Self::new(name, Type::String)
    }

    /// A number.
    pub fn number(name: impl Into<String>) -> Self {
        Self::new(name, Type::Number)
    }

    /// A truth value.
    pub fn bool(name: impl Into<String>) -> Self {
        Self::new(name, Type::Bool)
    }

    /// Objects with attributes of their own.
    pub fn nested(name: impl Into<String>, mode: NestingMode, attributes: Vec<Attribute>) -> Self {
        Self::of_kind(name, AttributeKind::Nested { mode, attributes })
    }

    fn of_kind(name: impl Into<String>, kind: AttributeKind) -> Self {
        Self {
            name: name.into(),
            kind,
            required: false,
            optional: false,
            computed: false,
            sensitive: false,
            write_only: false,
            deprecated: None,
            description: String::new(),
        }
    }

    /// It must be configured.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// It may be configured.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The provider sets it; together with [`Attribute::optional`], where it is not configured.
    #[must_use]
    pub fn computed(mut self) -> Self {
        self.computed = true;
        self
    }

    /// Core does not show it.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// It is never stored.
    #[must_use]
    pub fn write_only(mut self) -> Self {
        self.write_only = true;
        self
    }

    /// It should not be used any more; says what to use.
    #[must_use]
    pub fn deprecated(mut self, message: impl Into<String>) -> Self {
        self.deprecated = Some(message.into());
        self
    }

    /// What it means, in Markdown.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// The type of its values.
    pub fn ty(&self) -> Type {
        match &self.kind {
            AttributeKind::Type(ty) => ty.clone(),
            AttributeKind::Nested { mode, attributes } => {
                let object = object_type(attributes);
                match mode {
                    NestingMode::Single => object,
                    NestingMode::List => Type::list(object),
                    NestingMode::Set => Type::set(object),
                    NestingMode::Map => Type::map(object),
                }
            }
        }
    }
}

fn object_type(attributes: &[Attribute]) -> Type {
    Type::Object(attributes.iter().map(|a| (a.name.clone(), a.ty())).collect())
}

/// The value with every write-only attribute set to null, as planned and new states must have it.
pub fn strip_write_only(schema: &Schema, value: Value) -> Value {
    replace(&schema.attributes, value, &|a| a.write_only, &|_| Value::Null)
}

/// Replaces every part of the value whose attribute is `chosen`.
fn replace(
    attributes: &[Attribute],
    value: Value,
    chosen: &dyn Fn(&Attribute) -> bool,
    with: &dyn Fn(Value) -> Value,
) -> Value {
    let (mut map, wrap): (BTreeMap<_, _>, fn(_) -> _) = match value {
        Value::Object(map) => (map, Value::Object),
        Value::Map(map) => (map, Value::Map),
        other => return other,
    };
    for attribute in attributes {
        let Some(part) = map.get_mut(&attribute.name) else { continue };
        let old = std::mem::take(part);
        *part = if chosen(attribute) { with(old) } else { replace_inside(attribute, old, chosen, with) };
    }
    wrap(map)
}

fn replace_inside(
    attribute: &Attribute,
    value: Value,
    chosen: &dyn Fn(&Attribute) -> bool,
    with: &dyn Fn(Value) -> Value,
) -> Value {
    let AttributeKind::Nested { mode, attributes } = &attribute.kind else { return value };
    let one = |v| replace(attributes, v, chosen, with);
    match (mode, value) {
        (NestingMode::Single, v) => one(v),
        (_, Value::List(l)) => Value::List(l.into_iter().map(one).collect()),
        (_, Value::Set(l)) => Value::Set(l.into_iter().map(one).collect()),
        (_, Value::Tuple(l)) => Value::Tuple(l.into_iter().map(one).collect()),
        (_, Value::Map(m)) => Value::Map(m.into_iter().map(|(k, v)| (k, one(v))).collect()),
        (_, Value::Object(m)) => Value::Object(m.into_iter().map(|(k, v)| (k, one(v))).collect()),
        (_, v) => v,
    }
}

fn attribute_problems(attributes: &[Attribute], prefix: &str, in_set: bool, problems: &mut Vec<String>) {
    let mut names = std::collections::BTreeSet::new();
    for a in attributes {
        let path = format!("{prefix}{}", a.name);
        let mut problem = |text: &str| problems.push(format!("{path}: {text}"));
        let word = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !a.name.starts_with(|c: char| c.is_ascii_lowercase()) || !word(&a.name) {
            problem("a name is lower case letters, digits and underscores, and begins with a letter");
        }
        if !names.insert(&a.name) {
            problem("there are two of this name");
        }
        if !(a.required || a.optional || a.computed) {
            problem("nobody sets it: neither required, optional nor computed");
        }
        if a.required && (a.optional || a.computed) {
            problem("required excludes optional and computed");
        }
        if a.write_only && a.computed {
            problem("what is never stored cannot be computed");
        }
        if a.write_only && in_set {
            problem("nothing inside a set can be write-only");
        }
        if let AttributeKind::Nested { mode, attributes } = &a.kind {
            let in_set = in_set || *mode == NestingMode::Set;
            attribute_problems(attributes, &format!("{path}."), in_set, problems);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new(
            "A thing.",
            vec![
                Attribute::string("name").required(),
                Attribute::string("password").optional().write_only(),
                Attribute::new("token", Type::object([("a", Type::String)])).optional().write_only(),
                Attribute::nested(
                    "disks",
                    NestingMode::Map,
                    vec![
                        Attribute::string("key").optional().sensitive(),
                        Attribute::string("pin").optional().write_only(),
                    ],
                )
                .optional(),
            ],
        )
    }

    fn value() -> Value {
        Value::object([
            ("name", Value::from("n")),
            ("password", Value::from("p")),
            ("token", Value::object([("a", "t")])),
            ("disks", Value::map([("a", Value::object([("key", "k"), ("pin", "1")]))])),
        ])
    }

    #[test]
    fn write_only_parts_are_found_and_stripped_at_any_depth() {
        let s = schema();
        let shown: Vec<_> = s.write_only_set(&value()).iter().map(ToString::to_string).collect();
        assert_eq!(shown, [r#"disks["a"].pin"#, "password", "token"]);
        let stripped = strip_write_only(&s, value());
        assert!(s.write_only_set(&stripped).is_empty());
        assert_eq!(stripped.attr("disks").attr("a").attr("key").as_str(), Some("k"));
    }

    #[test]
    fn what_is_logged_has_no_secret() {
        let text = format!("{:?}", schema().redact(value()));
        assert!(text.contains("\"n\"") && !text.contains("\"k\"") && !text.contains("\"p\""), "{text}");
    }

    #[test]
    fn problems_are_named() {
        assert!(schema().problems().is_empty());
        let bad = Schema::new(
            "",
            vec![
                Attribute::string("Name").required().computed(),
                Attribute::string("idle"),
                Attribute::nested("s", NestingMode::Set, vec![Attribute::string("w").optional().write_only()])
                    .optional(),
            ],
        );
        let problems = bad.problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[3].starts_with("s.w: "));
    }
}
