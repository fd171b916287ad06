//! Which endpoint is asked, whom we believe, and what is repeated (`proxmox-ve.md` §2.2, §2.5, §13 A6, C10).

use std::time::Duration;

use proxmox::{Auth, ClusterConnection, Error, Fingerprint, Params, TlsTrust};
use tokio::net::TcpListener;

use crate::server::{Reply, Server, TOKEN, bare, client, connection, ok};

const VERSION: &str = r#"{"version":"8.4.1"}"#;
const POST_PATH: &str = "/nodes/pve1/qemu/100/status/start";

/// An address nobody listens on.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("https://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn the_second_endpoint_takes_over_and_stays() {
    let server = Server::start(|_, _| ok(VERSION)).await;
    let mut to = server.connection();
    to.endpoints.insert(0, nobody().await);
    let client = client(to);
    client.version().await.unwrap();
    assert_eq!(client.endpoint(), server.url);
    // Never connected means never sent, so a write goes on to the next one, too.
    client.post(POST_PATH, Params::new()).await.unwrap();
    assert_eq!(server.count("POST", POST_PATH), 1);
}

#[tokio::test]
async fn a_write_fails_over_when_nothing_was_sent() {
    let server = Server::start(|_, _| ok("null")).await;
    let mut to = server.connection();
    to.endpoints.insert(0, nobody().await);
    client(to).post(POST_PATH, Params::new()).await.unwrap();
    assert_eq!(server.count("POST", POST_PATH), 1);
}

#[tokio::test]
async fn an_endpoint_that_never_greets_or_hangs_up_was_not_reached() {
    let server = Server::start(|_, _| ok("null")).await;
    for hang_up in [false, true] {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", mute.local_addr().unwrap());
        let accepting = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((stream, _)) = mute.accept().await {
                if !hang_up {
                    kept.push(stream);
                }
            }
        });
        let mut to = server.connection();
        to.endpoints.insert(0, url.clone());
        to.connect_timeout = Duration::from_secs(1);
        client(to.clone()).post(POST_PATH, Params::new()).await.unwrap();
        to.endpoints = vec![url];
        let error = client(to).post(POST_PATH, Params::new()).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }) && !error.is_ambiguous(), "{error:?}");
        accepting.abort();
    }
    assert_eq!(server.count("POST", POST_PATH), 2);
}

#[tokio::test]
async fn a_dark_cluster_names_every_endpoint() {
    let (first, second) = (nobody().await, nobody().await);
    let to = ClusterConnection::new("dark", [first.clone(), second.clone()], Auth::Token(TOKEN.into()));
    let error = client(to).post(POST_PATH, Params::new()).await.unwrap_err();
    assert!(error.is_unreachable() && !error.is_ambiguous(), "nothing was sent: {error}");
    let text = error.to_string();
    assert!(text.contains(&first) && text.contains(&second), "{text}");
}

#[tokio::test]
async fn a_changed_certificate_is_named_with_the_expected_one() {
    let server = Server::start(|_, _| ok(VERSION)).await;
    let expected = Fingerprint::of_der(b"another certificate");
    let mut to = server.connection();
    to.tls = TlsTrust::Fingerprints(vec![expected]);
    let error = client(to).version().await.unwrap_err();
    let failure = error.tls_failure().unwrap();
    assert_eq!((failure.presented, failure.expected.as_slice()), (server.fingerprint, &[expected][..]));
    let text = error.to_string();
    assert!(text.contains(&server.fingerprint.to_string()) && text.contains(&expected.to_string()), "{text}");
    assert!(error.is_unreachable() && server.seen().is_empty());
}

#[tokio::test]
async fn trust_by_ca_or_none_or_system() {
    let (server, stranger) = (Server::start(|_, _| ok(VERSION)).await, Server::start(|_, _| ok(VERSION)).await);
    let with = |tls| {
        let mut to = server.connection();
        to.tls = tls;
        client(to)
    };
    with(TlsTrust::Ca(server.ca_pem.clone().into_bytes())).version().await.unwrap();
    with(TlsTrust::Insecure).version().await.unwrap();
    for tls in [TlsTrust::Ca(stranger.ca_pem.clone().into_bytes()), TlsTrust::System] {
        let error = with(tls).version().await.unwrap_err();
        assert_eq!(error.tls_failure().unwrap().presented, server.fingerprint);
        assert!(error.to_string().contains(&server.fingerprint.to_string()), "{error}");
    }
}

#[tokio::test]
async fn trust_that_cannot_work_is_refused_at_once() {
    for tls in [TlsTrust::Ca(b"no PEM".to_vec()), TlsTrust::Fingerprints(vec![])] {
        let mut to = ClusterConnection::new("c", ["https://127.0.0.1:1"], Auth::Token(TOKEN.into()));
        to.tls = tls;
        assert!(matches!(proxmox::Client::new(to, proxmox::Limits::default()), Err(Error::Config { .. })));
    }
}

#[tokio::test]
async fn a_write_with_a_lost_answer_is_ambiguous_and_not_repeated() {
    let server = Server::start(|_, _| Reply::Drop).await;
    let error = server.client().post(POST_PATH, Params::new()).await.unwrap_err();
    assert!(matches!(error, Error::Lost { timeout: false, .. }), "{error:?}");
    assert!(error.is_ambiguous() && error.is_unreachable());
    assert_eq!(server.count("POST", POST_PATH), 1);
}

#[tokio::test]
async fn a_write_cut_in_its_answer_is_ambiguous_and_not_repeated() {
    let server = Server::start(|_, _| {
        Reply::Bytes("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{\"data\":".into())
    })
    .await;
    let error = server.client().post(POST_PATH, Params::new()).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }) && error.is_ambiguous(), "{error:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn no_write_is_repeated_after_59x() {
    for status in ["595 Connection refused", "596 Connection timed out", "597 Broken pipe"] {
        let server = Server::start(move |_, _| bare(status)).await;
        let client = server.client();
        assert!(client.post(POST_PATH, Params::new()).await.unwrap_err().is_ambiguous());
        assert!(client.put(POST_PATH, Params::new()).await.unwrap_err().is_ambiguous());
        assert!(client.delete(POST_PATH, Params::new()).await.unwrap_err().is_ambiguous());
        assert_eq!(server.seen().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn our_own_timeout_is_told_and_nothing_is_repeated() {
    let server = Server::start(|_, _| Reply::Hang).await;
    let mut to = server.connection();
    to.request_timeout = Duration::from_secs(1);
    let client = client(to);
    let error = client.post(POST_PATH, Params::new()).await.unwrap_err();
    assert!(matches!(error, Error::Lost { timeout: true, .. }) && error.is_ambiguous(), "{error:?}");
    let error = client.version().await.unwrap_err();
    assert!(matches!(error, Error::Lost { timeout: true, .. }) && !error.is_ambiguous(), "{error:?}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_read_is_repeated_after_a_reset_and_59x() {
    let server = Server::start(|_, before| match before {
        0 => Reply::Drop,
        1 => bare("595 Connection refused"),
        2 => bare("596 Connection timed out"),
        _ => ok(VERSION),
    })
    .await;
    assert_eq!(server.client().version().await.unwrap().numbers(), (8, 4));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_read_is_not_repeated_for_ever_or_for_a_plain_error() {
    let down = Server::start(|_, _| bare("595 No route to host")).await;
    assert_eq!(down.client().version().await.unwrap_err().status(), Some(595));
    assert_eq!(down.seen().len(), 4);
    let error = Server::start(|_, _| bare("401 No ticket")).await;
    assert!(error.client().version().await.unwrap_err().is_auth());
    assert_eq!(error.seen().len(), 1);
}

#[tokio::test]
async fn after_a_lost_answer_the_next_endpoint_is_asked() {
    let (first, second) = (Server::start(|_, _| Reply::Drop).await, Server::start(|_, _| ok(VERSION)).await);
    let client = client(connection(&[&first, &second]));
    assert!(client.post(POST_PATH, Params::new()).await.unwrap_err().is_ambiguous());
    client.version().await.unwrap();
    assert_eq!((first.seen().len(), second.count("POST", POST_PATH), second.seen().len()), (1, 0, 1));
}
