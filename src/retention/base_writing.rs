//! Writing of the journal's base file from the derived rows.

use std::sync::Arc;

use super::error::RetentionError;
use crate::derived::DerivedStore;
use crate::journal::{BaseRow, Journal, LogStart, SegmentJournal};
use crate::projection::{ProjectionImage, RemovedPart};
use crate::table_store::TableImage;

/// Writes the base file anew, if there is one, from the rows in `derived`. Nothing that was removed
/// from these rows is in it. The cursors of the rows must be written. Blocks.
///
/// # Errors
/// [`RetentionError`]; the former base file stays then.
pub fn renew_base(
    journal: &SegmentJournal,
    derived: &Arc<DerivedStore>,
) -> Result<(), RetentionError> {
    let start = journal.start();
    if start.has_removed() {
        write_base(journal, derived, start, &RemovedPart::none(), u64::MAX)?;
    }
    Ok(())
}

/// Writes the base file and returns its length; `None` if it is longer than `bytes_max`.
pub(super) fn write_base(
    journal: &SegmentJournal,
    derived: &Arc<DerivedStore>,
    start: LogStart,
    removed: &RemovedPart,
    bytes_max: u64,
) -> Result<Option<u64>, RetentionError> {
    // Both cursors are read before any row.
    let projection = ProjectionImage::begin(derived)?;
    let tables = TableImage::begin(derived)?;
    let mut base = journal.begin_base(&start)?;
    let mut push = |row: BaseRow| -> Result<(), RetentionError> {
        // Rows that are too many are not written, only counted.
        if base.written_bytes() <= bytes_max {
            base.push_row(&row)?;
        }
        Ok(())
    };
    projection.visit_rows(removed, &mut push)?;
    tables.visit_rows(&mut push)?;
    if base.written_bytes() > bytes_max {
        return Ok(None);
    }
    Ok(Some(base.finish()?))
}
