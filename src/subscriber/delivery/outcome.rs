//! Consequences of an attempt's end: the next record, a retry, a dead letter, or disabling.

use std::time::Duration;

use super::breaker::BreakerPass;
use super::effect::DeliveryEffect;
use super::identifiers::{AttemptId, LaneKey, ReplayTag};
use super::input::ReplayItem;
use super::lane::LanePhase;
use super::retry::{REQUESTED_PAUSE_MAX, RetryDecision};
use super::running_attempt::{AttemptSource, RunningAttempt};
use super::subscriber_delivery::SubscriberDelivery;
use crate::config::ExhaustionPolicy;
use crate::subscriber::AttemptFailure;
use crate::subscriber::attempt::AttemptOutcome;
use crate::subscriber::new_dead_letter::{DeadLetterCause, NewDeadLetter};

/// Codes of failures before the subscriber was called, which do not count against it, and the
/// causes of their dead letters.
const CODES_WITHOUT_CALL: [(&str, DeadLetterCause); 3] = [
    ("filter_failed", DeadLetterCause::Expression),
    ("transform_failed", DeadLetterCause::Expression),
    ("too_many_hops", DeadLetterCause::Refused),
];

const TOO_MANY_REQUESTS: u16 = 429;
const SERVICE_UNAVAILABLE: u16 = 503;

impl SubscriberDelivery {
    /// Applies the outcome of an attempt to its lane or replay, the breaker and the slow start.
    pub(super) fn finish_attempt(
        &mut self,
        attempt_id: AttemptId,
        outcome: AttemptOutcome,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let Some(RunningAttempt { source, key, pass }) = self.running.remove(&attempt_id) else {
            return;
        };

        self.release_lane(&key);
        match outcome {
            AttemptOutcome::Accepted => {
                self.record_success(pass, effects);
                self.settle_delivery(source, DeliveryEffect::ReplayDelivered, effects);
            }
            AttemptOutcome::Dropped => {
                self.breaker.return_pass(pass, self.now);
                self.settle_delivery(source, DeliveryEffect::ReplayDropped, effects);
            }
            AttemptOutcome::TransientFailure {
                failure,
                retry_after,
            } => {
                let is_asked_to_wait = self.hold_if_asked(&failure, retry_after);
                self.record_failure(pass, &failure, is_asked_to_wait, effects);
                let draw = self.jitter.next_fraction();
                match source {
                    AttemptSource::Lane(key) => {
                        self.handle_lane_failure(&key, failure, retry_after, draw, effects)
                    }
                    AttemptSource::Replay(number) => {
                        self.handle_replay_failure(number, failure, retry_after, draw, effects)
                    }
                }
                self.disable_if_failing_too_long(effects);
            }
            AttemptOutcome::PermanentFailure { failure } => {
                let without_call = CODES_WITHOUT_CALL
                    .iter()
                    .find(|(code, _)| *code == failure.code);
                if let Some((_, cause)) = without_call {
                    self.breaker.return_pass(pass, self.now);
                    self.give_up_delivery(source, failure, *cause, effects);
                } else {
                    self.record_failure(pass, &failure, false, effects);
                    self.give_up_delivery(source, failure, DeadLetterCause::Refused, effects);
                    self.disable_if_failing_too_long(effects);
                }
            }
            AttemptOutcome::Gone { failure } => {
                self.record_failure(pass, &failure, false, effects);
                self.give_up_delivery(source, failure, DeadLetterCause::Refused, effects);
                self.request_disable("subscriber answered 410 Gone".to_owned(), effects);
            }
        }
        self.lanes.remove_if_unused(&key);
    }

    /// Ends the delivery of `source`, of which nothing is left to do; `report` tells its job.
    fn settle_delivery(
        &mut self,
        source: AttemptSource,
        report: fn(ReplayTag) -> DeliveryEffect,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        match source {
            AttemptSource::Lane(key) => {
                self.lanes.settle_head(&key);
                self.resume_lane(key, false, effects);
            }
            AttemptSource::Replay(number) => {
                let replayed = self.replays.remove(number);
                effects.extend(replayed.map(|pending| report(pending.replay.tag)));
            }
        }
    }

    /// Puts an attempt that was not begun back, as the first to begin.
    pub(super) fn withdraw_attempt(&mut self, attempt_id: AttemptId) {
        let Some(RunningAttempt { source, key, pass }) = self.running.remove(&attempt_id) else {
            return;
        };

        self.release_lane(&key);
        self.breaker.return_pass(pass, self.now);
        match &source {
            AttemptSource::Lane(key) => {
                self.lanes.set_phase(key, LanePhase::Ready);
                if let Some(lane) = self.lanes.get_mut(key) {
                    lane.head_history().discard_attempt();
                }
                self.ready.push_front(source);
            }
            AttemptSource::Replay(number) => match self.replays.get_mut(*number) {
                Some(pending) if !pending.is_cancelled => {
                    pending.is_running = false;
                    pending.history.discard_attempt();
                    self.ready.push_front(source);
                }
                Some(_) | None => drop(self.replays.remove(*number)),
            },
        }
        self.lanes.remove_if_unused(&key);
    }

    /// Lets a lane go on whose head is settled or whose page was read: as the last of the ready
    /// lanes, or as the first if `at_once`.
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
        // A lane that has to read another page waits behind the others.
        let at_once = at_once && !lane.queue.is_empty();
        self.lanes.set_phase(&key, LanePhase::Ready);
        if at_once {
            self.ready.push_front(AttemptSource::Lane(key))
        } else {
            self.ready.push_back(AttemptSource::Lane(key))
        }
    }

    /// Makes the head of the lane `key` a dead letter, and halts the lane or lets it go on.
    pub(super) fn give_up_head(
        &mut self,
        key: &LaneKey,
        failure: AttemptFailure,
        cause: DeadLetterCause,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        let attempts = lane.head_history().attempts;
        let Some(head) = self.lanes.settle_head(key) else {
            return;
        };

        // A lane of one record has no later records that could wait.
        let is_entity = matches!(key, LaneKey::Entity(_));
        let is_halting = is_entity && self.policy.on_exhausted == ExhaustionPolicy::Halt;
        let letter = NewDeadLetter {
            item: head.item,
            attempts,
            failure,
            cause,
            is_halting,
        };
        effects.push(DeliveryEffect::DeadLetter {
            letter,
            replay: None,
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
        retry_after: Option<Duration>,
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
                effects.push(DeliveryEffect::RetryScheduled(pause));
                let due = self.now.saturating_add(pause);
                self.lanes.stop(key, due);
                self.schedule_attempt(due, AttemptSource::Lane(key.clone()));
                self.store_lane_row(key, effects);
            }
            RetryDecision::GiveUp(cause) => self.give_up_head(key, failure, cause, effects),
        }
    }

    fn handle_replay_failure(
        &mut self,
        number: u64,
        failure: AttemptFailure,
        retry_after: Option<Duration>,
        draw: f64,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let clock = self.counted_clock.elapsed(self.now);
        let Some(pending) = self.replays.get_mut(number) else {
            return;
        };
        pending.is_running = false;
        match pending.history.record_failure(
            &self.policy.retries,
            &failure,
            retry_after,
            draw,
            clock,
        ) {
            RetryDecision::RetryAfter(_) if pending.is_cancelled => {
                drop(self.replays.remove(number))
            }
            RetryDecision::RetryAfter(pause) => {
                effects.push(DeliveryEffect::RetryScheduled(pause));
                let due = self.now.saturating_add(pause);
                self.schedule_attempt(due, AttemptSource::Replay(number));
            }
            RetryDecision::GiveUp(cause) => self.give_up_replay(number, failure, cause, effects),
        }
    }

    /// Makes a delivery that failed permanently a dead letter, and counts the failed attempt.
    fn give_up_delivery(
        &mut self,
        source: AttemptSource,
        failure: AttemptFailure,
        cause: DeadLetterCause,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        match source {
            AttemptSource::Lane(key) => {
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.head_history().attempts += 1;
                }
                self.give_up_head(&key, failure, cause, effects);
            }
            AttemptSource::Replay(number) => {
                if let Some(pending) = self.replays.get_mut(number) {
                    pending.history.attempts += 1;
                }
                self.give_up_replay(number, failure, cause, effects);
            }
        }
    }

    fn give_up_replay(
        &mut self,
        number: u64,
        failure: AttemptFailure,
        cause: DeadLetterCause,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        let Some(pending) = self.replays.remove(number) else {
            return;
        };
        if pending.is_cancelled {
            return;
        }
        let ReplayItem { tag, item } = pending.replay;
        let letter = NewDeadLetter {
            item,
            attempts: pending.history.attempts,
            failure,
            cause,
            is_halting: false,
        };
        let replay = Some(tag);
        effects.push(DeliveryEffect::DeadLetter { letter, replay });
    }

    /// Notes that no attempt runs in the lane any more, and makes attempts ready that waited for
    /// it.
    pub(super) fn release_lane(&mut self, key: &LaneKey) {
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
        self.failing_stretch.end();
        self.slow_start.record_success();
        if self.breaker.record_success(pass, self.now) {
            effects.push(DeliveryEffect::BreakerClosed);
            self.hasten_retries();
        }
    }

    fn record_failure(
        &mut self,
        pass: BreakerPass,
        failure: &AttemptFailure,
        is_asked_to_wait: bool,
        effects: &mut Vec<DeliveryEffect>,
    ) {
        self.failing_stretch
            .record_failure(self.now, self.policy.disable_after);
        // A subscriber that refuses single records works, and is not slowed down for them.
        let is_refusal = failure
            .status
            .is_some_and(|status| (300..500).contains(&status) && status != TOO_MANY_REQUESTS);
        if !is_refusal {
            self.slow_start.record_failure();
        }
        if is_asked_to_wait {
            return self.breaker.return_pass(pass, self.now);
        }
        let opened = self.breaker.record_failure(pass, is_refusal, self.now);
        effects.extend(opened.map(|failure_rate| DeliveryEffect::BreakerOpened { failure_rate }));
    }

    /// Holds all attempts for the time that an overloaded subscriber asked for. Returns true if it
    /// asked.
    fn hold_if_asked(&mut self, failure: &AttemptFailure, retry_after: Option<Duration>) -> bool {
        let is_overloaded = matches!(
            failure.status,
            Some(TOO_MANY_REQUESTS | SERVICE_UNAVAILABLE)
        );
        let Some(pause) = retry_after.filter(|pause| is_overloaded && !pause.is_zero()) else {
            return false;
        };
        let until = self.now.saturating_add(pause.min(REQUESTED_PAUSE_MAX));
        self.held_until = self.held_until.max(until);
        true
    }

    /// Requests to disable the subscriber if there was no success for too long.
    fn disable_if_failing_too_long(&mut self, effects: &mut Vec<DeliveryEffect>) {
        let failing_for = self.failing_stretch.counted();
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
