//! The subject of one attempt: which event, which of its attempts.

use crate::event::{EventId, Timestamp, TraceContext};

/// Number of an attempt at a delivery. A plain number converts to an attempt of an ordinary
/// delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptNumber {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// True if a job delivers the event again, out of its entity's order. Such a request carries
    /// the header `x-hookyard-replay`.
    pub is_replay: bool,
}

impl From<u32> for AttemptNumber {
    fn from(attempt: u32) -> Self {
        Self {
            attempt,
            is_replay: false,
        }
    }
}

/// Subject of one attempt, which its headers and its row in the call log name.
pub(super) struct AttemptContext<'a> {
    /// Value of the header `webhook-id`, the same for all attempts at one event.
    pub(super) id: String,
    /// `None` for a ping, which is no event of the journal.
    pub(super) event_id: Option<EventId>,
    pub(super) event: &'a str,
    /// Time at which the event happened.
    pub(super) event_at: Timestamp,
    /// Time at which the attempt begins.
    pub(super) at: Timestamp,
    /// Number of the record among its entity's records.
    pub(super) sequence: u64,
    pub(super) number: AttemptNumber,
    /// Number of deliveries by which the event came here.
    pub(super) hops: u8,
    /// Trace that the event is a part of; with the span of the attempt once that has begun.
    pub(super) trace: Option<TraceContext>,
}
