//! One removal of segments from the beginning of the journal.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::base_writing::write_base;
use super::content_cuts::ContentCuts;
use super::deps::RetentionDeps;
use super::error::RetentionError;
use super::record_keeping::{self, HeldEntities, RecordSelection};
use crate::derived::DerivedStore;
use crate::journal::{Journal, LogStart};
use crate::projection::{ProjectionImage, ProjectionRemoval};
use crate::table_store::{KeptRecordTable, TableImage};

/// Result of an attempt to remove segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutOutcome {
    /// The segments are removed; the base file has this length in bytes.
    Removed { base_bytes: u64 },
    /// The base file would take more than the segments, and was given up.
    NotWorthwhile,
    /// The derived data on the disk has not reached the new start yet.
    NotDerived,
    /// A backup reads the journal, whose beginning must stay until it has ended.
    InUse,
}

/// Removes the segments before `start`, which take `freed_bytes`.
///
/// # Errors
/// [`RetentionError`]; nothing that is needed is removed then.
pub(super) fn remove_segments(
    deps: &RetentionDeps,
    start: LogStart,
    freed_bytes: u64,
    is_stopping: &AtomicBool,
) -> Result<CutOutcome, RetentionError> {
    let RetentionDeps {
        journal, derived, ..
    } = deps;
    let as_journal = || Arc::clone(journal) as Arc<dyn Journal>;
    let removal = ProjectionRemoval::open(derived, as_journal())?;
    deps.tables.write_cursor()?;
    if !is_derived_up_to(derived, start)? {
        return Ok(CutOutcome::NotDerived);
    }

    // Everything that is needed later is copied before the image is taken.
    let former = journal.start();
    let selection = RecordSelection {
        from: former.position,
        end: start.position,
        is_concerned: &|_| true,
        outlines_stay: false,
    };
    let limits = deps.state_limits;
    let mut held = HeldEntities::new();
    record_keeping::keep_outlines(
        journal.as_ref(),
        &removal,
        limits,
        &selection,
        &mut held,
        is_stopping,
    )?;
    let kept = KeptRecordTable::new(&deps.tables);
    record_keeping::find_formerly_held(journal.as_ref(), &kept, &removal, limits, &mut held)?;
    deps.metrics.set_retention_held_entities(held.len());
    let open = removal.find_open_events(start.position)?;
    let dead_letters = deps.owed.dead_letters_before(start.position);
    let removed = record_keeping::keep_needed_records(
        journal.as_ref(),
        &kept,
        open,
        &dead_letters,
        &held,
        start.position,
    )?;

    // The rows on the disk must not need a removed record, whatever happens from now on.
    deps.tables.write_cursor()?;
    derived.sync()?;
    if !is_derived_up_to(derived, start)? {
        return Ok(CutOutcome::NotDerived);
    }
    let cuts = ContentCuts::load(journal)?;
    let start_and_cuts = (start, &cuts);
    let base = write_base(
        journal,
        derived,
        start_and_cuts,
        &removed,
        freed_bytes,
        is_stopping,
    )?;
    let Some(base) = base else {
        return Ok(CutOutcome::NotWorthwhile);
    };

    // Readers stop to expect the records before rows and files go.
    let Some((base_bytes, segments)) = journal.begin_with_base(base, start)? else {
        return Ok(CutOutcome::InUse);
    };
    ProjectionImage::begin(derived)?.remove_obsolete_rows(&removed)?;
    journal.remove_segments(segments)?;
    Ok(CutOutcome::Removed { base_bytes })
}

/// Returns `true` if the cursors have reached `start`.
fn is_derived_up_to(derived: &Arc<DerivedStore>, start: LogStart) -> Result<bool, RetentionError> {
    let position = ProjectionImage::begin(derived)?.position();
    let change = TableImage::begin(derived)?.next_change();
    Ok(position >= start.position && change >= start.change)
}
