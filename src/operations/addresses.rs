//! Owns asking a machine's guest agent which addresses it has.
use std::net::IpAddr;
use std::time::{Duration, Instant};

use federation::Span;
use proxmox::{GuestInterface, VmConfig};

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::Guest;

/// A network interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The machine's network device that it is, by its MAC address: `net0`. `None`: the guest made it itself.
    pub slot: Option<String>,
    /// The guest's name for it.
    pub name: String,
    /// Its MAC address, as the guest tells it.
    pub mac: Option<String>,
    /// Its addresses with the length of their prefixes, in the guest's order; without loopback and link-local ones.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Fleet {
    /// The interfaces that the agent of a guest tells; `None` where no agent answers. With `wait` it is asked until a network
    /// device has an address, or the time is over.
    ///
    /// # Errors
    /// A missing right; a cluster that doesn't answer any more.
    pub async fn interfaces(&self, guest: &Guest, wait: Option<Span>) -> Result<Option<Vec<Interface>>, Failure> {
        let what = format!("The addresses of {} can't be asked for", guest.config.name().unwrap_or_default());
        let config = guest.in_force().config;
        if !guest.running || !config.agent().enabled() {
            return Ok(None);
        }
        let site = self.need(guest.place.cluster.as_str(), &what)?.clone();
        let until = Instant::now() + wait.map_or(Duration::ZERO, Duration::from);
        let most = site.client.settings().task_poll_max;
        let mut pause = site.client.settings().task_poll_first;
        loop {
            let asked = site.client.agent_interfaces(&guest.place.node, guest.place.vmid).await;
            let over = Instant::now() >= until || self.is_stopping();
            match asked {
                Ok(told) => {
                    let told = told.map(|told| interfaces(told, &config));
                    if over || told.iter().flatten().any(|one| one.slot.is_some() && !one.addresses.is_empty()) {
                        return Ok(told);
                    }
                }
                Err(error) if over || error.is_permission_denied() => {
                    let next =
                        "the token needs VM.GuestAgent.Audit on the machine or its pool (Proxmox VE 8: VM.Monitor)";
                    let next = if error.is_permission_denied() { next } else { "read it again" };
                    return Err(Failure::new(what).at(guest.place.to_string()).said(error).next(next));
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 3 / 2).min(most);
        }
    }
}

/// By the machine's slots, what the guest made itself last; without the loopback interface.
fn interfaces(told: Vec<GuestInterface>, config: &VmConfig) -> Vec<Interface> {
    let nics = config.nics();
    let slot = |mac: &str| {
        let mut own = nics.iter().filter(|(_, nic)| nic.mac().is_some_and(|own| own.eq_ignore_ascii_case(mac)));
        own.next().map(|(slot, _)| slot.clone())
    };
    let one = |one: GuestInterface| {
        let address = |address: proxmox::GuestAddress| {
            let ip: IpAddr = address.address.parse().ok()?;
            let whole = if ip.is_ipv4() { 32 } else { 128 };
            let prefix = address.prefix.and_then(|prefix| u8::try_from(prefix).ok()).unwrap_or(whole);
            is_reachable(&ip).then_some((ip, prefix))
        };
        let slot = one.mac.as_deref().and_then(slot);
        let addresses = one.addresses.unwrap_or_default().into_iter().filter_map(address).collect();
        Interface { slot, name: one.name, mac: one.mac, addresses }
    };
    let mut found: Vec<Interface> = told.into_iter().filter(|one| one.name != "lo").map(one).collect();
    let number = |slot: &str| slot.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse::<u32>().ok();
    found.sort_by_key(|one| one.slot.as_deref().map_or(u32::MAX, |slot| number(slot).unwrap_or(u32::MAX)));
    found
}

/// Whether somebody else can use it: neither of the guest alone nor of one link.
fn is_reachable(ip: &IpAddr) -> bool {
    let of_link = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(of_link || ip.is_loopback() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_from_what_the_guest_made_and_useless_addresses_are_left_out() {
        let config = VmConfig::from_pairs([
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
            ("net10", "virtio=BC:24:11:00:00:10,bridge=vmbr0"),
            ("net2", "virtio=BC:24:11:00:00:02,bridge=vmbr0"),
        ]);
        let told: Vec<GuestInterface> = serde_json::from_value(serde_json::json!([
            { "name": "lo", "ip-addresses": [{ "ip-address": "127.0.0.1", "prefix": 8 }] },
            { "name": "docker0", "hardware-address": "02:42:00:00:00:01",
              "ip-addresses": [{ "ip-address": "172.17.0.1", "prefix": 16 }] },
            { "name": "eth2", "hardware-address": "bc:24:11:00:00:10", "ip-addresses": [
                { "ip-address": "169.254.3.4", "prefix": 16 }, { "ip-address": "10.0.0.9" }] },
            { "name": "eth1", "hardware-address": "bc:24:11:00:00:02" },
            { "name": "eth0", "hardware-address": "bc:24:11:00:00:01", "statistics": { "rx-bytes": 1 }, "ip-addresses": [
                { "ip-address": "fe80::1", "prefix": 64 }, { "ip-address": "2001:db8::5", "prefix": "64" },
                { "ip-address": "10.1.2.3", "ip-address-type": "ipv4", "prefix": 24 }, { "ip-address": "?" }] },
        ]))
        .expect("an agent's answer");
        let found = interfaces(told, &config);
        let told = |one: &Interface| {
            let addresses = one.addresses.iter().map(|(ip, prefix)| format!("{ip}/{prefix}"));
            (one.slot.clone().unwrap_or_default(), one.name.clone(), addresses.collect::<Vec<_>>().join(" "))
        };
        let told: Vec<_> = found.iter().map(told).collect();
        let told: Vec<_> = told.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        let wanted = [
            ("net0", "eth0", "2001:db8::5/64 10.1.2.3/24"),
            ("net2", "eth1", ""),
            ("net10", "eth2", "10.0.0.9/32"),
            ("", "docker0", "172.17.0.1/16"),
        ];
        assert_eq!(told, wanted);
    }
}
