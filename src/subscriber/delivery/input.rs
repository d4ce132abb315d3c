//! What a delivery is told.

use std::sync::Arc;

use super::LaneKey;
use crate::event::Position;
use crate::subscriber::OutboundRecord;
use crate::subscriber::attempt::AttemptOutcome;
use crate::subscriber::delivery_policy::DeliveryPolicy;

/// A record that was met and is wanted, or that cannot be judged.
#[derive(Clone, Debug)]
pub struct MatchedRecord {
    /// The record.
    pub item: OutboundRecord,
    /// Why the filter could not say whether it is wanted: it becomes a dead letter, in its turn.
    pub filter_error: Option<String>,
}

/// Names an attempt that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(pub u64);

/// A record that is to be delivered again by a job.
#[derive(Clone, Debug)]
pub struct ReplayItem {
    /// Which job, and which of its records: given back when it is settled.
    pub tag: ReplayTag,
    /// The record.
    pub item: OutboundRecord,
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
pub enum DeliveryInput {
    /// The reader has met these records, in order, and everything before `end`.
    RecordsMatched {
        /// The wanted ones among them.
        items: Vec<MatchedRecord>,
        /// The position after the last record that was looked at.
        end: Position,
    },
    /// An attempt ended.
    AttemptEnded {
        /// Which.
        ticket: AttemptId,
        /// What it came to.
        outcome: AttemptOutcome,
    },
    /// An attempt was not begun: it waited for a place among all subscribers' attempts, and
    /// meanwhile it may no longer be made, or the node stops. It is as if it had never been asked
    /// for.
    AttemptWithdrawn {
        /// Which.
        ticket: AttemptId,
    },
    /// Records of a lane, which [`super::Effect::CatchUp`] asked for.
    LaneCaughtUp {
        /// Which lane.
        lane: LaneKey,
        /// The wanted ones among the next, in order. Those that the reader has not met yet are
        /// passed over.
        items: Vec<MatchedRecord>,
        /// The last sequence that was looked at, wanted or not; if there was none, the one before
        /// what was asked for.
        through: u64,
        /// If the end of the timeline was reached: every record of the entity before this position
        /// was looked at. It is a position that the timeline was known to have reached when it was
        /// read, such as the durable end of then. For a lane of one record, the position after it.
        end: Option<Position>,
    },
    /// Records to be delivered again.
    ReplaysAdded(Vec<ReplayItem>),
    /// A job was cancelled: what of it is not under way is dropped.
    JobCancelled {
        /// Which.
        job: u64,
    },
    /// The dead letter at the head of a halted lane was delivered or discarded.
    LaneReleased {
        /// The lane.
        key: LaneKey,
    },
    /// The definition or the configuration changed.
    PolicyChanged(Arc<DeliveryPolicy>),
    /// The subscriber may answer again, so that an open breaker has waited long enough.
    Probe,
    /// A round of the ledger begins: what was there at the last one already asks for a row, so that
    /// it does not hold the cursor, and rows that are out of date are renewed.
    CheckpointStarted,
    /// Time has passed.
    Tick,
}
