//! Rows of the projection as the journal's base file holds them, and the rows that are obsolete once
//! the beginning of the journal is removed.
//!
//! The rows are read while the projection goes on, so some are newer than the image's cursor. That is
//! harmless, as after a crash: projecting the records behind the cursor again writes the same rows.
//!
//! | section | key | value |
//! |---|---|---|
//! | 1 | of the row | the row |
//! | 2 | – | cursor row |
//!
//! | row | obsolete when |
//! |---|---|
//! | timeline | all its records are removed, none is kept, and it is not the entity's last one |
//! | event block | all its records are removed, and none is kept |
//! | attempts | the event is removed and not kept |

use std::collections::BTreeSet;
use std::sync::Arc;

use super::event_blocks::BLOCK_EVENTS;
use super::keys::{self, PROJECTION_TREE, RemovableRow};
use super::row_buffer::{self, ProjectionCursor};
use crate::derived::{DerivedBatch, DerivedRow, DerivedStore, DerivedStoreError, DerivedTree};
use crate::event::Position;
use crate::journal::BaseRow;

const ROW_SECTION: u8 = 1;
const CURSOR_SECTION: u8 = 2;

/// Rows that are removed at once.
const BATCH_ROWS: usize = 1_000;

/// Part of the journal that is removed, with the records that are kept of it.
#[derive(Clone, Debug)]
pub struct RemovedPart {
    /// Position of the first record behind the part.
    pub end: Position,
    /// Positions before `end` of the records that are kept.
    pub kept: BTreeSet<Position>,
}

impl RemovedPart {
    /// Part without any record, so that no row is obsolete.
    #[must_use]
    pub fn none() -> Self {
        Self {
            end: Position::FIRST,
            kept: BTreeSet::new(),
        }
    }

    /// Returns `true` if nobody reads the row again. `next_key` is the key of the row behind it.
    fn is_obsolete(&self, (key, value): &DerivedRow, next_key: Option<&[u8]>) -> bool {
        match keys::removable_row(key) {
            Some(RemovableRow::Timeline { entity }) => {
                let is_last = next_key.is_none_or(|next| !next.starts_with(entity));
                let positions = row_buffer::decode_positions(value);
                let newest = positions.last().copied().unwrap_or(u64::MAX);
                let is_kept = |position: &u64| self.kept.contains(&Position::new(*position));
                !is_last && newest < self.end.get() && !positions.iter().any(is_kept)
            }
            Some(RemovableRow::Events { block }) => {
                let begin = Position::new(block * BLOCK_EVENTS);
                let end = begin.plus(BLOCK_EVENTS);
                end <= self.end && self.kept.range(begin..end).next().is_none()
            }
            Some(RemovableRow::Attempts { event }) => {
                event < self.end && !self.kept.contains(&event)
            }
            None => false,
        }
    }
}

/// Image of the projection's rows, from its cursor on.
pub struct ProjectionImage {
    tree: DerivedTree,
    cursor: ProjectionCursor,
}

impl ProjectionImage {
    /// Begins an image of the projection in `store`: reads the cursor, which must precede the rows.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the cursor cannot be read.
    pub fn begin(store: &Arc<DerivedStore>) -> Result<Self, DerivedStoreError> {
        let tree = store.tree(PROJECTION_TREE)?;
        let cursor = ProjectionCursor::load(&tree)?;
        Ok(Self { tree, cursor })
    }

    /// Returns the position of the first record that may not be in the image.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position::new(self.cursor.position)
    }

    /// Calls `visit` with each row that is not obsolete without `removed`, and with the cursor at
    /// last.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read, or the error of `visit`.
    pub fn visit_rows<E: From<DerivedStoreError>>(
        &self,
        removed: &RemovedPart,
        visit: &mut dyn FnMut(BaseRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rows = self.tree.iter().peekable();
        while let Some(row) = rows.next() {
            let row = row?;
            let is_cursor = row.0 == keys::CURSOR;
            let next_key = rows
                .peek()
                .and_then(|next| Some(&next.as_ref().ok()?.0[..]));
            if is_cursor || removed.is_obsolete(&row, next_key) {
                continue;
            }
            let (key, value) = row;
            visit(BaseRow {
                section: ROW_SECTION,
                key,
                value,
            })?;
        }
        visit(BaseRow {
            section: CURSOR_SECTION,
            key: Vec::new(),
            value: self.cursor.to_row(),
        })
    }

    /// Removes the rows that are obsolete without `removed`. Other rows may be written meanwhile:
    /// an obsolete row is not changed any more.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn remove_obsolete_rows(&self, removed: &RemovedPart) -> Result<(), DerivedStoreError> {
        let (mut batch, mut count) = (DerivedBatch::default(), 0);
        let mut rows = self.tree.iter().peekable();
        while let Some(row) = rows.next() {
            let row = row?;
            let next_key = rows
                .peek()
                .and_then(|next| Some(&next.as_ref().ok()?.0[..]));
            if removed.is_obsolete(&row, next_key) {
                batch.remove(row.0);
                count += 1;
            }
            if count == BATCH_ROWS {
                self.tree.apply_batch(std::mem::take(&mut batch))?;
                count = 0;
            }
        }
        self.tree.apply_batch(batch)
    }
}

/// Loader of a base file's rows into the projection of a derived store.
pub struct ProjectionImageLoader {
    tree: DerivedTree,
    cursor: Option<Vec<u8>>,
}

impl ProjectionImageLoader {
    /// Removes all rows of the projection in `store`, so that those of the base file can be loaded.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn begin(store: &Arc<DerivedStore>) -> Result<Self, DerivedStoreError> {
        store.drop_tree(PROJECTION_TREE)?;
        Ok(Self {
            tree: store.tree(PROJECTION_TREE)?,
            cursor: None,
        })
    }

    /// Loads those of `rows` that belong to the projection.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn load_rows(&mut self, rows: &[BaseRow]) -> Result<(), DerivedStoreError> {
        let mut batch = DerivedBatch::default();
        for row in rows {
            match row.section {
                ROW_SECTION => batch.insert(&row.key, &row.value),
                CURSOR_SECTION => self.cursor = Some(row.value.clone()),
                _ => {}
            }
        }
        self.tree.apply_batch(batch)
    }

    /// Writes the cursor, which must follow a sync of the rows. Returns `false` if there was none.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn finish(self) -> Result<bool, DerivedStoreError> {
        let Some(cursor) = self.cursor else {
            return Ok(false);
        };
        self.tree.insert(keys::CURSOR, cursor)?;
        Ok(true)
    }
}

/// Returns the position before which all records are in the projection in `store`.
///
/// # Errors
/// [`DerivedStoreError`] when the cursor cannot be read.
pub fn stored_position(store: &Arc<DerivedStore>) -> Result<Position, DerivedStoreError> {
    ProjectionImage::begin(store).map(|image| image.position())
}
