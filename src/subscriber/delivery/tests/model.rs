//! Model of one delivery's surroundings: a journal, stored rows, and a subscriber with a memory.
//!
//! It performs the effects as the shell does, and checks the promises with each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::breaker::BreakerPass;
use super::super::running_attempt::AttemptSource;
use super::super::*;
use crate::config::{BreakerConfig, ExhaustionPolicy};
use crate::event::{EntityKey, Kind, Position, Record, Timestamp};
use crate::subscriber::attempt::AttemptOutcome;
use crate::subscriber::delivery_policy::{
    DeliveryLimits, DeliveryPolicy, DeliveryTarget, RetryPolicy,
};
use crate::subscriber::new_dead_letter::{DeadLetterCause, NewDeadLetter};
use crate::subscriber::{AttemptFailure, OutboundRecord, SubscriberId};
use crate::subscription::{DeliveryOrdering, SubscriptionState};

/// Highest concurrency that a history sets.
pub(super) const CONCURRENCY_MAX: usize = 6;

/// Class of a record, by which the subscription's filter decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordClass {
    Wanted,
    /// Wanted or not, depending on the last edit of the subscription.
    Sometimes,
    Unwanted,
    /// The filter fails on the record.
    Broken,
}

/// State in the checkpoint buffer or on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredState {
    /// Rows with the times of their retries.
    rows: BTreeMap<LaneKey, (LaneRow, Duration)>,
    cursor: u64,
    dead_letters: BTreeSet<u64>,
    /// Records that were matched one checkpoint before the last and settled by then: they are never
    /// delivered again.
    done: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ModelAttempt {
    pub(super) position: u64,
    pub(super) is_replay: bool,
}

pub(super) struct DeliveryModel {
    pub(super) now: Duration,
    pub(super) policy: DeliveryPolicy,
    pub(super) delivery: SubscriberDelivery,
    journal: Vec<(OutboundRecord, RecordClass)>,
    wants_sometimes: bool,
    pub(super) running: BTreeMap<u64, ModelAttempt>,
    pub(super) readings: Vec<(LaneKey, u64, u64)>,
    pub(super) halted: BTreeSet<EntityKey>,
    stored: StoredState,
    disk: StoredState,
    /// Position that the reader had reached at the last checkpoint.
    mark: u64,
    accepted: BTreeSet<u64>,
    /// Highest settled sequence of each entity since the last crash.
    settled: BTreeMap<EntityKey, u64>,
    settled_now: BTreeSet<u64>,
    /// Time before which nothing may be attempted, by `Retry-After`.
    held_until: Duration,
    /// Time before which no attempt may be made, since the breaker is open.
    open_until: Duration,
    replays: BTreeMap<u64, u64>,
    /// Number of times each of the two jobs was cancelled; after that it is a new job.
    cancelled: [u64; 2],
    is_over: bool,
    /// True once the ordering was changed: lanes of both kinds may exist.
    has_reordered: bool,
    pub(super) attempts: usize,
    pub(super) openings: usize,
}

pub(super) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(super) fn policy() -> DeliveryPolicy {
    DeliveryPolicy {
        id: SubscriberId::AutoReply,
        target: DeliveryTarget::AutoReply,
        state: SubscriptionState::Active,
        ordering: DeliveryOrdering::Entity,
        concurrency: 4,
        rate_limit: None,
        timeout: seconds(10),
        retries: RetryPolicy {
            schedule: [5, 30, 300].map(Duration::from_secs).into(),
            jitter: 0.2,
            dead_letter_after: seconds(5_000),
        },
        on_exhausted: ExhaustionPolicy::Skip,
        breaker: BreakerConfig {
            window: seconds(60),
            failure_rate: 0.5,
            attempts_min: 20,
            consecutive: 5,
            open: seconds(30),
            open_max: seconds(120),
        },
        disable_after: seconds(432_000),
        hold: seconds(604_800),
        bounds: DeliveryLimits {
            window_events: 64,
            window_bytes: 1 << 20,
            stopped_lanes_max: 50,
        },
    }
}

pub(super) fn entity(number: u64) -> EntityKey {
    EntityKey::from_number(Kind::Ticket, number)
}

pub(super) fn item(position: u64, number: u64, sequence: u64) -> OutboundRecord {
    let record = Record {
        sequence: Some(sequence),
        ..Record::new(
            "test",
            entity(number),
            "status.changed",
            Timestamp::from_micros(0),
        )
    };
    let received_at = Timestamp::from_micros(0);
    OutboundRecord {
        position: Position::new(position),
        sequence,
        received_at,
        record: Arc::new(record),
    }
}

pub(super) fn failure(code: &'static str) -> AttemptFailure {
    AttemptFailure {
        status: Some(500),
        code,
        detail: String::new(),
        answer: Bytes::new(),
    }
}

/// Returns an answer of 500, or of 429 that asks for a pause.
pub(super) fn failed(retry_after: Option<u64>) -> AttemptOutcome {
    let status = Some(if retry_after.is_some() { 429 } else { 500 });
    AttemptOutcome::TransientFailure {
        failure: AttemptFailure {
            status,
            ..failure("status")
        },
        retry_after: retry_after.map(seconds),
    }
}

impl DeliveryModel {
    pub(super) fn new(policy: DeliveryPolicy) -> Self {
        let delivery = SubscriberDelivery::new(
            Arc::new(policy.clone()),
            Position::FIRST,
            vec![],
            Duration::ZERO,
            1,
            Duration::ZERO,
        );
        let stored = StoredState {
            cursor: 1,
            ..StoredState::default()
        };
        Self {
            now: Duration::ZERO,
            policy,
            delivery,
            journal: Vec::new(),
            wants_sometimes: true,
            running: BTreeMap::new(),
            readings: Vec::new(),
            halted: BTreeSet::new(),
            disk: stored.clone(),
            stored,
            mark: 1,
            accepted: BTreeSet::new(),
            settled: BTreeMap::new(),
            settled_now: BTreeSet::new(),
            held_until: Duration::ZERO,
            has_reordered: false,
            open_until: Duration::ZERO,
            replays: BTreeMap::new(),
            cancelled: [0; 2],
            is_over: false,
            attempts: 0,
            openings: 0,
        }
    }

    pub(super) fn append(&mut self, number: u64, class: RecordClass) {
        let sequence = self
            .journal
            .iter()
            .filter(|(item, _)| item.record.entity == entity(number))
            .count() as u64
            + 1;
        self.journal
            .push((item(self.journal.len() as u64 + 1, number, sequence), class));
    }

    pub(super) fn journal_end(&self) -> u64 {
        self.journal.len() as u64 + 1
    }

    fn match_item(&self, item: &OutboundRecord, class: RecordClass) -> Option<MatchedRecord> {
        let item = item.clone();
        match class {
            RecordClass::Wanted => Some(MatchedRecord {
                item,
                filter_error: None,
            }),
            RecordClass::Sometimes => self.wants_sometimes.then_some(MatchedRecord {
                item,
                filter_error: None,
            }),
            RecordClass::Unwanted => None,
            RecordClass::Broken => Some(MatchedRecord {
                item,
                filter_error: Some("no such member".to_owned()),
            }),
        }
    }

    /// Reads on as far as there is room.
    pub(super) fn read(&mut self, count: usize) {
        let from = self.delivery.read_to().get() as usize - 1;
        if !self.delivery.can_read() || from >= self.journal.len() {
            return;
        }
        let count = count.min(self.delivery.window_room().0);
        let matched: Vec<_> = self.journal[from..].iter().take(count).collect();
        let end = Position::new((from + matched.len()) as u64 + 1);
        let items = matched
            .into_iter()
            .filter_map(|(item, class)| self.match_item(item, *class))
            .collect();
        self.step(DeliveryInput::RecordsMatched { items, end });
    }

    /// Answers the oldest catch-up with a page of `count` records of the timeline: as it is now if
    /// `is_fresh`, else as it was at the request.
    pub(super) fn catch_up(&mut self, count: usize, is_fresh: bool) {
        if self.readings.is_empty() {
            return;
        }
        let (lane, from, end_then) = self.readings.remove(0);
        let end = if is_fresh {
            self.journal_end()
        } else {
            end_then
        };
        let of_lane = |item: &OutboundRecord| match &lane {
            LaneKey::Entity(key) => {
                item.record.entity == *key && item.sequence >= from && item.position.get() < end
            }
            LaneKey::Record(position) => item.position == *position,
        };
        let page: Vec<_> = self
            .journal
            .iter()
            .filter(|(item, _)| of_lane(item))
            .take(count + 1)
            .collect();
        let is_last = page.len() <= count;
        let page = &page[..page.len().min(count)];
        let through = page.last().map_or(from - 1, |(item, _)| item.sequence);
        let items = page
            .iter()
            .filter_map(|(item, class)| self.match_item(item, *class))
            .collect();
        let end = match &lane {
            LaneKey::Entity(_) => is_last.then_some(Position::new(end)),
            LaneKey::Record(position) => Some(position.plus(1)),
        };
        self.step(DeliveryInput::LaneCaughtUp {
            lane,
            items,
            through,
            end,
        });
    }

    /// Ends one of the running attempts.
    pub(super) fn end(&mut self, which: usize, outcome: AttemptOutcome) {
        let Some(attempt_id) = self
            .running
            .keys()
            .copied()
            .nth(which % self.running.len().max(1))
        else {
            return;
        };
        let flight = self.running.remove(&attempt_id).expect("it is under way");
        match &outcome {
            AttemptOutcome::Accepted | AttemptOutcome::Dropped => {
                self.accepted.insert(flight.position);
                if !flight.is_replay {
                    self.settle(flight.position);
                }
            }
            AttemptOutcome::TransientFailure {
                retry_after: Some(pause),
                ..
            } => self.held_until = self.held_until.max(self.now + *pause),
            AttemptOutcome::TransientFailure { .. }
            | AttemptOutcome::PermanentFailure { .. }
            | AttemptOutcome::Gone { .. } => {}
        }
        let is_heard = match &outcome {
            // A subscriber that asks for a pause works.
            AttemptOutcome::TransientFailure { retry_after, .. } => retry_after.is_none(),
            AttemptOutcome::Gone { .. } => true,
            // The subscriber was never called, so another probe may begin.
            AttemptOutcome::PermanentFailure { failure } => failure.code != "transform_failed",
            AttemptOutcome::Accepted | AttemptOutcome::Dropped => false,
        };
        if is_heard && self.delivery.running[&AttemptId(attempt_id)].pass == BreakerPass::Probe {
            self.open_until = self.now + self.policy.breaker.open;
        }
        self.step(DeliveryInput::AttemptEnded {
            attempt_id: AttemptId(attempt_id),
            outcome,
        });
    }

    /// An operator asks for an attempt.
    pub(super) fn probe(&mut self) {
        self.open_until = self.open_until.min(self.now);
        self.held_until = Duration::ZERO;
        self.step(DeliveryInput::RepairNoticed);
    }

    pub(super) fn withdraw(&mut self, which: usize) {
        let Some(attempt_id) = self
            .running
            .keys()
            .copied()
            .nth(which % self.running.len().max(1))
        else {
            return;
        };
        self.running.remove(&attempt_id);
        self.step(DeliveryInput::AttemptWithdrawn {
            attempt_id: AttemptId(attempt_id),
        });
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.step(DeliveryInput::Tick);
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut DeliveryPolicy), wants_sometimes: bool) {
        let was_active =
            !std::mem::take(&mut self.is_over) && self.policy.state == SubscriptionState::Active;
        let ordering = self.policy.ordering;
        change(&mut self.policy);
        self.has_reordered |= self.policy.ordering != ordering;
        if self.policy.on_exhausted == ExhaustionPolicy::Skip {
            self.halted.clear();
        }
        self.wants_sometimes = wants_sometimes;
        if !was_active && self.policy.state == SubscriptionState::Active {
            self.open_until = Duration::ZERO;
            self.held_until = Duration::ZERO;
        }
        self.step(DeliveryInput::PolicyChanged(Arc::new(self.policy.clone())));
    }

    pub(super) fn replay(&mut self, which: usize, job: u64) {
        let settled: Vec<_> = self
            .accepted
            .union(&self.stored.dead_letters)
            .copied()
            .collect();
        let Some(position) = settled.get(which % settled.len().max(1)).copied() else {
            return;
        };
        if self.replays.contains_key(&position) {
            return;
        }
        let job = self.number_of(job);
        self.replays.insert(position, job);
        let item = self.journal[position as usize - 1].0.clone();
        let tag = ReplayTag {
            job,
            position: Position::new(position),
            dead_letter: None,
        };
        self.step(DeliveryInput::ReplaysAdded(vec![ReplayItem { tag, item }]));
    }

    fn number_of(&self, job: u64) -> u64 {
        job + 2 * self.cancelled[job as usize]
    }

    pub(super) fn cancel(&mut self, which: u64) {
        let job = self.number_of(which);
        self.cancelled[which as usize] += 1;
        self.replays.retain(|_, of| *of != job);
        self.step(DeliveryInput::JobCancelled { job });
    }

    pub(super) fn release(&mut self) {
        if let Some(entity) = self.halted.pop_first() {
            self.step(DeliveryInput::LaneReleased {
                key: LaneKey::Entity(entity),
            });
        }
    }

    /// Takes a checkpoint, which reaches the disk as a whole.
    pub(super) fn checkpoint(&mut self) {
        self.step(DeliveryInput::CheckpointStarted);
        let cursor = self
            .delivery
            .oldest_unsettled()
            .unwrap_or(self.delivery.read_to())
            .get();
        let is_old = |position: &&u64| **position < self.mark;
        let done = self.settled_now.iter().filter(is_old).copied().collect();
        let is_full =
            self.delivery.lanes.stored_lane_count() >= self.policy.bounds.stopped_lanes_max;
        // A lane that waits for lanes of single records holds the cursor.
        let holds_cursor = |item: &OutboundRecord| {
            let key = LaneKey::Entity(item.record.entity.clone());
            self.delivery.lanes.contains(&key) && self.delivery.lanes.is_blocked(&key)
        };
        let is_held = self.journal.iter().any(|(item, _)| holds_cursor(item));
        self.disk = StoredState {
            cursor,
            done: if is_full || is_held {
                BTreeSet::new()
            } else {
                done
            },
            ..self.stored.clone()
        };
        self.mark = self.delivery.read_to().get();
    }

    /// Kills the node and starts it again from the disk.
    pub(super) fn crash(&mut self, down: Duration) {
        self.now += down;
        self.stored = self.disk.clone();
        let restored = |(row, due): &(LaneRow, Duration)| LaneRow {
            wait: due.saturating_sub(self.now),
            ..row.clone()
        };
        let rows: Vec<_> = self.stored.rows.values().map(restored).collect();
        let halts = self.policy.on_exhausted == ExhaustionPolicy::Halt;
        let halted = |row: &LaneRow| match &row.key {
            LaneKey::Entity(key) => (row.is_halted && halts).then(|| key.clone()),
            LaneKey::Record(_) => None,
        };
        self.halted = rows.iter().filter_map(halted).collect();
        let cursor = Position::new(self.stored.cursor);
        self.delivery = SubscriberDelivery::new(
            Arc::new(self.policy.clone()),
            cursor,
            rows,
            Duration::ZERO,
            1,
            self.now,
        );
        self.running.clear();
        self.readings.clear();
        self.settled.clear();
        self.settled_now.clone_from(&self.stored.done);
        self.held_until = Duration::ZERO;
        self.replays.clear();
        self.open_until = Duration::ZERO;
        self.is_over = false;
        self.mark = self.stored.cursor;
        self.check();
    }

    fn step(&mut self, input: DeliveryInput) {
        let was_half_open = self.delivery.status().breaker == DeliveryBreakerState::HalfOpen;
        let may_half_open = matches!(
            input,
            DeliveryInput::AttemptEnded { .. }
                | DeliveryInput::AttemptWithdrawn { .. }
                | DeliveryInput::PolicyChanged(_)
        );
        for effect in self.delivery.step(input, self.now) {
            if let DeliveryEffect::Attempt { .. } = effect {
                assert!(may_half_open || !was_half_open, "attempt beside the probe");
            }
            self.perform(effect);
        }
        self.check();
    }

    fn perform(&mut self, effect: DeliveryEffect) {
        match effect {
            DeliveryEffect::Attempt {
                attempt_id,
                item,
                attempt,
                is_replay,
            } => self.attempted(attempt_id, &item, attempt, is_replay),
            DeliveryEffect::CatchUp {
                lane,
                from_sequence,
            } => self
                .readings
                .push((lane, from_sequence, self.journal_end())),
            DeliveryEffect::StoreRow(row) => {
                let due = self.now + row.wait;
                self.stored.rows.insert(row.key.clone(), (row, due));
            }
            DeliveryEffect::RemoveRow(key) => {
                assert!(
                    self.stored.rows.remove(&key).is_some(),
                    "there was no row of {key:?}"
                )
            }
            DeliveryEffect::DeadLetter {
                letter,
                replay: Some(_),
            } => {
                self.replays
                    .remove(&letter.item.position.get())
                    .expect("it was asked for");
            }
            DeliveryEffect::DeadLetter {
                letter,
                replay: None,
            } => {
                let NewDeadLetter {
                    item,
                    is_halting,
                    cause,
                    attempts,
                    ..
                } = letter;
                let halts = self.policy.on_exhausted == ExhaustionPolicy::Halt;
                assert!(halts || !is_halting);
                assert!(self.has_reordered || is_halting == (halts && self.is_ordered()));
                let most = self.policy.retries.schedule.len() as u32 + 1;
                assert!(
                    attempts <= most && (cause != DeadLetterCause::Exhausted || attempts == most),
                    "{cause:?} {attempts}"
                );
                self.stored.dead_letters.insert(item.position.get());
                self.settle(item.position.get());
                if is_halting {
                    self.halted.insert(item.record.entity.clone());
                }
            }
            // A delivery of a cancelled job does not count for another job's record.
            DeliveryEffect::ReplayDelivered(tag) | DeliveryEffect::ReplayDropped(tag) => self
                .replays
                .retain(|at, job| *at != tag.position.get() || *job != tag.job),
            DeliveryEffect::RetryScheduled(pause) => {
                assert!(pause <= self.policy.retries.pause_max())
            }
            DeliveryEffect::BreakerOpened { failure_rate } => {
                assert!((0.0..=1.0).contains(&failure_rate));
                self.open_until = self.now + self.policy.breaker.open;
                self.openings += 1;
            }
            DeliveryEffect::BreakerClosed => self.open_until = Duration::ZERO,
            DeliveryEffect::Disable { .. } => self.is_over = true,
        }
    }

    fn is_ordered(&self) -> bool {
        self.policy.ordering != DeliveryOrdering::None
    }

    fn settle(&mut self, position: u64) {
        let item = &self.journal[position as usize - 1].0;
        self.settled_now.insert(position);
        let settled = self.settled.entry(item.record.entity.clone()).or_default();
        *settled = item.sequence.max(*settled);
    }

    fn is_settled(&self, position: u64) -> bool {
        self.accepted.contains(&position) || self.stored.dead_letters.contains(&position)
    }

    /// Checks the promises about an attempt.
    fn attempted(
        &mut self,
        attempt_id: AttemptId,
        item: &OutboundRecord,
        attempt: u32,
        is_replay: bool,
    ) {
        let (position, entity) = (item.position.get(), &item.record.entity);
        let begun = &self.delivery.running[&attempt_id];
        let is_of_job = matches!(begun.source, AttemptSource::Replay(_));
        let is_ordered = matches!(begun.key, LaneKey::Entity(_));
        assert_eq!(
            is_replay, is_of_job,
            "it says of itself whether a job brings it again"
        );
        assert!(
            self.policy.state == SubscriptionState::Active && !self.is_over,
            "attempt while nothing is delivered"
        );
        assert!(
            self.now >= self.open_until,
            "attempt while the breaker is open"
        );
        assert!(self.now >= self.held_until, "asked to come later");
        assert!(
            attempt as usize <= self.policy.retries.schedule.len() + 1,
            "attempt {attempt}"
        );
        assert!(
            self.running.len() < self.policy.concurrency + 1,
            "too many at once"
        );
        for other in self.running.values() {
            let other = &self.journal[other.position as usize - 1].0;
            let is_same = if is_ordered {
                other.record.entity == *entity
            } else {
                other.position == item.position
            };
            assert!(!is_same, "two attempts at once in the lane of {entity}");
        }
        if !is_replay {
            assert!(
                !is_ordered || !self.halted.contains(entity),
                "{entity} stands still"
            );
            assert!(
                !self.disk.done.contains(&position),
                "{position} was settled long ago"
            );
            assert!(
                !self.settled_now.contains(&position),
                "{position} was settled in this life"
            );
            let class = self.journal[position as usize - 1].1;
            assert!(
                matches!(class, RecordClass::Wanted | RecordClass::Sometimes),
                "{class:?} is attempted"
            );
        }
        if !is_replay && self.policy.ordering == DeliveryOrdering::Subscription {
            assert!(self.running.is_empty(), "two attempts at once");
            assert!(
                self.has_reordered || self.halted.is_empty(),
                "everything stands still"
            );
            for (before, class) in &self.journal[..position as usize - 1] {
                let is_owed = matches!(class, RecordClass::Wanted | RecordClass::Broken);
                assert!(
                    !is_owed || self.is_settled(before.position.get()),
                    "{position} before {}",
                    before.position
                );
            }
        }
        if !is_replay && is_ordered {
            let settled = self.settled.get(entity).copied().unwrap_or_default();
            assert!(
                item.sequence > settled,
                "{entity} goes back from {settled} to {}",
                item.sequence
            );
            for (before, class) in &self.journal {
                let is_before = before.record.entity == *entity && before.sequence < item.sequence;
                let is_owed = matches!(class, RecordClass::Wanted | RecordClass::Broken);
                let is_skipped = is_before && is_owed && !self.is_settled(before.position.get());
                assert!(
                    !is_skipped,
                    "{entity}: {} before {}",
                    item.sequence, before.sequence
                );
            }
        }
        self.attempts += 1;
        self.running.insert(
            attempt_id.0,
            ModelAttempt {
                position,
                is_replay,
            },
        );
    }

    /// Checks that each pending record before the cursor is covered by a row.
    fn check(&self) {
        let (events, _) = self.delivery.lanes.queued_size();
        assert!(
            events <= self.policy.bounds.window_events + CONCURRENCY_MAX,
            "{events} in memory"
        );
        let cursor = self
            .delivery
            .oldest_unsettled()
            .unwrap_or(self.delivery.read_to());
        assert!(cursor <= self.delivery.read_to());
        let status = self.delivery.status();
        for (item, class) in &self.journal {
            let is_owed = matches!(class, RecordClass::Wanted | RecordClass::Broken)
                && !self.is_settled(item.position.get());
            if is_owed && item.position < self.delivery.read_to() {
                let shown = status.queued as u64 + status.deferred;
                assert!(shown > 0, "{} is in no figure: {status:?}", item.position);
            }
            if is_owed && item.position < cursor {
                let oldest = status.oldest_stored;
                assert!(
                    oldest.is_some_and(|oldest| oldest <= item.position),
                    "{} is older than {status:?}",
                    item.position
                );
            }
            if !is_owed || item.position >= cursor {
                continue;
            }
            let rows = [
                LaneKey::Entity(item.record.entity.clone()),
                LaneKey::Record(item.position),
            ];
            let is_covered = |key| {
                self.stored
                    .rows
                    .get(key)
                    .is_some_and(|(row, _)| row.sequence <= item.sequence)
            };
            assert!(
                rows.iter().any(is_covered),
                "nothing vouches for {}",
                item.position
            );
        }
    }

    /// Lets all attempts succeed until every pending record has arrived; nothing may be left over.
    pub(super) fn come_to_rest(&mut self) {
        self.edit(|policy| policy.state = SubscriptionState::Active, true);
        for _ in 0..20_000 {
            self.read(100);
            if !self.readings.is_empty() {
                self.catch_up(3, true);
            } else if !self.running.is_empty() {
                self.end(0, AttemptOutcome::Accepted);
            } else if self.delivery.is_idle() && self.delivery.read_to().get() == self.journal_end()
            {
                break;
            } else if !self.halted.is_empty() {
                self.release();
            } else if !self.delivery.can_read()
                || self.delivery.read_to().get() == self.journal_end()
            {
                let due = self
                    .delivery
                    .next_due_at()
                    .expect("what is owed has a time");
                let pause = due.saturating_sub(self.now);
                self.advance(pause);
            }
        }
        assert!(self.delivery.is_idle(), "{:?}", self.delivery.status());
        assert!(self.stored.rows.is_empty(), "{:?}", self.stored.rows);
        let status = self.delivery.status();
        assert_eq!((status.deferred, status.oldest_stored), (0, None));
        assert!(self.replays.is_empty(), "{:?}", self.replays);
        assert_eq!(
            self.delivery.window_room(),
            (
                self.policy.bounds.window_events,
                self.policy.bounds.window_bytes
            )
        );
        assert_eq!(
            (
                self.delivery.lanes.stored_lane_count(),
                self.delivery.lanes.stopped_lane_count()
            ),
            (0, 0)
        );
        for (item, class) in &self.journal {
            let position = item.position.get();
            let is_owed = matches!(class, RecordClass::Wanted | RecordClass::Broken);
            assert!(!is_owed || self.is_settled(position), "{position} is lost");
        }
    }
}
