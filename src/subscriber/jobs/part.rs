//! What one job has done and has to do at one subscriber, as a pure state machine: which records are to be looked at next, which
//! are on their way, and which are settled.
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
//! What is stored of it (`read_to`, the unsettled, the counts) is enough to go on with: after a restart the unsettled are
//! delivered again, and nothing is counted twice. A record that takes long does not hold up those behind it.

use std::collections::BTreeSet;

use crate::event::Position;

/// Records of one job that are with a subscriber and not settled, at most. Enough to keep its attempts busy, few enough that
/// a job of a million records costs no memory.
pub const UNSETTLED_MAX: usize = 64;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was delivered.
    Delivered,
    /// It failed for good.
    Failed,
    /// There was nothing to deliver any more, or another job does it.
    Skipped,
}

/// How many records became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Delivered.
    pub delivered: u64,
    /// Failed for good.
    pub failed: u64,
    /// Nothing to deliver any more.
    pub skipped: u64,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn done(self) -> u64 {
        self.delivered + self.failed + self.skipped
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            delivered: self.delivered + other.delivered,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }

    const fn count(&mut self, settled: Settled) {
        match settled {
            Settled::Delivered => self.delivered += 1,
            Settled::Failed => self.failed += 1,
            Settled::Skipped => self.skipped += 1,
        }
    }
}

/// What a part has to have read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These, which were met before.
    Again(Vec<Position>),
    /// What is wanted from here on, before `end`: `room` of it at most.
    On { from: Position, end: Position, room: usize },
}

/// One job at one subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    read_to: Position,
    end: Position,
    waiting: BTreeSet<Position>,
    out: BTreeSet<Position>,
    counts: Counts,
    total: Option<u64>,
}

impl Part {
    /// A part that has to look at everything from `from` to before `end`, and finds `total` there if that is known.
    pub(crate) fn new(from: Position, end: Position, total: Option<u64>) -> Self {
        let read_to = from.min(end);
        Self { read_to, end, waiting: BTreeSet::new(), out: BTreeSet::new(), counts: Counts::default(), total }
    }

    /// A part that has to deliver the record at `position`, and nothing else.
    pub(crate) fn of_one(position: Position) -> Self {
        let end = position.plus(1);
        Self::resume((end, end), [position], Counts::default(), Some(1))
    }

    /// One that was stored: `unsettled` were met and have to be read again.
    pub(crate) fn resume(
        (read_to, end): (Position, Position),
        unsettled: impl IntoIterator<Item = Position>,
        counts: Counts,
        total: Option<u64>,
    ) -> Self {
        Self { read_to, end, waiting: unsettled.into_iter().collect(), out: BTreeSet::new(), counts, total }
    }

    /// Up to where it has looked, and up to where it is to look.
    pub(crate) const fn reading(&self) -> (Position, Position) {
        (self.read_to, self.end)
    }

    /// What was met and is not settled.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = Position> {
        self.waiting.iter().chain(&self.out).copied()
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many records it was made for, if that was known.
    pub(crate) const fn expected(&self) -> Option<u64> {
        self.total
    }

    /// How many records it has in all, once that is known.
    pub(crate) fn total(&self) -> Option<u64> {
        let met = self.counts.done() + (self.waiting.len() + self.out.len()) as u64;
        if self.is_read() { Some(met) } else { self.total.map(|total| total.max(met)) }
    }

    pub(super) fn is_read(&self) -> bool {
        self.read_to >= self.end
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_read() && self.waiting.is_empty() && self.out.is_empty()
    }

    /// What is to be read next, if there is anything and room for it.
    pub(super) fn next(&self) -> Option<Step> {
        if !self.waiting.is_empty() {
            return Some(Step::Again(self.waiting.iter().copied().collect()));
        }
        let room = UNSETTLED_MAX.saturating_sub(self.out.len());
        (room > 0 && !self.is_read()).then_some(Step::On { from: self.read_to, end: self.end, room })
    }

    /// Of `found`, what is to be delivered: it counts as handed out. What was asked for with [`Step::Again`] and not found is
    /// skipped. Nothing comes of what does not wait any more.
    pub(super) fn read_again(&mut self, asked: &[Position], found: &[Position]) -> Vec<Position> {
        let mut handed_out = Vec::new();
        for position in asked.iter().copied().filter(|position| self.waiting.remove(position)) {
            if found.contains(&position) {
                self.out.insert(position);
                handed_out.push(position);
            } else {
                self.counts.count(Settled::Skipped);
            }
        }
        handed_out
    }

    /// Takes what was `found` between `from` and `read_to`: it counts as handed out. Says whether it was: nothing comes of a
    /// step that is not the next one any more.
    pub(super) fn read_on(&mut self, from: Position, found: &[Position], read_to: Position) -> bool {
        let is_next = from == self.read_to && self.waiting.is_empty();
        if is_next {
            self.read_to = read_to.min(self.end);
            self.out.extend(found);
        }
        is_next
    }

    /// Whether there is more to be read, and so much room that a page is worth it.
    pub(super) fn wants_more(&self) -> bool {
        self.out.len() <= UNSETTLED_MAX / 2 && self.next().is_some()
    }

    /// Counts what became of the record at `position`; says whether it was one that is on its way.
    pub(super) fn settle(&mut self, position: Position, settled: Settled) -> bool {
        let was_out = self.out.remove(&position);
        if was_out {
            self.counts.count(settled);
        }
        was_out
    }

    /// Counts a record that was met and is settled without being handed out.
    pub(super) const fn count(&mut self, settled: Settled) {
        self.counts.count(settled);
    }

    /// Whoever had what is on its way has it no more: it is to be read again.
    pub(super) fn lose(&mut self) {
        self.waiting.append(&mut self.out);
    }
}
