//! The delivery to one subscriber, as a pure state machine: what happened and the time go in, what
//! is to be done comes out.
//!
//! It knows no clock, no store and no network. Times are [`Duration`]s on the node's monotonic
//! clock.

mod breaker;
mod effect;
mod input;
mod lane;
mod lanes;
mod outcome;
mod rate_limiter;
mod replay_queue;
mod retry;
mod scheduling;
mod slow_start;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::breaker::{BreakerPass, DeliveryBreaker};
use self::lane::LanePhase;
use self::lanes::DeliveryLanes;
use self::rate_limiter::DeliveryRateLimiter;
use self::replay_queue::ReplayQueue;
use self::retry::{JitterSource, PausableClock};
use self::scheduling::{AttemptSource, RunningAttempt};
use self::slow_start::SlowStart;

pub use self::breaker::DeliveryBreakerState;
pub use self::effect::{DeliveryEffect, GiveUpReason, LaneKey, LaneRow};
pub use self::input::{AttemptId, DeliveryInput, MatchedRecord, ReplayItem, ReplayTag};
use super::OutboundRecord;
use super::delivery_policy::DeliveryPolicy;
use crate::event::Position;
use crate::subscription::{DeliveryOrdering, SubscriptionState};

/// What there is to say of a delivery, for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// Whether attempts are let through.
    pub breaker: DeliveryBreakerState,
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
pub struct AbandonedDelivery {
    /// The first position that may have been unsettled, if any was: with what was not read yet, the
    /// range of what is lost.
    pub from: Option<Position>,
    /// The rows to be removed.
    pub rows: Vec<LaneKey>,
    /// The records of jobs.
    pub replays: Vec<ReplayTag>,
}

/// The delivery to one subscriber.
#[derive(Debug)]
pub struct SubscriberDelivery {
    policy: Arc<DeliveryPolicy>,
    /// The time of the last step.
    now: Duration,
    read_to: Position,
    /// What was met before here, and holds the cursor at the next round, asks for a row then.
    checkpoint_mark: Position,
    lanes: DeliveryLanes,
    replays: ReplayQueue,
    /// What waits for its turn, in order.
    ready: VecDeque<AttemptSource>,
    /// What waits for its time, with a number that tells apart what is due at once.
    due: BTreeMap<(Duration, u64), AttemptSource>,
    running: HashMap<AttemptId, RunningAttempt>,
    /// Lanes that wait for records from the timeline.
    reading: usize,
    /// The last number given to a ticket or to something due.
    last_number: u64,
    breaker: DeliveryBreaker,
    slow_start: SlowStart,
    rate_limiter: DeliveryRateLimiter,
    counted_clock: PausableClock,
    jitter: JitterSource,
    /// Since when there was no success, and how long there was none before this delivery was made.
    failing_since: Option<(Duration, Duration)>,
    /// Whether [`Effect::Disable`] was asked for and its change did not come yet.
    is_disabling: bool,
}

impl SubscriberDelivery {
    /// A delivery whose reader has met everything before `read_to`, with what was stored of it.
    /// `seed` is for jitter; `failing_for` says how long there was no success, if the last attempts
    /// failed.
    #[must_use]
    pub fn new(
        profile: Arc<DeliveryPolicy>,
        read_to: Position,
        rows: Vec<LaneRow>,
        failing_for: Option<Duration>,
        seed: u64,
        now: Duration,
    ) -> Self {
        let mut delivery = Self {
            now,
            read_to,
            checkpoint_mark: read_to,
            lanes: DeliveryLanes::default(),
            replays: ReplayQueue::default(),
            ready: VecDeque::new(),
            due: BTreeMap::new(),
            running: HashMap::new(),
            reading: 0,
            last_number: 0,
            breaker: DeliveryBreaker::new(profile.breaker),
            slow_start: SlowStart::new(profile.concurrency),
            rate_limiter: DeliveryRateLimiter::default(),
            counted_clock: PausableClock::default(),
            jitter: JitterSource::new(seed),
            failing_since: failing_for.map(|already| (now, already)),
            is_disabling: false,
            policy: profile,
        };
        delivery.rate_limiter.set_limit(delivery.policy.rate_limit);
        for row in rows {
            if !row.is_halted {
                delivery.schedule_attempt(now + row.wait, AttemptSource::Lane(row.key.clone()));
            }
            delivery.lanes.restore(row, read_to, now, Duration::ZERO);
        }
        delivery.update_counted_clock();
        delivery
    }

    /// Takes `input` at `now` and says what is to be done, in order. All of it, and what
    /// [`Self::holds`] says then, has to be in the ledger before a round takes what there is: only
    /// together do they vouch for everything unsettled.
    pub fn step(&mut self, input: DeliveryInput, now: Duration) -> Vec<DeliveryEffect> {
        self.now = self.now.max(now);
        let mut effects = Vec::new();
        match input {
            DeliveryInput::RecordsMatched { items, end } => {
                self.enqueue_matched(items, end, &mut effects)
            }
            DeliveryInput::AttemptEnded { ticket, outcome } => {
                self.finish_attempt(ticket, outcome, &mut effects)
            }
            DeliveryInput::AttemptWithdrawn { ticket } => self.withdraw_attempt(ticket),
            DeliveryInput::LaneCaughtUp {
                lane,
                items,
                through,
                end,
            } => {
                let room = self.window_room();
                if self
                    .lanes
                    .append_page(&lane, items, through, end, self.read_to, room)
                {
                    self.reading -= 1;
                    self.resume_lane(lane, true, &mut effects);
                }
            }
            DeliveryInput::ReplaysAdded(replays) => {
                for replay in replays {
                    let number = self.replays.add(replay);
                    self.ready.push_back(AttemptSource::Replay(number));
                }
            }
            DeliveryInput::JobCancelled { job } => self.replays.cancel_job(job),
            DeliveryInput::LaneReleased { key } => {
                if self
                    .lanes
                    .get(&key)
                    .is_some_and(|lane| lane.phase == LanePhase::Halted)
                {
                    self.resume_lane(key, false, &mut effects);
                }
            }
            DeliveryInput::PolicyChanged(profile) => self.change_policy(profile, &mut effects),
            DeliveryInput::Probe => self.breaker.allow_probe(self.now),
            DeliveryInput::CheckpointStarted => self.store_due_rows(&mut effects),
            DeliveryInput::Tick => {}
        }
        self.begin_ready_attempts(&mut effects);
        self.update_counted_clock();
        effects
    }

    fn enqueue_matched(
        &mut self,
        items: Vec<MatchedRecord>,
        end: Position,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        for met in items {
            let key = self.lane_for(&met.item);
            if self.lanes.enqueue(key.clone(), met) {
                self.ready.push_back(AttemptSource::Lane(key));
            }
        }
        self.read_to = self.read_to.max(end);
        while let Some(key) = self.lanes.pop_reached(self.read_to) {
            self.resume_lane(key, false, effects);
        }
    }

    /// The lane that `item` belongs to. Where no order is asked for any more, an entity's lane is
    /// used until it has ended.
    fn lane_for(&self, item: &OutboundRecord) -> LaneKey {
        let key = LaneKey::Entity(item.record.entity.clone());
        match self.policy.ordering {
            DeliveryOrdering::None if !self.lanes.contains(&key) => LaneKey::Record(item.position),
            DeliveryOrdering::Entity | DeliveryOrdering::None => key,
        }
    }

    fn change_policy(&mut self, profile: Arc<DeliveryPolicy>, effects: &mut Vec<DeliveryEffect>) {
        let was_active = self.is_active();
        if matches!(self.policy.state, SubscriptionState::Disabled { .. }) || self.is_disabling {
            self.reset_health();
        }
        self.breaker.set_policy(profile.breaker);
        self.slow_start.set_max(profile.concurrency);
        self.rate_limiter.set_limit(profile.rate_limit);
        self.policy = profile;
        self.is_disabling = false;
        if !was_active && self.is_active() {
            // Who lets it go on means that it works again, or will soon.
            self.failing_since = None;
            if self.breaker.state() != DeliveryBreakerState::Closed {
                effects.push(DeliveryEffect::BreakerClosed);
            }
            self.reset_health();
        }
    }

    /// Holds nothing against the subscriber that was. An attempt under way is no probe any more: it
    /// must not decide for one that comes later.
    fn reset_health(&mut self) {
        self.breaker = DeliveryBreaker::new(self.policy.breaker);
        self.slow_start = SlowStart::new(self.policy.concurrency);
        self.running
            .values_mut()
            .for_each(|running| running.pass = BreakerPass::Ordinary);
    }

    fn store_due_rows(&mut self, effects: &mut Vec<DeliveryEffect>) {
        for key in self
            .lanes
            .lanes_to_store(self.checkpoint_mark, self.policy.bounds.stopped_lanes_max)
        {
            self.store_lane_row(&key, effects);
        }
        self.checkpoint_mark = self.read_to;
    }

    fn store_lane_row(&mut self, key: &LaneKey, effects: &mut Vec<DeliveryEffect>) {
        let clock = self.counted_clock.elapsed(self.now);
        effects.extend(
            self.lanes
                .refresh_row(key, self.now, clock)
                .map(DeliveryEffect::StoreRow),
        );
    }

    /// Lets the counted clock go while attempts could be made.
    fn update_counted_clock(&mut self) {
        let from = self.breaker.next_attempt_at().filter(|_| self.is_active());
        self.counted_clock
            .set_start(from.map(|from| from.max(self.now)), self.now);
    }

    fn is_active(&self) -> bool {
        self.policy.state == SubscriptionState::Active && !self.is_disabling
    }
}

/// What the shell asks of the state between two steps.
impl SubscriberDelivery {
    /// Whether an attempt that was asked for may still begin: to be asked when it had to wait for a
    /// place. If not, it is [`Input::Withdrawn`].
    #[must_use]
    pub fn can_begin(&self, ticket: AttemptId) -> bool {
        let Some(running) = self.running.get(&ticket) else {
            return false;
        };
        self.is_active() && running.can_begin(self.breaker.state())
    }

    /// The oldest unsettled record that no row stands for: the cursor must not pass it.
    #[must_use]
    pub fn oldest_unsettled(&self) -> Option<Position> {
        self.lanes.oldest_unsettled()
    }

    /// The position after the last record that was met.
    #[must_use]
    pub fn read_to(&self) -> Position {
        self.read_to
    }

    /// How many more records, and bytes of them, fit into the window.
    #[must_use]
    pub fn window_room(&self) -> (usize, usize) {
        let ((events, bytes), bounds) = (self.lanes.queued_size(), &self.policy.bounds);
        (
            bounds.window_events.saturating_sub(events),
            bounds.window_bytes.saturating_sub(bytes),
        )
    }

    /// About how many bytes of memory the records take that wait.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lanes.queued_size().1
    }

    /// Whether the reader may go on: not while nothing may be attempted, or too many lanes have
    /// rows. When a probe may be made and nothing else is there to make it with, it may.
    #[must_use]
    pub fn can_read(&self) -> bool {
        let (events, bytes) = self.window_room();
        let has_room = events > 0
            && bytes > 0
            && self.lanes.stored_lane_count() < self.policy.bounds.stopped_lanes_max;
        let is_let_through = match self.breaker.state() {
            DeliveryBreakerState::Closed => true,
            DeliveryBreakerState::Open => {
                self.can_attempt_now() && self.ready.is_empty() && self.reading == 0
            }
            DeliveryBreakerState::HalfOpen => false,
        };
        self.is_active() && has_room && is_let_through
    }

    /// Whether there is nothing to remember but [`Standing::failing_for`]: then it can be dropped
    /// and made anew with the next record.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_empty = self.lanes.is_empty() && self.replays.is_empty() && self.running.is_empty();
        is_empty
            && self.breaker.state() == DeliveryBreakerState::Closed
            && self.rate_limiter.full_at() <= self.now
    }

    /// When to step with [`Input::Tick`], if nothing happens before. A time that is past means at
    /// once.
    #[must_use]
    pub fn next_due_at(&self) -> Option<Duration> {
        if !self.is_active() {
            return None;
        }
        let due = self.due.keys().next().map(|(due, _)| *due);
        let work = if self.ready.is_empty() {
            due
        } else {
            Some(self.rate_limiter.next_attempt_at())
        };
        match self.breaker.next_attempt_at()? {
            open_until if open_until > self.now => Some(open_until),
            _ if self.is_at_concurrency_limit() => None,
            _ => work.or_else(|| Some(self.rate_limiter.full_at()).filter(|at| *at > self.now)),
        }
    }

    /// Attempts under way.
    #[must_use]
    pub fn running_count(&self) -> usize {
        self.running.len()
    }

    /// What there is to say of it.
    #[must_use]
    pub fn status(&self) -> DeliveryStatus {
        DeliveryStatus {
            breaker: self.breaker.state(),
            running: self.running.len(),
            queued: self.lanes.queued_size().0,
            stopped: self.lanes.stopped_lane_count(),
            failing_for: self
                .failing_since
                .map(|(since, already)| already + self.now.saturating_sub(since)),
        }
    }

    /// Forgets everything unsettled, as for a subscriber that is disabled or deleted. Attempts
    /// under way may go on, but what they come to is of no interest any more.
    pub fn abandon(&mut self) -> AbandonedDelivery {
        self.ready.clear();
        self.due.clear();
        self.running.clear();
        self.reading = 0;
        let replays = self.replays.abandon();
        let (from, rows) = self.lanes.abandon();
        AbandonedDelivery {
            from,
            rows,
            replays,
        }
    }
}
