//! Owns `federate validate`.
use operations::validation::{Problem, Validation};
use serde_json::json;

use crate::arguments::{Common, Validate};
use crate::report::{Exit, Output, Wrong, counted};
use crate::source;
use crate::table::Table;

/// Checks the file, and on request the clusters.
pub(crate) async fn run(common: &Common, asked: &Validate, json: bool) -> Result<Output, Wrong> {
    let (path, bytes) = source::file(common)?;
    let (mut found, loaded) = Validation::of_file(bytes);
    if let Some(loaded) = loaded.filter(|_| asked.check_connectivity) {
        let source = source::connect(common, path.clone(), loaded)?;
        found.warnings.extend(source.warnings);
        let mut declared = source.fleet.declared().clusters.clone();
        declared.retain(|name, _| !source.unusable.contains_key(name));
        found.connectivity(&source.fleet, &declared).await;
        for (cluster, why) in &source.unusable {
            found.unusable(cluster.as_str(), why);
        }
    }
    let exit = Exit::fine_if(found.is_valid());
    if json {
        let value = json!({
            "file": path,
            "valid": found.is_valid(),
            "problems": found.problems,
            "warnings": found.warnings,
            "not_acted_on": found.not_acted_on,
            "clusters": found.clusters,
        });
        return Ok(Output::json(&value, exit));
    }
    Ok(Output::new(text(&path, &found), exit))
}

fn text(path: &str, found: &Validation) -> String {
    let mut text = String::new();
    for problem in &found.problems {
        text += &place(path, problem);
    }
    if !found.clusters.is_empty() {
        text += if text.is_empty() { "" } else { "\n" };
        text += &clusters(found);
    }
    list(&mut text, "Warnings:", &found.warnings);
    list(&mut text, "Read and checked, but nothing acts on it:", &found.not_acted_on);
    text += if text.is_empty() { "" } else { "\n" };
    let warnings = counted(found.warnings.len(), "warning");
    match found.problems.len() {
        0 => text += &format!("{path} is valid, {warnings}.\n"),
        count => text += &format!("{path} is not valid: {}, {warnings}.\n", counted(count, "problem")),
    }
    text
}

/// A problem in the form that editors and CI systems find places in: `file:line:column: …`.
fn place(path: &str, problem: &Problem) -> String {
    let key = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
    match problem.line {
        0 => format!("{path}: {key}{}\n", problem.message),
        line => format!("{path}:{line}:{}: {key}{}\n", problem.column, problem.message),
    }
}

fn clusters(found: &Validation) -> String {
    let mut table = Table::new(&["CLUSTER", "ANSWERS", "QUORUM", "VERSION", "MESSAGE"]);
    let yes = |yes: bool| if yes { "yes" } else { "NO" }.to_owned();
    for (name, probe) in &found.clusters {
        table.row(vec![
            name.clone(),
            yes(probe.reachable),
            probe.quorate.map_or("?".to_owned(), yes),
            probe.version.clone().unwrap_or_else(|| "?".to_owned()),
            probe.message.clone(),
        ]);
    }
    table.text("")
}

/// Adds a heading with lines under it, if there are any.
pub(crate) fn list(text: &mut String, heading: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    *text += &format!("{heading}\n");
    for line in lines {
        *text += &format!("  {line}\n");
    }
}
