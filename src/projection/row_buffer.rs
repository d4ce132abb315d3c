//! Write buffer of the projection: rows that are derived from the journal but not yet written to
//! the tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::event_blocks::{self, EventBlock, EventMark, EventSlot};
use super::keys;
use super::snapshot::{self, PendingSnapshots};
use super::unique_key_row::encode_unique_key_row;
use crate::derived::{DerivedStoreError, DerivedTree};
use crate::event::{EntityKey, Kind, Position, Record, Timestamp, fingerprint_key};

/// Number of positions in one row of a timeline.
pub(super) const CHUNK_RECORDS: u64 = 64;

/// Number of records that reprocess or resolve one event and are remembered. Beyond it the number
/// of the next attempt, which is part of the attempt's claim, stays the same, so only one attempt
/// is accepted in each idempotency window.
const ATTEMPTS_MAX: usize = 1_000;

/// Number of timeline rows that stay in memory after they were written, for entities that get more
/// records.
const CLEAN_CHUNKS_MAX: usize = 8 * 1024;

/// Cursor row: the position of the projection, and the counts at exactly that position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProjectionCursor {
    /// Position before which all records are in the tree.
    pub(super) position: u64,
    /// Number of entities of each kind.
    #[serde(rename = "births")]
    entity_counts: BTreeMap<Kind, u64>,
    /// Highest id that the node has allocated.
    #[serde(default, rename = "drawn")]
    pub(super) highest_id: u64,
}

impl ProjectionCursor {
    /// Returns the number of entities of all kinds.
    pub(super) fn entity_count(&self) -> u64 {
        self.entity_counts.values().sum()
    }

    /// Encodes the cursor row, as the base file keeps it.
    pub(super) fn to_row(&self) -> Vec<u8> {
        to_row(self)
    }

    pub(super) fn load(tree: &DerivedTree) -> Result<Self, DerivedStoreError> {
        let start = Self {
            position: Position::FIRST.get(),
            entity_counts: BTreeMap::new(),
            highest_id: 0,
        };
        tree.get(keys::CURSOR)?
            .map_or(Ok(start), |row| parse_row(&row))
    }
}

/// Size at which the name table is full, in bytes, with a margin below the largest value. A bound
/// is needed because senders of configured sources choose the names of their events.
const NAMES_MAX_BYTES: usize = 8 * 1024;

/// Number of all names that came after the name table was full.
pub(super) const OTHER_NAME: u16 = u16::MAX;

/// Name table: the names that event blocks refer to by number. A name's number never changes.
#[derive(Clone, Debug, Default)]
pub(super) struct NameTable {
    list: Vec<String>,
    numbers: HashMap<String, u16>,
    bytes: usize,
}

impl NameTable {
    pub(super) fn load(tree: &DerivedTree) -> Result<Self, DerivedStoreError> {
        let list: Vec<String> = tree
            .get(keys::NAMES)?
            .map_or(Ok(Vec::new()), |row| parse_row(&row))?;
        let mut names = Self::default();
        list.into_iter().for_each(|name| names.add_name(name));
        Ok(names)
    }

    /// Returns the number of `name`. For an unknown name, returns `None` while the table has room,
    /// and [`OTHER_NAME`] once the table is full.
    pub(super) fn number_of(&self, name: &str) -> Option<u16> {
        self.numbers
            .get(name)
            .copied()
            .or_else(|| self.is_full().then_some(OTHER_NAME))
    }

    fn number_or_add(&mut self, name: &str) -> u16 {
        if self.number_of(name).is_none() {
            self.add_name(name.to_owned());
        }
        self.number_of(name).unwrap_or(OTHER_NAME)
    }

    fn add_name(&mut self, name: String) {
        // The size in the row: JSON with escapes, and a comma.
        self.bytes += to_row(&name).len() + 1;
        self.numbers.insert(
            name.clone(),
            u16::try_from(self.list.len()).unwrap_or(OTHER_NAME),
        );
        self.list.push(name);
    }

    fn is_full(&self) -> bool {
        self.bytes > NAMES_MAX_BYTES
    }
}

fn parse_row<T: serde::de::DeserializeOwned>(row: &[u8]) -> Result<T, DerivedStoreError> {
    serde_json::from_slice(row)
        .map_err(|_| DerivedStoreError::malformed_row("a row of the projection"))
}

fn to_row<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and texts always serialize")
}

/// Row of a timeline: positions of up to 64 consecutive records; 0 means no record yet.
#[derive(Default)]
struct TimelineChunk {
    positions: Vec<u64>,
    dirty: bool,
}

/// Rows that differ from the tree, and the cursor after them.
pub(super) struct RowBuffer {
    tree: DerivedTree,
    pub(super) cursor: ProjectionCursor,
    names: NameTable,
    /// Number of names that are in the tree.
    names_written: usize,
    chunks: HashMap<(EntityKey, u32), TimelineChunk>,
    blocks: BTreeMap<u64, EventBlock>,
    new_entities: Vec<(Vec<u8>, String)>,
    attempts: BTreeMap<Position, Vec<u64>>,
    unique_keys: Vec<(Vec<u8>, Vec<u8>)>,
    /// Events that became pending (`true`) or were resolved (`false`).
    pending_events: BTreeMap<Position, bool>,
    /// Events that are pending again after they were resolved.
    reopened: Vec<Position>,
    snapshots: HashMap<EntityKey, (u64, Vec<u8>)>,
    dirty_rows: usize,
}

impl RowBuffer {
    pub(super) fn open(tree: DerivedTree) -> Result<Self, DerivedStoreError> {
        let cursor = ProjectionCursor::load(&tree)?;
        let names = NameTable::load(&tree)?;
        Ok(Self {
            tree,
            cursor,
            names_written: names.list.len(),
            names,
            chunks: HashMap::new(),
            blocks: BTreeMap::new(),
            new_entities: Vec::new(),
            attempts: BTreeMap::new(),
            unique_keys: Vec::new(),
            pending_events: BTreeMap::new(),
            reopened: Vec::new(),
            snapshots: HashMap::new(),
            dirty_rows: 0,
        })
    }

    /// Returns the number of changed rows that are not written yet.
    pub(super) fn dirty_rows(&self) -> usize {
        self.dirty_rows
    }

    /// Projects the record at `position`, which must be the cursor's position.
    pub(super) fn project_record(
        &mut self,
        position: Position,
        received_at: Timestamp,
        record: &Record,
        pending_snapshots: &PendingSnapshots,
    ) -> Result<(), DerivedStoreError> {
        // The list of events.
        let mark = self.derive_mark(position, record)?;
        let slot = EventSlot {
            received_at,
            id: fingerprint_key("", record.entity.id()),
            source: self.names.number_or_add(&record.source),
            event_type: self.names.number_or_add(&record.event_type),
            kind: self.names.number_or_add(record.entity.kind().as_str()),
            mark,
            has_warnings: !record.warnings.is_empty(),
        };
        let (block, place) = event_blocks::block_place(position);
        self.load_block(block)?.set_slot(place, slot);

        // The entity's timeline, and the state that the entity offered for this record.
        if let Some(sequence) = record.sequence {
            self.extend_timeline(&record.entity, sequence, position)?;
            if let Some(state) = pending_snapshots.take_projected(&record.entity, sequence) {
                self.dirty_rows += 1;
                self.snapshots.insert(record.entity.clone(), state);
            }
            // A state without bytes is the empty one. It takes the place of all older snapshots.
            if record.erases() {
                self.dirty_rows += 1;
                self.snapshots
                    .insert(record.entity.clone(), (sequence, Vec::new()));
            }
        }

        if let Some(unique_key) = &record.unique_key {
            let row = encode_unique_key_row(position, &record.entity);
            self.unique_keys.push((keys::unique_key(unique_key), row));
            self.dirty_rows += 1;
        }

        let highest_id = record.highest_id.unwrap_or_default();
        self.cursor.highest_id = self.cursor.highest_id.max(highest_id);
        self.cursor.position = position.plus(1).get();
        Ok(())
    }

    /// Returns the mark of the record at `position`, after updating the event that the record
    /// resolves or reprocesses.
    fn derive_mark(
        &mut self,
        position: Position,
        record: &Record,
    ) -> Result<EventMark, DerivedStoreError> {
        let has_failed = record.failure.is_some();

        // A failure in a resolution is the failure of the resolved event. The resolution itself has
        // happened, so its own mark is `Completed`.
        if let Some(event) = record.resolves {
            let resolved = if has_failed {
                EventMark::Failed
            } else {
                EventMark::Completed
            };
            self.add_attempt(event, position, resolved)?;
            self.set_pending(event, false);
            return Ok(EventMark::Completed);
        }

        let mark = match (record.pending, has_failed) {
            (true, _) => EventMark::Processing,
            (false, true) => EventMark::Failed,
            (false, false) => EventMark::Completed,
        };
        if record.pending {
            self.set_pending(record.reprocesses.unwrap_or(position), true);
            self.reopened.extend(record.reprocesses);
        }

        let Some(event) = record.reprocesses else {
            return Ok(mark);
        };
        self.add_attempt(event, position, mark)?;
        Ok(EventMark::Attempt)
    }

    /// Returns the positions of the pending events before `end`, written or not.
    pub(super) fn pending_events_before(
        &self,
        end: Position,
    ) -> Result<Vec<Position>, DerivedStoreError> {
        let keys = keys::pending_event_key(Position::FIRST)..keys::pending_event_key(end);
        let mut positions = BTreeSet::new();
        for key in self.tree.range(keys).keys() {
            let malformed = || DerivedStoreError::malformed_row("a key of a pending event");
            positions.insert(keys::pending_event_position(&key?).ok_or_else(malformed)?);
        }
        for (position, is_pending) in self.pending_events.range(..end) {
            if *is_pending {
                positions.insert(*position);
            } else {
                positions.remove(position);
            }
        }
        Ok(positions.into_iter().collect())
    }

    /// Takes the pending event at `event` as completed.
    pub(super) fn end_pending_event(&mut self, event: Position) -> Result<(), DerivedStoreError> {
        self.set_pending(event, false);
        let (block, place) = event_blocks::block_place(event);
        self.load_block(block)?
            .set_mark(place, EventMark::Completed);
        Ok(())
    }

    fn set_pending(&mut self, event: Position, is_pending: bool) {
        if self.pending_events.insert(event, is_pending).is_none() {
            self.dirty_rows += 1;
        }
    }

    /// Takes the events that were reopened since the last call.
    pub(super) fn take_reopened(&mut self) -> Vec<Position> {
        std::mem::take(&mut self.reopened)
    }

    /// Writes all changed rows except the cursor row, which [`RowBuffer::write_cursor`] writes.
    pub(super) fn write_rows(&mut self) -> Result<(), DerivedStoreError> {
        for ((entity, number), chunk) in self.chunks.iter_mut().filter(|(_, chunk)| chunk.dirty) {
            self.tree.insert(
                keys::timeline_key(entity, *number),
                encode_positions(&chunk.positions),
            )?;
            chunk.dirty = false;
        }
        for (key, id) in self.new_entities.drain(..) {
            self.tree.insert(key, id.as_str())?;
        }

        // Names come before the blocks that refer to them: a crash between the two is harmless
        // then.
        if self.names_written < self.names.list.len() {
            self.tree.insert(keys::NAMES, to_row(&self.names.list))?;
            self.names_written = self.names.list.len();
        }

        let open_block = event_blocks::block_place(Position::new(self.cursor.position)).0;
        for (number, block) in &self.blocks {
            self.tree
                .insert(keys::event_block_key(*number), block.encode())?;
        }
        self.blocks.retain(|number, _| *number == open_block);

        for (key, row) in self.unique_keys.drain(..) {
            self.tree.insert(key, row)?;
        }
        for (position, is_pending) in std::mem::take(&mut self.pending_events) {
            match is_pending {
                true => self.tree.insert(keys::pending_event_key(position), [])?,
                false => self.tree.remove(keys::pending_event_key(position))?,
            };
        }
        for (position, attempts) in std::mem::take(&mut self.attempts) {
            self.tree
                .insert(keys::attempts_key(position), encode_positions(&attempts))?;
        }

        for (entity, (sequence, state)) in self.snapshots.drain() {
            snapshot::store_snapshot(&self.tree, &entity, sequence, &state)?;
        }

        if self.chunks.len() > CLEAN_CHUNKS_MAX {
            self.chunks.clear();
        }
        self.dirty_rows = 0;
        Ok(())
    }

    /// Writes the cursor row. The rows before the cursor must be synced already.
    pub(super) fn write_cursor(&self) -> Result<(), DerivedStoreError> {
        self.tree.insert(keys::CURSOR, to_row(&self.cursor))
    }

    fn extend_timeline(
        &mut self,
        entity: &EntityKey,
        sequence: u64,
        position: Position,
    ) -> Result<(), DerivedStoreError> {
        if sequence == 1 {
            let number = self.cursor.entity_counts.entry(entity.kind()).or_default();
            self.new_entities.push((
                keys::kind_entity_key(entity.kind(), *number),
                entity.id().to_owned(),
            ));
            self.dirty_rows += 1;
            *number += 1;
        }

        let (number, slot) = chunk_place(sequence);
        let tree = &self.tree;
        let chunk = match self.chunks.entry((entity.clone(), number)) {
            std::collections::hash_map::Entry::Occupied(cached) => cached.into_mut(),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                // A record in the first slot starts a new row, so there is no stored row to read.
                let stored = if slot == 0 {
                    None
                } else {
                    tree.get(keys::timeline_key(entity, number))?
                };
                let positions = stored.map(|row| decode_positions(&row)).unwrap_or_default();
                vacant.insert(TimelineChunk {
                    positions,
                    dirty: false,
                })
            }
        };

        if chunk.positions.len() <= slot {
            chunk.positions.resize(slot + 1, 0);
        }
        chunk.positions[slot] = position.get();
        if !chunk.dirty {
            chunk.dirty = true;
            self.dirty_rows += 1;
        }
        Ok(())
    }

    /// Adds the record at `position` to those that reprocess or resolve the event at `original`,
    /// and sets that event's mark.
    fn add_attempt(
        &mut self,
        original: Position,
        position: Position,
        mark: EventMark,
    ) -> Result<(), DerivedStoreError> {
        if !self.attempts.contains_key(&original) {
            let stored = self.tree.get(keys::attempts_key(original))?;
            self.attempts.insert(
                original,
                stored.map(|row| decode_positions(&row)).unwrap_or_default(),
            );
            self.dirty_rows += 1;
        }
        let attempts = self
            .attempts
            .get_mut(&original)
            .expect("the attempts were loaded above");
        if let Err(place) = attempts.binary_search(&position.get()) {
            attempts.insert(place, position.get());
            attempts.drain(..attempts.len().saturating_sub(ATTEMPTS_MAX));
        }
        let (block, place) = event_blocks::block_place(original);
        self.load_block(block)?.set_mark(place, mark);
        Ok(())
    }

    fn load_block(&mut self, number: u64) -> Result<&mut EventBlock, DerivedStoreError> {
        if !self.blocks.contains_key(&number) {
            let stored = self.tree.get(keys::event_block_key(number))?;
            let block = stored.map_or(Some(EventBlock::default()), |row| EventBlock::decode(&row));
            let malformed = || DerivedStoreError::malformed_row("a block of events");
            self.blocks.insert(number, block.ok_or_else(malformed)?);
            self.dirty_rows += 1;
        }
        Ok(self
            .blocks
            .get_mut(&number)
            .expect("the block was loaded above"))
    }
}

/// Returns the number of the timeline row that contains the record `sequence`, and its slot there.
pub(super) fn chunk_place(sequence: u64) -> (u32, usize) {
    let index = sequence - 1;
    let chunk = u32::try_from(index / CHUNK_RECORDS).expect("no entity has 2^38 records");
    (chunk, (index % CHUNK_RECORDS) as usize)
}

const POSITIONS_FORMAT: u8 = 1;

fn encode_positions(positions: &[u64]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + positions.len() * 8);
    row.push(POSITIONS_FORMAT);
    positions
        .iter()
        .for_each(|position| row.extend_from_slice(&position.to_be_bytes()));
    row
}

pub(super) fn decode_positions(row: &[u8]) -> Vec<u64> {
    let (positions, _) = row.get(1..).unwrap_or_default().as_chunks::<8>();
    positions
        .iter()
        .map(|bytes| u64::from_be_bytes(*bytes))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derived::VALUE_MAX_BYTES;

    /// Quotes take two bytes in JSON: a row of them had become larger than a value.
    #[test]
    fn the_row_of_names_fits_a_value_for_any_names() {
        let mut names = NameTable::default();
        let numbers: Vec<u16> = (0..200)
            .map(|n| names.number_or_add(&format!("{}{n}", "\"\\".repeat(120))))
            .collect();
        assert!(to_row(&names.list).len() <= VALUE_MAX_BYTES);
        assert_eq!((numbers[0], numbers[1], numbers[199]), (0, 1, OTHER_NAME));
        assert_eq!(
            names.number_of("never seen"),
            Some(OTHER_NAME),
            "it may be one of the names without a number"
        );
    }
}
