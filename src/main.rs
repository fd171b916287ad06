//! Wires the provider to the plugin protocol.
use std::process::ExitCode;

use protocol::{ServeMeta, serve};

#[tokio::main]
async fn main() -> ExitCode {
    let meta =
        ServeMeta { name: "registry.terraform.io/moxxie/moxxie".into(), version: env!("CARGO_PKG_VERSION").into() };
    let code = serve(provider::Moxxie::new(), meta).await;
    // Calls that block (name look-ups) would hold the runtime's end up; core waits two seconds for a plugin to end.
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 1 })
}
