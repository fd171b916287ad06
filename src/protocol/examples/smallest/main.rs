//! The smallest whole provider: run by Terraform as any other, by hand with `-debug`, and by the tests of this crate.

mod thing;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let meta = protocol::ServeMeta { name: "example.com/example/smallest".into(), version: "0.0.0".into() };
    protocol::serve(thing::Smallest::default(), meta).await
}
