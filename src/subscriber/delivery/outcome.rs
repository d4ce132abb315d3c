//! What follows from an attempt's end.

use super::breaker::BreakerPass;
use super::lane::LanePhase;
use super::retry::RetryDecision;
use super::scheduling::{AttemptSource, RunningAttempt};
use super::{AttemptId, DeliveryEffect, GiveUpReason, LaneKey, SubscriberDelivery};
use crate::config::ExhaustionPolicy;
use crate::subscriber::AttemptFailure;
use crate::subscriber::attempt::AttemptOutcome;

/// The failures that say nothing of the subscriber, since it was never called.
const EXPRESSION_CODES: [&str; 2] = ["filter_failed", "transform_failed"];

impl SubscriberDelivery {
    pub(super) fn finish_attempt(
        &mut self,
        ticket: AttemptId,
        outcome: AttemptOutcome,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let Some(RunningAttempt {
            source: work,
            key,
            pass,
        }) = self.running.remove(&ticket)
        else {
            return;
        };
        self.release_lane(&key);
        match outcome {
            AttemptOutcome::Accepted => {
                self.record_success(pass, effects);
                match work {
                    AttemptSource::Lane(key) => {
                        self.lanes.settle_head(&key);
                        self.resume_lane(key, false, effects);
                    }
                    AttemptSource::Replay(number) => {
                        let replayed = self.replays.remove(number);
                        effects
                            .extend(replayed.map(|pending| {
                                DeliveryEffect::ReplayDelivered(pending.replay.tag)
                            }));
                    }
                }
            }
            AttemptOutcome::TransientFailure {
                failure,
                retry_after,
            } => {
                self.record_failure(pass, effects);
                let draw = self.jitter.next_fraction();
                match work {
                    AttemptSource::Lane(key) => {
                        self.handle_lane_failure(&key, failure, retry_after, draw, effects)
                    }
                    AttemptSource::Replay(number) => {
                        self.handle_replay_failure(number, failure, retry_after, draw, effects)
                    }
                }
                self.disable_if_failing_too_long(effects);
            }
            AttemptOutcome::PermanentFailure { failure }
                if EXPRESSION_CODES.contains(&failure.code) =>
            {
                self.breaker.return_pass(pass, self.now);
                self.give_up_delivery(work, failure, GiveUpReason::Expression, effects);
            }
            AttemptOutcome::PermanentFailure { failure } => {
                self.record_failure(pass, effects);
                self.give_up_delivery(work, failure, GiveUpReason::Refused, effects);
                self.disable_if_failing_too_long(effects);
            }
            AttemptOutcome::Gone { failure } => {
                self.record_failure(pass, effects);
                self.give_up_delivery(work, failure, GiveUpReason::Refused, effects);
                self.request_disable(
                    "it answered that it is gone for good (410)".to_owned(),
                    effects,
                );
            }
        }
        self.lanes.remove_if_unused(&key);
    }

    /// An attempt was not begun: its turn comes again before all others.
    pub(super) fn withdraw_attempt(&mut self, ticket: AttemptId) {
        let Some(RunningAttempt {
            source: work,
            key,
            pass,
        }) = self.running.remove(&ticket)
        else {
            return;
        };
        self.release_lane(&key);
        self.breaker.return_pass(pass, self.now);
        let clock = self.counted_clock.elapsed(self.now);
        match &work {
            AttemptSource::Lane(key) => {
                self.lanes.set_phase(key, LanePhase::Ready);
                if let Some(lane) = self.lanes.get_mut(key) {
                    lane.head_history().stop_counting(clock);
                }
                self.ready.push_front(work);
            }
            AttemptSource::Replay(number) => match self.replays.get_mut(*number) {
                Some(pending) if !pending.is_cancelled => {
                    pending.is_running = false;
                    pending.tries.stop_counting(clock);
                    self.ready.push_front(work);
                }
                Some(_) | None => drop(self.replays.remove(*number)),
            },
        }
        self.lanes.remove_if_unused(&key);
    }

    /// A lane whose head is settled, or that has read on, goes on: at its next turn, or (`at_once`)
    /// before all others.
    pub(super) fn resume_lane(
        &mut self,
        key: LaneKey,
        at_once: bool,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let Some(lane) = self.lanes.get(&key) else {
            return;
        };
        if lane.is_drained() {
            if self.lanes.end_lane(&key, self.read_to) {
                effects.push(DeliveryEffect::RemoveRow(key));
            }
            return;
        }
        // What has to read another page first was not kept waiting: others may come before it.
        let at_once = at_once && !lane.queue.is_empty();
        self.lanes.set_phase(&key, LanePhase::Ready);
        if at_once {
            self.ready.push_front(AttemptSource::Lane(key))
        } else {
            self.ready.push_back(AttemptSource::Lane(key))
        }
    }

    pub(super) fn give_up_head(
        &mut self,
        key: &LaneKey,
        failure: AttemptFailure,
        reason: GiveUpReason,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        let attempts = lane.head_history().attempts;
        let Some(head) = self.lanes.settle_head(key) else {
            return;
        };
        // A lane of one record has nothing that could wait.
        let is_entity = matches!(key, LaneKey::Entity(_));
        let is_halting = is_entity && self.policy.on_exhausted == ExhaustionPolicy::Halt;
        effects.push(DeliveryEffect::DeadLetter {
            item: head.item,
            attempts,
            failure,
            reason,
            replay: None,
            is_halting,
        });
        if is_halting {
            self.lanes.halt(key);
            self.store_lane_row(key, effects);
        } else {
            self.resume_lane(key.clone(), false, effects);
        }
    }

    fn handle_lane_failure(
        &mut self,
        key: &LaneKey,
        failure: AttemptFailure,
        retry_after: Option<std::time::Duration>,
        draw: f64,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let clock = self.counted_clock.elapsed(self.now);
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        match lane.head_history().record_failure(
            &self.policy.retries,
            &failure,
            retry_after,
            draw,
            clock,
        ) {
            RetryDecision::RetryAfter(pause) => {
                let due = self.now.saturating_add(pause);
                self.lanes.stop(key, due);
                self.schedule_attempt(due, AttemptSource::Lane(key.clone()));
                self.store_lane_row(key, effects);
            }
            RetryDecision::GiveUp(reason) => self.give_up_head(key, failure, reason, effects),
        }
    }

    fn handle_replay_failure(
        &mut self,
        number: u64,
        failure: AttemptFailure,
        retry_after: Option<std::time::Duration>,
        draw: f64,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let clock = self.counted_clock.elapsed(self.now);
        let Some(pending) = self.replays.get_mut(number) else {
            return;
        };
        pending.is_running = false;
        match pending
            .tries
            .record_failure(&self.policy.retries, &failure, retry_after, draw, clock)
        {
            RetryDecision::RetryAfter(_) if pending.is_cancelled => {
                drop(self.replays.remove(number))
            }
            RetryDecision::RetryAfter(pause) => self.schedule_attempt(
                self.now.saturating_add(pause),
                AttemptSource::Replay(number),
            ),
            RetryDecision::GiveUp(reason) => self.give_up_replay(number, failure, reason, effects),
        }
    }

    /// What will not be attempted again becomes a dead letter; the attempt that said so is one of
    /// those made.
    fn give_up_delivery(
        &mut self,
        work: AttemptSource,
        failure: AttemptFailure,
        reason: GiveUpReason,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        match work {
            AttemptSource::Lane(key) => {
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.head_history().attempts += 1;
                }
                self.give_up_head(&key, failure, reason, effects);
            }
            AttemptSource::Replay(number) => {
                if let Some(pending) = self.replays.get_mut(number) {
                    pending.tries.attempts += 1;
                }
                self.give_up_replay(number, failure, reason, effects);
            }
        }
    }

    fn give_up_replay(
        &mut self,
        number: u64,
        failure: AttemptFailure,
        reason: GiveUpReason,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let Some(pending) = self.replays.remove(number) else {
            return;
        };
        if pending.is_cancelled {
            return;
        }
        let (attempts, replay) = (pending.tries.attempts, pending.replay);
        let replayed = Some(replay.tag);
        effects.push(DeliveryEffect::DeadLetter {
            item: replay.item,
            attempts,
            failure,
            reason,
            replay: replayed,
            is_halting: false,
        });
    }

    /// The slot is free: who waited for it gets another turn.
    fn release_lane(&mut self, key: &LaneKey) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        lane.running_attempt = None;
        let parked = std::mem::take(&mut lane.parked_replays);
        if lane.phase == LanePhase::Parked {
            self.lanes.set_phase(key, LanePhase::Ready);
            self.ready.push_back(AttemptSource::Lane(key.clone()));
        }
        self.ready
            .extend(parked.into_iter().map(AttemptSource::Replay));
    }

    fn record_success(&mut self, pass: BreakerPass, effects: &mut Vec<DeliveryEffect>) {
        self.failing_since = None;
        self.slow_start.record_success();
        if self.breaker.record_success(pass, self.now) {
            effects.push(DeliveryEffect::BreakerClosed);
        }
    }

    fn record_failure(&mut self, pass: BreakerPass, effects: &mut Vec<DeliveryEffect>) {
        self.failing_since
            .get_or_insert((self.now, std::time::Duration::ZERO));
        self.slow_start.record_failure();
        let opened = self.breaker.record_failure(pass, self.now);
        effects.extend(opened.map(|failure_rate| DeliveryEffect::BreakerOpened { failure_rate }));
    }

    /// Asks to be disabled if there was no success for too long.
    fn disable_if_failing_too_long(&mut self, effects: &mut Vec<DeliveryEffect>) {
        let failing_for = self.status().failing_for.unwrap_or_default();
        if self.is_active() && failing_for >= self.policy.disable_after {
            let hours = failing_for.as_secs() / 3_600;
            self.request_disable(
                format!("no delivery was accepted for {hours} hours"),
                effects,
            );
        }
    }

    fn request_disable(&mut self, reason: String, effects: &mut Vec<DeliveryEffect>) {
        if !self.is_disabling {
            self.is_disabling = true;
            effects.push(DeliveryEffect::Disable { reason });
        }
    }
}
