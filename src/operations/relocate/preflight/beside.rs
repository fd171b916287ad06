//! Owns what lies beside a machine and doesn't go along by itself (HA, replication, rights, backup jobs), and what of it is set
//! up on the target.
use proxmox::{BackupJob, Error, HaRule, Params, VmConfig};

use super::{Findings, Preflight, finding};
use crate::failure::Failure;
use crate::notes::{self, Copy, Kept, Mark};
use crate::site::Site;
use crate::spec::Source;

/// What HA on the target is told of a machine.
pub(in crate::relocate) struct HaCarried {
    /// Everything of the resource but its state.
    pub(in crate::relocate) params: Params,
    /// The target's rules that it joins.
    pub(in crate::relocate) rules: Vec<HaRule>,
    /// Groups and rules of the source that the target doesn't have.
    pub(in crate::relocate) skipped: Vec<String>,
}

/// What of a machine's HA the target can take: a rule or group of the same name there is taken for the same. The nodes that it
/// names are each cluster's own.
///
/// # Errors
/// What the clusters said.
pub(in crate::relocate) async fn ha_carried(
    source: &Site,
    target: &Site,
    vmid: u32,
) -> Result<Option<HaCarried>, Error> {
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

impl Preflight<'_> {
    /// What doesn't go along by itself.
    pub(super) async fn beside(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        self.ha_there(findings, warnings).await;
        self.replication(findings, warnings).await;
        self.acl(warnings).await;
        self.backup_jobs(warnings).await;
        self.notes_fit(config, findings);
    }

    async fn ha_there(&self, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        let place = &self.guest.place;
        let Ok(Some(carried)) = ha_carried(self.source, self.target, place.vmid).await else { return };
        if let Some(lacking) = self.target.lacks_ha().await {
            let text = format!("{place}: {lacking}: on {} it would not be", self.target.name);
            return self.lost(finding("ha_target", text, "grant it there"), "ha", findings, warnings);
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
    /// (hazards.md OR 26). A source that is removed loses its jobs right before that, when it can't become the machine again.
    async fn replication(&self, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        let (place, client) = (&self.guest.place, &self.source.client);
        let Ok(jobs) = client.replication_jobs().await else { return };
        let jobs: Vec<String> =
            jobs.into_iter().filter(|job| job.guest == Some(place.vmid)).map(|job| job.id).collect();
        if jobs.is_empty() {
            return;
        }
        let jobs = jobs.join(", ");
        if self.spec.migration.source == Source::Keep {
            let text = format!("{place} has replication jobs, which stay behind with it: {jobs}");
            warnings.push(Failure::new("Replication does not go along (replication)").at(text));
            return;
        }
        // VM.Replicate came with 9 (`proxmox-ve.md` §1.4).
        let newer = client.version().await.is_ok_and(|version| version.at_least(9, 0));
        let (path, right) = match newer {
            true => (format!("/vms/{}", place.vmid), "VM.Replicate"),
            false => ("/storage".to_owned(), "Datastore.Allocate"),
        };
        let held = client.permissions(Some(&path)).await;
        if held.is_ok_and(|held| held.has(&path, right)) {
            let text = format!("{place}: its replication jobs are removed, with their copies, before it is: {jobs}");
            warnings.push(Failure::new("Replication ends with the source (replication)").at(text));
        } else {
            let text =
                format!("{place} has replication jobs, which the token can't remove ({right} on {path}): {jobs}");
            findings.push(finding("replication", text, "grant it, remove them first, or set source = \"keep\""));
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

    /// A machine that is backed up here and would not be there (hazards.md OR 25).
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

    /// Notes hold 8192 characters, and our mark in them 6 KiB: checked with all that the move will write (formats.md).
    fn notes_fit(&self, config: &VmConfig, findings: &mut Findings) {
        let split = notes::split(config.description().unwrap_or_default());
        let place = &self.guest.place;
        let mut after = Mark { from: split.mark.from.clone(), ..split.mark.clone() };
        after.list_copy(Copy {
            cluster: place.cluster.clone(),
            vmid: place.vmid,
            until: i64::MAX >> 29,
            returned: true,
            op: Some("0".repeat(12)),
        });
        let volid = "0".repeat(80);
        after.archives.push(Kept { volid, until: i64::MAX >> 29, cluster: Some(self.target.name.clone()) });
        for kept in after.archives.iter_mut().filter(|kept| kept.cluster.is_none()) {
            kept.cluster = Some(place.cluster.clone());
        }
        for copy in self.older {
            after.without_copy_at(&copy.cluster, copy.vmid);
        }
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
