//! Owns what the CLI that started this process was asked to do, and what stands in the plan file it applies.
//!
//! The decision that a plan made is in its plan file on every core: it is our own `planned_private`, which only newer cores
//! send back (`docs/decisions/0010-the-plan-file-carries-the-decision.md`). Everything here is a hint that may be missing:
//! where it is, other channels serve.
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::placing::Pinned;

/// The CLI that started this process.
#[derive(Debug, Default)]
pub(crate) struct Parent {
    /// The words of its command, without the program's name; empty where the system doesn't tell.
    words: Vec<String>,
    /// Whether it goes by the name of a CLI: other programs have a command `test`, too.
    by_name: bool,
    planned: OnceLock<Option<BTreeMap<String, Pinned>>>,
}

/// Plan files beyond this size are not looked into, in bytes.
const LARGEST: u64 = 1 << 28;

impl Parent {
    /// The process that started this one.
    pub(crate) fn here() -> Parent {
        Parent::of(command_line())
    }

    fn of(line: Vec<String>) -> Parent {
        let mut words = line.into_iter();
        let by_name =
            words.next().is_some_and(|path| ["terraform", "tofu"].iter().any(|name| file_name(&path).contains(name)));
        Parent { words: words.collect(), by_name, planned: OnceLock::new() }
    }

    fn command(&self) -> Option<&str> {
        self.words.iter().map(String::as_str).find(|word| !word.starts_with('-'))
    }

    /// Whether everything is to be destroyed. The CLI plans as usual first, and what can't be created then must not be in
    /// the way of that.
    pub(crate) fn destroys(&self) -> bool {
        let flag = |word: &String| matches!(word.trim_start_matches('-'), "destroy" | "destroy=true");
        self.command() == Some("destroy") || self.words.iter().any(|word| word.starts_with('-') && flag(word))
    }

    /// Whether the runs of a test file are carried out, all in one process of the CLI. None of them applies a saved plan.
    pub(crate) fn tests(&self) -> bool {
        self.by_name && self.command() == Some("test")
    }

    /// The decisions in the saved plan that is being applied, by their key. `None` where no saved plan is applied, or it
    /// can't be read (OpenTofu can encrypt it).
    pub(crate) fn planned(&self) -> Option<&BTreeMap<String, Pinned>> {
        self.planned.get_or_init(|| decisions(&std::fs::read(self.plan_file()?).ok()?)).as_ref()
    }

    /// The file that may be a saved plan: the last word of `apply`.
    fn plan_file(&self) -> Option<PathBuf> {
        if self.command() != Some("apply") {
            return None;
        }
        let file = self.words.last().filter(|word| !word.starts_with('-') && *word != "apply")?;
        let file = Path::new(file);
        let small = file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
        small.then(|| file.to_owned())
    }
}

/// What the CLI that started this process is called, for commands that a person is to type.
pub(crate) fn program() -> String {
    let path = command_line().into_iter().next().unwrap_or_default();
    called(&path).to_owned()
}

/// `tofu` where that is in the name of its file; else `terraform`, also for what isn't known.
fn called(path: &str) -> &'static str {
    if file_name(path).contains("tofu") { "tofu" } else { "terraform" }
}

fn file_name(path: &str) -> std::borrow::Cow<'_, str> {
    Path::new(path).file_name().unwrap_or_default().to_string_lossy()
}

/// The command line of the process that started this one; empty where the system doesn't tell.
#[cfg(target_os = "linux")]
fn command_line() -> Vec<String> {
    let file = format!("/proc/{}/cmdline", std::os::unix::process::parent_id());
    let bytes = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[cfg(not(target_os = "linux"))]
fn command_line() -> Vec<String> {
    Vec::new()
}

/// How a decision of ours begins wherever it stands.
const MARK: &[u8] = b"\"pinned\":{\"key\":";

/// The decisions in a plan file: a ZIP whose entry `tfplan` holds every `planned_private` as it is.
fn decisions(file: &[u8]) -> Option<BTreeMap<String, Pinned>> {
    let plan = entry(file, b"tfplan")?;
    let mut found = BTreeMap::new();
    let mut rest = plan.as_slice();
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        rest = &rest[at + MARK.len() - b"{\"key\":".len()..];
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Pinned>();
        if let Some(Ok(pinned)) = values.next() {
            found.insert(pinned.key.clone(), pinned);
        }
        rest = &rest[1..];
    }
    Some(found)
}

fn number(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    Some(bytes.iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte)))
}

/// One entry of a ZIP archive, stored or deflated.
fn entry(zip: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let end = zip.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let mut at = number(zip, end + 16, 4)?;
    for _ in 0..number(zip, end + 10, 2)? {
        if zip.get(at..at + 4)? != b"PK\x01\x02" {
            return None;
        }
        let (method, size) = (number(zip, at + 10, 2)?, number(zip, at + 20, 4)?);
        let name = number(zip, at + 28, 2)?;
        if zip.get(at + 46..at + 46 + name)? == wanted {
            let local = number(zip, at + 42, 4)?;
            let begin = local + 30 + number(zip, local + 26, 2)? + number(zip, local + 28, 2)?;
            let data = zip.get(begin..begin.checked_add(size)?)?;
            return match method {
                0 => Some(data.to_vec()),
                8 => inflate(data),
                _ => None,
            };
        }
        at += 46 + name + number(zip, at + 30, 2)? + number(zip, at + 32, 2)?;
    }
    None
}

fn inflate(data: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::DeflateDecoder::new(data).take(LARGEST).read_to_end(&mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(words: &str) -> Parent {
        called_as("terraform", words)
    }

    fn called_as(program: &str, words: &str) -> Parent {
        Parent::of(std::iter::once(program).chain(words.split_whitespace()).map(str::to_owned).collect())
    }

    #[test]
    fn only_a_cli_carries_out_test_files() {
        for program in ["/usr/bin/terraform", "tofu", "/opt/terraform-1.16"] {
            assert!(called_as(program, "test -verbose").tests(), "{program}");
            assert!(!called_as(program, "plan").tests(), "{program}");
        }
        assert!(!called_as("/usr/bin/cargo", "test --workspace").tests());
    }

    #[test]
    fn a_command_that_destroys_is_known() {
        for words in ["destroy -auto-approve", "-chdir=x destroy", "plan -destroy", "apply --destroy=true"] {
            assert!(parent(words).destroys(), "{words}");
        }
        for words in ["apply", "plan -destroy=false", "apply destroy", "plan -out=destroy", ""] {
            assert!(!parent(words).destroys(), "{words}");
        }
    }

    /// A ZIP archive of stored entries.
    fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let le = |number: usize, width: usize| number.to_le_bytes()[..width].to_vec();
        let (mut file, mut index) = (Vec::new(), Vec::new());
        for (name, data) in entries {
            let at = file.len();
            let sizes = [le(data.len(), 4), le(data.len(), 4), le(name.len(), 2), le(0, 2)].concat();
            file.extend(
                [b"PK\x03\x04".to_vec(), vec![0; 14], sizes.clone(), name.as_bytes().to_vec(), data.to_vec()].concat(),
            );
            index.extend(
                [b"PK\x01\x02".to_vec(), vec![0; 16], sizes, vec![0; 10], le(at, 4), name.as_bytes().to_vec()].concat(),
            );
        }
        let (at, size) = (file.len(), index.len());
        file.extend(index);
        file.extend(
            [
                b"PK\x05\x06".to_vec(),
                vec![0; 4],
                le(entries.len(), 2),
                le(entries.len(), 2),
                le(size, 4),
                le(at, 4),
                le(0, 2),
            ]
            .concat(),
        );
        file
    }

    #[test]
    fn the_decisions_of_a_plan_file_are_found_by_their_key() {
        let pinned =
            |key: &str, cluster: &str| Pinned { key: key.into(), cluster: cluster.into(), placement: "\"why\"".into() };
        let private = |pinned: &Pinned| format!("{{\"pinned\":{}}}", serde_json::to_string(pinned).unwrap());
        let plan = format!("\u{1}..{}\0\0{}..", private(&pinned("k1", "a")), private(&pinned("k2", "b")));
        let file = zip(&[("tfstate", b"{}"), ("tfplan", plan.as_bytes())]);
        let found = decisions(&file).expect("a plan file");
        assert_eq!(found["k1"], pinned("k1", "a"));
        assert_eq!(found["k2"], pinned("k2", "b"));
        assert_eq!(decisions(b"{\"encrypted\":true}"), None);
        assert_eq!(decisions(&file[..file.len() - 30]), None);
        for cut in 0..file.len() {
            // Never a panic, whatever the file holds.
            let _ = decisions(&file[cut..]);
        }
    }
}
