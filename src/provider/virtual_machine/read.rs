//! Owns ReadResource and ImportResourceState of a virtual machine.
use std::collections::BTreeSet;

use federation::{ClusterName, PoolName};
use operations::{Found, Guest, Journal, MarkFound, Place, Record};
use protocol::{Diagnostics, ImportedResource, ReadRequest, ReadResponse, Value};

use super::apply::record;
use super::model;
use super::state::{restart_due, state};
use super::{missing, restart};
use crate::failures::{is_dark, report};
use crate::placing::Ready;
use crate::private::Private;
use crate::proposals::{proposal, recovery};

/// Refreshes a machine. It is gone only where that can be said for sure; else it stays as it was, with a warning.
pub(crate) async fn read(ready: Option<&Ready>, req: ReadRequest, diags: &mut Diagnostics) -> ReadResponse {
    let as_it_was = ReadResponse { new_state: req.current_state.clone(), private: req.private.clone() };
    let name = model::called(&req.current_state);
    let Some(ready) = ready else {
        diags.warning("Machines are not refreshed", "The provider block holds values that are not known yet.");
        return as_it_was;
    };
    let Some(record) = record(&req.current_state, &Private::read(&req.private)) else {
        diags.error(
            "State can't be read",
            format!("{name}: it lacks the cluster, VMID or UUID of the machine. Import it again."),
        );
        return as_it_was;
    };
    match ready.fleet.find(&record).await {
        Found::Here(guest) => {
            unfinished(&guest, &name, diags);
            not_lost(&guest, ready, diags);
            restart::remind(&guest, &req.current_state, diags);
            remarks(&guest, &name, diags);
            refreshed(ready, &guest, &req, diags).await
        }
        Found::Elsewhere(guest) => {
            diags.warning(
                format!("Virtual machine {name} was moved by somebody else"),
                format!("State had it on {}; it runs on {} now, and is followed there.", record.cluster, guest.place),
            );
            refreshed(ready, &guest, &req, diags).await
        }
        Found::Lost(open) => lost(ready, &record, open.as_deref(), &req, diags).await,
        Found::Gone => ReadResponse { new_state: Value::Null, private: Vec::new() },
        Found::Unsure(why) if is_dark(&record.cluster, ready, diags).await => {
            let private = Private::read(&req.private);
            if ready.fleet.is_declared_lost(&record.cluster) {
                diags.warning(format!("Virtual machine {name} can't be recovered"), why);
            }
            ReadResponse { private: private.not_lost().write(), ..as_it_was }
        }
        Found::Unsure(why) => {
            // The same summary for every machine of a cluster, so that core groups them.
            diags
                .warning(format!("Machines of cluster {} are not refreshed", record.cluster), format!("{name}: {why}"));
            let private = Private::read(&req.private);
            ReadResponse { private: private.not_lost().write(), ..as_it_was }
        }
    }
}

/// A machine of a lost cluster stays in state as it was; what the plan takes from here is where it is to be recovered.
async fn lost(
    ready: &Ready,
    record: &Record,
    open: Option<&Journal>,
    req: &ReadRequest,
    diags: &mut Diagnostics,
) -> ReadResponse {
    is_dark(&record.cluster, ready, diags).await;
    let mut private = Private::read(&req.private);
    let backups = ready.fleet.backups(record).await;
    if !backups.doubts.is_empty() {
        diags.warning(
            format!("A newer backup of virtual machine {} may be somewhere", record.name),
            format!("Not everything could be asked: {}.", backups.doubts.join("; ")),
        );
    }
    private.proposal = recovery(ready, record, open, &backups, &req.current_state, diags).await;
    let volumes = backups.newest.into_iter().map(|(cluster, backup)| (cluster.to_string(), backup.volid));
    private.lost = Some(volumes.collect());
    private.vmid_taken =
        vmid_taken(ready, &record.cluster, record.vmid, record.pool.as_ref(), private.vmid_taken).await;
    let mut new_state = req.current_state.clone();
    new_state.set_attr("operation", Value::Null);
    if let Some(journal) = open {
        // What has its VMID there is what was restored so far.
        private.vmid_taken.remove(journal.to.cluster.as_str());
        diags.warning(
            format!("Virtual machine {} has an unfinished operation", record.name),
            format!("{}.", journal.stands()),
        );
        new_state.set_attr("operation", journal.in_words());
    }
    ReadResponse { new_state, private: private.write() }
}

async fn refreshed(ready: &Ready, guest: &Guest, req: &ReadRequest, diags: &mut Diagnostics) -> ReadResponse {
    let facts = ready.fleet.facts(guest.place.cluster.as_str());
    let mut private = Private::read(&req.private);
    // An import took in every slot; what somebody adds later is not in state.
    let new_state = state(guest, &facts, &req.current_state, false);
    private.note_drift(&req.current_state, &new_state);
    if req.current_state.attr("cluster") != new_state.attr("cluster") {
        private = private.on(ready, guest.place.cluster.as_str()).await;
    }
    let Place { cluster, vmid, .. } = &guest.place;
    private.vmid_taken = vmid_taken(ready, cluster, *vmid, guest.pool.as_ref(), private.vmid_taken).await;
    for name in private.vmid_taken.clone() {
        // A retired source of its own makes way for it.
        if let Ok(cluster) = ClusterName::new(&name)
            && ready.fleet.makes_way(&cluster, guest).await
        {
            private.vmid_taken.remove(&name);
        }
    }
    if let Some(journal) = guest.operation.as_ref().filter(|journal| journal.to.vmid == *vmid) {
        // What has its VMID there is what its own operation has made so far.
        private.vmid_taken.remove(journal.to.cluster.as_str());
    }
    let as_it_runs = || state(&guest.in_force(), &facts, &req.current_state, false);
    private.in_force =
        if guest.waiting.is_empty() { Default::default() } else { restart::differences(&as_it_runs(), &new_state) };
    private.restart_due = restart_due(guest, &new_state);
    private.missing = missing::slots(guest, &new_state);
    let all = guest.config.cores().saturating_mul(guest.config.sockets());
    private.plugged_in = guest.config.vcpus().filter(|vcpus| *vcpus < all);
    private.proposal = proposal(ready, guest, &new_state, diags).await;
    private.lost = None;
    ReadResponse { new_state, private: private.write() }
}

/// The other clusters of its pool, or all while it is in none, on which some guest has its VMID. One that doesn't answer keeps
/// its former answer.
async fn vmid_taken(
    ready: &Ready,
    here: &ClusterName,
    vmid: u32,
    pool: Option<&PoolName>,
    former: BTreeSet<String>,
) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    let rules = ready.fleet.rules().await;
    let pool = pool.and_then(|pool| rules.federation.pools.get(pool));
    for site in ready.fleet.sites().filter(|site| site.name != *here) {
        let name = &site.name;
        if pool.is_some_and(|pool| !pool.clusters.contains(name)) {
            continue;
        }
        let is_taken = match site.glance().await {
            Ok(overview) => overview.guest(vmid).is_some(),
            Err(_) => former.contains(name.as_str()),
        };
        if is_taken {
            taken.insert(name.to_string());
        }
    }
    taken
}

fn unfinished(guest: &Guest, name: &str, diags: &mut Diagnostics) {
    let Some(journal) = &guest.operation else { return };
    let will = if journal.is_past_live() { "Apply finishes it." } else { "Apply finishes it or takes it back." };
    diags.warning(
        format!("Virtual machine {name} has an unfinished operation"),
        format!("{}. {will}", journal.stands()),
    );
}

/// A cluster that is declared lost and answers: its machines are where they are, and the declaration should go.
fn not_lost(guest: &Guest, ready: &Ready, diags: &mut Diagnostics) {
    let cluster = &guest.place.cluster;
    if ready.fleet.is_declared_lost(cluster) && ready.told.once(format!("answers {cluster}")) {
        diags.warning(
            format!("Cluster {cluster} is declared lost, and answers"),
            "Its machines are refreshed and left where they are: what runs must not run twice. Take it out of `lost_clusters`.",
        );
    }
}

/// What a person should know of a machine that is in order.
fn remarks(guest: &Guest, name: &str, diags: &mut Diagnostics) {
    for copy in guest.retired_copies.iter().filter(|copy| copy.returned) {
        diags.warning(
            format!("Virtual machine {name} was moved, was not well, and was returned"),
            format!(
                "It is on {} as before. Its copy {}/{} is stopped and fenced, may hold what the machine wrote meanwhile, and is \
                 kept until {}.",
                guest.place, copy.cluster, copy.vmid, copy.until
            ),
        );
    }
    if let MarkFound::Broken(why) = &guest.mark_found {
        diags.warning(
            format!("Notes of virtual machine {name} are damaged"),
            format!("{}: {why}. What state knows of its retired copies is kept.", guest.place),
        );
    }
}

/// Imports a machine by `cluster/vmid`, UUID, or a name that is unique in the federation.
pub(crate) async fn import(ready: Option<&Ready>, id: &str, diags: &mut Diagnostics) -> Vec<ImportedResource> {
    let Some(ready) = ready else {
        diags.error("Unable to import", "The provider block holds values that are not known yet.");
        return Vec::new();
    };
    match ready.fleet.import(id).await {
        Ok(guest) => {
            let facts = ready.fleet.facts(guest.place.cluster.as_str());
            let placement = format!("imported from {}", guest.place.cluster);
            let state = state(&guest, &facts, &Value::Null, true).with_attr("placement", placement);
            vec![ImportedResource {
                type_name: super::TYPE.to_owned(),
                state,
                private: Private { imported: true, ..Private::default() }
                    .on(ready, guest.place.cluster.as_str())
                    .await
                    .write(),
            }]
        }
        Err(failure) => {
            report(&failure, diags);
            Vec::new()
        }
    }
}
