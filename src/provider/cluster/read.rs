//! Owns ReadResource and ImportResourceState of a cluster.
use federation::ClusterName;
use federation::model::Cluster;
use operations::{ClusterFound, ClusterRecord};
use protocol::{Diagnostics, ImportedResource, ReadRequest, ReadResponse, Value};

use super::kept::Kept;
use super::model;
use crate::failures::{contradiction, is_dark, not_refreshed, report};
use crate::placing::Ready;

/// Refreshes a cluster. What can't be seen stays as it was, with a warning; a record that is lost shows as a missing `id`.
pub(crate) async fn read(ready: Option<&Ready>, req: ReadRequest, diags: &mut Diagnostics) -> ReadResponse {
    let as_it_was = ReadResponse { new_state: req.current_state.clone(), private: req.private.clone() };
    let Some(ready) = ready else {
        diags.warning("Clusters are not refreshed", "The provider block holds values that are not known yet.");
        return as_it_was;
    };
    let Some(name) = model::name(&req.current_state) else {
        diags.error("State can't be read", "It lacks the name of the cluster. Import it again.");
        return as_it_was;
    };
    let kept = Kept::read(&req.private);
    match ready.fleet.find_cluster(&name, kept.revision.as_ref()).await {
        Ok(ClusterFound::Recorded(record)) => {
            rewritten(&name, &kept, &record, diags);
            differences(ready, &name, diags).await;
            let state = shown(ready, &name, &record, &req.current_state).await;
            ReadResponse { new_state: state, private: Kept::of(&record).write() }
        }
        Ok(ClusterFound::Absent) => {
            let gone = "its pool moxxie is gone";
            lost(&name, "is not enrolled any more", gone, diags);
            ReadResponse { new_state: model::lost(&req.current_state), private: req.private }
        }
        Ok(ClusterFound::Lost) => {
            let without = "its pool moxxie is there, without a record in its comment";
            lost(&name, "has lost its record", without, diags);
            ReadResponse { new_state: model::lost(&req.current_state), private: req.private }
        }
        Ok(ClusterFound::Damaged(why)) => {
            lost(&name, "has a damaged record", &format!("the block in the comment of its pool moxxie: {why}"), diags);
            ReadResponse { new_state: model::lost(&req.current_state), private: req.private }
        }
        Ok(ClusterFound::Unsure(_)) if is_dark(&name, ready, diags).await => as_it_was,
        Ok(ClusterFound::Unsure(why)) => {
            diags.warning(format!("Cluster {name} is not refreshed"), format!("{name}: {why}"));
            as_it_was
        }
        Err(failure) => {
            not_refreshed(&failure, ready, diags);
            as_it_was
        }
    }
}

/// State of an enrolled cluster, with the datacenter options that are taken over as they are now.
async fn shown(ready: &Ready, name: &ClusterName, record: &ClusterRecord, prior: &Value) -> Value {
    let held = &record.datacenter.set;
    let now = if held.is_empty() { Some(Default::default()) } else { ready.fleet.datacenter_options(name).await };
    let options = now.map(|mut now| {
        now.retain(|option, _| held.contains_key(option));
        now
    });
    model::state(name, &record.facts, options.as_ref(), &record.revision.id, prior)
}

/// Somebody else wrote the record since.
fn rewritten(name: &ClusterName, kept: &Kept, record: &ClusterRecord, diags: &mut Diagnostics) {
    let (Some(was), is) = (&kept.revision, &record.revision) else { return };
    if was.rev != is.rev {
        diags.warning(
            format!("The record of cluster {name} was changed by somebody else"),
            format!(
                "{} wrote revision {}; state had revision {}. Where it differs from this configuration, apply writes a newer \
                 one.",
                is.by, is.rev, was.rev
            ),
        );
    }
}

/// What the provider block's file says otherwise than the record, which holds.
async fn differences(ready: &Ready, name: &ClusterName, diags: &mut Diagnostics) {
    let rules = ready.rules().await;
    for difference in rules.cluster_differences.get(name).into_iter().flatten() {
        contradiction(difference, diags);
    }
}

fn lost(name: &ClusterName, what: &str, how: &str, diags: &mut Diagnostics) {
    diags.warning(
        format!("Cluster {name} {what}"),
        format!(
            "{}. Nothing new is placed there until apply writes the record again from the configuration; no machine is \
             touched.",
            how
        ),
    );
}

/// Imports an enrolled cluster by name.
pub(crate) async fn import(ready: Option<&Ready>, id: &str, diags: &mut Diagnostics) -> Vec<ImportedResource> {
    let Some(ready) = ready else {
        diags.error("Unable to import", "The provider block holds values that are not known yet.");
        return Vec::new();
    };
    let name = match ClusterName::new(id) {
        Ok(name) => name,
        Err(error) => {
            diags.error(format!("Unable to import {id}"), error.to_string());
            return Vec::new();
        }
    };
    let refuse = |why: String, diags: &mut Diagnostics| {
        diags.error(format!("Unable to import cluster {name}"), why);
        Vec::new()
    };
    let (state, private) = match ready.fleet.find_cluster(&name, None).await {
        Ok(ClusterFound::Recorded(record)) => {
            (shown(ready, &name, &record, &Value::Null).await, Kept::of(&record).write())
        }
        Ok(ClusterFound::Lost | ClusterFound::Damaged(_)) => {
            let state = model::state(&name, &Cluster::default(), None, "", &Value::Null);
            (model::lost(&state), Vec::new())
        }
        Ok(ClusterFound::Absent) => {
            return refuse("It is not enrolled. Remove the import block: apply enrols it.".to_owned(), diags);
        }
        Ok(ClusterFound::Unsure(why)) => return refuse(format!("{name}: {why}"), diags),
        Err(failure) => {
            report(&failure, diags);
            return Vec::new();
        }
    };
    vec![ImportedResource { type_name: super::TYPE.to_owned(), state, private }]
}
