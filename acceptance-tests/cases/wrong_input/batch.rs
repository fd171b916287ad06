//! Owns one configuration with a mistake in every block, and finding each mistake's diagnostic by the line it points at.
use harness::Workspace;
use serde_json::Value;

/// One mistake.
pub struct Row {
    /// What it is.
    pub name: &'static str,
    /// The block with the mistake; `NAME` in it becomes the row's own name.
    pub block: String,
    /// What stands in the line that the diagnostic points at.
    pub code: String,
    /// What the diagnostic says.
    pub words: Vec<String>,
}

/// A configuration made of rows.
pub struct Batch<'a> {
    text: String,
    /// Each row with its first and last line.
    places: Vec<(&'a Row, usize, usize)>,
}

impl<'a> Batch<'a> {
    pub fn new(head: &str, rows: &'a [Row]) -> Batch<'a> {
        let mut text = format!(
            "terraform {{\n  required_providers {{\n    moxxie = {{ source = \"moxxie/moxxie\" }}\n  }}\n}}\n{head}"
        );
        let mut places = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let first = text.lines().count() + 1;
            text += &row.block.replace("NAME", &format!("r{index:02}"));
            places.push((row, first, text.lines().count()));
        }
        Batch { text, places }
    }

    /// Runs the CLI once, and looks for every row's diagnostic.
    #[track_caller]
    pub fn check(&self, workspace: &Workspace, words: &[&str]) {
        workspace.write("main.tf", &self.text);
        let run = workspace.run(words).expect(1);
        let all = run.text();
        for sign in ["panicked", "did not respond", "plugin crashed", "bug in the provider"] {
            assert!(!all.contains(sign), "{sign}: {all}");
        }
        let diagnostics = diagnostics(&run.stdout);
        assert!(!diagnostics.is_empty(), "no diagnostics: {all}");
        let mut missing = Vec::new();
        for (row, first, last) in &self.places {
            let here: Vec<&Diagnostic> = diagnostics.iter().filter(|d| (*first..=*last).contains(&d.line)).collect();
            let fits = |d: &&&Diagnostic| {
                d.code.contains(&row.code) && row.words.iter().all(|word| d.text.contains(word.as_str()))
            };
            if here.iter().find(fits).is_none() {
                missing.push(format!("{}: wanted {:?} on {:?}, found {here:#?}", row.name, row.words, row.code));
            }
        }
        assert!(missing.is_empty(), "{} of {}:\n{}", missing.len(), self.places.len(), missing.join("\n\n"));
    }
}

#[derive(Debug)]
struct Diagnostic {
    line: usize,
    code: String,
    text: String,
}

/// The errors of `validate -json` (one object) or `plan -json` (one object a line).
fn diagnostics(text: &str) -> Vec<Diagnostic> {
    let whole: Option<Value> = serde_json::from_str(text).ok();
    let values: Vec<Value> = match whole {
        Some(value) => value["diagnostics"].as_array().cloned().unwrap_or_default(),
        None => {
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter_map(|line| line.get("diagnostic").cloned()).collect()
        }
    };
    let errors = values.iter().filter(|value| value["severity"] == "error");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    errors
        .map(|value| Diagnostic {
            line: value["range"]["start"]["line"].as_u64().and_then(|line| usize::try_from(line).ok()).unwrap_or(0),
            code: text(&value["snippet"]["code"]),
            text: format!("{}: {}", text(&value["summary"]), text(&value["detail"])),
        })
        .collect()
}
