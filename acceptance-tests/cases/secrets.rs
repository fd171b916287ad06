//! No secret, however it is given, is in any object, state, plan or log: canaries are looked for in everything that is left.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{PROVIDER, sound};
use harness::{Cli, Run, SimulatedWorld, Workspace, clis, places};
use serde_json::json;
use simulator::{Options, World};

/// The platform team's clusters, pools and a machine.
const PLATFORM: &str = include_str!("teams/platform.tf");
const CONNECTED: &str = "provider \"moxxie\" {\n  clusters = var.clusters\n}";
/// A machine that is told a password of its own.
const GUEST: &str = r#"
resource "moxxie_virtual_machine" "guest" {
  name      = "guest"
  pool      = moxxie_resource_pool.production.name
  cluster   = "worldstream-prod"
  memory    = "1GB"
  disks     = { scsi0 = { size = "2GB", storage = "fast" } }
  migration = { source = "keep", keep_source = "1d", keep_archive = "1d" }

  cloud_init = {
    user                = "ops"
    password_wo         = PASSWORD
    password_wo_version = 1
  }
}
"#;
/// Of the guest. `2` for the one that it is changed to.
const GUESTS: [&str; 2] = ["canary-of-the-guest-1", "canary-of-the-guest-2"];
/// Credentials that are refused: they are secrets all the same.
const REFUSED: &str = "canary-0000-4000-8000-refused";
const PASSWORD: &str = "platform-secret";
/// The token that may be handed to another cluster, and its secret. Nobody has such a user: it is given, and not used.
const HANDED_TOKEN: &str = "mover@pve!moves=canary-0000-4000-8000-handed";
const HANDED: &str = "canary-0000-4000-8000-handed";

/// How secrets come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A token in an environment variable.
    TokenVariable,
    /// A password in an environment variable.
    PasswordVariable,
    /// Tokens, and the guest's password, in files that the configuration reads.
    Files,
    /// The same in a file of variables, of which the configuration declares that they are ephemeral.
    VariablesFile,
}

/// A workspace, and what must be nowhere.
struct Scene {
    world: SimulatedWorld,
    workspace: Workspace,
    way: Way,
    /// Outside of the configuration's folder.
    outside: tempfile::TempDir,
    secrets: BTreeSet<String>,
    said: String,
}

impl Scene {
    fn new(cli: &Cli, way: Way) -> Scene {
        let mut world = World::three_sites().expect("the world of three sites");
        world.clusters.values_mut().for_each(|cluster| cluster.pools.clear());
        let world = SimulatedWorld::start(world, Options::default());
        let mut workspace = Workspace::new(cli, Path::new(PROVIDER));
        workspace.env("TF_LOG", "trace");
        let secrets = GUESTS.into_iter().chain([REFUSED, PASSWORD, HANDED]).map(str::to_owned).collect();
        let outside = tempfile::tempdir().expect("a folder for secrets");
        let mut scene = Scene { world, workspace, way, outside, secrets, said: String::new() };
        scene.connect();
        scene.guests_password(GUESTS[0]);
        scene.write();
        scene
    }

    fn tokens(&self) -> Vec<(String, String)> {
        let token = |name: &str| self.world.cluster(name).token("platform").expect("a token");
        self.world.clusters().iter().map(|cluster| (cluster.name().to_owned(), token(cluster.name()))).collect()
    }

    /// Gives the connections and their secrets.
    fn connect(&mut self) {
        let tokens = self.tokens();
        self.secrets.extend(tokens.iter().map(|(_, token)| token.rsplit('=').next().unwrap_or_default().to_owned()));
        std::fs::write(self.outside.path().join("handed"), HANDED_TOKEN).expect("a file");
        self.workspace.env("MOXXIE_CANARY_HANDED", HANDED_TOKEN);
        let mut connections = self.world.connections();
        for (name, token) in &tokens {
            let connection = connections[name].as_object_mut().expect("a connection");
            if matches!(self.way, Way::TokenVariable | Way::PasswordVariable) {
                connection.insert("migration_token_env".to_owned(), json!("MOXXIE_CANARY_HANDED"));
            }
            match self.way {
                Way::TokenVariable => {
                    self.workspace.env(&SimulatedWorld::token_variable(name), token);
                    continue;
                }
                Way::PasswordVariable => {
                    connection.insert("username".to_owned(), json!("platform@pve"));
                    connection.insert("password_env".to_owned(), json!("MOXXIE_CANARY_PASSWORD"));
                    self.workspace.env("MOXXIE_CANARY_PASSWORD", PASSWORD);
                }
                Way::Files => std::fs::write(self.outside.path().join(name), format!("{token}\n")).expect("a file"),
                Way::VariablesFile => {}
            }
            connection.remove("api_token_env");
        }
        self.workspace.write("world.auto.tfvars.json", json!({ "clusters": connections }).to_string());
    }

    fn guests_password(&mut self, password: &str) {
        match self.way {
            Way::TokenVariable | Way::PasswordVariable => drop(self.workspace.env("TF_VAR_guest", password)),
            Way::Files => std::fs::write(self.outside.path().join("guest"), password).expect("a file"),
            Way::VariablesFile => {
                let tokens: serde_json::Map<_, _> =
                    self.tokens().into_iter().map(|(name, token)| (name, json!(token))).collect();
                let file = self.outside.path().join("secrets.tfvars.json");
                let all = json!({ "guest": password, "tokens": tokens, "handed": HANDED_TOKEN });
                std::fs::write(&file, all.to_string()).expect("a file");
                let words = format!("-var-file={}", file.display());
                for command in ["TF_CLI_ARGS_plan", "TF_CLI_ARGS_apply", "TF_CLI_ARGS_destroy"] {
                    self.workspace.env(command, &words);
                }
            }
        }
    }

    fn write(&self) {
        let ephemeral = |name: &str, kind: &str| {
            format!("variable \"{name}\" {{\n  type = {kind}\n  ephemeral = true\n  sensitive = true\n}}\n")
        };
        let merged = |token: String, handed: String| {
            let tokens = format!("{{ api_token = {token}, migration_token = {handed} }}");
            format!("clusters = {{ for name, cluster in var.clusters : name => merge(cluster, {tokens}) }}")
        };
        let outside = self.outside.path().display();
        let (clusters, password, more) = match self.way {
            Way::TokenVariable | Way::PasswordVariable => {
                ("clusters = var.clusters".to_owned(), "var.guest".to_owned(), ephemeral("guest", "string"))
            }
            Way::Files => (
                merged(format!("trimspace(file(\"{outside}/${{name}}\"))"), format!("file(\"{outside}/handed\")")),
                format!("file(\"{outside}/guest\")"),
                String::new(),
            ),
            Way::VariablesFile => (
                merged("var.tokens[name]".to_owned(), "var.handed".to_owned()),
                "var.guest".to_owned(),
                ephemeral("guest", "string") + &ephemeral("handed", "string") + &ephemeral("tokens", "map(string)"),
            ),
        };
        let block = format!("provider \"moxxie\" {{\n  {clusters}\n  audit_file = \"audit.jsonl\"\n}}");
        assert!(PLATFORM.contains(CONNECTED), "the file has changed");
        let options = "  datacenter_options = { bwlimit = { restore = \"900Mbps\" } }\n  tier            = \"edge\"";
        let platform = PLATFORM.replace(CONNECTED, &block).replace("  tier            = \"edge\"", options);
        self.workspace.write("main.tf", format!("{more}{platform}{}", GUEST.replace("PASSWORD", &password)));
    }

    fn hear(&mut self, run: Run, code: i32) -> Run {
        let run = sound(run).expect(code);
        self.said += &run.text();
        run
    }

    /// Plans into a file, applies it, and plans again: nothing is left to do.
    fn carried_out(&mut self, file: &str) {
        let plan = self.workspace.plan_to(file);
        self.hear(plan, 2);
        let apply = self.workspace.apply_plan(file);
        self.hear(apply, 0);
        let plan = self.workspace.plan();
        self.hear(plan, 0);
    }

    /// Credentials that are refused, and some that can't even be some.
    fn refused(&mut self) {
        let kept = self.workspace.root().join("world.auto.tfvars.json");
        let kept = std::fs::read_to_string(kept).expect("the connections");
        let wrong = [format!("platform@pve!platform={REFUSED}"), format!("{REFUSED} without a form")];
        let tokens = self.tokens();
        for secret in &wrong {
            match self.way {
                Way::TokenVariable => {
                    self.workspace.env(&SimulatedWorld::token_variable("databarn-dr"), secret);
                }
                Way::PasswordVariable => drop(self.workspace.env("MOXXIE_CANARY_PASSWORD", secret)),
                Way::Files => std::fs::write(self.outside.path().join("databarn-dr"), secret).expect("a file"),
                Way::VariablesFile => {
                    let file = self.outside.path().join("secrets.tfvars.json");
                    let text = std::fs::read_to_string(&file).expect("the secrets");
                    let mut all: serde_json::Value = serde_json::from_str(&text).expect("the secrets");
                    all["tokens"]["databarn-dr"] = json!(secret);
                    std::fs::write(&file, all.to_string()).expect("a file");
                }
            }
            let plan = self.workspace.plan_to("refused.tfplan");
            let said = plan.flat();
            assert!(said.contains("databarn-dr"), "{}", plan.text());
            self.said += &plan.text();
            let apply = self.workspace.apply();
            self.said += &apply.text();
        }
        // As it was.
        match self.way {
            Way::Files => {
                let (name, token) = tokens.iter().find(|(name, _)| name == "databarn-dr").expect("its token");
                std::fs::write(self.outside.path().join(name), token).expect("a file");
            }
            Way::VariablesFile => self.guests_password(GUESTS[1]),
            _ => self.connect(),
        }
        self.workspace.write("world.auto.tfvars.json", kept);
    }

    /// Where a secret is that must be nowhere.
    fn found(&self) -> Vec<String> {
        let files = self.workspace.files();
        let plans = files.iter().filter(|(path, _)| path.extension().is_some_and(|kind| kind == "tfplan"));
        for (path, bytes) in plans.clone() {
            let names: Vec<String> = harness::unpacked(bytes).into_iter().map(|(name, _)| name).collect();
            assert!(names.iter().any(|name| name == "tfplan"), "{}: {names:?}", path.display());
        }
        assert!(plans.count() >= 4, "plans are looked into");
        for kind in ["terraform.tfstate", "audit.jsonl"] {
            assert!(files.iter().any(|(path, _)| path.ends_with(kind)), "{kind} is looked into");
        }
        let texts = self.world.texts();
        // After a destroy there are logs and nothing else.
        let there = !self.world.machines().is_empty();
        for kind in ["vm ", "pool moxxie", "log of UPID", "option ", "notes of transfer", "configuration in transfer"] {
            assert!(!there || texts.iter().any(|(place, _)| place.contains(kind)), "{kind} is looked into");
        }
        let mut found = Vec::new();
        for secret in &self.secrets {
            assert!(secret.len() > 10, "{secret} is long enough to be looked for");
            if let Some(at) = self.said.find(secret.as_str()) {
                let around = self.said.get(at.saturating_sub(200)..(at + 80).min(self.said.len())).unwrap_or_default();
                found.push(format!("{secret} in a log: {around}"));
            }
            found.extend(places(&files, secret).into_iter().map(|place| format!("{secret} in {place}")));
            let texts = texts.iter().filter(|(_, text)| text.contains(secret.as_str()));
            found.extend(texts.map(|(place, _)| format!("{secret} in {place}")));
        }
        found
    }
}

fn nothing_is_found(way: Way) {
    for cli in clis() {
        let mut scene = Scene::new(&cli, way);
        scene.carried_out("create.tfplan");
        // An update, with another password of the guest.
        scene.guests_password(GUESTS[1]);
        scene.workspace.edit("main.tf", "password_wo_version = 1", "password_wo_version = 2");
        scene.workspace.edit("main.tf", "user                = \"ops\"", "user                = \"admin\"");
        scene.carried_out("update.tfplan");
        let vm = scene.world.vm("worldstream-prod", "guest");
        scene.world.cluster("worldstream-prod").stop(vm.vmid);
        scene.world.cluster("worldstream-prod").start(vm.vmid).expect("a start");
        assert!(scene.world.vm("worldstream-prod", "guest").config["cipassword"].starts_with("$5$"));
        // A move, of which source and archive are kept.
        scene.workspace.edit("main.tf", "cluster   = \"worldstream-prod\"", "cluster   = \"databarn-dr\"");
        scene.carried_out("move.tfplan");
        scene.refused();
        let plan = scene.workspace.plan_to("after.tfplan");
        scene.hear(plan, 0);
        assert!(scene.said.contains("provider.terraform-provider-moxxie"), "the provider's own log is in it");
        assert!(scene.said.contains("affects every user of this cluster"));
        let found = scene.found();
        assert!(found.is_empty(), "{way:?}:\n{}", found.join("\n"));
        let destroy = scene.workspace.destroy();
        scene.hear(destroy, 0);
        let found = scene.found();
        assert!(found.is_empty(), "{way:?}, after destroy:\n{}", found.join("\n"));
        scene.world.assert_clean();
    }
}

#[test]
fn no_token_of_an_environment_variable_is_anywhere() {
    nothing_is_found(Way::TokenVariable);
}

#[test]
fn no_password_of_an_environment_variable_is_anywhere() {
    nothing_is_found(Way::PasswordVariable);
}

#[test]
fn no_secret_of_a_file_is_anywhere() {
    nothing_is_found(Way::Files);
}

#[test]
fn no_secret_of_a_file_of_variables_is_anywhere() {
    nothing_is_found(Way::VariablesFile);
}
