//! Sockets: TLS listeners per cluster or node, connections, and cutting them off.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Body;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::http::{Incoming, Outgoing, Verdict, serve};
use crate::state::State;
use crate::{Result, SimulatorError};

pub(crate) type Shared = Arc<Mutex<State>>;

/// A switch of a listener: dark or not, answered when it took effect.
pub(crate) type Switch = mpsc::UnboundedSender<(bool, oneshot::Sender<()>)>;

pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) switch: Switch,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

/// Answered by nobody: the connection is closed.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dropped by a fault rule")
    }
}

impl std::error::Error for Dropped {}

/// Who listens, and how far away.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) cluster: String,
    /// The node that answers; none where the whole cluster does.
    pub(crate) node: Option<String>,
    /// Real time of a round trip.
    pub(crate) rtt: Duration,
}

#[derive(Clone)]
struct Site {
    shared: Shared,
    place: Place,
    tls: TlsAcceptor,
    /// Changes when all connections are to be cut.
    cut: watch::Receiver<u64>,
}

pub(crate) async fn listen(
    shared: Shared,
    place: Place,
    tls: Arc<rustls::ServerConfig>,
    cut: watch::Receiver<u64>,
) -> Result<Listener> {
    let socket = TcpListener::bind("127.0.0.1:0").await.map_err(|error| SimulatorError(error.to_string()))?;
    let address = socket.local_addr().map_err(|error| SimulatorError(error.to_string()))?;
    let (switch, switches) = mpsc::unbounded_channel();
    let site = Site { shared, place, tls: TlsAcceptor::from(tls), cut };
    let task = tokio::spawn(accept(site, socket, address, switches));
    Ok(Listener { address, switch, task })
}

async fn accept(
    site: Site,
    socket: TcpListener,
    address: SocketAddr,
    mut switches: mpsc::UnboundedReceiver<(bool, oneshot::Sender<()>)>,
) {
    let mut socket = Some(socket);
    loop {
        tokio::select! {
            biased;
            change = switches.recv() => {
                let Some((dark, done)) = change else { return };
                if dark {
                    socket = None;
                } else if socket.is_none() {
                    socket = TcpListener::bind(address).await.ok();
                }
                // Whoever asked may have gone; the switch stands.
                let _ = done.send(());
            }
            stream = next(socket.as_ref()) => {
                if let Some(stream) = stream {
                    tokio::spawn(connection(site.clone(), stream));
                }
            }
        }
    }
}

async fn next(socket: Option<&TcpListener>) -> Option<TcpStream> {
    match socket {
        Some(socket) => socket.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn connection(site: Site, stream: TcpStream) {
    let mut cut = site.cut.clone();
    cut.borrow_and_update();
    // Small answers must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let serving = async {
        if !site.place.rtt.is_zero() {
            tokio::time::sleep(site.place.rtt * 2).await;
        }
        let Ok(stream) = site.tls.accept(stream).await else { return };
        let service = hyper::service::service_fn(|request| answer(site.clone(), request));
        // Idle for five seconds, or a slow header: closed (proxmox-ve.md §2.5).
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(5))
            .serve_connection(TokioIo::new(stream), service)
            .await;
        // A client that went away is its own business.
        let _ = served;
    };
    tokio::select! {
        () = serving => {}
        _ = cut.changed() => {}
    }
}

async fn answer(site: Site, request: Request<Body>) -> std::result::Result<Response<Full<Bytes>>, Dropped> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes().to_vec();
    let gzip = parts.headers.get("accept-encoding").and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("gzip"));
    let incoming = Incoming {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
        node: site.place.node.clone(),
    };
    let hooks = {
        let mut state = site.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        crate::http::hooks(&mut state, &site.place.cluster, &incoming)
    };
    if let Some((matched, hooks)) = hooks {
        // A hook may wait for the test; the other connections go on meanwhile.
        let called = tokio::task::spawn_blocking(move || hooks.iter().for_each(|hook| hook(&matched))).await;
        called.map_err(|_| Dropped)?;
    }
    let verdict = {
        let mut state = site.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        serve(&mut state, &site.place.cluster, &incoming)
    };
    match verdict {
        Verdict::Send(outgoing) => {
            let delay = outgoing.delay + site.place.rtt;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(respond(outgoing, gzip))
        }
        Verdict::Drop => Err(Dropped),
        Verdict::Hang => match std::future::pending::<Infallible>().await {},
    }
}

fn respond(outgoing: Outgoing, gzip: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::from_u16(outgoing.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(reason) = ReasonPhrase::try_from(outgoing.reason.into_bytes()) {
        response.extensions_mut().insert(reason);
    }
    let date = crate::util::http_date(outgoing.date);
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    };
    put("server", "pve-api-daemon/3.0");
    put("cache-control", "max-age=0");
    put("pragma", "no-cache");
    put("date", &date);
    put("expires", &date);
    if outgoing.protected {
        put("keep-alive", "timeout=5");
    }
    if outgoing.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if !outgoing.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(outgoing.content_type));
    }
    let body = if gzip && outgoing.body.len() > 1024 {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        compress(&outgoing.body)
    } else {
        outgoing.body
    };
    *response.body_mut() = Full::from(body);
    response
}

fn compress(body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory does not fail.
    let _ = out.write_all(body);
    out.finish().unwrap_or_default()
}
