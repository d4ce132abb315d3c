//! Bounded collection: the newest items, and fingerprints of the items that they pushed out.
//!
//! ```text
//!   forgotten: fingerprints, at most 8 × keep        items: whole, at most keep
//!   [f1 f2 f3 … fn] <── pushed out, oldest first ──  [i1 i2 … im] <── push
//!                                      fingerprints: [f  f  …  f ]
//! ```
//!
//! A search compares the fingerprints, which lie side by side in memory, before it looks at an item: each
//! event of a long ticket searches all of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::entity::fingerprint::{ItemFingerprint, packed};

/// Number of fingerprints for each kept item: at 8 bytes each they need less memory than the items.
const FINGERPRINTS_PER_ITEM: usize = 8;

/// Item with an identity within its collection.
pub(super) trait FingerprintSource {
    fn fingerprint(&self) -> ItemFingerprint;
}

/// Bounded collection in the order of arrival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    from = "StoredItems<T>",
    bound(deserialize = "T: Deserialize<'de> + FingerprintSource")
)]
pub(super) struct BoundedItems<T> {
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    items: VecDeque<T>,
    /// Fingerprint of each item, at the same index.
    #[serde(skip_serializing)]
    fingerprints: VecDeque<ItemFingerprint>,
    #[serde(with = "packed", skip_serializing_if = "VecDeque::is_empty")]
    forgotten: VecDeque<ItemFingerprint>,
}

/// Stored form, without the fingerprints that follow from the items.
#[derive(Deserialize)]
struct StoredItems<T> {
    #[serde(default = "VecDeque::new")]
    items: VecDeque<T>,
    #[serde(default, with = "packed")]
    forgotten: VecDeque<ItemFingerprint>,
}

impl<T: FingerprintSource> From<StoredItems<T>> for BoundedItems<T> {
    fn from(stored: StoredItems<T>) -> Self {
        let StoredItems { items, forgotten } = stored;
        Self {
            fingerprints: items.iter().map(FingerprintSource::fingerprint).collect(),
            items,
            forgotten,
        }
    }
}

impl<T> Default for BoundedItems<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            fingerprints: VecDeque::new(),
            forgotten: VecDeque::new(),
        }
    }
}

impl<T> BoundedItems<T> {
    /// Returns the items, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// Returns the newest item with this fingerprint for which `is_match` is true.
    pub(super) fn find(
        &self,
        fingerprint: ItemFingerprint,
        is_match: impl Fn(&T) -> bool,
    ) -> Option<&T> {
        let index = self.index_of(fingerprint, is_match)?;
        self.items.get(index)
    }

    pub(super) fn find_mut(
        &mut self,
        fingerprint: ItemFingerprint,
        is_match: impl Fn(&T) -> bool,
    ) -> Option<&mut T> {
        let index = self.index_of(fingerprint, is_match)?;
        self.items.get_mut(index)
    }

    fn index_of(
        &self,
        fingerprint: ItemFingerprint,
        is_match: impl Fn(&T) -> bool,
    ) -> Option<usize> {
        self.fingerprints
            .iter()
            .zip(&self.items)
            .rposition(|(found, item)| *found == fingerprint && is_match(item))
    }

    /// Returns true if the collection remembers `fingerprint` of an item that was pushed out.
    pub(super) fn has_forgotten(&self, fingerprint: ItemFingerprint) -> bool {
        self.forgotten.contains(&fingerprint)
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.items.len(), self.forgotten.len())
    }
}

impl<T: FingerprintSource> BoundedItems<T> {
    /// Appends an item and pushes out the oldest items beyond `keep`.
    pub(super) fn push(&mut self, item: T, keep: usize) {
        self.fingerprints.push_back(item.fingerprint());
        self.items.push_back(item);

        let surplus = self.items.len().saturating_sub(keep);
        self.items.drain(..surplus);
        self.forgotten.extend(self.fingerprints.drain(..surplus));
        let surplus = self
            .forgotten
            .len()
            .saturating_sub(keep.saturating_mul(FINGERPRINTS_PER_ITEM));
        self.forgotten.drain(..surplus);
    }
}
