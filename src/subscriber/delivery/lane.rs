//! One lane: the records of one entity on their way to the subscriber, one attempt at a time.
//!
//! ```text
//!            its turn                 accepted or buried, and more to come
//!   Ready ──────────────> Running ────────────────────────────────────────> Ready, else Idle: the lane ends
//!     │  ^                   │ failed                       buried, and the subscriber wants it to wait
//!     │  │ due               v                                                            │
//!     │  └──────────────── Stopped                                  Halted <──────────────┘
//!     │ its turn, nothing of it in memory
//!     └──────> Reading ──> Ready
//! ```
//!
//! A stopped lane holds no records: when it moves again it reads them from its entity's timeline,
//! until it has reached what the reader has met meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use super::retry::AttemptHistory;
use super::{AttemptId, LaneKey, LaneRow, MatchedRecord};
use crate::event::Position;

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LanePhase {
    /// Nothing: it is only there for an attempt of a job, or because the reader has not come as far
    /// as it yet.
    Idle,
    /// It is in the queue for its turn.
    Ready,
    /// It had its turn while an attempt of a job was under way, after which it is ready again.
    Parked,
    /// An attempt at its head is under way.
    Running,
    /// It waits for records from the timeline.
    Reading,
    /// Its head failed and waits to be tried again.
    Stopped,
    /// It stands still until its dead letter is dealt with.
    Halted,
}

/// Whether a row stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneRowState {
    None,
    /// As it is now.
    Fresh,
    /// As it was: that repeats more than it has to after a crash.
    Stale,
}

#[derive(Debug)]
pub(super) struct DeliveryLane {
    pub(super) phase: LanePhase,
    pub(super) row_state: LaneRowState,
    /// The attempt under way in it, at its head or of a job: there is never another.
    pub(super) running_attempt: Option<AttemptId>,
    /// Records of jobs that wait until the slot is free.
    pub(super) parked_replays: Vec<u64>,
    /// Wanted records, in order.
    pub(super) queue: VecDeque<MatchedRecord>,
    /// The number from which on nothing was looked at.
    pub(super) next_sequence: u64,
    /// Nothing before this position is unsettled.
    pub(super) position: Position,
    /// Everything before this position is to be looked at in the timeline, since it is not in the
    /// queue.
    pub(super) catch_up_to: Option<Position>,
    /// When it is tried again, if it is stopped.
    pub(super) due_at: Duration,
    attempt_history: AttemptHistory,
    /// The number of the record that `tries` is about.
    attempted_sequence: u64,
}

impl DeliveryLane {
    /// A lane that begins with the record `sequence` at `at`.
    pub(super) fn new(sequence: u64, position: Position) -> Self {
        Self {
            phase: LanePhase::Idle,
            row_state: LaneRowState::None,
            running_attempt: None,
            parked_replays: Vec::new(),
            queue: VecDeque::new(),
            next_sequence: sequence,
            position,
            catch_up_to: None,
            due_at: Duration::ZERO,
            attempt_history: AttemptHistory::default(),
            attempted_sequence: 0,
        }
    }

    /// The lane that `row` stands for, which has to look at everything of its entity that the
    /// reader has met, before `read_to`.
    pub(super) fn from_row(
        row: LaneRow,
        read_to: Position,
        now: Duration,
        clock: Duration,
    ) -> Self {
        let LaneRow {
            key,
            position,
            sequence,
            attempts,
            counted_time: counted,
            wait,
            is_halted,
            last_failure: last,
        } = row;
        let lane = Self::new(sequence, position);
        let behind = match key {
            // Only a head that was tried is surely there: else the log may not even reach as far
            // yet, and what comes there is met by the reader.
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
            catch_up_to: Some(behind),
            due_at: now + wait,
            attempt_history: AttemptHistory::from_stored(attempts, counted, last, wait, clock),
            attempted_sequence: sequence,
            ..lane
        }
    }

    /// What is to be stored of it.
    pub(super) fn to_row(&self, key: &LaneKey, now: Duration, clock: Duration) -> LaneRow {
        let head = self.queue.front().map(|met| &met.item);
        let sequence = head.map_or(self.next_sequence, |item| item.sequence);
        let is_tried = self.attempted_sequence == sequence;
        let tries = if is_tried {
            &self.attempt_history
        } else {
            &AttemptHistory::default()
        };
        LaneRow {
            key: key.clone(),
            position: head.map_or(self.position, |item| item.position),
            sequence,
            attempts: tries.attempts,
            counted_time: tries.counted_time(clock),
            wait: if self.phase == LanePhase::Stopped {
                self.due_at.saturating_sub(now)
            } else {
                Duration::ZERO
            },
            is_halted: self.phase == LanePhase::Halted,
            last_failure: tries
                .last_failure
                .as_ref()
                .map(|(status, code)| (*status, code.clone().into_owned())),
        }
    }

    /// What was tried at the head.
    pub(super) fn head_history(&mut self) -> &mut AttemptHistory {
        let sequence = self
            .queue
            .front()
            .map_or(self.next_sequence, |met| met.item.sequence);
        if self.attempted_sequence != sequence {
            self.attempt_history = AttemptHistory::default();
            self.attempted_sequence = sequence;
        }
        &mut self.attempt_history
    }

    /// Whether a record that is met now is only noted, since the lane will come to it in the
    /// timeline.
    pub(super) fn is_catching_up(&self) -> bool {
        match self.phase {
            LanePhase::Stopped | LanePhase::Halted | LanePhase::Reading => true,
            LanePhase::Idle | LanePhase::Ready | LanePhase::Parked | LanePhase::Running => {
                self.catch_up_to.is_some()
            }
        }
    }

    /// Has to look at everything before `position` in the timeline.
    pub(super) fn extend_catch_up(&mut self, position: Position) {
        self.catch_up_to = self.catch_up_to.max(Some(position));
    }

    /// Whether nothing but its slot is of interest.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.catch_up_to.is_none()
    }
}
