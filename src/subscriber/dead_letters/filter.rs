//! The filter by which lists and jobs choose dead letters.

use super::super::new_dead_letter::DeadLetterCause;
use crate::event::{Kind, Record, Timestamp};
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
    /// Id that is above those of all that match: what came later is left out.
    pub before_id: Option<u64>,
}

impl DeadLetterFilter {
    /// True if the filter names no event, kind or entity. Only then it admits dead letters of missed
    /// records, whose own time is compared.
    pub(super) fn names_no_event(&self) -> bool {
        self.event.is_none() && self.kind.is_none() && self.entity.is_none()
    }

    /// Returns true if the event of `record` matches; subscriber and cause are not compared.
    #[must_use]
    pub fn admits_record(&self, record: &Record, received_at: Timestamp) -> bool {
        let entity = &record.entity;
        self.event
            .as_ref()
            .is_none_or(|event| record.event_type == *event)
            && self.kind.is_none_or(|kind| kind == entity.kind())
            && self.entity.as_ref().is_none_or(|id| id == entity.id())
            && self.admits_time(received_at)
    }

    pub(super) fn admits_id(&self, id: u64) -> bool {
        self.before_id.is_none_or(|before| id < before)
    }

    pub(super) fn admits_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until)
    }
}
