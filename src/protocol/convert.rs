//! Between our nouns and the generated ones; no decisions.

use bytes::Bytes;

use crate::{
    Attribute, AttributeKind, AttributePath, ClientCapabilities, Diagnostic, Diagnostics, NestingMode, Schema,
    Severity, Step, Type, Value, ValueError,
    wire::{self, schema::object},
};

impl Schema {
    pub(crate) fn to_wire(&self) -> wire::Schema {
        let block = wire::schema::Block {
            version: self.version,
            attributes: self.attributes.iter().map(Attribute::to_wire).collect(),
            description: self.description.clone(),
            description_kind: wire::StringKind::Markdown.into(),
            ..Default::default()
        };
        wire::Schema { version: self.version, block: Some(block) }
    }
}

impl Attribute {
    fn to_wire(&self) -> wire::schema::Attribute {
        let (r#type, nested_type) = match &self.kind {
            AttributeKind::Type(ty) => (ty.to_json().to_string().into_bytes().into(), None),
            AttributeKind::Nested { mode, attributes } => {
                let nesting = match mode {
                    NestingMode::Single => object::NestingMode::Single,
                    NestingMode::List => object::NestingMode::List,
                    NestingMode::Set => object::NestingMode::Set,
                    NestingMode::Map => object::NestingMode::Map,
                };
                let attributes = attributes.iter().map(Attribute::to_wire).collect();
                (Bytes::new(), Some(wire::schema::Object { attributes, nesting: nesting.into(), ..Default::default() }))
            }
        };
        wire::schema::Attribute {
            name: self.name.clone(),
            r#type,
            nested_type,
            description: self.description.clone(),
            description_kind: wire::StringKind::Markdown.into(),
            required: self.required,
            optional: self.optional,
            computed: self.computed,
            sensitive: self.sensitive,
            write_only: self.write_only,
            deprecated: self.deprecated.is_some(),
            deprecation_message: self.deprecated.clone().unwrap_or_default(),
        }
    }
}

#[cfg(feature = "client")]
impl Schema {
    /// Reads what [`Schema::to_wire`] writes; nested blocks, which we do not use, are left out.
    pub(crate) fn from_wire(schema: wire::Schema) -> Self {
        let block = schema.block.unwrap_or_default();
        let attributes = block.attributes.into_iter().map(Attribute::from_wire).collect();
        Self { version: schema.version, attributes, description: block.description }
    }
}

#[cfg(feature = "client")]
impl Attribute {
    fn from_wire(a: wire::schema::Attribute) -> Self {
        let kind = match a.nested_type {
            Some(object) => AttributeKind::Nested {
                mode: match object.nesting() {
                    object::NestingMode::List => NestingMode::List,
                    object::NestingMode::Set => NestingMode::Set,
                    object::NestingMode::Map => NestingMode::Map,
                    object::NestingMode::Single | object::NestingMode::Invalid => NestingMode::Single,
                },
                attributes: object.attributes.into_iter().map(Attribute::from_wire).collect(),
            },
            None => {
                let json = serde_json::from_slice(&a.r#type).unwrap_or_default();
                AttributeKind::Type(Type::from_json(&json).unwrap_or(Type::Dynamic))
            }
        };
        Self {
            name: a.name,
            kind,
            required: a.required,
            optional: a.optional,
            computed: a.computed,
            sensitive: a.sensitive,
            write_only: a.write_only,
            deprecated: a.deprecated.then_some(a.deprecation_message),
            description: a.description,
        }
    }
}

impl AttributePath {
    pub(crate) fn to_wire(&self) -> wire::AttributePath {
        use wire::attribute_path::step::Selector;
        let steps = self.steps.iter().map(|step| wire::attribute_path::Step {
            selector: Some(match step {
                Step::Attribute(name) => Selector::AttributeName(name.clone()),
                Step::Key(key) => Selector::ElementKeyString(key.clone()),
                Step::Index(index) => Selector::ElementKeyInt(*index),
            }),
        });
        wire::AttributePath { steps: steps.collect() }
    }

    #[cfg(feature = "client")]
    pub(crate) fn from_wire(path: wire::AttributePath) -> Self {
        use wire::attribute_path::step::Selector;
        let steps = path.steps.into_iter().filter_map(|step| {
            Some(match step.selector? {
                Selector::AttributeName(name) => Step::Attribute(name),
                Selector::ElementKeyString(key) => Step::Key(key),
                Selector::ElementKeyInt(index) => Step::Index(index),
            })
        });
        Self { steps: steps.collect() }
    }
}

impl Diagnostics {
    /// Paths are cut to what `ty` can express, and to what core finds in a configuration: a top-level attribute, and one
    /// element of it. Of a path further into a nested attribute core shows the first line of the whole block, so the rest of
    /// such a path goes into the text.
    pub(crate) fn into_wire(self, ty: Option<&Type>) -> Vec<wire::Diagnostic> {
        let convert = |d: Diagnostic| {
            let path = d.path.map(|path| ty.map_or_else(|| path.clone(), |ty| ty.clip(&path))).unwrap_or_default();
            let shown = found_by_core(&path);
            let detail = if shown == path { d.detail } else { format!("{path}: {}", d.detail) };
            wire::Diagnostic {
                severity: match d.severity {
                    Severity::Error => wire::diagnostic::Severity::Error.into(),
                    Severity::Warning => wire::diagnostic::Severity::Warning.into(),
                },
                summary: d.summary,
                detail,
                attribute: (!shown.is_root()).then(|| shown.to_wire()),
            }
        };
        self.into_iter().map(convert).collect()
    }

    #[cfg(feature = "client")]
    pub(crate) fn from_wire(diagnostics: Vec<wire::Diagnostic>) -> Self {
        let convert = |d: wire::Diagnostic| Diagnostic {
            severity: match d.severity() {
                wire::diagnostic::Severity::Warning => Severity::Warning,
                _ => Severity::Error,
            },
            summary: d.summary,
            detail: d.detail,
            path: d.attribute.map(AttributePath::from_wire),
        };
        diagnostics.into_iter().map(convert).collect()
    }
}

/// The first attribute of a path, with the element of it where the path goes into one.
fn found_by_core(path: &AttributePath) -> AttributePath {
    let element = matches!(path.steps.get(1), Some(Step::Key(_) | Step::Index(_)));
    let steps = path.steps.iter().take(if element { 2 } else { 1 });
    AttributePath { steps: steps.cloned().collect() }
}

impl From<Option<wire::ClientCapabilities>> for ClientCapabilities {
    fn from(client: Option<wire::ClientCapabilities>) -> Self {
        let client = client.unwrap_or_default();
        Self {
            deferral_allowed: client.deferral_allowed,
            write_only_attributes_allowed: client.write_only_attributes_allowed,
            store_planned_private: client.store_planned_private,
        }
    }
}

#[cfg(feature = "client")]
impl From<ClientCapabilities> for Option<wire::ClientCapabilities> {
    fn from(client: ClientCapabilities) -> Self {
        Some(wire::ClientCapabilities {
            deferral_allowed: client.deferral_allowed,
            write_only_attributes_allowed: client.write_only_attributes_allowed,
            store_planned_private: client.store_planned_private,
            computed_blocks_allowed: false,
        })
    }
}

impl wire::DynamicValue {
    pub(crate) fn of(value: &Value, ty: &Type) -> Result<Self, ValueError> {
        Ok(Self { msgpack: value.to_msgpack(ty)?.into(), json: Bytes::new() })
    }

    /// What was left out is null.
    pub(crate) fn read(sent: Option<&Self>, ty: &Type) -> Result<Value, ValueError> {
        match sent {
            Some(v) if !v.msgpack.is_empty() => Value::from_msgpack(&v.msgpack, ty),
            Some(v) if !v.json.is_empty() => Value::from_json(&v.json, ty),
            _ => Ok(Value::Null),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_core_cannot_find_is_cut_and_told_in_the_text() {
        let shown = |path: AttributePath| {
            let one = Diagnostics::from_iter([Diagnostic::error("s", "d").at(path)]).into_wire(None).remove(0);
            (one.attribute.map_or(0, |path| path.steps.len()), one.detail)
        };
        assert_eq!(shown(AttributePath::new("memory")), (1, "d".to_owned()));
        assert_eq!(shown(AttributePath::new("disks").key("scsi0")), (2, "d".to_owned()));
        assert_eq!(shown(AttributePath::new("cpu").attribute("cores")), (1, "cpu.cores: d".to_owned()));
        let deep = AttributePath::new("clusters").key("a").attribute("endpoints").index(0);
        assert_eq!(shown(deep), (2, "clusters[\"a\"].endpoints[0]: d".to_owned()));
        assert_eq!(shown(AttributePath::root()), (0, "d".to_owned()));
    }

    #[test]
    fn an_attribute_has_a_type_or_a_nested_type_never_both() {
        let schema = Schema::new(
            "",
            vec![
                Attribute::new("plain", Type::map(Type::String)).optional(),
                Attribute::nested("nested", NestingMode::Map, vec![Attribute::string("a").required()]).optional(),
            ],
        );
        let sent = schema.to_wire().block.unwrap().attributes;
        assert_eq!(sent[0].r#type, r#"["map","string"]"#.as_bytes());
        assert!(sent[0].nested_type.is_none());
        assert!(sent[1].r#type.is_empty());
        assert_eq!(sent[1].nested_type.as_ref().unwrap().nesting(), object::NestingMode::Map);
    }
}
