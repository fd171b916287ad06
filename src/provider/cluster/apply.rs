//! Owns ApplyResourceChange of a cluster.
use protocol::{ApplyRequest, ApplyResponse, Diagnostics};

use super::kept::Kept;
use super::{model, parse};
use crate::failures::{report, warn};
use crate::layers::Planned;
use crate::placing::Ready;

/// Carries a plan out. A create answers with the planned object, or null and an error, never both: nothing is tainted.
pub(crate) async fn apply(ready: &Ready, req: ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse {
    if req.planned_state.is_null() {
        return destroy(ready, req, diags).await;
    }
    let kept = ApplyResponse { new_state: req.prior_state.clone(), private: req.planned_private.clone() };
    let Some(name) = model::name(&req.planned_state) else {
        diags.error("The plan names no cluster", "Plan again.");
        return kept;
    };
    let (facts, options) = (parse::facts(&req.planned_state), parse::options(&req.planned_state));
    let written = if req.prior_state.is_null() {
        ready.fleet.create_cluster(&name, &facts, &options).await
    } else {
        let known = Kept::read(&req.planned_private);
        let (revision, held) = (known.revision.as_ref(), &known.datacenter);
        ready.fleet.update_cluster(&name, &facts, &options, revision, held).await
    };
    match written {
        Ok(written) => {
            for warning in &written.warnings {
                warn(warning, diags);
            }
            ready.plan_cluster(&name, Planned::Known(facts)).await;
            let id = written.revision.id.as_str();
            ApplyResponse { new_state: req.planned_state.with_attr("id", id), private: Kept::written(&written).write() }
        }
        Err(failure) => {
            ready.forget_cluster(&name).await;
            report(&failure, diags);
            kept
        }
    }
}

async fn destroy(ready: &Ready, req: ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse {
    let kept = || ApplyResponse { new_state: req.prior_state.clone(), private: req.planned_private.clone() };
    let Some(name) = model::name(&req.prior_state) else {
        diags.error("State can't be read", "It lacks the name of the cluster. Use a removed block.");
        return kept();
    };
    let known = Kept::read(&req.planned_private);
    match ready.fleet.delete_cluster(&name, known.revision.as_ref(), &known.datacenter).await {
        Ok(warnings) => {
            for warning in &warnings {
                warn(warning, diags);
            }
            ready.forget_cluster(&name).await;
            ApplyResponse::default()
        }
        Err(failure) => {
            report(&failure, diags);
            kept()
        }
    }
}
