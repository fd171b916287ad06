//! Owns the calls to a guest's agent.
use serde::Deserialize;
use serde_json::Value;

use super::guest_path;
use crate::{Client, Params, Result, de};

/// A network interface as the guest has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GuestInterface {
    /// The guest's name for it, for example `eth0`.
    #[serde(deserialize_with = "de::text")]
    pub name: String,
    /// Its MAC address.
    #[serde(rename = "hardware-address", deserialize_with = "de::opt_text")]
    pub mac: Option<String>,
    /// Its addresses; missing where it has none.
    #[serde(rename = "ip-addresses")]
    pub addresses: Option<Vec<GuestAddress>>,
}

/// An address of a guest's interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GuestAddress {
    /// The address, IPv4 or IPv6.
    #[serde(rename = "ip-address", deserialize_with = "de::text")]
    pub address: String,
    /// Length of its prefix, in bits.
    #[serde(deserialize_with = "de::opt_u64")]
    pub prefix: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
}

impl Client {
    /// The guest's network interfaces, as its agent tells them; `None` where no agent answers, be it that none is configured, that
    /// none runs, or that the guest is off. Right: VM.GuestAgent.Audit (PVE 8: VM.Monitor).
    ///
    /// # Errors
    /// 403, unreachable.
    pub async fn agent_interfaces(&self, node: &str, vmid: u32) -> Result<Option<Vec<GuestInterface>>> {
        let path = guest_path(node, vmid, &["agent", "network-get-interfaces"]);
        match self.get::<Answer>(&path, Params::new()).await {
            // An agent that is too old for the question answers with an error in the place of the list.
            Ok(answer) => Ok(serde_json::from_value(answer.result).ok()),
            Err(error) if error.status() == Some(500) && !error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
