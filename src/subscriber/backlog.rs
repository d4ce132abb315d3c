//! What is owed to a subscriber that is disabled: counted, so that one dead letter can say how much
//! was given up.

use std::collections::{HashMap, HashSet};

use super::OutboundRecord;
use super::delivery::{LaneKey, LaneRow};
use super::reader::{self, DroppedRange, MatchFilter, WindowRoom};
use super::subscriber_set::SubscriberMatcher;
use crate::event::{EntityKey, Position, Timestamp};
use crate::journal::{Journal, JournalReadError};

/// Reads as many records at once.
const READ_ROOM: WindowRoom = WindowRoom {
    events: 1_024,
    bytes: 8 * 1024 * 1024,
};

/// What is owed: everything wanted from the cursor on, and what stopped lanes have left before it.
#[derive(Debug, Default)]
struct BacklogLanes {
    /// Each lane's next record.
    entities: HashMap<EntityKey, u64>,
    records: HashSet<Position>,
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

    fn contains(&self, item: &OutboundRecord, cursor: Position) -> bool {
        match self.entities.get(&item.record.entity) {
            Some(next) => item.sequence >= *next,
            None => item.position >= cursor || self.records.contains(&item.position),
        }
    }
}

/// Counts what is owed before `end` to the subscriber that `judge` speaks for, whose cursor is at
/// `cursor`. Blocks.
///
/// # Errors
/// [`ReadError`] when the journal cannot be read.
pub(super) fn count_backlog(
    journal: &dyn Journal,
    judge: SubscriberMatcher,
    rows: Vec<LaneRow>,
    (cursor, end): (Position, Position),
) -> Result<Option<DroppedRange>, JournalReadError> {
    let lanes = BacklogLanes::from_rows(rows);
    let wanted = MatchFilter {
        matcher: judge,
        cutoff: Timestamp::from_micros(i64::MIN),
    };
    let mut position = lanes.first.map_or(cursor, |first| first.min(cursor));
    let mut dropped = None;
    while position < end {
        let read = reader::read_matching(journal, (position, end), &wanted, READ_ROOM)?;
        let owed = read
            .items
            .iter()
            .filter(|met| met.item.position < end && lanes.contains(&met.item, cursor));
        dropped = owed.fold(dropped, |dropped, met| {
            Some(DroppedRange::add_record(dropped, met.item.position))
        });
        let Some(end) = read.end else { break };
        position = end;
    }
    Ok(dropped)
}
