//! Envelope, decoding, order of checks, credentials.
#![allow(missing_docs)]

mod support;

use reqwest::Method;
use serde_json::json;
use support::{Api, guest, read, three_sites};

/// proxmox-ve.md §15.1, §17.f1: 401 without body, on the clusters' clock three seconds late; connection closed.
#[tokio::test]
async fn a_failed_login_is_slow_and_empty() {
    let sim = three_sites().await;
    let api = Api::new(&sim.cluster("worldstream-prod"), None);
    let before = sim.now_ms();
    let answer = api.get("/version").await;
    assert_eq!((answer.status, answer.reason.as_str(), answer.text.as_str()), (401, "No ticket", ""));
    assert!(sim.now_ms() - before >= 3000);
    assert_eq!(answer.headers["connection"], "close");
    let bad = api.request(Method::GET, "/version").header("Authorization", "PVEAPIToken=app@pve!app=nonsense");
    assert_eq!(read(bad.send().await.expect("an answer")).await.reason, "Authentication failed!");
    let old = Api::new(&sim.cluster("hetzner-edge"), None);
    let bad = old.request(Method::GET, "/version").header("Authorization", "PVEAPIToken=app@pve!nope=x");
    assert_eq!(read(bad.send().await.expect("an answer")).await.reason, "no such token 'nope' for user 'app@pve'");
}

/// proxmox-ve.md §15.1: the text is in the status line and in the body; errors close the connection.
#[tokio::test]
async fn errors_carry_their_text_twice() {
    let sim = three_sites().await;
    let api = Api::new(&sim.cluster("worldstream-prod"), Some("platform"));
    let answer = api.get("/nodes/ws1/qemu/999/config").await;
    answer.refused(500, "Configuration file 'nodes/ws1/qemu-server/999.conf' does not exist");
    assert_eq!(answer.headers["connection"], "close");
    assert_eq!(answer.headers["content-type"], "application/json;charset=UTF-8");
}

/// proxmox-ve.md §15.3, §17.c11: unknown route 501 without line feed; never 404.
#[tokio::test]
async fn unknown_routes_are_not_implemented() {
    let sim = three_sites().await;
    let api = Api::new(&sim.cluster("worldstream-prod"), Some("platform"));
    let answer = api.get("/no/such/thing").await;
    assert_eq!(answer.status, 501);
    assert_eq!(answer.json()["message"], "Method 'GET /no/such/thing' not implemented");
    let patch = read(api.request(Method::PATCH, "/version").send().await.expect("an answer")).await;
    assert_eq!((patch.status, patch.text.as_str()), (501, "method 'PATCH' not available"));
    api.get("/nodes/nope/status").await.refused(
        500,
        "hostname lookup 'nope' failed - failed to get address info for: nope: Name or service not known",
    );
}

/// proxmox-ve.md §17.c11: bad JSON 500, other types 506, a body on DELETE 501, all in plain text.
#[tokio::test]
async fn bad_bodies_are_refused_in_plain_text() {
    let sim = three_sites().await;
    let api = Api::new(&sim.cluster("worldstream-prod"), Some("platform"));
    let send =
        |method, kind, body: &'static str| api.request(method, "/pools").header("content-type", kind).body(body).send();
    let json = read(send(Method::POST, "application/json", "{").await.expect("an answer")).await;
    assert_eq!((json.status, json.headers["content-type"].as_bytes()), (500, b"text/plain".as_slice()));
    assert_eq!(read(send(Method::POST, "text/csv", "a").await.expect("an answer")).await.status, 506);
    let delete = read(send(Method::DELETE, "application/json", "{}").await.expect("an answer")).await;
    assert_eq!((delete.status, delete.text.as_str()), (501, "Unexpected content for method 'DELETE'"));
}

/// proxmox-ve.md §15.2, §17.f2: form decoding.
#[tokio::test]
async fn forms_are_read_like_perl_reads_them() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    let raw = |body: &'static str| {
        api.request(Method::PUT, "/nodes/ws1/qemu/100/config")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
    };
    // A second `=` cuts the value, `;` separates.
    assert_eq!(
        read(raw("net1=virtio=BC:24:11:00:00:01,bridge=vmbr0;cores=3").await.expect("an answer")).await.status,
        200
    );
    let vm = prod.vm(100).expect("there");
    assert!(vm.config["net1"].starts_with("virtio="));
    assert!(!vm.config["net1"].contains("bridge"));
    assert_eq!(vm.config["cores"], "3");
    // Query overrides body.
    let both = api.request(Method::PUT, "/nodes/ws1/qemu/100/config?cores=5").form(&[("cores", "4")]);
    assert_eq!(read(both.send().await.expect("an answer")).await.status, 200);
    assert_eq!(prod.vm(100).expect("there").config["cores"], "5");
    // Booleans are 0 and 1.
    api.put("/nodes/ws1/qemu/100/config", &[("onboot", "true")])
        .await
        .bad("onboot", "type check ('boolean') failed - got 'true'");
}

/// proxmox-ve.md §17.c1: an empty value is validated as the empty string; null is an error.
#[tokio::test]
async fn empty_is_not_absent() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    prod.set_config(100, "description", Some("words"));
    let api = Api::new(&prod, Some("platform"));
    let config = "/nodes/ws1/qemu/100/config";
    api.put(config, &[("cores", "")]).await.bad("cores", "type check ('integer') failed - got ''");
    assert_eq!(api.put(config, &[("name", "")]).await.status, 400);
    assert_eq!(api.put(config, &[("net0", "")]).await.status, 400);
    assert_eq!(api.put(config, &[("description", "")]).await.status, 200);
    assert!(!prod.vm(100).expect("there").config.contains_key("description"));
    let null = api.request(Method::PUT, config).json(&json!({"name": null})).send().await.expect("an answer");
    read(null).await.refused(500, "unable to parse value of 'name' - got undefined value");
}

/// proxmox-ve.md §17.c2: protected calls end their connection, unprotected ones keep it.
#[tokio::test]
async fn protected_calls_close() {
    let sim = three_sites().await;
    let api = Api::new(&sim.cluster("worldstream-prod"), Some("platform"));
    let protected = api.get("/cluster/status").await;
    assert_eq!(protected.headers["connection"], "close");
    assert!(protected.headers.contains_key("keep-alive"));
    assert!(!api.get("/version").await.headers.contains_key("connection"));
}

/// proxmox-ve.md §17.c9: calls that tokens may not make.
#[tokio::test]
async fn tokens_get_no_tickets() {
    let sim = three_sites().await;
    let api = Api::new(&sim.cluster("worldstream-prod"), Some("platform"));
    let answer = api.post("/access/ticket", &[("username", "platform@pve"), ("password", "platform-secret")]).await;
    assert_eq!(answer.status, 403);
    assert!(answer.reason.ends_with("need proper ticket."), "{answer:?}");
    assert!(answer.json()["message"].as_str().expect("text").ends_with("need proper ticket.\n)\n"));
}

/// proxmox-ve.md §17.f1: tickets, CSRF, and that a bad cookie beats a good token.
#[tokio::test]
async fn tickets_need_their_csrf_token() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    let api = Api::new(&prod, None);
    let wrong = api.post("/access/ticket", &[("username", "platform@pve"), ("password", "x")]).await;
    wrong.refused(401, "authentication failure");
    let form = [("username", "platform@pve"), ("password", "platform-secret")];
    let ticket = api.post("/access/ticket", &form).await.data();
    let cookie = format!("PVEAuthCookie={}", ticket["ticket"].as_str().expect("a ticket"));
    let post = || api.request(Method::POST, "/pools").header("Cookie", &cookie).form(&[("poolid", "x")]);
    let refused = read(post().send().await.expect("an answer")).await;
    assert_eq!((refused.status, refused.reason.as_str()), (401, "Permission denied - invalid csrf token"));
    let csrf = ticket["CSRFPreventionToken"].as_str().expect("a token");
    let done = post().header("CSRFPreventionToken", csrf).send().await.expect("an answer");
    assert_eq!(done.status().as_u16(), 200);
    let with_token = Api::new(&prod, Some("platform"));
    let both = with_token.request(Method::GET, "/version").header("Cookie", "PVEAuthCookie=PVE:x@pve:0::y");
    assert_eq!(both.send().await.expect("an answer").status().as_u16(), 401);
}

/// proxmox-ve.md §15.2: 403 before 400; unknown parameters are refused; property strings name the key (§17.c10).
#[tokio::test]
async fn rights_come_before_parameters() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let (app, all) = (Api::new(&prod, Some("app")), Api::new(&prod, Some("platform")));
    let path = "/nodes/ws1/qemu/100";
    app.delete(&format!("{path}?nonsense=1")).await.refused(403, "Permission check failed (/vms/100, VM.Allocate)");
    all.delete(&format!("{path}?nonsense=1"))
        .await
        .bad("nonsense", "property is not defined in schema and the schema does not allow additional properties");
    all.put(&format!("{path}/config"), &[("net0", "virtio,foo=1")]).await.bad(
        "net0",
        "invalid format - format error\nnet0.foo: property is not defined in schema and the schema does not allow additional properties",
    );
    // What only PVE 9 knows is unknown to 8.4.
    let edge = sim.cluster("hetzner-edge");
    edge.create_vm(&guest(100, "hz1", "local-lvm", None, false)).expect("a guest");
    let old = Api::new(&edge, Some("platform"));
    assert_eq!(old.put("/nodes/hz1/qemu/100/config", &[("allow-ksm", "0")]).await.status, 400);
    assert_eq!(all.put(&format!("{path}/config"), &[("allow-ksm", "0")]).await.status, 200);
}

/// proxmox-ve.md §17.c12: malformed UPID, unknown storage.
#[tokio::test]
async fn other_texts() {
    let sim = three_sites().await;
    let api = Api::new(&sim.cluster("worldstream-prod"), Some("platform"));
    api.get("/nodes/ws1/tasks/UPID:nonsense/status").await.bad("upid", "unable to parse worker upid");
    api.get("/nodes/ws1/tasks/UPID:ws1:00001000:00000000:00000000:qmstart:1:a@b:/status")
        .await
        .bad("upid", "no such task");
    api.get("/nodes/ws1/storage/nope/status").await.bad("storage", "No such storage.");
    api.get("/nodes/ws1/storage/nope/content").await.refused(500, "storage 'nope' does not exist");
    let date = api.get("/version").await.headers["date"].clone();
    assert!(date.to_str().expect("text").contains("Jan 2026"), "{date:?}");
}

/// proxmox-ve.md §17.f12: chunked bodies and those over 512 KiB.
#[tokio::test]
async fn bodies_have_limits() {
    let sim = three_sites().await;
    let api = Api::new(&sim.cluster("worldstream-prod"), Some("platform"));
    let post = |body: String| {
        api.request(Method::POST, "/pools").header("content-type", "application/x-www-form-urlencoded").body(body)
    };
    let large = read(post("a".repeat(600_000)).send().await.expect("an answer")).await;
    assert_eq!((large.status, large.text.as_str()), (501, "for data too large"));
    let chunked = post("poolid=x".into()).header("transfer-encoding", "chunked");
    let chunked = read(chunked.send().await.expect("an answer")).await;
    assert_eq!((chunked.status, chunked.text.as_str()), (501, "chunked transfer encoding not supported"));
}
