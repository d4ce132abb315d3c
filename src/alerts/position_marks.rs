//! Ends of the journal at earlier times, by which the age of a position is bounded without reading
//! the journal.
//!
//! ```text
//!  time      ──t1────────t2────────t3────────now──>
//!  end           10        25        25        40        a record at 12 came between t1 and t2
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::{Position, Timestamp};

/// Marks within the longest age. More would tell an age finer than anybody needs.
const MARKS: u32 = 32;

/// Marks of the journal's end, the oldest first.
#[derive(Debug)]
pub(super) struct PositionMarks {
    longest_age: Duration,
    marks: VecDeque<(Timestamp, Position)>,
}

impl PositionMarks {
    /// Creates marks that tell ages up to `longest_age`.
    pub(super) const fn new(longest_age: Duration) -> Self {
        Self {
            longest_age,
            marks: VecDeque::new(),
        }
    }

    /// Tells ages up to `longest_age` from now on; the marks so far stay.
    pub(super) const fn set_longest_age(&mut self, longest_age: Duration) {
        self.longest_age = longest_age;
    }

    /// Notes that the journal ends at `end` at the time `now`.
    pub(super) fn add_mark(&mut self, now: Timestamp, end: Position) {
        let spacing = self.longest_age / MARKS;
        let is_due = self
            .marks
            .back()
            .is_none_or(|(at, _)| at.saturating_add(spacing) <= now);
        if is_due {
            self.marks.push_back((now, end));
        }

        // One mark beyond the longest age is kept: it is the one that tells that age.
        let is_old = |mark: &(Timestamp, Position)| mark.0.saturating_add(self.longest_age) <= now;
        while self.marks.get(1).is_some_and(is_old) {
            self.marks.pop_front();
        }
    }

    /// Returns a position such that all records before it are at least `age` old at `now`; `None` if
    /// the marks do not reach back that far.
    pub(super) fn position_before(&self, now: Timestamp, age: Duration) -> Option<Position> {
        let is_old = |mark: &&(Timestamp, Position)| mark.0.saturating_add(age) <= now;
        let newest = self.marks.iter().rev().find(is_old)?;
        Some(newest.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_before_the_newest_old_mark_are_old_and_the_marks_stay_few() {
        let second = |second: i64| Timestamp::from_micros(second * 1_000_000);
        let mut marks = PositionMarks::new(Duration::from_secs(320));
        for now in 0..10_000_i64 {
            marks.add_mark(second(now), Position::new(now.unsigned_abs()));
        }
        let before = |age| marks.position_before(second(9_999), Duration::from_secs(age));
        assert_eq!(before(320), Some(Position::new(9_670)));
        assert_eq!(before(160), Some(Position::new(9_830)));
        assert_eq!(before(3_200), None);
        assert!(marks.marks.len() <= 34, "{}", marks.marks.len());
    }
}
