//! The delivery to one subscriber, as a pure state machine: what happened and the time go in, what is to be done comes out.
//!
//! It knows no clock, no store and no network. Times are [`Duration`]s on the node's monotonic clock.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::Outcome;
use super::profile::Profile;
use super::{Failure, Item};
use crate::event::{EntityKey, Position, Timestamp};

/// Which queue a record is in: that of its entity, or its own where no order is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneKey {
    /// That of all records of an entity.
    Entity(EntityKey),
    /// That of this record alone.
    Record(Position),
}

/// A record that was met and is wanted, or that cannot be judged.
#[derive(Clone, Debug)]
pub struct Met {
    /// The record.
    pub item: Item,
    /// Why the filter could not say whether it is wanted: it becomes a dead letter, in its turn.
    pub broken: Option<String>,
}

/// A lane as it is stored while it holds something that is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    /// Which lane.
    pub key: LaneKey,
    /// The record at its head.
    pub position: Position,
    /// That record's number among its entity's records.
    pub sequence: u64,
    /// Attempts that were made at it.
    pub attempts: u32,
    /// How long after its first attempt it is, without the time that does not count.
    pub counted: Duration,
    /// How long until it is tried again; zero means now.
    pub wait: Duration,
    /// Whether it stands still until its dead letter is dealt with.
    pub is_halted: bool,
    /// The last attempt's failure: its status and code.
    pub last: Option<(Option<u16>, String)>,
}

/// Names an attempt that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// A record that is to be delivered again by a job.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Which job, and which of its records: given back when it is settled.
    pub tag: ReplayTag,
    /// The record.
    pub item: Item,
}

/// A job and one of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplayTag {
    /// The job.
    pub job: u64,
    /// Where the record stands: a job has each of them once.
    pub position: Position,
    /// The dead letter that it retries, if it does.
    pub dead_letter: Option<u64>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The reader has met these records, in order, and everything before `end`.
    Met {
        /// The wanted ones among them.
        items: Vec<Met>,
        /// The position after the last record that was looked at.
        end: Position,
    },
    /// An attempt ended.
    Ended {
        /// Which.
        ticket: Ticket,
        /// What it came to.
        outcome: Outcome,
    },
    /// Records of a lane that catches up, which [`Effect::CatchUp`] asked for.
    CaughtUp {
        /// The lane's entity.
        entity: EntityKey,
        /// The wanted ones among the next, in order, all before `end`.
        items: Vec<Met>,
        /// The sequence up to which (inclusive) the timeline was looked at.
        through: u64,
        /// Everything of this entity before this position was looked at, if the end of its timeline was reached.
        end: Option<Position>,
    },
    /// Records to be delivered again.
    Replay(Vec<Replay>),
    /// A job was cancelled: what of it is not under way is dropped.
    Cancel {
        /// Which.
        job: u64,
    },
    /// The dead letter at the head of a halted lane was delivered or discarded.
    Released {
        /// The lane.
        key: LaneKey,
    },
    /// The definition or the configuration changed.
    Changed(Arc<Profile>),
    /// A round of the ledger begins: lanes that were there at the last one already ask for a row.
    Round,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Make this attempt, and say how it ended.
    Attempt {
        /// How the answer is told.
        ticket: Ticket,
        /// What is delivered.
        item: Item,
        /// Which attempt at it this is, from 1.
        attempt: u32,
    },
    /// Read on in this entity's timeline, from this sequence on, up to what the reader has met.
    CatchUp {
        /// Whose.
        entity: EntityKey,
        /// From where.
        from_sequence: u64,
    },
    /// Keep this row.
    Keep(LaneRow),
    /// Remove this lane's row.
    Forget(LaneKey),
    /// A delivery failed for good.
    Bury {
        /// The record.
        item: Item,
        /// Attempts made at it.
        attempts: u32,
        /// Why the last one, or the filter, failed.
        failure: Failure,
        /// Why there is no other attempt.
        reason: Reason,
        /// The job that delivered it again, if one did.
        replay: Option<ReplayTag>,
        /// Whether its lane stands still until it is dealt with.
        is_halting: bool,
    },
    /// A record of a job was delivered.
    Replayed(ReplayTag),
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
pub enum Reason {
    /// The schedule is used up.
    Exhausted,
    /// It took too long.
    TooOld,
    /// The answer said that it will never be accepted, or it cannot be sent.
    Refused,
    /// The filter or the transform failed.
    Expression,
}

/// The delivery to one subscriber.
#[derive(Debug)]
pub struct Delivery {
    profile: Arc<Profile>,
}

/// What the shell asks of the state between two steps.
impl Delivery {
    /// A delivery whose reader has met everything before `read_to`, with what was stored of it. `seed` is for jitter;
    /// `failing_since` says since when there was no success, if the last attempts failed.
    #[must_use]
    pub fn new(
        profile: Arc<Profile>,
        read_to: Position,
        rows: Vec<LaneRow>,
        failing_since: Option<Timestamp>,
        seed: u64,
        now: Duration,
    ) -> Self {
        let _ = (read_to, rows, failing_since, seed, now);
        Self { profile }
    }

    /// Takes `input` at `now` and says what is to be done, in order.
    pub fn step(&mut self, input: Input, now: Duration) -> Vec<Effect> {
        let _ = (input, now, &self.profile);
        Vec::new()
    }
}
