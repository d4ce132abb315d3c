//! Rows of erased entities, in a projection that no thread uses.
//!
//! | row | after the erasure |
//! |---|---|
//! | unique key of a record | removed |
//! | outline of a removed record | has no content |
//! | snapshot before the newest one | removed |

use std::collections::BTreeSet;
use std::sync::Arc;

use super::keys::{self, PROJECTION_TREE};
use super::reader::{ProjectionReadError, ProjectionView};
use super::row_buffer::ProjectionCursor;
use super::stored_record::StoredRecord;
use super::{snapshot, unique_key_row};
use crate::derived::{DerivedStore, DerivedStoreError, DerivedTree};
use crate::event::{EntityKey, Position, Record};
use crate::journal::Journal;

/// Access to the rows of erased entities. All methods block.
pub struct ProjectionErasure {
    tree: DerivedTree,
    view: ProjectionView,
}

impl ProjectionErasure {
    /// Opens the rows of `store`, which were derived from `journal`.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn open(
        store: &Arc<DerivedStore>,
        journal: Arc<dyn Journal>,
    ) -> Result<Self, DerivedStoreError> {
        let tree = store.tree(PROJECTION_TREE)?;
        Ok(Self {
            view: ProjectionView::new(tree.clone(), journal),
            tree,
        })
    }

    /// Returns the positions of all records of `entity` before the record at `erasure`, without
    /// those that are removed; `None` if the projection does not reach behind that record.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub fn find_record_positions(
        &self,
        entity: &EntityKey,
        erasure: Position,
    ) -> Result<Option<Vec<Position>>, ProjectionReadError> {
        if ProjectionCursor::load(&self.tree)?.position <= erasure.get() {
            return Ok(None);
        }
        self.view.record_positions(entity, erasure).map(Some)
    }

    /// Removes the unique keys whose holder and its first record are erased, as `is_erased` says.
    /// Rows of earlier versions do not name the holder; their records are at one of `positions`.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub fn remove_unique_keys(
        &self,
        positions: &BTreeSet<Position>,
        is_erased: &dyn Fn(&EntityKey, Position) -> bool,
    ) -> Result<(), ProjectionReadError> {
        for row in self.tree.scan_prefix([keys::UNIQUE_KEY]) {
            let (key, value) = row?;
            let decoded = unique_key_row::decode_unique_key_row(&value);
            let (position, holder) =
                decoded.ok_or_else(|| DerivedStoreError::malformed_row("a row of a unique key"))?;
            let is_erased = match &holder {
                Some(holder) => is_erased(holder, position),
                None => positions.contains(&position),
            };
            if is_erased {
                self.tree.remove(key)?;
            }
        }
        Ok(())
    }

    /// Takes the content out of the outlines of `entity`: `erase` returns the erased form of a
    /// record, or `None` if the record stays as it is.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub fn erase_outlines(
        &self,
        entity: &EntityKey,
        erase: &dyn Fn(Position, &Record) -> Option<Record>,
    ) -> Result<(), ProjectionReadError> {
        for key in [
            keys::first_outline_key(entity),
            keys::last_outline_key(entity),
        ] {
            let Some(row) = self.tree.get(&key)? else {
                continue;
            };
            let outline = StoredRecord::from_outline(row.into());
            let outline = outline
                .ok_or_else(|| DerivedStoreError::malformed_row("an outline of a record"))?;
            if let Some(record) = erase(outline.position, &outline.record) {
                let erased = StoredRecord { record, ..outline };
                self.tree.insert(&key, erased.encode_outline())?;
            }
        }
        Ok(())
    }

    /// Removes the snapshots of `entity` before its newest one, which is that of the erasure or a
    /// later one. Others may have been stored when the erasure was projected already.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub fn remove_older_snapshots(&self, entity: &EntityKey) -> Result<(), ProjectionReadError> {
        Ok(snapshot::remove_older_snapshots(&self.tree, entity)?)
    }
}
