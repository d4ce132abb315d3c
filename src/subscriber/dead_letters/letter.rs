//! A dead letter: the data kept of a delivery that failed for good.

use super::super::new_dead_letter::{DeadLetterCause, NewDeadLetter};
use super::super::{MissedRecords, SubscriberId};
use crate::event::{EntityKey, Position, Timestamp};

/// Bytes of a response that are kept at most: enough for an error message, not for a page.
pub const ANSWER_MAX_BYTES: usize = 1024;
/// Bytes of a failure's detail that are kept at most.
const DETAIL_MAX_BYTES: usize = 512;

/// Detail of a dead letter whose record has lost its content.
const EXPIRED_DETAIL: &str = "removed by retention";

/// A delivery, or a range of deliveries, that is not made any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Number of the dead letter, from 1; never reused.
    pub id: u64,
    /// Subscriber that the delivery was for.
    pub subscriber: SubscriberId,
    /// Cause of the last failure.
    pub cause: DeadLetterCause,
    /// Time at which the delivery first became a dead letter.
    pub at: Timestamp,
    /// The failed delivery, or the range of dropped deliveries.
    pub subject: DeadLetterSubject,
}

impl DeadLetter {
    /// Returns the position of the record that this dead letter can quote; `None` once it does not.
    pub(in crate::subscriber) fn quoted_position(&self) -> Option<Position> {
        match &self.subject {
            DeadLetterSubject::Event(delivery) => {
                let is_quiet = delivery.answer.is_empty() && delivery.detail == EXPIRED_DETAIL;
                (!is_quiet).then_some(delivery.position)
            }
            DeadLetterSubject::Range(_) => None,
        }
    }

    /// Returns the dead letter without what it can quote of its record.
    pub(in crate::subscriber) fn into_expired(mut self) -> Self {
        if let DeadLetterSubject::Event(delivery) = &mut self.subject {
            EXPIRED_DETAIL.clone_into(&mut delivery.detail);
            delivery.answer.clear();
        }
        self
    }
}

/// Subject of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterSubject {
    /// One event that was attempted.
    Event(Box<FailedDelivery>),
    /// Pending deliveries that were dropped together, without an attempt.
    Range(MissedRecords),
}

/// Delivery of one event that failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedDelivery {
    /// Position of the record in the journal.
    pub position: Position,
    /// Position in the public id of the event; differs for a reprocessed event.
    pub event: Position,
    /// Name of the event type.
    pub event_type: String,
    /// Entity that the event belongs to.
    pub entity: EntityKey,
    /// Number of the record among its entity's records.
    pub sequence: u64,
    /// Time at which the event's request was received.
    pub received_at: Timestamp,
    /// Number of attempts, those of jobs included.
    pub attempts: u32,
    /// Time at which the last attempt ended.
    pub last_at: Timestamp,
    /// Status of the last response; `None` if none arrived.
    pub status: Option<u16>,
    /// Machine-readable code of the last failure.
    pub code: String,
    /// One sentence for an operator.
    pub detail: String,
    /// Beginning of the last response's body.
    pub answer: String,
    /// True if the entity's later records wait until the dead letter is delivered or discarded.
    pub is_halting: bool,
}

impl NewDeadLetter {
    /// Converts to the data that is kept, at `now`. `earlier` attempts were made before, for the
    /// dead letter that this one renews.
    pub(super) fn into_failed_delivery(self, earlier: u32, now: Timestamp) -> FailedDelivery {
        let Self {
            item,
            attempts,
            failure,
            cause: _,
            is_halting,
        } = self;
        FailedDelivery {
            position: item.position,
            event: item.record.reprocesses.unwrap_or(item.position),
            event_type: item.record.event_type.clone(),
            entity: item.record.entity.clone(),
            sequence: item.sequence,
            received_at: item.received_at,
            attempts: earlier.saturating_add(attempts),
            last_at: now,
            status: failure.status,
            code: failure.code.to_owned(),
            detail: truncate_text(&failure.detail, DETAIL_MAX_BYTES).to_owned(),
            answer: answer_excerpt(&failure.answer),
            is_halting,
        }
    }
}

/// Returns the beginning of a response as text, without control characters.
fn answer_excerpt(answer: &[u8]) -> String {
    let bytes = &answer[..answer.len().min(ANSWER_MAX_BYTES)];
    let text = String::from_utf8_lossy(bytes);
    let readable: String = text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    truncate_text(&readable, ANSWER_MAX_BYTES).to_owned()
}

/// Cuts `text` to at most `bytes_max` bytes, between two characters.
fn truncate_text(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
