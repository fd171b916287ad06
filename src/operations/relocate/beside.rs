//! Owns what lies beside a machine and doesn't go along by itself (HA, replication, rights, backup jobs), and what of it is set
//! up on the target; and what its processor needs there.
use federation::migration::ACCEPTED_LOSSES;
use proxmox::{BackupJob, Error, HaRule, Params, VmConfig};

use super::preflight::{Finding, Preflight, finding};
use crate::failure::Failure;
use crate::notes::{self, Copy, Kept, Mark};
use crate::site::Site;
use crate::spec::Source;

type Findings = Vec<Finding>;

/// What HA on the target is told of a machine.
pub(super) struct HaCarried {
    /// Everything of the resource but its state.
    pub(super) params: Params,
    /// The target's rules that it joins.
    pub(super) rules: Vec<HaRule>,
    /// Groups and rules of the source that the target doesn't have.
    pub(super) skipped: Vec<String>,
}

/// What of a machine's HA the target can take: a rule or group of the same name there is taken for the same. The nodes that it
/// names are each cluster's own.
///
/// # Errors
/// What the clusters said.
pub(super) async fn ha_carried(source: &Site, target: &Site, vmid: u32) -> Result<Option<HaCarried>, Error> {
    let Some(resource) = source.client.ha_resource(vmid).await? else { return Ok(None) };
    let (here, there) = tokio::try_join!(source.client.version(), target.client.version())?;
    let mut wanted: Vec<(String, String)> = Vec::new();
    wanted.extend(resource.group.clone().map(|group| (group, "node-affinity".to_owned())));
    if here.has_ha_rules() {
        let of_it = |rule: &HaRule| rule.resources.contains(&resource.sid);
        let rules = source.client.ha_rules().await?;
        wanted.extend(rules.into_iter().filter(of_it).map(|rule| (rule.rule, rule.kind)));
    }
    let mut params = Params::new()
        .opt("comment", resource.comment.as_ref())
        .opt("max_restart", resource.max_restart)
        .opt("max_relocate", resource.max_relocate);
    let (mut rules, mut skipped) = (Vec::new(), Vec::new());
    if wanted.is_empty() {
        return Ok(Some(HaCarried { params, rules, skipped }));
    }
    let known = if there.has_ha_rules() { target.client.ha_rules().await? } else { Vec::new() };
    let groups = if there.has_ha_rules() { Vec::new() } else { target.client.ha_groups().await? };
    for (name, kind) in wanted {
        if let Some(rule) = known.iter().find(|rule| rule.rule == name && rule.kind == kind) {
            rules.push(rule.clone());
        } else if kind == "node-affinity" && groups.contains(&name) {
            params = params.set("group", &name);
        } else {
            skipped.push(name);
        }
    }
    Ok(Some(HaCarried { params, rules, skipped }))
}

/// Flags that a model needs beyond what every processor of PVE has, as `/proc/cpuinfo` names them.
const V2: [&str; 7] = ["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"];
const V3: [&str; 9] = ["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"];
const V4: [&str; 5] = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];

fn flags_of(model: &str) -> Vec<&'static str> {
    let (v2, aes, v3, v4) = match model {
        "x86-64-v2" => (true, false, false, false),
        "x86-64-v2-AES" => (true, true, false, false),
        "x86-64-v3" => (true, true, true, false),
        "x86-64-v4" => (true, true, true, true),
        _ => (false, false, false, false),
    };
    let parts: [(bool, &[&str]); 4] = [(v2, &V2), (aes, &["aes"]), (v3, &V3), (v4, &V4)];
    parts.into_iter().filter(|(wanted, _)| *wanted).flat_map(|(_, flags)| flags.iter().copied()).collect()
}

impl Preflight<'_> {
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

    /// What doesn't go along by itself.
    pub(super) async fn beside(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        self.ha_there(findings, warnings).await;
        self.replication(findings, warnings).await;
        self.acl(warnings).await;
        self.backup_jobs(warnings).await;
        self.processor(config, findings, warnings).await;
        self.notes_fit(config, findings);
    }

    async fn ha_there(&self, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        let place = &self.guest.place;
        let Ok(Some(carried)) = ha_carried(self.source, self.target, place.vmid).await else { return };
        let held = self.target.client.permissions(Some("/")).await;
        if !held.is_ok_and(|held| held.has("/", "Sys.Console")) {
            let text = format!(
                "{place} is managed by HA; on {} the token can't manage it (Sys.Console on /), so it would not be",
                self.target.name
            );
            return self.lost(finding("ha_target", text, "grant it"), "ha", findings, warnings);
        }
        if !carried.skipped.is_empty() {
            let text = format!(
                "{place} is bound by HA groups or rules that {} doesn't have: {}",
                self.target.name,
                carried.skipped.join(", ")
            );
            self.lost(finding("ha_rules", text, "make them there"), "ha-rules", findings, warnings);
        }
    }

    /// Replication stays where it is: needless for a backup, and its copy inside the cluster is lost with the job
    /// (operations-review 26). Proxmox VE removes no guest that has a job.
    async fn replication(&self, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        let place = &self.guest.place;
        let Ok(jobs) = self.source.client.replication_jobs().await else { return };
        let jobs: Vec<String> =
            jobs.into_iter().filter(|job| job.guest == Some(place.vmid)).map(|job| job.id).collect();
        if jobs.is_empty() {
            return;
        }
        let text = format!("{place} has replication jobs, which stay behind: {}", jobs.join(", "));
        if self.spec.migration.source == Source::Delete {
            let next = "remove them first, for a guest with a job can't be removed; or set source = \"keep\"";
            findings.push(finding("replication", text, next));
        } else {
            warnings.push(Failure::new("Replication does not go along (replication)").at(text));
        }
    }

    async fn acl(&self, warnings: &mut Vec<Failure>) {
        let path = format!("/vms/{}", self.guest.place.vmid);
        let Ok(entries) = self.source.client.acl().await else { return };
        let of_it: Vec<String> = entries
            .into_iter()
            .filter(|entry| entry.path == path)
            .map(|entry| format!("{} ({})", entry.ugid, entry.roleid))
            .collect();
        if !of_it.is_empty() {
            let what = format!("{} access rules will not exist on {} (acl_entries)", of_it.len(), self.target.name);
            let next = "grant them there, best on the pool";
            warnings.push(Failure::new(what).at(format!("{path}: {}", of_it.join(", "))).next(next));
        }
    }

    /// A machine that is backed up here and would not be there (operations-review 25).
    async fn backup_jobs(&self, warnings: &mut Vec<Failure>) {
        let (here, there) = tokio::join!(self.source.client.backup_jobs(), self.target.client.backup_jobs());
        let (Ok(here), Ok(there)) = (here, there) else { return };
        let pool = self.spec.pool.as_ref().map(|pool| pool.as_str());
        let covered = |jobs: &[BackupJob], vmid: u32| jobs.iter().any(|job| job.covers(vmid, pool));
        if covered(&here, self.guest.place.vmid) && !covered(&there, self.to.vmid) {
            let what = format!("The machine will have no scheduled backup on {} (backup_coverage)", self.target.name);
            let next = "add its pool to a backup job there";
            warnings.push(Failure::new(what).at(format!("{} is covered now", self.guest.place)).next(next));
        }
    }

    /// A model that the target's processor lacks fails at the start only, past the point of no return (operations-review 35).
    async fn processor(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        let model = config.cpu_type().unwrap_or("kvm64");
        if model == "host" {
            let text = format!("{}: what its guest sees of the processor changes with the node", self.guest.place);
            warnings.push(Failure::new("The machine has CPU type host (cpu_flags)").at(text));
        }
        let needed = flags_of(model);
        if needed.is_empty() {
            return;
        }
        // Without Sys.Audit on the node it can't be told.
        let Ok(status) = self.target.client.node_status(&self.to.node).await else { return };
        let there: Vec<&str> = status.cpuinfo.flags.split_whitespace().collect();
        let missing: Vec<&str> = needed.into_iter().filter(|flag| !there.contains(flag)).collect();
        if !there.is_empty() && !missing.is_empty() {
            let text = format!(
                "{}, node {}: its processor lacks {} for CPU type {model}",
                self.target.name,
                self.to.node,
                missing.join(", ")
            );
            findings.push(finding(
                "cpu_flags",
                text,
                "set `cpu.type` to one that both have, and restart the machine first",
            ));
        }
    }

    /// Notes hold 8192 characters, and our mark in them 1 KiB: checked with all that the move will write (schema.md).
    fn notes_fit(&self, config: &VmConfig, findings: &mut Findings) {
        let split = notes::split(config.description().unwrap_or_default());
        let place = &self.guest.place;
        let mut after = Mark { from: split.mark.from.clone(), ..split.mark.clone() };
        after.list_copy(Copy {
            cluster: place.cluster.clone(),
            vmid: place.vmid,
            until: i64::MAX >> 29,
            returned: true,
        });
        let volid = "0".repeat(80);
        after.archives.push(Kept { volid, until: i64::MAX >> 29 });
        let line = Some("0".repeat(120));
        let during = Mark { op: Some("0".repeat(36)), epoch: Some(99), line, ..split.mark };
        for mark in [after, during] {
            if let Err(error) = notes::join(&split.text, &mark) {
                let text = format!("{place}: what the move writes into its notes does not fit: {error}");
                let next = "shorten `description`, or remove retired copies and archives that are past their date";
                return findings.push(finding("notes_fit", text, next));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_models_need_what_older_ones_need() {
        let models = ["kvm64", "x86-64-v2", "x86-64-v2-AES", "x86-64-v3", "x86-64-v4"];
        for pair in models.windows(2) {
            let (less, more) = (flags_of(pair[0]), flags_of(pair[1]));
            assert!(more.len() > less.len() && more.starts_with(&less), "{pair:?}");
        }
    }
}
