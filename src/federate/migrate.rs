//! Owns `federate migrate`: shows what a move would be, or has it carried out by the same engine that apply uses.
use std::sync::Arc;

use federation::ClusterName;
use federation::migration::StepInfo;
use federation::model::Method;
use federation::placement::Request;
use operations::{Audit, Failure, Finding, Guest, MigrationPlan, Place, Source as Fate, VmSpec};
use serde_json::{Value, json};

use crate::arguments::{Common, Migrate};
use crate::report::{Exit, Output, Wrong, counted};
use crate::source::{self, Source};
use crate::table::Table;

/// Plans the move; without `--dry-run` and with nothing in its way, makes it.
pub(crate) async fn run(common: &Common, asked: &Migrate, json: bool) -> Result<Output, Wrong> {
    if asked.asynchronous {
        return Err(Wrong::misuse(
            "--async is not there: a move is carried out by the process that began it. Killed, it is finished or taken back by \
             the next `federate migrate` or apply of the machine",
        ));
    }
    let source = source::open(common)?;
    let (from, to) = (source::cluster(&source, &asked.from)?, source::cluster(&source, &asked.to)?);
    if from == to {
        return Err(Wrong::misuse(format!("--from and --to are the same cluster: {from}")));
    }
    // What is enrolled on the clusters counts too: storage classes, networks, paths.
    source.fleet.warm().await;
    if let Some(method) = asked.method {
        by(&source, &from, &to, method).await;
    }
    let guest = guest(&source, &asked.vm, &from).await?;
    let mut spec = VmSpec::of(&guest, &source.fleet.facts(from.as_str()));
    wish(&mut spec, asked);
    if guest.operation.is_some() && !asked.dry_run {
        return carry_out(source, asked, &spec, &guest, &to, None, json).await;
    }
    let plan = source.fleet.migration_plan(&spec, &guest, &to).await.map_err(wrong)?;
    if asked.dry_run || !plan.feasible() {
        let exit = Exit::fine_if(plan.feasible());
        return Ok(if json { Output::json(&value(&plan), exit) } else { Output::new(text(&plan, asked), exit) });
    }
    carry_out(source, asked, &spec, &guest, &to, Some(plan), json).await
}

/// Has the path be one of this method, in this process alone.
async fn by(source: &Source, from: &ClusterName, to: &ClusterName, method: Method) {
    source.fleet.warm().await;
    let mut facts = source.fleet.facts(from.as_str());
    facts.migration_paths.entry(to.clone()).or_default().method = method;
    source.fleet.plan_cluster(from, Some(facts)).await;
}

async fn carry_out(
    source: Source,
    asked: &Migrate,
    spec: &VmSpec,
    guest: &Guest,
    to: &ClusterName,
    plan: Option<MigrationPlan>,
    json: bool,
) -> Result<Output, Wrong> {
    let audit = match &asked.audit_file {
        Some(file) => Audit::open(file).map_err(|error| Wrong::misuse(format!("{}: {error}", file.display())))?,
        None => Audit::default(),
    };
    let fleet = Arc::new(source.fleet.audited(audit));
    let stopper = fleet.clone();
    // A first interrupt ends the move at its next step; it stays where the next command finds it.
    let listening = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.stop();
        }
    });
    // The cluster is the caller's choice: what refuses it is no plan that is stale.
    let request = Request { pin: Some(to.clone()), ..spec.request(guest) };
    let done = fleet.relocate(spec, &request, &guest.record(), to, None).await;
    listening.abort();
    match done {
        Ok(outcome) => {
            let place = &outcome.guest.place;
            let warnings: Vec<String> = outcome.warnings.iter().map(ToString::to_string).collect();
            if json {
                let value = json!({
                    "name": spec.name, "from": place_value(&guest.place), "to": place_value(place), "moved": true,
                    "warnings": warnings,
                });
                return Ok(Output::json(&value, Exit::Fine));
            }
            let mut text = plan.map(|plan| format!("{}\n", text(&plan, asked))).unwrap_or_default();
            text += &format!("{} moved from {} to {place}\n", spec.name, guest.place);
            crate::validate::list(&mut text, "Warnings:", &warnings);
            Ok(Output::new(text, Exit::Fine))
        }
        Err(failure) => Err(wrong(failure)),
    }
}

fn wrong(failure: Failure) -> Wrong {
    Wrong::problem(failure.to_string())
}

fn wish(spec: &mut VmSpec, asked: &Migrate) {
    let migration = &mut spec.migration;
    if asked.delete_source {
        migration.source = Fate::Delete;
    }
    migration.keep_source = asked.keep_source.unwrap_or(migration.keep_source);
    migration.keep_archive = asked.keep_archive.unwrap_or(migration.keep_archive);
    migration.max_downtime = asked.max_downtime;
    migration.shutdown_timeout = asked.shutdown_timeout.unwrap_or(migration.shutdown_timeout);
    migration.force_stop = asked.force_stop;
    migration.accept_loss = asked.accept_loss.iter().cloned().collect();
    // Nobody asks for the addresses it has: where a network takes new ones alone it gets one.
    spec.nics.values_mut().for_each(|nic| nic.mac = None);
    spec.vmid = asked.vmid;
    spec.node = asked.node.clone();
}

/// The machine: its name on that cluster, else `vm-100`, `100` or `CLUSTER/100` as its VMID.
async fn guest(source: &Source, vm: &str, from: &ClusterName) -> Result<Guest, Wrong> {
    let fleet = &source.fleet;
    let site = fleet.site(from.as_str()).ok_or_else(|| Wrong::problem(format!("cluster {from} has no connection")))?;
    let overview = site.glance().await.map_err(|error| Wrong::problem(format!("cluster {from}: {error}")))?;
    let named: Vec<u32> = overview
        .guests()
        .filter(|guest| guest.kind == "qemu" && !guest.template && guest.name.as_deref() == Some(vm))
        .filter_map(|guest| guest.vmid)
        .collect();
    // In the middle of its move the source is fenced, and bears the name of a template.
    let moving = || {
        let mut open = overview.operations().into_values().filter(|journal| journal.name == vm);
        open.find_map(|journal| journal.from.filter(|place| place.cluster == *from).map(|place| place.vmid))
    };
    let number = || {
        let digits = vm.strip_prefix("vm-").or_else(|| vm.strip_prefix(&format!("{from}/"))).unwrap_or(vm);
        digits.parse::<u32>().ok()
    };
    let vmid = match named.as_slice() {
        [vmid] => *vmid,
        [] => moving()
            .or_else(number)
            .ok_or_else(|| Wrong::problem(format!("cluster {from} has no virtual machine {vm:?}")))?,
        several => {
            let all: Vec<String> = several.iter().map(|vmid| format!("{from}/{vmid}")).collect();
            return Err(Wrong::problem(format!(
                "{} machines of {from} are called {vm}: {}",
                all.len(),
                all.join(", ")
            )));
        }
    };
    fleet.look_at(&format!("{from}/{vmid}")).await.map_err(wrong)
}

fn text(plan: &MigrationPlan, asked: &Migrate) -> String {
    let head = match (plan.feasible(), asked.dry_run) {
        (true, true) => format!("{} can move from {} to {}; nothing was done", plan.name, plan.from, plan.to),
        (true, false) => format!("{} moves from {} to {}", plan.name, plan.from, plan.to),
        (false, _) => format!("{} can't move from {} to {}; nothing was done", plan.name, plan.from, plan.to),
    };
    let mut text = format!("{head}\n");
    let findings: Vec<String> = plan.checks.iter().flat_map(|check| &check.findings).map(Finding::to_string).collect();
    if !findings.is_empty() {
        crate::validate::list(&mut text, &format!("{} in the way:", counted(findings.len(), "thing")), &findings);
    }
    text.push('\n');
    let mut facts = Table::new(&["", ""]);
    let fact = |name: &str, value: String| vec![name.to_owned(), value];
    let transfer = plan.transfer.as_ref().map(|(ours, theirs)| {
        if ours == theirs { ours.clone() } else { format!("{ours}, which is {theirs} on {}", plan.to.cluster) }
    });
    facts.row(fact("method", plan.method.to_string()));
    facts.row(fact("transfer storage", transfer.unwrap_or_else(|| "–".to_owned())));
    facts.row(fact("disks", plan.bytes.human()));
    if let Some(storage) = plan.restore_storage.as_ref().filter(|_| plan.copied_again.0 > 0) {
        facts.row(fact("restored to", format!("{storage}; {} move on from there", plan.copied_again.human())));
    }
    facts.row(fact("predicted time", plan.duration.to_string()));
    facts.row(fact("predicted downtime", plan.downtime.to_string()));
    text += facts.text("  ").trim_start_matches('\n');
    let mut table = Table::new(&["SLOT", "NAME", "HERE", "THERE"]);
    for mapping in &plan.mappings {
        let name = mapping.name.clone().unwrap_or_else(|| "–".to_owned());
        table.row(vec![mapping.slot.to_string(), name, mapping.from.clone(), mapping.to.clone()]);
    }
    text += &format!("\n{}", table.text(""));
    if plan.feasible() || asked.verbose {
        text += &format!("\n{}", checks(plan));
    } else {
        let fine = plan.checks.iter().filter(|check| check.findings.is_empty()).count();
        text += &format!("\n{} found nothing; --verbose lists all\n", counted(fine, "other check"));
    }
    if plan.feasible() && asked.dry_run {
        let mut table = Table::new(&["STEP", "WHAT IT DOES"]);
        for StepInfo { step, does, .. } in &plan.steps {
            table.row(vec![step.to_string(), (*does).to_owned()]);
        }
        text += &format!("\n{}", table.text(""));
    }
    let warnings: Vec<String> = plan.warnings.iter().map(ToString::to_string).collect();
    crate::validate::list(&mut text, "Warnings:", &warnings);
    text
}

/// Every check with its answer.
fn checks(plan: &MigrationPlan) -> String {
    let mut table = Table::new(&["CHECK", "ANSWER", "WHAT IT ASKS"]);
    for check in &plan.checks {
        let answer = if check.findings.is_empty() { "ok" } else { "NO" };
        let guide = check.guide.map(|guide| format!(" [{guide}]")).unwrap_or_default();
        table.row(vec![check.id.to_owned(), answer.to_owned(), format!("{}{guide}", check.asks)]);
    }
    table.text("")
}

fn place_value(place: &Place) -> Value {
    json!({ "cluster": place.cluster, "node": place.node, "vmid": place.vmid })
}

fn value(plan: &MigrationPlan) -> Value {
    let finding = |found: &Finding| json!({ "problem": found.text, "next": found.next });
    let check = |check: &operations::Checked| {
        json!({
            "id": check.id, "guide": check.guide, "asks": check.asks, "ok": check.findings.is_empty(),
            "findings": check.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    };
    let mapping = |mapping: &operations::Mapping| json!({ "slot": mapping.slot.to_string(), "name": mapping.name, "from": mapping.from, "to": mapping.to });
    let step = |step: &&StepInfo| json!({ "step": step.step.to_string(), "does": step.does, "undoes": step.undoes });
    json!({
        "name": plan.name,
        "from": place_value(&plan.from),
        "to": place_value(&plan.to),
        "feasible": plan.feasible(),
        "method": plan.method,
        "transfer": plan.transfer.as_ref().map(|(from, to)| json!({ "from": from, "to": to })),
        "restore_storage": plan.restore_storage,
        "bytes": plan.bytes.0,
        "bytes_copied_again": plan.copied_again.0,
        "predicted_seconds": plan.duration.as_secs_ceil(),
        "downtime_seconds": plan.downtime.as_secs_ceil(),
        "mappings": plan.mappings.iter().map(mapping).collect::<Vec<_>>(),
        "checks": plan.checks.iter().map(check).collect::<Vec<_>>(),
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "warnings": plan.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
