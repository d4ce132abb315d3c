//! Whose turn it is: what is ready takes its turns in order, so that no entity waits for another that has more to deliver.

use std::time::Duration;

use super::breaker::{Pass, Standing};
use super::lane::Phase;
use super::{Delivery, Effect, LaneKey, Reason, Ticket};
use crate::subscriber::{Failure, Item};

/// Something that waits for its turn.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A lane's head.
    Lane(LaneKey),
    /// A record of a job.
    Replay(u64),
}

/// An attempt under way.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) work: Work,
    /// Whose slot it has.
    pub(super) key: LaneKey,
    pub(super) pass: Pass,
}

impl Running {
    /// Whether the breaker still lets it through.
    pub(super) fn may_begin(&self, standing: Standing) -> bool {
        match self.pass {
            Pass::Ordinary => standing == Standing::Closed,
            Pass::Probe => true,
        }
    }
}

impl Delivery {
    /// Begins what can be begun.
    pub(super) fn take_turns(&mut self, effects: &mut Vec<Effect>) {
        if !self.is_active() || !self.is_let_through() {
            return;
        }
        self.wake();
        while !self.is_full() {
            let Some(work) = self.ready.pop_front() else { return };
            let turn = match &work {
                Work::Lane(key) => self.take_lane(key, effects),
                Work::Replay(number) => self.take_replay(*number, effects),
            };
            if turn.is_none() {
                self.ready.push_front(work);
                return;
            }
        }
    }

    /// Whether the breaker lets an attempt through now.
    pub(super) fn is_let_through(&self) -> bool {
        self.breaker.lets_through_from().is_some_and(|from| from <= self.now)
    }

    /// Whether as much is under way as may be. A probe does not wait for attempts that were made before the breaker opened.
    pub(super) fn is_full(&self) -> bool {
        let busy = self.running.len() + self.reading;
        let is_full = match self.breaker.standing() {
            Standing::Closed => busy >= self.pace.limit(),
            Standing::Open => self.reading > 0,
            Standing::HalfOpen => true,
        };
        is_full || busy >= self.profile.concurrency.max(1)
    }

    pub(super) fn wait_until(&mut self, due: Duration, work: Work) {
        self.last_number += 1;
        self.due.insert((due, self.last_number), work);
    }

    /// What is due waits for its turn from now on.
    fn wake(&mut self) {
        let clock = self.counted.read(self.now);
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= self.now
        {
            let work = entry.remove();
            match &work {
                Work::Lane(key) => {
                    self.lanes.set_phase(key, Phase::Ready);
                    let Some(lane) = self.lanes.get_mut(key) else { continue };
                    lane.tries().waits(clock);
                }
                Work::Replay(number) => {
                    let Some(pending) = self.replays.get_mut(*number) else { continue };
                    pending.tries.waits(clock);
                }
            }
            self.ready.push_back(work);
        }
    }

    /// A lane's turn; `None` if it cannot be now, for a reason that holds for all others too.
    fn take_lane(&mut self, key: &LaneKey, effects: &mut Vec<Effect>) -> Option<()> {
        let Some(lane) = self.lanes.get_mut(key) else { return Some(()) };
        if lane.slot.is_some() {
            self.lanes.set_phase(key, Phase::Parked);
            return Some(());
        }
        let Some(head) = lane.queue.front() else {
            let from_sequence = lane.read_on;
            self.reading += 1;
            self.lanes.set_phase(key, Phase::Reading);
            effects.push(Effect::CatchUp { lane: key.clone(), from_sequence });
            return Some(());
        };
        if let Some(detail) = head.broken.clone() {
            let failure = Failure { status: None, code: "filter_failed", detail, answer: bytes::Bytes::new() };
            self.bury_head(key, failure, Reason::Expression, effects);
            return Some(());
        }
        let item = head.item.clone();
        let (ticket, pass) = self.begin()?;
        let clock = self.counted.read(self.now);
        self.lanes.set_phase(key, Phase::Running);
        let lane = self.lanes.get_mut(key)?;
        lane.slot = Some(ticket);
        lane.tries().begin(clock);
        let attempt = lane.tries().attempts + 1;
        self.attempt(ticket, Running { work: Work::Lane(key.clone()), key: key.clone(), pass }, item, attempt, effects);
        Some(())
    }

    fn take_replay(&mut self, number: u64, effects: &mut Vec<Effect>) -> Option<()> {
        let Some(pending) = self.replays.get_mut(number) else { return Some(()) };
        let item = pending.replay.item.clone();
        let key = self.lane_of(&item);
        if let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.slot.is_some()) {
            lane.parked.push(number);
            return Some(());
        }
        let (ticket, pass) = self.begin()?;
        let clock = self.counted.read(self.now);
        self.lanes.visit(&key, &item).slot = Some(ticket);
        let pending = self.replays.get_mut(number)?;
        pending.is_running = true;
        pending.tries.begin(clock);
        let attempt = pending.tries.attempts + 1;
        self.attempt(ticket, Running { work: Work::Replay(number), key, pass }, item, attempt, effects);
        Some(())
    }

    /// What an attempt needs to begin, if it may.
    fn begin(&mut self) -> Option<(Ticket, Pass)> {
        if self.rate.next() > self.now {
            return None;
        }
        let pass = self.breaker.ask(self.now)?;
        self.rate.take(self.now);
        self.last_number += 1;
        Some((Ticket(self.last_number), pass))
    }

    fn attempt(&mut self, ticket: Ticket, running: Running, item: Item, attempt: u32, effects: &mut Vec<Effect>) {
        let is_replay = matches!(running.work, Work::Replay(_));
        self.running.insert(ticket, running);
        effects.push(Effect::Attempt { ticket, item, attempt, is_replay });
    }
}
