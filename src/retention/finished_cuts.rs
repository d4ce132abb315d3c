//! Table of finished removals: places up to which no file of this data folder holds the content of a
//! source.
//!
//! | key | value |
//! |---|---|
//! | name of the source | format u8 = 1, incarnation u32, `done` u64 |
//!
//! Integers are big-endian. The incarnation is that of the store whose files were rewritten: a restored
//! one may have files of before.

use std::sync::Arc;

use bytes::{Buf, BufMut};

use super::content_cuts::ContentCuts;
use crate::derived::DerivedStoreError;
use crate::event::{Position, StoreIncarnation};
use crate::journal::TableChange;
use crate::table_store::{JournaledTable, JournaledTableId, TableStore, TableWriteError};

const FORMAT: u8 = 1;

/// Handle of the table. All methods block.
pub(super) struct FinishedCutTable {
    table: JournaledTable,
    incarnation: StoreIncarnation,
}

impl FinishedCutTable {
    /// Opens the table of a store with `incarnation`.
    pub(super) fn open(tables: &Arc<TableStore>, incarnation: StoreIncarnation) -> Self {
        Self {
            table: tables.table(JournaledTableId::FinishedCuts),
            incarnation,
        }
    }

    /// Notes in `cuts`, which are those of the base file, what is finished.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read.
    pub(super) fn finish(&self, cuts: &mut ContentCuts) -> Result<(), DerivedStoreError> {
        for (key, value) in self.table.scan(b"", None, usize::MAX)? {
            let malformed = || DerivedStoreError::malformed_row("a finished removal of content");
            let source = std::str::from_utf8(&key).map_err(|_| malformed())?;
            let (incarnation, done) = decode_row(&value).ok_or_else(malformed)?;
            if incarnation == self.incarnation {
                cuts.finish_source(source, done);
            }
        }
        Ok(())
    }

    /// Writes that `cuts` are finished, and returns once that is durable.
    ///
    /// # Errors
    /// [`TableWriteError`] when the store fails.
    pub(super) fn store(&self, cuts: &ContentCuts) -> Result<(), TableWriteError> {
        let mut puts = Vec::new();
        for (source, cut) in cuts.iter() {
            let key = source.as_bytes().to_vec();
            let value = encode_row(self.incarnation, cut.before);
            if self.table.get(&key)?.as_ref() != Some(&value) {
                puts.push(TableChange::Put { key, value });
            }
        }
        if puts.is_empty() {
            return Ok(());
        }
        self.table.write(puts)
    }
}

fn encode_row(incarnation: StoreIncarnation, done: Position) -> Vec<u8> {
    let mut value = vec![FORMAT];
    value.put_u32(incarnation.get());
    value.put_u64(done.get());
    value
}

fn decode_row(mut value: &[u8]) -> Option<(StoreIncarnation, Position)> {
    value.try_get_u8().ok().filter(|format| *format == FORMAT)?;
    let incarnation = StoreIncarnation::new(value.try_get_u32().ok()?);
    let done = Position::new(value.try_get_u64().ok()?);
    value.is_empty().then_some((incarnation, done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table_store::open_test_tables;

    const STORE: StoreIncarnation = StoreIncarnation::new(0x3f9a_2c41);

    #[test]
    fn the_bytes_of_a_row_never_change() {
        let row = encode_row(STORE, Position::new(9));
        assert_eq!(hex::encode(&row), "013f9a2c410000000000000009");
        assert_eq!(decode_row(&row), Some((STORE, Position::new(9))));
        assert_eq!(decode_row(&row[1..]), None);
    }

    #[test]
    fn a_finished_removal_is_known_to_the_store_alone_whose_files_were_rewritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = open_test_tables(folder.path());
        let mut cuts = ContentCuts::default();
        cuts.advance("support", Position::new(9));
        let table = FinishedCutTable::open(&tables, STORE);
        table.store(&cuts).expect("writes");

        let mut loaded = cuts.clone();
        table.finish(&mut loaded).expect("reads");
        assert_eq!(loaded, cuts.clone().into_done());
        // The base file may be that of the removal before.
        let mut former = ContentCuts::default();
        table.finish(&mut former).expect("reads");
        assert_eq!(former, cuts.clone().into_done());

        let mut restored = cuts.clone();
        let other = FinishedCutTable::open(&tables, StoreIncarnation::new(1));
        other.finish(&mut restored).expect("reads");
        assert_eq!(restored, cuts);
    }
}
