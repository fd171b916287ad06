//! Owns what the token must be able to do, and what the target must let it have: rights, the VMID, HA.
use federation::migration::Spread;

use super::{Findings, Preflight, finding};
use crate::ha;

impl Preflight<'_> {
    pub(super) async fn vmid(&self, findings: &mut Findings) {
        let Ok(overview) = self.target.fresh().await else { return };
        let free =
            overview.guest(self.to.vmid).is_none() && self.target.client.next_id(Some(self.to.vmid)).await.is_ok();
        if !free {
            let text = format!("VMID {} is taken on {}", self.to.vmid, self.target.name);
            findings.push(finding("vmid_free", text, "set `vmid` to a free one"));
        }
    }

    /// Every right that the steps need, on both sides (`pve-behaviour.md` §1.4, §17), all missing ones at once.
    pub(super) async fn rights(
        &self,
        transfer: &Option<(String, String)>,
        spread: Option<&Spread>,
        findings: &mut Findings,
    ) {
        let vm = |vmid: u32| format!("/vms/{vmid}");
        let pool = self.spec.pool.as_ref().map(|pool| format!("/pool/{pool}"));
        let operations = "/pool/moxxie-moves".to_owned();
        let mut source = vec![
            (
                vm(self.guest.place.vmid),
                vec!["VM.Audit", "VM.Backup", "VM.PowerMgmt", "VM.Config.Options", "VM.Allocate"],
            ),
            (operations.clone(), vec!["Pool.Allocate"]),
        ];
        let at_target = pool.unwrap_or_else(|| vm(self.to.vmid));
        let mut on_target = vec!["VM.Allocate", "VM.Audit", "VM.PowerMgmt", "VM.Config.Options", "VM.Config.Network"];
        if spread.is_some_and(|spread| !spread.moves.is_empty()) {
            on_target.push("VM.Config.Disk");
        }
        let mut target = vec![(at_target, on_target), (operations, vec!["Pool.Allocate"])];
        if let Some((here, there)) = transfer {
            source.push((format!("/storage/{here}"), vec!["Datastore.AllocateSpace", "Datastore.Allocate"]));
            target.push((format!("/storage/{there}"), vec!["Datastore.Audit"]));
        }
        for storage in self.resolved.storages.values() {
            target.push((format!("/storage/{storage}"), vec!["Datastore.AllocateSpace"]));
        }
        for (site, needed) in [(self.source, source), (self.target, target)] {
            let Ok(all) = site.client.permissions(None).await else { continue };
            for (path, privileges) in needed {
                // The list names every path with an ACL; what is below one is asked for by path.
                let held = match site.client.permissions(Some(&path)).await {
                    Ok(held) => held,
                    Err(_) => all.clone(),
                };
                for privilege in held.missing(&path, &privileges) {
                    let text = format!("cluster {}: the token lacks {privilege} on {path}", site.name);
                    findings.push(finding("rights", text, "grant it"));
                }
            }
        }
    }

    /// The HA state to set aside, where the machine has a resource: an `ignored` one goes with the source too.
    pub(super) async fn ha(&self, findings: &mut Findings) -> Option<String> {
        let place = &self.guest.place;
        let status = self.source.client.vm_status(&place.node, place.vmid).await.ok()?;
        match self.source.client.ha_resource(place.vmid).await {
            Ok(Some(resource)) => {
                if let Some(lacking) = self.source.lacks_ha().await {
                    let text = format!("cluster {}, {place}: {lacking}", self.source.name);
                    findings.push(finding("ha_attached", text, ha::without_the_right(place)));
                }
                resource.state
            }
            Ok(None) => None,
            // Where it can't be read the machine's own status says whether HA manages it.
            Err(error) if error.is_permission_denied() && !status.ha.managed => None,
            Err(error) => {
                findings.push(finding(
                    "ha_attached",
                    error.to_string(),
                    "let the token see HA resources (Sys.Audit on /)",
                ));
                None
            }
        }
    }
}
