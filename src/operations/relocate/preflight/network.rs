//! Owns what is asked of a machine's network there: addresses, MAC addresses, and what its firewall rules need
//! (hazards.md OR 19).
use std::collections::BTreeSet;

use federation::migration::{Addresses, out_of_place};
use federation::model::{MacPolicy, Network};
use federation::{Cluster, Slot};
use proxmox::{Error, FirewallRule, NicSpec, VmConfig};

use super::{Finding, Findings, Preflight, finding};
use crate::failure::Failure;
use crate::site::MacsOf;
use crate::spec::{Resolved, VmSpec};

impl Preflight<'_> {
    /// Everything about the network.
    pub(super) async fn network(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        self.addresses(config, findings, warnings);
        self.macs(config, findings, warnings).await;
        self.firewall(config, findings, warnings).await;
    }

    /// What a device's slot is on the target, as far as the federation declares it.
    fn network_there(&self, slot: Slot) -> Option<(String, Network)> {
        network_of(&self.fleet.facts(self.target.name.as_str()), self.spec, self.resolved, slot)
    }

    /// Static addresses that cloud-init sets, the configured ones before those that are. What a guest sets by itself is not seen.
    pub(super) fn addresses(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        for slot in config.nics().into_keys() {
            let Ok(slot) = slot.parse::<Slot>() else { continue };
            let Some((name, network)) = self.network_there(slot) else { continue };
            let wish = self.spec.cloud_init.as_ref().and_then(|wish| wish.addresses.get(&slot));
            let addresses = match wish {
                Some(wish) => Addresses {
                    own: wish.ipv4.iter().chain(&wish.ipv6).cloned().collect(),
                    gateways: wish.gateway4.iter().chain(&wish.gateway6).cloned().collect(),
                },
                None => Addresses::of_ipconfig(config.get(&format!("ipconfig{}", slot.number())).unwrap_or_default()),
            };
            let wrong = out_of_place(&addresses, &network);
            if !wrong.is_empty() {
                let text = format!(
                    "{}: {slot} becomes network {name} of {}: {}",
                    self.guest.place,
                    self.target.name,
                    wrong.join("; ")
                );
                let next = format!("set `cloud_init.addresses[\"{slot}\"]` to what fits there");
                self.lost(finding("network_identity", text, next), "addresses", findings, warnings);
            }
        }
    }

    pub(super) async fn macs(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        let facts = self.fleet.facts(self.target.name.as_str());
        let place = &self.guest.place;
        let mut macs: Vec<(String, String)> = Vec::new();
        for (slot, nic) in config.nics() {
            let Some(mac) = nic.mac() else { continue };
            match mac_there(&facts, self.spec, self.resolved, &slot, mac) {
                Mac::Kept => macs.push((slot, mac.to_owned())),
                Mac::Set(wanted) => macs.push((slot, wanted)),
                Mac::Made => {
                    let what = format!("A device gets a new MAC address on {} (mac_policy)", self.target.name);
                    warnings.push(Failure::new(what).at(format!("{place}: {slot} has {mac} now")));
                }
                Mac::Refused(network) => {
                    let text = format!(
                        "{place}: {slot} has {mac}, and network {network} of {} takes new MAC addresses alone (macs = \"new\")",
                        self.target.name
                    );
                    let next = "set `mac` of the device to one that may be used there";
                    findings.push(finding("mac_policy", text, next));
                }
            }
        }
        for other in self.target.macs(self.fleet.settings().fact_age.into()).await.iter() {
            let mut same = macs.iter().filter(|(_, mac)| other.macs.contains(&mac.to_uppercase())).peekable();
            if same.peek().is_some() && !other.uuid.is_empty() && other.uuid.eq_ignore_ascii_case(&self.guest.uuid) {
                findings.push(self.own_copy(other));
                continue;
            }
            for (slot, mac) in same {
                let text = format!(
                    "{place}: the MAC address {mac} of {slot} is used by {}/{} ({})",
                    self.target.name, other.vmid, other.name
                );
                findings.push(finding("mac_policy", text, "give one of the two another `mac`"));
            }
        }
        // Without Sys.Audit on / it is not shown.
        let prefix = self.target.client.cluster_options().await.ok();
        let prefix = prefix.as_ref().and_then(|options| options.get("mac_prefix")).and_then(|prefix| prefix.as_str());
        for (slot, mac) in macs {
            if let Some(prefix) = prefix.filter(|prefix| !mac.to_uppercase().starts_with(&prefix.to_uppercase())) {
                let what = format!("A MAC address keeps another prefix than {} gives (mac_policy)", self.target.name);
                let text = format!("{}: {slot} has {mac}, the prefix there is {prefix}", self.guest.place);
                warnings.push(Failure::new(what).at(text));
            }
        }
    }

    /// A copy of the machine itself that could be started beside it. Whether it ran meanwhile nobody can tell, so that it is not removed.
    fn own_copy(&self, other: &MacsOf) -> Finding {
        let (cluster, node, vmid) = (&self.target.name, &other.node, other.vmid);
        let text = format!(
            "{cluster}/{vmid} is a copy of this machine, and somebody took its fence or lock off: started, it would run beside the machine, \
             with its MAC addresses"
        );
        // With other notes nothing takes it for what a move left any more, which would be older than the machine.
        let fence =
            format!("qm set {vmid} --template 1 --protection 1 --description \"It was unfenced: see what it holds\"");
        finding("mac_policy", text, format!("fence it, which keeps it: on {node}: {fence}"))
    }

    /// A backup carries the guest's own rules. What they name of the cluster, and whether it filters at all, stays behind.
    async fn firewall(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        if !config.nics().values().any(NicSpec::firewall) {
            return;
        }
        let missing = match self.unfiltered().await {
            Ok(missing) => missing,
            Err(error) => {
                let text = format!("{}: what its firewall needs can't be told: {error}", self.guest.place);
                let next = "let the tokens read firewalls (VM.Audit, and Sys.Audit on /)";
                return self.lost(finding("firewall_parity", text, next), "firewall", findings, warnings);
            }
        };
        if !missing.is_empty() {
            let text = format!(
                "{} is filtered by the firewall; on {} {}",
                self.guest.place,
                self.target.name,
                missing.join(", and ")
            );
            let next = "see to the firewall there (Datacenter → Firewall)";
            self.lost(finding("firewall_parity", text, next), "firewall", findings, warnings);
        }
    }

    /// What the target lacks to filter the machine as the source does.
    async fn unfiltered(&self) -> Result<Vec<String>, Error> {
        let place = &self.guest.place;
        let (source, target) = (&self.source.client, &self.target.client);
        if !source.guest_firewall(&place.node, place.vmid).await?.enabled()
            || !source.cluster_firewall().await?.enabled()
        {
            return Ok(Vec::new());
        }
        let mut missing = Vec::new();
        if !target.cluster_firewall().await?.enabled() {
            missing.push("the firewall is off".to_owned());
        }
        let rules = source.guest_firewall_rules(&place.node, place.vmid).await?;
        let refs = source.cluster_firewall_refs().await?;
        let here = refs.into_iter().map(|known| named(&known.kind, &known.name)).collect();
        let needed = needed(&rules, &here);
        if needed.is_empty() {
            return Ok(missing);
        }
        let mut there: BTreeSet<String> =
            target.cluster_firewall_refs().await?.into_iter().map(|known| named(&known.kind, &known.name)).collect();
        there.extend(target.security_groups().await?.iter().map(|group| named("group", group)));
        let lacking: Vec<&str> = needed.iter().filter(|name| !there.contains(*name)).map(String::as_str).collect();
        if !lacking.is_empty() {
            missing.push(format!("there is no {}", lacking.join(", ")));
        }
        Ok(missing)
    }
}

/// What becomes of a device's MAC address in a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relocate) enum Mac {
    /// It stays.
    Kept,
    /// The configuration names another.
    Set(String),
    /// One is made up.
    Made,
    /// It would stay, and this network takes new ones alone.
    Refused(String),
}

/// What becomes of the MAC address `mac` of a device: it stays, unless the network there takes new ones alone. A wish that is not
/// known yet leaves it to us.
pub(in crate::relocate) fn mac_there(
    facts: &Cluster,
    spec: &VmSpec,
    resolved: &Resolved,
    slot: &str,
    mac: &str,
) -> Mac {
    let Ok(slot) = slot.parse::<Slot>() else { return Mac::Kept };
    let network = network_of(facts, spec, resolved, slot);
    let Some((name, _)) = network.filter(|(_, network)| network.macs == Some(MacPolicy::New)) else { return Mac::Kept };
    match spec.nics.get(&slot).map(|nic| nic.mac.as_deref()) {
        Some(None) => Mac::Made,
        Some(Some(wanted)) if !wanted.eq_ignore_ascii_case(mac) => Mac::Set(wanted.to_uppercase()),
        _ => Mac::Refused(name),
    }
}

/// The network that a device becomes on a cluster: by its name, else by bridge and VLAN.
fn network_of(facts: &Cluster, spec: &VmSpec, resolved: &Resolved, slot: Slot) -> Option<(String, Network)> {
    let named = spec.nics.get(&slot).and_then(|nic| nic.network.as_ref());
    if let Some(name) = named {
        return facts.networks.get(name).map(|network| (name.clone(), network.clone()));
    }
    let place = resolved.nics.get(&slot)?;
    facts.network_on(&place.bridge, place.vlan).map(|(name, network)| (name.clone(), network.clone()))
}

/// A MAC address of its own for a device of an operation: the cluster's prefix, and digits that are the same in every process.
pub(in crate::relocate) fn made_up(prefix: &str, operation: &str, slot: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{operation} {slot}"));
    let own = digest.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let digits: Vec<char> = prefix.to_uppercase().chars().filter(char::is_ascii_hexdigit).chain(own.chars()).collect();
    digits[..12].chunks(2).map(|pair| pair.iter().collect::<String>()).collect::<Vec<_>>().join(":")
}

/// One spelling for what a rule names; Proxmox VE ignores the case of names.
fn named(kind: &str, name: &str) -> String {
    format!("{kind} {}", name.to_lowercase())
}

/// What of the cluster enabled rules name: security groups, and what is `dc/…` or, without saying whose it is, is the cluster's
/// (`here`). What is `guest/…` goes along.
fn needed(rules: &[FirewallRule], here: &BTreeSet<String>) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    for rule in rules.iter().filter(|rule| rule.enable != Some(false)) {
        if rule.kind == "group" {
            needed.insert(named("group", &rule.action));
        }
        for part in rule.source.iter().chain(&rule.dest).flat_map(|list| list.split(',')) {
            let part = part.trim();
            let (kind, name) = part.strip_prefix('+').map_or(("alias", part), |name| ("ipset", name));
            match name.split_once('/') {
                Some(("dc", name)) => {
                    needed.insert(named(kind, name));
                }
                None if here.contains(&named(kind, name)) => {
                    needed.insert(named(kind, name));
                }
                _ => {}
            }
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: &str, action: &str, source: &str) -> FirewallRule {
        let source = Some(source.to_owned()).filter(|source| !source.is_empty());
        FirewallRule { kind: kind.into(), action: action.into(), source, dest: None, enable: None }
    }

    #[test]
    fn a_mac_address_that_is_made_up_has_the_prefix_and_is_the_same_again() {
        let made = made_up("02:ab:c", "op", "net0");
        assert!(made.starts_with("02:AB:C") && made.len() == 17, "{made}");
        assert_eq!(made, made_up("02:AB:C", "op", "net0"));
        assert!(made != made_up("02:AB:C", "op", "net1") && made != made_up("02:AB:C", "other", "net0"));
        assert_eq!(made_up("02:00:00:00:00:01", "op", "net0"), "02:00:00:00:00:01");
    }

    #[test]
    fn rules_need_what_is_the_clusters_and_nothing_of_the_guests() {
        let here = ["ipset office", "alias gateway"].map(str::to_owned).into();
        let off = FirewallRule { enable: Some(false), ..rule("group", "old", "") };
        let rules = [
            rule("group", "Web", ""),
            rule("in", "ACCEPT", "+office,10.0.0.0/8,192.0.2.1-192.0.2.9"),
            rule("in", "ACCEPT", "+dc/Partners, dc/backup"),
            rule("in", "ACCEPT", "gateway"),
            rule("in", "ACCEPT", "+guest/own,guest/mine,mine"),
            rule("out", "DROP", ""),
            off,
        ];
        let found: Vec<String> = needed(&rules, &here).into_iter().collect();
        assert_eq!(found, ["alias backup", "alias gateway", "group web", "ipset office", "ipset partners"]);
    }
}
