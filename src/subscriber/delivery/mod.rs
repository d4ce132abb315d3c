//! The delivery to one subscriber, as a pure state machine: what happened and the time go in, what is to be done comes out.
//!
//! It knows no clock, no store and no network. Times are [`Duration`]s on the node's monotonic clock.

mod breaker;
mod effect;
mod input;

use std::sync::Arc;
use std::time::Duration;

pub use self::breaker::Standing as BreakerStanding;
pub use self::effect::{Effect, LaneKey, LaneRow, Reason};
pub use self::input::{Input, Met, Replay, ReplayTag, Ticket};
use super::profile::Profile;
use crate::event::Position;

/// What there is to say of a delivery, for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether attempts are let through.
    pub breaker: BreakerStanding,
    /// Attempts under way.
    pub running: usize,
    /// Records that wait in memory, those under way included.
    pub queued: usize,
    /// Lanes that wait to be tried again, those that stand still included.
    pub stopped: usize,
    /// How long there was no success, if the last attempts failed.
    pub failing_for: Option<Duration>,
}

/// What was given up when a subscriber is disabled or deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// The first position that may have been unsettled, if any was: with what was not read yet, the range of what is lost.
    pub from: Option<Position>,
    /// The rows to be removed.
    pub rows: Vec<LaneKey>,
    /// The records of jobs.
    pub replays: Vec<ReplayTag>,
}

/// The delivery to one subscriber.
#[derive(Debug)]
pub struct Delivery {
    profile: Arc<Profile>,
    read_to: Position,
}

/// What the shell asks of the state between two steps.
impl Delivery {
    /// A delivery whose reader has met everything before `read_to`, with what was stored of it. `seed` is for jitter;
    /// `failing_for` says how long there was no success, if the last attempts failed.
    #[must_use]
    pub fn new(
        profile: Arc<Profile>,
        read_to: Position,
        rows: Vec<LaneRow>,
        failing_for: Option<Duration>,
        seed: u64,
        now: Duration,
    ) -> Self {
        let _ = (rows, failing_for, seed, now);
        Self { profile, read_to }
    }

    /// Takes `input` at `now` and says what is to be done, in order. All of it, and what [`Self::holds`] says then, has to be
    /// in the ledger before a round takes what there is: only together do they vouch for everything unsettled.
    pub fn step(&mut self, input: Input, now: Duration) -> Vec<Effect> {
        let _ = (input, now, &self.profile);
        Vec::new()
    }

    /// Whether an attempt that was asked for may still begin: to be asked when it had to wait for a place.
    #[must_use]
    pub fn may_begin(&self, _ticket: Ticket) -> bool {
        true
    }

    /// The oldest unsettled record that no row stands for: the cursor must not pass it.
    #[must_use]
    pub fn holds(&self) -> Option<Position> {
        None
    }

    /// The position after the last record that was met.
    #[must_use]
    pub fn read_to(&self) -> Position {
        self.read_to
    }

    /// How many more records, and bytes of them, fit into the window.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        (self.profile.bounds.window_events, self.profile.bounds.window_bytes)
    }

    /// Whether the reader may go on.
    #[must_use]
    pub fn may_read(&self) -> bool {
        true
    }

    /// Whether there is nothing to remember: then it can be dropped and made anew with the next record.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }

    /// When to step with [`Input::Tick`], if nothing happens before.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        None
    }

    /// Attempts under way.
    #[must_use]
    pub fn running(&self) -> usize {
        0
    }

    /// What there is to say of it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { breaker: BreakerStanding::Closed, running: 0, queued: 0, stopped: 0, failing_for: None }
    }

    /// Forgets everything unsettled, as for a subscriber that is disabled or deleted. Attempts under way may go on, but what
    /// they come to is of no interest any more.
    pub fn abandon(&mut self) -> Abandoned {
        Abandoned::default()
    }
}
