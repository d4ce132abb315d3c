//! The filter by which lists and jobs choose dead letters.

use super::letter::{DeadLetter, DeadLetterCause, DeadLetterSubject};
use crate::event::{EntityKey, Kind, Record, Timestamp};
use crate::subscriber::SubscriberId;

/// Criteria for dead letters; all that are `Some` must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Subscriber of the failed delivery.
    pub subscriber: Option<SubscriberId>,
    /// Name of the event type.
    pub event: Option<String>,
    /// Kind of the event's entity.
    pub kind: Option<Kind>,
    /// Id of the event's entity.
    pub entity: Option<String>,
    /// Start of the time in which the event was received, inclusive.
    pub since: Option<Timestamp>,
    /// End of the time in which the event was received, exclusive.
    pub until: Option<Timestamp>,
    /// Cause of the dead letter.
    pub cause: Option<DeadLetterCause>,
}

impl DeadLetterFilter {
    /// Returns true if `letter` matches. A dead letter of a range has no single event: it matches
    /// if the filter names no event, kind or entity, and its own time is compared.
    #[must_use]
    pub fn admits(&self, letter: &DeadLetter) -> bool {
        let is_match = match &letter.subject {
            DeadLetterSubject::Event(delivery) => {
                self.admits_event(&delivery.event_type, &delivery.entity, delivery.received_at)
            }
            DeadLetterSubject::Range(_) => {
                self.event.is_none()
                    && self.kind.is_none()
                    && self.entity.is_none()
                    && self.admits_time(letter.at)
            }
        };
        is_match
            && self
                .subscriber
                .as_ref()
                .is_none_or(|subscriber| *subscriber == letter.subscriber)
            && self.cause.is_none_or(|cause| cause == letter.cause)
    }

    /// Returns true if the event of `record` matches; subscriber and cause are not compared.
    #[must_use]
    pub fn admits_record(&self, record: &Record, received_at: Timestamp) -> bool {
        self.admits_event(&record.event_type, &record.entity, received_at)
    }

    fn admits_event(&self, event_type: &str, entity: &EntityKey, received_at: Timestamp) -> bool {
        self.event.as_ref().is_none_or(|event| event == event_type)
            && self.kind.is_none_or(|kind| kind == entity.kind())
            && self.entity.as_ref().is_none_or(|id| id == entity.id())
            && self.admits_time(received_at)
    }

    fn admits_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until)
    }
}
