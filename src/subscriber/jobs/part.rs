//! The part of a job for one subscriber, as a pure state machine: the records to read next, the
//! records in flight, and the counts of settled records.
//!
//! ```text
//!  read: settled or unsettled      not read yet
//!  ─────────────────────────────┼───────────────────┤
//!                            read_to               end
//!
//!  unsettled = waiting (to be read again, after a restart) + in flight (handed out), at most 64
//! ```
//!
//! The stored members are `read_to`, `end`, the unsettled positions and the counts. After a restart
//! the unsettled records are delivered again, and no record is counted twice. A slow record does
//! not hold up the records behind it.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Position;

/// Unsettled records of one job at one subscriber, at most: enough to keep its attempts busy, and
/// few enough that a job of a million records takes little memory.
pub const UNSETTLED_MAX: usize = 64;

/// Outcome of one record of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobRecordOutcome {
    /// The subscriber accepted the record.
    Delivered,
    /// The delivery failed for good.
    Failed,
    /// The record needed no delivery any more, or another job delivers it.
    Skipped,
}

/// Numbers of settled records by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Number of records that were delivered.
    pub delivered: u64,
    /// Number of records that failed for good.
    pub failed: u64,
    /// Number of records without need of a delivery.
    pub skipped: u64,
}

impl JobCounts {
    /// Number of all settled records.
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

    const fn count_outcome(&mut self, outcome: JobRecordOutcome) {
        match outcome {
            JobRecordOutcome::Delivered => self.delivered += 1,
            JobRecordOutcome::Failed => self.failed += 1,
            JobRecordOutcome::Skipped => self.skipped += 1,
        }
    }
}

/// Next read of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobStep {
    /// Reads these positions, which were read before.
    Reread(Vec<Position>),
    /// Reads on from `from` to before `end`, until `room` records are found.
    ReadOn {
        from: Position,
        end: Position,
        room: usize,
    },
}

/// Position of a record with its size in bytes.
pub(super) type SizedPosition = (Position, usize);

/// Progress of one job at one subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobPart {
    read_to: Position,
    end: Position,
    waiting: BTreeSet<Position>,
    /// Positions that are handed out, with the bytes of each record.
    in_flight: BTreeMap<Position, usize>,
    counts: JobCounts,
    expected_total: Option<u64>,
}

impl JobPart {
    /// Creates a part that reads from `from` to before `end`. `expected_total` is the number of
    /// records to be found there, if it is known.
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

    /// Creates a part that delivers only the record at `position`.
    pub(crate) fn for_record(position: Position) -> Self {
        let end = position.plus(1);
        Self::from_store((end, end), [position], JobCounts::default(), Some(1))
    }

    /// Restores a stored part; the records at `unsettled` are read again.
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

    /// Returns the positions `read_to` and `end`, both exclusive.
    pub(crate) const fn reading_range(&self) -> (Position, Position) {
        (self.read_to, self.end)
    }

    /// Returns the positions that were read and are not settled.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = Position> {
        self.waiting.iter().chain(self.in_flight.keys()).copied()
    }

    /// Returns the first position that is not settled or will be read; `None` at the end.
    pub(super) fn first_unsettled(&self) -> Option<Position> {
        let next = (!self.is_fully_read()).then_some(self.read_to);
        self.unsettled().chain(next).min()
    }

    /// True if the record at `position` was read and is not settled.
    pub(super) fn is_unsettled(&self, position: Position) -> bool {
        self.waiting.contains(&position) || self.in_flight.contains_key(&position)
    }

    /// Bytes of all records in flight.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight.values().sum()
    }

    /// True if no record is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub(crate) const fn counts(&self) -> JobCounts {
        self.counts
    }

    /// Number of records that was expected at the start, if it was known.
    pub(crate) const fn expected_total(&self) -> Option<u64> {
        self.expected_total
    }

    /// Number of all records of the part; `None` until it is known.
    pub(crate) fn total_records(&self) -> Option<u64> {
        let seen = self.counts.settled_total() + (self.waiting.len() + self.in_flight.len()) as u64;
        if self.is_fully_read() {
            Some(seen)
        } else {
            self.expected_total.map(|total| total.max(seen))
        }
    }

    pub(super) fn is_fully_read(&self) -> bool {
        self.read_to >= self.end
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_fully_read() && self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Returns the next read; `None` if all is read, or no more records may be in flight.
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

    /// Accepts the records `found` between `from` and `read_to`, which count as handed out. Returns
    /// false, and changes nothing, if the step is out of date.
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

    /// True if there is more to read, and enough room that a page is worth it.
    pub(super) fn needs_reading(&self) -> bool {
        self.in_flight.len() <= UNSETTLED_MAX / 2 && self.next_step().is_some()
    }

    /// Counts the outcome of the record at `position`. Returns false, and counts nothing, if the
    /// record is not in flight.
    pub(super) fn settle_position(
        &mut self,
        position: Position,
        outcome: JobRecordOutcome,
    ) -> bool {
        let was_in_flight = self.in_flight.remove(&position).is_some();
        if was_in_flight {
            self.counts.count_outcome(outcome);
        }
        was_in_flight
    }

    /// Puts the records in flight for which `is_back` holds back; they are read again.
    pub(super) fn requeue(&mut self, is_back: impl Fn(Position) -> bool) {
        let waiting = &mut self.waiting;
        self.in_flight.retain(|position, _| {
            let stays = !is_back(*position);
            if !stays {
                waiting.insert(*position);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Positions of a job's records, and the counts of each.
    struct JobPartModel {
        wanted: BTreeSet<u64>,
        part: JobPart,
        /// Number of times that each settled record was counted.
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

        /// Performs the next step with a reader that finds at most `most` records. Returns the
        /// positions handed out.
        fn step(&mut self, most: usize) -> Vec<Position> {
            match self.part.next_step() {
                None => Vec::new(),
                Some(JobStep::Reread(asked)) => {
                    // Like a reader whose room for bytes is used up: the rest waits on.
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

        fn settle(&mut self, position: Position, outcome: JobRecordOutcome) {
            if self.part.settle_position(position, outcome) {
                *self.counted.entry(position.get()).or_default() += 1;
            }
        }

        /// Restores the part from its stored members.
        fn restart(&mut self) {
            let unsettled: Vec<_> = self.part.unsettled().collect();
            self.part = JobPart::from_store(
                self.part.reading_range(),
                unsettled,
                self.part.counts(),
                self.part.expected_total(),
            );
        }
    }

    /// Gives each record a size equal to its position.
    fn weighed(positions: &[Position]) -> Vec<SizedPosition> {
        positions
            .iter()
            .map(|position| (*position, position.get() as usize))
            .collect()
    }

    #[derive(Clone, Debug)]
    enum JobPartAction {
        Read(usize),
        /// Settles the n-th record in flight.
        Settle(usize, JobRecordOutcome),
        Lose,
        Restart,
        /// Reports a record as delivered that is not in flight.
        Stray(u64),
    }

    fn any_action() -> impl Strategy<Value = JobPartAction> {
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
            wanted in prop::collection::btree_set(1_u64..400, 0..200), acts in prop::collection::vec(any_action(), 0..300),
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
                    JobPartAction::Lose => { world.part.requeue(|_| true); out.clear(); }
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
            prop_assert_eq!(world.part.total_records(), Some(wanted.len() as u64));
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
        part.requeue(|_| true);
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
        assert_eq!((part.next_step(), part.total_records()), (None, Some(500)));
        for position in &all[..31] {
            part.settle_position(*position, JobRecordOutcome::Delivered);
        }
        assert!(!part.needs_reading());
        part.settle_position(all[31], JobRecordOutcome::Failed);
        assert!(part.needs_reading());
    }
}
