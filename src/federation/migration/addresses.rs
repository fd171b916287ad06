//! Whether a machine's static addresses can work in the network that it moves to (hazards.md OR 19).

use std::net::IpAddr;

use crate::model::Network;
use crate::units::Cidr;

/// What one network device is told of its addresses, as cloud-init writes it: `10.1.0.5/24`, `dhcp`, `auto`, `manual`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4 and IPv6 address.
    pub own: Vec<String>,
    /// IPv4 and IPv6 gateway.
    pub gateways: Vec<String>,
}

impl Addresses {
    /// Reads an `ipconfigN` value: `ip=10.1.0.5/24,gw=10.1.0.1,ip6=auto`.
    pub fn of_ipconfig(value: &str) -> Addresses {
        let mut addresses = Addresses::default();
        for (key, value) in value.split(',').filter_map(|part| part.split_once('=')) {
            match key.trim() {
                "ip" | "ip6" => addresses.own.push(value.trim().to_owned()),
                "gw" | "gw6" => addresses.gateways.push(value.trim().to_owned()),
                _ => {}
            }
        }
        addresses
    }
}

/// What of `addresses` lies outside a network's subnet, in words. A network without subnet, or with one of the other family,
/// says nothing of them; neither do `dhcp`, `auto` and `manual`.
pub fn out_of_place(addresses: &Addresses, network: &Network) -> Vec<String> {
    let Some((text, subnet)) = network.subnet.as_deref().and_then(|text| Some((text, text.parse::<Cidr>().ok()?)))
    else {
        return Vec::new();
    };
    let outside = |value: &String| {
        let address: IpAddr = value.split('/').next().unwrap_or_default().parse().ok()?;
        let of_family = address.is_ipv4() != text.contains(':');
        (of_family && !subnet.holds(address)).then_some(address)
    };
    let own = addresses.own.iter().filter_map(outside).map(|address| format!("address {address}"));
    let gateways = addresses.gateways.iter().filter_map(outside).map(|address| format!("gateway {address}"));
    own.chain(gateways).map(|what| format!("{what} is not in {text}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(subnet: Option<&str>) -> Network {
        Network { bridge: "vmbr0".into(), vlan: None, subnet: subnet.map(str::to_owned), gateway: None, macs: None }
    }

    #[test]
    fn a_static_address_outside_the_subnet_is_named_and_nothing_else_is() {
        let cases: [(&str, Option<&str>, &[&str]); 8] = [
            ("ip=10.1.0.5/24,gw=10.1.0.1", Some("10.1.0.0/24"), &[]),
            (
                "ip=10.1.0.5/24,gw=10.1.0.1",
                Some("10.2.0.0/24"),
                &["address 10.1.0.5 is not in 10.2.0.0/24", "gateway 10.1.0.1 is not in 10.2.0.0/24"],
            ),
            ("ip=10.2.0.5/24,gw=10.1.0.1", Some("10.2.0.0/24"), &["gateway 10.1.0.1 is not in 10.2.0.0/24"]),
            ("ip=dhcp,ip6=auto", Some("10.2.0.0/24"), &[]),
            ("ip=10.1.0.5/24", None, &[]),
            ("ip6=2001:db8:1::5/64,gw6=2001:db8:1::1", Some("10.2.0.0/24"), &[]),
            (
                "ip=10.1.0.5/24,ip6=2001:db8:1::5/64",
                Some("2001:db8:2::/64"),
                &["address 2001:db8:1::5 is not in 2001:db8:2::/64"],
            ),
            ("ip=10.1.0.5/24", Some("nonsense"), &[]),
        ];
        for (ipconfig, subnet, expected) in cases {
            assert_eq!(
                out_of_place(&Addresses::of_ipconfig(ipconfig), &network(subnet)),
                expected,
                "{ipconfig} {subnet:?}"
            );
        }
    }
}
