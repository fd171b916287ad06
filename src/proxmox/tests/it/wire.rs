//! What goes over the wire, and that no secret is shown (`proxmox-ve.md` §1.1, §2).

use proxmox::{Auth, Client, Limits, Params};
use secrecy::ExposeSecret;

use crate::server::{Reply, Server, TOKEN, TOKEN_SECRET, answer, client, ok};

#[tokio::test]
async fn a_token_and_a_sized_form_are_sent() {
    let server = Server::start(|_, _| ok("null")).await;
    let params = Params::new()
        .set("net0", "virtio=BC:24:11:AA:BB:CC,bridge=vmbr0")
        .set("description", "a&b;c+d e")
        .flag("onboot", false);
    server.client().put("/nodes/pve1/qemu/100/config", params).await.unwrap();

    let request = &server.seen()[0];
    assert_eq!(request.target, "/api2/json/nodes/pve1/qemu/100/config");
    assert_eq!(request.header("authorization"), Some(format!("PVEAPIToken={TOKEN}").as_str()));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.header("transfer-encoding"), None);
    assert_eq!(request.header("csrfpreventiontoken"), None);
    assert_eq!(
        request.body,
        "net0=virtio%3DBC%3A24%3A11%3AAA%3ABB%3ACC%2Cbridge%3Dvmbr0&description=a%26b%3Bc%2Bd%20e&onboot=0"
    );
}

#[tokio::test]
async fn a_post_without_parameters_is_sized_too() {
    let server = Server::start(|_, _| ok("null")).await;
    server.client().post("/nodes/pve1/qemu/100/template", Params::new()).await.unwrap();
    assert_eq!(server.seen()[0].header("content-length"), Some("0"));
}

#[tokio::test]
async fn reads_and_removals_put_parameters_into_the_query() {
    let server = Server::start(|_, _| ok("null")).await;
    let params = Params::new().set("poolid", "moxxie-moves/move-1").set("c", "a+b=c;d&e");
    server.client().delete("/pools", params.clone()).await.unwrap();
    let _: Option<String> = server.client().get("/pools", params).await.unwrap();
    for request in server.seen() {
        assert_eq!(request.target, "/api2/json/pools?poolid=moxxie-moves%2Fmove-1&c=a%2Bb%3Dc%3Bd%26e");
        assert_eq!(request.body, "");
        assert!(matches!(request.header("content-length"), None | Some("0")));
    }
}

#[tokio::test]
async fn a_volume_is_one_component_of_the_path() {
    let server = Server::start(|_, _| ok("null")).await;
    let volid = "nfs:backup/vzdump-qemu-100-2026_01_02-03_04_05.vma.zst";
    assert_eq!(server.client().delete_volume("pve1", volid).await.unwrap(), None);
    assert_eq!(
        server.seen()[0].path(),
        "/nodes/pve1/storage/nfs/content/nfs:backup%2Fvzdump-qemu-100-2026_01_02-03_04_05.vma.zst"
    );
}

#[tokio::test]
async fn a_path_with_a_hole_is_not_sent() {
    let server = Server::start(|_, _| ok("null")).await;
    for node in ["", "..", "."] {
        assert!(server.client().node_status(node).await.is_err());
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn reads_share_a_connection_and_keep_the_clusters_clock() {
    let server = Server::start(|_, _| ok(r#"{"version":"9.1.9","release":"9.1","repoid":"abc"}"#)).await;
    let client = server.client();
    assert_eq!(client.server_time(), None);
    assert_eq!(client.version().await.unwrap().numbers(), (9, 1));
    client.version().await.unwrap();
    assert_eq!((server.seen().len(), server.connections()), (2, 1));
    let time = client.server_time().unwrap();
    assert_eq!(time.epoch(), 1_767_323_045);
    assert!(time.now() >= time.epoch());
}

#[tokio::test]
async fn a_write_never_uses_a_kept_connection() {
    let server = Server::start(|_, _| ok("{}")).await;
    let client = server.client();
    let _: serde_json::Value = client.get("/version", Params::new()).await.unwrap();
    client.put("/pools", Params::new()).await.unwrap();
    client.put("/pools", Params::new()).await.unwrap();
    assert_eq!((server.seen().len(), server.connections()), (3, 3));
}

#[tokio::test]
async fn no_secret_is_shown_anywhere() {
    // A server that repeats in its message what it was sent.
    let server = Server::start(|request, _| {
        let token = request.header("authorization").unwrap_or_default().to_owned();
        let text = format!("cannot use {token} with {}", request.body);
        answer(&format!("500 {text}"), &format!(r#"{{"data":null,"message":"{text}\n","errors":{{"a":"{text}"}}}}"#))
    })
    .await;
    let client = server.client();
    let params = Params::new().secret("target-endpoint", "s3cr3t".into());
    let error = client.post("/nodes/pve1/qemu/100/remote_migrate", params).await.unwrap_err();
    let all = format!("{error} {error:?} {client:?} {:?}", server.connection());
    assert!(all.contains("cannot use"), "{all}");
    assert!(!all.contains(TOKEN_SECRET) && !all.contains("s3cr3t"), "{all}");
}

#[tokio::test]
async fn a_token_that_is_handed_over_is_shown_by_neither_cluster() {
    const HANDED: &str = "cccccccc-dddd-4eee-8fff-000000000000";
    let token = format!("mover@pve!t={HANDED}");
    // Refusals quote the token with and without what surrounds it, and once there is a text in place of a task.
    let text = format!("401 for PVEAPIToken={token}, that is {HANDED}, at host=10.0.0.5");
    let server = Server::start(move |request, n| match n {
        1 => ok(&format!("{text:?}")),
        _ => answer(
            &format!("500 {text}"),
            &format!(r#"{{"data":null,"message":"{text} {}","errors":{{"a":"{text}"}}}}"#, request.body),
        ),
    })
    .await;
    let mut connection = server.connection();
    connection.migration_token = Some(format!("PVEAPIToken={token}").into());
    let target = client(connection.clone());
    assert_eq!(target.migration_token().map(ExposeSecret::expose_secret), Some(token.as_str()));
    assert!(server.client().migration_token().is_none(), "the connection's own token is never handed over by itself");

    let endpoint = format!("host=10.0.0.5,apitoken=PVEAPIToken={token},fingerprint=AA:BB,port=8006");
    let source = server.client();
    let mut all = format!("{target:?} {connection:?}");
    for _ in 0..2 {
        let error = source.remote_migrate("pve1", 100, endpoint.as_str().into(), Params::new()).await.unwrap_err();
        all += &format!(" {error} {error:?}");
    }
    let error = target.version().await.unwrap_err();
    all += &format!(" {error} {error:?}");
    assert!(!all.contains(HANDED), "{all}");
    assert_eq!(all.matches("at host=10.0.0.5").count(), 4 + 2 + 4, "what is no secret stays: {all}");

    connection.migration_token = Some(format!("{token},host=elsewhere").into());
    let error = Client::new(connection, Limits::default()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(HANDED), "{error}");
}

#[tokio::test]
async fn a_password_is_not_shown_either() {
    let server = Server::start(|_, _| Reply::Drop).await;
    let mut connection = server.connection();
    connection.auth = Auth::Password { username: "root".into(), password: "hunter2".into() };
    let error = client(connection.clone()).version().await.unwrap_err();
    assert!(!format!("{error} {error:?} {connection:?}").contains("hunter2"));
    connection.auth = Auth::Token("no token hunter2".into());
    let error = Client::new(connection, Limits::default()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
