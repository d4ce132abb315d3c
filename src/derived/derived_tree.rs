//! One tree of the derived store: rows in the order of their keys.

use std::borrow::Cow;
use std::ops::RangeBounds;
use std::sync::Arc;

use super::derived_store::DerivedStore;
use super::error::DerivedStoreError;
use crate::journal::DecryptionError;

/// Largest value in any tree, in bytes. sled moves page images larger than a quarter of a segment
/// into blob files, which it never syncs. Pages split by item count, so only small values keep
/// pages small.
pub const VALUE_MAX_BYTES: usize = 12 * 1024;

/// Key and value of a row.
pub type DerivedRow = (Vec<u8>, Vec<u8>);

/// Handle of a tree, which keeps its store open. Cheap to clone.
#[derive(Clone)]
pub struct DerivedTree {
    tree: sled::Tree,
    name: Arc<str>,
    // Dropped after the tree: a tree keeps sled's lock.
    store: Arc<DerivedStore>,
}

impl DerivedStore {
    /// Opens the tree `name`, creating it if it does not exist.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when sled fails.
    pub fn tree(self: &Arc<Self>, name: &str) -> Result<DerivedTree, DerivedStoreError> {
        Ok(DerivedTree {
            tree: self.open_tree(name)?,
            name: name.into(),
            store: Arc::clone(self),
        })
    }
}

impl DerivedTree {
    /// Returns the store that the tree belongs to.
    #[must_use]
    pub fn store(&self) -> &Arc<DerivedStore> {
        &self.store
    }

    /// Returns the value under `key`.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when sled fails.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, DerivedStoreError> {
        let key = key.as_ref();
        let stored = self.store.guard(|| self.tree.get(key))?;
        let value = stored.map(|stored| self.decrypt(key, &stored));
        Ok(value.transpose()?)
    }

    /// Puts `value` under `key` and replaces the previous value.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when sled fails.
    pub fn insert(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), DerivedStoreError> {
        let key = key.as_ref();
        let stored = self.encrypt(key, value.as_ref());
        self.store
            .guard(|| self.tree.insert(key, &*stored))
            .map(drop)
    }

    /// Removes the row under `key`, if there is one.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when sled fails.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<(), DerivedStoreError> {
        self.store.guard(|| self.tree.remove(key)).map(drop)
    }

    /// Makes all changes of `batch` at once. Other writers of the store wait meanwhile.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when sled fails.
    pub fn apply_batch(&self, batch: DerivedBatch) -> Result<(), DerivedStoreError> {
        let mut stored = sled::Batch::default();
        for (key, value) in batch.0 {
            match value {
                Some(value) => stored.insert(&*key, &*self.encrypt(&key, &value)),
                None => stored.remove(key),
            }
        }
        self.store.guard(|| self.tree.apply_batch(stored))
    }

    /// Returns the rows whose keys lie in `keys`, in order.
    pub fn range<K: AsRef<[u8]>>(&self, keys: impl RangeBounds<K>) -> DerivedRows<'_> {
        DerivedRows {
            rows: self.tree.range(keys),
            tree: self,
        }
    }

    /// Returns the rows whose keys begin with `prefix`, in order.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> DerivedRows<'_> {
        DerivedRows {
            rows: self.tree.scan_prefix(prefix),
            tree: self,
        }
    }

    /// Returns `true` if the tree has no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// Returns all rows in order.
    pub fn iter(&self) -> DerivedRows<'_> {
        self.range::<&[u8]>(..)
    }

    /// Returns the bytes to store for `value`.
    pub(super) fn encrypt<'v>(&self, key: &[u8], value: &'v [u8]) -> Cow<'v, [u8]> {
        self.store.cipher().encrypt_value(&self.name, key, value)
    }

    fn decrypt(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, DecryptionError> {
        self.store.cipher().decrypt_value(&self.name, key, stored)
    }
}

/// Changes of a tree that are made at once: keys, with `None` for a row to remove.
#[derive(Default)]
pub struct DerivedBatch(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl DerivedBatch {
    /// Adds a row, or replaces it.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let value = value.as_ref().to_vec();
        self.0.push((key.as_ref().to_vec(), Some(value)));
    }

    /// Removes a row, if there is one.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) {
        self.0.push((key.as_ref().to_vec(), None));
    }
}

/// Iterator over rows, from both ends.
pub struct DerivedRows<'t> {
    rows: sled::Iter,
    tree: &'t DerivedTree,
}

impl<'t> DerivedRows<'t> {
    /// Returns the keys without their values.
    pub fn keys(self) -> impl DoubleEndedIterator<Item = Result<Vec<u8>, DerivedStoreError>> + 't {
        self.map(|row| row.map(|(key, _)| key))
    }

    /// Returns the values without their keys.
    pub fn values(
        self,
    ) -> impl DoubleEndedIterator<Item = Result<Vec<u8>, DerivedStoreError>> + 't {
        self.map(|row| row.map(|(_, value)| value))
    }

    fn guard_row(
        &mut self,
        next: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Result<DerivedRow, DerivedStoreError>> {
        let row = self.tree.store.guard(|| next(&mut self.rows).transpose());
        let decrypt = |(key, stored): (sled::IVec, sled::IVec)| {
            let value = self.tree.decrypt(&key, &stored)?;
            Ok((key.to_vec(), value))
        };
        row.transpose().map(|row| row.and_then(decrypt))
    }
}

impl Iterator for DerivedRows<'_> {
    type Item = Result<DerivedRow, DerivedStoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.guard_row(Iterator::next)
    }
}

impl DoubleEndedIterator for DerivedRows<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.guard_row(DoubleEndedIterator::next_back)
    }
}
