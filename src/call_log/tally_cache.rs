//! How many deliveries to each subscriber a block holds: counted when the block is first looked
//! through, and remembered while the ring has it, so that a page of one subscriber's deliveries
//! reads the blocks that it lies in and no others.
//!
//! Only blocks on the disk are remembered, since these never change. One has a few hundred rows, so
//! that its tally takes two or three kilobytes at most, and a few bytes where few subscribers share
//! it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::{Mutex, MutexGuard};

use super::block::{CallFilter, EncodedRow};
use super::row::{self, CallDirection};

/// Stands for a subscriber's name. Two names that shared one would only spoil the number of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourceHash(u64);

impl SourceHash {
    pub(super) fn from_source(source: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Of one block: each subscriber with its failed and its successful deliveries.
#[derive(Debug)]
struct BlockTally(Box<[(SourceHash, [u32; 2])]>);

impl BlockTally {
    fn from_rows(slots: &[EncodedRow<'_>]) -> Self {
        let mut counts = BTreeMap::<SourceHash, [u32; 2]>::new();
        for slot in slots
            .iter()
            .filter(|slot| slot.class.direction() == CallDirection::Outgoing)
        {
            let name = SourceHash::from_source(row::peek_source(slot.row).unwrap_or_default());
            counts.entry(name).or_default()[usize::from(slot.class.is_successful())] += 1;
        }
        Self(counts.into_iter().collect())
    }

    fn count_passing(&self, name: SourceHash, filter: CallFilter) -> u64 {
        let Ok(place) = self.0.binary_search_by_key(&name, |(name, _)| *name) else {
            return 0;
        };
        let [failed, successful] = self.0[place].1.map(u64::from);
        match filter.is_successful {
            None => failed + successful,
            Some(true) => successful,
            Some(false) => failed,
        }
    }
}

/// The tallies of the blocks that were looked through, by the first id of each.
#[derive(Debug, Default)]
pub(super) struct TallyCache(Mutex<BTreeMap<u64, BlockTally>>);

impl TallyCache {
    /// How many deliveries to `name` that pass `filter` the block has that begins with `first`, if
    /// it was looked through.
    pub(super) fn count_passing(
        &self,
        first: u64,
        name: SourceHash,
        filter: CallFilter,
    ) -> Option<u64> {
        self.lock()
            .get(&first)
            .map(|tally| tally.count_passing(name, filter))
    }

    /// Remembers what the block is that begins with `first`.
    pub(super) fn insert(&self, first: u64, slots: &[EncodedRow<'_>]) {
        let tally = BlockTally::from_rows(slots);
        self.lock().insert(first, tally);
    }

    /// Forgets the blocks before the one that begins with `first`.
    pub(super) fn forget_before(&self, first: u64) {
        let mut tallies = self.lock();
        let kept = tallies.split_off(&first);
        *tallies = kept;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, BlockTally>> {
        self.0.lock()
    }
}
