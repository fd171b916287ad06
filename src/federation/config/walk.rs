//! Walking a tree with a list of known keys: every problem is collected, nothing stops at the first.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use super::tree::{At, Node, Value};
use super::{ConfigError, Problem};
use crate::names::ends_early;

/// What a walk found out besides values.
#[derive(Default)]
pub(super) struct Notes {
    problems: RefCell<Vec<Problem>>,
    not_acted_on: RefCell<Vec<String>>,
    warnings: RefCell<Vec<String>>,
}

impl Notes {
    pub(super) fn problem(&self, at: At, path: &str, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message: message.into(),
        });
    }

    pub(super) fn warn(&self, message: impl Into<String>) {
        self.warnings.borrow_mut().push(message.into());
    }

    /// Takes note of a key nothing acts on; list positions are left out, so that each key is named once.
    fn inert(&self, path: &str) {
        let path: String = without_positions(path);
        let mut all = self.not_acted_on.borrow_mut();
        if !all.contains(&path) {
            all.push(path);
        }
    }

    /// The problems as an error, or what else was noted: keys not acted on, and warnings.
    pub(super) fn finish(self) -> Result<(Vec<String>, Vec<String>), ConfigError> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        match problems.is_empty() {
            true => Ok((self.not_acted_on.into_inner(), self.warnings.into_inner())),
            false => Err(ConfigError { problems }),
        }
    }
}

fn without_positions(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => {
                inside = true;
                out.push_str("[]");
            }
            ']' => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

/// One section of the file while its keys are taken out of it.
pub(super) struct Section<'n> {
    notes: &'n Notes,
    pub(super) path: String,
    pub(super) at: At,
    entries: &'n [(String, At, Node)],
    known: RefCell<BTreeSet<String>>,
}

impl<'n> Section<'n> {
    /// A section, or a problem and `None`.
    pub(super) fn new(notes: &'n Notes, path: String, node: &'n Node) -> Option<Section<'n>> {
        match &node.value {
            Value::Map(entries) => {
                Some(Section { notes, path, at: node.at, entries, known: RefCell::new(BTreeSet::new()) })
            }
            other => {
                notes.problem(node.at, &path, format!("a section of keys was expected, this is {}", other.kind()));
                None
            }
        }
    }

    pub(super) fn problem(&self, at: At, key: &str, message: impl Into<String>) {
        self.notes.problem(at, &self.child(key), message);
    }

    pub(super) fn warn(&self, message: impl Into<String>) {
        self.notes.warn(message);
    }

    fn child(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }

    /// The value of a key, unless it is absent or nothing.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.known.borrow_mut().insert(key.to_owned());
        let (_, _, node) = self.entries.iter().find(|(name, _, _)| name == key)?;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The value of a key with a second accepted spelling; both at once is a problem.
    pub(super) fn get_either(&self, key: &str, other: &str) -> Option<&'n Node> {
        let (first, second) = (self.get(key), self.get(other));
        if let (Some(_), Some(again)) = (first, second) {
            self.problem(again.at, other, format!("this is another spelling of {key}, which is there too"));
        }
        first.or(second)
    }

    /// Where a key is, or the section itself.
    pub(super) fn place(&self, key: &str) -> At {
        self.entries.iter().find(|(name, _, _)| name == key).map_or(self.at, |(_, _, node)| node.at)
    }

    /// Marks keys as known but without effect.
    pub(super) fn inert(&self, keys: &[&str]) {
        for key in keys {
            if self.get(key).is_some() {
                self.notes.inert(&self.child(key));
            }
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        let node = self.get(key)?;
        let text = as_text(&node.value);
        if text.is_none() {
            self.problem(node.at, key, format!("text was expected, this is {}", node.value.kind()));
        }
        text
    }

    /// The text of `key` where it becomes a part of what Proxmox VE reads: a bridge, a storage. `ends`: what would end it there.
    pub(super) fn part(&self, key: &str, text: Option<String>, ends: &[char]) -> Option<String> {
        if let Some(wrong) = text.as_deref().and_then(|text| ends_early(text, ends)) {
            let why = format!("it holds {wrong:?}, which ends the name where Proxmox VE reads it");
            self.problem(self.place(key), key, why);
        }
        text
    }

    pub(super) fn required_text(&self, key: &str) -> Option<String> {
        let missing = self.get(key).is_none();
        if missing {
            self.problem(self.at, "", format!("the key {key:?} is missing"));
        }
        self.text(key)
    }

    /// A text that parses as `T`; the error of `T` says what is accepted.
    pub(super) fn parsed<T: FromStr>(&self, key: &str) -> Option<T>
    where
        T::Err: Display,
    {
        let text = self.text(key)?;
        self.parse(key, &text)
    }

    pub(super) fn parse<T: FromStr>(&self, key: &str, text: &str) -> Option<T>
    where
        T::Err: Display,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(self.place(key), key, error.to_string());
                None
            }
        }
    }

    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        self.problem(node.at, key, format!("true or false was expected, this is {}", node.value.kind()));
        None
    }

    /// A whole number within bounds.
    pub(super) fn int(&self, key: &str, least: i64, most: i64) -> Option<i64> {
        let node = self.get(key)?;
        match node.value {
            Value::Int(_, value) if (least..=most).contains(&value) => Some(value),
            _ => {
                self.problem(node.at, key, format!("a whole number from {least} to {most} was expected"));
                None
            }
        }
    }

    pub(super) fn count(&self, key: &str) -> Option<u32> {
        self.int(key, 0, i64::from(u32::MAX)).and_then(|value| u32::try_from(value).ok())
    }

    /// A finite number within bounds.
    pub(super) fn number(&self, key: &str, least: f64, most: f64) -> Option<f64> {
        let node = self.get(key)?;
        let value = match node.value {
            Value::Int(_, value) => value as f64,
            Value::Float(_, value) => value,
            _ => f64::NAN,
        };
        if (least..=most).contains(&value) {
            return Some(value);
        }
        self.problem(node.at, key, format!("a number from {least} to {most} was expected"));
        None
    }

    /// The items of a list; nothing for an absent key.
    pub(super) fn list(&self, key: &str) -> Vec<(String, &'n Node)> {
        let node = self.get(key);
        self.items(key, node)
    }

    /// The items of a node that should be a list, with their paths.
    pub(super) fn items(&self, key: &str, node: Option<&'n Node>) -> Vec<(String, &'n Node)> {
        let Some(node) = node else {
            return Vec::new();
        };
        let Value::List(items) = &node.value else {
            self.problem(node.at, key, format!("a list was expected, this is {}", node.value.kind()));
            return Vec::new();
        };
        let path = self.child(key);
        items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)).collect()
    }

    pub(super) fn texts(&self, key: &str) -> Vec<(String, At)> {
        let mut texts = Vec::new();
        for (path, item) in self.list(key) {
            match as_text(&item.value) {
                Some(text) => texts.push((text, item.at)),
                None => self.notes.problem(item.at, &path, format!("text was expected, this is {}", item.value.kind())),
            }
        }
        texts
    }

    /// The sections of a list of sections.
    pub(super) fn sections(&self, key: &str, node: Option<&'n Node>) -> Vec<Section<'n>> {
        let items = self.items(key, node);
        items.into_iter().filter_map(|(path, item)| Section::new(self.notes, path, item)).collect()
    }

    pub(super) fn section(&self, key: &str) -> Option<Section<'n>> {
        let node = self.get(key)?;
        Section::new(self.notes, self.child(key), node)
    }

    pub(super) fn section_at(&self, key: &str, node: &'n Node) -> Option<Section<'n>> {
        Section::new(self.notes, self.child(key), node)
    }

    /// Every key but those beginning `x-`, for sections whose keys are names.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'n str, At, &'n Node)> + use<'n> {
        let entries = self.entries;
        let named = entries.iter().filter(|(name, _, _)| !name.starts_with("x-"));
        named.map(|(name, at, node)| (name.as_str(), *at, node))
    }

    /// Reports every key nobody asked for, with the nearest known one.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for (name, at, _) in self.entries {
            if name.starts_with("x-") || known.contains(name) {
                continue;
            }
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let hint = match nearest(name, &names) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known here: {}", names.join(", ")),
            };
            self.problem(*at, name, format!("unknown key; {hint} (keys beginning \"x-\" are ignored)"));
        }
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        // A text that looks like a number is the text that was written: a tag 2025.10 is none of 2025.1.
        Value::Int(spelling, _) | Value::Float(spelling, _) => Some(spelling.clone().into()),
        _ => None,
    }
}

/// The known word nearest to `word`, if it is near enough to be a slip: what "did you mean" asks.
pub fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    // Long words are nobody's slip, and the distance below is quadratic.
    if word.len() > 64 {
        return None;
    }
    let flat = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let near = known.iter().map(|other| (distance(&flat(word), &flat(other)), *other));
    near.min().filter(|(far, _)| *far <= (word.len() / 3).max(1)).map(|(_, other)| other)
}

/// Edit distance where swapping two neighbours is one slip, like every other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[i - 1][j - 1] + cost).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
