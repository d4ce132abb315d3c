//! Reasons for which an event is not taken in.

use std::time::Duration;

use bytes::Bytes;

use crate::entity::Rejection;
use crate::event::Position;

/// Why an event was not taken in.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Its source and idempotency key were accepted before, within their window.
    #[error("the idempotency key was used before, by the event at position {position}")]
    Duplicate {
        /// The first event's record.
        position: Position,
        /// Its number among its entity's records, if it had one.
        sequence: Option<u64>,
    },
    /// Its entity refuses it. Nothing was changed.
    #[error("{}", .0.message)]
    Rejected(Rejection),
    /// Its entity knows it already. Nothing was changed.
    #[error("the entity knows the event already")]
    Known {
        /// What its sender is answered, as JSON; possibly empty.
        answer: Bytes,
    },
    /// There is no room now. Nothing was changed.
    #[error("too many events are on their way")]
    Overloaded,
    /// Its entity crashed too often and takes no events for a while.
    #[error("the entity crashed too often and rests for {retry_after:?}")]
    Quarantined {
        /// How long.
        retry_after: Duration,
    },
    /// Whether it was stored is not known: the store failed or the entity crashed. The same key
    /// tells on the next try.
    #[error("it is not known whether the event was stored")]
    Unknown,
}
