//! Tickets: login, CSRF, one new login after a 401 (`proxmox-ve.md` §1.1).

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use proxmox::{Auth, Client, Limits, Params, Settings};

use crate::server::{Reply, Request, Server, answer, bare, client, ok, quick};

const LOGIN: &str = "/access/ticket";

fn with_password(server: &Server) -> Client {
    let mut connection = server.connection();
    connection.auth = Auth::Password { username: "ops@pve".into(), password: "p+ss=w;rd".into() };
    client(connection)
}

fn ticket(n: usize) -> Reply {
    ok(&format!(
        r#"{{"username":"ops@pve","ticket":"PVE:ops@pve:6957A5A5::sig+{n}/=","CSRFPreventionToken":"6957A5A5:csrf{n}"}}"#
    ))
}

/// Whether the request carries the n-th ticket.
fn carries(request: &Request, n: usize) -> bool {
    let cookie = format!("PVEAuthCookie=PVE%3Aops%40pve%3A6957A5A5%3A%3Asig%2B{n}%2F%3D");
    request.header("cookie") == Some(cookie.as_str()) && request.header("authorization").is_none()
}

#[tokio::test]
async fn a_ticket_is_fetched_once_and_writes_carry_the_csrf_token() {
    let server = Server::start(|request, _| if request.path() == LOGIN { ticket(1) } else { ok("null") }).await;
    let client = with_password(&server);
    let (a, b) = tokio::join!(client.put("/pools", Params::new()), client.get::<Option<u8>>("/pools", Params::new()));
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
    assert_eq!(server.count("POST", LOGIN), 1);
    let seen = server.seen();
    let login = seen.iter().find(|request| request.path() == LOGIN).unwrap();
    assert_eq!(login.body, "username=ops%40pve&password=p%2Bss%3Dw%3Brd");
    assert_eq!(login.header("cookie"), None);
    for request in seen.iter().filter(|request| request.path() != LOGIN) {
        assert!(carries(request, 1), "{request:?}");
        let csrf = (request.method == "PUT").then_some("6957A5A5:csrf1");
        assert_eq!(request.header("csrfpreventiontoken"), csrf);
    }
}

#[tokio::test]
async fn a_refused_ticket_is_replaced_once() {
    let logins = AtomicUsize::new(0);
    let server = Server::start(move |request, _| {
        if request.path() == LOGIN {
            ticket(logins.fetch_add(1, Ordering::SeqCst) + 1)
        } else if carries(request, 1) {
            bare("401 permission denied - invalid PVE ticket")
        } else {
            ok("null")
        }
    })
    .await;
    let client = with_password(&server);
    client.post("/pools", Params::new().set("poolid", "x")).await.unwrap();
    client.post("/pools", Params::new().set("poolid", "y")).await.unwrap();
    assert_eq!((server.count("POST", LOGIN), server.count("POST", "/pools")), (2, 3));
    let last = server.seen().pop().unwrap();
    assert!(carries(&last, 2) && last.header("csrfpreventiontoken") == Some("6957A5A5:csrf2"));
}

#[tokio::test]
async fn many_calls_refused_at_once_share_one_new_login() {
    let logins = AtomicUsize::new(0);
    let server = Server::start(move |request, _| {
        if request.path() == LOGIN {
            ticket(logins.fetch_add(1, Ordering::SeqCst) + 1)
        } else if carries(request, 1) {
            bare("401 Authentication failed!")
        } else {
            ok("null")
        }
    })
    .await;
    let client = with_password(&server);
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.put("/pools", Params::new()).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(server.count("POST", LOGIN), 2);
}

#[tokio::test]
async fn it_does_not_go_round_in_circles() {
    let server =
        Server::start(|request, _| if request.path() == LOGIN { ticket(1) } else { bare("401 No ticket") }).await;
    assert!(with_password(&server).version().await.unwrap_err().is_auth());
    assert_eq!((server.count("POST", LOGIN), server.count("GET", "/version")), (2, 2));
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_not_shown() {
    let server = Server::start(|_, _| {
        answer("401 authentication failure", r#"{"data":null,"message":"authentication failure for p+ss=w;rd\n"}"#)
    })
    .await;
    let error = with_password(&server).version().await.unwrap_err();
    assert!(error.is_auth());
    assert!(!format!("{error} {error:?}").contains("p+ss=w;rd"));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_ageing_ticket_is_renewed_with_itself_or_with_the_password() {
    for renewable in [true, false] {
        let logins = AtomicUsize::new(0);
        let server = Server::start(move |request, _| match request.path() {
            LOGIN if !renewable && request.body.contains("password=PVE%3A") => bare("401 authentication failure"),
            LOGIN => ticket(logins.fetch_add(1, Ordering::SeqCst) + 1),
            _ => ok("null"),
        })
        .await;
        let mut connection = server.connection();
        connection.auth = Auth::Password { username: "ops@pve".into(), password: "p+ss=w;rd".into() };
        let settings = Settings { ticket_renew_after: Duration::ZERO, ..quick() };
        let client = Client::with_settings(connection, Limits::default(), settings).unwrap();
        client.put("/pools", Params::new()).await.unwrap();
        client.put("/pools", Params::new()).await.unwrap();
        let seen = server.seen();
        assert_eq!(seen[2].body, "username=ops%40pve&password=PVE%3Aops%40pve%3A6957A5A5%3A%3Asig%2B1%2F%3D");
        assert_eq!(server.count("POST", LOGIN), if renewable { 2 } else { 3 });
        assert!(carries(seen.last().unwrap(), 2));
    }
}

#[tokio::test]
async fn a_second_factor_is_said() {
    let server = Server::start(|_, _| ok(r#"{"ticket":"PVE:!tfa!","CSRFPreventionToken":"x","NeedTFA":1}"#)).await;
    let error = with_password(&server).version().await.unwrap_err();
    assert!(error.to_string().contains("second factor"), "{error}");
}

#[tokio::test]
async fn a_token_is_never_replaced() {
    let server = Server::start(|_, _| bare("401 Authentication failed!")).await;
    assert!(server.client().post("/pools", Params::new()).await.unwrap_err().is_auth());
    assert_eq!(server.seen().len(), 1);
}
