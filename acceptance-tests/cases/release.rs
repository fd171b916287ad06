//! A release as a user meets it: packed by the release script, installed by `init` from a filesystem mirror, and used.
#[path = "release/licences.rs"]
mod licences;

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::{Kind, SimulatedWorld, clis};

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");

#[test]
fn a_packed_release_installs_from_a_mirror_and_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let mut workspace = world.workspace(&cli, Path::new(PROVIDER), "app");
        let out = workspace.root().join("release");
        let packed =
            Command::new(root.join(".ci/release")).arg(&out).arg(PROVIDER).output().expect("the release script runs");
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let version = env!("CARGO_PKG_VERSION");
        let sums =
            fs::read_to_string(out.join(format!("terraform-provider-moxxie_{version}_SHA256SUMS"))).expect("the sums");
        assert!(sums.lines().any(|line| line.ends_with(".zip")) && sums.contains("_manifest.json"), "{sums}");
        let host = if cli.kind == Kind::OpenTofu { "registry.opentofu.org" } else { "registry.terraform.io" };
        let rc = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path    = {:?}\n    include = [\"{host}/moxxie/*\"]\n  }}\n}}\n",
            out.join("mirror").display().to_string()
        );
        workspace.write("mirror.tfrc", rc);
        let file = workspace.root().join("mirror.tfrc").display().to_string();
        workspace.env("TF_CLI_CONFIG_FILE", &file);
        workspace.write("main.tf", include_str!("main_job/main.tf"));
        workspace.write("multi-site.yaml", include_str!("main_job/multi-site.yaml"));
        workspace.run(&["init", "-input=false"]).expect(0).says(&format!("Installed moxxie/moxxie v{version}"));
        workspace.plan().expect(2);
        workspace.apply().expect(0).never_says("development overrides");
        workspace.plan().expect(0);
        workspace.destroy().expect(0);
        world.assert_clean();
    }
}
