//! Identifiers of lanes, attempts and records of jobs.

use crate::event::{EntityKey, Position};

/// Identifier of a lane, the queue of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneKey {
    /// Lane of all records of an entity.
    Entity(EntityKey),
    /// Lane of a single record, if the subscription asks for no order.
    Record(Position),
}

/// Identifier of an attempt under way, unique within one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(pub u64);

/// Identifier of a record that a job delivers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplayTag {
    /// Id of the job that delivers the record.
    pub job: u64,
    /// Position of the record; a job delivers each record once.
    pub position: Position,
    /// Id of the dead letter that is retried; `None` if the job replays events.
    pub dead_letter: Option<u64>,
}
