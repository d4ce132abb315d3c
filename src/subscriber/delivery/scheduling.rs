//! Scheduling of attempts: ready attempts begin in order, so that no entity waits for another one
//! with more records.

use std::time::Duration;

use super::breaker::{BreakerPass, DeliveryBreakerState};
use super::effect::DeliveryEffect;
use super::identifiers::{AttemptId, LaneKey};
use super::lane::LanePhase;
use super::lanes::LaneRoom;
use super::running_attempt::{AttemptSource, RunningAttempt};
use super::subscriber_delivery::SubscriberDelivery;
use crate::subscriber::new_dead_letter::DeadLetterCause;
use crate::subscriber::{AttemptFailure, OutboundRecord};
use crate::subscription::DeliveryOrdering;

/// Most records of one lane in memory; the lane reads the others from its entity's timeline.
const LANE_RECORDS_MAX: usize = 32;

/// Most lanes that a subscriber with one order for everything reads ahead: only the oldest of them
/// has an attempt.
const ORDERED_LANES_MAX: usize = 64;

/// One lane holds at most this fraction of the window.
const LANE_ROOM_DIVISOR: usize = 8;

impl SubscriberDelivery {
    /// Begins ready attempts until a limit is reached.
    pub(super) fn begin_ready_attempts(&mut self, effects: &mut Vec<DeliveryEffect>) {
        if !self.is_active() || !self.can_attempt_now() {
            return;
        }
        self.ready_unblocked_lanes(effects);
        self.ready_due_attempts();
        while !self.is_at_concurrency_limit() {
            let index = self.next_ready_index();
            let Some(source) = index.and_then(|index| self.ready.remove(index)) else {
                return;
            };
            let begun = match &source {
                AttemptSource::Lane(key) => self.begin_lane_attempt(key, effects),
                AttemptSource::Replay(number) => self.begin_replay_attempt(*number, effects),
            };
            // The rate limit or the breaker holds all attempts: this one stays the first.
            if begun.is_none() {
                self.ready.push_front(source);
                return;
            }
        }
    }

    /// Returns the index of the ready attempt that begins next; `None` if none may begin. In the
    /// order of the subscription that is the oldest unsettled record, once the reader has passed it:
    /// before, an older one may still come. Records of jobs are outside of the order.
    pub(super) fn next_ready_index(&self) -> Option<usize> {
        match self.policy.ordering {
            DeliveryOrdering::Entity | DeliveryOrdering::None => {
                (!self.ready.is_empty()).then_some(0)
            }
            DeliveryOrdering::Subscription => {
                let oldest = self.lanes.oldest_lane();
                let oldest = oldest.filter(|(position, _)| *position < self.read_to);
                self.ready.iter().position(|source| match source {
                    AttemptSource::Lane(key) => oldest.is_some_and(|(_, oldest)| oldest == key),
                    AttemptSource::Replay(_) => true,
                })
            }
        }
    }

    /// True if breaker and subscriber let an attempt through now.
    pub(super) fn can_attempt_now(&self) -> bool {
        self.next_permitted_at()
            .is_some_and(|from| from <= self.now)
    }

    /// Time from which on breaker and subscriber let an attempt through; `None` means after the end
    /// of the probe.
    pub(super) fn next_permitted_at(&self) -> Option<Duration> {
        let from = self.breaker.next_attempt_at()?;
        Some(from.max(self.held_until))
    }

    /// True if as many attempts are under way as allowed. A probe does not wait for the end of
    /// attempts that began before the breaker opened.
    pub(super) fn is_at_concurrency_limit(&self) -> bool {
        let busy = self.running.len() + self.reading;
        let is_full = match self.breaker.state() {
            DeliveryBreakerState::Closed => busy >= self.slow_start.limit(),
            DeliveryBreakerState::Open => self.reading > 0,
            DeliveryBreakerState::HalfOpen => true,
        };
        let most = match self.policy.ordering {
            DeliveryOrdering::Entity | DeliveryOrdering::None => self.policy.concurrency.max(1),
            DeliveryOrdering::Subscription => 1,
        };
        is_full || busy >= most
    }

    pub(super) fn schedule_attempt(&mut self, due: Duration, source: AttemptSource) {
        self.last_number += 1;
        self.due.insert((due, self.last_number), source);
    }

    /// Makes lanes ready that waited for lanes of single records.
    fn ready_unblocked_lanes(&mut self, effects: &mut Vec<DeliveryEffect>) {
        for key in self.lanes.take_unblocked() {
            let lane = self.lanes.get(&key);
            // It was full, and had to hold the cursor for the older records.
            if lane.is_some_and(|lane| lane.catch_up_to.is_some()) && !self.lanes.has_row(&key) {
                self.store_lane_row(&key, effects);
            }
            let lane = self.lanes.get(&key);
            if lane.is_some_and(|lane| lane.running_attempt.is_none()) {
                self.release_lane(&key);
                self.lanes.remove_if_unused(&key);
            }
        }
    }

    /// True if the number of lanes lets the reader go on.
    pub(super) fn has_room_for_lanes(&self) -> bool {
        let has_room_for_rows =
            self.lanes.stored_lane_count() < self.policy.bounds.stopped_lanes_max;
        match self.policy.ordering {
            DeliveryOrdering::Entity | DeliveryOrdering::None => has_room_for_rows,
            DeliveryOrdering::Subscription => {
                // Restored lanes may be ahead of the reader, and then they wait for it.
                let is_awaited = |(oldest, _)| oldest >= self.read_to;
                self.lanes.oldest_lane().is_none_or(is_awaited)
                    || (has_room_for_rows && self.lanes.count() < ORDERED_LANES_MAX)
            }
        }
    }

    /// Room of one lane in memory: a part of the window, so that an entity with many records does
    /// not keep the reader from the others.
    pub(super) fn lane_room(&self) -> LaneRoom {
        let bounds = &self.policy.bounds;
        let records = bounds.window_events / LANE_ROOM_DIVISOR;
        LaneRoom {
            records: records.clamp(1, LANE_RECORDS_MAX),
            bytes: bounds.window_bytes / LANE_ROOM_DIVISOR,
        }
    }

    /// Makes due attempts ready. The time until they begin is not counted against them.
    fn ready_due_attempts(&mut self) {
        let clock = self.counted_clock.elapsed(self.now);
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= self.now
        {
            let source = entry.remove();
            match &source {
                AttemptSource::Lane(key) => {
                    self.lanes.set_phase(key, LanePhase::Ready);
                    let Some(lane) = self.lanes.get_mut(key) else {
                        continue;
                    };
                    lane.head_history().stop_counting(clock);
                }
                AttemptSource::Replay(number) => {
                    let Some(pending) = self.replays.get_mut(*number) else {
                        continue;
                    };
                    pending.history.stop_counting(clock);
                }
            }
            self.ready.push_back(source);
        }
    }

    /// Begins the next attempt of a lane, or reads its records. `None` if no attempt may begin now,
    /// in any lane.
    fn begin_lane_attempt(
        &mut self,
        key: &LaneKey,
        effects: &mut Vec<DeliveryEffect>,
    ) -> Option<()> {
        let Some(lane) = self.lanes.get_mut(key) else {
            return Some(());
        };
        if lane.running_attempt.is_some() || self.lanes.is_blocked(key) {
            self.lanes.set_phase(key, LanePhase::Parked);
            return Some(());
        }
        let lane = self.lanes.get(key)?;

        // A stopped lane has no records in memory: the attempt begins after the read.
        let Some(head) = lane.queue.front() else {
            let from_sequence = lane.next_sequence;
            self.reading += 1;
            self.lanes.set_phase(key, LanePhase::Reading);
            effects.push(DeliveryEffect::CatchUp {
                lane: key.clone(),
                from_sequence,
            });
            return Some(());
        };

        // Without a decision of the filter the record must neither be delivered nor dropped.
        if let Some(detail) = head.filter_error.clone() {
            let failure = AttemptFailure {
                status: None,
                code: "filter_failed",
                detail,
                answer: bytes::Bytes::new(),
            };
            self.give_up_head(key, failure, DeadLetterCause::Expression, effects);
            return Some(());
        }

        let item = head.item.clone();
        let (attempt_id, pass) = self.try_begin_attempt()?;
        let clock = self.counted_clock.elapsed(self.now);
        self.lanes.set_phase(key, LanePhase::Running);
        let lane = self.lanes.get_mut(key)?;
        lane.running_attempt = Some(attempt_id);
        lane.head_history().begin_attempt(clock);
        let attempt = lane.head_history().attempts + 1;

        let running = RunningAttempt {
            source: AttemptSource::Lane(key.clone()),
            key: key.clone(),
            pass,
        };
        self.start_attempt(attempt_id, running, item, attempt, effects);
        Some(())
    }

    /// Begins the attempt at a job's record; `None` as for [`Self::begin_lane_attempt`].
    fn begin_replay_attempt(
        &mut self,
        number: u64,
        effects: &mut Vec<DeliveryEffect>,
    ) -> Option<()> {
        let Some(pending) = self.replays.get_mut(number) else {
            return Some(());
        };
        let item = pending.replay.item.clone();
        let key = self.lane_for(&item);
        let is_blocked = self.lanes.is_blocked(&key);
        let lane = self.lanes.get_or_insert(&key, &item);
        if is_blocked || lane.running_attempt.is_some() {
            // One attempt at a time in each lane: the end of the running one makes this one ready.
            lane.parked_replays.push(number);
            return Some(());
        }
        let Some((attempt_id, pass)) = self.try_begin_attempt() else {
            self.lanes.remove_if_unused(&key);
            return None;
        };
        let clock = self.counted_clock.elapsed(self.now);
        self.lanes.get_or_insert(&key, &item).running_attempt = Some(attempt_id);
        let pending = self.replays.get_mut(number)?;
        pending.is_running = true;
        pending.history.begin_attempt(clock);
        let attempt = pending.history.attempts + 1;

        let running = RunningAttempt {
            source: AttemptSource::Replay(number),
            key,
            pass,
        };
        self.start_attempt(attempt_id, running, item, attempt, effects);
        Some(())
    }

    /// Takes a token of the rate limit and a pass of the breaker; `None` if one of them is missing.
    fn try_begin_attempt(&mut self) -> Option<(AttemptId, BreakerPass)> {
        if self.rate_limiter.next_attempt_at() > self.now {
            return None;
        }
        let pass = self.breaker.try_pass(self.now)?;
        self.rate_limiter.consume_token(self.now);
        self.last_number += 1;
        Some((AttemptId(self.last_number), pass))
    }

    fn start_attempt(
        &mut self,
        attempt_id: AttemptId,
        running: RunningAttempt,
        item: OutboundRecord,
        attempt: u32,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let is_replay = matches!(running.source, AttemptSource::Replay(_));
        self.running.insert(attempt_id, running);
        effects.push(DeliveryEffect::Attempt {
            attempt_id,
            item,
            attempt,
            is_replay,
        });
    }
}
