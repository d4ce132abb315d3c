//! Records that were dropped without an attempt, as the gaps that they left in a subscriber's
//! deliveries.

use crate::event::Position;

/// Most gaps of one dead letter. Beyond it the closest gaps are joined, so that a retry may deliver
/// some records between them again.
const GAPS_MAX: usize = 1_024;

/// Dropped records of one subscriber. Empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissedRecords {
    /// First and last position of each gap, both included, in order and apart from each other.
    gaps: Vec<(Position, Position)>,
    count: u64,
}

impl MissedRecords {
    /// Returns the records that were stored as `gaps` with `count` records; `None` if there is no
    /// gap, or the gaps are not in order.
    #[must_use]
    pub fn from_stored(gaps: Vec<(Position, Position)>, count: u64) -> Option<Self> {
        let are_ordered = gaps.iter().all(|(first, last)| first <= last)
            && gaps.windows(2).all(|pair| pair[0].1 < pair[1].0);
        (are_ordered && !gaps.is_empty()).then_some(Self { gaps, count })
    }

    /// Adds the record at `position`, which is behind all others. The last gap grows to it if
    /// `is_next`: every record in between is for another subscriber.
    pub(super) fn push(&mut self, position: Position, is_next: bool) {
        self.count += 1;
        match self.gaps.last_mut() {
            Some((_, last)) if is_next || last.plus(1) >= position => *last = position,
            Some(_) | None => self.gaps.push((position, position)),
        }
        self.join_closest_gaps();
    }

    /// Adds the records of `other`.
    pub(super) fn merge(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.gaps.extend(other.gaps);
        self.gaps.sort_unstable();
        self.gaps.dedup_by(|next, gap| {
            let is_joined = next.0 <= gap.1.plus(1);
            if is_joined {
                gap.1 = gap.1.max(next.1);
            }
            is_joined
        });
        self.join_closest_gaps();
    }

    /// Number of records that are missed.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Gaps that the records left: first and last position of each, both included, in order.
    #[must_use]
    pub fn gaps(&self) -> &[(Position, Position)] {
        &self.gaps
    }

    /// Positions of the first and of the last record; `None` if there is no record.
    #[must_use]
    pub fn bounds(&self) -> Option<(Position, Position)> {
        Some((self.gaps.first()?.0, self.gaps.last()?.1))
    }

    /// First position from `position` on that is in a gap.
    #[must_use]
    pub fn next_missed(&self, position: Position) -> Option<Position> {
        self.next_gap(position).map(|(first, _)| first)
    }

    /// First gap from `position` on, or what is left of it there, as the first position in it and the
    /// one behind it.
    pub(super) fn next_gap(&self, position: Position) -> Option<(Position, Position)> {
        let behind = self.gaps.partition_point(|(_, last)| *last < position);
        let (first, last) = self.gaps.get(behind)?;
        Some((position.max(*first), last.plus(1)))
    }

    fn join_closest_gaps(&mut self) {
        while self.gaps.len() > GAPS_MAX {
            let distance = |left: &usize| self.gaps[*left + 1].0.get() - self.gaps[*left].1.get();
            let Some(left) = (0..self.gaps.len() - 1).min_by_key(distance) else {
                return;
            };
            let (_, last) = self.gaps.remove(left + 1);
            self.gaps[left].1 = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn missed(positions: &[u64]) -> MissedRecords {
        let mut missed = MissedRecords::default();
        for position in positions {
            missed.push(Position::new(*position), false);
        }
        missed
    }

    fn gaps(missed: &MissedRecords) -> Vec<(u64, u64)> {
        let gaps = missed.gaps().iter();
        gaps.map(|(first, last)| (first.get(), last.get()))
            .collect()
    }

    #[test]
    fn neighbours_are_one_gap_and_others_stay_apart() {
        let mut one = missed(&[3, 4, 9]);
        one.push(Position::new(20), true);
        assert_eq!((gaps(&one), one.count()), (vec![(3, 4), (9, 20)], 4));
        one.merge(missed(&[5, 7, 30]));
        assert_eq!(
            (gaps(&one), one.count()),
            (vec![(3, 5), (7, 7), (9, 20), (30, 30)], 7)
        );
        assert_eq!(one.bounds(), Some((Position::new(3), Position::new(30))));
    }

    #[test]
    fn many_gaps_are_bounded_and_the_closest_are_joined() {
        let mut positions: Vec<_> = (1..=GAPS_MAX as u64).map(|n| n * 10).collect();
        positions.push(GAPS_MAX as u64 * 10 + 2);
        let joined = missed(&positions);
        assert_eq!(joined.gaps().len(), GAPS_MAX);
        assert_eq!(joined.count(), GAPS_MAX as u64 + 1);
        let last = GAPS_MAX as u64 * 10;
        assert_eq!(gaps(&joined).last(), Some(&(last, last + 2)));
    }

    proptest! {
        #[test]
        fn exactly_the_missed_positions_are_found(
            left in prop::collection::btree_set(1_u64..300, 0..40),
            right in prop::collection::btree_set(1_u64..300, 0..40),
        ) {
            let positions = |set: &std::collections::BTreeSet<u64>| set.iter().copied().collect::<Vec<_>>();
            let mut all = missed(&positions(&left));
            all.merge(missed(&positions(&right)));
            for position in 0..310 {
                let expected = left.union(&right).copied().filter(|at| *at >= position).min();
                let found = all.next_missed(Position::new(position)).map(Position::get);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
