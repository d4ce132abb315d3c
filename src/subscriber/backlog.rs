//! Backlog of a disabled subscriber: its pending deliveries are counted, so that one dead letter can
//! state how many were dropped.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use actix_rt::task::spawn_blocking;

use super::delivery::{LaneKey, LaneRow, MatchedRecord};
use super::missed_records::MissedRecords;
use super::outbound_record::OutboundRecord;
use super::reader::{self, WindowRoom};
use super::stage::DeliveryStage;
use super::stage_error::DeliveryStageError;
use super::subscriber_id::SubscriberId;
use super::subscriber_set::SubscriberMatcher;
use crate::event::{EntityKey, Position};
use crate::panics::PanicContainment;
use crate::projection::ProjectionReadError;

/// Bounds of one read of the journal.
const READ_ROOM: WindowRoom = WindowRoom {
    events: 1_024,
    bytes: 8 * 1024 * 1024,
};

/// Stopped lanes of the subscriber. Pending are all matched records from the cursor on, and before
/// the cursor those of stopped lanes.
#[derive(Debug, Default)]
struct BacklogLanes {
    /// Sequence number of the first pending record of each entity's lane.
    entities: HashMap<EntityKey, u64>,
    /// Positions of lanes that hold a single record.
    records: HashSet<Position>,
    /// Lowest position among the first records of all lanes.
    first: Option<Position>,
}

impl BacklogLanes {
    fn from_rows(rows: Vec<LaneRow>) -> Self {
        let mut lanes = Self::default();
        for LaneRow {
            key,
            position,
            sequence,
            ..
        } in rows
        {
            lanes.first = Some(lanes.first.map_or(position, |first| first.min(position)));
            match key {
                LaneKey::Entity(entity) => drop(lanes.entities.insert(entity, sequence)),
                LaneKey::Record(position) => drop(lanes.records.insert(position)),
            }
        }
        lanes
    }

    /// Checks if a matched record is pending.
    fn contains(&self, item: &OutboundRecord, cursor: Position) -> bool {
        match self.entities.get(&item.record.entity) {
            Some(next) => item.sequence >= *next,
            None => item.position >= cursor || self.records.contains(&item.position),
        }
    }
}

/// Counts the pending deliveries before `end` of the subscriber `id` with this matcher, these stopped
/// lanes and this cursor. Expired records count too.
///
/// # Errors
/// [`DeliveryStageError`] when the journal cannot be read, or the filter panicked.
pub(super) async fn count_backlog(
    stage: &DeliveryStage,
    id: &SubscriberId,
    matcher: &SubscriberMatcher,
    lane_rows: Vec<LaneRow>,
    (cursor, end): (Position, Position),
) -> Result<MissedRecords, DeliveryStageError> {
    let lanes = BacklogLanes::from_rows(lane_rows);
    let mut position = lanes.first.map_or(cursor, |first| first.min(cursor));
    let (mut backlog, mut is_in_gap) = (MissedRecords::default(), false);
    while position < end {
        let (journal, names) = (Arc::clone(&stage.deps.journal), matcher.clone());
        let read = spawn_blocking(move || {
            let _contained = PanicContainment::begin();
            reader::read_matching(journal.as_ref(), (position, end), &names, READ_ROOM)
        });
        let read = read.await.map_err(|_| DeliveryStageError::Panicked)?;
        let batch = read.map_err(ProjectionReadError::from)?;
        let items = match matcher.filter() {
            Some(filter) => {
                let expressions = &stage.deps.expressions;
                expressions.judge(id, filter, batch.items).await?
            }
            None => batch.items,
        };
        for MatchedRecord { item, .. } in items {
            let is_pending = item.position < end && lanes.contains(&item, cursor);
            if is_pending {
                backlog.push(item.position, is_in_gap);
            }
            is_in_gap = is_pending;
        }

        let Some(next) = batch.end else { break };
        position = next;
    }
    Ok(backlog)
}
