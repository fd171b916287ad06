//! What an error says (`proxmox-ve.md` §1.3, §2.1–2.4, §4, §17).

use proxmox::{Error, Missing, Params};

use crate::server::{Server, answer, bare};

/// The error of a PUT answered so.
async fn error_of(status: &'static str, body: &'static str) -> Error {
    let server = Server::start(move |_, _| if body.is_empty() { bare(status) } else { answer(status, body) }).await;
    server.client().put("/nodes/pve1/qemu/100/config", Params::new()).await.unwrap_err()
}

#[tokio::test]
async fn the_message_comes_from_the_body() {
    let body = r#"{"data":null,"message":"VM is locked (backup)\n"}"#;
    let error = error_of("500 VM is locked (backup)", body).await;
    assert_eq!((error.status(), error.message()), (Some(500), Some("VM is locked (backup)")));
    assert!(error.is_locked() && !error.is_ambiguous() && !error.is_unreachable());
    assert_eq!(error.lock(), Some("backup"));
    let call = error.call().unwrap();
    assert_eq!((call.cluster.as_str(), call.method.as_str()), ("prod", "PUT"));
    assert_eq!(error.to_string(), "cluster prod: PUT /nodes/pve1/qemu/100/config: 500 VM is locked (backup)");
}

#[tokio::test]
async fn older_versions_say_it_in_the_status_line_only() {
    let text = "500 Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist";
    let error = error_of(text, r#"{"data":null}"#).await;
    assert!(error.is_not_found());
    assert_eq!(error.missing(), Some(Missing::Guest("nodes/pve1/qemu-server/100.conf".into())));
}

#[tokio::test]
async fn parameters_are_named() {
    let body = r#"{"data":null,"message":"Parameter verification failed.\n",
        "errors":{"cores":"type check ('integer') failed - got 'x'\n","name":"invalid format - value\n"}}"#;
    let error = error_of("400 Parameter verification failed.", body).await;
    assert!(error.is_param_invalid());
    assert_eq!(error.param_errors().unwrap()["cores"], "type check ('integer') failed - got 'x'");
    let text = error.to_string();
    assert!(text.ends_with("(cores: type check ('integer') failed - got 'x'; name: invalid format - value)"), "{text}");
}

#[tokio::test]
async fn a_401_has_no_body() {
    let error = error_of("401 Authentication failed!", "").await;
    assert!(error.is_auth() && !error.is_permission_denied() && !error.is_ambiguous());
    assert_eq!(error.message(), Some("Authentication failed!"));
}

#[tokio::test]
async fn a_missing_right_is_taken_apart() {
    let body = r#"{"data":null,"message":"Permission check failed (/vms/100, VM.Backup)\n"}"#;
    let denied = error_of("403 Permission check failed (/vms/100, VM.Backup)", body).await.permission_denied().unwrap();
    assert_eq!((denied.path.as_deref(), denied.privileges), (Some("/vms/100"), vec!["VM.Backup".to_owned()]));
    assert!(error_of("403 Forbidden", "").await.is_permission_denied());
}

#[tokio::test]
async fn plain_text_bodies_do_not_hide_the_status_line() {
    let error = error_of("501 Unexpected content for method 'DELETE'", "Unexpected content for method 'DELETE'").await;
    assert_eq!((error.status(), error.message()), (Some(501), Some("Unexpected content for method 'DELETE'")));
    // A canonical phrase is not kept by the HTTP library; it is filled in.
    assert_eq!(error_of("501 Not Implemented", "").await.message(), Some("Not Implemented"));
    // Nor is one that is not ASCII, but newer versions repeat it in the body.
    assert_eq!(error_of("500 Ümläut", "").await.message(), Some("Internal Server Error"));
    let error = error_of("500 Ümläut", r#"{"data":null,"message":"Ümläut\n"}"#).await;
    assert_eq!(error.message(), Some("Ümläut"));
}

#[tokio::test]
async fn the_entry_node_could_not_ask_the_other() {
    for (status, text) in
        [("595 No route to host", "No route to host"), ("596 Connection timed out", "Connection timed out")]
    {
        let error = error_of(status, "").await;
        assert_eq!(error.message(), Some(text));
        assert!(error.is_unreachable() && error.is_ambiguous());
    }
}

#[tokio::test]
async fn the_other_predicates() {
    let says = async |text: &'static str| error_of(text, "").await;
    assert!(says("500 checksum mismatch (file change by other user?)").await.is_digest_mismatch());
    let text = "500 detected modified configuration - file changed by other user? Try again.";
    assert!(says(text).await.is_digest_mismatch());
    assert!(says("500 unable to restore VM 100 - VM 100 already exists on node 'pve2'").await.is_already_exists());
    assert!(says("500 create pool failed: pool 'moxxie/race' already exists").await.is_already_exists());
    assert!(says("500 cluster not ready - no quorum?").await.is_no_quorum());
    assert!(says("500 only root can set 'vmgenid' config").await.is_root_only());
    let text = "500 can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout";
    assert!(says(text).await.is_locked());
}

#[tokio::test]
async fn an_answer_that_is_none_is_ambiguous_for_a_write() {
    for (status, body) in [("200 OK", "<html>a proxy</html>"), ("200 OK", "[]"), ("200 OK", "{}"), ("302 Found", "x")] {
        let error = error_of(status, body).await;
        assert!(matches!(error, Error::Unexpected { .. }) && error.is_ambiguous(), "{error}");
    }
}
