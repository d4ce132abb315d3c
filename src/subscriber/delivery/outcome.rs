//! What follows from an attempt's end.

use super::breaker::Pass;
use super::lane::Phase;
use super::retry::Next;
use super::turn::{Running, Work};
use super::{Delivery, Effect, LaneKey, Reason, Ticket};
use crate::config::OnExhausted;
use crate::subscriber::Failure;
use crate::subscriber::attempt::Outcome;

/// The failures that say nothing of the subscriber, since it was never called.
const EXPRESSION_CODES: [&str; 2] = ["filter_failed", "transform_failed"];

impl Delivery {
    pub(super) fn ended(&mut self, ticket: Ticket, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(Running { work, key, pass }) = self.running.remove(&ticket) else { return };
        self.free(&key);
        match outcome {
            Outcome::Accepted => {
                self.succeeded(pass, effects);
                match work {
                    Work::Lane(key) => {
                        self.lanes.settle(&key);
                        self.go_on(key, false, effects);
                    }
                    Work::Replay(number) => {
                        let replayed = self.replays.remove(number);
                        effects.extend(replayed.map(|pending| Effect::Replayed(pending.replay.tag)));
                    }
                }
            }
            Outcome::Failed { failure, retry_after } => {
                self.failed(pass, effects);
                let draw = self.dice.draw();
                match work {
                    Work::Lane(key) => self.lane_failed(&key, failure, retry_after, draw, effects),
                    Work::Replay(number) => self.replay_failed(number, failure, retry_after, draw, effects),
                }
                self.give_up(effects);
            }
            Outcome::Refused { failure } if EXPRESSION_CODES.contains(&failure.code) => {
                self.breaker.unused(pass, self.now);
                self.bury(work, failure, Reason::Expression, effects);
            }
            Outcome::Refused { failure } => {
                self.failed(pass, effects);
                self.bury(work, failure, Reason::Refused, effects);
                self.give_up(effects);
            }
            Outcome::Gone { failure } => {
                self.failed(pass, effects);
                self.bury(work, failure, Reason::Refused, effects);
                self.disable("it answered that it is gone for good (410)".to_owned(), effects);
            }
        }
        self.lanes.leave(&key);
    }

    /// An attempt was not begun: its turn comes again before all others.
    pub(super) fn withdrawn(&mut self, ticket: Ticket) {
        let Some(Running { work, key, pass }) = self.running.remove(&ticket) else { return };
        self.free(&key);
        self.breaker.unused(pass, self.now);
        let clock = self.counted.read(self.now);
        match &work {
            Work::Lane(key) => {
                self.lanes.set_phase(key, Phase::Ready);
                if let Some(lane) = self.lanes.get_mut(key) {
                    lane.tries().waits(clock);
                }
                self.ready.push_front(work);
            }
            Work::Replay(number) => match self.replays.get_mut(*number) {
                Some(pending) if !pending.is_cancelled => {
                    pending.is_running = false;
                    pending.tries.waits(clock);
                    self.ready.push_front(work);
                }
                Some(_) | None => drop(self.replays.remove(*number)),
            },
        }
        self.lanes.leave(&key);
    }

    /// A lane whose head is settled, or that has read on, goes on: at its next turn, or (`at_once`) before all others.
    pub(super) fn go_on(&mut self, key: LaneKey, at_once: bool, effects: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get(&key) else { return };
        if lane.is_drained() {
            if self.lanes.end(&key, self.read_to) {
                effects.push(Effect::Forget(key));
            }
            return;
        }
        // What has to read another page first was not kept waiting: others may come before it.
        let at_once = at_once && !lane.queue.is_empty();
        self.lanes.set_phase(&key, Phase::Ready);
        if at_once { self.ready.push_front(Work::Lane(key)) } else { self.ready.push_back(Work::Lane(key)) }
    }

    pub(super) fn bury_head(&mut self, key: &LaneKey, failure: Failure, reason: Reason, effects: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let attempts = lane.tries().attempts;
        let Some(head) = self.lanes.settle(key) else { return };
        // A lane of one record has nothing that could wait.
        let is_entity = matches!(key, LaneKey::Entity(_));
        let is_halting = is_entity && self.profile.on_exhausted == OnExhausted::Halt;
        effects.push(Effect::Bury { item: head.item, attempts, failure, reason, replay: None, is_halting });
        if is_halting {
            self.lanes.halt(key);
            self.keep(key, effects);
        } else {
            self.go_on(key.clone(), false, effects);
        }
    }

    fn lane_failed(
        &mut self,
        key: &LaneKey,
        failure: Failure,
        retry_after: Option<std::time::Duration>,
        draw: f64,
        effects: &mut Vec<Effect>,
    ) {
        let clock = self.counted.read(self.now);
        let Some(lane) = self.lanes.get_mut(key) else { return };
        match lane.tries().failed(&self.profile.retries, &failure, retry_after, draw, clock) {
            Next::Again(pause) => {
                let due = self.now.saturating_add(pause);
                self.lanes.stop(key, due);
                self.wait_until(due, Work::Lane(key.clone()));
                self.keep(key, effects);
            }
            Next::Over(reason) => self.bury_head(key, failure, reason, effects),
        }
    }

    fn replay_failed(
        &mut self,
        number: u64,
        failure: Failure,
        retry_after: Option<std::time::Duration>,
        draw: f64,
        effects: &mut Vec<Effect>,
    ) {
        let clock = self.counted.read(self.now);
        let Some(pending) = self.replays.get_mut(number) else { return };
        pending.is_running = false;
        match pending.tries.failed(&self.profile.retries, &failure, retry_after, draw, clock) {
            Next::Again(_) if pending.is_cancelled => drop(self.replays.remove(number)),
            Next::Again(pause) => self.wait_until(self.now.saturating_add(pause), Work::Replay(number)),
            Next::Over(reason) => self.bury_replay(number, failure, reason, effects),
        }
    }

    /// What will not be attempted again becomes a dead letter; the attempt that said so is one of those made.
    fn bury(&mut self, work: Work, failure: Failure, reason: Reason, effects: &mut Vec<Effect>) {
        match work {
            Work::Lane(key) => {
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.tries().attempts += 1;
                }
                self.bury_head(&key, failure, reason, effects);
            }
            Work::Replay(number) => {
                if let Some(pending) = self.replays.get_mut(number) {
                    pending.tries.attempts += 1;
                }
                self.bury_replay(number, failure, reason, effects);
            }
        }
    }

    fn bury_replay(&mut self, number: u64, failure: Failure, reason: Reason, effects: &mut Vec<Effect>) {
        let Some(pending) = self.replays.remove(number) else { return };
        if pending.is_cancelled {
            return;
        }
        let (attempts, replay) = (pending.tries.attempts, pending.replay);
        let replayed = Some(replay.tag);
        effects.push(Effect::Bury {
            item: replay.item,
            attempts,
            failure,
            reason,
            replay: replayed,
            is_halting: false,
        });
    }

    /// The slot is free: who waited for it gets another turn.
    fn free(&mut self, key: &LaneKey) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.slot = None;
        let parked = std::mem::take(&mut lane.parked);
        if lane.phase == Phase::Parked {
            self.lanes.set_phase(key, Phase::Ready);
            self.ready.push_back(Work::Lane(key.clone()));
        }
        self.ready.extend(parked.into_iter().map(Work::Replay));
    }

    fn succeeded(&mut self, pass: Pass, effects: &mut Vec<Effect>) {
        self.failing = None;
        self.pace.accepted();
        if self.breaker.accepted(pass, self.now) {
            effects.push(Effect::BreakerClosed);
        }
    }

    fn failed(&mut self, pass: Pass, effects: &mut Vec<Effect>) {
        self.failing.get_or_insert((self.now, std::time::Duration::ZERO));
        self.pace.failed();
        let opened = self.breaker.failed(pass, self.now);
        effects.extend(opened.map(|failure_rate| Effect::BreakerOpened { failure_rate }));
    }

    /// Asks to be disabled if there was no success for too long.
    fn give_up(&mut self, effects: &mut Vec<Effect>) {
        let failing_for = self.standing().failing_for.unwrap_or_default();
        if self.is_active() && failing_for >= self.profile.disable_after {
            let hours = failing_for.as_secs() / 3_600;
            self.disable(format!("no delivery was accepted for {hours} hours"), effects);
        }
    }

    fn disable(&mut self, reason: String, effects: &mut Vec<Effect>) {
        if !self.is_over {
            self.is_over = true;
            effects.push(Effect::Disable { reason });
        }
    }
}
