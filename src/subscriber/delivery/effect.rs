//! Effects of the delivery: the actions that its shell performs.

use std::time::Duration;

use super::identifiers::{AttemptId, LaneKey, ReplayTag};
use super::lane_row::LaneRow;
use crate::subscriber::OutboundRecord;
use crate::subscriber::new_dead_letter::NewDeadLetter;

/// Action that the shell of a delivery performs.
#[derive(Debug)]
pub enum DeliveryEffect {
    /// Makes an attempt; [`super::DeliveryInput::AttemptEnded`] reports its outcome.
    Attempt {
        /// Identifier for the report of the outcome.
        attempt_id: AttemptId,
        /// Record that the attempt delivers.
        item: OutboundRecord,
        /// Number of the attempt at this record, from 1.
        attempt: u32,
        /// True if a job delivers the record again, out of its entity's order.
        is_replay: bool,
    },
    /// Reads the next records of a lane and matches them: a page of the entity's timeline, or the
    /// record of a lane of one record. [`super::DeliveryInput::LaneCaughtUp`] reports them.
    CatchUp {
        /// Lane whose records are missing.
        lane: LaneKey,
        /// Sequence number of the first record to be read.
        from_sequence: u64,
    },
    /// Stores the row of a lane.
    StoreRow(LaneRow),
    /// Removes the row of a lane.
    RemoveRow(LaneKey),
    /// Adds a dead letter: the delivery failed for good.
    DeadLetter {
        /// Record that was not delivered, and its failure.
        letter: NewDeadLetter,
        /// Record of the job, if a job delivered it again.
        replay: Option<ReplayTag>,
    },
    /// Reports the delivery of a job's record.
    ReplayDelivered(ReplayTag),
    /// Reports that a job's record was erased, so that it is not delivered any more.
    ReplayDropped(ReplayTag),
    /// Reports that the attempt that has just ended is followed by another one after this pause.
    RetryScheduled(Duration),
    /// Reports that the circuit breaker opened.
    BreakerOpened {
        /// Share of failed attempts in the window, from 0 to 1.
        failure_rate: f64,
    },
    /// Reports that the circuit breaker closed.
    BreakerClosed,
    /// Disables the subscriber; [`super::DeliveryInput::PolicyChanged`] reports the new state.
    Disable {
        /// One sentence for an operator.
        reason: String,
    },
}
