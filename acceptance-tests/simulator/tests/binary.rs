//! The command: what it prints, that it serves, and that it ends.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

#[tokio::test]
async fn it_serves_until_stdin_closes() {
    let world = concat!(env!("CARGO_MANIFEST_DIR"), "/worlds/three-sites.yaml");
    let mut child = Command::new(env!("CARGO_BIN_EXE_simulator"))
        .args(["--world", world, "--json", "--seed", "3", "--time-scale", "60", "--until-stdin-closes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("output")).lines();
    let clusters: Vec<Value> =
        lines.take(3).map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON")).collect();
    let names: Vec<_> = clusters.iter().map(|cluster| cluster["cluster"].as_str().expect("a name")).collect();
    assert_eq!(names, ["databarn-dr", "hetzner-edge", "worldstream-prod"]);
    let edge = &clusters[1];
    let ca = reqwest::Certificate::from_pem(edge["ca_pem"].as_str().expect("a CA").as_bytes()).expect("a CA");
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().expect("a client");
    let token = edge["tokens"]["app"].as_str().expect("a token");
    let url = format!("{}/api2/json/version", edge["url"].as_str().expect("a URL"));
    let request = client.get(url).header("Authorization", format!("PVEAPIToken={token}"));
    let version: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(version["data"]["release"], "8.4");
    drop(child.stdin.take());
    assert!(child.wait().expect("ends").success());
}

#[test]
fn wrong_arguments_are_explained() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_simulator")).args(args).output().expect("runs");
    for args in [&["--nonsense"][..], &[], &["--world", "x", "--seed", "many"]] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(!out.stderr.is_empty());
    }
    let out = run(&["--world", "/nowhere.yaml"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("/nowhere.yaml"));
}
