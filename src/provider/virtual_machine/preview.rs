//! Owns what the plan of a move says beside its values: what it costs, what would refuse it, where it stands.
use federation::ClusterName;
use federation::model::Method;
use federation::placement::Current;
use operations::{Outlook, Preview, Record};
use protocol::{Diagnostics, PlanRequest, Value};

use super::apply::record;
use super::{model, node};
use crate::failures::warn;
use crate::placing::Ready;
use crate::private::Private;
use crate::values::text;

/// Says what a planned move costs, or what would refuse it. Facts, so warnings; nothing of them is in a value.
pub(super) async fn preview(ready: &Ready, req: &PlanRequest, state: &Value, diags: &mut Diagnostics) {
    let private = Private::read(&req.prior_private);
    let target = state.attr("cluster").as_str().and_then(|name| ClusterName::new(name).ok());
    let (Some(target), Some(record)) = (target, record(&req.prior_state, &private)) else { return };
    let mut spec = model::spec(state);
    for (slot, disk) in &mut spec.disks {
        disk.volume = text(req.prior_state.attr("disks").attr(&slot.to_string()), "volume");
    }
    spec.node = node::wish(&req.config, &req.prior_state, &private, target.as_str());
    let current = Some(Current { cluster: record.cluster.clone(), vmid: record.vmid });
    let Ok(mut request) = model::request(state, req.config.attr("cluster").as_str(), current) else { return };
    request.node.clone_from(&spec.node);
    match ready.fleet.preview(&spec, &request, &record, &target).await {
        Ok(Outlook::UnderWay(stands)) => diags.warning(
            format!("Virtual machine {} has an operation under way", record.name),
            format!(
                "{stands}. Apply brings it to its end first; what it has made and fenced so far is in nobody's way."
            ),
        ),
        Ok(Outlook::Predicted(preview)) => {
            if let Some(backup) = &preview.backup {
                recovered(&record, &target, &preview, backup, diags);
                return;
            }
            moved(&record, &target, &preview, diags);
            preview.warnings.iter().for_each(|warning| warn(warning, diags));
        }
        Err(failure) => warn(&failure, diags),
    }
}

/// Says what a move costs, and what it leaves.
fn moved(record: &Record, target: &ClusterName, preview: &Preview, diags: &mut Diagnostics) {
    let Record { name, cluster, .. } = record;
    let (bytes, takes) = (preview.bytes.human(), preview.duration);
    let locked =
        format!("What stays on {cluster} is locked by Proxmox VE: only root can remove it, and apply says how.");
    let (how, what) = match preview.method {
        Method::BackupRestore => (
            "and is down meanwhile",
            format!(
                "by backup and restore: {bytes} of disks, about {takes} of downtime at 100 MiB/s or the path's rate."
            ),
        ),
        Method::Offline => (
            "and is down meanwhile",
            format!(
                "by Proxmox VE's own migration: {bytes} of disks, about {takes} of downtime at 100 MiB/s or the path's rate. {locked}"
            ),
        ),
        Method::StorageMigration => (
            "while it runs",
            format!(
                "by Proxmox VE's own migration: {bytes} of disks, about {takes} at 100 MiB/s or the path's rate. {locked}"
            ),
        ),
    };
    diags.warning(format!("Virtual machine {name} moves, {how}"), format!("{cluster} → {target} {what}"));
}

/// Says what a recovery loses, and what it doesn't bring along.
fn recovered(record: &Record, target: &ClusterName, preview: &Preview, backup: &str, diags: &mut Diagnostics) {
    diags.warning(
        format!("Virtual machine {} is recovered from its backup of {backup}", record.name),
        format!(
            "{} is lost → {target}: {} of disks, about {} at 100 MiB/s. What the machine wrote after that backup, and what was changed of \
             its configuration, is lost; the next plan shows the difference. HA, replication, firewall rules and backup jobs are not \
             carried along. If {} answers again, the old copy is fenced by the next apply.",
            record.cluster,
            preview.bytes.human(),
            preview.duration,
            record.cluster
        ),
    );
    preview.warnings.iter().for_each(|warning| warn(warning, diags));
}
