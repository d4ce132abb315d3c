//! What a delivery asks for.

use std::time::Duration;

use super::{AttemptId, ReplayTag};
use crate::event::{EntityKey, Position};
use crate::subscriber::{AttemptFailure, OutboundRecord};

/// Which queue a record is in: that of its entity, or its own where no order is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneKey {
    /// That of all records of an entity.
    Entity(EntityKey),
    /// That of this record alone.
    Record(Position),
}

/// A lane as it is stored while it holds something that is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    /// Which lane.
    pub key: LaneKey,
    /// No record of it before this position is unsettled: the place of its head, if that is known.
    pub position: Position,
    /// No record of it below this number is unsettled: its head's, or the one to read on from.
    pub sequence: u64,
    /// Attempts that were made at it.
    pub attempts: u32,
    /// How long after its first attempt it is, without the time that does not count.
    pub counted_time: Duration,
    /// How long until it is tried again; zero means now.
    pub wait: Duration,
    /// Whether it stands still until its dead letter is dealt with.
    pub is_halted: bool,
    /// The last attempt's failure: its status and code.
    pub last_failure: Option<(Option<u16>, String)>,
}

/// What is to be done.
#[derive(Debug)]
pub enum DeliveryEffect {
    /// Make this attempt, and say how it ended.
    Attempt {
        /// How the answer is told.
        ticket: AttemptId,
        /// What is delivered.
        item: OutboundRecord,
        /// Which attempt at it this is, from 1.
        attempt: u32,
        /// Whether a job brings it again, out of its entity's order.
        is_replay: bool,
    },
    /// Read records of this lane, judge them, and answer with [`super::Input::CaughtUp`]: for an
    /// entity's, a page of its timeline; for a lane of one record, that record.
    CatchUp {
        /// Which.
        lane: LaneKey,
        /// The first of them.
        from_sequence: u64,
    },
    /// Keep this row.
    StoreRow(LaneRow),
    /// Remove this lane's row.
    RemoveRow(LaneKey),
    /// A delivery failed for good.
    DeadLetter {
        /// The record.
        item: OutboundRecord,
        /// Attempts made at it.
        attempts: u32,
        /// Why the last one, or the filter, failed.
        failure: AttemptFailure,
        /// Why there is no other attempt.
        reason: GiveUpReason,
        /// The job that delivered it again, if one did.
        replay: Option<ReplayTag>,
        /// Whether its lane stands still until it is dealt with.
        is_halting: bool,
    },
    /// A record of a job was delivered.
    ReplayDelivered(ReplayTag),
    /// The breaker opened, at this share of failures.
    BreakerOpened {
        /// From 0 to 1.
        failure_rate: f64,
    },
    /// The breaker closed.
    BreakerClosed,
    /// Nothing may be delivered any more.
    Disable {
        /// Why.
        reason: String,
    },
}

/// Why a delivery became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUpReason {
    /// The schedule is used up.
    Exhausted,
    /// It took too long.
    TooOld,
    /// The answer said that it will never be accepted, or it cannot be sent.
    Refused,
    /// The filter or the transform failed.
    Expression,
}
