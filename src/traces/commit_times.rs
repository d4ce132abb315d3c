//! Times of the newest commits, by the positions of their records.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::{Position, Timestamp};

/// Commits that are remembered: those of a second or more, on a fast disk.
const COMMITS_MAX: usize = 4_096;

/// Begin and duration of one commit of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommitTime {
    pub(super) first: Position,
    pub(super) records: u64,
    pub(super) began_at: Timestamp,
    pub(super) duration: Duration,
}

/// Newest commits, in the order of their positions.
#[derive(Debug, Default)]
pub(super) struct CommitTimes(VecDeque<CommitTime>);

impl CommitTimes {
    pub(super) fn push(&mut self, commit: CommitTime) {
        // A store that was reopened after a failure may begin again at an earlier position.
        while self.0.back().is_some_and(|last| last.first >= commit.first) {
            self.0.pop_back();
        }
        if self.0.len() == COMMITS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(commit);
    }

    /// Returns the commit that wrote the record at `position`.
    pub(super) fn find(&self, position: Position) -> Option<CommitTime> {
        let next = self.0.partition_point(|commit| commit.first <= position);
        let commit = self.0.get(next.checked_sub(1)?)?;
        (position < commit.first.plus(commit.records)).then_some(*commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_in_its_commit_and_old_commits_are_forgotten() {
        let commit = |first: u64, records| CommitTime {
            first: Position::new(first),
            records,
            began_at: Timestamp::from_micros(0),
            duration: Duration::ZERO,
        };
        let mut commits = CommitTimes::default();
        let find = |commits: &CommitTimes, position| {
            let found = commits.find(Position::new(position));
            found.map(|commit| commit.first.get())
        };
        assert_eq!(find(&commits, 1), None);
        for first in [1, 4, 9] {
            commits.push(commit(first, 3));
        }
        assert_eq!(find(&commits, 3), Some(1));
        assert_eq!(find(&commits, 4), Some(4));
        assert_eq!(find(&commits, 8), None, "no record of a known commit");
        assert_eq!(find(&commits, 12), None);

        commits.push(commit(4, 9));
        assert_eq!(find(&commits, 9), Some(4), "the store was reopened");
        for first in 0..COMMITS_MAX as u64 {
            commits.push(commit(100 + first, 1));
        }
        assert_eq!((find(&commits, 9), find(&commits, 100)), (None, Some(100)));
    }
}
