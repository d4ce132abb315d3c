//! Loading of the derived data from the journal's base file.

use std::sync::Arc;

use tracing::info;

use super::error::BaseLoadError;
use crate::derived::DerivedStore;
use crate::journal::{BaseReader, Journal, LogStart, SegmentJournal};
use crate::projection::{self, ProjectionImageLoader};
use crate::table_store::{self, TableImageLoader};

/// Loads the projection and the tables from the base file if `derived` lacks what was derived from
/// content that is removed: it was lost, or is an older copy. Blocks.
///
/// # Errors
/// [`BaseLoadError`] when the base file is damaged or the store fails.
pub fn load_base(
    journal: &SegmentJournal,
    derived: &Arc<DerivedStore>,
) -> Result<(), BaseLoadError> {
    let start = journal.start();
    let is_derived = projection::stored_position(derived)?
        >= start.position.max(start.content_position)
        && projection::prepared_position(derived)? >= start.content_position
        && table_store::stored_change(derived)? >= start.change;
    if is_derived {
        return Ok(());
    }

    info!(position = %start.position, "loading derived data from the base file of the journal");
    let mut base = open_base(journal, start)?;
    let mut tables = TableImageLoader::begin(derived)?;
    let mut projection = ProjectionImageLoader::begin(derived)?;
    while let Some(rows) = base.read_rows()? {
        tables.load_rows(&rows)?;
        projection.load_rows(&rows)?;
    }

    // The cursors come last: without them the next opening begins again.
    derived.sync()?;
    let is_complete = tables.finish()? && projection.finish()?;
    derived.sync()?;
    is_complete
        .then_some(())
        .ok_or(BaseLoadError::Incomplete(start.position))
}

/// Replaces the projection by that of the base file, if content was removed. Blocks.
///
/// # Errors
/// [`BaseLoadError`] when the base file is damaged or the store fails.
pub fn load_projection_base(
    journal: &SegmentJournal,
    derived: &Arc<DerivedStore>,
) -> Result<(), BaseLoadError> {
    let start = journal.start();
    if !start.needs_base() {
        return Ok(());
    }
    let mut base = open_base(journal, start)?;
    let mut projection = ProjectionImageLoader::begin(derived)?;
    while let Some(rows) = base.read_rows()? {
        projection.load_rows(&rows)?;
    }
    derived.sync()?;
    let is_complete = projection.finish()?;
    derived.sync()?;
    is_complete
        .then_some(())
        .ok_or(BaseLoadError::Incomplete(start.position))
}

fn open_base(journal: &SegmentJournal, start: LogStart) -> Result<BaseReader, BaseLoadError> {
    journal
        .read_base()?
        .ok_or(BaseLoadError::Incomplete(start.position))
}
