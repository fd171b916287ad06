//! Owns a folder with a configuration in it, and running a CLI there with the provider under test.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cli::{Cli, Slot, slot};

/// How a configuration begins that takes its connections from the variable `clusters` and all else from the federation file.
const HEAD: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

provider "moxxie" {
  config_file = "${path.root}/multi-site.yaml"
  clusters    = var.clusters
}
"#;

/// What a command of the CLI did.
#[derive(Debug, Clone)]
pub struct Run {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The words of the command, for messages.
    pub command: String,
}

impl Run {
    /// Both outputs.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Both outputs with line breaks and the CLI's frame taken out, so that a sentence can be looked for.
    pub fn flat(&self) -> String {
        let text = self.text();
        let words = text.split_whitespace().filter(|word| !matches!(*word, "│" | "╷" | "╵"));
        words.collect::<Vec<_>>().join(" ")
    }

    /// Panics with the whole output unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Run {
        assert_eq!(self.code, code, "{} exited with {}, not {code}\n{}", self.command, self.code, self.text());
        self
    }

    /// Panics unless `sentence` stands in the output, line breaks aside.
    #[track_caller]
    pub fn says(self, sentence: &str) -> Run {
        assert!(self.flat().contains(sentence), "{} does not say {sentence:?}\n{}", self.command, self.text());
        self
    }

    /// Panics if `sentence` stands in the output, line breaks aside.
    #[track_caller]
    pub fn never_says(self, sentence: &str) -> Run {
        assert!(!self.flat().contains(sentence), "{} says {sentence:?}\n{}", self.command, self.text());
        self
    }
}

/// A temporary folder with a configuration, driven by one CLI. It holds one of the places for CLI tests while it lives.
#[derive(Debug)]
pub struct Workspace {
    dir: tempfile::TempDir,
    cli: Cli,
    env: BTreeMap<String, String>,
    _slot: Slot,
}

impl Workspace {
    /// A new empty folder in which `cli` uses the provider binary at `provider`.
    ///
    /// # Panics
    /// When the folder can't be made.
    pub fn new(cli: &Cli, provider: &Path) -> Workspace {
        let slot = slot();
        let dir = tempfile::Builder::new().prefix("moxxie-acc-").tempdir().expect("a temporary folder");
        let plugins = dir.path().join("plugins");
        fs::create_dir(&plugins).expect("a folder for the plugin");
        link(provider, &plugins.join("terraform-provider-moxxie"));
        let rc = dir.path().join("cli.tfrc");
        let overrides = format!(
            "provider_installation {{\n  dev_overrides {{ \"moxxie/moxxie\" = {:?} }}\n  direct {{}}\n}}\n",
            plugins.display().to_string()
        );
        fs::write(&rc, overrides).expect("the CLI's configuration");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("a folder for the configuration");
        let env = BTreeMap::from([
            ("CHECKPOINT_DISABLE".to_owned(), "1".to_owned()),
            ("TF_CLI_CONFIG_FILE".to_owned(), rc.display().to_string()),
            ("TF_IN_AUTOMATION".to_owned(), "1".to_owned()),
            ("NO_COLOR".to_owned(), "1".to_owned()),
        ]);
        Workspace { dir, cli: cli.clone(), env, _slot: slot }
    }

    /// The folder of the configuration.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The CLI.
    pub fn cli(&self) -> &Cli {
        &self.cli
    }

    /// Writes a file of the configuration.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        fs::write(self.root().join(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
        self
    }

    /// Writes `main.tf`: the provider with the connections in `clusters` and the file `multi-site.yaml`, then `body`.
    pub fn write_main(&self, body: &str) -> &Self {
        self.write("main.tf", format!("{HEAD}{body}"))
    }

    /// Replaces `from`, which must be there, by `to` in a file of the configuration.
    pub fn edit(&self, name: &str, from: &str, to: &str) -> &Self {
        let file = self.root().join(name);
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(text.contains(from), "{name} does not hold {from:?}");
        fs::write(&file, text.replace(from, to)).unwrap_or_else(|e| panic!("{name}: {e}"));
        self
    }

    /// Removes a file or folder of the configuration, if it is there.
    pub fn remove(&self, name: &str) -> &Self {
        let path = self.root().join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{name}: {error}");
        }
        self
    }

    /// Sets a variable for every later command.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The command `words` of the CLI, ready to start in the configuration's folder.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.cli.path);
        command.args(words).current_dir(self.root()).stdin(Stdio::null());
        for name in ["RUST_BACKTRACE", "TF_LOG", "TF_LOG_PROVIDER", "TF_DATA_DIR", "TF_WORKSPACE", "TF_CLI_ARGS"] {
            command.env_remove(name);
        }
        command.envs(&self.env);
        command
    }

    /// Runs `words` to the end.
    pub fn run(&self, words: &[&str]) -> Run {
        let out = self.command(words).output().unwrap_or_else(|e| panic!("{}: {e}", self.cli.path.display()));
        Run {
            code: out.status.code().unwrap_or(-1),
            stdout: plain(&String::from_utf8_lossy(&out.stdout)),
            stderr: plain(&String::from_utf8_lossy(&out.stderr)),
            command: format!("{:?} {}", self.cli.kind, words.join(" ")),
        }
    }

    /// Starts `words` and comes back at once; its output goes to `NAME.out` beside the configuration.
    pub fn start(&self, words: &[&str], name: &str) -> Child {
        let file = fs::File::create(self.dir.path().join(format!("{name}.out"))).expect("a file for the output");
        let also = file.try_clone().expect("the file twice");
        self.command(words)
            .stdout(file)
            .stderr(also)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.cli.path.display()))
    }

    /// What a command that [`Workspace::start`] started has printed so far.
    pub fn output(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("{name}.out"))).unwrap_or_default()
    }

    /// `plan -detailed-exitcode`: 0 no changes, 2 changes, 1 error.
    pub fn plan(&self) -> Run {
        self.run(&["plan", "-input=false", "-detailed-exitcode"])
    }

    /// `plan -detailed-exitcode -out=FILE`.
    pub fn plan_to(&self, file: &str) -> Run {
        self.run(&["plan", "-input=false", "-detailed-exitcode", &format!("-out={file}")])
    }

    /// `apply -auto-approve`.
    pub fn apply(&self) -> Run {
        self.run(&["apply", "-input=false", "-auto-approve"])
    }

    /// `apply FILE`.
    pub fn apply_plan(&self, file: &str) -> Run {
        self.run(&["apply", "-input=false", file])
    }

    /// `destroy -auto-approve`.
    pub fn destroy(&self) -> Run {
        self.run(&["destroy", "-input=false", "-auto-approve"])
    }

    /// `show -json` of a plan file.
    pub fn show_plan(&self, file: &str) -> serde_json::Value {
        let run = self.run(&["show", "-json", file]).expect(0);
        serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("show -json {file}: {e}"))
    }

    /// The values of every managed resource in state, by address.
    pub fn state(&self) -> BTreeMap<String, serde_json::Value> {
        let run = self.run(&["show", "-json"]).expect(0);
        let shown: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("show -json: {e}"));
        let resources = shown["values"]["root_module"]["resources"].as_array().cloned().unwrap_or_default();
        let managed = resources.into_iter().filter(|r| r["mode"] == "managed");
        managed.map(|r| (r["address"].as_str().unwrap_or_default().to_owned(), r["values"].clone())).collect()
    }

    /// Every file below the workspace with its bytes, for looking for what must not be there.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = fs::read(&path) {
                    found.push((path, bytes));
                }
            }
        }
        found
    }
}

/// A text without the terminal's colours: `ESC [ … letter`.
fn plain(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').get(1..).unwrap_or_default());
    }
    out
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) {
    std::os::unix::fs::symlink(from, to).expect("a link to the provider");
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) {
    fs::copy(from, to).expect("a copy of the provider");
}
