//! The gate that `examples/ci` gives to users, as its workflow runs it: the very script, exit codes, what it says of moves, and a plan
//! file that alone travels to the apply job.
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Cli, Kind, SimulatedWorld, Workspace, clis};

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const YAML: &str = include_str!("../../examples/quickstart/multi-site.yaml");
const MAIN: &str = include_str!("../../examples/ci/main.tf");

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci")
}

/// A checkout of the repository on a runner, with the provider in an unpacked mirror, so that `init` is the real one.
fn runner(world: &SimulatedWorld, cli: &Cli) -> Workspace {
    let mut workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    let host = if cli.kind == Kind::OpenTofu { "registry.opentofu.org" } else { "registry.terraform.io" };
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let version = env!("CARGO_PKG_VERSION");
    let mirror = workspace.root().join("../mirror");
    let folder = mirror.join(format!("{host}/moxxie/moxxie/{version}/linux_{arch}"));
    std::fs::create_dir_all(&folder).expect("a mirror");
    let provider = folder.join(format!("terraform-provider-moxxie_v{version}"));
    // Core reads the whole file at every command for its checksum; most of a debug build is symbols.
    let stripped = Command::new("strip").arg("-o").arg(&provider).arg(PROVIDER).status();
    if !stripped.is_ok_and(|status| status.success()) {
        std::fs::copy(PROVIDER, &provider).expect("a copy");
    }
    let rc =
        format!("provider_installation {{\n  filesystem_mirror {{ path = {:?} }}\n}}\n", mirror.display().to_string());
    workspace.write("../mirror.tfrc", rc);
    let file = workspace.root().join("../mirror.tfrc").display().to_string();
    workspace.env("TF_CLI_CONFIG_FILE", &file);
    workspace.write("main.tf", MAIN).write("multi-site.yaml", YAML).remove("world.auto.tfvars.json");
    workspace.write("sites.auto.tfvars.json", serde_json::json!({ "sites": world.connections() }).to_string());
    workspace
}

/// What the gate said: its exit code and its summary.
fn gate(workspace: &Workspace, allow: &str) -> (i32, String) {
    let like = workspace.command(&[]);
    let mut command = Command::new("bash");
    command.arg(examples().join("gate.sh")).arg(workspace.root());
    command.env("TF", &workspace.cli().path).env("GATE_ALLOW", allow).env("FEDERATE", env!("CARGO_BIN_EXE_federate"));
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let out = command.output().expect("bash");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.code().unwrap_or(-1), text)
}

#[track_caller]
fn expect(said: &(i32, String), code: i32, words: &[&str]) {
    assert_eq!(said.0, code, "{}", said.1);
    for words in words {
        assert!(said.1.contains(words), "not said: {words:?}\n{}", said.1);
    }
}

/// The apply job: a fresh checkout into which only the plan file comes.
fn apply_elsewhere(workspace: &Workspace) {
    workspace.remove(".terraform").remove("plan.json").remove("plan.jsonl");
    workspace.run(&["init", "-input=false"]).expect(0);
    workspace.apply_plan("plan.tfplan").expect(0);
}

#[test]
fn a_pull_request_is_gated_by_what_it_moves_and_destroys() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = runner(&world, &cli);
        let first = gate(&workspace, "");
        expect(
            &first,
            2,
            &["### Creates", "`moxxie_virtual_machine.web[0]` → **", "place 1 of web-* in production-pool"],
        );
        assert!(!first.1.contains("### Moves"), "{}", first.1);
        apply_elsewhere(&workspace);
        expect(&gate(&workspace, ""), 0, &["Nothing: what is configured is what is there."]);
        workspace.edit("main.tf", "size = ", "siez = 1, size = ");
        expect(&gate(&workspace, ""), 1, &["slips that a plan doesn't show", "main.tf:", "did you mean \"size\"?"]);
        workspace.edit("main.tf", "siez = 1, size = ", "size = ");

        workspace.edit("main.tf", "\"worldstream-prod\"", "\"databarn-dr\"");
        let wants = "`moxxie_virtual_machine.shop` (shop-db): worldstream-prod → **databarn-dr**";
        let refused = gate(&workspace, "");
        expect(&refused, 3, &["### Moves", wants, "downtime", "Stopped: this plan moves machines"]);
        assert!(!refused.1.contains("### Destroys"), "{}", refused.1);
        expect(&gate(&workspace, "destroy"), 3, &[wants]);
        let allowed = gate(&workspace, "move");
        expect(&allowed, 2, &[wants]);
        assert!(!allowed.1.contains("Stopped"), "{}", allowed.1);
        apply_elsewhere(&workspace);
        assert!(world.vm("databarn-dr", "shop-db").running, "it was moved");
        assert_eq!(gate(&workspace, "").0, 0);

        workspace.edit("main.tf", "count  = 3", "count  = 2");
        expect(
            &gate(&workspace, "move"),
            3,
            &["### Destroys", "moxxie_virtual_machine.web[2]", "Stopped: this plan destroys"],
        );
        expect(&gate(&workspace, "move destroy"), 2, &["### Destroys"]);
        workspace.edit("main.tf", "pool   = \"production-pool\"", "pool   = join(\"-\", [\"no-such\", \"pool\"])");
        expect(&gate(&workspace, "move destroy"), 1, &["## The plan failed", "No such resource pool"]);
    }
}

#[test]
fn a_dark_site_alone_is_no_difference_and_the_gate_says_so_first() {
    let cli = &clis()[0];
    let world = SimulatedWorld::three_sites();
    let workspace = runner(&world, cli);
    expect(&gate(&workspace, ""), 2, &["### Creates"]);
    apply_elsewhere(&workspace);
    world.wait(world.cluster("worldstream-prod").set_dark(true));
    let said = gate(&workspace, "");
    expect(
        &said,
        0,
        &["**Not everything could be seen.**", "worldstream-prod does not answer", "as far as could be seen."],
    );
    assert!(!said.1.contains("what is configured is what is there"), "{}", said.1);
    world.wait(world.cluster("worldstream-prod").set_dark(false));
}

/// The workflow calls the script that is tried above, and lets nothing through that it stopped.
#[test]
fn the_workflow_runs_the_script_that_is_tried() {
    let workflow = std::fs::read_to_string(examples().join("github-actions.yml")).expect("the workflow");
    assert!(workflow.contains("ci/gate.sh . || code=$?") && workflow.contains("*) exit \"$code\" ;;"));
    assert!(workflow.contains("tofu apply -input=false plan.tfplan"));
}

/// What a person runs who has the simulator and no cluster: of what it prints, the script makes the connections and tokens.
#[test]
fn the_simulators_sites_are_written_down_for_a_configuration() {
    let world = SimulatedWorld::three_sites();
    let folder = tempfile::tempdir().expect("a folder");
    let printed = folder.path().join("sites.jsonl");
    std::fs::write(&printed, world.describe(true)).expect("what the simulator prints");
    let made = Command::new("bash").arg(examples().join("sites.sh")).arg(&printed).arg(folder.path()).output();
    let made = made.expect("bash");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let json = |name: &str| serde_json::from_str::<serde_json::Value>(&read(name)).expect("JSON");
    let mut expected = world.connections();
    for cluster in world.clusters() {
        expected[cluster.name()]["fingerprints"] = cluster.fingerprints().into();
    }
    assert_eq!(json("connections.yaml"), expected);
    assert_eq!(json("sites.auto.tfvars.json"), serde_json::json!({ "sites": expected }));
    let script = format!(". {}/tokens.env; env", folder.path().display());
    let shell = Command::new("bash").args(["-c", &script]).output().expect("bash");
    let environment = String::from_utf8_lossy(&shell.stdout);
    for (variable, token) in world.tokens("app") {
        assert!(environment.lines().any(|line| line == format!("{variable}={token}")), "{variable} is not set");
    }
}
