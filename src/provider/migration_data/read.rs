//! Owns ReadDataSource of `data.moxxie_migration_plan`.
use federation::migration::ACCEPTED_LOSSES;
use federation::{ClusterName, Span};
use operations::{Failure, Finding, Guest, MigrationPlan, Place, VmSpec};
use protocol::{AttributePath, Diagnostics, Value};

use crate::failures::report;
use crate::placing::Ready;

/// Static checks.
pub(crate) fn validate(config: &Value, diags: &mut Diagnostics) {
    if let Some(Err(error)) = config.attr("target").as_str().map(ClusterName::new) {
        diags.error_at(AttributePath::new("target"), "Invalid target", error.to_string());
    }
    if let Some(Err(error)) = config.attr("max_downtime").as_str().map(str::parse::<Span>) {
        diags.error_at(AttributePath::new("max_downtime"), "Invalid max_downtime", error.to_string());
    }
    for loss in losses(config).filter(|loss| !ACCEPTED_LOSSES.contains(loss)) {
        let detail = format!("{loss:?} is not one of {}.", ACCEPTED_LOSSES.join(", "));
        diags.error_at(AttributePath::new("accept_loss"), "Unknown loss", detail);
    }
}

fn losses(config: &Value) -> impl Iterator<Item = &str> {
    config.attr("accept_loss").as_list().into_iter().flatten().filter_map(Value::as_str)
}

/// Looks at the machine and its target. A machine that isn't found or a cluster that the federation doesn't have is an error; what
/// refuses the move is the answer.
pub(crate) async fn read(ready: Option<&Ready>, config: Value, diags: &mut Diagnostics) -> Value {
    let Some(ready) = ready else {
        diags.warning("No move is planned", "The provider block holds values that are not known yet.");
        return config;
    };
    let Some(target) = config.attr("target").as_str().and_then(|name| ClusterName::new(name).ok()) else {
        return config;
    };
    if !ready.federation().clusters.contains_key(&target) {
        let known: Vec<&str> = ready.federation().clusters.keys().map(ClusterName::as_str).collect();
        let detail = format!("{target} is not a cluster of this federation: {}.", known.join(", "));
        diags.error_at(AttributePath::new("target"), "No such cluster", detail);
        return config;
    }
    let guest = match ready.fleet.look_at(config.attr("machine").as_str().unwrap_or_default()).await {
        Ok(guest) => guest,
        Err(failure) => {
            report(&failure, diags);
            return config;
        }
    };
    match plan(ready, &config, &guest, &target).await {
        Ok(plan) => answer(&config, &plan),
        Err(failure) => impossible(&config, &guest, &failure),
    }
}

async fn plan(ready: &Ready, config: &Value, guest: &Guest, target: &ClusterName) -> Result<MigrationPlan, Failure> {
    let mut spec = VmSpec::of(guest, &ready.fleet.facts(guest.place.cluster.as_str()));
    // Nobody asks for the addresses it has: where a network takes new ones alone it gets one.
    spec.nics.values_mut().for_each(|nic| nic.mac = None);
    spec.migration.max_downtime = config.attr("max_downtime").as_str().and_then(|span| span.parse().ok());
    spec.migration.accept_loss = losses(config).map(str::to_owned).collect();
    ready.fleet.migration_plan(&spec, guest, target).await
}

fn place(place: &Place) -> Value {
    Value::object([
        ("cluster", Value::from(place.cluster.as_str())),
        ("node", place.node.as_str().into()),
        ("vmid", place.vmid.into()),
    ])
}

/// A move that can't even be looked at is not feasible, and that is an answer like any other; what it would be is not known.
fn impossible(config: &Value, guest: &Guest, failure: &Failure) -> Value {
    let check = Value::object([
        ("id", Value::from("placement")),
        ("guide", Value::Null),
        ("asks", "can the target be looked at, and is there a node for the machine".into()),
        ("ok", false.into()),
        ("findings", Value::list([failure.detail()])),
    ]);
    config
        .clone()
        .with_attr("feasible", false)
        .with_attr("from", place(&guest.place))
        .with_attr("mappings", Value::map::<String, Value>([]))
        .with_attr("checks", Value::list([check]))
        .with_attr("steps", Value::List(Vec::new()))
        .with_attr("warnings", Value::List(Vec::new()))
}

fn answer(config: &Value, plan: &MigrationPlan) -> Value {
    let finding = |found: &Finding| Value::from(format!("{} ({})", found.text, found.next));
    let check = |check: &operations::Checked| {
        Value::object([
            ("id", Value::from(check.id)),
            ("guide", check.guide.into()),
            ("asks", check.asks.into()),
            ("ok", check.findings.is_empty().into()),
            ("findings", Value::list(check.findings.iter().map(finding))),
        ])
    };
    let mapping = |mapping: &operations::Mapping| {
        let value = Value::object([
            ("name", Value::from(mapping.name.as_deref())),
            ("from", mapping.from.as_str().into()),
            ("to", mapping.to.as_str().into()),
        ]);
        (mapping.slot.to_string(), value)
    };
    let step = |step: &&federation::migration::StepInfo| {
        Value::object([
            ("step", Value::from(step.step.as_str())),
            ("does", step.does.into()),
            ("undoes", step.undoes.into()),
        ])
    };
    config
        .clone()
        .with_attr("feasible", plan.feasible())
        .with_attr("method", plan.method.as_str())
        .with_attr("from", place(&plan.from))
        .with_attr("to", place(&plan.to))
        .with_attr("transfer_storage", plan.transfer.as_ref().map(|(ours, _)| ours.as_str()))
        .with_attr("restore_storage", plan.restore_storage.as_deref())
        .with_attr("bytes", plan.bytes.0)
        .with_attr("bytes_copied_again", plan.copied_again.0)
        .with_attr("predicted_seconds", plan.duration.as_secs_ceil())
        .with_attr("downtime_seconds", plan.downtime.as_secs_ceil())
        .with_attr("mappings", Value::map(plan.mappings.iter().map(mapping)))
        .with_attr("checks", Value::list(plan.checks.iter().map(check)))
        .with_attr("steps", Value::list(plan.steps.iter().map(step)))
        .with_attr("warnings", Value::list(plan.warnings.iter().map(|warning| Value::from(warning.to_string()))))
}
