//! What the projection has derived from the journal but not yet written: rows in memory, written
//! whole and seldom.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::event_blocks::{self, EventBlock, EventMark, EventSlot};
use super::keys;
use super::snapshot::{self, PendingSnapshots};
use crate::event::{EntityKey, Kind, Position, Record, Timestamp, fingerprint_key};

/// Positions in one row of a timeline.
pub(super) const CHUNK_RECORDS: u64 = 64;

/// Attempts at one event, and conclusions of it, that are remembered. The number of the next
/// attempt, on which it has a claim, then stays the same: one is taken in each window of claims.
const ATTEMPTS_MAX: usize = 1_000;

/// Rows of timelines that are kept in memory after they were written, for entities that go on.
const CLEAN_CHUNKS_MAX: usize = 8 * 1024;

/// The row that says how far the projection is, with the counts that belong to exactly that point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProjectionCursor {
    /// Everything before this position is in the tree.
    pub(super) position: u64,
    /// How many entities of each kind there are.
    births: BTreeMap<Kind, u64>,
    /// The highest id that the node gave.
    #[serde(default)]
    pub(super) drawn: u64,
}

impl ProjectionCursor {
    /// How many entities there are.
    pub(super) fn entity_count(&self) -> u64 {
        self.births.values().sum()
    }

    fn load(tree: &sled::Tree) -> Result<Self, sled::Error> {
        let start = Self {
            position: Position::FIRST.get(),
            births: BTreeMap::new(),
            drawn: 0,
        };
        tree.get(keys::CURSOR)?
            .map_or(Ok(start), |row| parse_row(&row))
    }
}

/// The most bytes of names that are numbered, with a margin below the largest value: senders of
/// configured sources name their own events.
const NAMES_MAX_BYTES: usize = 8 * 1024;

/// The number of every name beyond the bound.
pub(super) const OTHER_NAME: u16 = u16::MAX;

/// The names that event blocks refer to by number. Numbers are given once and never change.
#[derive(Clone, Debug, Default)]
pub(super) struct NameTable {
    list: Vec<String>,
    numbers: HashMap<String, u16>,
    bytes: usize,
}

impl NameTable {
    pub(super) fn load(tree: &sled::Tree) -> Result<Self, sled::Error> {
        let list: Vec<String> = tree
            .get(keys::NAMES)?
            .map_or(Ok(Vec::new()), |row| parse_row(&row))?;
        let mut names = Self::default();
        list.into_iter().for_each(|name| names.add_name(name));
        Ok(names)
    }

    /// The number of `name`, if an event ever had it: [`OTHER`] if that cannot be told.
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
        // As the row has it, escapes included, and a comma.
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

fn parse_row<T: serde::de::DeserializeOwned>(row: &[u8]) -> Result<T, sled::Error> {
    serde_json::from_slice(row)
        .map_err(|_| sled::Error::ReportableBug("a row of the projection is malformed".into()))
}

fn to_row<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and texts always serialize")
}

/// A row of a timeline: positions of up to 64 consecutive records, 0 where there is none yet.
#[derive(Default)]
struct TimelineChunk {
    positions: Vec<u64>,
    dirty: bool,
}

/// Rows that differ from the tree, and the cursor they lead to.
pub(super) struct RowBuffer {
    tree: sled::Tree,
    pub(super) cursor: ProjectionCursor,
    names: NameTable,
    names_written: usize,
    chunks: HashMap<(EntityKey, u32), TimelineChunk>,
    blocks: BTreeMap<u64, EventBlock>,
    new_entities: Vec<(Vec<u8>, String)>,
    attempts: BTreeMap<Position, Vec<u64>>,
    unique_keys: Vec<(Vec<u8>, Position)>,
    /// Events that are to be completed or failed, or no longer.
    pending_events: BTreeMap<Position, bool>,
    /// Events that are owed again, for those who have passed them.
    reopened: Vec<Position>,
    snapshots: HashMap<EntityKey, (u64, Vec<u8>)>,
    dirty_rows: usize,
}

impl RowBuffer {
    pub(super) fn open(tree: sled::Tree) -> Result<Self, sled::Error> {
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

    /// Rows that wait to be written.
    pub(super) fn dirty_rows(&self) -> usize {
        self.dirty_rows
    }

    /// Takes in the record at `position`, which must be the cursor's.
    pub(super) fn project_record(
        &mut self,
        position: Position,
        received_at: Timestamp,
        record: &Record,
        offers: &PendingSnapshots,
    ) -> Result<(), sled::Error> {
        let mark = self.derive_mark(position, record)?;
        let slot = EventSlot {
            received_at,
            id: fingerprint_key("", record.entity.id()),
            source: self.names.number_or_add(&record.source),
            event_type: self.names.number_or_add(&record.event_type),
            kind: self.names.number_or_add(record.entity.kind().as_str()),
            mark,
        };
        let (block, place) = event_blocks::block_place(position);
        self.load_block(block)?.set_slot(place, slot);
        if let Some(sequence) = record.sequence {
            self.extend_timeline(&record.entity, sequence, position)?;
            if let Some(state) = offers.take_passed(&record.entity, sequence) {
                self.dirty_rows += 1;
                self.snapshots.insert(record.entity.clone(), state);
            }
        }
        if let Some(code) = &record.unique_key {
            self.unique_keys.push((keys::unique_key(code), position));
            self.dirty_rows += 1;
        }
        self.cursor.drawn = self.cursor.drawn.max(record.highest_id.unwrap_or_default());
        self.cursor.position = position.plus(1).get();
        Ok(())
    }

    /// What the record at `position` says of itself, after noting what it says of another event.
    fn derive_mark(
        &mut self,
        position: Position,
        record: &Record,
    ) -> Result<EventMark, sled::Error> {
        let failed = record.failure.is_some();
        if let Some(event) = record.resolves {
            self.note_attempt(
                event,
                position,
                if failed {
                    EventMark::Failed
                } else {
                    EventMark::Completed
                },
            )?;
            self.set_pending(event, false);
            return Ok(EventMark::Completed);
        }
        let mark = match (record.pending, failed) {
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
        self.note_attempt(event, position, mark)?;
        Ok(EventMark::Attempt)
    }

    fn set_pending(&mut self, event: Position, owed: bool) {
        if self.pending_events.insert(event, owed).is_none() {
            self.dirty_rows += 1;
        }
    }

    /// The events that are owed again since the last call.
    pub(super) fn take_reopened(&mut self) -> Vec<Position> {
        std::mem::take(&mut self.reopened)
    }

    /// Writes every waiting row. The cursor row is not among them: see [`Index::write_cursor`].
    pub(super) fn write_rows(&mut self) -> Result<(), sled::Error> {
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
        // Before the blocks that refer to them.
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
        for (key, position) in self.unique_keys.drain(..) {
            self.tree.insert(key, &position.get().to_be_bytes())?;
        }
        for (position, owed) in std::mem::take(&mut self.pending_events) {
            match owed {
                true => self.tree.insert(keys::pending_event_key(position), &[])?,
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

    /// Writes the cursor row, after a sync that followed the rows it vouches for.
    pub(super) fn write_cursor(&self) -> Result<(), sled::Error> {
        self.tree
            .insert(keys::CURSOR, to_row(&self.cursor))
            .map(|_| ())
    }

    fn extend_timeline(
        &mut self,
        entity: &EntityKey,
        sequence: u64,
        position: Position,
    ) -> Result<(), sled::Error> {
        if sequence == 1 {
            let number = self.cursor.births.entry(entity.kind()).or_default();
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
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                // Nothing stands before the first slot, so nothing has to be read for it.
                let stored = if slot == 0 {
                    None
                } else {
                    tree.get(keys::timeline_key(entity, number))?
                };
                let positions = stored.map(|row| decode_positions(&row)).unwrap_or_default();
                new.insert(TimelineChunk {
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

    fn note_attempt(
        &mut self,
        original: Position,
        position: Position,
        mark: EventMark,
    ) -> Result<(), sled::Error> {
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
            .expect("it was just put there");
        if let Err(place) = attempts.binary_search(&position.get()) {
            attempts.insert(place, position.get());
            attempts.drain(..attempts.len().saturating_sub(ATTEMPTS_MAX));
        }
        let (block, place) = event_blocks::block_place(original);
        self.load_block(block)?.set_mark(place, mark);
        Ok(())
    }

    fn load_block(&mut self, number: u64) -> Result<&mut EventBlock, sled::Error> {
        if !self.blocks.contains_key(&number) {
            let stored = self.tree.get(keys::event_block_key(number))?;
            let block = stored.map_or(Some(EventBlock::default()), |row| EventBlock::decode(&row));
            let malformed = || sled::Error::ReportableBug("a block of events is malformed".into());
            self.blocks.insert(number, block.ok_or_else(malformed)?);
            self.dirty_rows += 1;
        }
        Ok(self.blocks.get_mut(&number).expect("it was just put there"))
    }
}

/// The row that holds the record `sequence` of an entity, and its slot there.
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
    use crate::journal::VALUE_MAX_BYTES;

    /// Quotes double in JSON: a row of them had outgrown a value.
    #[test]
    fn the_row_of_names_fits_a_value_whatever_they_are() {
        let mut names = NameTable::default();
        let numbers: Vec<u16> = (0..200)
            .map(|n| names.number_or_add(&format!("{}{n}", "\"\\".repeat(120))))
            .collect();
        assert!(to_row(&names.list).len() <= VALUE_MAX_BYTES);
        assert_eq!((numbers[0], numbers[1], numbers[199]), (0, 1, OTHER_NAME));
        assert_eq!(
            names.number_of("never met"),
            Some(OTHER_NAME),
            "it may be among those without a number"
        );
    }
}
