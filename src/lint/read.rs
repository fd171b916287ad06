//! Owns reading a block's expressions into values of the schema, with the place of each, and what is wrong on the way.
use hcl_edit::Span;
use hcl_edit::expr::{Expression, Object, ObjectKey};
use hcl_edit::structure::{Block, Structure};
use protocol::{Attribute, AttributeKind, AttributePath, NestingMode, Type, Value};

use crate::hint;
use crate::names::{Kind, Known, kind_of, kind_of_keys};

/// Something that was found in a block.
pub(crate) struct Found {
    /// Where, as a byte of the text.
    pub(crate) at: usize,
    /// Where in the block.
    pub(crate) path: AttributePath,
    /// What.
    pub(crate) message: String,
    /// Whether it may be meant so.
    pub(crate) warning: bool,
}

/// Reads one block.
pub(crate) struct Reader<'a> {
    text: &'a str,
    known: &'a Known,
    places: Vec<(AttributePath, usize)>,
    found: Vec<Found>,
}

/// Calls whose arguments are of the kind that they result in.
const TRANSPARENT: &[&str] =
    &["merge", "tomap", "tolist", "toset", "try", "coalesce", "one", "concat", "setunion", "distinct"];

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, known: &'a Known) -> Self {
        Self { text, known, places: Vec::new(), found: Vec::new() }
    }

    /// What was found.
    pub(crate) fn finish(self) -> Vec<Found> {
        self.found
    }

    /// Says something about a part of the block, where that part or what holds it stands.
    pub(crate) fn found(&mut self, path: &AttributePath, message: String, warning: bool) {
        let inside = self.places.iter().filter(|(known, _)| path.starts_with(known));
        let at = inside.max_by_key(|(known, _)| known.steps.len()).map_or(0, |(_, at)| *at);
        self.found.push(Found { at, path: path.clone(), message, warning });
    }

    fn here(&mut self, at: usize, path: AttributePath, message: String, warning: bool) {
        self.found.push(Found { at, path, message, warning });
    }

    /// The value of a block. `meta`: attributes and blocks that core has in every block of its kind.
    pub(crate) fn block(&mut self, block: &Block, attributes: &[Attribute], meta: (&[&str], &[&str])) -> Value {
        self.places.push((AttributePath::root(), start(block)));
        let mut parts: Vec<(String, Value)> = Vec::new();
        for structure in block.body.iter() {
            match structure {
                Structure::Attribute(written) if meta.0.contains(&written.key.as_str()) => {}
                Structure::Attribute(written) => {
                    parts.extend(self.entry(
                        attributes,
                        written.key.as_str(),
                        start(&written.key),
                        &written.value,
                        &AttributePath::root(),
                    ));
                }
                Structure::Block(inner) if meta.1.contains(&inner.ident.as_str()) => {}
                Structure::Block(inner) => {
                    let name = inner.ident.as_str();
                    let message = match attributes.iter().any(|attribute| attribute.name == name) {
                        true => format!("this is an attribute, not a block: write {name} = {{ … }}"),
                        false => format!("there is no such block; {}", hint(name, &settable(attributes))),
                    };
                    self.here(start(&inner.ident), AttributePath::new(name), message, false);
                    parts.push((name.to_owned(), Value::unknown()));
                }
            }
        }
        self.whole(attributes, parts, &AttributePath::root())
    }

    /// One entry of an object or block; `None` where there is no such attribute.
    fn entry(
        &mut self,
        attributes: &[Attribute],
        name: &str,
        at: usize,
        value: &Expression,
        path: &AttributePath,
    ) -> Option<(String, Value)> {
        let path = path.clone().attribute(name);
        let Some(attribute) = attributes.iter().find(|attribute| attribute.name == name) else {
            let message = format!("unknown key; {}", hint(name, &settable(attributes)));
            self.here(at, path, message, false);
            return None;
        };
        if !attribute.required && !attribute.optional {
            self.here(at, path, "it is the provider's to set: take it out".to_owned(), false);
            return None;
        }
        self.places.push((path.clone(), at));
        Some((name.to_owned(), self.attribute(attribute, value, &path)))
    }

    /// An object with everything that it lacks: null, or a problem where it must be there.
    fn whole(&mut self, attributes: &[Attribute], mut parts: Vec<(String, Value)>, path: &AttributePath) -> Value {
        for attribute in attributes {
            if parts.iter().any(|(name, _)| *name == attribute.name) {
                continue;
            }
            if attribute.required {
                self.found(path, format!("the attribute {:?} is missing", attribute.name), false);
            }
            // What is missing was said; null would be said again.
            parts.push((attribute.name.clone(), if attribute.required { Value::unknown() } else { Value::Null }));
        }
        Value::object(parts)
    }

    fn attribute(&mut self, attribute: &Attribute, value: &Expression, path: &AttributePath) -> Value {
        match &attribute.kind {
            AttributeKind::Type(ty) => self.leaf(&attribute.name, ty, value, path),
            AttributeKind::Nested { mode, attributes } => self.nested(&attribute.name, *mode, attributes, value, path),
        }
    }

    fn nested(
        &mut self,
        name: &str,
        mode: NestingMode,
        attributes: &[Attribute],
        value: &Expression,
        path: &AttributePath,
    ) -> Value {
        match (mode, value) {
            (_, Expression::Null(_)) => Value::Null,
            (_, Expression::Parenthesis(inner)) => self.nested(name, mode, attributes, inner.inner(), path),
            (_, Expression::Conditional(either)) => {
                self.nested(name, mode, attributes, &either.true_expr, path);
                self.nested(name, mode, attributes, &either.false_expr, path);
                Value::unknown()
            }
            (_, Expression::FuncCall(call)) if TRANSPARENT.contains(&call.name.name.as_str()) => {
                call.args.iter().for_each(|argument| drop(self.nested(name, mode, attributes, argument, path)));
                Value::unknown()
            }
            (NestingMode::Single, Expression::Object(object)) => self.object(attributes, object, path),
            (NestingMode::Map, Expression::Object(object)) => self.map(name, attributes, object, path),
            (NestingMode::List | NestingMode::Set, Expression::Array(array)) => {
                let elements: Vec<Value> = array
                    .iter()
                    .enumerate()
                    .map(|(index, element)| {
                        let path = path.clone().index(index);
                        self.places.push((path.clone(), start(element)));
                        self.nested(name, NestingMode::Single, attributes, element, &path)
                    })
                    .collect();
                if mode == NestingMode::List { Value::List(elements) } else { Value::Set(elements) }
            }
            (NestingMode::Map | NestingMode::List | NestingMode::Set, Expression::ForExpr(each)) => {
                self.nested(name, NestingMode::Single, attributes, &each.value_expr, path);
                Value::unknown()
            }
            _ => Value::unknown(),
        }
    }

    fn object(&mut self, attributes: &[Attribute], object: &Object, path: &AttributePath) -> Value {
        let mut parts = Vec::new();
        let mut certain = true;
        for (entry, value) in object.iter() {
            match key(entry) {
                Some(name) => match self.entry(attributes, &name, start(entry), value.expr(), path) {
                    Some(part) => parts.push(part),
                    None => certain = false,
                },
                None => certain = false,
            }
        }
        if certain {
            return self.whole(attributes, parts, path);
        }
        // One key was said to be wrong: what lacks for it is not said as well.
        Value::unknown()
    }

    fn map(&mut self, name: &str, attributes: &[Attribute], object: &Object, path: &AttributePath) -> Value {
        let mut entries = Vec::new();
        let mut certain = true;
        for (entry, value) in object.iter() {
            let key = key(entry);
            certain &= key.is_some();
            let shown = key.clone().unwrap_or_else(|| "…".to_owned());
            let path = path.clone().key(shown.as_str());
            self.places.push((path.clone(), start(entry)));
            if let (Some(kind), Some(key)) = (kind_of_keys(name), &key) {
                self.name(kind, key, start(entry), &path);
            }
            let value = self.nested(name, NestingMode::Single, attributes, value.expr(), &path);
            entries.push((shown, value));
        }
        if certain { Value::map(entries) } else { Value::unknown() }
    }

    /// A value without attributes of its own.
    fn leaf(&mut self, name: &str, ty: &Type, value: &Expression, path: &AttributePath) -> Value {
        match (ty, value) {
            (_, Expression::Null(_)) => Value::Null,
            (_, Expression::Parenthesis(inner)) => self.leaf(name, ty, inner.inner(), path),
            (_, Expression::Conditional(either)) => {
                self.leaf(name, ty, &either.true_expr, path);
                self.leaf(name, ty, &either.false_expr, path);
                Value::unknown()
            }
            (_, Expression::FuncCall(call)) if TRANSPARENT.contains(&call.name.name.as_str()) => {
                call.args.iter().for_each(|argument| drop(self.leaf(name, ty, argument, path)));
                Value::unknown()
            }
            (Type::List(of) | Type::Set(of), Expression::Array(array)) => {
                let elements: Vec<Value> = array
                    .iter()
                    .enumerate()
                    .map(|(index, element)| {
                        let path = path.clone().index(index);
                        self.places.push((path.clone(), start(element)));
                        self.leaf(name, of, element, &path)
                    })
                    .collect();
                if matches!(ty, Type::List(_)) { Value::List(elements) } else { Value::Set(elements) }
            }
            (Type::Map(of), Expression::Object(object)) => {
                let mut entries = Vec::new();
                for (entry, value) in object.iter() {
                    let Some(key) = key(entry) else { return Value::unknown() };
                    let path = path.clone().key(key.as_str());
                    self.places.push((path.clone(), start(entry)));
                    if let Some(kind) = kind_of_keys(name) {
                        self.name(kind, &key, start(entry), &path);
                    }
                    entries.push((key, self.leaf(name, of, value.expr(), &path)));
                }
                Value::map(entries)
            }
            _ => self.scalar(name, ty, value, path),
        }
    }

    fn scalar(&mut self, name: &str, ty: &Type, value: &Expression, path: &AttributePath) -> Value {
        match (ty, value) {
            (Type::String, Expression::Number(number)) => {
                let spelled = number.span().and_then(|span| self.text.get(span)).unwrap_or_default().trim();
                if !is_plain(spelled) {
                    let message = format!("core makes a number of {spelled} first: write \"{spelled}\" in quotes");
                    self.here(start(value), path.clone(), message, false);
                    return Value::unknown();
                }
                Value::from(spelled)
            }
            (Type::String, Expression::Bool(truth)) => Value::from(truth.value().to_string()),
            (Type::String, value) => match text(value) {
                Some(text) => {
                    if let Some(kind) = kind_of(name, path.steps.len() == 1) {
                        self.name(kind, &text, start(value), path);
                    }
                    Value::from(text)
                }
                None => Value::unknown(),
            },
            (Type::Bool, Expression::Bool(truth)) => Value::from(*truth.value()),
            (Type::Number, Expression::Number(number)) => {
                let spelled = number.span().and_then(|span| self.text.get(span)).unwrap_or_default().trim();
                spelled.parse::<protocol::Number>().map_or_else(|_| Value::unknown(), Value::from)
            }
            _ => Value::unknown(),
        }
    }

    fn name(&mut self, kind: Kind, name: &str, at: usize, path: &AttributePath) {
        if let Some((message, warning)) = self.known.wrong(kind, name) {
            self.here(at, path.clone(), message, warning);
        }
    }
}

fn start(of: &impl Span) -> usize {
    of.span().map_or(0, |span| span.start)
}

/// What a configuration may set.
fn settable(attributes: &[Attribute]) -> Vec<&str> {
    let settable = attributes.iter().filter(|attribute| attribute.required || attribute.optional);
    settable.map(|attribute| attribute.name.as_str()).collect()
}

/// Whether a number is written as core would write it as a text: no sign but `-`, no zero at its ends, no exponent.
fn is_plain(spelled: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = spelled.strip_prefix('-').unwrap_or(spelled);
    let (whole, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(whole, rest)| (whole, Some(rest)));
    let whole = digits(whole) && (whole == "0" || !whole.starts_with('0'));
    whole && fraction.is_none_or(|fraction| digits(fraction) && !fraction.ends_with('0'))
}

/// The key of an object's entry, where it is written out.
pub(crate) fn key(entry: &ObjectKey) -> Option<String> {
    match entry {
        ObjectKey::Ident(ident) => Some(ident.as_str().to_owned()),
        ObjectKey::Expression(Expression::Variable(ident)) => Some(ident.as_str().to_owned()),
        ObjectKey::Expression(value) => text(value),
    }
}

/// A text that is written out.
pub(crate) fn text(value: &Expression) -> Option<String> {
    match value {
        Expression::String(text) => Some(text.value().clone()),
        Expression::Parenthesis(inner) => text(inner.inner()),
        _ => None,
    }
}
