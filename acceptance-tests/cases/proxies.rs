//! Clusters that only a proxy leads to: their endpoints have names that nobody else knows. The CLI, the provider and `federate`
//! find them by the environment, as Terraform's own programs would, or by what a connection says.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use harness::{SimulatedWorld, clis};
use serde_json::Value;

use crate::support::{PROVIDER, sound};

const MAIN: &str = r#"
terraform {
  required_providers {
    moxxie = { source = "moxxie/moxxie" }
  }
}

variable "clusters" { type = any }

provider "moxxie" {
  config_file = "multi-site.yaml"
  clusters    = var.clusters
}

resource "moxxie_resource_pool" "team" {
  name     = "team"
  clusters = ["worldstream-prod", "databarn-dr", "hetzner-edge"]
}
"#;

/// A proxy on loopback that knows where each name is, and remembers who was asked for.
struct Proxy {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(names: BTreeMap<String, String>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (names, seen) = (names.clone(), seen.clone());
                std::thread::spawn(move || tunnel(stream, &names, &seen));
            }
        });
        Proxy { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().expect("nobody panics with it"));
        asked.sort();
        asked.dedup();
        asked
    }
}

fn tunnel(stream: TcpStream, names: &BTreeMap<String, String>, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let name = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    seen.lock().expect("nobody panics with it").push(name.clone());
    let mut client = stream;
    let Some(Ok(mut server)) = names.get(&name).map(TcpStream::connect) else {
        let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
        return;
    };
    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").is_err() {
        return;
    }
    let (mut up, mut down) = (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut reader, &mut up);
        let _ = up.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut down);
    let _ = down.shutdown(std::net::Shutdown::Both);
}

/// Connections by names that only the proxies know, and where those are.
fn hidden(world: &SimulatedWorld) -> (Value, BTreeMap<String, String>) {
    let mut names = BTreeMap::new();
    let mut connections = world.connections();
    for cluster in world.clusters() {
        let name = format!("{}.invalid:8006", cluster.name());
        names.insert(name.clone(), cluster.url().trim_start_matches("https://").to_owned());
        connections[cluster.name()]["endpoints"] = serde_json::json!([format!("https://{name}")]);
    }
    (connections, names)
}

#[test]
fn clusters_behind_a_proxy_are_reached_as_the_environment_and_each_connection_say() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let (mut connections, names) = hidden(&world);
        let (environments, own) = (Proxy::start(names.clone()), Proxy::start(names));
        // One cluster has a proxy of its own, and one is reached straight, by its real address.
        connections["databarn-dr"]["proxy"] = format!("http://{}", own.address).into();
        connections["hetzner-edge"] = world.connections()["hetzner-edge"].clone();
        connections["hetzner-edge"]["direct"] = true.into();
        let mut workspace = world.workspace(&cli, Path::new(PROVIDER), "platform");
        workspace.write("main.tf", MAIN).write("multi-site.yaml", crate::support::yaml());
        workspace.write("world.auto.tfvars.json", serde_json::json!({ "clusters": connections }).to_string());
        workspace.env("HTTPS_PROXY", &environments.address).env("NO_PROXY", "elsewhere.example");
        sound(workspace.apply()).expect(0);
        assert_eq!(environments.asked(), ["worldstream-prod.invalid:8006"]);
        assert_eq!(own.asked(), ["databarn-dr.invalid:8006"]);
        assert!(world.clusters().iter().all(|cluster| cluster.pools().contains_key("team")));
        sound(workspace.plan()).expect(0);
        // An exception takes the proxy away, and the cluster with it: it is dark, and nothing else fails.
        environments.asked();
        workspace.env("NO_PROXY", ".invalid");
        let dark = sound(workspace.plan());
        assert_eq!((dark.code, environments.asked().len()), (0, 0), "{}", dark.text());
        workspace.env("NO_PROXY", "");
        workspace.destroy().expect(0);
    }
}

#[test]
fn federate_goes_through_the_proxy_and_names_it_when_it_leads_nowhere() {
    let world = SimulatedWorld::three_sites();
    let (connections, names) = hidden(&world);
    let proxy = Proxy::start(names);
    let nowhere = Proxy::start(BTreeMap::new());
    let desk = tempfile::tempdir().expect("a folder");
    std::fs::write(desk.path().join("multi-site.yaml"), crate::support::yaml()).expect("a file");
    std::fs::write(desk.path().join("connections.json"), connections.to_string()).expect("a file");
    let status = |through: &Proxy| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_federate"));
        command.args(["status", "-c", "multi-site.yaml", "--connections", "connections.json"]).current_dir(desk.path());
        command.env("HTTPS_PROXY", format!("http://user:hunter2@{}", through.address)).env_remove("NO_PROXY");
        let out = command.envs(world.tokens("platform")).output().expect("the command runs");
        (out.status.code(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
    };
    let (code, text) = status(&proxy);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(proxy.asked().len(), 3);
    let (code, text) = status(&nowhere);
    assert_eq!(code, Some(1), "{text}");
    let says = format!("proxy http://{} of HTTPS_PROXY", nowhere.address);
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(&says) && flat.contains("NO_PROXY") && !flat.contains("hunter2"), "{text}");
}
