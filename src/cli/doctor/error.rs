//! Verdict of `hookyard doctor`.

use crate::cli::plural::format_count;

/// Verdict of a look at a store that found problems.
#[derive(Debug, thiserror::Error)]
#[error("{}", format_count(*problems, "problem", "problems"))]
pub(in crate::cli) struct DoctorVerdict {
    pub(super) problems: u64,
}
