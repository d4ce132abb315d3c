//! What the admin reads: entities with their timelines, events with their fates, the log of calls;
//! each list in pages, newest first.

use serde::Serialize;

use crate::event::{EventId, StoreIncarnation, Timestamp};
use crate::projection::StoredRecord;

pub(super) mod entities;
pub(super) mod events;
pub(super) mod logs;
pub(super) mod reprocess;
pub(super) mod spec;

/// An event where only its name and times matter.
#[derive(Debug, Serialize)]
struct EventRef {
    event_id: String,
    r#type: String,
    at: Timestamp,
    received_at: Timestamp,
}

impl EventRef {
    fn new(incarnation: StoreIncarnation, stored: &StoredRecord) -> Self {
        Self {
            event_id: stored_event_id(incarnation, stored).to_string(),
            r#type: stored.record.event_type.clone(),
            at: stored.record.at,
            received_at: stored.received_at,
        }
    }
}

/// The public id of the event in `stored`. Another attempt at an event goes by the event's own id.
fn stored_event_id(incarnation: StoreIncarnation, stored: &StoredRecord) -> EventId {
    EventId::new(
        incarnation,
        stored.record.reprocesses.unwrap_or(stored.position),
    )
}
