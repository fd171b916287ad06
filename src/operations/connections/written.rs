//! Owns what a person writes of a connection, and what is wrong with it whatever the file, the environment and the disk say.
use std::collections::BTreeMap;

use federation::{ClusterName, Span};
use proxmox::{ClusterConnection, Fingerprint, Proxy};
use secrecy::{ExposeSecret, SecretString};

use super::Mistake;

/// One cluster's connection as written, beside or over the federation file's. A key here wins over the file's.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// Addresses of nodes, tried in turn.
    pub endpoints: Option<Vec<String>>,
    /// API token.
    pub api_token: Option<SecretString>,
    /// Name of the environment variable that holds the API token.
    pub api_token_env: Option<String>,
    /// API token that may be handed to another cluster.
    pub migration_token: Option<SecretString>,
    /// Name of the environment variable that holds that token.
    pub migration_token_env: Option<String>,
    /// `user@realm`.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<SecretString>,
    /// Name of the environment variable that holds the password.
    pub password_env: Option<String>,
    /// SHA-256 fingerprints of certificates.
    pub fingerprints: Option<Vec<String>>,
    /// Path of a PEM file of authorities.
    pub ca_file: Option<String>,
    /// Whether any certificate is believed.
    pub insecure: Option<bool>,
    /// Time to reach one endpoint.
    pub connect_timeout: Option<String>,
    /// Address of an HTTP proxy; in its place the environment's `HTTPS_PROXY` and `NO_PROXY` hold.
    pub proxy: Option<SecretString>,
    /// Whether it is reached straight, whatever the environment says.
    pub direct: Option<bool>,
}

/// What is wrong with connections whatever the file, the environment and the disk say.
pub fn check(written: &BTreeMap<String, Written>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (name, written) in written {
        let mut say = |key: &'static str, index: Option<usize>, summary: &str, detail: String| {
            let (cluster, summary) = (name.clone(), summary.to_owned());
            mistakes.push(Mistake { cluster, key, index, in_file: false, warning: false, summary, detail });
        };
        if let Err(error) = ClusterName::new(name) {
            say("", None, "Not a cluster name", error.to_string());
        }
        if written.endpoints.as_ref().is_some_and(Vec::is_empty) {
            say(
                "endpoints",
                None,
                "A cluster has no address",
                format!("Cluster {name} has an empty list of endpoints."),
            );
        }
        for (index, endpoint) in written.endpoints.iter().flatten().enumerate() {
            if let Err(why) = ClusterConnection::check_endpoint(endpoint) {
                let detail = format!("{why}. Accepted: https://host:8006, with or without /api2/json behind it.");
                say("endpoints", Some(index), "Not an address of a cluster", detail);
            }
        }
        for (index, text) in written.fingerprints.iter().flatten().enumerate() {
            if let Err(error) = text.parse::<Fingerprint>() {
                say("fingerprints", Some(index), "Not a certificate's fingerprint", error.to_string());
            }
        }
        if let Some(Err(error)) = written.connect_timeout.as_ref().map(|text| text.parse::<Span>()) {
            say("connect_timeout", None, "Invalid connect_timeout", error.to_string());
        }
        if let Some(Err(why)) = written.proxy.as_ref().map(|text| Proxy::parse(text.expose_secret(), "`proxy`")) {
            say("proxy", None, "Not the address of a proxy", format!("Cluster {name}: {why}."));
        }
        for (key, other) in written.contradictions() {
            let detail =
                format!("Cluster {name} has `{key}` and `{other}`, which exclude each other: keep one of the two.");
            say(key, None, "A connection contradicts itself", detail);
        }
    }
    mistakes
}

impl Written {
    /// Pairs of keys that exclude each other and are both there.
    fn contradictions(&self) -> Vec<(&'static str, &'static str)> {
        let token = self.api_token.is_some();
        let listed = self.fingerprints.as_ref().is_some_and(|list| !list.is_empty());
        let insecure = self.insecure == Some(true);
        let pairs = [
            (token && self.api_token_env.is_some(), ("api_token_env", "api_token")),
            (
                self.migration_token.is_some() && self.migration_token_env.is_some(),
                ("migration_token_env", "migration_token"),
            ),
            (token && self.username.is_some(), ("username", "api_token")),
            (self.api_token_env.is_some() && self.username.is_some(), ("username", "api_token_env")),
            (self.password.is_some() && self.password_env.is_some(), ("password_env", "password")),
            (token && self.password.is_some(), ("password", "api_token")),
            (listed && self.ca_file.is_some(), ("ca_file", "fingerprints")),
            (listed && insecure, ("insecure", "fingerprints")),
            (self.ca_file.is_some() && insecure, ("insecure", "ca_file")),
            (self.proxy.is_some() && self.direct == Some(true), ("direct", "proxy")),
        ];
        pairs.into_iter().filter(|(both, _)| *both).map(|(_, pair)| pair).collect()
    }
}
