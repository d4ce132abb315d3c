//! Preparation of the projection for the removal of records: what readers need of them later is
//! copied into rows.
//!
//! | needed of a removed record | copied to |
//! |---|---|
//! | first and last record of an entity, for lists of entities | an outline without content |
//! | holder of a unique key | the row of the key |
//! | state of an entity | a snapshot |
//! | open event, which failed or is pending | the kept records |
//! | state that cannot be restored | the kept records: all behind the entity's snapshot |

use std::collections::BTreeSet;
use std::sync::Arc;

use super::event_blocks::{BLOCK_EVENTS, EventBlock, EventMark};
use super::keys::{self, PROJECTION_TREE};
use super::reader::{ProjectionReadError, ProjectionView, SnapshotAndTail};
use super::stored_record::StoredRecord;
use super::unique_key_row::{decode_unique_key_row, encode_unique_key_row};
use super::{row_buffer, snapshot};
use crate::derived::{DerivedStore, DerivedStoreError, DerivedTree};
use crate::event::{EntityKey, Position};
use crate::journal::Journal;

/// Access to the projection's rows for the removal of records. All methods block.
pub struct ProjectionRemoval {
    tree: DerivedTree,
    view: ProjectionView,
}

/// Returns the position before which no state in `store` needs the content that retention removes.
///
/// # Errors
/// [`DerivedStoreError`] when the mark cannot be read.
pub fn prepared_position(store: &Arc<DerivedStore>) -> Result<Position, DerivedStoreError> {
    let Some(row) = store.tree(PROJECTION_TREE)?.get(keys::PREPARED)? else {
        return Ok(Position::FIRST);
    };
    let position = row.as_slice().try_into().map(u64::from_be_bytes);
    let malformed = |_| DerivedStoreError::malformed_row("the mark of prepared states");
    position.map(Position::new).map_err(malformed)
}

/// Open events before a position.
#[derive(Debug, Default)]
pub struct OpenEvents {
    /// Events that are pending, with the newest records that reprocess them.
    pub pending: BTreeSet<Position>,
    /// Events that failed, each with the newest record that reprocesses it.
    pub failed: Vec<(Position, Option<Position>)>,
}

impl OpenEvents {
    /// Returns the positions of all records of these events.
    #[must_use]
    pub fn record_positions(&self) -> BTreeSet<Position> {
        let failed = self.failed.iter();
        let failed = failed.flat_map(|(event, newest)| [Some(*event), *newest]);
        let positions = self.pending.iter().copied().chain(failed.flatten());
        positions.collect()
    }
}

impl ProjectionRemoval {
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

    /// Finds all open events before `end`, oldest first.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read.
    pub fn find_open_events(&self, end: Position) -> Result<OpenEvents, DerivedStoreError> {
        let mut open = OpenEvents::default();
        let last_block = end.get() / BLOCK_EVENTS;
        let blocks = keys::event_block_key(0)..=keys::event_block_key(last_block);
        for row in self.tree.range(blocks) {
            let (key, value) = row?;
            let number = keys::event_block_number(&key);
            let block = number.zip(EventBlock::decode(&value));
            let (number, block) =
                block.ok_or_else(|| DerivedStoreError::malformed_row("an event block"))?;
            let mut slots: Vec<_> = block.newest_first().collect();
            slots.reverse();
            for (place, slot) in slots {
                let event = Position::new(number * BLOCK_EVENTS + place as u64);
                if event >= end {
                    break;
                }
                match slot.mark {
                    EventMark::Processing => {
                        open.pending.insert(event);
                        open.pending.extend(self.newest_attempt(event)?);
                    }
                    EventMark::Failed => {
                        open.failed.push((event, self.newest_attempt(event)?));
                    }
                    EventMark::Completed | EventMark::Attempt => {}
                }
            }
        }
        Ok(open)
    }

    fn newest_attempt(&self, event: Position) -> Result<Option<Position>, DerivedStoreError> {
        let row = self.tree.get(keys::attempts_key(event))?;
        let attempts = row.map(|row| row_buffer::decode_positions(&row));
        Ok(attempts.and_then(|attempts| attempts.last().copied().map(Position::new)))
    }

    /// Returns the number of the entity's newest record that is projected.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the rows cannot be read.
    pub fn last_sequence(&self, entity: &EntityKey) -> Result<Option<u64>, ProjectionReadError> {
        self.view.last_sequence(entity)
    }

    /// Keeps the outline of the entity's first record.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn keep_first(&self, first: &StoredRecord) -> Result<(), DerivedStoreError> {
        let key = keys::first_outline_key(&first.record.entity);
        self.tree.insert(key, first.encode_outline())
    }

    /// Keeps the outline of the entity's last record.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn keep_last(&self, last: &StoredRecord) -> Result<(), DerivedStoreError> {
        let key = keys::last_outline_key(&last.record.entity);
        self.tree.insert(key, last.encode_outline())
    }

    /// Keeps the holder of the unique key that `stored` introduced, if it did and still holds it: an
    /// erased holder has lost its key, and another may have it.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn keep_unique_key(&self, stored: &StoredRecord) -> Result<(), DerivedStoreError> {
        let Some(unique_key) = &stored.record.unique_key else {
            return Ok(());
        };
        let key = keys::unique_key(unique_key);
        let present = self.tree.get(&key)?;
        let holder = present.and_then(|row| decode_unique_key_row(&row));
        if holder.is_none_or(|(position, _)| position != stored.position) {
            return Ok(());
        }
        let row = encode_unique_key_row(stored.position, &stored.record.entity);
        self.tree.insert(key, row)
    }

    /// Returns the sequence of the last record in the entity's newest snapshot.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read.
    pub fn snapshot_sequence(&self, entity: &EntityKey) -> Result<u64, DerivedStoreError> {
        let snapshot = snapshot::load_snapshot(&self.tree, entity)?;
        Ok(snapshot.map_or(0, |(sequence, _)| sequence))
    }

    /// Returns the parts of the entity's state.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub fn snapshot_and_tail(
        &self,
        entity: &EntityKey,
    ) -> Result<SnapshotAndTail, ProjectionReadError> {
        self.view.snapshot_and_tail(entity)
    }

    /// Notes that no state needs content that goes before `end`. The sync of the rows must follow, so
    /// that an older copy of them is told by its mark.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn mark_prepared(&self, end: Position) -> Result<(), DerivedStoreError> {
        self.tree.insert(keys::PREPARED, end.get().to_be_bytes())
    }

    /// Stores the entity's state after its record `sequence`.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub fn store_snapshot(
        &self,
        entity: &EntityKey,
        sequence: u64,
        state: &[u8],
    ) -> Result<(), DerivedStoreError> {
        snapshot::store_snapshot(&self.tree, entity, sequence, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::event::{Kind, Record, Timestamp};
    use crate::table_store::TestStore;

    /// The key of an erased holder came back with a restored record, and took it from the next holder.
    #[test]
    fn a_key_is_kept_for_its_present_holder_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = TestStore::open(folder.path(), Arc::new(SystemClock::default()));
        let journal = Arc::clone(&store.journal) as Arc<dyn Journal>;
        let removal = ProjectionRemoval::open(&store.derived, journal).expect("opens");
        let stored_at = |position: u64, id: &str| {
            let entity = EntityKey::try_new(Kind::Customer, id).expect("valid");
            let at = Timestamp::from_micros(1);
            StoredRecord {
                position: Position::new(position),
                received_at: at,
                committed_at: at,
                record: Record {
                    unique_key: Some("C-1".into()),
                    ..Record::new("leads", entity, "customer.created", at)
                },
                omits_content: false,
            }
        };
        let row = || {
            let row = removal.tree.get(keys::unique_key("C-1")).expect("reads");
            row.and_then(|row| decode_unique_key_row(&row))
        };
        let former = stored_at(3, "1");
        removal.keep_unique_key(&former).expect("writes");
        assert_eq!(row(), None, "an erased holder has no key");

        let present = stored_at(9, "2");
        let holder = encode_unique_key_row(present.position, &present.record.entity);
        removal
            .tree
            .insert(keys::unique_key("C-1"), holder)
            .expect("writes");
        removal.keep_unique_key(&former).expect("writes");
        removal.keep_unique_key(&present).expect("writes");
        assert_eq!(row(), Some((present.position, Some(present.record.entity))));
    }
}
