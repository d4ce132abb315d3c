//! Kept records: those that a dead letter or an open event still needs although their segments are
//! removed from the journal.
//!
//! ```text
//! key    position u64 BE
//! value  format u8 = 1 | committed_at i64 BE µs | received_at i64 BE µs | record
//! ```

use std::mem;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::error::TableWriteError;
use super::journaled_table::{JournaledTable, JournaledTableId, TableStore};
use crate::derived::DerivedStoreError;
use crate::event::{Position, Timestamp};
use crate::journal::{FrameEntry, JournalFrame, KeptRecordError, KeptRecords, TableChange};

const FORMAT: u8 = 1;
/// Size of the changes that are written at once.
const WRITE_BYTES: usize = 4 * 1024 * 1024;
/// Rows that are read at once.
const PAGE_ROWS: usize = 64;

/// Table of the records that are kept of removed segments.
#[derive(Clone)]
pub struct KeptRecordTable(JournaledTable);

impl KeptRecordTable {
    /// Returns the table in `store`.
    #[must_use]
    pub fn new(store: &Arc<TableStore>) -> Self {
        Self(store.table(JournaledTableId::KeptRecords))
    }

    /// Returns the positions of all kept records, in order. Blocks.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read.
    pub fn positions(&self) -> Result<Vec<Position>, DerivedStoreError> {
        let mut positions = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.0.scan(&[], after.as_deref(), PAGE_ROWS)?;
            let Some((last, _)) = rows.last() else {
                return Ok(positions);
            };
            after = Some(last.clone());
            for (key, _) in &rows {
                positions.push(decode_key(key).ok_or_else(malformed_row)?);
            }
        }
    }

    /// Keeps each record of `frames`. Returns when they are durable. Blocks.
    ///
    /// # Errors
    /// [`TableWriteError`] when the store fails; it must then be opened again.
    pub fn keep_records(
        &self,
        frames: impl IntoIterator<Item = JournalFrame>,
    ) -> Result<(), TableWriteError> {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for frame in frames {
            for (entry, offset) in frame.entries.iter().zip(0..) {
                bytes += entry.bytes.len();
                changes.push(TableChange::Put {
                    key: encode_key(frame.first.plus(offset)),
                    value: encode_value(frame.committed_at, entry),
                });
            }
            if bytes >= WRITE_BYTES {
                self.0.write(mem::take(&mut changes))?;
                bytes = 0;
            }
        }
        self.write_some(changes)
    }

    /// Drops the records at `positions`. Blocks.
    ///
    /// # Errors
    /// [`TableWriteError`] when the store fails; it must then be opened again.
    pub fn drop_records(&self, positions: &[Position]) -> Result<(), TableWriteError> {
        let remove = |position: &Position| TableChange::Remove {
            key: encode_key(*position),
        };
        self.write_some(positions.iter().map(remove).collect())
    }

    /// Writes the records anew that `replace` replaces, and returns their number. Blocks.
    ///
    /// # Errors
    /// [`TableWriteError`] when the store fails; it must then be opened again.
    pub fn replace_records(
        &self,
        replace: &dyn Fn(Position, &Bytes) -> Option<Bytes>,
    ) -> Result<usize, TableWriteError> {
        let mut count = 0;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.0.scan(&[], after.as_deref(), PAGE_ROWS)?;
            let Some((last, _)) = rows.last() else {
                return Ok(count);
            };
            after = Some(last.clone());
            let puts = rows.iter().filter_map(|(key, value)| {
                let value = replace_kept_record(key, value, replace)?;
                let key = key.clone();
                Some(TableChange::Put { key, value })
            });
            let puts: Vec<_> = puts.collect();
            count += puts.len();
            self.write_some(puts)?;
        }
    }

    /// Tells if `replace` would replace one of the records. Blocks.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read.
    pub fn any_replaced(
        &self,
        replace: &dyn Fn(Position, &Bytes) -> Option<Bytes>,
    ) -> Result<bool, DerivedStoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.0.scan(&[], after.as_deref(), PAGE_ROWS)?;
            let Some((last, _)) = rows.last() else {
                return Ok(false);
            };
            after = Some(last.clone());
            let is_replaced = |(key, value): &(Vec<u8>, Vec<u8>)| {
                replace_kept_record(key, value, replace).is_some()
            };
            if rows.iter().any(is_replaced) {
                return Ok(true);
            }
        }
    }

    fn write_some(&self, changes: Vec<TableChange>) -> Result<(), TableWriteError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.0.write(changes)
    }
}

/// Returns the row of a kept record with the record that `replace` puts in its place; `None` if that
/// keeps it, or the row is malformed.
#[must_use]
pub fn replace_kept_record(
    key: &[u8],
    value: &[u8],
    replace: &dyn Fn(Position, &Bytes) -> Option<Bytes>,
) -> Option<Vec<u8>> {
    let frame = decode_value(decode_key(key)?, value.to_vec().into())?;
    let entry = frame.entries.first()?;
    let replaced = FrameEntry {
        received_at: entry.received_at,
        bytes: replace(frame.first, &entry.bytes)?,
    };
    Some(encode_value(frame.committed_at, &replaced))
}

impl KeptRecords for TableStore {
    fn find_kept_record(
        &self,
        position: Position,
    ) -> Result<Option<JournalFrame>, KeptRecordError> {
        let value = self.get_row(JournaledTableId::KeptRecords, &encode_key(position))?;
        let frame = value.map(|value| decode_value(position, value.into()));
        Ok(frame
            .map(|frame| frame.ok_or_else(malformed_row))
            .transpose()?)
    }
}

fn encode_key(position: Position) -> Vec<u8> {
    position.get().to_be_bytes().to_vec()
}

fn decode_key(key: &[u8]) -> Option<Position> {
    let number = key.try_into().ok().map(u64::from_be_bytes);
    number.map(Position::new)
}

fn encode_value(committed_at: Timestamp, entry: &FrameEntry) -> Vec<u8> {
    let mut value = Vec::with_capacity(17 + entry.bytes.len());
    value.put_u8(FORMAT);
    value.put_i64(committed_at.as_micros());
    value.put_i64(entry.received_at.as_micros());
    value.put_slice(&entry.bytes);
    value
}

fn decode_value(first: Position, mut value: Bytes) -> Option<JournalFrame> {
    value.try_get_u8().ok().filter(|format| *format == FORMAT)?;
    let committed_at = Timestamp::from_micros(value.try_get_i64().ok()?);
    let received_at = Timestamp::from_micros(value.try_get_i64().ok()?);
    let entry = FrameEntry {
        received_at,
        bytes: value,
    };
    Some(JournalFrame {
        first,
        committed_at,
        entries: vec![entry],
    })
}

fn malformed_row() -> DerivedStoreError {
    DerivedStoreError::malformed_row("a kept record")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table_store::open_test_tables;

    fn frame(first: u64, record: &[u8]) -> JournalFrame {
        let entry = FrameEntry {
            received_at: Timestamp::from_micros(2),
            bytes: record.to_vec().into(),
        };
        JournalFrame {
            first: Position::new(first),
            committed_at: Timestamp::from_micros(1),
            entries: vec![entry],
        }
    }

    #[test]
    fn the_bytes_of_a_kept_record_never_change() {
        let frame = frame(7, b"r");
        assert_eq!(hex::encode(encode_key(frame.first)), "0000000000000007");
        assert_eq!(
            hex::encode(encode_value(frame.committed_at, &frame.entries[0])),
            "010000000000000001000000000000000272"
        );
    }

    #[test]
    fn a_kept_record_is_found_until_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open_test_tables(folder.path());
        let table = KeptRecordTable::new(&store);
        let frames = (1..=200).map(|first| frame(first, &[first as u8; 30_000]));
        table.keep_records(frames).expect("writes");
        let found = store.find_kept_record(Position::new(9)).expect("reads");
        assert_eq!(found, Some(frame(9, &[9; 30_000])));
        assert_eq!(table.positions().expect("reads").len(), 200);

        let replace = |position: Position, record: &Bytes| {
            let is_chosen = position.get() == 70 && record.len() > 1;
            is_chosen.then(|| Bytes::from_static(b"r"))
        };
        assert!(table.any_replaced(&replace).expect("reads"));
        assert_eq!(table.replace_records(&replace).expect("writes"), 1);
        assert!(!table.any_replaced(&replace).expect("reads"));
        for (position, record) in [(70, vec![b'r']), (71, vec![71; 30_000])] {
            let found = store.find_kept_record(Position::new(position));
            let expected = frame(position, &record);
            assert_eq!(found.expect("reads"), Some(expected));
        }

        table.drop_records(&[Position::new(9)]).expect("writes");
        let found = store.find_kept_record(Position::new(9)).expect("reads");
        assert_eq!(found, None);
        assert_eq!(table.positions().expect("reads").len(), 199);
    }
}
