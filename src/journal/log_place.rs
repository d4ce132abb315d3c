//! Place between two commits of the log, by the numbers of what comes next.

use crate::event::Position;

/// Place in the log. Unlike an offset in a file, it is the same in every copy of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// Position of the next record.
    pub position: Position,
    /// Number of the next group of table changes.
    pub change: u64,
}

impl LogPlace {
    /// Place before everything that is ever written.
    pub const START: Self = Self {
        position: Position::FIRST,
        change: 1,
    };

    /// Returns `true` if nothing before this place is behind `other`.
    #[must_use]
    pub fn is_reached_by(&self, other: &Self) -> bool {
        self.position <= other.position && self.change <= other.change
    }
}
