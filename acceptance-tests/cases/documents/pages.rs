//! The reference pages, generated from the schema and the examples in the layout of the registries.
use std::fmt::Write;
use std::fs;
use std::path::Path;

use protocol::{Attribute, AttributeKind, NestingMode, Schema, Type};

/// One page: its file below the repository, and its text.
pub struct Page {
    pub file: String,
    pub text: String,
}

/// Every page.
pub fn all(root: &Path) -> Vec<Page> {
    let schema = protocol::Provider::schema(&provider::Moxxie::new());
    let mut pages = vec![page(
        root,
        "docs/index.md",
        "moxxie",
        "Provider",
        &schema.provider,
        "examples/provider/provider.tf",
        None,
    )];
    for (name, resource) in &schema.resources {
        let short = name.trim_start_matches("moxxie_");
        let example = format!("examples/resources/{name}/resource.tf");
        let import = format!("examples/resources/{name}/import.sh");
        pages.push(page(
            root,
            &format!("docs/resources/{short}.md"),
            name,
            "Resource",
            resource,
            &example,
            Some(&import),
        ));
    }
    for (name, data) in &schema.data_sources {
        let short = name.trim_start_matches("moxxie_");
        let example = format!("examples/data-sources/{name}/data-source.tf");
        pages.push(page(root, &format!("docs/data-sources/{short}.md"), name, "Data Source", data, &example, None));
    }
    pages
}

fn page(root: &Path, file: &str, name: &str, kind: &str, schema: &Schema, example: &str, import: Option<&str>) -> Page {
    let mut text = format!(
        "---\npage_title: \"{name} {kind}\"\ndescription: |-\n  {}\n---\n\n# {name} ({kind})\n\n{}\n",
        schema.description.split(". ").next().unwrap_or_default().trim_end_matches('.'),
        schema.description
    );
    section(root, &mut text, "Example usage", "terraform", example);
    text.push_str("\n## Schema\n");
    attributes(&mut text, &schema.attributes, "");
    if let Some(import) = import {
        section(root, &mut text, "Import", "shell", import);
    }
    text.push_str("\n<!-- Generated from the schema and the examples; `documents.rs` compares it. MOXXIE_BLESS=1 writes it. -->\n");
    Page { file: file.to_owned(), text }
}

fn section(root: &Path, text: &mut String, title: &str, language: &str, file: &str) {
    let example = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    // Writing to a text can't fail.
    let _ = write!(text, "\n## {title}\n\n```{language}\n{}\n```\n", example.trim_end());
}

type Belongs = fn(&Attribute) -> bool;

fn attributes(text: &mut String, attributes: &[Attribute], within: &str) {
    let groups: [(&str, Belongs); 3] = [
        ("Required", |attribute| attribute.required),
        ("Optional", |attribute| attribute.optional),
        ("Read-only", |attribute| !attribute.required && !attribute.optional),
    ];
    for (title, belongs) in groups {
        let mut lines = attributes.iter().filter(|attribute| belongs(attribute)).map(line).peekable();
        if lines.peek().is_some() {
            let _ = write!(text, "\n### {title}{within}\n\n{}\n", lines.collect::<Vec<_>>().join("\n"));
        }
    }
    for attribute in attributes {
        if let AttributeKind::Nested { attributes: inner, .. } = &attribute.kind {
            self::attributes(text, inner, &format!(" in `{}`", attribute.name));
        }
    }
}

fn line(attribute: &Attribute) -> String {
    let secret = if attribute.sensitive { ", sensitive" } else { "" };
    format!("- `{}` ({}{secret}) {}", attribute.name, kind(&attribute.kind), attribute.description)
}

fn kind(kind: &AttributeKind) -> String {
    match kind {
        AttributeKind::Type(ty) => type_name(ty),
        AttributeKind::Nested { mode, .. } => match mode {
            NestingMode::Single => "object".into(),
            NestingMode::List => "list of objects".into(),
            NestingMode::Set => "set of objects".into(),
            NestingMode::Map => "map of objects".into(),
        },
    }
}

fn type_name(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::Number => "number".into(),
        Type::String => "string".into(),
        Type::List(of) => format!("list of {}", type_name(of)),
        Type::Set(of) => format!("set of {}", type_name(of)),
        Type::Map(of) => format!("map of {}", type_name(of)),
        Type::Object(_) => "object".into(),
        Type::Tuple(_) => "tuple".into(),
        Type::Dynamic => "any".into(),
    }
}
