//! Owns what is asked of a machine's network there: addresses, MAC addresses, and what its firewall rules need
//! (operations-review 19).
use std::collections::BTreeSet;

use federation::Slot;
use federation::migration::{Addresses, out_of_place};
use federation::model::{MacPolicy, Network};
use proxmox::{Error, FirewallRule, NicSpec, VmConfig};

use super::{Findings, Preflight, finding};
use crate::failure::Failure;

impl Preflight<'_> {
    /// Everything about the network.
    pub(super) async fn network(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        self.addresses(config, findings, warnings);
        self.macs(config, findings, warnings).await;
        self.firewall(config, findings, warnings).await;
    }

    /// What a device's slot is on the target, as far as the federation declares it: by name, else by bridge and VLAN.
    fn network_there(&self, slot: Slot) -> Option<(String, Network)> {
        let networks = self.fleet.facts(self.target.name.as_str()).networks;
        let named = self.spec.nics.get(&slot).and_then(|nic| nic.network.as_ref());
        if let Some(name) = named {
            return networks.get(name).map(|network| (name.clone(), network.clone()));
        }
        let place = self.resolved.nics.get(&slot)?;
        networks.into_iter().find(|(_, network)| network.bridge == place.bridge && network.vlan == place.vlan)
    }

    /// Static addresses that cloud-init sets, the configured ones before those that are. What a guest sets by itself is not seen.
    fn addresses(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        for slot in config.nics().unwrap_or_default().into_keys() {
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

    async fn macs(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        let nics = config.nics().unwrap_or_default();
        let macs: Vec<(&String, &str)> = nics.iter().filter_map(|(slot, nic)| Some((slot, nic.mac()?))).collect();
        for (slot, mac) in &macs {
            let there = slot.parse().ok().and_then(|slot| self.network_there(slot));
            if let Some((name, _)) = there.filter(|(_, network)| network.macs == Some(MacPolicy::New)) {
                let text = format!(
                    "{}: {slot} has {mac}, network {name} of {} takes new MAC addresses alone (macs = \"new\"), and a move keeps \
                     them",
                    self.guest.place, self.target.name
                );
                let next = "have the hosting company allow the address, and set macs = \"keep\"";
                findings.push(finding("mac_policy", text, next));
            }
        }
        for other in self.target.macs().await.iter() {
            for (slot, mac) in macs.iter().filter(|(_, mac)| other.macs.contains(&mac.to_uppercase())) {
                let text = format!(
                    "{}: the MAC address {mac} of {slot} is used by {}/{} ({})",
                    self.guest.place, self.target.name, other.vmid, other.name
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

    /// A backup carries the guest's own rules. What they name of the cluster, and whether it filters at all, stays behind.
    async fn firewall(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        if !config.nics().unwrap_or_default().values().any(NicSpec::firewall) {
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
