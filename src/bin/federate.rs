//! Wires the command `federate`.
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use federate::{Arguments, run, words};

#[tokio::main]
async fn main() -> ExitCode {
    let given = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let output = run(Arguments::parse_from(words(given))).await;
    // A reader that went away (`| head`) is no reason to fail otherwise than the command did.
    let _ = std::io::stdout().write_all(output.stdout.as_bytes());
    let _ = std::io::stderr().write_all(output.stderr.as_bytes());
    // Name look-ups that are still under way would hold the runtime's end up.
    std::process::exit(i32::from(output.exit.code()))
}
