//! Description of a failed attempt, as dead letters, the call log and the admin API show it.

use bytes::Bytes;

/// Reason for which an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptFailure {
    /// HTTP status of the response, if there was a response.
    pub status: Option<u16>,
    /// Stable machine-readable code, such as `timeout`.
    pub code: &'static str,
    /// One sentence for a person; never contains a secret.
    pub detail: String,
    /// Beginning of the response's body, as far as it was read.
    pub answer: Bytes,
}
