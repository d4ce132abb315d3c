//! Errors of checking a captured request.

use std::io;
use std::path::PathBuf;

use super::super::captured::CapturedRequestError;

/// Reasons for which a captured request was not checked or would be refused.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum RequestTrialError {
    #[error("{} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{} is not an HTTP request", .0.display())]
    Malformed(PathBuf, #[source] CapturedRequestError),
    #[error("unknown source {name:?}; the sources are {}", .known.join(", "))]
    NoSource { name: String, known: Vec<String> },
    #[error("a node would refuse this request")]
    Refused,
}
