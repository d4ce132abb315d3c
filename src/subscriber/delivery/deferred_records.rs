//! Records that the lanes of a subscriber have left to the timelines of their entities: how many are
//! known to wait there, and the oldest that a lane with a row holds.
//!
//! ```text
//!  lane stops, or is full ──> its records leave the memory   ──> they count here
//!  the reader passes a record that the lane will read itself ──> it counts here
//!  a page of the timeline is read ──> its records are in the memory again, and count there
//! ```
//!
//! The sums follow each change of a lane, so they cost the same with one lane and with 20,000.

use std::collections::BTreeMap;

use crate::event::Position;

/// Part of the sums that belongs to one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LaneShare {
    /// Records that are known to wait on the timeline. A lane restored from its row counts one.
    pub(super) records: u64,
    /// Position before which the lane has nothing unsettled, if it has a row and is not drained.
    pub(super) stored_from: Option<Position>,
}

/// Sums over the shares of all lanes.
#[derive(Debug, Default)]
pub(super) struct DeferredRecords {
    count: u64,
    /// Number of lanes that begin at each position.
    stored_from: BTreeMap<Position, u32>,
}

impl DeferredRecords {
    /// Number of records that are known to wait on timelines.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Lowest position that a lane with a row begins at.
    pub(super) fn oldest_stored(&self) -> Option<Position> {
        self.stored_from.keys().next().copied()
    }

    /// Replaces the share that a lane had by the one that it has now.
    pub(super) fn replace_share(&mut self, old: LaneShare, new: LaneShare) {
        self.count = self.count - old.records + new.records;
        if old.stored_from == new.stored_from {
            return;
        }

        if let Some(from) = old.stored_from
            && let Some(lanes) = self.stored_from.get_mut(&from)
        {
            *lanes -= 1;
            if *lanes == 0 {
                self.stored_from.remove(&from);
            }
        }
        if let Some(from) = new.stored_from {
            *self.stored_from.entry(from).or_default() += 1;
        }
    }
}
