//! Through an HTTP proxy's tunnel: what is asked of the proxy, whose certificate counts, and what is said when it refuses.
//!
//! Endpoints have names that only the proxy knows, so that nothing gets there without it.

use std::sync::{Arc, Mutex};

use proxmox::{Auth, ClusterConnection, NoProxy, Params, Proxy, Route, TlsTrust};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{Server, TOKEN, client, ok};

const VERSION: &str = r#"{"version":"8.4.1"}"#;
const ENDPOINT: &str = "https://pve1.ams.invalid:8006";

/// A proxy on loopback that leads every tunnel to one address, whatever name is asked for, or answers with `refusal`.
struct Tunnels {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    async fn start(to: &str, refusal: Option<&'static str>) -> Tunnels {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, to) = (heads.clone(), to.trim_start_matches("https://").to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, to.clone(), refusal, seen.clone()));
            }
        });
        Tunnels { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn tunnel(stream: TcpStream, to: String, refusal: Option<&str>, seen: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().unwrap().push(head);
    if let Some(status) = refusal {
        let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
        return;
    }
    let Ok(mut target) = TcpStream::connect(&to).await else { return };
    if stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        let _ = copy_bidirectional(&mut stream, &mut target).await;
    }
}

fn connection(server: &Server, route: Route) -> ClusterConnection {
    let mut to = ClusterConnection::new("ams", [ENDPOINT], Auth::Token(TOKEN.into()));
    to.tls = TlsTrust::Fingerprints(vec![server.fingerprint]);
    to.route = route;
    to
}

#[tokio::test]
async fn reads_and_writes_go_through_the_tunnel_to_the_pinned_certificate() {
    let server = Server::start(|_, _| ok(VERSION)).await;
    let proxy = Tunnels::start(&server.url, None).await;
    let through = Proxy::parse(&format!("http://u%40x:hunter2@{}", proxy.address), "HTTPS_PROXY").unwrap();
    for route in [
        Route::Through(through.clone()),
        Route::Environment { proxy: through, except: NoProxy::parse("other.invalid") },
    ] {
        let client = client(connection(&server, route));
        client.version().await.unwrap();
        client.post("/nodes/pve1/qemu/100/status/start", Params::new()).await.unwrap();
    }
    let heads = proxy.heads();
    assert_eq!((heads.len(), server.seen().len()), (4, 4), "one tunnel for reads and one for the write: {heads:?}");
    for head in heads {
        assert!(head.starts_with("CONNECT pve1.ams.invalid:8006 HTTP/1.1\r\n"), "{head}");
        let lower = head.to_lowercase();
        assert!(lower.contains("proxy-authorization: basic dub4omh1bnrlcji=\r\n"), "u@x:hunter2 in base64: {head}");
        assert!(!lower.contains("pveapitoken"), "the cluster's credentials are the cluster's: {head}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_the_clusters_is_refused_behind_a_proxy_too() {
    let (server, stranger) = (Server::start(|_, _| ok(VERSION)).await, Server::start(|_, _| ok(VERSION)).await);
    let proxy = Tunnels::start(&stranger.url, None).await;
    let route = Route::Through(Proxy::parse(&proxy.address, "`proxy`").unwrap());
    let error = client(connection(&server, route)).version().await.unwrap_err();
    assert_eq!(error.tls_failure().unwrap().presented, stranger.fingerprint);
    assert!(error.to_string().contains(&format!("through proxy http://{}", proxy.address)), "{error}");
    assert!(stranger.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_gone_is_named_and_nothing_was_sent() {
    let server = Server::start(|_, _| ok(VERSION)).await;
    let refuses = Tunnels::start(&server.url, Some("403 Forbidden")).await;
    let asks = Tunnels::start(&server.url, Some("407 Proxy Authentication Required")).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for (address, says) in
        [(&refuses.address, "refuses to connect"), (&asks.address, "authorization required"), (&gone, "refused")]
    {
        let route = Route::Through(Proxy::parse(&format!("u:hunter2@{address}"), "HTTPS_PROXY").unwrap());
        let error = client(connection(&server, route)).post("/x", Params::new()).await.unwrap_err();
        assert!(error.is_unreachable() && !error.is_ambiguous(), "{error:?}");
        let text = error.to_string();
        let named = text.contains(&format!("proxy http://{address} of HTTPS_PROXY")) && text.contains(ENDPOINT);
        assert!(named && text.contains(says) && text.contains("NO_PROXY"), "{text}");
        assert!(!format!("{text} {error:?}").contains("hunter2"), "{error:?}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn what_the_exceptions_name_is_reached_straight() {
    let server = Server::start(|_, _| ok(VERSION)).await;
    let proxy = Tunnels::start(&server.url, None).await;
    let environment = |except: &str| Route::Environment {
        proxy: Proxy::parse(&proxy.address, "HTTPS_PROXY").unwrap(),
        except: NoProxy::parse(except),
    };
    // A loopback address is one of the exceptions always.
    let mut to = server.connection();
    to.route = environment("");
    client(to).version().await.unwrap();
    let error = client(connection(&server, environment(".ams.invalid"))).version().await.unwrap_err();
    assert!(error.is_unreachable() && !error.to_string().contains("proxy"), "{error}");
    assert!(proxy.heads().is_empty());
}
