//! One attempt at one delivery: the body, its signatures, the call, and what its answer means.

use std::time::Duration;

use super::Failure;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was accepted.
    Accepted,
    /// It may work later.
    Failed {
        /// Why it did not.
        failure: Failure,
        /// The least pause that the subscriber asked for.
        retry_after: Option<Duration>,
    },
    /// It will not work.
    Refused {
        /// Why.
        failure: Failure,
    },
    /// The subscriber wants nothing any more (410).
    Gone {
        /// What it said.
        failure: Failure,
    },
}
