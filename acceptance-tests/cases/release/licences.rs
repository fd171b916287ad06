//! What the dependencies' licences ask for: only such as `deny.toml` allows, and each linked package in the archive's THIRD-PARTY.md.
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo(words: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo).current_dir(root()).args(words).output().expect("cargo");
    assert!(out.status.success(), "cargo {}: {}", words.join(" "), String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

/// The `allow` list of `[licenses]`.
fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let section = text.split("[licenses]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("[licenses]");
    section.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether a licence expression (SPDX, and crates.io's old `A/B`) can be met with what is allowed.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any(&words, &mut at, allowed) && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += usize::from(closed);
        return met && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return allowed.contains(&format!("{word} WITH {exception}"));
    }
    allowed.contains(*word)
}

#[test]
fn a_licence_expression_is_met_or_not() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("(GPL-3.0 OR GPL-2.0) AND MIT", false),
        ("Apache-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}

/// What `cargo deny check licenses bans` would say of the shipped programs, without cargo-deny.
#[test]
fn every_dependency_is_one_that_deny_toml_allows() {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--locked"])).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let allowed = allowed();
    let ours = |package: &&Value| package["source"].is_null();
    let theirs: Vec<&Value> = packages.iter().filter(|package| !ours(package)).collect();
    assert!(theirs.len() > 100, "{} dependencies", theirs.len());
    let bad: Vec<String> = theirs
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|licence| is_met(licence, &allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(bad.is_empty(), "licences that deny.toml doesn't allow: {bad:#?}");
    let deny = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let banned = deny.split("crate = \"").skip(1).filter_map(|rest| rest.split('"').next());
    // What is built for any target: the lock file also holds what dependencies could ask for and don't.
    let built = cargo(&["tree", "--locked", "--workspace", "-e", "all", "--target", "all", "--prefix", "none"]);
    assert!(built.lines().any(|line| line.starts_with("rustls v")), "the tree is none");
    for name in banned {
        let is = |line: &str| line.split(' ').next() == Some(name);
        assert!(!built.lines().any(is), "{name} is banned by deny.toml");
    }
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    let elsewhere: Vec<&&Value> = theirs.iter().filter(|package| package["source"] != registry).collect();
    assert!(elsewhere.is_empty(), "not from crates.io: {elsewhere:#?}");
}

/// The archive's THIRD-PARTY.md names every package that cargo links, and holds their texts.
#[test]
fn the_archive_names_every_linked_package_with_its_licence() {
    let out = Command::new(root().join(".ci/third-party")).output().expect("python3");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout);
    let tree = cargo(&["tree", "--locked", "-p", "terraform-provider-moxxie", "-e", "normal", "--prefix", "none"]);
    let linked: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter(|line| !line.contains("(/") && !line.trim().is_empty())
        .filter_map(|line| line.split_once(' '))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap_or_default().trim_start_matches('v')))
        .collect();
    assert!(linked.len() > 100, "{} linked packages", linked.len());
    for (name, version) in linked {
        assert!(text.contains(&format!("| {name} | {version} | ")), "{name} {version} is missing");
    }
    for words in ["Permission is hereby granted, free of charge", "aws-lc-sys", "Apache License"] {
        assert!(text.contains(words), "{words:?} is missing");
    }
}
