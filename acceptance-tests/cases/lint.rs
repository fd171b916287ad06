//! `federate lint`: which files it reads, where it says what is wrong, and how it ends; and that each core is silent about the
//! slip that it finds.
use std::path::Path;
use std::process::Command;

use harness::{SimulatedWorld, clis};
use serde_json::Value;

use crate::support::{PROVIDER, sound};

const SLIP: &str = r#"terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

provider "moxxie" {
  config_file = "multi-site.yaml"
  clusters    = var.clusters
}

resource "moxxie_resource_pool" "team" {
  name     = "team"
  clusters = ["worldstream-prod"]
  limits   = { max_memry = "2TB", max_vms = 20 }
}
"#;

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn lint(folder: &Path, words: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_federate"));
    command
        .arg("lint")
        .args(words)
        .current_dir(folder)
        .env_remove("MOXXIE_CONFIG_FILE")
        .env_remove("MOXXIE_CONNECTIONS");
    let out = command.output().expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: out.status.code(), stdout: text(&out.stdout), stderr: text(&out.stderr) }
}

#[test]
fn the_slip_that_every_core_drops_is_found_at_its_place() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(&cli, Path::new(PROVIDER), "platform");
        workspace.write("main.tf", SLIP).write("multi-site.yaml", crate::support::yaml());
        sound(workspace.plan()).expect(2).never_says("max_memry");
        let said = lint(&workspace.root(), &["."]);
        assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains("./main.tf:17:16: moxxie_resource_pool.team: limits.max_memry: unknown key; did you mean \"max_memory\"?"), "{}", said.stdout);
        workspace.edit("main.tf", "max_memry", "max_memory");
        let said = lint(&workspace.root(), &["."]);
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
        // Alone in its object it leaves an object in which nothing is set, and that the provider sees.
        workspace.edit("main.tf", "max_memory = \"2TB\", max_vms = 20", "max_memry = \"2TB\"");
        workspace.plan().expect(1).says("Nothing is set in limits").says("federate lint");
    }
}

#[test]
fn every_file_of_a_configuration_is_read_and_its_names_looked_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, text).expect("a file");
    };
    write("main.tf", SLIP);
    write(".terraform/modules/x/main.tf", SLIP);
    write(
        "modules/vm/main.tf",
        "resource \"moxxie_virtual_machine\" \"vm\" {\n  name = var.name\n  pool = \"tem\"\n}\n",
    );
    write("pools.tf.json", "{}");
    let said = lint(folder.path(), &["--json"]);
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    let found: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((&found["files"], &found["valid"], &found["federation_file"]), (&2.into(), &false.into(), &Value::Null));
    assert_eq!(found["not_read"], serde_json::json!(["./pools.tf.json"]));
    let places: Vec<_> =
        found["problems"].as_array().expect("a list").iter().map(|p| (&p["file"], &p["line"], &p["column"])).collect();
    assert_eq!(
        places,
        [(&"./main.tf".into(), &17.into(), &16.into()), (&"./modules/vm/main.tf".into(), &3.into(), &10.into())],
        "{found}"
    );
    // With the federation file every name is known, and one that isn't is wrong.
    write("multi-site.yaml", &crate::support::yaml());
    write("main.tf", &SLIP.replace("max_memry", "max_memory").replace("worldstream-prod", "worldstraem-prod"));
    let said = lint(folder.path(), &["--config", "multi-site.yaml"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout.contains("./main.tf:16:15: ") && said.stdout.contains("did you mean \"worldstream-prod\"?"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("there is no pool \"tem\"; did you mean \"team\"?"), "{}", said.stdout);
}

#[test]
fn what_is_no_configuration_is_said_and_ends_with_2() {
    let folder = tempfile::tempdir().expect("a folder");
    for (words, says) in
        [(&["nowhere"][..], "nowhere"), (&["."], "no configuration"), (&["-c", "none.yaml"], "none.yaml")]
    {
        let said = lint(folder.path(), words);
        assert_eq!(said.code, Some(2), "{}{}", said.stdout, said.stderr);
        assert!(said.stderr.contains(says), "{}", said.stderr);
    }
}
