//! Owns what another cluster has to know of this one's nodes to send a guest there: `remote_migrate`'s target endpoint.

use secrecy::{ExposeSecret, SecretString};

use crate::{Client, Error, Fingerprint, Result};

/// A node of a cluster as `remote_migrate` on another cluster reaches it.
///
/// A guest goes to the node behind the address, whatever is asked for (`proxmox-ve.md` §9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteEndpoint {
    /// The node.
    pub node: String,
    /// Its address, as this client reaches it.
    pub host: String,
    /// The port of its API.
    pub port: u16,
    /// SHA-256 fingerprint of its certificate, `AA:BB:…`: without it the source trusts what its own system trusts.
    pub fingerprint: Fingerprint,
}

/// Certificates that the API's port is served with, the one that wins first.
const SERVED: [&str; 2] = ["pveproxy-ssl.pem", "pve-ssl.pem"];

impl RemoteEndpoint {
    /// The value of `target-endpoint`, which holds the token.
    pub fn with_token(&self, token: &SecretString) -> SecretString {
        let token = token.expose_secret().trim();
        let token = token.strip_prefix("PVEAPIToken=").unwrap_or(token);
        let (host, port, fingerprint) = (&self.host, self.port, &self.fingerprint);
        format!("host={host},port={port},apitoken=PVEAPIToken={token},fingerprint={fingerprint}").into()
    }
}

impl Client {
    /// Which node is behind each endpoint, for those that answer. Right: Sys.Audit on `/`.
    ///
    /// # Errors
    /// Of an endpoint: it doesn't answer, or the token may not see the cluster's nodes.
    pub async fn remote_endpoints(&self) -> Vec<Result<RemoteEndpoint>> {
        let mut found = Vec::new();
        for endpoint in self.endpoints() {
            found.push(self.remote_endpoint(endpoint).await);
        }
        found
    }

    async fn remote_endpoint(&self, endpoint: &str) -> Result<RemoteEndpoint> {
        let client = self.only_at(endpoint);
        let missing = |what: &str| Error::config(self.cluster(), format!("{endpoint}: {what}"));
        let url = reqwest::Url::parse(endpoint).map_err(|error| missing(&error.to_string()))?;
        let status = client.cluster_status().await?;
        let here =
            status.nodes.iter().find(|node| node.local).ok_or_else(|| missing("it doesn't say which node it is"))?;
        let certificates = client.certificates(&here.name).await?;
        let of = |name: &&str| certificates.iter().find(|one| one.filename == **name)?.fingerprint;
        Ok(RemoteEndpoint {
            node: here.name.clone(),
            host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().unwrap_or(8006),
            fingerprint: SERVED.iter().find_map(of).ok_or_else(|| missing("the node names no certificate"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_a_property_string_and_the_token_comes_in_both_spellings() {
        let print = ["AB"; 32].join(":");
        let node = RemoteEndpoint {
            node: "n1".into(),
            host: "10.0.0.5".into(),
            port: 8006,
            fingerprint: print.parse().expect("a fingerprint"),
        };
        for token in ["mig@pve!t=uuid", " PVEAPIToken=mig@pve!t=uuid"] {
            let value = node.with_token(&token.into());
            assert_eq!(
                value.expose_secret(),
                format!("host=10.0.0.5,port=8006,apitoken=PVEAPIToken=mig@pve!t=uuid,fingerprint={print}")
            );
        }
    }
}
