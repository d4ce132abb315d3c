//! Copies of what is needed of records that are about to be removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use super::error::RetentionError;
use crate::entity::{self, StateLimits};
use crate::error_chain::format_error_chain;
use crate::event::{EntityKey, Position};
use crate::journal::{FrameEntry, Journal, JournalFrame, JournalReadError};
use crate::panics;
use crate::projection::{OpenEvents, ProjectionRemoval, RemovedPart, StoredRecord};
use crate::table_store::KeptRecordTable;

/// Bytes of the failed events that are kept. Senders cause failed events, so their number must not
/// decide how much is kept; the newest are the most useful ones.
const FAILED_EVENTS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of the records that are kept of entities whose states cannot be restored.
const HELD_RECORDS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Records whose entities are looked at together, a bound of the memory for that.
const RECORDS_AT_ONCE: u64 = 50_000;

/// Records whose content is about to go.
pub(super) struct RecordSelection<'a> {
    pub(super) from: Position,
    /// Position behind the last record.
    pub(super) end: Position,
    /// Tells which records between are concerned.
    pub(super) is_concerned: &'a dyn Fn(&StoredRecord) -> bool,
    /// True if outlines and keys of the records stay in the journal, so that no copies are needed.
    pub(super) outlines_stay: bool,
}

/// Entities whose states cannot be restored, each with the positions of the records behind its
/// snapshot. These records must stay until another version restores the state.
pub(super) type HeldEntities = BTreeMap<EntityKey, BTreeSet<Position>>;

/// Copies what is needed of the records in `selection`: states, and outlines and unique keys unless
/// they stay. Returns the number of the records, and adds the entities without a state to `held`.
///
/// # Errors
/// [`RetentionError`] when a record cannot be read, or a copy cannot be written.
pub(super) fn keep_outlines(
    journal: &dyn Journal,
    removal: &ProjectionRemoval,
    limits: StateLimits,
    selection: &RecordSelection<'_>,
    held: &mut HeldEntities,
    is_stopping: &AtomicBool,
) -> Result<u64, RetentionError> {
    let end = selection.end;
    let (mut position, mut count) = (selection.from, 0);
    while position < end {
        if is_stopping.load(Ordering::Relaxed) {
            return Err(RetentionError::Stopping);
        }
        let pause = end.min(position.plus(RECORDS_AT_ONCE));
        let mut newest: HashMap<EntityKey, StoredRecord> = HashMap::new();
        while position < pause {
            let frame = journal.read_frame_at(position)?;
            let frame = frame.ok_or(JournalReadError::Missing(position))?;
            while position < pause && frame.entry(position).is_some() {
                let stored = StoredRecord::from_frame(&frame, position)
                    .map_err(|_| RetentionError::Record(position))?;
                position = position.plus(1);
                if !(selection.is_concerned)(&stored) {
                    continue;
                }
                count += 1;
                if !selection.outlines_stay {
                    removal.keep_unique_key(&stored)?;
                    if stored.record.sequence == Some(1) {
                        removal.keep_first(&stored)?;
                    }
                }
                if stored.record.sequence.is_some() {
                    newest.insert(stored.record.entity.clone(), without_content(stored));
                }
            }
        }
        for (entity, last) in newest {
            let sequence = last.record.sequence.unwrap_or_default();
            if !selection.outlines_stay && removal.last_sequence(&entity)? == Some(sequence) {
                removal.keep_last(&last)?;
            }
            keep_state(removal, limits, &entity, sequence, held)?;
        }
    }
    Ok(count)
}

/// Makes sure that the state of `entity` does not depend on records up to its record `sequence`. An
/// entity whose state cannot be restored joins `held`.
fn keep_state(
    removal: &ProjectionRemoval,
    limits: StateLimits,
    entity: &EntityKey,
    sequence: u64,
    held: &mut HeldEntities,
) -> Result<(), RetentionError> {
    if held.contains_key(entity) || removal.snapshot_sequence(entity)? >= sequence {
        return Ok(());
    }

    let parts = removal.snapshot_and_tail(entity)?;
    let newest = parts.tail.last().and_then(|last| last.record.sequence);
    // A panic over the records of one entity must not end the node at each start.
    let restored = panics::contain_panic(|| {
        let state = entity::restore_state(entity.kind(), &parts, limits);
        state.map(|state| state.to_snapshot())
    });
    let reason = match restored {
        Ok(Ok(state)) => {
            let newest = newest.unwrap_or(sequence);
            return Ok(removal.store_snapshot(entity, newest, &state)?);
        }
        Ok(Err(error)) => format_error_chain(&error),
        Err(panic) => panic,
    };
    warn!(%entity, error = reason, "entity cannot be restored; retention keeps its records");
    let tail = parts.tail.iter().map(|stored| stored.position);
    held.insert(entity.clone(), tail.collect());
    Ok(())
}

/// Adds to `held` the entities that an earlier removal held, if their states still cannot be restored.
///
/// # Errors
/// [`RetentionError`] when a kept record cannot be read, or a state not be stored.
pub(super) fn find_formerly_held(
    journal: &dyn Journal,
    kept: &KeptRecordTable,
    removal: &ProjectionRemoval,
    limits: StateLimits,
    held: &mut HeldEntities,
) -> Result<(), RetentionError> {
    for position in kept.positions()? {
        let Some(frame) = read_single(journal, position)? else {
            continue;
        };
        let stored = StoredRecord::from_frame(&frame, position)
            .map_err(|_| RetentionError::Record(position))?;
        // Of all other kept records, the state has been stored.
        if let Some(sequence) = stored.record.sequence {
            keep_state(removal, limits, &stored.record.entity, sequence, held)?;
        }
    }
    Ok(())
}

/// Drops the content of `stored`, so that many fit into memory.
fn without_content(stored: StoredRecord) -> StoredRecord {
    let record = stored.record.into_outline();
    StoredRecord { record, ..stored }
}

/// Keeps the records before `end` of open events, of dead letters and of `held` entities, and drops
/// those that are kept and not needed any more. Returns the part that may be removed.
///
/// # Errors
/// [`RetentionError`] when a record cannot be read, or a copy cannot be written.
pub(super) fn keep_needed_records(
    journal: &dyn Journal,
    kept: &KeptRecordTable,
    mut open: OpenEvents,
    dead_letters: &BTreeSet<Position>,
    held: &HeldEntities,
    end: Position,
) -> Result<RemovedPart, RetentionError> {
    drop_oldest_failed(journal, &mut open)?;
    let mut of_rows = open.record_positions();
    of_rows.extend(held_positions(journal, held, end)?);
    let needed: BTreeSet<Position> = of_rows.union(dead_letters).copied().collect();

    let present: BTreeSet<Position> = kept.positions()?.into_iter().collect();
    let obsolete: Vec<Position> = present.difference(&needed).copied().collect();
    kept.drop_records(&obsolete)?;

    let mut failure = None;
    let missing = needed
        .difference(&present)
        .filter(|position| **position < end);
    let frames = missing.map_while(|position| match read_single(journal, *position) {
        Ok(frame) => Some(frame),
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    kept.keep_records(frames.flatten())?;
    let removed = RemovedPart { end, kept: of_rows };
    failure.map_or(Ok(removed), |error| Err(error.into()))
}

/// Returns the positions before `end` of the records that `held` entities need.
fn held_positions(
    journal: &dyn Journal,
    held: &HeldEntities,
    end: Position,
) -> Result<BTreeSet<Position>, RetentionError> {
    let (mut positions, mut bytes) = (BTreeSet::new(), 0);
    for (entity, tail) in held {
        for position in tail.range(..end) {
            let frame = read_single(journal, *position)?;
            bytes += frame.map_or(0, |frame| frame.memory_bytes());
            if bytes > HELD_RECORDS_MAX_BYTES {
                return Err(RetentionError::Held(entity.clone()));
            }
            positions.insert(*position);
        }
    }
    Ok(positions)
}

/// Leaves out the oldest failed events beyond the bound.
fn drop_oldest_failed(journal: &dyn Journal, open: &mut OpenEvents) -> Result<(), RetentionError> {
    let mut bytes = 0;
    let mut count = 0;
    for (event, newest) in open.failed.iter().rev() {
        for position in [Some(*event), *newest].into_iter().flatten() {
            let frame = read_single(journal, position)?;
            bytes += frame.map_or(0, |frame| frame.memory_bytes());
        }
        if bytes > FAILED_EVENTS_MAX_BYTES {
            break;
        }
        count += 1;
    }
    let dropped = open.failed.len() - count;
    if dropped > 0 {
        warn!(dropped, "oldest failed events not kept by retention");
        open.failed.drain(..dropped);
    }
    Ok(())
}

/// Reads the record at `position` as a frame of its own; `None` if it is removed already.
fn read_single(
    journal: &dyn Journal,
    position: Position,
) -> Result<Option<JournalFrame>, JournalReadError> {
    let frame = match journal.read_frame_at(position) {
        Err(JournalReadError::Removed { .. }) => return Ok(None),
        frame => frame?.ok_or(JournalReadError::Missing(position))?,
    };
    let entry: FrameEntry = frame
        .entry(position)
        .cloned()
        .ok_or(JournalReadError::Missing(position))?;
    Ok(Some(JournalFrame {
        first: position,
        committed_at: frame.committed_at,
        entries: vec![entry],
    }))
}
