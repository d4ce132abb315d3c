//! Rows of all tables in the derived store: values cut into chunks, and the cursor row.
//!
//! ```text
//! tree `tables`         key    table u8 | key of the row | chunk u16 BE
//!                       value  flags u8 (1 = last chunk) | a chunk of the row's value
//! tree `tables.cursor`  key    `next`
//!                       value  format u8 = 1 | number of the next change to apply u64 BE
//! ```
//!
//! Values are cut because sled must not hold large ones. Chunk 0 of each row precedes all rows with
//! greater keys, but the other chunks may lie between those rows: a key may be the beginning of
//! another one. So chunks after the first are read by their own keys.

use std::ops::Bound;
use std::sync::Arc;

use crate::derived::{DerivedRow, DerivedStore, DerivedStoreError, DerivedTree, VALUE_MAX_BYTES};
use crate::journal::{TableChange, TableChanges};

const ROWS_TREE: &str = "tables";
const CURSOR_TREE: &str = "tables.cursor";
const CURSOR_KEY: &str = "next";
const CURSOR_FORMAT: u8 = 1;

const FLAGS_BYTES: usize = 1;
const LAST_CHUNK_FLAG: u8 = 1;
const CHUNK_BYTES: usize = VALUE_MAX_BYTES - FLAGS_BYTES;

/// Access to the stored rows, without any order between readers and writers.
pub(super) struct AppliedRows {
    rows: DerivedTree,
    cursor: DerivedTree,
}

impl AppliedRows {
    pub(super) fn open(store: &Arc<DerivedStore>) -> Result<Self, DerivedStoreError> {
        Ok(Self {
            rows: store.tree(ROWS_TREE)?,
            cursor: store.tree(CURSOR_TREE)?,
        })
    }

    /// Returns the number of the next change to apply: all changes before it are in the rows.
    pub(super) fn load_cursor(&self) -> Result<u64, DerivedStoreError> {
        let Some(row) = self.cursor.get(CURSOR_KEY)? else {
            return Ok(1);
        };
        let next = row.split_first_chunk::<1>().and_then(|(format, number)| {
            let number = number.try_into().ok().map(u64::from_be_bytes);
            number.filter(|_| *format == [CURSOR_FORMAT])
        });
        next.ok_or_else(|| DerivedStoreError::malformed_row("the cursor of the tables"))
    }

    /// Syncs the rows, then writes the cursor row.
    pub(super) fn store_cursor(&self, next: u64) -> Result<(), DerivedStoreError> {
        self.rows.store().sync()?;
        self.insert_cursor(Self::encode_cursor(next))
    }

    pub(super) fn encode_cursor(next: u64) -> Vec<u8> {
        [&[CURSOR_FORMAT][..], &next.to_be_bytes()].concat()
    }

    /// Writes the cursor row. The rows must be synced already.
    pub(super) fn insert_cursor(&self, value: Vec<u8>) -> Result<(), DerivedStoreError> {
        self.cursor.insert(CURSOR_KEY, value)
    }

    /// Returns the tree with the chunks of all rows.
    pub(super) fn tree(&self) -> &DerivedTree {
        &self.rows
    }

    /// Removes all rows and the cursor; the cursor goes first, so that no rows are missed after a
    /// crash.
    pub(super) fn drop_trees(store: &DerivedStore) -> Result<(), DerivedStoreError> {
        store.drop_tree(CURSOR_TREE)?;
        store.drop_tree(ROWS_TREE)
    }

    /// Makes all changes in order. Making them again later has the same result.
    pub(super) fn apply(&self, changes: &TableChanges) -> Result<(), DerivedStoreError> {
        let stored = |key: &[u8]| [&[changes.table], key].concat();
        for change in &changes.changes {
            match change {
                TableChange::Put { key, value } => self.put(&stored(key), value)?,
                TableChange::Remove { key } => self.remove_chunks(&stored(key), 0)?,
                TableChange::RemovePrefix { prefix } => self.remove_prefix(&stored(prefix))?,
            }
        }
        Ok(())
    }

    /// Returns the value under `key` of `table`.
    pub(super) fn get(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>, DerivedStoreError> {
        let key = [&[table], key].concat();
        let first = self.rows.get(chunk_key(&key, 0))?;
        first.map(|first| self.join_chunks(&key, first)).transpose()
    }

    /// Returns the first `limit` rows of `table` whose keys begin with `prefix` and sort after
    /// `after`.
    pub(super) fn scan(
        &self,
        table: u8,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DerivedRow>, DerivedStoreError> {
        let prefix = [&[table], prefix].concat();
        let from = match after {
            Some(key) => Bound::Excluded(chunk_key(&[&[table], key].concat(), 0)),
            None => Bound::Included(prefix.clone()),
        };
        let mut found = Vec::new();
        for row in self.rows.range((from, Bound::Unbounded)) {
            let (stored_key, value) = row?;
            if found.len() == limit || !stored_key.starts_with(&prefix) {
                break;
            }
            // Also skips a shorter key whose chunk number looks like the end of the prefix.
            let (key, chunk) = split_chunk_key(&stored_key)?;
            if chunk != 0 || !key.starts_with(&prefix) {
                continue;
            }
            found.push((key[1..].to_vec(), self.join_chunks(key, value)?));
        }
        Ok(found)
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), DerivedStoreError> {
        let chunks = value.chunks(CHUNK_BYTES);
        // An empty value needs a chunk too, or it could not be told from an absent one.
        let chunks = chunks.chain(value.is_empty().then_some(&[][..]));
        let mut chunks = chunks.zip(0_u16..).peekable();
        let mut next = 0;
        while let Some((chunk, number)) = chunks.next() {
            let is_last = chunks.peek().is_none();
            let flags = if is_last { LAST_CHUNK_FLAG } else { 0 };
            self.rows
                .insert(chunk_key(key, number), [&[flags], chunk].concat())?;
            next = number + 1;
        }
        self.remove_chunks(key, next)
    }

    /// Removes the chunks of the row `key` from number `from` on, the last one first: after a crash
    /// no chunk is left behind a gap, where nobody would find it.
    fn remove_chunks(&self, key: &[u8], from: u16) -> Result<(), DerivedStoreError> {
        let mut end = from;
        while self.rows.get(chunk_key(key, end))?.is_some() {
            end += 1;
        }
        (from..end)
            .rev()
            .try_for_each(|number| self.rows.remove(chunk_key(key, number)))
    }

    fn remove_prefix(&self, prefix: &[u8]) -> Result<(), DerivedStoreError> {
        for stored_key in self.rows.scan_prefix(prefix).keys() {
            let stored_key = stored_key?;
            if split_chunk_key(&stored_key)?.0.starts_with(prefix) {
                self.rows.remove(stored_key)?;
            }
        }
        Ok(())
    }

    /// Joins the chunk `first` of the row `key` with the chunks after it.
    fn join_chunks(&self, key: &[u8], first: Vec<u8>) -> Result<Vec<u8>, DerivedStoreError> {
        let mut value = Vec::new();
        let mut chunk = Some(first);
        for next in 1.. {
            let (flags, bytes) = chunk
                .as_ref()
                .and_then(|chunk| chunk.split_first())
                .ok_or_else(|| DerivedStoreError::malformed_row("a chunk of a table's row"))?;
            value.extend_from_slice(bytes);
            if flags & LAST_CHUNK_FLAG != 0 {
                break;
            }
            chunk = self.rows.get(chunk_key(key, next))?;
        }
        Ok(value)
    }
}

fn chunk_key(key: &[u8], number: u16) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

fn split_chunk_key(stored: &[u8]) -> Result<(&[u8], u16), DerivedStoreError> {
    let (key, number) = stored
        .split_last_chunk()
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| DerivedStoreError::malformed_row("a key of a table's row"))?;
    Ok((key, u16::from_be_bytes(*number)))
}
