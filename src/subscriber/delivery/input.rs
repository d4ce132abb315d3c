//! Inputs of the delivery: the events that change its state.

use std::sync::Arc;

use super::identifiers::{AttemptId, LaneKey, ReplayTag};
use crate::event::Position;
use crate::subscriber::OutboundRecord;
use crate::subscriber::attempt::AttemptOutcome;
use crate::subscriber::delivery_policy::DeliveryPolicy;

/// A record that matches the subscriber's interest, or on which its filter failed.
#[derive(Clone, Debug)]
pub struct MatchedRecord {
    /// Record that is to be delivered.
    pub item: OutboundRecord,
    /// Error of the filter, if it failed: the record becomes a dead letter once it is the head of
    /// its lane.
    pub filter_error: Option<String>,
}

/// A record that a job delivers again.
#[derive(Clone, Debug)]
pub struct ReplayItem {
    /// Job and position, which the effects return once the record is settled.
    pub tag: ReplayTag,
    /// Record that is to be delivered.
    pub item: OutboundRecord,
}

/// Event that changes the state of a delivery.
#[derive(Debug)]
pub enum DeliveryInput {
    /// The reader has matched all records before `end`.
    RecordsMatched {
        /// Matching records, in the order of the journal.
        items: Vec<MatchedRecord>,
        /// Position after the last record that was read.
        end: Position,
    },
    /// An attempt ended with this outcome.
    AttemptEnded {
        /// Identifier of the attempt that ended.
        attempt_id: AttemptId,
        /// Outcome that the response gave.
        outcome: AttemptOutcome,
    },
    /// An attempt was not begun: while it waited for a permit the breaker opened, the subscriber
    /// was paused, or the node began to stop. It is scheduled again.
    AttemptWithdrawn {
        /// Identifier of the attempt to be scheduled again.
        attempt_id: AttemptId,
    },
    /// Records of a lane, as [`super::DeliveryEffect::CatchUp`] requested.
    LaneCaughtUp {
        /// Lane whose records were read.
        lane: LaneKey,
        /// Matching records of the page, in order. Records that the reader has not reached yet are
        /// ignored.
        items: Vec<MatchedRecord>,
        /// Sequence number of the last record read, matching or not; for an empty page, the number
        /// before the first requested.
        through: u64,
        /// Position before which every record of the entity was read, if the page reached the end
        /// of the timeline: a position that the timeline had reached at the time of the read, such
        /// as the durable end of then. For a lane of one record, the position after it.
        end: Option<Position>,
    },
    /// A job hands out records to be delivered again.
    ReplaysAdded(Vec<ReplayItem>),
    /// A job was cancelled: its records that are not under way are dropped.
    JobCancelled {
        /// Id of the cancelled job, from 1.
        job: u64,
    },
    /// The dead letter that halted a lane was delivered or discarded.
    LaneReleased {
        /// Lane that is released and goes on.
        key: LaneKey,
    },
    /// The subscriber's definition or the configuration changed.
    PolicyChanged(Arc<DeliveryPolicy>),
    /// The subscriber was seen to answer, or an operator asks for an attempt: an open breaker lets
    /// a probe through, and waiting retries become due.
    RepairNoticed,
    /// Neither this delivery nor the journal has a record for the subscriber.
    NothingOwed,
    /// A checkpoint begins. Lanes that had unsettled records at the last checkpoint already get a
    /// row, so that they do not hold the cursor, and stale rows are renewed.
    CheckpointStarted,
    /// Time has passed; due attempts may begin.
    Tick,
}
