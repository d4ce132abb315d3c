//! Message that a page shows once, at its top: the outcome of the action before it.

use crate::config::Secret;

/// Purpose of the secret of a subscription or an account.
pub(super) const VERIFIES: &str = "The receiver verifies deliveries with it.";

/// Outcome of an action, for the page that follows it.
#[derive(Clone, Debug)]
pub(in crate::edge) enum SessionNotice {
    /// The action was done, as this sentence says.
    Success(String),
    /// The action was refused, for the reason in this sentence.
    Failure(String),
    /// The owner, such as `webhook 3`, has a new secret, which no other page shows; `purpose` is a
    /// sentence that says what it is for.
    NewSecret {
        owner: String,
        purpose: &'static str,
        secret: Secret,
    },
    /// A subscription's target was called with a ping.
    Ping {
        is_successful: bool,
        summary: String,
        answer: Option<String>,
    },
}
