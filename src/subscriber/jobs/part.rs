//! What one job has done and has to do at one subscriber, as a pure state machine: which records
//! are to be looked at next, which are on their way, and which are settled.
//!
//! ```text
//!  looked at, and settled or      not yet looked at
//!  among the unsettled          │
//!  ─────────────────────────────┼───────────────────┤
//!                            read_to               end
//!
//!  unsettled = waiting (met before a restart, to be read again) + out (with the subscriber), 64 at most
//! ```
//!
//! What is stored of it (`read_to`, the unsettled, the counts) is enough to go on with: after a
//! restart the unsettled are delivered again, and nothing is counted twice. A record that takes
//! long does not hold up those behind it.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Position;

/// Records of one job that are with a subscriber and not settled, at most. Enough to keep its
/// attempts busy, few enough that a job of a million records costs no memory.
pub const UNSETTLED_MAX: usize = 64;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobRecordOutcome {
    /// It was delivered.
    Delivered,
    /// It failed for good.
    Failed,
    /// There was nothing to deliver any more, or another job does it.
    Skipped,
}

/// How many records became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Delivered.
    pub delivered: u64,
    /// Failed for good.
    pub failed: u64,
    /// Nothing to deliver any more.
    pub skipped: u64,
}

impl JobCounts {
    /// All of them.
    #[must_use]
    pub const fn settled_total(self) -> u64 {
        self.delivered + self.failed + self.skipped
    }

    pub(super) const fn add_counts(self, other: Self) -> Self {
        Self {
            delivered: self.delivered + other.delivered,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }

    const fn count_outcome(&mut self, settled: JobRecordOutcome) {
        match settled {
            JobRecordOutcome::Delivered => self.delivered += 1,
            JobRecordOutcome::Failed => self.failed += 1,
            JobRecordOutcome::Skipped => self.skipped += 1,
        }
    }
}

/// What a part has to have read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobStep {
    /// These, which were met before.
    Reread(Vec<Position>),
    /// What is wanted from here on, before `end`: `room` of it at most.
    ReadOn {
        from: Position,
        end: Position,
        room: usize,
    },
}

/// Where a record stands, and how many bytes it has.
pub(super) type SizedPosition = (Position, usize);

/// One job at one subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobPart {
    read_to: Position,
    end: Position,
    waiting: BTreeSet<Position>,
    /// With the bytes of each.
    in_flight: BTreeMap<Position, usize>,
    counts: JobCounts,
    expected_total: Option<u64>,
}

impl JobPart {
    /// A part that has to look at everything from `from` to before `end`, and finds `total` there
    /// if that is known.
    pub(crate) fn new(from: Position, end: Position, expected_total: Option<u64>) -> Self {
        let read_to = from.min(end);
        Self {
            read_to,
            end,
            waiting: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            counts: JobCounts::default(),
            expected_total,
        }
    }

    /// A part that has to deliver the record at `position`, and nothing else.
    pub(crate) fn for_record(position: Position) -> Self {
        let end = position.plus(1);
        Self::from_store((end, end), [position], JobCounts::default(), Some(1))
    }

    /// One that was stored: `unsettled` were met and have to be read again.
    pub(crate) fn from_store(
        (read_to, end): (Position, Position),
        unsettled: impl IntoIterator<Item = Position>,
        counts: JobCounts,
        expected_total: Option<u64>,
    ) -> Self {
        Self {
            read_to,
            end,
            waiting: unsettled.into_iter().collect(),
            in_flight: BTreeMap::new(),
            counts,
            expected_total,
        }
    }

    /// Up to where it has looked, and up to where it is to look.
    pub(crate) const fn reading_range(&self) -> (Position, Position) {
        (self.read_to, self.end)
    }

    /// What was met and is not settled.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = Position> {
        self.waiting.iter().chain(self.in_flight.keys()).copied()
    }

    /// How many bytes the records have that are on their way.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight.values().sum()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub(crate) const fn counts(&self) -> JobCounts {
        self.counts
    }

    /// How many records it was made for, if that was known.
    pub(crate) const fn expected(&self) -> Option<u64> {
        self.expected_total
    }

    /// How many records it has in all, once that is known.
    pub(crate) fn total(&self) -> Option<u64> {
        let met = self.counts.settled_total() + (self.waiting.len() + self.in_flight.len()) as u64;
        if self.is_fully_read() {
            Some(met)
        } else {
            self.expected_total.map(|total| total.max(met))
        }
    }

    pub(super) fn is_fully_read(&self) -> bool {
        self.read_to >= self.end
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_fully_read() && self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// What is to be read next, if there is anything and room for it.
    pub(super) fn next_step(&self) -> Option<JobStep> {
        if !self.waiting.is_empty() {
            return Some(JobStep::Reread(self.waiting.iter().copied().collect()));
        }
        let room = UNSETTLED_MAX.saturating_sub(self.in_flight.len());
        (room > 0 && !self.is_fully_read()).then_some(JobStep::ReadOn {
            from: self.read_to,
            end: self.end,
            room,
        })
    }

    /// Returns the positions among `found` (with the bytes of each record) that are to be
    /// delivered; they count as handed out. A position of a [`JobStep::Reread`] before `read_to`
    /// that was not found is settled: as delivered if `was_delivered` says so, else as skipped.
    /// Positions that do not wait any more are ignored.
    pub(super) fn accept_reread(
        &mut self,
        asked: &[Position],
        found: &[SizedPosition],
        read_to: Position,
        was_delivered: impl Fn(Position) -> bool,
    ) -> Vec<Position> {
        let mut handed_out = Vec::new();
        let read = asked.iter().copied().filter(|position| *position < read_to);
        for position in read.filter(|position| self.waiting.remove(position)) {
            if let Some((_, bytes)) = found.iter().find(|(found, _)| *found == position) {
                self.in_flight.insert(position, *bytes);
                handed_out.push(position);
            } else if was_delivered(position) {
                self.counts.count_outcome(JobRecordOutcome::Delivered);
            } else {
                self.counts.count_outcome(JobRecordOutcome::Skipped);
            }
        }
        handed_out
    }

    /// Takes what was `found`, with the bytes of each, between `from` and `read_to`: it counts as
    /// handed out. Says whether it was: nothing comes of a step that is not the next one any more.
    pub(super) fn accept_read(
        &mut self,
        from: Position,
        found: &[SizedPosition],
        read_to: Position,
    ) -> bool {
        let is_next = from == self.read_to && self.waiting.is_empty();
        if is_next {
            self.read_to = read_to.min(self.end);
            self.in_flight.extend(found.iter().copied());
        }
        is_next
    }

    /// Whether there is more to be read, and so much room that a page is worth it.
    pub(super) fn needs_reading(&self) -> bool {
        self.in_flight.len() <= UNSETTLED_MAX / 2 && self.next_step().is_some()
    }

    /// Counts what became of the record at `position`; says whether it was one that is on its way.
    pub(super) fn settle_position(
        &mut self,
        position: Position,
        settled: JobRecordOutcome,
    ) -> bool {
        let was_out = self.in_flight.remove(&position).is_some();
        if was_out {
            self.counts.count_outcome(settled);
        }
        was_out
    }

    /// Counts a record that was met and is settled without being handed out.
    pub(super) const fn count_settled(&mut self, settled: JobRecordOutcome) {
        self.counts.count_outcome(settled);
    }

    /// Whoever had what is on its way has it no more: it is to be read again.
    pub(super) fn requeue_in_flight(&mut self) {
        self.waiting
            .extend(std::mem::take(&mut self.in_flight).into_keys());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where the records of a job stand, and what is known of each.
    struct JobPartModel {
        wanted: BTreeSet<u64>,
        part: JobPart,
        /// How often each is counted, of those that are.
        counted: BTreeMap<u64, u32>,
    }

    impl JobPartModel {
        fn new(wanted: &BTreeSet<u64>, end: u64) -> Self {
            let part = JobPart::new(Position::FIRST, Position::new(end), None);
            Self {
                wanted: wanted.clone(),
                part,
                counted: BTreeMap::new(),
            }
        }

        /// Does the next step as a reader would that finds at most `most`; gives what is handed
        /// out.
        fn step(&mut self, most: usize) -> Vec<Position> {
            match self.part.next_step() {
                None => Vec::new(),
                Some(JobStep::Reread(asked)) => {
                    // As a reader that had no more room for bytes: what it did not come to waits
                    // on.
                    let read_to = asked.get(most).map_or(Position::new(400), |next| *next);
                    self.part
                        .accept_reread(&asked, &weighed(&asked), read_to, |_| false)
                }
                Some(JobStep::ReadOn { from, end, room }) => {
                    assert!(room <= UNSETTLED_MAX);
                    let ahead = self.wanted.range(from.get()..end.get());
                    let found: Vec<_> = ahead
                        .take(room.min(most))
                        .copied()
                        .map(Position::new)
                        .collect();
                    let is_all = found.len() < room.min(most);
                    let read_to = found
                        .last()
                        .filter(|_| !is_all)
                        .map_or(end, |last| last.plus(1));
                    if self.part.accept_read(from, &weighed(&found), read_to) {
                        found
                    } else {
                        Vec::new()
                    }
                }
            }
        }

        fn settle(&mut self, position: Position, settled: JobRecordOutcome) {
            if self.part.settle_position(position, settled) {
                *self.counted.entry(position.get()).or_default() += 1;
            }
        }

        /// What a restart leaves: what is stored.
        fn restart(&mut self) {
            let unsettled: Vec<_> = self.part.unsettled().collect();
            self.part = JobPart::from_store(
                self.part.reading_range(),
                unsettled,
                self.part.counts(),
                self.part.expected(),
            );
        }
    }

    /// Each as large as its number.
    fn weighed(positions: &[Position]) -> Vec<SizedPosition> {
        positions
            .iter()
            .map(|position| (*position, position.get() as usize))
            .collect()
    }

    #[derive(Clone, Debug)]
    enum JobPartAction {
        Read(usize),
        /// Settles the n-th of those that are out.
        Settle(usize, JobRecordOutcome),
        Lose,
        Restart,
        /// Says of one that is not out that it was delivered.
        Stray(u64),
    }

    fn act() -> impl Strategy<Value = JobPartAction> {
        let settled = prop::sample::select(vec![
            JobRecordOutcome::Delivered,
            JobRecordOutcome::Failed,
            JobRecordOutcome::Skipped,
        ]);
        prop_oneof![
            4 => (1_usize..100).prop_map(JobPartAction::Read),
            8 => (any::<usize>(), settled).prop_map(|(index, settled)| JobPartAction::Settle(index, settled)),
            1 => Just(JobPartAction::Lose),
            1 => Just(JobPartAction::Restart),
            1 => (1_u64..400).prop_map(JobPartAction::Stray),
        ]
    }

    proptest! {
        #[test]
        fn every_record_is_counted_once_whatever_is_lost_on_the_way(
            wanted in prop::collection::btree_set(1_u64..400, 0..200), acts in prop::collection::vec(act(), 0..300),
        ) {
            let mut world = JobPartModel::new(&wanted, 400);
            let mut out: BTreeSet<Position> = BTreeSet::new();
            let finish = std::iter::repeat_with(|| [JobPartAction::Read(64), JobPartAction::Settle(0, JobRecordOutcome::Delivered)]).take(1_000).flatten();
            for act in acts.into_iter().chain(finish) {
                match act {
                    JobPartAction::Read(most) => for position in world.step(most) {
                        prop_assert!(out.insert(position), "{position} is out twice");
                    },
                    JobPartAction::Settle(index, settled) => {
                        let chosen = out.iter().nth(index % out.len().max(1)).copied();
                        if let Some(position) = chosen {
                            out.remove(&position);
                            world.settle(position, settled);
                        }
                    }
                    JobPartAction::Lose => { world.part.requeue_in_flight(); out.clear(); }
                    JobPartAction::Restart => { world.restart(); out.clear(); }
                    JobPartAction::Stray(position) => if !out.contains(&Position::new(position)) {
                        prop_assert!(!world.part.settle_position(Position::new(position), JobRecordOutcome::Delivered));
                    },
                }
                prop_assert!(world.part.unsettled().count() <= UNSETTLED_MAX);
                prop_assert_eq!(world.part.counts().settled_total(), world.counted.len() as u64);
                prop_assert_eq!(world.part.in_flight_bytes() as u64, out.iter().map(|position| position.get()).sum::<u64>());
            }
            prop_assert!(world.part.is_done());
            prop_assert_eq!(world.part.total(), Some(wanted.len() as u64));
            prop_assert_eq!(world.counted, wanted.into_iter().map(|position| (position, 1)).collect());
        }
    }

    #[test]
    fn what_was_read_for_a_step_that_is_over_is_not_handed_out() {
        let mut part = JobPart::new(Position::new(1), Position::new(9), None);
        assert!(part.accept_read(
            Position::new(1),
            &weighed(&[Position::new(2)]),
            Position::new(3)
        ));
        assert!(
            !part.accept_read(
                Position::new(1),
                &weighed(&[Position::new(2)]),
                Position::new(3)
            ),
            "it was read before"
        );
        part.requeue_in_flight();
        assert_eq!(
            part.next_step(),
            Some(JobStep::Reread(vec![Position::new(2)]))
        );
        assert!(
            !part.accept_read(
                Position::new(3),
                &weighed(&[Position::new(4)]),
                Position::new(9)
            ),
            "what was lost is first"
        );
        assert_eq!(
            part.accept_reread(&[Position::new(2)], &[], Position::new(3), |_| false),
            [],
            "it is nowhere any more"
        );
        assert_eq!(
            part.counts(),
            JobCounts {
                skipped: 1,
                ..JobCounts::default()
            }
        );
    }

    #[test]
    fn a_page_is_read_when_half_of_what_may_be_out_is_settled() {
        let mut part = JobPart::new(Position::new(1), Position::new(1_000), Some(500));
        let all: Vec<_> = (1..=64).map(Position::new).collect();
        assert!(part.accept_read(Position::new(1), &weighed(&all), Position::new(65)));
        assert_eq!((part.next_step(), part.total()), (None, Some(500)));
        for position in &all[..31] {
            part.settle_position(*position, JobRecordOutcome::Delivered);
        }
        assert!(!part.needs_reading());
        part.settle_position(all[31], JobRecordOutcome::Failed);
        assert!(part.needs_reading());
    }
}
