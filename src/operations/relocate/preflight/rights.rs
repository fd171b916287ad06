//! Owns what the token must be able to do, and what the target must let it have: rights, the VMID, HA.
use federation::migration::Spread;

use super::{Findings, Preflight, arrival, finding};
use crate::ha;
use crate::journal::OPERATIONS;

impl Preflight<'_> {
    pub(super) async fn vmid(&self, findings: &mut Findings) {
        self.arrival().vmid(findings).await;
    }

    /// Every right that the steps need, on both sides (`proxmox-ve.md` §1.4, §17), all missing ones at once.
    pub(super) async fn rights(
        &self,
        transfer: &Option<(String, String)>,
        spread: Option<&Spread>,
        findings: &mut Findings,
    ) {
        let mut source = vec![
            (
                format!("/vms/{}", self.guest.place.vmid),
                vec!["VM.Audit", "VM.Backup", "VM.PowerMgmt", "VM.Config.Options", "VM.Allocate"],
            ),
            (format!("/pool/{OPERATIONS}"), vec!["Pool.Allocate"]),
        ];
        if let Some((here, _)) = transfer {
            source.push((format!("/storage/{here}"), vec!["Datastore.AllocateSpace", "Datastore.Allocate"]));
        }
        let archive = transfer.as_ref().map(|(_, there)| (there.as_str(), vec!["Datastore.Audit"]));
        let target = self.arrival().needed(archive, spread).await;
        arrival::rights(self.source, source, findings).await;
        arrival::rights(self.target, target, findings).await;
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
