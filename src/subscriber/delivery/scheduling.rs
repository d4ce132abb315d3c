//! Whose turn it is: what is ready takes its turns in order, so that no entity waits for another
//! that has more to deliver.

use std::time::Duration;

use super::breaker::{BreakerPass, DeliveryBreakerState};
use super::lane::LanePhase;
use super::{AttemptId, DeliveryEffect, GiveUpReason, LaneKey, SubscriberDelivery};
use crate::subscriber::{AttemptFailure, OutboundRecord};

/// Something that waits for its turn.
#[derive(Clone, Debug)]
pub(super) enum AttemptSource {
    /// A lane's head.
    Lane(LaneKey),
    /// A record of a job.
    Replay(u64),
}

/// An attempt under way.
#[derive(Clone, Debug)]
pub(super) struct RunningAttempt {
    pub(super) source: AttemptSource,
    /// Whose slot it has.
    pub(super) key: LaneKey,
    pub(super) pass: BreakerPass,
}

impl RunningAttempt {
    /// Whether the breaker still lets it through.
    pub(super) fn can_begin(&self, standing: DeliveryBreakerState) -> bool {
        match self.pass {
            BreakerPass::Ordinary => standing == DeliveryBreakerState::Closed,
            BreakerPass::Probe => true,
        }
    }
}

impl SubscriberDelivery {
    /// Begins what can be begun.
    pub(super) fn begin_ready_attempts(&mut self, effects: &mut Vec<DeliveryEffect>) {
        if !self.is_active() || !self.can_attempt_now() {
            return;
        }
        self.ready_due_attempts();
        while !self.is_at_concurrency_limit() {
            let Some(work) = self.ready.pop_front() else {
                return;
            };
            let turn = match &work {
                AttemptSource::Lane(key) => self.begin_lane_attempt(key, effects),
                AttemptSource::Replay(number) => self.begin_replay_attempt(*number, effects),
            };
            if turn.is_none() {
                self.ready.push_front(work);
                return;
            }
        }
    }

    /// Whether the breaker lets an attempt through now.
    pub(super) fn can_attempt_now(&self) -> bool {
        self.breaker
            .next_attempt_at()
            .is_some_and(|from| from <= self.now)
    }

    /// Whether as much is under way as may be. A probe does not wait for attempts that were made
    /// before the breaker opened.
    pub(super) fn is_at_concurrency_limit(&self) -> bool {
        let busy = self.running.len() + self.reading;
        let is_full = match self.breaker.state() {
            DeliveryBreakerState::Closed => busy >= self.slow_start.limit(),
            DeliveryBreakerState::Open => self.reading > 0,
            DeliveryBreakerState::HalfOpen => true,
        };
        is_full || busy >= self.policy.concurrency.max(1)
    }

    pub(super) fn schedule_attempt(&mut self, due: Duration, work: AttemptSource) {
        self.last_number += 1;
        self.due.insert((due, self.last_number), work);
    }

    /// What is due waits for its turn from now on.
    fn ready_due_attempts(&mut self) {
        let clock = self.counted_clock.elapsed(self.now);
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= self.now
        {
            let work = entry.remove();
            match &work {
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
                    pending.tries.stop_counting(clock);
                }
            }
            self.ready.push_back(work);
        }
    }

    /// A lane's turn; `None` if it cannot be now, for a reason that holds for all others too.
    fn begin_lane_attempt(
        &mut self,
        key: &LaneKey,
        effects: &mut Vec<DeliveryEffect>,
    ) -> Option<()> {
        let Some(lane) = self.lanes.get_mut(key) else {
            return Some(());
        };
        if lane.running_attempt.is_some() {
            self.lanes.set_phase(key, LanePhase::Parked);
            return Some(());
        }
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
        if let Some(detail) = head.filter_error.clone() {
            let failure = AttemptFailure {
                status: None,
                code: "filter_failed",
                detail,
                answer: bytes::Bytes::new(),
            };
            self.give_up_head(key, failure, GiveUpReason::Expression, effects);
            return Some(());
        }
        let item = head.item.clone();
        let (ticket, pass) = self.try_begin_attempt()?;
        let clock = self.counted_clock.elapsed(self.now);
        self.lanes.set_phase(key, LanePhase::Running);
        let lane = self.lanes.get_mut(key)?;
        lane.running_attempt = Some(ticket);
        lane.head_history().begin_attempt(clock);
        let attempt = lane.head_history().attempts + 1;
        self.start_attempt(
            ticket,
            RunningAttempt {
                source: AttemptSource::Lane(key.clone()),
                key: key.clone(),
                pass,
            },
            item,
            attempt,
            effects,
        );
        Some(())
    }

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
        if let Some(lane) = self
            .lanes
            .get_mut(&key)
            .filter(|lane| lane.running_attempt.is_some())
        {
            lane.parked_replays.push(number);
            return Some(());
        }
        let (ticket, pass) = self.try_begin_attempt()?;
        let clock = self.counted_clock.elapsed(self.now);
        self.lanes.get_or_insert(&key, &item).running_attempt = Some(ticket);
        let pending = self.replays.get_mut(number)?;
        pending.is_running = true;
        pending.tries.begin_attempt(clock);
        let attempt = pending.tries.attempts + 1;
        self.start_attempt(
            ticket,
            RunningAttempt {
                source: AttemptSource::Replay(number),
                key,
                pass,
            },
            item,
            attempt,
            effects,
        );
        Some(())
    }

    /// What an attempt needs to begin, if it may.
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
        ticket: AttemptId,
        running: RunningAttempt,
        item: OutboundRecord,
        attempt: u32,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let is_replay = matches!(running.source, AttemptSource::Replay(_));
        self.running.insert(ticket, running);
        effects.push(DeliveryEffect::Attempt {
            ticket,
            item,
            attempt,
            is_replay,
        });
    }
}
