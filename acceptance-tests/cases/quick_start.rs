//! The README's first command, as a newcomer types it (in this test's own profile).
use std::path::PathBuf;
use std::process::{Command, Output};

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The folder of the profile that this test was built in: `target/debug`.
fn profile() -> PathBuf {
    let this = std::env::current_exe().expect("this test's own path");
    this.ancestors().nth(2).expect("a folder for the profile").to_owned()
}

#[test]
fn the_quick_start_places_moves_and_leaves_nothing() {
    let target = profile().parent().expect("the target folder").to_owned();
    let built = cargo().args(["build", "--quiet", "--example", "quickstart", "--target-dir"]).arg(target).output();
    let built = built.expect("cargo runs");
    assert!(built.status.success(), "the quick start does not build\n{}", text(&built));
    let quickstart = profile().join("examples").join(format!("quickstart{}", std::env::consts::EXE_SUFFIX));
    // The tests' CLI where one is named, so that it needs none on the PATH.
    let first = harness::clis().swap_remove(0);
    let folder = first.path.parent().expect("a folder").to_owned();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&rest))).expect("a PATH");
    // Without cargo: whatever it needs is built by then.
    let run =
        Command::new(&quickstart).env("PATH", path).env("CARGO", "/no/cargo").output().expect("the quick start runs");
    let said = text(&run);
    assert!(run.status.success(), "{said}");
    for sentence in [
        "place 1 of web-* in production-pool (balanced 80:20): worldstream-prod",
        "~ cluster         = \"worldstream-prod\" -> \"databarn-dr\"",
        "= before",
        "running copies             1",
        "No changes.",
        "Nothing is left on the three sites.",
    ] {
        assert!(said.contains(sentence), "it does not say {sentence:?}\n{said}");
    }
    assert!(!said.contains("≠ before"), "{said}");
    let without = Command::new(&quickstart).env("PATH", "").output().expect("the quick start runs");
    assert!(!without.status.success());
    assert!(text(&without).contains("Install one of them"), "{}", text(&without));
}

#[test]
fn the_quick_start_builds_nothing_that_only_the_benches_need() {
    let tree = cargo().args(["tree", "--offline", "--package", "quickstart", "--prefix", "none"]).output();
    let tree = text(&tree.expect("cargo runs"));
    for (package, wanted) in [("provider", true), ("simulator", true), ("criterion", false), ("federate", false)] {
        let there = tree.lines().any(|line| line.split(' ').next() == Some(package));
        assert_eq!(there, wanted, "{package}:\n{tree}");
    }
}
