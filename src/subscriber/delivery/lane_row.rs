//! The stored form of a lane that has unsettled records.

use std::time::Duration;

use super::identifiers::LaneKey;
use crate::event::{EntityKey, Position};

/// A lane as it is stored while it has unsettled records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    /// Identifier of the stored lane, by entity or position.
    pub key: LaneKey,
    /// Entity of a lane of a single record, if it is known; `None` for a lane of an entity.
    pub entity: Option<EntityKey>,
    /// Position before which no record of the lane is unsettled: that of the head, if it is known.
    pub position: Position,
    /// Sequence number below which no record of the lane is unsettled: that of the head, or the
    /// first to be read next.
    pub sequence: u64,
    /// Number of attempts at the head.
    pub attempts: u32,
    /// Counted time since the first attempt at the head.
    pub counted_time: Duration,
    /// Time until the next attempt; zero means now.
    pub wait: Duration,
    /// True if the lane halts until its dead letter is delivered or discarded.
    pub is_halted: bool,
    /// Status and code of the last failed attempt.
    pub last_failure: Option<(Option<u16>, String)>,
}
