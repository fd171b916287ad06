//! Owns the value of a network device: `virtio=MAC,bridge=vmbr0,tag=5,…`.

use std::{convert::Infallible, fmt, str::FromStr};

use crate::PropertyString;

/// Models that Proxmox VE has (`pve-schema.json`), each of which may stand as the key of the MAC address.
pub const NIC_MODELS: [&str; 15] = [
    "virtio",
    "e1000",
    "e1000e",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
    "i82551",
    "i82557b",
    "i82559er",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "vmxnet3",
    "igb",
];

fn is_mac(text: &str) -> bool {
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(pair)
}

/// A network device of a guest (`net0`, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicSpec(PropertyString);

impl NicSpec {
    /// A device of this model; PVE makes up a MAC address unless one is set.
    pub fn new(model: &str) -> Self {
        let mut properties = PropertyString::new();
        properties.set("model", model);
        Self(properties)
    }

    /// The key that is a model and carries the MAC address: one we know, or one of a version to come.
    fn model_key(&self) -> Option<&str> {
        let known = self.0.iter().find_map(|(key, _)| key.filter(|key| NIC_MODELS.contains(key)));
        let carries = |(key, value): (_, &str)| Option::filter(key, |key| *key != "macaddr" && is_mac(value));
        known.or_else(|| self.0.iter().find_map(carries))
    }

    /// The model, for example `virtio`; empty in a line that names none.
    pub fn model(&self) -> &str {
        self.model_key().or_else(|| self.0.get("model")).or_else(|| self.0.default_value()).unwrap_or_default()
    }

    /// The MAC address as PVE wrote it.
    pub fn mac(&self) -> Option<&str> {
        self.model_key().and_then(|key| self.0.get(key)).or_else(|| self.0.get("macaddr"))
    }

    /// Sets model and MAC address, in place.
    pub fn set_model(&mut self, model: &str, mac: Option<&str>) {
        let old = self.model_key().map(str::to_owned);
        let old = old.or_else(|| self.0.get("model").map(|_| "model".to_owned()));
        self.0.remove("macaddr");
        match mac {
            Some(mac) => self.0.rename(old.as_deref(), model, mac),
            None => self.0.rename(old.as_deref(), "model", model),
        }
    }

    /// Sets the MAC address, or lets PVE make up a new one.
    pub fn set_mac(&mut self, mac: Option<&str>) {
        let model = self.model().to_owned();
        self.set_model(&model, mac);
    }

    /// The bridge or vnet; without one PVE uses NAT.
    pub fn bridge(&self) -> Option<&str> {
        self.0.get("bridge")
    }

    /// Sets the bridge or vnet.
    pub fn set_bridge(&mut self, bridge: &str) {
        self.0.set("bridge", bridge);
    }

    /// The VLAN, 1–4094.
    pub fn tag(&self) -> Option<u16> {
        self.0.get("tag").and_then(|tag| tag.parse().ok())
    }

    /// Sets or removes the VLAN.
    pub fn set_tag(&mut self, tag: Option<u16>) {
        self.set_option("tag", tag.map(|tag| tag.to_string()).as_deref());
    }

    /// Whether the guest's firewall applies (default false).
    pub fn firewall(&self) -> bool {
        self.0.get_bool("firewall").unwrap_or(false)
    }

    /// Sets whether the guest's firewall applies.
    pub fn set_firewall(&mut self, firewall: bool) {
        self.set_option("firewall", firewall.then_some("1"));
    }

    /// Whether the cable is unplugged (default false).
    pub fn link_down(&self) -> bool {
        self.0.get_bool("link_down").unwrap_or(false)
    }

    /// Plugs or unplugs the cable.
    pub fn set_link_down(&mut self, down: bool) {
        self.set_option("link_down", down.then_some("1"));
    }

    /// Another option's value.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.0.get(key)
    }

    /// Sets an option in its place, or removes it.
    pub fn set_option(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.0.set(key, value),
            None => {
                self.0.remove(key);
            }
        }
    }

    /// All entries in order.
    pub fn properties(&self) -> &PropertyString {
        &self.0
    }
}

impl FromStr for NicSpec {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        text.parse().map(Self)
    }
}

impl fmt::Display for NicSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_nic_is_taken_apart_and_kept() {
        let text = "virtio=BC:24:11:AA:BB:CC,bridge=vmbr0,queues=4,tag=5,firewall=1";
        let mut nic: NicSpec = text.parse().unwrap();
        assert_eq!((nic.model(), nic.mac(), nic.bridge()), ("virtio", Some("BC:24:11:AA:BB:CC"), Some("vmbr0")));
        assert_eq!((nic.tag(), nic.firewall(), nic.link_down()), (Some(5), true, false));
        assert_eq!(nic.to_string(), text);
        nic.set_bridge("vmbr1");
        nic.set_tag(None);
        nic.set_link_down(true);
        assert_eq!(nic.to_string(), "virtio=BC:24:11:AA:BB:CC,bridge=vmbr1,queues=4,firewall=1,link_down=1");
        nic.set_mac(None);
        assert_eq!((nic.model(), nic.mac()), ("virtio", None));
        assert_eq!(nic.to_string(), "model=virtio,bridge=vmbr1,queues=4,firewall=1,link_down=1");
        nic.set_model("e1000", Some("BC:24:11:00:00:01"));
        assert_eq!(nic.to_string(), "e1000=BC:24:11:00:00:01,bridge=vmbr1,queues=4,firewall=1,link_down=1");
    }

    #[test]
    fn other_spellings_of_the_model() {
        let long: NicSpec = "model=vmxnet3,macaddr=BC:24:11:00:00:02,bridge=vmbr0".parse().unwrap();
        assert_eq!((long.model(), long.mac()), ("vmxnet3", Some("BC:24:11:00:00:02")));
        let mut short: NicSpec = "virtio,bridge=vmbr0".parse().unwrap();
        assert_eq!((short.model(), short.mac()), ("virtio", None));
        short.set_mac(Some("BC:24:11:00:00:03"));
        assert_eq!(short.to_string(), "virtio=BC:24:11:00:00:03,bridge=vmbr0");
        let bare: NicSpec = "bridge=vmbr0".parse().unwrap();
        assert_eq!((bare.model(), bare.mac(), bare.bridge()), ("", None, Some("vmbr0")));
        let new: NicSpec = "model-to-come=BC:24:11:00:00:04,bridge=vmbr0".parse().unwrap();
        assert_eq!((new.model(), new.mac()), ("model-to-come", Some("BC:24:11:00:00:04")));
    }

    proptest! {
        #[test]
        fn nics_survive(
            model in proptest::sample::select(&NIC_MODELS[..]),
            mac in proptest::option::of("([0-9A-F]{2}:){5}[0-9A-F]{2}"),
            tag in proptest::option::of(1u16..4095),
            down: bool,
        ) {
            let mut nic = NicSpec::new(model);
            nic.set_mac(mac.as_deref());
            nic.set_bridge("vmbr0");
            nic.set_tag(tag);
            nic.set_link_down(down);
            let read: NicSpec = nic.to_string().parse().unwrap();
            prop_assert_eq!((read.model(), read.mac(), read.tag(), read.link_down()), (model, mac.as_deref(), tag, down));
            prop_assert_eq!(read, nic);
        }
    }
}
