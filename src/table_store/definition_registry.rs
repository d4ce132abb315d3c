//! Registry of the definitions of one sort: all of them in memory, each change on the disk before it
//! becomes visible.
//!
//! ```text
//!  change ──> lock of the sort's own registry ──> put or remove: durable ──> publish: visible
//! ```
//!
//! A sort of definitions (subscriptions, accounts, tokens) adds its snapshot, which it builds itself,
//! and the rules of its changes. It lets its changes come one after another.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::definitions::{DefinitionError, DefinitionTree};
use super::error::TableWriteError;
use super::journaled_table::{JournaledTableId, TableStore};

/// Names of a sort of definitions.
#[derive(Clone, Copy, Debug)]
pub struct DefinitionSort {
    /// Table that holds the definitions.
    pub table: JournaledTableId,
    /// Name of one definition in errors, such as `account`.
    pub one: &'static str,
    /// Name of all in errors and in encrypted values; another one would not decrypt them.
    pub many: &'static str,
}

impl DefinitionSort {
    /// Returns the bytes behind the format byte of the value under `id`.
    ///
    /// # Errors
    /// [`DefinitionOpenError::Format`] for another format than `format`, and
    /// [`DefinitionOpenError::Corrupt`] for no bytes.
    pub fn split_format<'b>(
        &self,
        id: &str,
        bytes: &'b [u8],
        format: u8,
    ) -> Result<&'b [u8], DefinitionOpenError> {
        match bytes.split_first() {
            Some((&found, rest)) if found == format => Ok(rest),
            Some((&found, _)) => Err(DefinitionOpenError::Format {
                sort: self.one,
                id: id.to_owned(),
                found,
            }),
            None => Err(self.corrupt(id)),
        }
    }

    /// Makes the error of malformed bytes under `id`.
    #[must_use]
    pub fn corrupt(&self, id: &str) -> DefinitionOpenError {
        DefinitionOpenError::Corrupt {
            sort: self.one,
            id: id.to_owned(),
        }
    }
}

/// Failure to load the definitions of a store.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionOpenError {
    /// The store failed, or the encryption key is missing or wrong.
    #[error("cannot read the {sort}")]
    Unreadable {
        /// Name of the definitions, such as `accounts`.
        sort: &'static str,
        /// Reason for which they cannot be read.
        #[source]
        source: DefinitionError,
    },
    /// A later version wrote a definition.
    #[error(
        "{sort} {id} has format {found}, which this version does not read; \
         start the version that wrote it"
    )]
    Format {
        /// Name of a definition, such as `account`.
        sort: &'static str,
        /// Id of the unreadable definition.
        id: String,
        /// Format byte of the stored definition.
        found: u8,
    },
    /// The bytes of a definition are malformed.
    #[error("{sort} {id} cannot be read; restore the data folder from a backup")]
    Corrupt {
        /// Name of a definition, such as `account`.
        sort: &'static str,
        /// Id of the unreadable definition.
        id: String,
    },
}

/// Definitions of one sort in one opening of the store, with a snapshot `S` of all of them.
pub struct DefinitionRegistry<S> {
    sort: DefinitionSort,
    definitions: DefinitionTree,
    snapshot: RwLock<Arc<S>>,
    changes: watch::Sender<u64>,
    failed: watch::Sender<Option<String>>,
}

impl<S> DefinitionRegistry<S> {
    /// Loads the definitions in `tables`: `load` adds each of them to the snapshot.
    ///
    /// # Errors
    /// [`DefinitionOpenError`] when the store or the key fails, and the errors of `load`.
    pub fn open(
        tables: &Arc<TableStore>,
        sort: DefinitionSort,
        mut load: impl FnMut(&mut S, &str, &[u8]) -> Result<(), DefinitionOpenError>,
    ) -> Result<Self, DefinitionOpenError>
    where
        S: Default,
    {
        let unreadable = |source| DefinitionOpenError::Unreadable {
            sort: sort.many,
            source,
        };
        let table = tables.table(sort.table);
        let cipher = tables.cipher().clone();
        let definitions = DefinitionTree::open(table, sort.many, cipher).map_err(unreadable)?;
        let mut loaded = S::default();
        for (id, value) in definitions.read_all().map_err(unreadable)? {
            load(&mut loaded, &id, &value)?;
        }
        Ok(Self {
            sort,
            definitions,
            snapshot: RwLock::new(Arc::new(loaded)),
            changes: watch::Sender::new(0),
            failed: watch::Sender::new(None),
        })
    }

    /// Returns all definitions as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<S> {
        Arc::clone(&self.snapshot.read())
    }

    /// Watches the number of changes. A change is visible in [`DefinitionRegistry::snapshot`] before
    /// it is counted.
    #[must_use]
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Watches for a failed write: `Some` with the reason. The store must be reopened then.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Stores `value` under `key`, and returns once it is durable. Blocks.
    ///
    /// # Errors
    /// [`TableWriteError`]; the store must be reopened then.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), TableWriteError> {
        let written = self.definitions.put(key, value);
        written.inspect_err(|error| self.report_write_failure(error))
    }

    /// Removes the value under `key`, and returns once the removal is durable. Blocks.
    ///
    /// # Errors
    /// As for [`DefinitionRegistry::put`].
    pub fn remove(&self, key: &str) -> Result<(), TableWriteError> {
        let removed = self.definitions.remove(key);
        removed.inspect_err(|error| self.report_write_failure(error))
    }

    /// Makes `snapshot` visible, after its change is durable: nobody may act on a change that a crash
    /// can undo.
    pub fn publish(&self, snapshot: S) {
        *self.snapshot.write() = Arc::new(snapshot);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Reports that memory and disk may differ, which only reopening the store resolves.
    fn report_write_failure(&self, error: &TableWriteError) {
        let reason = format!("{} could not be written: {error}", self.sort.many);
        self.failed.send_replace(Some(reason));
    }
}
