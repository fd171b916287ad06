//! Raw HTTPS against a cluster, for the behaviour tests.
#![allow(dead_code, missing_docs)]

pub mod pair;

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;
use simulator::{ClusterHandle, GuestSpec, Options, Simulator, World};

pub struct Api {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub text: String,
    pub headers: reqwest::header::HeaderMap,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["data"].clone()
    }

    /// Status and text of a refusal; the text stands in the status line and in the body.
    pub fn refused(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.reason.as_str()), (status, text), "{self:?}");
        assert_eq!(self.json()["message"], Value::String(format!("{text}\n")), "{self:?}");
    }

    /// A 400 with this text for this parameter.
    pub fn bad(&self, param: &str, text: &str) {
        assert_eq!(self.status, 400, "{self:?}");
        assert_eq!(self.reason, "Parameter verification failed.");
        assert_eq!(self.json()["errors"][param], Value::String(format!("{text}\n")), "{self:?}");
    }
}

pub async fn read(response: Response) -> Answer {
    let reason = response
        .extensions()
        .get::<hyper::ext::ReasonPhrase>()
        .map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned())
        .unwrap_or_else(|| response.status().canonical_reason().unwrap_or_default().to_owned());
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, reason, headers, text: response.text().await.expect("a body") }
}

impl Api {
    pub fn new(cluster: &ClusterHandle, role: Option<&str>) -> Api {
        let ca = reqwest::Certificate::from_pem(cluster.ca_pem().as_bytes()).expect("a CA");
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .pool_idle_timeout(Duration::from_secs(4))
            .timeout(Duration::from_secs(20))
            .no_proxy()
            .build()
            .expect("a client");
        let token = role.map(|role| cluster.token(role).expect("a token"));
        Api { client, url: cluster.url(), token }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}/api2/json{path}", self.url));
        match &self.token {
            Some(token) => request.header("Authorization", format!("PVEAPIToken={token}")),
            None => request,
        }
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub async fn get(&self, path: &str) -> Answer {
        read(self.request(Method::GET, path).send().await.expect("an answer")).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        read(self.request(Method::DELETE, path).send().await.expect("an answer")).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        read(self.request(Method::POST, path).form(form).send().await.expect("an answer")).await
    }

    pub async fn put(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        read(self.request(Method::PUT, path).form(form).send().await.expect("an answer")).await
    }

    /// Polls a task to its end; its exit status.
    pub async fn wait(&self, answer: &Answer) -> String {
        let upid = answer.data().as_str().expect("a UPID").to_owned();
        let node = upid.split(':').nth(1).expect("a node").to_owned();
        for _ in 0..200 {
            let status = self.get(&format!("/nodes/{node}/tasks/{upid}/status")).await.data();
            if status["status"] == "stopped" {
                return status["exitstatus"].as_str().expect("an exit status").to_owned();
            }
        }
        panic!("{upid} does not end");
    }

    /// All lines of a task's log.
    pub async fn log(&self, answer: &Answer) -> Vec<String> {
        let upid = answer.data().as_str().expect("a UPID").to_owned();
        let node = upid.split(':').nth(1).expect("a node").to_owned();
        let lines = self.get(&format!("/nodes/{node}/tasks/{upid}/log?limit=0")).await.data();
        lines.as_array().expect("lines").iter().map(|line| line["t"].as_str().expect("text").to_owned()).collect()
    }
}

/// A three-site federation in stepped time.
pub async fn three_sites() -> Simulator {
    Simulator::start(World::three_sites().expect("a world"), Options::default()).await.expect("a simulator")
}

pub async fn shared_images() -> Simulator {
    Simulator::start(World::shared_images().expect("a world"), Options::default()).await.expect("a simulator")
}

/// A guest with one disk and one NIC.
pub fn guest(vmid: u32, node: &str, storage: &str, pool: Option<&str>, running: bool) -> GuestSpec {
    let config = [
        ("name", format!("vm{vmid}")),
        ("cores", "2".to_owned()),
        ("memory", "2048".to_owned()),
        ("scsi0", format!("{storage}:8")),
        ("net0", "virtio,bridge=vmbr0".to_owned()),
    ];
    GuestSpec {
        vmid,
        node: node.to_owned(),
        config: config.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        pool: pool.map(str::to_owned),
        running,
    }
}
