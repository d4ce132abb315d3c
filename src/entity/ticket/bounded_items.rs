//! Bounded collection: the newest items, and fingerprints of the items that they pushed out.
//!
//! ```text
//!   forgotten: fingerprints, at most 8 × keep        items: whole, at most keep
//!   [f1 f2 f3 … fn] <── pushed out, oldest first ──  [i1 i2 … im] <── push
//! ```

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
pub(super) struct BoundedItems<T> {
    #[serde(default = "VecDeque::new", skip_serializing_if = "VecDeque::is_empty")]
    items: VecDeque<T>,
    #[serde(default, with = "packed", skip_serializing_if = "VecDeque::is_empty")]
    forgotten: VecDeque<ItemFingerprint>,
}

impl<T> Default for BoundedItems<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            forgotten: VecDeque::new(),
        }
    }
}

impl<T> BoundedItems<T> {
    /// Returns the items, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// Returns the newest item for which `is_match` is true.
    pub(super) fn find(&self, is_match: impl Fn(&T) -> bool) -> Option<&T> {
        self.items.iter().rev().find(|item| is_match(item))
    }

    pub(super) fn find_mut(&mut self, is_match: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.items.iter_mut().rev().find(|item| is_match(item))
    }

    /// Returns true if the collection remembers `fingerprint` of an item that was pushed out. The
    /// closure runs only if any item was.
    pub(super) fn has_forgotten(&self, fingerprint: impl FnOnce() -> ItemFingerprint) -> bool {
        !self.forgotten.is_empty() && self.forgotten.contains(&fingerprint())
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.items.len(), self.forgotten.len())
    }
}

impl<T: FingerprintSource> BoundedItems<T> {
    /// Appends an item and pushes out the oldest items beyond `keep`.
    pub(super) fn push(&mut self, item: T, keep: usize) {
        self.items.push_back(item);
        let surplus = self.items.len().saturating_sub(keep);
        self.forgotten
            .extend(self.items.drain(..surplus).map(|item| item.fingerprint()));
        let surplus = self
            .forgotten
            .len()
            .saturating_sub(keep.saturating_mul(FINGERPRINTS_PER_ITEM));
        self.forgotten.drain(..surplus);
    }
}
