//! The delivery to one subscriber, as a pure state machine: what happened and the time go in, what is to be done comes out.
//!
//! It knows no clock, no store and no network. Times are [`Duration`]s on the node's monotonic clock.

mod breaker;
mod effect;
mod input;
mod lane;
mod lanes;
mod outcome;
mod pace;
mod rate;
mod replay;
mod retry;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::breaker::{Breaker, Pass};
use self::lane::Phase;
use self::lanes::Lanes;
use self::pace::Pace;
use self::rate::Rate;
use self::replay::Replays;
use self::retry::{Counted, Dice};
use self::turn::{Running, Work};

pub use self::breaker::Standing as BreakerStanding;
pub use self::effect::{Effect, LaneKey, LaneRow, Reason};
pub use self::input::{Input, Met, Replay, ReplayTag, Ticket};
use super::Item;
use super::profile::Profile;
use crate::event::Position;
use crate::subscription::{Ordering, State};

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
    /// The time of the last step.
    now: Duration,
    read_to: Position,
    /// What was met before here, and holds the cursor at the next round, asks for a row then.
    mark: Position,
    lanes: Lanes,
    replays: Replays,
    /// What waits for its turn, in order.
    ready: VecDeque<Work>,
    /// What waits for its time, with a number that tells apart what is due at once.
    due: BTreeMap<(Duration, u64), Work>,
    running: HashMap<Ticket, Running>,
    /// Lanes that wait for records from the timeline.
    reading: usize,
    /// The last number given to a ticket or to something due.
    last_number: u64,
    breaker: Breaker,
    pace: Pace,
    rate: Rate,
    counted: Counted,
    dice: Dice,
    /// Since when there was no success, and how long there was none before this delivery was made.
    failing: Option<(Duration, Duration)>,
    /// Whether [`Effect::Disable`] was asked for and its change did not come yet.
    is_over: bool,
}

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
        let mut delivery = Self {
            now,
            read_to,
            mark: read_to,
            lanes: Lanes::default(),
            replays: Replays::default(),
            ready: VecDeque::new(),
            due: BTreeMap::new(),
            running: HashMap::new(),
            reading: 0,
            last_number: 0,
            breaker: Breaker::new(profile.breaker),
            pace: Pace::new(profile.concurrency),
            rate: Rate::default(),
            counted: Counted::default(),
            dice: Dice::new(seed),
            failing: failing_for.map(|already| (now, already)),
            is_over: false,
            profile,
        };
        delivery.rate.set_limit(delivery.profile.rate_limit);
        for row in rows {
            if !row.is_halted {
                delivery.wait_until(now + row.wait, Work::Lane(row.key.clone()));
            }
            delivery.lanes.restore(row, read_to, now, Duration::ZERO);
        }
        delivery.count();
        delivery
    }

    /// Takes `input` at `now` and says what is to be done, in order. All of it, and what [`Self::holds`] says then, has to be
    /// in the ledger before a round takes what there is: only together do they vouch for everything unsettled.
    pub fn step(&mut self, input: Input, now: Duration) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut effects = Vec::new();
        match input {
            Input::Met { items, end } => self.meet(items, end, &mut effects),
            Input::Ended { ticket, outcome } => self.ended(ticket, outcome, &mut effects),
            Input::Withdrawn { ticket } => self.withdrawn(ticket),
            Input::CaughtUp { lane, items, through, end } => {
                let room = self.room();
                if self.lanes.caught_up(&lane, items, through, end, self.read_to, room) {
                    self.reading -= 1;
                    self.go_on(lane, true, &mut effects);
                }
            }
            Input::Replay(replays) => {
                for replay in replays {
                    let number = self.replays.add(replay);
                    self.ready.push_back(Work::Replay(number));
                }
            }
            Input::Cancel { job } => self.replays.cancel(job),
            Input::Released { key } => {
                if self.lanes.get(&key).is_some_and(|lane| lane.phase == Phase::Halted) {
                    self.go_on(key, false, &mut effects);
                }
            }
            Input::Changed(profile) => self.change(profile, &mut effects),
            Input::Probe => self.breaker.hurry(self.now),
            Input::Round => self.round(&mut effects),
            Input::Tick => {}
        }
        self.take_turns(&mut effects);
        self.count();
        effects
    }

    fn meet(&mut self, items: Vec<Met>, end: Position, effects: &mut Vec<Effect>) {
        for met in items {
            let key = self.lane_of(&met.item);
            if self.lanes.meet(key.clone(), met) {
                self.ready.push_back(Work::Lane(key));
            }
        }
        self.read_to = self.read_to.max(end);
        while let Some(key) = self.lanes.reached(self.read_to) {
            self.go_on(key, false, effects);
        }
    }

    /// The lane that `item` belongs to. Where no order is asked for any more, an entity's lane is used until it has ended.
    fn lane_of(&self, item: &Item) -> LaneKey {
        let key = LaneKey::Entity(item.record.entity.clone());
        match self.profile.ordering {
            Ordering::None if !self.lanes.contains(&key) => LaneKey::Record(item.position),
            Ordering::Entity | Ordering::None => key,
        }
    }

    fn change(&mut self, profile: Arc<Profile>, effects: &mut Vec<Effect>) {
        let was_active = self.is_active();
        if matches!(self.profile.state, State::Disabled { .. }) || self.is_over {
            self.begin_anew();
        }
        self.breaker.set_policy(profile.breaker);
        self.pace.set_max(profile.concurrency);
        self.rate.set_limit(profile.rate_limit);
        self.profile = profile;
        self.is_over = false;
        if !was_active && self.is_active() {
            // Who lets it go on means that it works again, or will soon.
            self.failing = None;
            if self.breaker.standing() != BreakerStanding::Closed {
                effects.push(Effect::BreakerClosed);
            }
            self.begin_anew();
        }
    }

    /// Holds nothing against the subscriber that was. An attempt under way is no probe any more: it must not decide for one
    /// that comes later.
    fn begin_anew(&mut self) {
        self.breaker = Breaker::new(self.profile.breaker);
        self.pace = Pace::new(self.profile.concurrency);
        self.running.values_mut().for_each(|running| running.pass = Pass::Ordinary);
    }

    fn round(&mut self, effects: &mut Vec<Effect>) {
        for key in self.lanes.round(self.mark, self.profile.bounds.stopped_lanes_max) {
            self.keep(&key, effects);
        }
        self.mark = self.read_to;
    }

    fn keep(&mut self, key: &LaneKey, effects: &mut Vec<Effect>) {
        let clock = self.counted.read(self.now);
        effects.extend(self.lanes.keep(key, self.now, clock).map(Effect::Keep));
    }

    /// Lets the counted clock go while attempts could be made.
    fn count(&mut self) {
        let from = self.breaker.lets_through_from().filter(|_| self.is_active());
        self.counted.set(from.map(|from| from.max(self.now)), self.now);
    }

    fn is_active(&self) -> bool {
        self.profile.state == State::Active && !self.is_over
    }
}

/// What the shell asks of the state between two steps.
impl Delivery {
    /// Whether an attempt that was asked for may still begin: to be asked when it had to wait for a place. If not, it is
    /// [`Input::Withdrawn`].
    #[must_use]
    pub fn may_begin(&self, ticket: Ticket) -> bool {
        let Some(running) = self.running.get(&ticket) else { return false };
        self.is_active() && running.may_begin(self.breaker.standing())
    }

    /// The oldest unsettled record that no row stands for: the cursor must not pass it.
    #[must_use]
    pub fn holds(&self) -> Option<Position> {
        self.lanes.holds()
    }

    /// The position after the last record that was met.
    #[must_use]
    pub fn read_to(&self) -> Position {
        self.read_to
    }

    /// How many more records, and bytes of them, fit into the window.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        let ((events, bytes), bounds) = (self.lanes.queued(), &self.profile.bounds);
        (bounds.window_events.saturating_sub(events), bounds.window_bytes.saturating_sub(bytes))
    }

    /// About how many bytes of memory the records take that wait.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lanes.queued().1
    }

    /// Whether the reader may go on: not while nothing may be attempted, or too many lanes have rows. When a probe may be
    /// made and nothing else is there to make it with, it may.
    #[must_use]
    pub fn may_read(&self) -> bool {
        let (events, bytes) = self.room();
        let has_room = events > 0 && bytes > 0 && self.lanes.rows() < self.profile.bounds.stopped_lanes_max;
        let is_let_through = match self.breaker.standing() {
            BreakerStanding::Closed => true,
            BreakerStanding::Open => self.is_let_through() && self.ready.is_empty() && self.reading == 0,
            BreakerStanding::HalfOpen => false,
        };
        self.is_active() && has_room && is_let_through
    }

    /// Whether there is nothing to remember but [`Standing::failing_for`]: then it can be dropped and made anew with the next
    /// record.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_empty = self.lanes.is_empty() && self.replays.is_empty() && self.running.is_empty();
        is_empty && self.breaker.standing() == BreakerStanding::Closed && self.rate.full_at() <= self.now
    }

    /// When to step with [`Input::Tick`], if nothing happens before. A time that is past means at once.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        if !self.is_active() {
            return None;
        }
        let due = self.due.keys().next().map(|(due, _)| *due);
        let work = if self.ready.is_empty() { due } else { Some(self.rate.next()) };
        match self.breaker.lets_through_from()? {
            open_until if open_until > self.now => Some(open_until),
            _ if self.is_full() => None,
            _ => work.or_else(|| Some(self.rate.full_at()).filter(|at| *at > self.now)),
        }
    }

    /// Attempts under way.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// What there is to say of it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            breaker: self.breaker.standing(),
            running: self.running.len(),
            queued: self.lanes.queued().0,
            stopped: self.lanes.stopped(),
            failing_for: self.failing.map(|(since, already)| already + self.now.saturating_sub(since)),
        }
    }

    /// Forgets everything unsettled, as for a subscriber that is disabled or deleted. Attempts under way may go on, but what
    /// they come to is of no interest any more.
    pub fn abandon(&mut self) -> Abandoned {
        self.ready.clear();
        self.due.clear();
        self.running.clear();
        self.reading = 0;
        let replays = self.replays.abandon();
        let (from, rows) = self.lanes.abandon();
        Abandoned { from, rows, replays }
    }
}
