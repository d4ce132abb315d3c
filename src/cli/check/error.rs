//! Errors of checking a captured request.

use std::io;
use std::path::PathBuf;

use crate::edge::request_trial::{CapturedRequestError, TrialRequestError};

/// Reasons for which a captured request was not checked or would be refused.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum RequestTrialError {
    #[error("{} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{} is not an HTTP request", .0.display())]
    Malformed(PathBuf, #[source] CapturedRequestError),
    #[error(transparent)]
    Source(TrialRequestError),
    #[error("a node would refuse this request")]
    Refused,
}

impl RequestTrialError {
    /// Error of the trial of the request in `file`.
    pub(super) fn from_trial(error: TrialRequestError, file: PathBuf) -> Self {
        match error {
            TrialRequestError::Malformed(error) => Self::Malformed(file, error),
            error @ TrialRequestError::NoSource { .. } => Self::Source(error),
        }
    }
}
