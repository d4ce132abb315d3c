//! Writing of the journal's base file from the derived rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::content_cuts::ContentCuts;
use super::error::RetentionError;
use crate::derived::DerivedStore;
use crate::journal::{BaseRow, BaseWriter, Journal, LogStart, SegmentJournal};
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
    write_base_again(journal, derived, journal.start())
}

/// Writes the base file anew as [`renew_base`] does, with which the journal begins at `start`. Blocks.
///
/// # Errors
/// As for [`renew_base`].
pub fn write_base_again(
    journal: &SegmentJournal,
    derived: &Arc<DerivedStore>,
    start: LogStart,
) -> Result<(), RetentionError> {
    if start.needs_base() {
        let never = AtomicBool::new(false);
        let base = write_base(
            journal,
            derived,
            (start, &ContentCuts::load(journal)?),
            &RemovedPart::none(),
            u64::MAX,
            &never,
        )?;
        if let Some(base) = base {
            base.finish()?;
        }
    }
    Ok(())
}

/// Writes the rows of a new base file, with which the journal begins at `start` and lacks the content
/// before `cuts`; `None` if it is longer than `bytes_max`.
///
/// # Errors
/// [`RetentionError`]; [`RetentionError::Stopping`] once `is_stopping` is set.
pub(super) fn write_base(
    journal: &SegmentJournal,
    derived: &Arc<DerivedStore>,
    (start, cuts): (LogStart, &ContentCuts),
    removed: &RemovedPart,
    bytes_max: u64,
    is_stopping: &AtomicBool,
) -> Result<Option<BaseWriter>, RetentionError> {
    // Both cursors are read before any row.
    let projection = ProjectionImage::begin(derived)?;
    let tables = TableImage::begin(derived)?;
    let mut base = journal.begin_base(&start)?;
    let mut push = |row: BaseRow| -> Result<(), RetentionError> {
        if is_stopping.load(Ordering::Relaxed) {
            return Err(RetentionError::Stopping);
        }
        // Rows that are too many are not written, only counted.
        if base.written_bytes() <= bytes_max {
            base.push_row(&row)?;
        }
        Ok(())
    };
    cuts.to_rows().try_for_each(&mut push)?;
    projection.visit_rows(removed, &mut push)?;
    tables.visit_rows(&mut push)?;
    if base.written_bytes() > bytes_max {
        return Ok(None);
    }
    Ok(Some(base))
}
