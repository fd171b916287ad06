//! The process: handshake, transport, signals and the end.

mod connection;
mod handshake;
mod lifecycle;
mod listener;
mod tls;

use std::{io::Write, process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use self::{connection::Connection, handshake::Start, lifecycle::End, listener::Listener};
use crate::{Provider, async_trait, plugin, service::Service, wire};

/// Largest message in either direction, in bytes. Core's own limit for a schema is 64 MiB, for all else 2 GiB.
const MAX_MESSAGE: usize = 256 << 20;
/// Bytes of one call, and of all, that core may send before it waits for us. The library's 64 KiB make a plan with an inventory wait,
/// and bound how many small calls may be under way: past that it ends the connection ("too many data frames").
const STREAM_WINDOW: u32 = 1 << 20;
/// See [`STREAM_WINDOW`].
const CONNECTION_WINDOW: u32 = 16 << 20;
/// How long open connections may take to say goodbye once core has said that it is done.
const GOODBYE: Duration = Duration::from_millis(300);
/// A client that does not finish the TLS handshake in this time is dropped.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// What the process says about itself.
#[derive(Debug, Clone)]
pub struct ServeMeta {
    /// Registry address, such as `registry.terraform.io/moxxie/moxxie`. Its last part is the provider's type: it names
    /// the settings `TF_LOG_PROVIDER_<TYPE>` and `<TYPE>_SHUTDOWN_GRACE`.
    pub name: String,
    /// Version of the provider.
    pub version: String,
}

impl ServeMeta {
    fn type_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// Serves the provider to the Terraform or OpenTofu that started this process, until it says that it is done.
///
/// With `-debug` (or `--debug`) on the command line it instead prints a `TF_REATTACH_PROVIDERS` line and serves every
/// run that has it in its environment, without TLS, until Ctrl-C.
///
/// An interrupt is ignored: the terminal sends it to the whole process group, and core then asks through
/// [`Provider::stop`]. SIGTERM, and the death of the parent process, call [`Provider::stop`] and end the process when no
/// call is running any more, at the latest after `<TYPE>_SHUTDOWN_GRACE` seconds (30 when not set).
///
/// Log lines go to stderr in the form core expects, as much as `TF_LOG_PROVIDER_<TYPE>`, `TF_LOG_PROVIDER` or `TF_LOG`
/// (the first that is set) ask for.
///
/// The caller should end the process with the code at once; a runtime that waits for blocking tasks would delay it.
pub async fn serve(provider: impl Provider, meta: ServeMeta) -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let debug = std::env::args().skip(1).any(|arg| arg == "-debug" || arg == "--debug");
    let start = match handshake::start(environment, debug) {
        Ok(start) => start,
        Err(refusal) => {
            eprintln!("{} {}\n\n{refusal}", meta.name, meta.version);
            return ExitCode::FAILURE;
        }
    };
    crate::logging::install(meta.type_name(), environment);
    match run(provider, &meta, start).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("[ERROR] {} cannot be served: {e}", meta.name);
            ExitCode::FAILURE
        }
    }
}

async fn run(provider: impl Provider, meta: &ServeMeta, start: Start) -> std::io::Result<()> {
    let reattach = matches!(start, Start::Reattach);
    let parent = lifecycle::Parent::now();
    let mut signals = lifecycle::Signals::install()?;
    let listener = Listener::bind(start.ports())?;
    let tls = match start.client_certificate() {
        Some(pem) => Some(tls::Tls::pinned_to(pem)?),
        None => None,
    };
    let line = match &start {
        Start::Reattach => handshake::reattach_line(&meta.name, listener.network(), listener.address()),
        Start::Plugin { .. } => {
            let certificate = tls.as_ref().map(tls::Tls::certificate).unwrap_or_default();
            handshake::line(listener.network(), listener.address(), certificate)
        }
    };
    announce(&line)?;
    tracing::debug!(version = meta.version, network = listener.network(), tls = tls.is_some(), "serving");

    let shutdown = CancellationToken::new();
    let service = Service::new(provider, reattach);
    let (sender, connections) = mpsc::channel(16);
    let accepting = accept(&listener, tls, sender);
    let serving = serve_connections(service.clone(), ReceiverStream::new(connections), shutdown.clone());
    tokio::pin!(accepting, serving);
    let end = tokio::select! {
        served = &mut serving => return served,
        () = &mut accepting => End::Shutdown, // never: it accepts for ever
        () = lifecycle::goodbye(&shutdown, GOODBYE) => End::Shutdown,
        end = signals.end(reattach) => end,
        () = parent.gone(), if !reattach => End::Orphaned,
    };
    if end != End::Shutdown {
        tracing::warn!(reason = %end, "winding down");
        let grace = lifecycle::grace(meta.type_name());
        tokio::select! {
            served = &mut serving => return served,
            stopped = tokio::time::timeout(grace, service.wind_down()) => if stopped.is_err() {
                tracing::error!(seconds = grace.as_secs(), "calls were still running at the end of the grace period");
            }
        }
        shutdown.cancel(); // and let the last answers out
        let _ = tokio::time::timeout(GOODBYE, serving).await;
    }
    Ok(())
}

/// Writes the line in one piece: core reads exactly one line, with a time limit.
fn announce(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes())?;
    stdout.flush()
}

/// Accepts connections for ever; TLS handshakes run beside each other.
async fn accept(listener: &Listener, tls: Option<tls::Tls>, sender: mpsc::Sender<std::io::Result<Connection>>) {
    let tls = tls.map(Arc::new);
    loop {
        let io = match listener.accept().await {
            Ok(io) => io,
            Err(e) => {
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await; // out of file descriptors, most likely
                continue;
            }
        };
        let (tls, sender) = (tls.clone(), sender.clone());
        tokio::spawn(async move {
            let connection = match &tls {
                None => Connection::plain(io),
                Some(tls) => match tokio::time::timeout(TLS_TIMEOUT, tls.accept(io)).await {
                    Ok(Ok(stream)) => Connection::tls(stream),
                    Ok(Err(e)) => return tracing::warn!(error = %e, "a client was refused"),
                    Err(_) => return tracing::warn!("a client did not finish its TLS handshake"),
                },
            };
            let _ = sender.send(Ok(connection)).await; // nobody receives when the process ends
        });
    }
}

/// Serves the provider on connections that are made elsewhere, without handshake, TLS and signals, until a client calls
/// Shutdown or the future is dropped. For tests and for embedding.
///
/// # Errors
/// What the transport says.
pub async fn serve_on<S>(
    provider: impl Provider,
    incoming: impl Stream<Item = std::io::Result<S>> + Send,
) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // The end of the stream is not the end of its connections, as tonic would have it.
    let incoming = incoming.map(|io| io.map(|io| Connection::plain(Box::new(io)))).chain(tokio_stream::pending());
    serve_connections(Service::new(provider, false), incoming, CancellationToken::new()).await
}

async fn serve_connections<P: Provider>(
    service: Service<P>,
    incoming: impl Stream<Item = std::io::Result<Connection>> + Send,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let provider = wire::provider_server::ProviderServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let controller = plugin::grpc_controller_server::GrpcControllerServer::new(Controller(shutdown.clone()));
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(provider)
        .add_service(controller)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
        .map_err(std::io::Error::other)
}

/// go-plugin's way to say that the plugin may go.
struct Controller(CancellationToken);

#[async_trait]
impl plugin::grpc_controller_server::GrpcController for Controller {
    async fn shutdown(&self, _: Request<plugin::Empty>) -> Result<Response<plugin::Empty>, Status> {
        self.0.cancel();
        Ok(Response::new(plugin::Empty {}))
    }
}
