//! Owns `federate lint`: which files are read, and how what is found is said.
use std::path::{Path, PathBuf};

use lint::{File, Problem};
use operations::connections::{Here, Outside};
use operations::validation::Validation;
use serde_json::json;

use crate::arguments::{Common, Lint};
use crate::report::{Exit, Output, Wrong, counted};
use crate::source;

/// What the files of a configuration end with.
const ENDS: &[&str] = &[".tf", ".tofu", ".tftest.hcl", ".tofutest.hcl"];
/// Most files that are read: a folder that was named by mistake is no configuration.
const MOST: usize = 10_000;

/// Reads a configuration.
pub(crate) fn run(common: &Common, asked: &Lint, json: bool) -> Result<Output, Wrong> {
    let (federation_file, federation) = federation(common)?;
    let mut paths = Vec::new();
    let mut unread = Vec::new();
    files(&asked.folder, &mut paths, &mut unread)
        .map_err(|error| Wrong::misuse(format!("{}: {error}", asked.folder.display())))?;
    if paths.is_empty() {
        let folder = asked.folder.display();
        return Err(Wrong::misuse(format!("there is no configuration in {folder}: no {} file", ENDS.join(", no "))));
    }
    let read = |path: &PathBuf| -> Result<File, Wrong> {
        let wrong = |error: String| Wrong::misuse(format!("{}: {error}", path.display()));
        let text = String::from_utf8(Here.file(path).map_err(wrong)?).map_err(|error| wrong(error.to_string()))?;
        Ok(File { path: path.clone(), text })
    };
    let files = paths.iter().map(read).collect::<Result<Vec<File>, Wrong>>()?;
    let problems = lint::lint(&files, federation.as_ref());
    let errors = problems.iter().filter(|problem| !problem.warning).count();
    let exit = Exit::fine_if(errors == 0);
    let unread: Vec<String> = unread.iter().map(|path| path.display().to_string()).collect();
    if json {
        let value = json!({
            "folder": asked.folder.display().to_string(),
            "federation_file": federation_file,
            "valid": errors == 0,
            "files": files.len(),
            "not_read": unread,
            "problems": problems,
        });
        return Ok(Output::json(&value, exit));
    }
    let mut text: String = problems.iter().map(line).collect();
    for path in &unread {
        text += &format!("{path}: not read: JSON configurations are left out\n");
    }
    let names = match &federation_file {
        Some(file) => format!("names by {file}"),
        None => "names not checked: no federation file (-c FILE)".to_owned(),
    };
    text += if text.is_empty() { "" } else { "\n" };
    let warnings = counted(problems.len() - errors, "warning");
    text += &format!("{}: {}, {warnings}; {names}.\n", counted(files.len(), "file"), counted(errors, "problem"));
    Ok(Output::new(text, exit))
}

/// The federation file and what it declares: the one that was named, or the one that is here. A file with mistakes is refused,
/// for names are looked up in it.
fn federation(common: &Common) -> Result<(Option<String>, Option<federation::Federation>), Wrong> {
    let (path, bytes) = match source::file(common) {
        Ok(found) => found,
        Err(_) if common.config.is_none() => return Ok((None, None)),
        Err(wrong) => return Err(wrong),
    };
    let (_, loaded) = Validation::of_file(bytes);
    match loaded {
        Some(loaded) => Ok((Some(path), Some(loaded.federation))),
        None => Err(Wrong::problem(format!(
            "{path} has mistakes, and names are looked up in it: `federate validate -c {path}`"
        ))),
    }
}

/// A problem in the form that editors and CI systems find places in.
fn line(problem: &Problem) -> String {
    let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
    let kind = if problem.warning { "warning: " } else { "" };
    let message = problem.message.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}:{}:{}: {kind}{path}{message}\n", problem.file, problem.line, problem.column)
}

/// The files of a configuration in and below a folder, in order; in `unread` those in JSON. Folders whose names begin with a dot
/// hold no one's own configuration, and a link to a folder may lead anywhere.
fn files(folder: &Path, found: &mut Vec<PathBuf>, unread: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if name.starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files(&path, found, unread)?;
        } else if ENDS.iter().any(|end| name.ends_with(end)) {
            found.push(path);
        } else if name.ends_with(".tf.json") || name.ends_with(".tofu.json") {
            unread.push(path);
        }
        if found.len() > MOST {
            return Err(std::io::Error::other(format!("it holds more than {MOST} files of configurations")));
        }
    }
    Ok(())
}
