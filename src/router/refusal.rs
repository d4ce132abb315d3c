//! Reasons for which the router does not accept an event.

use std::time::Duration;

use bytes::Bytes;

use crate::entity::Rejection;
use crate::event::Position;

/// Reason for which an event was not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The source has used the idempotency key before, within its window.
    #[error("the idempotency key was used before, by the event at position {position}")]
    Duplicate {
        /// Position of the first event's record.
        position: Position,
        /// Sequence number of the first event; `None` if it failed.
        sequence: Option<u64>,
    },
    /// The entity rejected the event. Nothing changed.
    #[error("{}", .0.message)]
    Rejected(Rejection),
    /// The entity had applied the event before. Nothing changed.
    #[error("the entity knows the event already")]
    Known {
        /// Answer to the sender as JSON, possibly empty.
        answer: Bytes,
    },
    /// No permit is free, or the projection lags too far behind. Nothing changed.
    #[error("too many events are on their way")]
    Overloaded,
    /// The entity crashed repeatedly and takes no events for a while.
    #[error("the entity crashed too often and rests for {retry_after:?}")]
    Quarantined {
        /// Remaining duration of the quarantine.
        retry_after: Duration,
    },
    /// The store failed or the entity crashed, so it is unknown if the event was stored. A
    /// repetition with the same key finds out.
    #[error("it is not known whether the event was stored")]
    Unknown,
}
