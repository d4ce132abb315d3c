//! Backlog of a disabled subscriber: its pending deliveries are counted, so that one dead letter can
//! state how many were dropped.

use std::collections::{HashMap, HashSet};

use super::delivery::{LaneKey, LaneRow};
use super::missed_records::MissedRecords;
use super::outbound_record::OutboundRecord;
use super::reader::{self, MatchFilter, WindowRoom};
use super::subscriber_set::SubscriberMatcher;
use crate::event::{EntityKey, Position, Timestamp};
use crate::journal::{Journal, JournalReadError};

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

/// Counts the pending deliveries before `end` of the subscriber with this matcher, these stopped
/// lanes and this cursor. Blocks.
///
/// # Errors
/// [`JournalReadError`] when the journal cannot be read.
pub(super) fn count_backlog(
    journal: &dyn Journal,
    matcher: SubscriberMatcher,
    lane_rows: Vec<LaneRow>,
    (cursor, end): (Position, Position),
) -> Result<MissedRecords, JournalReadError> {
    let lanes = BacklogLanes::from_rows(lane_rows);
    let filter = MatchFilter {
        matcher,
        // Expired records count too.
        cutoff: Timestamp::from_micros(i64::MIN),
    };

    let mut position = lanes.first.map_or(cursor, |first| first.min(cursor));
    let (mut backlog, mut is_in_gap) = (MissedRecords::default(), false);
    while position < end {
        let batch = reader::read_matching(journal, (position, end), &filter, READ_ROOM)?;
        for matched in batch.items {
            let item = matched.item;
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
