//! Every citation of `docs/reference` in code and documents leads to a heading or a numbered item that exists.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The pages that are cited, by file name.
const PAGES: [&str; 5] = ["proxmox-ve.md", "design.md", "plugin-protocol.md", "formats.md", "hazards.md"];
/// Pages of these names were never part of the repository.
const STRANGERS: [&str; 5] =
    ["pve-behaviour", "core-review", "operations-review", "terraform-core.md", "rust-ecosystem"];

/// What a page can be cited by: `6`, `10.1`, `15.7`, `17.c3`, `A7`, `OR 9`, `F18`.
fn marks(page: &str) -> BTreeSet<String> {
    let heading = Regex::new(r"^#{2,3} (\d+(?:\.\d+)?)\.? ").expect("a pattern");
    let item = Regex::new(r"^(?:(\d+)\. |- `([a-z]\d+)` )").expect("a pattern");
    let row = Regex::new(r"^\| ((?:[A-G]\d+(?:(?:, |\u{2013})[A-G]\d+)*)|OR \d+|[EF]\d+) \|").expect("a pattern");
    let mut found = BTreeSet::new();
    let mut section = String::new();
    for line in page.lines() {
        if let Some(number) = heading.captures(line) {
            section = number[1].to_owned();
            found.insert(section.clone());
        } else if let Some(number) = item.captures(line) {
            let number = number.get(1).or_else(|| number.get(2)).expect("one of them").as_str();
            found.insert(format!("{section}.{number}"));
        } else if let Some(cases) = row.captures(line) {
            found.extend(cases_of(&cases[1]));
        }
    }
    found
}

/// `A10, A11` and `B1\u{2013}B5` one by one.
fn cases_of(text: &str) -> Vec<String> {
    let Some((first, last)) = text.split_once('\u{2013}') else {
        return text.split(", ").map(str::to_owned).collect();
    };
    let number = |case: &str| case[1..].parse::<u32>().expect("a number");
    (number(first)..=number(last)).map(|n| format!("{}{n}", &first[..1])).collect()
}

/// The files of the repository that cite: code, documents, data with comments.
fn citing(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            if !["target", ".git", "gen", "official"].contains(&&*name) {
                citing(&path, found);
            }
        } else if [".rs", ".md", ".sh", ".py", ".toml"].iter().any(|end| name.ends_with(end)) && name != "citations.rs"
        {
            found.push(path);
        }
    }
}

#[test]
fn every_citation_leads_to_a_heading_or_an_item() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages: BTreeMap<&str, BTreeSet<String>> = PAGES
        .into_iter()
        .map(|name| (name, marks(&fs::read_to_string(root.join("docs/reference").join(name)).expect(name))))
        .collect();
    let cited =
        Regex::new(r"(?:([a-z-]+\.md)`?,? )?(§\d+(?:\.[a-z]?\d+)*|OR \d+|\b[A-G]\d{1,2}\b)").expect("a pattern");
    let mut files = Vec::new();
    citing(root, &mut files);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in files {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let place = || format!("{}:{}", path.strip_prefix(root).unwrap_or(&path).display(), number + 1);
            wrong.extend(
                STRANGERS.iter().filter(|name| line.contains(**name)).map(|name| format!("{} cites {name}", place())),
            );
            for citation in cited.captures_iter(line) {
                let (page, mark) = (citation.get(1).map(|m| m.as_str()), &citation[2]);
                let number = mark.trim_start_matches('§');
                // Without a page only a section is a citation, and it is one of any page.
                let known = match page.and_then(|page| pages.get(page)) {
                    Some(marks) => marks.contains(number),
                    None if !mark.starts_with('§') => continue,
                    None => pages.values().any(|marks| marks.contains(number)),
                };
                count += 1;
                if !known {
                    wrong.push(format!("{} cites {} {mark}", place(), page.unwrap_or("docs/reference")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} citations lead nowhere:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 200, "only {count} citations were found");
}
