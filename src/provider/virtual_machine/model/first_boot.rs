//! Owns reading what a machine is made from, what it boots from, and what it is told at its first boot.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use federation::Slot;
use operations::{AddressWish, CloneWish, CloudInitWish, RebootPolicy};
use protocol::{AttributePath, Value};

use super::Reader;
use crate::values::text;

/// Whether a machine boots from a device of this key (the format `pve-qm-bootdev`).
fn boots(device: &str) -> bool {
    let numbered = |stem: &str, most: u8| {
        let number = device.strip_prefix(stem).filter(|number| !number.starts_with('0') || *number == "0");
        number.is_some_and(|number| number.parse::<u8>().is_ok_and(|number| number <= most))
    };
    device.parse::<Slot>().is_ok() || numbered("usb", 13) || numbered("hostpci", 15)
}

/// Whether a text is an accepted address.
type Check<'a> = &'a dyn Fn(&str) -> bool;

impl Reader<'_> {
    pub(super) fn clone_of(&mut self, value: &Value) -> Option<CloneWish> {
        let template = text(value, "template")?;
        if template.trim().is_empty() {
            let detail = "Name a template, as Proxmox VE shows it.";
            self.diags.error_at(AttributePath::new("clone").attribute("template"), "A template needs a name", detail);
        }
        Some(CloneWish { template, storage: text(value, "storage") })
    }

    pub(super) fn reboot_policy(&mut self, value: &Value) -> RebootPolicy {
        self.word(value, &AttributePath::root(), "reboot_policy", &["warn", "reboot"]);
        if value.attr("reboot_policy").as_str() == Some("reboot") { RebootPolicy::Reboot } else { RebootPolicy::Warn }
    }

    pub(super) fn boot_order(&mut self, value: &Value) -> Option<Vec<String>> {
        let mut order: Vec<String> = Vec::new();
        let devices = value.attr("boot_order").as_list()?;
        for (index, device) in (0..).zip(devices) {
            // A device that is not known yet is read at apply.
            let device = device.as_str()?;
            let at = || AttributePath::new("boot_order").index(index);
            if !boots(device) {
                let detail = format!(
                    "{device:?} is nothing to boot from: `scsi0`, `net0`, and also `usb0–13` and `hostpci0–15`."
                );
                self.diags.error_at(at(), "No such slot", detail);
            }
            order.push(device.to_owned());
        }
        Some(order)
    }

    pub(super) fn cloud_init(&mut self, value: &Value) -> Option<CloudInitWish> {
        if value.is_null() || value.is_unknown() {
            return None;
        }
        let path = AttributePath::new("cloud_init");
        self.number(value, &path, "password_wo_version", 0, u32::MAX);
        let list = |name: &str| -> Option<Vec<String>> {
            let items = value.attr(name).as_list()?;
            Some(items.iter().filter_map(Value::as_str).map(|item| item.trim().to_owned()).collect())
        };
        let (ssh_keys, dns) = (list("ssh_keys"), list("dns"));
        for (index, key) in (0..).zip(ssh_keys.iter().flatten()) {
            if key.is_empty() || key.contains('\n') || !key.contains(' ') {
                let detail = "One line of an authorized_keys file: `ssh-ed25519 AAAA… name`.";
                self.diags.error_at(path.clone().attribute("ssh_keys").index(index), "Not a public key", detail);
            }
        }
        for (index, server) in (0..).zip(dns.iter().flatten()) {
            if server.parse::<IpAddr>().is_err() {
                let detail = format!("{server:?} is not an IP address.");
                self.diags.error_at(path.clone().attribute("dns").index(index), "Not an address", detail);
            }
        }
        let user = text(value, "user");
        if user.as_deref().is_some_and(|user| user.chars().any(char::is_control)) {
            let detail = "Proxmox VE would take a line feed for the end of the value.";
            self.diags.error_at(path.clone().attribute("user"), "Invalid user", detail);
        }
        let mut wish = CloudInitWish { user, ssh_keys, dns, ..CloudInitWish::default() };
        for (key, addresses) in value.attr("addresses").as_map().into_iter().flatten() {
            let at = path.clone().attribute("addresses").key(key.as_str());
            match key.parse::<Slot>() {
                Ok(slot) if !slot.is_disk() => {
                    // One that is not known yet is one.
                    let known = ["ipv4", "ipv6"].iter().all(|name| !addresses.attr(name).is_unknown());
                    let addresses = self.addresses(addresses, &at);
                    if known && addresses == AddressWish::default() {
                        let detail = "Set `ipv4`, `ipv6`, or both.";
                        self.diags.error_at(at, "A network device without an address", detail);
                    } else {
                        wish.addresses.insert(slot, addresses);
                    }
                }
                _ => self.diags.error_at(at, "No such slot", format!("{key:?} is not a network slot: net0–31.")),
            }
        }
        Some(wish)
    }

    fn addresses(&mut self, value: &Value, path: &AttributePath) -> AddressWish {
        let wish = AddressWish {
            ipv4: text(value, "ipv4"),
            gateway4: text(value, "gateway4"),
            ipv6: text(value, "ipv6"),
            gateway6: text(value, "gateway6"),
        };
        let prefixed = |text: &str, most: u8, is: fn(&str) -> bool| {
            text.split_once('/').is_some_and(|(ip, prefix)| is(ip) && prefix.parse::<u8>().is_ok_and(|n| n <= most))
        };
        let v4 = |ip: &str| ip.parse::<Ipv4Addr>().is_ok();
        let v6 = |ip: &str| ip.parse::<Ipv6Addr>().is_ok();
        let checks: [(&str, &Option<String>, Check<'_>, &str); 4] = [
            (
                "ipv4",
                &wish.ipv4,
                &|ip| ip == "dhcp" || prefixed(ip, 32, v4),
                "`dhcp`, or an address with its prefix: `10.1.2.3/24`",
            ),
            ("gateway4", &wish.gateway4, &v4, "an IPv4 address: `10.1.2.1`"),
            (
                "ipv6",
                &wish.ipv6,
                &|ip| ip == "dhcp" || ip == "auto" || prefixed(ip, 128, v6),
                "`auto`, `dhcp`, or an address with its prefix: `2001:db8::3/64`",
            ),
            ("gateway6", &wish.gateway6, &v6, "an IPv6 address: `2001:db8::1`"),
        ];
        for (name, given, is_good, accepted) in checks {
            if let Some(given) = given.as_deref().filter(|given| !is_good(given)) {
                let detail = format!("{given:?}: {accepted} is accepted.");
                self.diags.error_at(path.clone().attribute(name), "Not an address", detail);
            }
        }
        let gateways = [("gateway4", &wish.gateway4, &wish.ipv4), ("gateway6", &wish.gateway6, &wish.ipv6)];
        for (name, gateway, address) in gateways {
            // An address that is not known yet may be anything.
            let own = value.attr(if name == "gateway4" { "ipv4" } else { "ipv6" });
            if gateway.is_some() && !own.is_unknown() && address.as_deref().is_none_or(|address| !address.contains('/'))
            {
                let detail = "A gateway goes with a fixed address.";
                self.diags.error_at(path.clone().attribute(name), "A gateway without an address", detail);
            }
        }
        wish
    }
}
