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
//! A stopped lane holds no records: when it moves again it reads them from its entity's timeline, until it has reached what
//! the reader has met meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use super::retry::Tries;
use super::{LaneKey, LaneRow, Met, Ticket};
use crate::event::Position;

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing: it is only there for an attempt of a job, or because the reader has not come as far as it yet.
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
pub(super) enum Row {
    None,
    /// As it is now.
    Fresh,
    /// As it was: that repeats more than it has to after a crash.
    Stale,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) phase: Phase,
    pub(super) row: Row,
    /// The attempt under way in it, at its head or of a job: there is never another.
    pub(super) slot: Option<Ticket>,
    /// Records of jobs that wait until the slot is free.
    pub(super) parked: Vec<u64>,
    /// Wanted records, in order.
    pub(super) queue: VecDeque<Met>,
    /// The number from which on nothing was looked at.
    pub(super) read_on: u64,
    /// Nothing before this position is unsettled.
    pub(super) at: Position,
    /// Everything before this position is to be looked at in the timeline, since it is not in the queue.
    pub(super) behind: Option<Position>,
    /// When it is tried again, if it is stopped.
    pub(super) due: Duration,
    tries: Tries,
    /// The number of the record that `tries` is about.
    tried: u64,
}

impl Lane {
    /// A lane that begins with the record `sequence` at `at`.
    pub(super) fn new(sequence: u64, at: Position) -> Self {
        Self {
            phase: Phase::Idle,
            row: Row::None,
            slot: None,
            parked: Vec::new(),
            queue: VecDeque::new(),
            read_on: sequence,
            at,
            behind: None,
            due: Duration::ZERO,
            tries: Tries::default(),
            tried: 0,
        }
    }

    /// The lane that `row` stands for, which has to look at everything of its entity that the reader has met, before
    /// `read_to`.
    pub(super) fn restored(row: LaneRow, read_to: Position, now: Duration, clock: Duration) -> Self {
        let LaneRow { key, position, sequence, attempts, counted, wait, is_halted, last } = row;
        let lane = Self::new(sequence, position);
        let behind = match key {
            // Only a head that was tried is surely there: else the log may not even reach as far yet, and what comes there
            // is met by the reader.
            LaneKey::Entity(_) => read_to.max(position.plus(u64::from(attempts > 0))),
            LaneKey::Record(own) => own.plus(1),
        };
        Self {
            phase: if is_halted { Phase::Halted } else { Phase::Stopped },
            row: Row::Fresh,
            behind: Some(behind),
            due: now + wait,
            tries: Tries::restored(attempts, counted, last, wait, clock),
            tried: sequence,
            ..lane
        }
    }

    /// What is to be stored of it.
    pub(super) fn row(&self, key: &LaneKey, now: Duration, clock: Duration) -> LaneRow {
        let head = self.queue.front().map(|met| &met.item);
        let sequence = head.map_or(self.read_on, |item| item.sequence);
        let is_tried = self.tried == sequence;
        let tries = if is_tried { &self.tries } else { &Tries::default() };
        LaneRow {
            key: key.clone(),
            position: head.map_or(self.at, |item| item.position),
            sequence,
            attempts: tries.attempts,
            counted: tries.counted(clock),
            wait: if self.phase == Phase::Stopped { self.due.saturating_sub(now) } else { Duration::ZERO },
            is_halted: self.phase == Phase::Halted,
            last: tries.last.as_ref().map(|(status, code)| (*status, code.clone().into_owned())),
        }
    }

    /// What was tried at the head.
    pub(super) fn tries(&mut self) -> &mut Tries {
        let sequence = self.queue.front().map_or(self.read_on, |met| met.item.sequence);
        if self.tried != sequence {
            self.tries = Tries::default();
            self.tried = sequence;
        }
        &mut self.tries
    }

    /// Whether a record that is met now is only noted, since the lane will come to it in the timeline.
    pub(super) fn is_noting(&self) -> bool {
        match self.phase {
            Phase::Stopped | Phase::Halted | Phase::Reading => true,
            Phase::Idle | Phase::Ready | Phase::Parked | Phase::Running => self.behind.is_some(),
        }
    }

    /// Has to look at everything before `position` in the timeline.
    pub(super) fn reach(&mut self, position: Position) {
        self.behind = self.behind.max(Some(position));
    }

    /// Whether nothing but its slot is of interest.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.behind.is_none()
    }
}
