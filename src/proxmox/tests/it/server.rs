//! A tiny HTTPS server that answers with canned bytes and remembers what it was asked. Not a simulator.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use proxmox::{Auth, Client, ClusterConnection, Fingerprint, Limits, Settings, TlsTrust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::{TlsAcceptor, rustls};

pub const TOKEN: &str = "app@pve!ci=11111111-2222-3333-4444-5555555ecre7";
pub const TOKEN_SECRET: &str = "11111111-2222-3333-4444-5555555ecre7";

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The path below `/api2/json`, without query.
    pub fn path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.strip_prefix("/api2/json").unwrap_or(path)
    }
}

/// What to do with a request.
pub enum Reply {
    /// Write these bytes; close afterwards if they say so.
    Bytes(String),
    /// Close without a word.
    Drop,
    /// Never answer.
    Hang,
}

/// 200 with this `data` (JSON).
pub fn ok(data: &str) -> Reply {
    answer("200 OK", &format!(r#"{{"data":{data}}}"#))
}

/// This status line and body. As PVE does, an error closes the connection.
pub fn answer(status: &str, body: &str) -> Reply {
    let close = if status.starts_with('2') { "" } else { "Connection: close\r\n" };
    Reply::Bytes(format!(
        "HTTP/1.1 {status}\r\nDate: Fri, 02 Jan 2026 03:04:05 GMT\r\nServer: pve-api-daemon/3.0\r\n{close}\
         Content-Type: application/json;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// A 401 or 59x: no body, no length, closed.
pub fn bare(status: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 {status}\r\nDate: Fri, 02 Jan 2026 03:04:05 GMT\r\nConnection: close\r\n\r\n"))
}

pub struct Server {
    pub url: String,
    pub fingerprint: Fingerprint,
    pub ca_pem: String,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves on loopback; the handler gets each request and how many came before it.
    pub async fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let (ca_pem, certificate, key) = certificate();
        let fingerprint = Fingerprint::of_der(&certificate);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let handler = Arc::new(handler);
        let task = tokio::spawn({
            let (seen, connections) = (seen.clone(), connections.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(acceptor.clone(), stream, handler.clone(), seen.clone()));
                }
            }
        });
        Self { url, fingerprint, ca_pem, seen, connections, task }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn count(&self, method: &str, path: &str) -> usize {
        self.seen().iter().filter(|request| request.method == method && request.path() == path).count()
    }

    /// A connection to this server alone, with a token and the server's pin.
    pub fn connection(&self) -> ClusterConnection {
        connection(&[self])
    }

    pub fn client(&self) -> Client {
        client(self.connection())
    }
}

/// A connection to these servers in turn.
pub fn connection(servers: &[&Server]) -> ClusterConnection {
    let mut connection =
        ClusterConnection::new("prod", servers.iter().map(|s| s.url.clone()), Auth::Token(TOKEN.into()));
    connection.tls = TlsTrust::Fingerprints(servers.iter().map(|s| s.fingerprint).collect());
    connection
}

/// A client that wastes no time between repetitions.
pub fn client(connection: ClusterConnection) -> Client {
    Client::with_settings(connection, Limits::default(), quick()).unwrap()
}

/// Settings that waste no time between repetitions.
pub fn quick() -> Settings {
    Settings {
        get_retry_first: Duration::from_millis(1),
        task_poll_first: Duration::from_millis(1),
        task_poll_max: Duration::from_millis(2),
        ..Settings::default()
    }
}

fn certificate() -> (String, CertificateDer<'static>, PrivateKeyDer<'static>) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    (ca_pem, leaf.der().clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
}

type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, handler: Arc<Handler>, seen: Arc<Mutex<Vec<Request>>>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    while let Some(request) = read_request(&mut stream).await {
        let before = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        match handler(&request, before) {
            Reply::Bytes(bytes) => {
                let closes = bytes.contains("Connection: close");
                if stream.write_all(bytes.as_bytes()).await.is_err() || stream.flush().await.is_err() || closes {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
            Reply::Drop => return,
            Reply::Hang => std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(key, _)| key == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { method, target, headers, body: String::from_utf8(body).unwrap() })
}
