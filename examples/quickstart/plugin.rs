//! The provider inside the quick start: what core starts under the provider's name is this program again.
use std::path::Path;
use std::process::ExitCode;

use protocol::{ServeMeta, serve};

/// Whether core started this program as its provider.
pub(crate) fn is_wanted() -> bool {
    let called = std::env::args_os().next().unwrap_or_default();
    Path::new(&called).file_stem().is_some_and(|name| name == "terraform-provider-moxxie")
}

/// Serves the provider, as `src/main.rs` does.
#[tokio::main]
pub(crate) async fn main() -> ExitCode {
    let meta =
        ServeMeta { name: "registry.terraform.io/moxxie/moxxie".into(), version: env!("CARGO_PKG_VERSION").into() };
    let code = serve(provider::Moxxie::new(), meta).await;
    // As there: calls that block would hold the runtime's end up.
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 1 })
}
