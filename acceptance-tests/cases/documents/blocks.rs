//! Runs what README and docs show: every HCL block is planned (or validated) against the simulator, every command `federate` is
//! typed, every federation file is checked, and privileges are Proxmox VE's.
//!
//! A comment right above a block says what it needs: `<!-- block: … -->` with
//! `validate` (addresses that aren't there), `continues` (belongs to the block before it), `refused: TEXT` (plan ends with an
//! error that says TEXT), `exit N` (what a command ends with), `not run: WHY` (another tool's).
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Cli, SimulatedWorld};

/// Looks like a token, for variables that a page names.
const TOKEN: &str = "app@pve!moxxie=00000000-0000-0000-0000-000000000000";

/// One fenced block of a page.
#[derive(Debug, Clone)]
pub struct Block {
    /// The page, relative to the repository.
    pub page: String,
    /// The line of its fence.
    pub line: usize,
    /// The word behind the fence.
    pub language: String,
    /// What the comment above it says.
    pub marker: String,
    /// What is in it.
    pub text: String,
}

impl Block {
    /// For messages.
    pub fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    fn is_hcl(&self) -> bool {
        matches!(self.language.as_str(), "hcl" | "terraform")
    }
}

/// README and every page below docs that a person wrote: generated ones show the examples, which run elsewhere.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.join("README.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found.retain(|path| !fs::read_to_string(path).unwrap_or_default().contains("<!-- Generated from the schema"));
    found.sort();
    found
}

/// Every fenced block of every page.
pub fn all(root: &Path) -> Vec<Block> {
    let mut found = Vec::new();
    for path in pages(root) {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let page = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        found.extend(blocks(&page, &text));
    }
    found
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut marker = String::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                open = Some(Block {
                    page: page.to_owned(),
                    line: index + 1,
                    language: language.trim().to_owned(),
                    marker: std::mem::take(&mut marker),
                    text: String::new(),
                });
            }
            (None, None) => {
                if let Some(said) = line.trim().strip_prefix("<!-- block:") {
                    marker = said.trim_end_matches("-->").trim().to_owned();
                } else if !line.trim().is_empty() {
                    marker.clear();
                }
            }
        }
    }
    assert!(open.is_none(), "{page} ends inside a block");
    found
}

/// Plans every HCL block; how many there were.
pub fn plan_all(root: &Path, cli: &Cli, world: &SimulatedWorld) -> usize {
    let mut before: Option<Block> = None;
    let mut count = 0;
    for mut block in all(root).into_iter().filter(Block::is_hcl) {
        count += 1;
        if block.marker.starts_with("not run:") {
            continue;
        }
        let words = block.marker.clone();
        if let Some(rest) = words.strip_prefix("continues") {
            let former = before.as_ref().filter(|former| former.page == block.page);
            let former = former.unwrap_or_else(|| panic!("{} continues nothing", block.place()));
            block.text = format!("{}\n{}", former.text, block.text);
            block.marker = rest.trim_start_matches([',', ' ']).to_owned();
        }
        run(root, cli, world, &block);
        before = Some(block);
    }
    count
}

fn run(root: &Path, cli: &Cli, world: &SimulatedWorld, block: &Block) {
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let workspace = world.workspace(cli, Path::new(env!("CARGO_BIN_EXE_terraform-provider-moxxie")), "platform");
    workspace.remove("world.auto.tfvars.json").write("multi-site.yaml", read("examples/quickstart/multi-site.yaml"));
    workspace.write("block.tf", &block.text);
    let own = block.text.split("provider \"moxxie\" {").skip(1).any(|rest| !rest.trim_start().starts_with("alias"));
    if !own {
        workspace.write("provider.tf", read("examples/provider/provider.tf"));
    } else if !block.text.contains("required_providers") {
        let needed = "terraform {\n  required_providers {\n    moxxie = { source = \"moxxie/moxxie\" }\n  }\n}\n";
        workspace.write("needed.tf", needed);
    }
    workspace.write("sites.auto.tfvars.json", serde_json::json!({ "sites": world.connections() }).to_string());
    // JSON is YAML.
    workspace.write("connections.yaml", world.connections().to_string());
    if block.marker == "validate" {
        let validated = workspace.run(&["validate"]);
        assert_eq!(validated.code, 0, "{} does not validate\n{}", block.place(), validated.text());
        return;
    }
    let planned = workspace.plan();
    match block.marker.strip_prefix("refused:") {
        Some(words) => {
            assert_eq!(planned.code, 1, "{} is not refused\n{}", block.place(), planned.text());
            assert!(
                planned.flat().contains(words.trim()),
                "{} is refused otherwise\n{}",
                block.place(),
                planned.text()
            );
        }
        None => {
            assert!(block.marker.is_empty(), "{}: what does {:?} mean?", block.place(), block.marker);
            assert!(matches!(planned.code, 0 | 2), "{} does not plan\n{}", block.place(), planned.text());
        }
    }
}

/// Types every `$ federate …` of the pages, and checks every federation file; how many there were of both.
pub fn type_all(root: &Path, world: &SimulatedWorld) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = fs::read_to_string(root.join("examples/quickstart/multi-site.yaml")).expect("the federation file");
    fs::write(folder.path().join("multi-site.yaml"), yaml).expect("a file");
    let main = fs::read_to_string(root.join("examples/quickstart/main.tf")).expect("a configuration");
    fs::write(folder.path().join("main.tf"), main).expect("a file");
    // JSON is YAML.
    fs::write(folder.path().join("connections.yaml"), world.connections().to_string()).expect("a file");
    let federate = |words: &[&str], tokens: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_federate"));
        command.args(words).current_dir(folder.path()).env_remove("MOXXIE_CONFIG_FILE").envs(world.tokens("platform"));
        command.envs(tokens.iter().map(|name| (name, TOKEN)));
        command.env("MOXXIE_CONNECTIONS", "connections.yaml").output().expect("the command runs")
    };
    let mut count = 0;
    for block in all(root) {
        let names = block.text.lines().filter_map(|line| line.trim().strip_prefix("api_token_env: "));
        let tokens: Vec<String> = names.map(str::to_owned).collect();
        let mut check = |words: &[&str]| {
            count += 1;
            let out = federate(words, &tokens);
            let wanted = block.marker.strip_prefix("exit ").map_or(0, |code| code.parse().expect("an exit code"));
            let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            assert_eq!(out.status.code(), Some(wanted), "{}: federate {}\n{text}", block.place(), words.join(" "));
        };
        if block.language == "yaml" && block.text.lines().any(|line| line == "clusters:") {
            fs::write(folder.path().join("shown.yaml"), &block.text).expect("a file");
            check(&["validate", "-c", "shown.yaml"]);
        }
        if block.language == "yaml" && block.text.contains("api_token_env:") {
            // The addresses aren't there; that it is read, and fits the federation's file, is what can be asked.
            fs::write(folder.path().join("reached.yaml"), &block.text).expect("a file");
            check(&["validate", "--connections", "reached.yaml"]);
        }
        for line in block.text.lines().filter_map(|line| line.strip_prefix("$ federate ")) {
            let line = line.split(" #").next().unwrap_or_default();
            check(&line.split_whitespace().collect::<Vec<_>>());
        }
    }
    count
}

/// Links of the pages to files that aren't there.
pub fn broken_links(root: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    for path in pages(root) {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or_default();
            if !path.with_file_name(file).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    broken
}

/// Every privilege that the pages give to a role: it must be one of Proxmox VE's.
pub fn privileges(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for block in all(root) {
        for line in block.text.lines().filter(|line| line.contains("pveum role ")) {
            let list = line.split("-privs ").nth(1).and_then(|rest| rest.split(['"', '\'']).nth(1));
            let list = list.unwrap_or_else(|| panic!("{}: a role without -privs \"…\"", block.place()));
            found.extend(list.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
    found
}

#[test]
fn a_page_is_cut_into_its_blocks() {
    let page = "text\n<!-- block: validate -->\n```hcl\na = 1\n```\nmore\n\n```yaml\nb\n```\n";
    let found = blocks("p.md", page);
    let shown: Vec<_> =
        found.iter().map(|b| (b.line, b.language.as_str(), b.marker.as_str(), b.text.as_str())).collect();
    assert_eq!(shown, [(3, "hcl", "validate", "a = 1\n"), (8, "yaml", "", "b\n")]);
}
