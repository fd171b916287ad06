//! Owns `federate allocate`.
use std::collections::BTreeMap;

use federation::model::NicRequest;
use federation::placement::{
    Candidate, ClusterFacts, Decision, DiskRequest, Explanation, Health, Ledger, Refusal, Request, choose_all,
};
use federation::{ClusterName, Federation, Slot, VmName};
use serde_json::{Value, json};

use crate::arguments::{Allocate, Common};
use crate::report::{Exit, Output, Wrong};
use crate::source;
use crate::table::Table;

type Answer = Result<Decision, Refusal>;

/// From more machines than this on it is said on standard error that something is under way.
const MANY: usize = 100;

/// Asks the rules where machines would go.
pub(crate) async fn run(common: &Common, asked: &Allocate, json: bool) -> Result<Output, Wrong> {
    let source = source::open(common)?;
    let rules = source.fleet.rules().await;
    let federation = &rules.federation;
    known(federation, asked)?;
    let mut inventory = source.fleet.inventory().await.as_ref().clone();
    for (name, why) in source.unusable {
        let facts = ClusterFacts { health: Health::Unknown(why), ..ClusterFacts::default() };
        inventory.clusters.insert(name, facts);
    }
    let requests = requests(asked)?;
    if requests.len() > MANY {
        source::say(&format!("placing {} machines in {}; this may take some seconds", requests.len(), asked.pool));
    }
    let answers = choose_all(federation, &inventory, &requests, &Ledger::new());
    let exit = Exit::fine_if(answers.iter().all(Result::is_ok));
    if json {
        let machines =
            requests.iter().zip(&answers).map(|(request, answer)| value(&request.name, answer, asked.explain));
        return Ok(Output::json(&json!({ "pool": asked.pool, "machines": machines.collect::<Vec<_>>() }), exit));
    }
    let mut text = String::new();
    if let ([request], [answer]) = (requests.as_slice(), answers.as_slice()) {
        text += &one(&request.name, answer, asked.explain);
    } else {
        text += &several(&requests, &answers, asked.explain);
    }
    Ok(Output::new(text, exit))
}

/// Refuses names that stand for nothing here.
fn known(federation: &Federation, asked: &Allocate) -> Result<(), Wrong> {
    let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    if !federation.pools.contains_key(&asked.pool) {
        let pools = list(federation.pools.keys().map(|pool| pool.as_str()).collect());
        return Err(Wrong::misuse(format!("there is no pool {:?}; there are: {pools}", asked.pool.as_str())));
    }
    if let Some(pin) = asked.cluster.as_ref().filter(|pin| !federation.clusters.contains_key(*pin)) {
        let clusters = list(federation.clusters.keys().map(ClusterName::as_str).collect());
        return Err(Wrong::misuse(format!("there is no cluster {:?}; there are: {clusters}", pin.as_str())));
    }
    Ok(())
}

fn requests(asked: &Allocate) -> Result<Vec<Request>, Wrong> {
    let slot = |text: String| text.parse::<Slot>().map_err(|_| Wrong::misuse("too many --disk or --network"));
    let mut disks = BTreeMap::new();
    for (index, size) in asked.disk.iter().enumerate() {
        disks.insert(slot(format!("scsi{index}"))?, DiskRequest { size: *size, storage: asked.storage.clone() });
    }
    let mut nics = BTreeMap::new();
    for (index, network) in asked.network.iter().enumerate() {
        nics.insert(
            slot(format!("net{index}"))?,
            NicRequest { network: Some(network.clone()), ..NicRequest::default() },
        );
    }
    let request = |name: VmName| Request {
        pool: Some(asked.pool.clone()),
        pin: asked.cluster.clone(),
        location: asked.location.clone(),
        cpus: asked.cpu,
        memory: asked.memory,
        disks: disks.clone(),
        nics: nics.clone(),
        tags: asked.tag.iter().cloned().collect(),
        needs: asked.needs.iter().copied().collect(),
        ..Request::new(name)
    };
    names(asked).map(|names| names.into_iter().map(request).collect())
}

/// The names: the given one, then its family's next numbers, or numbers from 1 behind a name without one.
fn names(asked: &Allocate) -> Result<Vec<VmName>, Wrong> {
    if asked.count == 1 {
        return Ok(vec![asked.name.clone()]);
    }
    let family = asked.name.family();
    let (pattern, first) = match &family {
        Some(family) => (family.pattern.clone(), family.number),
        None => (format!("{}-*", asked.name), 1),
    };
    let name = |number: u32| VmName::new(pattern.replacen('*', &number.to_string(), 1));
    let names = (first..first.saturating_add(asked.count)).map(name).collect::<Result<_, _>>();
    names.map_err(|error| Wrong::misuse(error.to_string()))
}

fn one(name: &VmName, answer: &Answer, explain: bool) -> String {
    match answer {
        Ok(decision) => {
            let mut text = format!("{name} goes to {}\n  {}\n", decision.cluster, decision.why);
            if explain {
                text += &format!("\n{}", explained(&decision.explanation));
            }
            text
        }
        Err(refusal) => refused(name, refusal),
    }
}

fn refused(name: &VmName, refusal: &Refusal) -> String {
    format!("{name} goes nowhere: no cluster can take it\n\n{}", reasons(refusal))
}

/// Why each cluster refuses, whatever the order in which a machine would like them.
type Why = BTreeMap<ClusterName, Vec<String>>;

fn why(refusal: &Refusal) -> Why {
    let candidates = refusal.explanation.candidates.iter();
    candidates.map(|one| (one.cluster.clone(), one.refused.iter().map(ToString::to_string).collect())).collect()
}

fn reasons(refusal: &Refusal) -> String {
    let table = explained(&refusal.explanation);
    format!("{table}\nSmallest change that would help: {}\n", refusal.smallest_relaxation)
}

fn several(requests: &[Request], answers: &[Answer], explain: bool) -> String {
    let mut table = Table::new(&["MACHINE", "CLUSTER", "WHY"]);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (request, answer) in requests.iter().zip(answers) {
        let (cluster, why) = match answer {
            Ok(decision) => (decision.cluster.as_str(), decision.why.clone()),
            Err(refusal) => ("–", format!("to mend that: {}", refusal.smallest_relaxation)),
        };
        *counts.entry(if answer.is_ok() { cluster } else { "nowhere" }).or_default() += 1;
        table.row(vec![request.name.to_string(), cluster.to_owned(), why]);
    }
    let counts: Vec<String> = counts.iter().map(|(cluster, count)| format!("{count} on {cluster}")).collect();
    let mut text = format!("{}\n{}\n", table.text(""), counts.join(", ").replace("on nowhere", "nowhere"));
    // A thousand machines that don't fit for the same reasons are told of once.
    let mut alike: Vec<(Why, String, Vec<&VmName>)> = Vec::new();
    for (request, answer) in requests.iter().zip(answers) {
        match answer {
            Err(refusal) => {
                let why = why(refusal);
                match alike.iter_mut().find(|(known, ..)| *known == why) {
                    Some((.., names)) => names.push(&request.name),
                    None => alike.push((why, reasons(refusal), vec![&request.name])),
                }
            }
            Ok(_) if explain => text += &format!("\n{}", one(&request.name, answer, true)),
            Ok(_) => {}
        }
    }
    for (_, why, names) in alike {
        let who = match names.as_slice() {
            [only] => format!("{only} goes nowhere"),
            [first, .., last] => format!("{first} to {last}, {} machines, go nowhere", names.len()),
            [] => continue,
        };
        text += &format!("\n{who}: no cluster can take {}\n\n{why}", if names.len() == 1 { "it" } else { "them" });
    }
    text
}

/// One row for each thing that counts for a candidate, or against it.
fn explained(explanation: &Explanation) -> String {
    let mut table = Table::new(&["CLUSTER", "CHOICE", "#SCORE", "WHAT COUNTS"]);
    for candidate in &explanation.candidates {
        let mut counts = counts(candidate).into_iter();
        let choice = match candidate.preference.filter(|_| candidate.refused.is_empty()) {
            Some(place) => place.to_string(),
            None => "refused".to_owned(),
        };
        let score = candidate.score.map(|score| format!("{score:.3}")).unwrap_or_default();
        table.row(vec![candidate.cluster.to_string(), choice, score, counts.next().unwrap_or_default()]);
        counts.for_each(|line| table.row(vec![String::new(), String::new(), String::new(), line]));
    }
    let mut text = table.text("  ");
    for note in &explanation.notes {
        text += &format!("  note: {note}\n");
    }
    text
}

fn counts(candidate: &Candidate) -> Vec<String> {
    if !candidate.refused.is_empty() {
        return candidate.refused.iter().map(ToString::to_string).collect();
    }
    let factor = |factor: &federation::placement::Factor| {
        let share =
            if factor.share > 0.0 { format!(" {:.2} × {:.2}", factor.share, factor.value) } else { String::new() };
        let detail = if factor.detail.is_empty() { String::new() } else { format!(" ({})", factor.detail) };
        format!("{}{share}{detail}", factor.name)
    };
    candidate.factors.iter().map(factor).collect()
}

fn value(name: &VmName, answer: &Answer, explain: bool) -> Value {
    match answer {
        Ok(decision) => {
            let mut value = json!({
                "name": name,
                "cluster": decision.cluster,
                "why": decision.why,
                "leaned_on_siblings": decision.leaned_on_siblings,
            });
            if explain {
                value["explanation"] = json!(decision.explanation);
            }
            value
        }
        Err(refusal) => json!({
            "name": name,
            "cluster": null,
            "smallest_relaxation": refusal.smallest_relaxation,
            "explanation": refusal.explanation,
        }),
    }
}
