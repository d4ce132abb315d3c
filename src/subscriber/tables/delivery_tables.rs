//! Access to the stored rows by their keys.

use super::row_key::RowKey;
use crate::derived::DerivedStoreError;
use crate::journal::TableChange;
use crate::table_store::{JournaledTable, TableWriteError};

/// Rows of one opening of the store. Cheap to clone. All methods block.
#[derive(Clone)]
pub(crate) struct DeliveryTables(JournaledTable);

impl DeliveryTables {
    pub(in crate::subscriber) fn new(table: JournaledTable) -> Self {
        Self(table)
    }

    /// Returns the value under `key`.
    pub(in crate::subscriber) fn get(
        &self,
        key: &RowKey,
    ) -> Result<Option<Vec<u8>>, DerivedStoreError> {
        self.0.get(key.as_bytes())
    }

    /// Returns the first `limit` rows whose keys begin with `prefix` and sort after `after`, in the
    /// order of their keys.
    pub(in crate::subscriber) fn scan(
        &self,
        prefix: &RowKey,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, DerivedStoreError> {
        let after = after.map(RowKey::as_bytes);
        let rows = self.0.scan(prefix.as_bytes(), after, limit)?;
        Ok(rows
            .into_iter()
            .map(|(key, value)| (RowKey::from_stored(key), value))
            .collect())
    }

    /// Returns the value under `key` as `decode` reads it.
    pub(super) fn get_decoded<T>(
        &self,
        key: &RowKey,
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, DerivedStoreError> {
        let value = self.get(key)?;
        value
            .map(|value| decode(&value).ok_or_else(malformed_row))
            .transpose()
    }

    /// Returns the rows of [`Self::scan`] as `decode` reads them.
    pub(super) fn scan_decoded<T>(
        &self,
        prefix: &RowKey,
        after: Option<&RowKey>,
        limit: usize,
        decode: impl Fn(&RowKey, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, DerivedStoreError> {
        let rows = self.scan(prefix, after, limit)?;
        rows.iter()
            .map(|(key, value)| decode(key, value).ok_or_else(malformed_row))
            .collect()
    }

    /// Makes `changes` in order, all of them or none. Returns as soon as they are on the disk.
    pub(in crate::subscriber) fn write(
        &self,
        changes: Vec<TableChange>,
    ) -> Result<(), TableWriteError> {
        self.0.write(changes)
    }
}

/// Error for a row that no version of this program writes.
pub(super) fn malformed_row() -> DerivedStoreError {
    DerivedStoreError::malformed_row("a row of the delivery tables")
}
