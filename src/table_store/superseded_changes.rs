//! Filter that drops table changes which later ones have superseded: values that are not those of the
//! rows any more.
//!
//! Removals stay, so that a row of an older copy of the derived data does not come back.

use std::sync::Arc;

use bytes::Bytes;

use super::journaled_table::TableStore;
use crate::event::{EntityKey, Position};
use crate::journal::{ChangeVerdict, ContentFilter, TableChange};

/// Filter for a store that no stage uses: its rows must stay as they are.
pub struct SupersededChanges {
    tables: Arc<TableStore>,
    /// `false` keeps all changes, so that only the encryption of blocks is renewed.
    drops_changes: bool,
}

impl SupersededChanges {
    /// Creates the filter for the rows of `tables`; without `drops_changes` it keeps everything.
    #[must_use]
    pub const fn new(tables: Arc<TableStore>, drops_changes: bool) -> Self {
        Self {
            tables,
            drops_changes,
        }
    }
}

impl ContentFilter for SupersededChanges {
    fn replace_record(&self, _: Position, _: &Bytes) -> Option<Bytes> {
        None
    }

    fn hides_record(&self, _: Position, _: &EntityKey) -> bool {
        false
    }

    fn judge_change(&self, table: u8, change: &TableChange) -> ChangeVerdict {
        let TableChange::Put { key, value } = change else {
            return ChangeVerdict::Keep;
        };
        if !self.drops_changes {
            return ChangeVerdict::Keep;
        }
        match self.tables.stored_value(table, key) {
            Ok(stored) if stored.as_ref() != Some(value) => ChangeVerdict::Drop,
            // A row that cannot be read says nothing about the change.
            Ok(_) | Err(_) => ChangeVerdict::Keep,
        }
    }
}
