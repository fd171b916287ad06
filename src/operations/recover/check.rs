//! Owns what is checked before a recovery begins: what a restore needs of the cluster that the machine comes to.
use std::sync::Arc;

use federation::migration::Spread;
use federation::model::MigrationPath;
use federation::{Bytes, Span};

use super::Backup;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Guest, Record};
use crate::journal::Place;
use crate::relocate::{self, Finding, Preflight};
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// What a passed check found out.
pub(super) struct Check {
    bytes: u64,
    spread: Option<Spread>,
    /// What is otherwise there.
    pub(super) warnings: Vec<Failure>,
}

impl Check {
    /// Size of the disks in the backup.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes(self.bytes)
    }

    /// The storage that everything is restored to.
    pub(super) fn restored_to(&self) -> Option<String> {
        self.spread.as_ref().map(|spread| spread.restore.clone())
    }

    /// How long it is predicted to take.
    pub(super) fn takes(&self) -> Span {
        let again = self.spread.as_ref().map_or(0, Spread::bytes);
        // Every byte is written once; what a move reads and writes is twice that.
        Span::from_secs(relocate::predicted_seconds(self.bytes, again, &MigrationPath::default()).div_ceil(2))
    }

    /// Asks everything that can be asked by reading.
    ///
    /// # Errors
    /// Everything that stands in the way, at once.
    pub(super) async fn of(
        fleet: &Fleet,
        site: &Arc<Site>,
        spec: &VmSpec,
        record: &Record,
        backup: &Backup,
        to: &Place,
        resolved: &Resolved,
    ) -> Result<Check, Vec<Finding>> {
        let arrival = relocate::Arrival { site, spec, to, resolved, older: &[] };
        let mut findings = Vec::new();
        arrival.quorum(&mut findings).await;
        let chosen = arrival.storages(&backup.config, &mut findings).await;
        arrival.vmid(&mut findings).await;
        // That the archive can be read was seen.
        relocate::rights(site, arrival.needed(None, chosen.as_ref()).await, &mut findings).await;
        let place = Place { cluster: record.cluster.clone(), node: record.node.clone(), vmid: record.vmid };
        let guest = Guest::archived(place, backup.config.clone());
        let mut warnings = Vec::new();
        let preflight = Preflight { fleet, source: site, target: site, spec, guest: &guest, to, resolved, older: &[] };
        preflight.of_backup(&backup.config, &mut findings, &mut warnings).await;
        if findings.is_empty() {
            return Ok(Check { bytes: relocate::disk_bytes(&backup.config), spread: chosen, warnings });
        }
        Err(findings)
    }
}
