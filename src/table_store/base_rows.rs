//! Rows of all tables as the journal's base file holds them.
//!
//! The rows are read while changes go on, so the image mixes versions, even chunks of one row. Each
//! of those changes has a number from the image's cursor on. Making them again in order writes each
//! changed row whole, so that the rows of no mixed version remain.
//!
//! | section | key | value |
//! |---|---|---|
//! | 3 | of a row's chunk | the chunk |
//! | 4 | – | cursor row |

use std::sync::Arc;

use super::applied_rows::AppliedRows;
use crate::derived::{DerivedBatch, DerivedStore, DerivedStoreError};
use crate::journal::BaseRow;

const ROW_SECTION: u8 = 3;
const CURSOR_SECTION: u8 = 4;

/// Image of the rows of all tables, from its cursor on.
pub struct TableImage {
    rows: AppliedRows,
    next_change: u64,
}

impl TableImage {
    /// Begins an image of the tables in `derived`: reads the cursor, which must precede the rows.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the cursor cannot be read.
    pub fn begin(derived: &Arc<DerivedStore>) -> Result<Self, DerivedStoreError> {
        let rows = AppliedRows::open(derived)?;
        let next_change = rows.load_cursor()?;
        Ok(Self { rows, next_change })
    }

    /// Returns the number of the first change that may not be in the image.
    #[must_use]
    pub const fn next_change(&self) -> u64 {
        self.next_change
    }

    /// Calls `visit` with each row, and with the cursor at last.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read, or the error of `visit`.
    pub fn visit_rows<E: From<DerivedStoreError>>(
        &self,
        visit: &mut dyn FnMut(BaseRow) -> Result<(), E>,
    ) -> Result<(), E> {
        for row in self.rows.tree().iter() {
            let (key, value) = row?;
            visit(BaseRow {
                section: ROW_SECTION,
                key,
                value,
            })?;
        }
        visit(BaseRow {
            section: CURSOR_SECTION,
            key: Vec::new(),
            value: AppliedRows::encode_cursor(self.next_change),
        })
    }
}

/// Loader of a base file's rows into the tables of a derived store.
pub struct TableImageLoader {
    rows: AppliedRows,
    cursor: Option<Vec<u8>>,
}

impl TableImageLoader {
    /// Removes all rows of the tables in `derived`, so that those of the base file can be loaded.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn begin(derived: &Arc<DerivedStore>) -> Result<Self, DerivedStoreError> {
        AppliedRows::drop_trees(derived)?;
        Ok(Self {
            rows: AppliedRows::open(derived)?,
            cursor: None,
        })
    }

    /// Loads those of `rows` that belong to the tables.
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
        self.rows.tree().apply_batch(batch)
    }

    /// Writes the cursor, which must follow a sync of the rows. Returns `false` if there was none.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn finish(self) -> Result<bool, DerivedStoreError> {
        let Some(cursor) = self.cursor else {
            return Ok(false);
        };
        self.rows.insert_cursor(cursor)?;
        Ok(true)
    }
}

/// Returns the number of the next change to apply to the tables in `derived`.
///
/// # Errors
/// [`DerivedStoreError`] when the cursor cannot be read.
pub fn stored_change(derived: &Arc<DerivedStore>) -> Result<u64, DerivedStoreError> {
    AppliedRows::open(derived)?.load_cursor()
}
