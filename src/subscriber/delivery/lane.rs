//! One lane: the records of one entity on their way to the subscriber, one attempt at a time.
//!
//! ```text
//!  created ──> Idle ── record queued ──> Ready        restored from its row ──> Stopped or Halted
//!
//!  Ready   ── attempt begins ──────────────────> Running
//!          ── another attempt has to end ──────> Parked ── it ends ──> Ready
//!          ── no record in memory ─────────────> Reading ── page read ──> Ready, or Idle
//!          ── the filter failed on the head ───> as after a dead letter
//!
//!  Running ── head settled ────────────────────> Ready if there are more records, else Idle
//!          ── attempt withdrawn ───────────────> Ready
//!          ── head failed ─────────────────────> Stopped ── due ──> Ready
//!          ── dead letter, policy `skip` ──────> as settled
//!          ── dead letter, policy `halt` ──────> Halted ── letter resolved ──> Ready, or Idle
//! ```
//!
//! A stopped lane holds no records, and a full one holds only the first. It reads the others from its
//! entity's timeline until it has caught up with the reader.

use std::collections::VecDeque;
use std::time::Duration;

use super::deferred_records::{DeferredRecords, LaneShare};
use super::identifiers::{AttemptId, LaneKey};
use super::input::MatchedRecord;
use super::lane_row::LaneRow;
use super::retry::AttemptHistory;
use crate::event::{EntityKey, Position};

/// Phase of a lane, as in the picture above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LanePhase {
    /// The lane has no record to deliver. It exists for an attempt of a job, or because it is ahead
    /// of the reader.
    Idle,
    /// The lane waits until its next attempt may begin.
    Ready,
    /// The lane could begin but for an attempt of a job in it, or for lanes of single records of
    /// its entity; when they have ended it is ready again.
    Parked,
    /// An attempt at the head is under way.
    Running,
    /// The lane waits for a page of the timeline.
    Reading,
    /// The head failed and waits for its retry.
    Stopped,
    /// The lane waits until its dead letter is delivered or discarded.
    Halted,
}

/// State of a lane's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneRowState {
    None,
    /// The row shows the present state of the lane.
    Fresh,
    /// The row shows an earlier state: after a crash, settled records would be delivered again.
    Stale,
}

#[derive(Debug)]
pub(super) struct DeliveryLane {
    pub(super) phase: LanePhase,
    pub(super) row_state: LaneRowState,
    /// Attempt under way in the lane, at its head or of a job; a lane has at most one.
    pub(super) running_attempt: Option<AttemptId>,
    /// Records of jobs that wait for the end of the running attempt.
    pub(super) parked_replays: Vec<u64>,
    /// Records to be delivered, in order.
    pub(super) queue: VecDeque<MatchedRecord>,
    /// Memory of the queue in bytes.
    pub(super) queued_bytes: usize,
    /// Entity of a lane of a single record; `None` if the key has it.
    pub(super) entity: Option<EntityKey>,
    /// Sequence number of the next record to be read.
    pub(super) next_sequence: u64,
    /// Position before which no record is unsettled.
    pub(super) position: Position,
    /// Position before which records have to be read from the timeline, since they are not in the
    /// queue; `None` if the lane has caught up.
    pub(super) catch_up_to: Option<Position>,
    /// Records that are known to be left to the timeline, since the start of the process.
    deferred: u64,
    /// Share that the sums of the lanes have of this one.
    counted_share: LaneShare,
    /// Time of the retry, in the phase `Stopped`.
    pub(super) due_at: Duration,
    attempt_history: AttemptHistory,
    /// Sequence number of the record that `attempt_history` is about.
    attempted_sequence: u64,
}

impl DeliveryLane {
    /// Creates a lane that begins with the record `sequence` at `position`.
    pub(super) fn new(sequence: u64, position: Position) -> Self {
        Self {
            phase: LanePhase::Idle,
            row_state: LaneRowState::None,
            running_attempt: None,
            parked_replays: Vec::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            entity: None,
            next_sequence: sequence,
            position,
            catch_up_to: None,
            deferred: 0,
            counted_share: LaneShare::default(),
            due_at: Duration::ZERO,
            attempt_history: AttemptHistory::default(),
            attempted_sequence: 0,
        }
    }

    /// Restores a lane from its `row`. The lane has to catch up with the reader, which is at
    /// `read_to`. `now` is the node's monotonic time, from which the row's wait runs. `clock` is
    /// the reading of the counted clock, which stands still while no attempt may be made.
    pub(super) fn from_row(
        row: LaneRow,
        read_to: Position,
        now: Duration,
        clock: Duration,
    ) -> Self {
        let LaneRow {
            key,
            entity,
            position,
            sequence,
            attempts,
            counted_time: counted,
            wait,
            is_halted,
            last_failure: last,
        } = row;
        let lane = Self::new(sequence, position);
        let catch_up_to = match key {
            // After a crash the journal may end before a head that was never attempted. Only an
            // attempted head surely exists; the reader matches any other.
            LaneKey::Entity(_) => read_to.max(position.plus(u64::from(attempts > 0))),
            LaneKey::Record(own) => own.plus(1),
        };
        Self {
            phase: if is_halted {
                LanePhase::Halted
            } else {
                LanePhase::Stopped
            },
            row_state: LaneRowState::Fresh,
            entity,
            catch_up_to: Some(catch_up_to),
            due_at: now + wait,
            attempt_history: AttemptHistory::from_stored(attempts, counted, last, wait, clock),
            attempted_sequence: sequence,
            ..lane
        }
    }

    /// Returns the row that shows the present state, with the wait that is left at the node's
    /// monotonic time `now`, and the counted time up to the reading `clock` of the counted clock.
    pub(super) fn to_row(&self, key: &LaneKey, now: Duration, clock: Duration) -> LaneRow {
        let head = self.queue.front().map(|matched| &matched.item);
        let sequence = head.map_or(self.next_sequence, |item| item.sequence);
        let is_tried = self.attempted_sequence == sequence;
        let history = if is_tried {
            &self.attempt_history
        } else {
            &AttemptHistory::default()
        };
        LaneRow {
            key: key.clone(),
            entity: self.entity.clone(),
            position: self.unsettled_from(),
            sequence,
            attempts: history.attempts,
            counted_time: history.counted_time(clock),
            wait: if self.phase == LanePhase::Stopped {
                self.due_at.saturating_sub(now)
            } else {
                Duration::ZERO
            },
            is_halted: self.phase == LanePhase::Halted,
            last_failure: history
                .last_failure
                .as_ref()
                .map(|(status, code)| (*status, code.clone().into_owned())),
        }
    }

    /// Returns the position of the head, if it is known, or one before it.
    pub(super) fn unsettled_from(&self) -> Position {
        let head = self.queue.front();
        head.map_or(self.position, |matched| matched.item.position)
    }

    /// Returns the history of attempts at the head.
    pub(super) fn head_history(&mut self) -> &mut AttemptHistory {
        let sequence = self
            .queue
            .front()
            .map_or(self.next_sequence, |matched| matched.item.sequence);
        if self.attempted_sequence != sequence {
            self.attempt_history = AttemptHistory::default();
            self.attempted_sequence = sequence;
        }
        &mut self.attempt_history
    }

    /// True if the lane will read new records from the timeline, so that it need not queue them.
    pub(super) fn is_catching_up(&self) -> bool {
        match self.phase {
            LanePhase::Stopped | LanePhase::Halted | LanePhase::Reading => true,
            LanePhase::Idle | LanePhase::Ready | LanePhase::Parked | LanePhase::Running => {
                self.catch_up_to.is_some()
            }
        }
    }

    /// Makes the lane read all records before `position` from the timeline, `records` of which are
    /// new there.
    pub(super) fn extend_catch_up(&mut self, position: Position, records: usize) {
        self.catch_up_to = self.catch_up_to.max(Some(position));
        self.deferred = self.deferred.saturating_add(records as u64);
    }

    /// Notes that `records` of the timeline are in the queue now, and that the lane has to read on to
    /// `catch_up_to`.
    pub(super) fn advance_catch_up(&mut self, records: usize, catch_up_to: Option<Position>) {
        self.catch_up_to = catch_up_to;
        self.deferred = match catch_up_to {
            Some(_) => self.deferred.saturating_sub(records as u64),
            None => 0,
        };
    }

    /// Brings `sums` up to date after a change of the lane.
    pub(super) fn recount_share(&mut self, sums: &mut DeferredRecords) {
        let share = self.share();
        sums.replace_share(self.counted_share, share);
        self.counted_share = share;
    }

    /// Takes the share of the lane, which ends, out of `sums`.
    pub(super) fn leave_sums(&mut self, sums: &mut DeferredRecords) {
        let counted = std::mem::take(&mut self.counted_share);
        sums.replace_share(counted, LaneShare::default());
    }

    /// Returns the part that this lane has in the sums of all lanes.
    fn share(&self) -> LaneShare {
        let is_stored = self.row_state != LaneRowState::None;
        LaneShare {
            // A row says that there is something, not how much.
            records: self.catch_up_to.map_or(0, |_| self.deferred.max(1)),
            stored_from: (is_stored && !self.is_drained()).then(|| self.unsettled_from()),
        }
    }

    /// True if the lane has no record to deliver or read.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.catch_up_to.is_none()
    }
}
