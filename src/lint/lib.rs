//! Reads Terraform configurations against the provider's schema, for `federate lint`: what core drops without a word (a misspelt
//! key inside a nested attribute), what the provider would refuse, and names that nobody declares. A function of texts: it opens
//! no file, runs no program and asks no cluster.
//!
//! What is not written out (variables, references, calls) is unknown here and passes. What stands inside a conditional, a
//! `for` expression or `merge(…)` is read as if it stood there alone.

mod names;
mod read;

use std::path::{Path, PathBuf};

use federation::Federation;
use federation::config::nearest;
use hcl_edit::Span;
use hcl_edit::parser::parse_body;
use hcl_edit::structure::{Block, Body, Structure};
use operations::connections::{Here, Outside};
use protocol::{Diagnostics, ProviderSchema, Schema};
use serde::Serialize;

use names::Known;
use read::Reader;

/// One file of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path, as messages show it; paths in a provider block start at its folder.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// Something that is wrong with a configuration, or odd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file's path, as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// Where in the configuration: `moxxie_virtual_machine.web: disks["scsi0"].storge`.
    pub path: String,
    /// What is wrong, and what is accepted.
    pub message: String,
    /// Whether it may be meant so.
    pub warning: bool,
}

/// What stands in a block of a resource, a data source or a provider beside what the schema has: names of attributes, then of
/// blocks.
const RESOURCE: (&[&str], &[&str]) =
    (&["count", "for_each", "provider", "depends_on"], &["lifecycle", "provisioner", "connection", "dynamic"]);
const PROVIDER: (&[&str], &[&str]) = (&["alias", "version"], &[]);

/// Reads files of one configuration, modules included. `federation`: what the federation file declares, where there is one; names
/// are looked up there and among what the files themselves declare. Problems come in order of file and place.
pub fn lint(files: &[File], federation: Option<&Federation>) -> Vec<Problem> {
    let schema = provider::schema();
    let mut problems = Vec::new();
    let mut bodies: Vec<(&File, Body)> = Vec::new();
    for file in files {
        match parse_body(&file.text) {
            Ok(body) => bodies.push((file, body)),
            Err(error) => {
                let at = error.location();
                problems.push(Problem {
                    file: file.path.display().to_string(),
                    line: at.line(),
                    column: at.column(),
                    path: String::new(),
                    message: format!("the file can't be read: {}", error.message()),
                    warning: false,
                });
            }
        }
    }
    let mut known = Known::of(federation);
    bodies.iter().for_each(|(_, body)| known.declare(body));
    for (file, body) in &bodies {
        Linter { file, schema: &schema, known: &known, problems: &mut problems }.body(body);
    }
    problems.sort();
    problems.dedup();
    problems
}

struct Linter<'a> {
    file: &'a File,
    schema: &'a ProviderSchema,
    known: &'a Known,
    problems: &'a mut Vec<Problem>,
}

impl Linter<'_> {
    fn body(&mut self, body: &Body) {
        for block in body.iter().filter_map(Structure::as_block) {
            let labels: Vec<&str> = block.labels.iter().map(|label| label.as_str()).collect();
            match (block.ident.as_str(), labels.as_slice()) {
                ("provider", ["moxxie"]) => self.provider(block),
                ("resource", [kind, label]) if kind.starts_with("moxxie_") => self.resource(block, kind, label),
                ("data", [kind, label]) if kind.starts_with("moxxie_") => self.data(block, kind, label),
                // Data sources stand in them too.
                ("check", _) => self.body(&block.body),
                _ => {}
            }
        }
    }

    fn provider(&mut self, block: &Block) {
        let outside = Beside(self.file.path.parent().unwrap_or(Path::new("")));
        let schema = &self.schema.provider;
        self.check(block, "provider.moxxie", schema, PROVIDER, |config, diags| {
            provider::check_provider(config, &outside, diags);
        });
    }

    fn resource(&mut self, block: &Block, kind: &str, label: &str) {
        match self.schema.resources.get(kind) {
            Some(schema) => self.check(block, &format!("{kind}.{label}"), schema, RESOURCE, |config, diags| {
                provider::check_resource(kind, config, diags);
            }),
            None => {
                self.no_such_type(block, "resource", kind, self.schema.resources.keys().map(String::as_str).collect())
            }
        }
    }

    fn data(&mut self, block: &Block, kind: &str, label: &str) {
        match self.schema.data_sources.get(kind) {
            Some(schema) => self.check(block, &format!("data.{kind}.{label}"), schema, RESOURCE, |config, diags| {
                provider::check_data_source(kind, config, diags);
            }),
            None => {
                let known = self.schema.data_sources.keys().map(String::as_str).collect();
                self.no_such_type(block, "data source", kind, known);
            }
        }
    }

    fn no_such_type(&mut self, block: &Block, what: &str, kind: &str, known: Vec<&str>) {
        let message = format!("there is no {what} of this type; {}", hint(kind, &known));
        self.say(block.span().map_or(0, |span| span.start), kind.to_owned(), message, false);
    }

    /// Reads a block, then asks the provider's own static checks about what is written out.
    fn check(
        &mut self,
        block: &Block,
        name: &str,
        schema: &Schema,
        meta: (&[&str], &[&str]),
        ask: impl FnOnce(&protocol::Value, &mut Diagnostics),
    ) {
        let mut reader = Reader::new(&self.file.text, self.known);
        let config = reader.block(block, &schema.attributes, meta);
        let mut diags = Diagnostics::new();
        match schema.ty().conform(config) {
            Ok(config) => ask(&config, &mut diags),
            // Of another kind than the schema has: core says so, with the kinds.
            Err(error) => diags.error_at(error.path.clone(), "A value of another kind", error.to_string()),
        }
        for diag in diags.iter() {
            let path = diag.path.clone().unwrap_or_default();
            reader.found(&path, format!("{}: {}", diag.summary, diag.detail), !diag.is_error());
        }
        for found in reader.finish() {
            let path = if found.path.is_root() { name.to_owned() } else { format!("{name}: {}", found.path) };
            self.say(found.at, path, found.message, found.warning);
        }
    }

    fn say(&mut self, at: usize, path: String, message: String, warning: bool) {
        let (line, column) = place(&self.file.text, at);
        let file = self.file.path.display().to_string();
        self.problems.push(Problem { file, line, column, path, message, warning });
    }
}

/// Files that a provider block names, beside the file that holds it; `path.root` is unknown here and passes.
struct Beside<'a>(&'a Path);

impl Outside for Beside<'_> {
    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        Here.file(&self.0.join(path))
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// Line and column of a place in a text, in characters from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// What may have been meant, or all there is.
fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("there are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests;
