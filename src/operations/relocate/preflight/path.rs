//! Owns what is asked of the way between two clusters: what the path says, whether both can be written to, how long it takes.
use federation::migration::Spread;
use federation::model::{Method, MigrationPath, TransportKind};
use proxmox::VmConfig;

use super::{Findings, Preflight, RATE, arrival, disk_bytes, finding};
use crate::failure::Failure;

impl Preflight<'_> {
    pub(super) fn path(&self, findings: &mut Findings) -> MigrationPath {
        let (from, to) = (&self.source.name, &self.target.name);
        let facts = self.fleet.facts(from.as_str());
        let path = self.fleet.path(from, to);
        if path.method != Method::BackupRestore {
            // Proxmox VE talks to the other cluster over TLS, and to its certificate alone.
            return path;
        }
        if let Some(transport) =
            path.transport.as_ref().filter(|transport| transport.kind != TransportKind::SharedStorage)
        {
            let text =
                format!("the path from {from} to {to} has transport {}, which is not carried out yet", transport.kind);
            findings.push(finding("path", text, "set its transport to shared-storage"));
        }
        if path.encryption_required && !facts.link_encrypted(to) {
            let text = format!("the path from {from} to {to} requires encryption, and shared-storage doesn't encrypt");
            findings.push(finding(
                "encryption",
                text,
                "set `link_encrypted`, or declare a vpn or direct cross-connect",
            ));
        }
        path
    }

    pub(super) async fn quorum(&self, findings: &mut Findings) {
        arrival::quorum(self.source, findings).await;
        arrival::quorum(self.target, findings).await;
    }

    /// Predicted downtime, as [`predicted_seconds`] has it.
    pub(super) fn downtime(
        &self,
        config: &VmConfig,
        spread: Option<&Spread>,
        path: &MigrationPath,
        findings: &mut Findings,
    ) -> u64 {
        let size = disk_bytes(config);
        let again = spread.map_or(0, Spread::bytes);
        let predicted = predicted_seconds(size, again, path);
        if path.method.of(self.guest.running) == Method::StorageMigration {
            // It runs all the while; how long it stands still at the end depends on what it writes.
            return predicted;
        }
        if let Some(most) = self.spec.migration.max_downtime.filter(|most| predicted > most.as_secs_ceil()) {
            let human = federation::Bytes(size).human();
            let copied = federation::Bytes(again).human();
            let copied = if again == 0 { String::new() } else { format!(", {copied} of them copied once more") };
            let text = format!("about {predicted} s of downtime are predicted for {human}{copied}, more than {most}");
            findings.push(finding("max_downtime", text, "raise max_downtime, or the path's max_bandwidth"));
        }
        predicted
    }

    /// A move that would begin outside of the path's window, or is predicted to end outside of it (hazards.md OR 30).
    pub(super) fn window(&self, path: &MigrationPath, predicted: u64, findings: &mut Findings) {
        let Some(window) = &path.window else { return };
        // The source's clock, as its answers give it.
        if let Some(misfit) = window.misfit(self.source.now(), predicted) {
            let text = format!("the path from {} to {} is open {window}: {misfit}", self.source.name, self.target.name);
            findings.push(finding("window", text, "apply again when it is open, or change the path's `window`"));
        }
    }

    /// A rate limit that can't be set is said, never ignored (hazards.md OR 15).
    pub(super) async fn limits(&self, path: &MigrationPath) -> Vec<Failure> {
        let Some(limit) = path.max_bandwidth else { return Vec::new() };
        let may = self.source.client.permissions(Some("/")).await.is_ok_and(|held| held.has("/", "Sys.Modify"));
        if may {
            return Vec::new();
        }
        vec![
            Failure::new("A bandwidth limit is advisory (bandwidth_limit)")
                .at(format!("{} → {}: {limit} binds the restore, not the backup", self.source.name, self.target.name))
                .next("limit the transfer storage itself, or grant Sys.Modify on / (which is a lot)"),
        ]
    }
}

/// Seconds that a move of so many bytes takes: every byte is read once and written once (hazards.md OR 12), at the path's
/// rate where that is declared, else at [`RATE`]. `again`: those that are copied once more, from the storage restored to to
/// another one of the target, which no path slows down (hazards.md OR 13).
pub(crate) fn predicted_seconds(bytes: u64, again: u64, path: &MigrationPath) -> u64 {
    let rate = path.max_bandwidth.map_or(RATE, |limit| (limit.bits_per_second() / 8).clamp(1, RATE));
    // Sent over by Proxmox VE itself it is read and written at once.
    let times = if path.method == Method::BackupRestore { 2 } else { 1 };
    bytes.div_ceil(rate).saturating_mul(times).saturating_add(again.div_ceil(RATE))
}
