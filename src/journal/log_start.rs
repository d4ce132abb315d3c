//! Place at which the kept part of the journal begins.

use super::log_place::LogPlace;
use crate::event::{Position, Timestamp};

/// First segment of the journal that is kept, with the first record and change behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// Number of the first kept segment.
    pub segment: u64,
    /// Position of the first kept record.
    pub position: Position,
    /// Number of the first kept group of table changes.
    pub change: u64,
    /// Receive time of the first kept record; later ones were not received before it.
    pub received_at: Timestamp,
    /// Position before which kept records may lack their content, so that what was derived from them
    /// is in the base file alone. Stays when the journal begins behind it: copies of such records may
    /// be kept in tables. The first position if no content was ever removed.
    pub content_position: Position,
}

impl LogStart {
    /// Start of a journal from which nothing was removed.
    pub const BEGINNING: Self = Self {
        segment: 1,
        position: Position::FIRST,
        change: 1,
        received_at: Timestamp::from_micros(0),
        content_position: Position::FIRST,
    };

    /// Returns the place in the log before the first kept record and change.
    pub(super) const fn place(&self) -> LogPlace {
        LogPlace {
            position: self.position,
            change: self.change,
        }
    }

    /// Returns `true` if segments were removed from the journal.
    #[must_use]
    pub const fn has_removed(&self) -> bool {
        self.segment > 1
    }

    /// Returns `true` if something was derived from content that the journal does not have any more.
    #[must_use]
    pub fn needs_base(&self) -> bool {
        self.has_removed() || self.content_position > Position::FIRST
    }
}
