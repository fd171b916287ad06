//! The other end of a migration as its caller names it: address, token, fingerprint (proxmox-ve.md §9).

use std::time::Duration;

use crate::acl::Auth;
use crate::error::ApiError;
use crate::state::State;

/// `target-endpoint`.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoint {
    pub(super) host: String,
    port: u16,
    apitoken: String,
    pub(super) fingerprint: Option<String>,
}

/// Who answers there.
pub(super) struct Remote {
    pub(super) cluster: String,
    pub(super) node: String,
}

/// A refusal of the target, as the client on the source words it.
pub(super) fn from_afar(error: ApiError) -> ApiError {
    let lines: String = error.errors.iter().map(|(name, text)| format!("\n{name}: {text}")).collect();
    ApiError::die(format!("{} {}{lines}", error.code, error.message))
}

impl Endpoint {
    /// A property string that the schema let pass.
    pub(super) fn parse(text: &str) -> Endpoint {
        let mut endpoint = Endpoint { port: 8006, ..Endpoint::default() };
        for (key, value) in text.split(',').filter_map(|part| part.split_once('=')) {
            match key {
                "host" => value.clone_into(&mut endpoint.host),
                "port" => endpoint.port = value.parse().unwrap_or(8006),
                "apitoken" => value.clone_into(&mut endpoint.apitoken),
                "fingerprint" => endpoint.fingerprint = Some(value.to_uppercase()),
                _ => {}
            }
        }
        endpoint
    }

    fn refused(&self, why: &str) -> ApiError {
        ApiError::die(format!("500 Can't connect to {}:{} ({why})", self.host, self.port))
    }

    /// The cluster behind the address, and the node where the address is a node's own: a port on loopback, or the address that
    /// `/cluster/status` shows, with port 8006, where it is one node's alone.
    fn find(&self, st: &State) -> Option<(String, Option<String>)> {
        if ["127.0.0.1", "localhost"].contains(&self.host.as_str()) {
            return st.addresses.get(&self.port).cloned();
        }
        let all = st.clusters.iter().flat_map(|(name, c)| c.nodes.iter().map(move |(node, facts)| (name, node, facts)));
        let mut named = all.filter(|(_, _, facts)| facts.address == self.host && self.port == 8006);
        let (cluster, node, _) = named.next()?;
        named.next().is_none().then(|| (cluster.clone(), Some(node.clone())))
    }

    /// Opens a connection from a cluster: who answers, if its certificate is the one that was named.
    pub(super) fn connect(&self, st: &mut State, from: &str) -> Result<Remote, ApiError> {
        let Some((cluster, node)) = self.find(st) else { return Err(self.refused("Connection refused")) };
        if st.is_cut(from, &cluster) {
            // Packets vanish; the proxy before this call waits no longer than that.
            st.look(Duration::from_secs(30));
            return Err(ApiError::new(596, "Connection timed out"));
        }
        let c = st.cluster(&cluster);
        if c.dark {
            return Err(self.refused("Connection refused"));
        }
        let answers = node.clone().or_else(|| c.entry().map(str::to_owned));
        let answers = answers.filter(|name| c.nodes.get(name).is_some_and(|facts| facts.online));
        let Some(answers) = answers else {
            st.look(Duration::from_secs(3));
            return Err(self.refused("No route to host"));
        };
        // An address for a whole cluster shows its first node's certificate, whoever answers.
        let shown = node.as_ref().map_or_else(|| c.nodes.values().next(), |name| c.nodes.get(name));
        let shown = shown.map(|facts| facts.fingerprint.clone()).unwrap_or_default();
        if self.fingerprint.as_ref() != Some(&shown) {
            return Err(ApiError::die(format!("fingerprint '{shown}' not verified, abort!")));
        }
        Ok(Remote { cluster, node: answers })
    }

    /// Whose token it is.
    pub(super) fn log_in(&self, st: &State, remote: &Remote) -> Result<Auth, ApiError> {
        crate::auth::by_header(st.cluster(&remote.cluster), &self.apitoken).map_err(from_afar)
    }
}
