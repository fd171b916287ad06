//! Owns what is checked before a machine is touched: one list with stable ids; what can't be carried is refused here. Each
//! subject has its file; this one runs them all.
mod arrival;
mod beside;
mod direct;
mod idle;
mod images;
mod machine;
mod network;
mod path;
mod processor;
mod rights;
mod storage;

use std::sync::Arc;

use federation::migration::{ACCEPTED_LOSSES, PREFLIGHT, Spread};
use federation::model::{Method, MigrationPath};
use proxmox::VmConfig;

pub(crate) use arrival::{Arrival, rights};
pub(super) use beside::ha_carried;
pub(super) use direct::{bridges, entry, entry_nodes};
pub(super) use idle::Busy;
pub(crate) use images::disk_bytes;
pub(super) use images::{carried, homes, volumes};
pub(super) use machine::holds_a_medium;
pub(super) use network::{Mac, mac_there, made_up};
pub(crate) use path::predicted_seconds;
pub(super) use storage::transfer_of;

use super::older::will_go;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::Guest;
use crate::journal::Place;
use crate::notes::Copy;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// Something that stands in the way of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check found it.
    pub id: &'static str,
    /// What is wrong: cluster, object, privilege or number.
    pub text: String,
    /// What mends it.
    pub next: String,
}

impl std::fmt::Display for Finding {
    /// The check, with the guide's name for it, what is wrong, and what mends it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let check = PREFLIGHT.iter().find(|check| check.id == self.id);
        let guide = check.and_then(|check| check.guide).map(|name| format!(" [{name}]")).unwrap_or_default();
        write!(f, "{}{guide}: {} ({})", self.id, self.text, self.next)
    }
}

/// The checks of one move.
pub struct Preflight<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) source: &'a Arc<Site>,
    pub(crate) target: &'a Arc<Site>,
    pub(crate) spec: &'a VmSpec,
    pub(crate) guest: &'a Guest,
    pub(crate) to: &'a Place,
    pub(crate) resolved: &'a Resolved,
    /// Copies of the machine on the target that make way for it.
    pub(crate) older: &'a [Copy],
}

/// What a passed preflight found out.
pub(super) struct Passed {
    pub(super) path: MigrationPath,
    /// None where the method makes no archive.
    pub(super) transfer: Option<(String, String)>,
    /// None where there is nothing to put on a storage.
    pub(super) spread: Option<Spread>,
    pub(super) ha_state: Option<String>,
    pub(super) warnings: Vec<Failure>,
    /// How long it takes, in seconds: downtime, unless the machine moves while it runs.
    pub(super) predicted: u64,
    /// What has to end before the move can begin.
    pub(super) busy: Option<Busy>,
}

type Findings = Vec<Finding>;

/// Bytes per second that a backup, a restore or a move between storages is assumed to do where no path says less: 100 MiB/s.
const RATE: u64 = 100 << 20;

pub(super) fn finding(id: &'static str, text: impl Into<String>, next: impl Into<String>) -> Finding {
    Finding { id, text: text.into(), next: next.into() }
}

/// All findings as one refusal.
pub(crate) fn refusal(what: &str, findings: &[Finding]) -> Failure {
    let lines: Vec<String> = findings.iter().map(|found| format!("- {found}")).collect();
    Failure::new(what)
        .at(format!("preflight refuses it:\n{}", lines.join("\n")))
        .state("nothing was touched")
        .next("mend what is listed, and apply again")
}

impl Preflight<'_> {
    /// Runs every check.
    ///
    /// # Errors
    /// Everything that stands in the way, at once.
    pub(super) async fn run(&self) -> Result<Passed, Findings> {
        let mut findings = Findings::new();
        let path = self.path(&mut findings);
        let config = match self.source.client.vm_config(&self.guest.place.node, self.guest.place.vmid, true).await {
            Ok(config) => config,
            Err(error) => {
                findings.push(finding("reachable", error.to_string(), crate::create::answering(&error)));
                return Err(findings);
            }
        };
        self.quorum(&mut findings).await;
        self.configuration(&config, &mut findings).await;
        let archive = self.is_by_archive();
        let transfer = if archive { self.transfer(&path, &mut findings).await } else { None };
        let spread = self.target_storage(&config, &mut findings).await;
        self.vmid(&mut findings).await;
        let mut ha_state = None;
        let mut warnings = Vec::new();
        if archive {
            self.rights(&transfer, spread.as_ref(), &mut findings).await;
            ha_state = self.ha(&mut findings).await;
            warnings = self.limits(&path).await;
        } else {
            self.rights_to_send(spread.as_ref(), &mut findings).await;
            self.direct(&path, &config, spread.as_ref(), &mut findings).await;
        }
        let busy = self.lock(&config, &mut findings, &mut warnings).await;
        self.beside(&config, &mut findings, &mut warnings).await;
        self.network(&config, &mut findings, &mut warnings).await;
        self.processor(&config, &mut findings, &mut warnings).await;
        self.bound(&config, &mut findings).await;
        self.machine_type(&config, &mut findings).await;
        warnings.extend(self.older.iter().map(will_go));
        let predicted = self.downtime(&config, spread.as_ref(), &path, &mut findings);
        self.window(&path, predicted, &mut findings);
        if findings.is_empty() {
            return Ok(Passed { path, transfer, spread, ha_state, warnings, predicted, busy });
        }
        Err(findings)
    }

    /// What is asked of a machine of which there is a backup alone: whether the target could run it as it is in there.
    pub(crate) async fn of_backup(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        self.carried_along(config, findings).await;
        self.addresses(config, findings, warnings);
        self.macs(config, findings, warnings).await;
        self.processor(config, findings, warnings).await;
        self.bound(config, findings).await;
        self.machine_type(config, findings).await;
    }

    /// Whether the machine goes through a backup.
    fn is_by_archive(&self) -> bool {
        self.fleet.path(&self.source.name, &self.target.name).method == Method::BackupRestore
    }

    /// What is asked of the target alone.
    fn arrival(&self) -> Arrival<'_> {
        Arrival { site: self.target, spec: self.spec, to: self.to, resolved: self.resolved, older: self.older }
    }

    fn accepts(&self, loss: &str) -> bool {
        debug_assert!(ACCEPTED_LOSSES.contains(&loss), "{loss} is not documented");
        self.spec.migration.accept_loss.contains(loss)
    }

    /// What is lost is refused, or listed where the user accepts it.
    fn lost(&self, found: Finding, loss: &str, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        if self.accepts(loss) {
            let what = format!("A loss is accepted ({})", found.id);
            warnings.push(Failure::new(what).at(found.text));
        } else {
            findings.push(Finding { next: format!("{}, or accept_loss = [\"{loss}\"]", found.next), ..found });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The ids that the checks report, read off their own text: `finding("…"` and `let id = "…"`.
    fn reported() -> BTreeSet<&'static str> {
        let files = [
            include_str!("arrival.rs"),
            include_str!("beside.rs"),
            include_str!("direct.rs"),
            include_str!("idle.rs"),
            include_str!("images.rs"),
            include_str!("machine.rs"),
            include_str!("mod.rs"),
            include_str!("network.rs"),
            include_str!("path.rs"),
            include_str!("processor.rs"),
            include_str!("rights.rs"),
            include_str!("storage.rs"),
        ];
        let texts = files.map(|text| text.split("#[cfg(test)]").next().unwrap_or_default());
        let after = |mark: &'static str| {
            texts
                .into_iter()
                .flat_map(move |text| text.split(mark).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')))
        };
        let quoted = after("finding(").chain(after("let id = ")).filter_map(|rest| rest.split('"').next());
        quoted.collect()
    }

    #[test]
    fn every_check_of_the_list_is_carried_out_and_no_other() {
        // Said as a warning, and the move's own backup, which the step of that name makes.
        let elsewhere = ["bandwidth_limit", "backup_exists", "acl_entries", "backup_coverage"];
        let listed: BTreeSet<&str> =
            PREFLIGHT.iter().map(|check| check.id).filter(|id| !elsewhere.contains(id)).collect();
        assert_eq!(reported(), listed);
    }

    #[test]
    fn a_finding_names_the_check_and_the_guides_name_for_it() {
        let text = finding("snapshots", "vm 100 has snapshots", "remove them").to_string();
        assert_eq!(text, "snapshots [validate_vm_configuration]: vm 100 has snapshots (remove them)");
        assert_eq!(finding("rights", "x", "y").to_string(), "rights: x (y)");
    }
}
