//! Owns turning what operations and the layers of rules say into diagnostics.
use federation::model::Difference;
use operations::Failure;
use protocol::Diagnostics;

use crate::placing::Ready;

/// Reports a failure as an error.
pub(crate) fn report(failure: &Failure, diags: &mut Diagnostics) {
    diags.error(&failure.what, failure.detail());
}

/// Reports a failure that did no harm as a warning.
pub(crate) fn warn(failure: &Failure, diags: &mut Diagnostics) {
    diags.warning(&failure.what, failure.detail());
}

/// Reports what keeps an object from being refreshed: as an error, but where everything is to be destroyed as a warning, for an
/// error would be in the way of that.
pub(crate) fn not_refreshed(failure: &Failure, ready: &Ready, diags: &mut Diagnostics) {
    if ready.parent.destroys() { warn(failure, diags) } else { report(failure, diags) }
}

/// Says where the federation file contradicts a record: it weakens nothing, but somebody should know (design §3).
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
