//! Owns turning a failure of an operation into a diagnostic.
use operations::Failure;
use protocol::Diagnostics;

/// Reports a failure as an error.
pub(crate) fn report(failure: &Failure, diags: &mut Diagnostics) {
    diags.error(&failure.what, failure.detail());
}

/// Reports a failure that did no harm as a warning.
pub(crate) fn warn(failure: &Failure, diags: &mut Diagnostics) {
    diags.warning(&failure.what, failure.detail());
}
