//! Owns turning what operations and the layers of rules say into diagnostics.
use federation::ClusterName;
use federation::model::Difference;
use operations::Failure;
use protocol::Diagnostics;

use crate::placing::Ready;
use crate::remedies;

/// Reports a failure as an error.
pub(crate) fn report(failure: &Failure, diags: &mut Diagnostics) {
    diags.error(&failure.what, detail(failure));
}

/// Reports a failure that did no harm as a warning.
pub(crate) fn warn(failure: &Failure, diags: &mut Diagnostics) {
    diags.warning(&failure.what, detail(failure));
}

/// Everything behind the first line, and what to type.
pub(crate) fn detail(failure: &Failure) -> String {
    match &failure.remedy {
        Some(remedy) => format!("{}\nHow: {}", failure.detail(), remedies::in_words(remedy)),
        None => failure.detail(),
    }
}

/// Reports what keeps an object from being refreshed: as an error, but where everything is to be destroyed as a warning, for an
/// error would be in the way of that.
pub(crate) fn not_refreshed(failure: &Failure, ready: &Ready, diags: &mut Diagnostics) {
    if ready.parent.destroys() { warn(failure, diags) } else { report(failure, diags) }
}

/// Whether a cluster is out of reach for this process. One warning for each says everything that this stops, whatever of it is
/// read: a hundred machines and pools have nothing to add.
pub(crate) async fn is_dark(cluster: &ClusterName, ready: &Ready, diags: &mut Diagnostics) -> bool {
    let Some(site) = ready.fleet.site(cluster.as_str()) else { return false };
    let Some(why) = site.dark().await else { return false };
    // In reattach mode one process serves many runs, and each is to be told.
    if ready.told.once(format!("dark {cluster}")) || ready.decisions.is_none() {
        if ready.fleet.is_declared_lost(cluster) {
            diags.warning(
                format!("Cluster {cluster} is declared lost, and does not answer"),
                format!(
                    "{why}\nMachines that state has there are planned on other clusters of their pools where a backup of them is seen. Its \
                     pools and its own record are not refreshed. It is not asked again in this run, but for right before a recovery."
                ),
            );
            return true;
        }
        diags.warning(
            format!("Cluster {cluster} does not answer"),
            format!(
                "{why}\nIts machines, its pools and its own record are not refreshed: they stay in state as they were. Nothing new \
                 is placed there, nothing moves off it or to it, and what is on it can't be changed or destroyed until it answers. \
                 The other clusters go on. It is not asked again in this run."
            ),
        );
    }
    true
}

/// Says where the federation file contradicts a record: it weakens nothing, but somebody should know (design.md §3).
pub(crate) fn contradiction(difference: &Difference, diags: &mut Diagnostics) {
    if !matches!(difference.key.as_str(), "description" | "display_name") {
        diags.warning(
            format!("The federation file contradicts the record of {}", difference.object),
            format!(
                "{} is {} in the file and {} on the clusters, which holds.",
                difference.key, difference.lower, difference.upper
            ),
        );
    }
}
