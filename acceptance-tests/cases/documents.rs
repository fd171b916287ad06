//! What the documents say of the code is true: every test that `docs/requirements.md` names exists.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of all test functions of the workspace.
fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in ["src", "acceptance-tests"] {
        sources(&root().join(folder), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let functions =
            text.lines().filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
        names.extend(functions.filter_map(|line| line.split(['(', '<']).next()).map(str::to_owned));
    }
    names
}

#[test]
fn every_test_that_the_requirements_name_exists() {
    let text = fs::read_to_string(root().join("docs/requirements.md")).expect("docs/requirements.md");
    let tests = tests();
    // Rows of tables: what is required, and what shows it.
    let shown = text.lines().filter_map(|line| line.strip_prefix("| ")?.rsplit_once(" | ")).map(|(_, shown)| shown);
    let quoted = shown.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let named: Vec<&str> = quoted.filter(|name| name.contains('_')).collect();
    assert!(named.len() > 20, "{} tests are named", named.len());
    let missing: Vec<&&str> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/requirements.md names tests that don't exist: {missing:?}");
}
