//! Owns ApplyResourceChange of a virtual machine: create, update, move, destroy. It never chooses: it does what was planned.
use std::collections::BTreeMap;

use federation::placement::{Current, Request};
use federation::{ClusterName, Span};
use operations::{Failure, FailureKind, Outcome, Password, Record, VmSpec};
use protocol::{ApplyRequest, ApplyResponse, Diagnostics, Value};

use super::{model, node, state::state};
use crate::failures::{report, warn};
use crate::placing::Ready;
use crate::private::Private;
use crate::values::text;

/// Carries a plan out. A create answers with the planned object, or null and an error, never both: nothing is tainted.
pub(crate) async fn apply(ready: &Ready, req: ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse {
    if req.planned_state.is_null() {
        return destroy(ready, &req, diags).await;
    }
    if req.prior_state.is_null() {
        return create(ready, &req, diags).await;
    }
    update(ready, &req, diags).await
}

/// What apply asks placement to check again: the planned machine, pinned to where the configuration pins it. `node`: as [`node::wish`] has it.
fn planned_request(planned: &Value, config: &Value, current: Option<Current>, node: Option<String>) -> Option<Request> {
    planned.attr("cluster").as_str()?;
    let request = model::request(planned, config.attr("cluster").as_str(), current).ok()?;
    Some(Request { node, ..request })
}

fn timeout(value: &Value, name: &str) -> Option<Span> {
    value.attr("timeouts").attr(name).as_str()?.parse().ok()
}

/// The machine as planned; a node is only a wish where the configuration names it. What was not known at plan is checked now.
fn planned_spec(req: &ApplyRequest, diags: &mut Diagnostics) -> Option<VmSpec> {
    let mut found = Diagnostics::new();
    model::validate(&req.config, &mut found);
    model::fresh(&req.config, &req.prior_state, &Private::read(&req.planned_private), &mut found);
    if found.has_errors() {
        diags.extend(found);
        return None;
    }
    Some(VmSpec { node: text(&req.config, "node"), ..model::spec(&req.planned_state) })
}

/// Gives `spec` the password of the configuration, the only place that has it.
fn with_password(spec: &mut VmSpec, config: &Value) {
    let password = config.attr("cloud_init").attr("password_wo");
    if let (Some(cloud_init), Some(password)) = (&mut spec.cloud_init, password.as_str()) {
        cloud_init.password = Some(Password::new(password));
    }
}

async fn create(ready: &Ready, req: &ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse {
    let nothing = ApplyResponse::default();
    let Some(mut spec) = planned_spec(req, diags) else { return nothing };
    with_password(&mut spec, &req.config);
    let planned_cluster = req.planned_state.attr("cluster");
    let (cluster, placement) = if planned_cluster.is_unknown() {
        match decide_now(ready, req, diags).await {
            Some(decided) => decided,
            None => return nothing,
        }
    } else {
        (text(&req.planned_state, "cluster").unwrap_or_default(), req.planned_state.attr("placement").clone())
    };
    let planned = req.planned_state.clone().with_attr("cluster", cluster.as_str()).with_attr("placement", placement);
    let (Ok(cluster), Some(request)) =
        (ClusterName::new(&cluster), planned_request(&planned, &req.config, None, spec.node.clone()))
    else {
        diags.error("Unable to create the virtual machine", "The plan names no cluster. Plan again.");
        return nothing;
    };
    let made = ready.fleet.create(&spec, &cluster, &request, timeout(&req.config, "create")).await;
    match made {
        Ok(outcome) => {
            ready.forget(&req.planned_private);
            finished(ready, outcome, &planned, Private::default(), diags).await
        }
        Err(failure) => {
            if failure.kind == FailureKind::Stale {
                ready.forget(&req.planned_private);
            }
            report(&failure, diags);
            nothing
        }
    }
}

/// The cluster was unknown at plan, because its inputs were: they are known now, so it is decided now.
async fn decide_now(ready: &Ready, req: &ApplyRequest, diags: &mut Diagnostics) -> Option<(String, Value)> {
    let request = match model::request(&req.planned_state, None, None) {
        Ok(request) => request,
        Err(inputs) => {
            diags.error("The cluster can't be decided", format!("Still unknown at apply: {}.", inputs.join(", ")));
            return None;
        }
    };
    match ready.decide(&request).await {
        Ok(decision) => Some((decision.cluster.to_string(), decision.why.into())),
        Err(refusal) => {
            diags.error(format!("No cluster can take virtual machine {}", request.name), refusal.to_string());
            None
        }
    }
}

/// State after success: the planned object with what was unknown filled in from the machine.
async fn finished(
    ready: &Ready,
    outcome: Outcome,
    planned: &Value,
    private: Private,
    diags: &mut Diagnostics,
) -> ApplyResponse {
    for warning in &outcome.warnings {
        warn(warning, diags);
    }
    let facts = ready.fleet.facts(outcome.guest.place.cluster.as_str());
    let real = state(&outcome.guest, &facts, planned, false);
    let private = private.on(ready, outcome.guest.place.cluster.as_str()).await;
    ApplyResponse { new_state: filled(planned, &real), private: private.write() }
}

/// `planned` with every unknown taken from `real`. What was known stays as it was planned: a difference in reality is for
/// the next Read to show.
fn filled(planned: &Value, real: &Value) -> Value {
    match planned {
        Value::Unknown(_) => real.clone(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(name, value)| (name.clone(), filled(value, real.attr(name)))).collect())
        }
        Value::Map(map) => {
            Value::Map(map.iter().map(|(key, value)| (key.clone(), filled(value, real.attr(key)))).collect())
        }
        other => other.clone(),
    }
}

/// What state records of a machine.
pub(super) fn record(state: &Value, private: &Private) -> Option<Record> {
    Some(Record {
        name: model::called(state),
        cluster: ClusterName::new(state.attr("cluster").as_str()?).ok()?,
        node: text(state, "node").unwrap_or_default(),
        vmid: u32::try_from(state.attr("vmid").as_u64()?).ok()?,
        uuid: text(state, "id")?,
        pool: text(state, "pool").and_then(|pool| federation::PoolName::new(pool).ok()),
        running: state.attr("started").as_bool(),
        copies: copies(state),
        identity: private.identity.clone(),
    })
}

/// The retired copies that state lists.
fn copies(state: &Value) -> Vec<operations::Copy> {
    let copy = |copy: &Value| {
        let cluster = ClusterName::new(copy.attr("cluster").as_str()?).ok()?;
        let vmid = u32::try_from(copy.attr("vmid").as_u64()?).ok()?;
        operations::Copy::listed(cluster, vmid, copy.attr("until").as_str()?)
    };
    state.attr("retired_copies").as_list().into_iter().flatten().filter_map(copy).collect()
}

async fn update(ready: &Ready, req: &ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse {
    let planned_private = Private::read(&req.planned_private);
    let undecided = || Private { pinned: None, ..planned_private.clone() };
    let kept = || ApplyResponse { new_state: req.prior_state.clone(), private: undecided().write() };
    let Some(mut spec) = planned_spec(req, diags) else { return kept() };
    let there = text(&req.planned_state, "cluster").or(text(&req.prior_state, "cluster")).unwrap_or_default();
    spec.node = node::wish(&req.config, &req.prior_state, &planned_private, &there);
    let version = |state: &Value| state.attr("cloud_init").attr("password_wo_version").clone();
    if !planned_private.imported && version(&req.planned_state) != version(&req.prior_state) {
        with_password(&mut spec, &req.config);
    }
    let Some(record) = record(&req.prior_state, &planned_private) else {
        diags.error("State can't be read", "It lacks the cluster, VMID or UUID of the machine. Import it again.");
        return kept();
    };
    let mut old = model::spec(&req.prior_state);
    if planned_private.imported {
        // What was never configured is not taken out of the configuration.
        old.disks.retain(|slot, _| spec.disks.contains_key(slot));
        old.nics.retain(|slot, _| spec.nics.contains_key(slot));
    }
    let planned_cluster = text(&req.planned_state, "cluster").and_then(|name| ClusterName::new(name).ok());
    let Some(target) = planned_cluster.or_else(|| Some(record.cluster.clone())) else { return kept() };
    let changed = change(ready, req, &old, &spec, &record, &target, planned_private.lost.as_ref()).await;
    match changed {
        Ok(outcome) => {
            ready.forget(&req.planned_private);
            let on = outcome.guest.place.cluster.as_str();
            let node = node::written_for(&req.config, &req.prior_state, &planned_private, on);
            let private = Private { node, ..planned_private.clone().applied() };
            finished(ready, outcome, &req.planned_state, private, diags).await
        }
        Err(failure) => {
            if failure.kind == FailureKind::Stale {
                ready.forget(&req.planned_private);
            }
            report(&failure, diags);
            truth(ready, req, &record, undecided()).await
        }
    }
}

/// First the open operation and the move, then everything else: a plan that changes cluster and size moves first. `lost`: the plan saw
/// its cluster lost, and these backups. A recovery and a move are never taken for each other.
async fn change(
    ready: &Ready,
    req: &ApplyRequest,
    old: &VmSpec,
    new: &VmSpec,
    record: &Record,
    target: &ClusterName,
    lost: Option<&BTreeMap<String, String>>,
) -> Result<Outcome, Failure> {
    let timeout = timeout(&req.config, "update");
    let mut record = record.clone();
    let mut warnings = Vec::new();
    let open = !req.prior_state.attr("operation").is_null();
    if record.cluster != *target || open {
        let current = Current { cluster: record.cluster.clone(), vmid: record.vmid };
        let request = planned_request(&req.planned_state, &req.config, Some(current), new.node.clone())
            .ok_or_else(|| Failure::new("The plan names no cluster").next("plan again"))?;
        let as_is = as_it_moves(old, new);
        let moved = if record.cluster == *target {
            ready.fleet.finish(&as_is, &record, timeout).await?
        } else if let Some(backups) = lost {
            let backup = backups.get(target.as_str()).map(String::as_str);
            ready.fleet.recover(&as_is, &request, &record, target, backup, timeout).await?
        } else {
            ready.fleet.relocate(&as_is, &request, &record, target, timeout).await?
        };
        record.cluster = moved.guest.place.cluster.clone();
        record.node = moved.guest.place.node.clone();
        record.vmid = moved.guest.place.vmid;
        warnings = moved.warnings;
    } else if grows(old, new) {
        let current = Current { cluster: record.cluster.clone(), vmid: record.vmid };
        if let Some(request) = planned_request(&req.planned_state, &req.config, Some(current), new.node.clone()) {
            ready.fleet.still_grows(&request, target).await?;
        }
    }
    let mut old = old.clone();
    if req.prior_state.attr("cluster").as_str() != Some(record.cluster.as_str()) {
        // Its volumes are others there.
        old.disks.values_mut().for_each(|disk| disk.volume = None);
    }
    let mut outcome = ready.fleet.update(&old, new, &record, timeout).await?;
    warnings.append(&mut outcome.warnings);
    Ok(Outcome { guest: outcome.guest, warnings })
}

/// As it is, to where it goes: storages and networks are named for the target, its other changes come after. Addresses are those that
/// fit there.
fn as_it_moves(old: &VmSpec, new: &VmSpec) -> VmSpec {
    let mut moving = VmSpec {
        vmid: new.vmid,
        node: new.node.clone(),
        pool: new.pool.clone(),
        migration: new.migration.clone(),
        cloud_init: new.cloud_init.clone(),
        ..old.clone()
    };
    for (slot, disk) in &mut moving.disks {
        if let Some(wish) = new.disks.get(slot) {
            disk.storage.clone_from(&wish.storage);
        }
    }
    for (slot, nic) in &mut moving.nics {
        if let Some(wish) = new.nics.get(slot) {
            nic.network.clone_from(&wish.network);
            nic.bridge.clone_from(&wish.bridge);
            nic.vlan = wish.vlan;
            nic.mac.clone_from(&wish.mac);
        }
    }
    moving
}

/// Whether a machine asks for more than it has.
fn grows(old: &VmSpec, new: &VmSpec) -> bool {
    let bigger = new.disks.iter().any(|(slot, disk)| old.disks.get(slot).is_none_or(|had| had.size < disk.size));
    new.vcpus() > old.vcpus() || new.memory > old.memory || bigger
}

/// State after a failed update: what is, as far as the clusters tell; else what was.
async fn truth(ready: &Ready, req: &ApplyRequest, record: &Record, mut private: Private) -> ApplyResponse {
    let new_state = match ready.fleet.find(record).await {
        operations::Found::Here(guest) => {
            let facts = ready.fleet.facts(guest.place.cluster.as_str());
            let now = state(&guest, &facts, &req.prior_state, false);
            private.note_drift(&req.prior_state, &now);
            if guest.place.cluster != record.cluster {
                private = private.on(ready, guest.place.cluster.as_str()).await;
            }
            now
        }
        _ => req.prior_state.clone(),
    };
    ApplyResponse { new_state, private: private.write() }
}

async fn destroy(ready: &Ready, req: &ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse {
    let kept = || ApplyResponse { new_state: req.prior_state.clone(), private: req.planned_private.clone() };
    let private = Private::read(&req.planned_private);
    let Some(record) = record(&req.prior_state, &private) else {
        diags.error("State can't be read", "It lacks the cluster, VMID or UUID of the machine. Use a removed block.");
        return kept();
    };
    match ready.fleet.destroy(&model::spec(&req.prior_state), &record, timeout(&req.prior_state, "delete")).await {
        Ok(warnings) => {
            for warning in &warnings {
                warn(warning, diags);
            }
            ApplyResponse::default()
        }
        Err(failure) => {
            report(&failure, diags);
            kept()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planned_stays_and_what_was_unknown_is_filled() {
        let planned = Value::object([
            ("memory", Value::from("8GB")),
            ("vmid", Value::unknown()),
            (
                "disks",
                Value::map([("scsi0", Value::object([("size", Value::from("20GB")), ("volume", Value::unknown())]))]),
            ),
        ]);
        let real = Value::object([
            ("memory", Value::from("8GiB")),
            ("vmid", 100.into()),
            ("disks", Value::map([("scsi0", Value::object([("size", "20GiB"), ("volume", "ceph:vm-100-disk-0")]))])),
        ]);
        let state = filled(&planned, &real);
        assert!(state.is_wholly_known());
        assert_eq!(state.attr("memory"), &"8GB".into());
        assert_eq!(state.attr("vmid"), &100.into());
        assert_eq!(state.attr("disks").attr("scsi0").attr("volume"), &"ceph:vm-100-disk-0".into());
    }
}
