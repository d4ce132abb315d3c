//! Number of deliveries to each subscriber in each block.
//!
//! A block is counted when it is first read, and its tally is kept as long as the ring has the
//! block. So a page of one subscriber's deliveries reads only the blocks in which the page lies.
//!
//! Only blocks on the disk have a tally, because they never change. A block has a few hundred rows,
//! so a tally takes at most two or three kilobytes, and a few bytes for few subscribers.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::{Mutex, MutexGuard};

use super::block::{CallFilter, EncodedRow};
use super::row::{self, CallDirection};

/// Hash of a subscriber's name. A collision would only make the number of pages wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourceHash(u64);

impl SourceHash {
    pub(super) fn from_source(source: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Tally of one block: each subscriber with its failed and its successful deliveries, in the order
/// of the hashes.
#[derive(Debug)]
struct BlockTally(Box<[(SourceHash, [u32; 2])]>);

impl BlockTally {
    fn from_rows(rows: &[EncodedRow<'_>]) -> Self {
        let mut counts = BTreeMap::<SourceHash, [u32; 2]>::new();
        let deliveries = rows
            .iter()
            .filter(|row| row.class.direction() == CallDirection::Outgoing);
        for delivery in deliveries {
            let source = row::peek_source(delivery.row).unwrap_or_default();
            let counts = counts.entry(SourceHash::from_source(source)).or_default();
            counts[usize::from(delivery.class.is_successful())] += 1;
        }
        Self(counts.into_iter().collect())
    }

    fn count_passing(&self, source: SourceHash, filter: CallFilter) -> u64 {
        let Ok(index) = self.0.binary_search_by_key(&source, |(hash, _)| *hash) else {
            return 0;
        };
        let [failed, successful] = self.0[index].1.map(u64::from);
        match filter.is_successful {
            None => failed + successful,
            Some(true) => successful,
            Some(false) => failed,
        }
    }
}

/// Tallies of the blocks that were read so far, by the first id of each block.
#[derive(Debug, Default)]
pub(super) struct TallyCache(Mutex<BTreeMap<u64, BlockTally>>);

impl TallyCache {
    /// Counts the deliveries to `source` that pass `filter` in the block that begins with `first`.
    /// Returns `None` if the block has no tally yet.
    pub(super) fn count_passing(
        &self,
        first: u64,
        source: SourceHash,
        filter: CallFilter,
    ) -> Option<u64> {
        self.lock()
            .get(&first)
            .map(|tally| tally.count_passing(source, filter))
    }

    /// Counts `rows`, which are those of the block that begins with `first`, and keeps the tally.
    pub(super) fn insert(&self, first: u64, rows: &[EncodedRow<'_>]) {
        let tally = BlockTally::from_rows(rows);
        self.lock().insert(first, tally);
    }

    /// Drops the tallies of blocks before the block that begins with `first`.
    pub(super) fn forget_before(&self, first: u64) {
        let mut tallies = self.lock();
        let kept = tallies.split_off(&first);
        *tallies = kept;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, BlockTally>> {
        self.0.lock()
    }
}
