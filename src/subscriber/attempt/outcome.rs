//! The outcome of one attempt, as the delivery receives it.

use std::time::Duration;

use super::super::AttemptFailure;

/// Outcome of one attempt, classified by its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The subscriber accepted the delivery.
    Accepted,
    /// The attempt was not made: the content of the record was erased while it waited.
    Dropped,
    /// The attempt failed; a later attempt may succeed.
    TransientFailure {
        /// Status, code and detail of the failure.
        failure: AttemptFailure,
        /// Shortest pause that the subscriber asked for with `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The attempt failed, and so would every later attempt.
    PermanentFailure {
        /// Status, code and detail of the failure.
        failure: AttemptFailure,
    },
    /// The subscriber wants no more deliveries at all (410 Gone).
    Gone {
        /// Status, code and detail of the failure.
        failure: AttemptFailure,
    },
}

impl AttemptOutcome {
    /// The failure; `None` if the delivery was accepted or dropped.
    #[must_use]
    pub const fn failure(&self) -> Option<&AttemptFailure> {
        match self {
            Self::Accepted | Self::Dropped => None,
            Self::TransientFailure { failure, .. }
            | Self::PermanentFailure { failure }
            | Self::Gone { failure } => Some(failure),
        }
    }

    /// Returns the value of the label `outcome` in the metrics.
    pub(in crate::subscriber) const fn as_metric_label(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Dropped => "dropped",
            Self::TransientFailure { .. } => "failed",
            Self::PermanentFailure { .. } => "refused",
            Self::Gone { .. } => "gone",
        }
    }
}
