//! Subnets in CIDR notation.

use std::net::IpAddr;
use std::str::FromStr;

/// A subnet in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address, as a 128-bit number for IPv6 and a 32-bit one for IPv4.
    network: u128,
    prefix: u32,
    bits: u32,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidr, String> {
        let wrong = || format!("{text:?} is not a subnet; accepted: an address and a prefix, \"10.0.0.0/16\"");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u32 = prefix.parse().map_err(|_| wrong())?;
        let (number, bits) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        if prefix > bits {
            return Err(wrong());
        }
        Ok(Cidr { network: number >> (bits - prefix).min(127), prefix, bits })
    }
}

impl Cidr {
    /// Whether an address lies in both.
    pub fn overlaps(self, other: Cidr) -> bool {
        let shortest = self.prefix.min(other.prefix);
        let cut = |cidr: Cidr| cidr.network >> (cidr.prefix - shortest).min(127);
        self.bits == other.bits && (shortest == 0 || cut(self) == cut(other))
    }

    /// Whether an address lies inside.
    pub fn holds(self, address: IpAddr) -> bool {
        Cidr::from_str(&format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }))
            .is_ok_and(|one| one.overlaps(self))
    }
}
