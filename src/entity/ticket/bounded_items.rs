//! The newest items of a collection, and a trace of the ones that were pushed out.
//!
//! ```text
//!   forgotten: fingerprints, at most 8 × keep        items: whole, at most keep
//!   [f1 f2 f3 … fn] <── pushed out, oldest first ──  [i1 i2 … im] <── push
//! ```

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::entity::fingerprint::{ItemFingerprint, packed};

/// How many fingerprints are remembered for each item that is kept: at 8 bytes each they cost less
/// than the items do.
const FINGERPRINTS_PER_ITEM: usize = 8;

/// An item with an identity within its collection.
pub(super) trait FingerprintSource {
    fn fingerprint(&self) -> ItemFingerprint;
}

/// Items in the order in which they came, bounded.
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
    /// The items, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// The newest item that `is` the one asked for.
    pub(super) fn find(&self, is: impl Fn(&T) -> bool) -> Option<&T> {
        self.items.iter().rev().find(|item| is(item))
    }

    pub(super) fn find_mut(&mut self, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.items.iter_mut().rev().find(|item| is(item))
    }

    /// Whether an item with the fingerprint that `fingerprint` computes was pushed out and is still
    /// remembered.
    pub(super) fn has_forgotten(&self, fingerprint: impl FnOnce() -> ItemFingerprint) -> bool {
        !self.forgotten.is_empty() && self.forgotten.contains(&fingerprint())
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.items.len(), self.forgotten.len())
    }
}

impl<T: FingerprintSource> BoundedItems<T> {
    /// Adds the newest item and pushes out the oldest ones beyond `keep`.
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
