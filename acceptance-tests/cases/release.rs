//! A release as a user meets it: packed by the release script, installed by `init` from a filesystem mirror, and used.
//!
//! By default the script packs the test's own build. `.ci/release --try OUT` builds `[profile.dist]` and runs the ignored tests,
//! which use the archives that are in OUT (`MOXXIE_RELEASE`).
mod licences;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Cli, SimulatedWorld, Workspace, clis};

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn a_packed_release_installs_from_a_mirror_and_works() {
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().join("release");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/release");
    let packed = Command::new(script).arg(&out).arg(PROVIDER).output().expect("the release script runs");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    for cli in clis() {
        installs_and_works(&cli, &out);
    }
}

#[test]
#[ignore = "needs the archives of a release: run `.ci/release --try OUT`"]
fn the_archives_of_a_dist_build_install_and_work() {
    for cli in clis() {
        let installed = installs_and_works(&cli, &released());
        println!("release: {} bytes installed by {}", installed.len(), cli.version);
        let own = fs::read(PROVIDER).expect("the test's own build");
        assert!(installed != own, "that is the test's own build, not a release");
    }
}

/// The CLI is this machine's; the provider of the other architecture runs under the emulator that `MOXXIE_EMULATOR` names.
#[test]
#[ignore = "needs the archives of a release and an emulator: run `.ci/release --try OUT`"]
fn the_arm64_archive_works_under_an_emulator() {
    let scratch = tempfile::tempdir().expect("a folder");
    let (out, name) = (released(), format!("terraform-provider-moxxie_v{VERSION}"));
    let archive = out.join(format!("terraform-provider-moxxie_{VERSION}_linux_arm64.zip"));
    unpack(&archive, scratch.path());
    let binary = scratch.path().join(&name);
    let emulator = std::env::var("MOXXIE_EMULATOR").unwrap_or_else(|_| "qemu-aarch64-static".into());
    let wrapper = scratch.path().join("wrapper");
    fs::write(&wrapper, format!("#!/bin/sh\nexec {emulator} {} \"$@\"\n", binary.display())).expect("a script");
    executable(&binary);
    executable(&wrapper);
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(&cli, &wrapper, "app");
        workspace.write("main.tf", include_str!("main_job/main.tf"));
        workspace.write("multi-site.yaml", include_str!("main_job/multi-site.yaml"));
        works(&world, &workspace);
        drop(workspace);
        // And the CLI finds it in the mirror for that platform.
        let mut installer = Workspace::new(&cli, &wrapper);
        installer.env("TF_CLI_CONFIG_FILE", "/dev/null").write("main.tf", include_str!("main_job/main.tf"));
        let mirror = format!("-fs-mirror={}", out.join("mirror").display());
        installer.run(&["providers", "lock", &mirror, "-platform=linux_arm64"]).expect(0).says("linux_arm64");
    }
}

/// The folder that the release script has filled.
fn released() -> PathBuf {
    std::env::var_os("MOXXIE_RELEASE").map(PathBuf::from).expect("MOXXIE_RELEASE: the folder of a release")
}

/// Installs the provider from the mirror in `out`, with nothing else to install it from, and uses it; gives what was installed.
fn installs_and_works(cli: &Cli, out: &Path) -> Vec<u8> {
    sums_are_right(out);
    let world = SimulatedWorld::three_sites();
    let mut workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    workspace.write("mirror.tfrc", installation(&out.join("mirror")));
    let file = workspace.root().join("mirror.tfrc").display().to_string();
    workspace.env("TF_CLI_CONFIG_FILE", &file);
    workspace.write("main.tf", include_str!("main_job/main.tf"));
    workspace.write("multi-site.yaml", include_str!("main_job/multi-site.yaml"));
    workspace.run(&["init", "-input=false"]).expect(0).says(&format!("Installed moxxie/moxxie v{VERSION}"));
    works(&world, &workspace);
    let file = format!("terraform-provider-moxxie_v{VERSION}");
    let below = workspace.root().join(".terraform/providers");
    let installed = workspace.files().into_iter().filter(|(path, _)| path.starts_with(&below) && path.ends_with(&file));
    let mut installed: Vec<Vec<u8>> = installed.map(|(_, bytes)| bytes).collect();
    assert_eq!(installed.len(), 1, "{file} below {}", below.display());
    installed.remove(0)
}

/// The CLI's configuration as the README shows it, for a mirror that is elsewhere.
fn installation(mirror: &Path) -> String {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```hcl\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.filter(|block| block.starts_with("provider_installation")).last().expect("the README's block");
    let path = block.lines().find_map(|line| line.trim().strip_prefix("path")).expect("its path");
    let shown = path.trim_start_matches([' ', '=']);
    block.replace(shown, &format!("{:?}", mirror.display().to_string()))
}

/// Plans, applies, plans again and destroys; leaves nothing.
fn works(world: &SimulatedWorld, workspace: &Workspace) {
    workspace.plan().expect(2);
    workspace.apply().expect(0);
    workspace.plan().expect(0);
    workspace.destroy().expect(0);
    world.assert_clean();
}

/// What `sha256sum --check` says of everything in the folder.
fn sums_are_right(out: &Path) {
    let name = format!("terraform-provider-moxxie_{VERSION}_SHA256SUMS");
    let sums = fs::read_to_string(out.join(&name)).expect("the sums");
    let checked = Command::new("sha256sum").args(["--check", "--quiet", &name]).current_dir(out).output();
    let checked = checked.expect("sha256sum");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    for entry in fs::read_dir(out).expect("the folder") {
        let file = entry.expect("an entry").file_name().into_string().expect("a name");
        let published = file.ends_with(".zip") || file.ends_with("_manifest.json");
        let summed = sums.lines().any(|line| line.split_whitespace().nth(1) == Some(&file));
        assert_eq!(published, summed, "{file} in {sums}");
    }
    assert!(sums.contains(".zip") && sums.contains("_manifest.json"), "{sums}");
}

/// As both CLIs do it.
fn unpack(archive: &Path, to: &Path) {
    let code = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])";
    let done = Command::new("python3").args(["-c", code]).arg(archive).arg(to).output().expect("python3");
    assert!(done.status.success(), "{}: {}", archive.display(), String::from_utf8_lossy(&done.stderr));
}

fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("it may run");
}
