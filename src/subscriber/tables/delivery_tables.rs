//! Access to the stored rows: reads that join chunks, and unsynced writes.

use std::sync::Arc;

use super::row_key::RowKey;
use crate::journal::{DataStore, StoreWriteError, VALUE_MAX_BYTES};

/// Name of sled's tree that holds all rows.
const TREE: &str = "deliveries";

/// Flag of the last chunk of a value.
const LAST_CHUNK_FLAG: u8 = 1;
const CHUNK_FLAGS_BYTES: usize = 1;

/// Rows of one opening of the store. Cheap to clone. All methods block.
#[derive(Clone)]
pub(crate) struct DeliveryTables {
    tree: sled::Tree,
    store: Arc<DataStore>,
}

impl DeliveryTables {
    pub(in crate::subscriber) fn open(store: Arc<DataStore>) -> Result<Self, StoreWriteError> {
        Ok(Self {
            tree: store.tree(TREE)?,
            store,
        })
    }

    #[cfg(test)]
    pub(super) fn tree(&self) -> &sled::Tree {
        &self.tree
    }

    /// Returns the value under `key`; `None` if there is no whole value.
    pub(in crate::subscriber) fn get(
        &self,
        key: &RowKey,
    ) -> Result<Option<Vec<u8>>, StoreWriteError> {
        // The scan goes by prefix, so its first row may have a longer key.
        let rows = self.scan(key, None, 1)?;
        Ok(rows
            .into_iter()
            .find(|(found, _)| found == key)
            .map(|(_, value)| value))
    }

    /// Returns the first `limit` rows whose keys begin with `prefix` and sort after `after`, in the
    /// order of their keys.
    pub(in crate::subscriber) fn scan(
        &self,
        prefix: &RowKey,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, StoreWriteError> {
        let from = match after {
            Some(key) => key.to_chunk_key(u16::MAX),
            None => prefix.as_bytes().to_vec(),
        };
        let mut whole: Vec<(RowKey, Vec<u8>)> = Vec::new();
        let mut unfinished: Option<(RowKey, Vec<u8>)> = None;
        for row in self.tree.range(from..) {
            let (stored_key, stored_value) = row?;
            if whole.len() == limit || !stored_key.starts_with(prefix.as_bytes()) {
                break;
            }
            let (key, number) = split_chunk_key(&stored_key)?;
            let (flags, chunk) = stored_value.split_first().ok_or_else(malformed_row)?;

            if number == 0 {
                unfinished = Some((key.clone(), Vec::new()));
            }
            // Chunks after the last one were left by a longer value when a crash came before their
            // removal.
            let Some((_, value)) = unfinished.as_mut().filter(|(begun, _)| *begun == key) else {
                continue;
            };
            value.extend_from_slice(chunk);
            if flags & LAST_CHUNK_FLAG != 0 {
                whole.extend(unfinished.take());
            }
        }
        Ok(whole)
    }

    /// Writes `value` under `key` and replaces the previous value. Does not sync.
    pub(in crate::subscriber) fn put(
        &self,
        key: &RowKey,
        value: &[u8],
    ) -> Result<(), StoreWriteError> {
        let chunks = value.chunks(VALUE_MAX_BYTES - CHUNK_FLAGS_BYTES);
        // An empty value needs a chunk too, or it could not be told from an absent one.
        let mut chunks = chunks
            .chain(value.is_empty().then_some(&[][..]))
            .zip(0_u16..)
            .peekable();
        let mut next = 0;
        while let Some((chunk, number)) = chunks.next() {
            let flags = if chunks.peek().is_none() {
                LAST_CHUNK_FLAG
            } else {
                0
            };
            self.tree
                .insert(key.to_chunk_key(number), [&[flags], chunk].concat())?;
            next = number + 1;
        }

        self.remove_chunks(key, next)
    }

    /// Removes the value under `key`. Does not sync.
    pub(in crate::subscriber) fn remove(&self, key: &RowKey) -> Result<(), StoreWriteError> {
        self.remove_chunks(key, 0)
    }

    /// Removes all rows whose keys begin with `prefix`, except those for which `is_kept` returns
    /// `true`. Does not sync.
    pub(in crate::subscriber) fn remove_prefix(
        &self,
        prefix: &RowKey,
        is_kept: impl Fn(&RowKey) -> bool,
    ) -> Result<(), StoreWriteError> {
        for stored_key in self.tree.scan_prefix(prefix.as_bytes()).keys() {
            let stored_key = stored_key?;
            if !is_kept(&split_chunk_key(&stored_key)?.0) {
                self.tree.remove(stored_key)?;
            }
        }
        Ok(())
    }

    /// Returns as soon as all earlier writes and removals are on the disk.
    pub(in crate::subscriber) fn sync(&self) -> Result<(), StoreWriteError> {
        self.store.sync()
    }

    fn remove_chunks(&self, key: &RowKey, from: u16) -> Result<(), StoreWriteError> {
        let chunks = self
            .tree
            .range(key.to_chunk_key(from)..=key.to_chunk_key(u16::MAX));
        chunks
            .keys()
            .try_for_each(|key| self.tree.remove(key?).map(drop))
    }
}

fn split_chunk_key(stored: &[u8]) -> Result<(RowKey, u16), StoreWriteError> {
    RowKey::split_chunk_key(stored).ok_or_else(malformed_row)
}

/// Error for a row that no version of this program writes.
pub(super) fn malformed_row() -> StoreWriteError {
    StoreWriteError::ReportableBug("a row of the delivery tables is malformed".into())
}
