//! The admin's reads: entities with their timelines, events with their outcomes, the call log; each
//! list in pages, newest first.

use serde::Serialize;
use utoipa::ToSchema;

use crate::event::{EventId, IncarnationHistory, Timestamp};
use crate::projection::StoredRecord;

pub(super) mod entities;
pub(super) mod events;
pub(super) mod export;
pub(super) mod logs;
pub(super) mod reprocess;
pub(super) mod spec;

/// Event in short: its id, name and times.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventReference)]
struct EventRef {
    event_id: String,
    r#type: String,
    at: Timestamp,
    received_at: Timestamp,
}

impl EventRef {
    fn new(incarnations: &IncarnationHistory, stored: &StoredRecord) -> Self {
        Self {
            event_id: stored_event_id(incarnations, stored).to_string(),
            r#type: stored.record.event_type.clone(),
            at: stored.record.at,
            received_at: stored.received_at,
        }
    }
}

/// Returns the public id of the event in `stored`. A reprocessing keeps the id of the first
/// attempt.
pub(in crate::edge) fn stored_event_id(
    incarnations: &IncarnationHistory,
    stored: &StoredRecord,
) -> EventId {
    incarnations.event_id(stored.record.reprocesses.unwrap_or(stored.position))
}
