//! Owns PlanResourceChange of a cluster: values from configuration and prior state alone; facts only warn.
use federation::ClusterName;
use operations::{Object, Remedy};
use protocol::{AttributePath, Diagnostic, Diagnostics, PlanRequest, PlanResponse, Value};

use super::{model, parse};
use crate::layers::Planned;
use crate::placing::Ready;
use crate::remedies;

/// Plans an enrolment, a change, or a removal.
pub(crate) async fn plan(ready: Option<&Ready>, req: PlanRequest, diags: &mut Diagnostics) -> PlanResponse {
    if req.config.is_null() && req.proposed_new_state.is_null() {
        if let (Some(ready), Some(name)) = (ready, model::name(&req.prior_state)) {
            leaves(ready, &name, diags).await;
        }
        return PlanResponse { planned_private: req.prior_private, ..PlanResponse::default() };
    }
    let state = model::planned(&req.config, &req.prior_state);
    let exists = !req.prior_state.is_null();
    // Before everything is destroyed the CLI plans as usual, and an error there would end it.
    let destroys = ready.is_some_and(|ready| ready.parent.destroys());
    let say = if destroys { Diagnostic::warning } else { Diagnostic::error };
    if exists && state.attr("name").is_known() && state.attr("name") != req.prior_state.attr("name") {
        let (was, is) = (req.prior_state.attr("name").as_str(), state.attr("name").as_str());
        let (was, is) = (was.unwrap_or_default(), is.unwrap_or_default());
        let detail = format!(
            "Pools, records and states of other workspaces know it as {was}, so it can't become {is}. To enrol it anew under \
             another name, drain it, destroy this resource, and create one of that name; or put `name = \"{was}\"` back."
        );
        diags.push(say("A cluster's name is for life".to_owned(), detail).at(AttributePath::new("name")));
    } else if let (Some(ready), Some(name)) = (ready, model::name(&state)) {
        announce(ready, &name, &state, say, diags).await;
        connected(ready, &name, exists, say, diags);
        if !exists && !destroys {
            existing(ready, &name, diags).await;
        }
    }
    datacenter(&req.prior_state, &state, diags);
    PlanResponse { planned_state: state, requires_replace: Vec::new(), planned_private: req.prior_private }
}

/// Tells the rest of this process what the cluster's facts become: the third layer (design.md §3).
async fn announce(
    ready: &Ready,
    name: &ClusterName,
    state: &Value,
    say: fn(String, String) -> Diagnostic,
    diags: &mut Diagnostics,
) {
    let unknown = model::unknown_inputs(state);
    let planned = if unknown.is_empty() { Planned::Known(parse::facts(state)) } else { Planned::Unknown(unknown) };
    if ready.plan_cluster(name, planned).await {
        let late = say(
            "A machine was placed before this cluster's facts were planned".to_owned(),
            format!(
                "A moxxie_resource_pool or moxxie_virtual_machine names the cluster \"{name}\" literally, so nothing tells \
                 Terraform to plan the cluster first. Refer to it: clusters = [moxxie_cluster.<label>.name]."
            ),
        );
        diags.push(late.at(AttributePath::new("name")));
    }
}

fn connected(
    ready: &Ready,
    name: &ClusterName,
    exists: bool,
    say: fn(String, String) -> Diagnostic,
    diags: &mut Diagnostics,
) {
    if ready.fleet.site(name.as_str()).is_some() {
        return;
    }
    let summary = format!("Cluster {name} has no connection in this configuration");
    let detail = "Add it to `clusters` of the provider block: connections stand there alone.";
    // Of one that is enrolled the user may have taken the connection away on purpose.
    let made = if exists { Diagnostic::warning } else { say };
    diags.push(made(summary, detail.to_owned()).at(AttributePath::new("name")));
}

/// Warns of what apply will refuse: an enrolled cluster is imported, never taken over.
async fn existing(ready: &Ready, name: &ClusterName, diags: &mut Diagnostics) {
    if let Some(how) = ready.fleet.enrolled_as(name).await {
        diags.warning_at(
            AttributePath::new("name"),
            format!("Cluster {name} is enrolled already, and apply will refuse to enrol it"),
            format!(
                "It has {how}. Import it: {}.",
                remedies::in_words(&Remedy::Import(Object::Cluster, name.to_string()))
            ),
        );
    }
}

/// Says what nobody should overlook: these are not ours alone.
fn datacenter(prior: &Value, state: &Value, diags: &mut Diagnostics) {
    let (before, after) = (prior.attr("datacenter_options"), state.attr("datacenter_options"));
    if before == after || parse::options(prior) == parse::options(state) && after.is_wholly_known() {
        return;
    }
    let name = state.attr("name").as_str().unwrap_or("the cluster").to_owned();
    let spelled = |value: &Value| {
        let options = parse::options(value);
        let parts: Vec<String> = options.iter().map(|(option, value)| format!("{option} {value}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join("; ") }
    };
    diags.warning_at(
        AttributePath::new("datacenter_options"),
        format!("Datacenter options of {name} change, which affects every user of this cluster"),
        format!(
            "Taken over before: {}. Then: {}. Guests, restores and people who know nothing of this configuration get them, \
             too. What is taken out is put back as it was.",
            spelled(prior),
            spelled(state)
        ),
    );
}

/// Warns of what stays when a cluster leaves the federation, and of what apply will refuse.
async fn leaves(ready: &Ready, name: &ClusterName, diags: &mut Diagnostics) {
    if ready.fleet.site(name.as_str()).is_none() {
        diags.warning(
            format!("Cluster {name} has no connection in this configuration, and apply will refuse to remove it"),
            "Take the moxxie_cluster out first, then its entry in `clusters`; or use a removed block.",
        );
        return;
    }
    // Those of this plan that go with it are counted, too: it can't be told which do.
    let guests = ready.fleet.guests_on(name).await.filter(|guests| *guests > 0);
    if let (Some(guests), false) = (guests, ready.parent.destroys()) {
        diags.warning(
            format!("Only the federation's record of {name} goes"),
            format!(
                "{guests} guests are on it now, and those that are not destroyed by this plan stay. Apply refuses while \
                 resource pools or operations of the federation are there."
            ),
        );
    }
}
