//! The process: handshake, transport, signals and the end.

use std::process::ExitCode;

use tokio_stream::Stream;

use crate::Provider;

/// What the process says about itself.
#[derive(Debug, Clone)]
pub struct ServeMeta {
    /// Registry address, such as `registry.terraform.io/moxxie/moxxie`.
    pub name: String,
    /// Version of the provider.
    pub version: String,
}

/// Serves the provider to the core that started this process, until core says that it is done.
pub async fn serve(provider: impl Provider, meta: ServeMeta) -> ExitCode {
    let _ = (provider, meta);
    ExitCode::FAILURE
}

/// Serves the provider on connections that are made elsewhere, without handshake and TLS, until they end.
///
/// # Errors
/// What the transport says.
pub async fn serve_on<S>(
    provider: impl Provider,
    incoming: impl Stream<Item = std::io::Result<S>>,
) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let _ = (provider, incoming);
    Ok(())
}
