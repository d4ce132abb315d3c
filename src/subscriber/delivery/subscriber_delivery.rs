//! The state of the delivery to one subscriber, and its step.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::breaker::{BreakerPass, DeliveryBreaker, DeliveryBreakerState};
use super::effect::DeliveryEffect;
use super::failing_stretch::FailingStretch;
use super::identifiers::{AttemptId, LaneKey};
use super::input::{DeliveryInput, MatchedRecord};
use super::lane::LanePhase;
use super::lane_row::LaneRow;
use super::lanes::{DeliveryLanes, EnqueueOutcome};
use super::rate_limiter::DeliveryRateLimiter;
use super::replay_queue::ReplayQueue;
use super::retry::{JitterSource, PausableClock};
use super::running_attempt::{AttemptSource, RunningAttempt};
use super::slow_start::SlowStart;
use crate::config::ExhaustionPolicy;
use crate::event::Position;
use crate::subscriber::OutboundRecord;
use crate::subscriber::delivery_policy::DeliveryPolicy;
use crate::subscription::{DeliveryOrdering, SubscriptionState};

/// Time over which hastened retries are scattered, so that they do not arrive all at once.
const HASTENED_WITHIN: Duration = Duration::from_secs(5);

/// State machine of the delivery to one subscriber.
#[derive(Debug)]
pub struct SubscriberDelivery {
    pub(super) policy: Arc<DeliveryPolicy>,
    /// Time of the last step.
    pub(super) now: Duration,
    pub(super) read_to: Position,
    /// Position that the reader had reached at the last checkpoint. Unsettled records before it get
    /// a row at the next checkpoint.
    pub(super) checkpoint_mark: Position,
    pub(super) lanes: DeliveryLanes,
    pub(super) replays: ReplayQueue,
    /// Attempts that may begin as soon as there is capacity, in order.
    pub(super) ready: VecDeque<AttemptSource>,
    /// Attempts that wait for their time; the number tells attempts with the same time apart.
    pub(super) due: BTreeMap<(Duration, u64), AttemptSource>,
    pub(super) running: HashMap<AttemptId, RunningAttempt>,
    /// Number of lanes that wait for a page of the timeline.
    pub(super) reading: usize,
    /// Last number given to an attempt id or a due attempt.
    pub(super) last_number: u64,
    pub(super) breaker: DeliveryBreaker,
    pub(super) slow_start: SlowStart,
    pub(super) rate_limiter: DeliveryRateLimiter,
    pub(super) counted_clock: PausableClock,
    pub(super) jitter: JitterSource,
    pub(super) failing_stretch: FailingStretch,
    /// Time before which no attempt may begin, as the subscriber asked with `Retry-After`.
    pub(super) held_until: Duration,
    /// True from [`DeliveryEffect::Disable`] until the new policy comes.
    pub(super) is_disabling: bool,
    /// Effects that the first step returns.
    effects_of_restore: Vec<DeliveryEffect>,
}

impl SubscriberDelivery {
    /// Restores a delivery from its stored `rows`; the reader goes on at `read_to`. `failing_for`
    /// is the counted time without a success. `seed` is the seed of the jitter.
    #[must_use]
    pub fn new(
        policy: Arc<DeliveryPolicy>,
        read_to: Position,
        rows: Vec<LaneRow>,
        failing_for: Duration,
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
            breaker: DeliveryBreaker::new(policy.breaker),
            slow_start: SlowStart::new(policy.concurrency),
            rate_limiter: DeliveryRateLimiter::default(),
            counted_clock: PausableClock::default(),
            jitter: JitterSource::new(seed),
            failing_stretch: FailingStretch::from_stored(failing_for),
            held_until: Duration::ZERO,
            is_disabling: false,
            effects_of_restore: Vec::new(),
            policy,
        };
        delivery.rate_limiter.set_limit(delivery.policy.rate_limit);

        let wait_max = delivery.policy.retries.pause_max();
        for mut row in rows {
            // The reader matches the record again, and decides in which lane.
            if matches!(row.key, LaneKey::Record(_)) && row.position >= read_to {
                let outdated = DeliveryEffect::RemoveRow(row.key);
                delivery.effects_of_restore.push(outdated);
                continue;
            }
            // The wait is a wall time in the row, and a wrong clock must not park the lane.
            row.wait = row.wait.min(wait_max);
            row.is_halted &= delivery.policy.on_exhausted == ExhaustionPolicy::Halt;
            // A halted lane waits for its dead letter, not for a time.
            if !row.is_halted {
                delivery.schedule_attempt(now + row.wait, AttemptSource::Lane(row.key.clone()));
            }
            delivery.lanes.restore(row, read_to, now, Duration::ZERO);
        }
        delivery.update_counted_clock();
        delivery
    }

    /// Applies `input` at `now` and returns the effects to be performed, in order. All effects, and
    /// the new [`Self::oldest_unsettled`], have to be in the checkpoint buffer before the next
    /// checkpoint is taken: only together do they cover every unsettled record.
    pub fn step(&mut self, input: DeliveryInput, now: Duration) -> Vec<DeliveryEffect> {
        self.now = self.now.max(now);
        let mut effects = std::mem::take(&mut self.effects_of_restore);
        match input {
            DeliveryInput::RecordsMatched { items, end } => {
                self.enqueue_matched(items, end, &mut effects)
            }
            DeliveryInput::AttemptEnded {
                attempt_id,
                outcome,
            } => self.finish_attempt(attempt_id, outcome, &mut effects),
            DeliveryInput::AttemptWithdrawn { attempt_id } => self.withdraw_attempt(attempt_id),
            DeliveryInput::LaneCaughtUp {
                lane,
                items,
                through,
                end,
            } => {
                let room = self.window_room();
                let read_to = self.read_to;
                if self
                    .lanes
                    .append_page(&lane, items, through, end, read_to, room)
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
                let lane = self.lanes.get(&key);
                if lane.is_some_and(|lane| lane.phase == LanePhase::Halted) {
                    self.resume_lane(key, false, &mut effects);
                }
            }
            DeliveryInput::PolicyChanged(policy) => self.change_policy(policy, &mut effects),
            DeliveryInput::RepairNoticed => self.notice_repair(),
            DeliveryInput::NothingOwed => self.failing_stretch.end(),
            DeliveryInput::CheckpointStarted => self.store_due_rows(&mut effects),
            DeliveryInput::Tick => {}
        }

        // Every input may free capacity or make attempts ready.
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
        for matched in items {
            let key = self.lane_for(&matched.item);
            match self.lanes.enqueue(key.clone(), matched, self.lane_room()) {
                EnqueueOutcome::LaneBegins => self.ready.push_back(AttemptSource::Lane(key)),
                EnqueueOutcome::LaneFull => self.store_lane_row(&key, effects),
                EnqueueOutcome::InLane => {}
            }
        }

        // Lanes that were ahead of the reader may end now.
        self.read_to = self.read_to.max(end);
        while let Some(key) = self.lanes.pop_reached(self.read_to) {
            self.resume_lane(key, false, effects);
        }
    }

    /// Returns the lane of `item`. After a change to "no order" an entity's lane is used until it
    /// has ended, so that no record overtakes the waiting ones. After a change to the order of the
    /// entity its lane waits for the lanes of single records.
    pub(super) fn lane_for(&self, item: &OutboundRecord) -> LaneKey {
        let key = LaneKey::Entity(item.record.entity.clone());
        match self.policy.ordering {
            DeliveryOrdering::None if !self.lanes.contains(&key) => LaneKey::Record(item.position),
            DeliveryOrdering::Entity | DeliveryOrdering::Subscription | DeliveryOrdering::None => {
                key
            }
        }
    }

    fn change_policy(&mut self, policy: Arc<DeliveryPolicy>, effects: &mut Vec<DeliveryEffect>) {
        let was_active = self.is_active();
        if matches!(self.policy.state, SubscriptionState::Disabled { .. }) || self.is_disabling {
            self.reset_health();
        }

        self.breaker.set_policy(policy.breaker);
        self.slow_start.set_max(policy.concurrency);
        self.rate_limiter.set_limit(policy.rate_limit);
        let is_repaired = !policy.target.is_same_receiver(&self.policy.target);
        let ends_halts = policy.on_exhausted != ExhaustionPolicy::Halt;
        self.policy = policy;
        self.is_disabling = false;

        if ends_halts {
            for key in self.lanes.halted_lanes() {
                self.resume_lane(key.clone(), false, effects);
                if self.lanes.has_row(&key) {
                    self.store_lane_row(&key, effects);
                }
            }
        }
        if !was_active && self.is_active() {
            // An operator who resumes a subscriber expects it to work: old failures do not count.
            if self.breaker.state() != DeliveryBreakerState::Closed {
                effects.push(DeliveryEffect::BreakerClosed);
            }
            self.reset_health();
            self.notice_repair();
        } else if is_repaired {
            self.notice_repair();
        }
    }

    /// Tries the subscriber again soon: it was seen to answer, or an operator repaired something.
    fn notice_repair(&mut self) {
        self.failing_stretch.end();
        self.held_until = Duration::ZERO;
        self.breaker.allow_probe(self.now);
        self.hasten_retries();
    }

    /// Makes all waiting attempts due soon, scattered over a few seconds. They stay counted.
    pub(super) fn hasten_retries(&mut self) {
        for ((due, number), source) in std::mem::take(&mut self.due) {
            let scatter = HASTENED_WITHIN.mul_f64(self.jitter.next_fraction());
            let due = due.min(self.now + scatter);
            if let AttemptSource::Lane(key) = &source {
                self.lanes.set_due(key, due);
            }
            self.due.insert((due, number), source);
        }
    }

    /// Resets breaker and slow start. An attempt under way is no longer a probe: it must not decide
    /// for the new breaker.
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

    pub(super) fn store_lane_row(&mut self, key: &LaneKey, effects: &mut Vec<DeliveryEffect>) {
        let clock = self.counted_clock.elapsed(self.now);
        effects.extend(
            self.lanes
                .refresh_row(key, self.now, clock)
                .map(DeliveryEffect::StoreRow),
        );
    }

    /// Runs the counted clock only while attempts may be made.
    fn update_counted_clock(&mut self) {
        let from = self.next_permitted_at().filter(|_| self.is_active());
        self.counted_clock
            .set_start(from.map(|from| from.max(self.now)), self.now);
    }

    pub(super) fn is_active(&self) -> bool {
        self.policy.state == SubscriptionState::Active && !self.is_disabling
    }
}
