//! Reasons for which the router does not accept an event.

use std::time::Duration;

use bytes::Bytes;

use crate::entity::Rejection;
use crate::event::Position;

/// Reason for which an event was not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The source has used the idempotency key before, within its window.
    #[error("idempotency key already used by the event at position {position}")]
    Duplicate {
        /// Position of the first event's record.
        position: Position,
        /// Sequence number of the first event; `None` if it failed.
        sequence: Option<u64>,
    },
    /// The sender has used the idempotency key for another event, within its window.
    #[error("idempotency key already used for another event, at position {position}")]
    KeyReused {
        /// Key as the router knows it.
        key: Box<str>,
        /// Position of the record of the event that has the key.
        position: Position,
    },
    /// The signed bytes were taken before with another content, within the source's window.
    #[error("signed request already taken with another content")]
    OtherReading,
    /// The entity rejected the event. Nothing changed.
    #[error("{}", .0.message)]
    Rejected(Rejection),
    /// The entity had applied the event before. Nothing changed.
    #[error("event already applied by its entity")]
    AlreadyApplied {
        /// Answer to the sender as JSON, possibly empty.
        answer: Bytes,
    },
    /// No permit is free, or the projection lags too far behind. Nothing changed.
    #[error("too many events in flight, or projection lag over limit")]
    Overloaded,
    /// The entity crashed repeatedly and takes no events for a while.
    #[error("entity crashed repeatedly and is quarantined for {retry_after:?}")]
    Quarantined {
        /// Remaining duration of the quarantine.
        retry_after: Duration,
    },
    /// The store failed or the entity crashed, so it is unknown if the event was stored. A
    /// repetition with the same key finds out.
    #[error("outcome unknown; the event may have been stored")]
    Unknown,
}
