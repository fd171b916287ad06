//! Owns PlanResourceChange of a resource pool: values from configuration and prior state alone; facts only warn.
use federation::PoolName;
use operations::{Object, Remedy};
use protocol::{AttributePath, Diagnostic, Diagnostics, PlanRequest, PlanResponse, Value};

use super::model;
use crate::layers::Planned;
use crate::placing::Ready;
use crate::remedies;

/// Plans a create, an update, a replacement under another name, or a destroy.
pub(crate) async fn plan(ready: Option<&Ready>, req: PlanRequest, diags: &mut Diagnostics) -> PlanResponse {
    if req.config.is_null() && req.proposed_new_state.is_null() {
        return PlanResponse { planned_private: req.prior_private, ..PlanResponse::default() };
    }
    let state = model::planned(&req.config, &req.prior_state);
    let exists = !req.prior_state.is_null();
    let renamed = exists && state.attr("name") != req.prior_state.attr("name");
    if let (Some(ready), Some(name), false) = (ready, model::name(&state), renamed) {
        announce(ready, &name, &state, diags).await;
        unconnected(ready, &state, diags);
        matches_nothing(ready, &name, &state, diags).await;
        if exists {
            leaving(ready, &name, &req.prior_state, &state, diags).await;
        } else {
            existing(ready, &name, &state, diags).await;
        }
    }
    let requires_replace = if renamed { vec![AttributePath::new("name")] } else { Vec::new() };
    PlanResponse { planned_state: state, requires_replace, planned_private: req.prior_private }
}

/// Tells the rest of this process what the pool becomes: the third layer (design.md §3).
async fn announce(ready: &Ready, name: &PoolName, state: &Value, diags: &mut Diagnostics) {
    let unknown = model::unknown_inputs(state);
    let planned = if unknown.is_empty() { Planned::Known(model::pool(state)) } else { Planned::Unknown(unknown) };
    if ready.plan_pool(name, planned).await {
        // Before everything is destroyed the CLI plans as usual, and an error there would end it.
        let say = if ready.parent.destroys() { Diagnostic::warning } else { Diagnostic::error };
        let late = say(
            "A machine asked for this pool before its policy was planned".to_owned(),
            format!(
                "A moxxie_virtual_machine names the pool \"{name}\" literally, so nothing tells Terraform to plan the pool \
                 first. Refer to it: pool = moxxie_resource_pool.<label>.name."
            ),
        );
        diags.push(late.at(AttributePath::new("name")));
    }
}

fn unconnected(ready: &Ready, state: &Value, diags: &mut Diagnostics) {
    for cluster in model::clusters(state) {
        if ready.fleet.site(cluster.as_str()).is_none() {
            diags.warning_at(
                AttributePath::new("clusters"),
                format!("Cluster {cluster} has no connection in this configuration"),
                "The pool can't be written there. Add the cluster to `clusters` of the provider block.",
            );
        }
    }
}

/// Warns of rules and weights that change nothing: most often a slip.
async fn matches_nothing(ready: &Ready, name: &PoolName, state: &Value, diags: &mut Diagnostics) {
    if !model::unknown_inputs(state).is_empty() {
        return;
    }
    let rules = ready.rules().await;
    for text in federation::placement::unmatched(&rules.federation, name, &model::pool(state)) {
        diags.warning_at(
            AttributePath::new("placement_policy"),
            format!("The policy of pool {name} has something that matches nothing"),
            text,
        );
    }
}

/// Warns of what apply will refuse: an existing pool is imported, never taken over.
async fn existing(ready: &Ready, name: &PoolName, state: &Value, diags: &mut Diagnostics) {
    if ready.parent.destroys() {
        return;
    }
    let members = model::clusters(state);
    let found = ready.fleet.has_pool(name).await;
    let there: Vec<String> = found
        .into_iter()
        .filter(|(cluster, recorded)| *recorded || members.contains(cluster))
        .map(|(cluster, recorded)| if recorded { format!("{cluster} (enrolled)") } else { cluster.to_string() })
        .collect();
    if !there.is_empty() {
        diags.warning_at(
            AttributePath::new("name"),
            format!("Pool {name} exists already, and apply will refuse to create it"),
            format!(
                "It is on {}. Import it: {}.",
                there.join(", "),
                remedies::in_words(&Remedy::Import(Object::Pool, name.to_string()))
            ),
        );
    }
}

/// Warns of machines on clusters that leave: apply refuses then.
async fn leaving(ready: &Ready, name: &PoolName, prior: &Value, state: &Value, diags: &mut Diagnostics) {
    if !state.attr("clusters").is_wholly_known() {
        return;
    }
    let (before, after) = (model::clusters(prior), model::clusters(state));
    if before.is_subset(&after) {
        return;
    }
    let inside = ready.fleet.guests_in_pool(name, |cluster| before.contains(cluster) && !after.contains(cluster)).await;
    if !inside.is_empty() {
        diags.warning_at(
            AttributePath::new("clusters"),
            format!("Pool {name} leaves clusters that hold machines of it, and apply will refuse that"),
            format!("Unless they are gone by then: {}.", inside.join(", ")),
        );
    }
}
