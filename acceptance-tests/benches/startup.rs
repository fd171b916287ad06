//! How long core waits for the provider that users get, and how large that is: `cargo bench --bench startup`.
//!
//! Prints `startup: handshake H ms, schema S ms, rss R MB, size Z MB`: medians of [`STARTS`] starts of the `[profile.dist]`
//! binary (built first where it is not), or of what `MOXXIE_BENCH_PROVIDER` names. Both times begin when the process is started; the schema's ends with core's answer
//! decoded, over mutual TLS. MB are 10⁶ bytes; rss is the peak.
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use protocol::testing::{Identity, PluginProcess};

const STARTS: usize = 41;

fn main() {
    let provider = support::named().unwrap_or_else(build);
    let size = std::fs::metadata(&provider).expect("the provider").len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let identity = Identity::new().expect("a certificate");
    let (mut handshakes, mut schemas, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let process = PluginProcess::start(Command::new(&provider), &identity).expect("a process");
        let core = runtime.block_on(process.connect()).expect("the schema");
        schemas.push(process.age().as_secs_f64() * 1e3);
        handshakes.push(process.handshake().as_secs_f64() * 1e3);
        peaks.push(support::peak(process.id()));
        drop(core);
    }
    println!(
        "startup: handshake {:.1} ms, schema {:.1} ms, rss {:.1} MB, size {:.1} MB",
        median(handshakes),
        median(schemas),
        median(peaks),
        size as f64 / 1e6
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Builds what a release holds, in the target folder of this bench; nothing to do where it is up to date.
fn build() -> PathBuf {
    let this = std::env::current_exe().expect("this bench");
    // target/release/deps/startup-…
    let target = this.ancestors().nth(3).expect("a target folder");
    // As `.ci/release` has it: functions of the same code once, packed relocations (glibc 2.36). Rust's own linker for this target, from 1.90 on, knows how.
    let fold = if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        vec![
            "--config",
            r#"target.x86_64-unknown-linux-gnu.rustflags=["-Clink-arg=-Wl,--icf=all", "-Clink-arg=-Wl,-O2", "-Clink-arg=-Wl,-z,pack-relative-relocs"]"#,
        ]
    } else {
        Vec::new()
    };
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(fold)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "dist",
            "--bin",
            "terraform-provider-moxxie",
            "--target-dir",
        ])
        .arg(target)
        .status()
        .expect("cargo");
    assert!(built.success(), "the provider does not build");
    target.join("dist/terraform-provider-moxxie")
}
