//! How many deliveries to each subscriber a block holds: counted when the block is first looked through, and remembered while
//! the ring has it, so that a page of one subscriber's deliveries reads the blocks that it lies in and no others.
//!
//! Only blocks on the disk are remembered, since these never change. One has a few hundred rows, so that its tally takes
//! two or three kilobytes at most, and a few bytes where few subscribers share it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::{Mutex, MutexGuard};

use super::block::{Filter, Slot};
use super::row::{self, Direction};

/// Stands for a subscriber's name. Two names that shared one would only spoil the number of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(u64);

impl Name {
    pub(super) fn of(source: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Of one block: each subscriber with its failed and its successful deliveries.
#[derive(Debug)]
struct Tally(Box<[(Name, [u32; 2])]>);

impl Tally {
    fn of(slots: &[Slot<'_>]) -> Self {
        let mut counts = BTreeMap::<Name, [u32; 2]>::new();
        for slot in slots.iter().filter(|slot| slot.class.direction() == Direction::Outgoing) {
            let name = Name::of(row::source(slot.row).unwrap_or_default());
            counts.entry(name).or_default()[usize::from(slot.class.is_successful())] += 1;
        }
        Self(counts.into_iter().collect())
    }

    fn passing(&self, name: Name, filter: Filter) -> u64 {
        let Ok(place) = self.0.binary_search_by_key(&name, |(name, _)| *name) else { return 0 };
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
pub(super) struct Tallies(Mutex<BTreeMap<u64, Tally>>);

impl Tallies {
    /// How many deliveries to `name` that pass `filter` the block has that begins with `first`, if it was looked through.
    pub(super) fn passing(&self, first: u64, name: Name, filter: Filter) -> Option<u64> {
        self.lock().get(&first).map(|tally| tally.passing(name, filter))
    }

    /// Remembers what the block is that begins with `first`.
    pub(super) fn note(&self, first: u64, slots: &[Slot<'_>]) {
        let tally = Tally::of(slots);
        self.lock().insert(first, tally);
    }

    /// Forgets the blocks before the one that begins with `first`.
    pub(super) fn forget_before(&self, first: u64) {
        let mut tallies = self.lock();
        let kept = tallies.split_off(&first);
        *tallies = kept;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Tally>> {
        self.0.lock()
    }
}
