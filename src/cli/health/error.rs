//! Errors of `hookyard health`.

use reqwest::StatusCode;

/// Verdicts on a node that is not healthy.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum HealthError {
    #[error("no node answers at {base}")]
    Unreachable {
        base: String,
        source: reqwest::Error,
    },
    #[error("the node at {base} is not ready: {reason}")]
    NotReady { base: String, reason: String },
    #[error("the answer of {base} is not that of a node: {status}")]
    NoNode { base: String, status: StatusCode },
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}
