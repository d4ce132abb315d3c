//! Last part of an erasure, while the store is opened and no stage uses it: live rows that hold
//! erased content are removed, and so is what was written while the segments were rewritten.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::erased_entity::{ErasedEntity, ErasureFilter};
use super::erasure_error::ErasureError;
use super::erasure_table::{Erasure, ErasureState, ErasureTable};
use crate::call_log::{self, CallLogOpenError};
use crate::derived::DerivedStore;
use crate::enrichment;
use crate::event::{FingerprintFn, Position};
use crate::journal::{ContentFilter, Journal, SegmentJournal};
use crate::projection::ProjectionErasure;
use crate::subscriber;
use crate::table_store::{KeptRecordTable, TableStore};

/// Removes from the rows and from the newest segments what they still hold of the entities whose
/// erasure has come so far, and returns these erasures. Only copying the rows to new files gets the
/// content off the disk. Blocks.
///
/// # Errors
/// [`ErasureError`] when the store fails; the next opening begins again.
pub fn remove_remains(
    tables: &Arc<TableStore>,
    derived: &Arc<DerivedStore>,
    journal: &Arc<SegmentJournal>,
    fingerprint: FingerprintFn,
) -> Result<Vec<Erasure>, ErasureError> {
    let as_journal = Arc::clone(journal) as Arc<dyn Journal>;
    let projection = ProjectionErasure::open(derived, as_journal)?;
    let mut due = Vec::new();
    let mut erased = Vec::new();
    let table = ErasureTable::open(tables);
    table.restart_restored(journal.incarnations())?;
    for erasure in table.list()? {
        let Some(before) = erasure
            .position
            .filter(|_| erasure.state == ErasureState::Copying)
        else {
            continue;
        };
        let entity = &erasure.entity;
        // A projection that has lost its newest rows must catch up first.
        if let Some(positions) = projection.find_record_positions(entity, before)? {
            erased.push(ErasedEntity {
                id: erasure.id,
                entity: entity.clone(),
                before,
                positions: Arc::new(positions.into_iter().collect()),
            });
            due.push(erasure);
        }
    }
    if due.is_empty() {
        return Ok(due);
    }

    let positions: BTreeSet<Position> = erased
        .iter()
        .flat_map(|erased| erased.positions.iter().copied())
        .collect();
    let filter = ErasureFilter {
        erased,
        fingerprint,
    };
    subscriber::remove_dead_letters(tables, &|entity, position| {
        filter.is_erased_record(entity, position)
    })?;
    enrichment::remove_progress(tables, &|position| positions.contains(&position))?;
    KeptRecordTable::new(tables)
        .replace_records(&|position, record| filter.replace_record(position, record))?;
    projection.remove_unique_keys(&positions, &|entity, position| {
        filter.is_erased_record(entity, position)
    })?;
    for erased in &filter.erased {
        projection.erase_outlines(&erased.entity, &|position, record| {
            filter.erase_record(position, record)
        })?;
        projection.remove_older_snapshots(&erased.entity)?;
    }
    // Nothing says any more to whom an event belonged that retention has removed.
    let start = journal.start().position;
    let erased_calls = call_log::erase_calls(derived, &|event| {
        event.position() < start || positions.contains(&event.position())
    });
    match erased_calls {
        // The stage itself would do so when it finds the damage.
        Err(CallLogOpenError::Corrupt(_)) => call_log::clear_call_log(derived)?,
        other => other?,
    }

    // An attempt or an enrichment that ran meanwhile may have written rows to the newest segments.
    let first = due.iter().map(|erasure| erasure.segment.unwrap_or(0)).min();
    let is_new = |number: &u64| first.is_none_or(|first| *number >= first);
    for number in journal.segment_numbers().into_iter().filter(is_new) {
        journal.rewrite_segment(number, &filter)?;
    }
    Ok(due)
}

/// Hides the content of all erasures under way, apart from those that are `removed`, before any
/// stage reads the journal.
///
/// # Errors
/// [`ErasureError`] when the table of erasures cannot be read.
pub fn hide_erased(
    tables: &Arc<TableStore>,
    journal: &SegmentJournal,
    fingerprint: FingerprintFn,
    removed: &[Erasure],
) -> Result<(), ErasureError> {
    let is_removed = |id| removed.iter().any(|erasure| erasure.id == id);
    let listed = ErasureTable::open(tables).list()?.into_iter();
    let under_way =
        listed.filter(|erasure| erasure.state != ErasureState::Done && !is_removed(erasure.id));
    let erased: Vec<_> = under_way
        .filter_map(|erasure| {
            Some(ErasedEntity {
                id: erasure.id,
                before: erasure.position?,
                entity: erasure.entity,
                positions: Arc::default(),
            })
        })
        .collect();
    if !erased.is_empty() {
        let filter = ErasureFilter {
            erased,
            fingerprint,
        };
        journal.set_filter(Some(Arc::new(filter) as Arc<dyn ContentFilter>));
    }
    Ok(())
}
