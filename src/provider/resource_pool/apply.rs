//! Owns ApplyResourceChange of a resource pool.
use operations::{PoolWritten, Revision};
use protocol::{ApplyRequest, ApplyResponse, Diagnostics};

use super::model;
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
        diags.error("The plan names no pool", "Plan again.");
        return kept;
    };
    let pool = model::pool(&req.planned_state);
    let written = if req.prior_state.is_null() {
        ready.fleet.create_pool(&name, &pool).await
    } else {
        let known = revision(&req.planned_private);
        ready.fleet.update_pool(&name, &pool, &model::clusters(&req.prior_state), known.as_ref()).await
    };
    match written {
        Ok(PoolWritten { revision, warnings }) => {
            for warning in &warnings {
                warn(warning, diags);
            }
            ready.plan_pool(&name, Planned::Known(pool)).await;
            ApplyResponse { new_state: req.planned_state, private: private(&revision) }
        }
        Err(failure) => {
            ready.forget_pool(&name);
            report(&failure, diags);
            kept
        }
    }
}

async fn destroy(ready: &Ready, req: ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse {
    let kept = || ApplyResponse { new_state: req.prior_state.clone(), private: req.planned_private.clone() };
    let Some(name) = model::name(&req.prior_state) else {
        diags.error("State can't be read", "It lacks the name of the pool. Use a removed block.");
        return kept();
    };
    match ready.fleet.delete_pool(&name, &model::clusters(&req.prior_state)).await {
        Ok(warnings) => {
            for warning in &warnings {
                warn(warning, diags);
            }
            ready.forget_pool(&name);
            ApplyResponse::default()
        }
        Err(failure) => {
            report(&failure, diags);
            kept()
        }
    }
}

/// The record that a plan was made from, as [`private`] keeps it.
pub(super) fn revision(private: &[u8]) -> Option<Revision> {
    serde_json::from_slice(private).ok()
}

/// What is stored beside state: which record it is from.
pub(super) fn private(revision: &Revision) -> Vec<u8> {
    // Plain fields always have a JSON form.
    serde_json::to_vec(revision).unwrap_or_default()
}
