//! Progress table of the enrichment stage: the finished steps of each pending event. A step is
//! synced before the next step starts, so a crash repeats no finished step.
//!
//! | key | value |
//! |---|---|
//! | position u64, step u8 = 0, part u16 = 0 | header, position at which the work started, u64 |
//! | position u64, step u8, part u16 | header, a part of the step's result |
//!
//! The position is that of the event. The header is format u8 = 1 and flags u8 (1 = last part).
//! Integers are big-endian. An event's rows are removed when the event is resolved. Rows that a
//! crash left behind are removed at the next start, before any event runs.

use std::sync::Arc;

use super::steps::{EnrichmentProgress, EnrichmentStep};
use crate::event::Position;
use crate::journal::{DataStore, StoreWriteError, VALUE_MAX_BYTES};

const TREE: &str = "enrichment";
const FORMAT: u8 = 1;
const LAST_PART: u8 = 1;
const HEADER_BYTES: usize = 2;
/// Step number of the row that records the start of the work.
const START: u8 = 0;

/// Handle of the progress table, for one opening of the store. Cheap to clone.
#[derive(Clone)]
pub(super) struct ProgressTable {
    tree: sled::Tree,
    // Dropped after the tree, which belongs to the store.
    store: Arc<DataStore>,
}

impl ProgressTable {
    /// # Errors
    /// The error of the store.
    pub(super) fn open(store: &Arc<DataStore>) -> Result<Self, StoreWriteError> {
        Ok(Self {
            tree: store.tree(TREE)?,
            store: Arc::clone(store),
        })
    }

    /// Records that the work on the event started when all records before `written` were written,
    /// and returns that position. If a start is recorded already, returns that start instead.
    ///
    /// # Errors
    /// The error of the store.
    pub(super) fn record_start(
        &self,
        event: Position,
        written: Position,
    ) -> Result<Position, StoreWriteError> {
        let key = key(event, START, 0);
        if let Some(row) = self.tree.get(key)? {
            let number = row
                .get(HEADER_BYTES..)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u64::from_be_bytes);
            return number.map(Position::new).ok_or_else(malformed_row);
        }
        self.write_value(event, START, &written.get().to_be_bytes())?;
        Ok(written)
    }

    /// Loads the results of the event's finished steps.
    ///
    /// # Errors
    /// The error of the store.
    pub(super) fn load_progress(
        &self,
        event: Position,
    ) -> Result<EnrichmentProgress, StoreWriteError> {
        let mut progress = EnrichmentProgress::default();
        for step in EnrichmentStep::ALL {
            if let Some(result) = self.read_value(event, step as u8)? {
                let result = String::from_utf8(result).map_err(|_| malformed_row())?;
                progress.record(step, &result);
            }
        }
        Ok(progress)
    }

    /// Records the result of the event's `step`, and returns once it is synced.
    ///
    /// # Errors
    /// The error of the store.
    pub(super) fn record_step(
        &self,
        event: Position,
        step: EnrichmentStep,
        result: &str,
    ) -> Result<(), StoreWriteError> {
        self.write_value(event, step as u8, result.as_bytes())
    }

    /// Removes the event's rows, without a sync: if a crash undoes the removal, the next start
    /// repeats it.
    ///
    /// # Errors
    /// The error of the store.
    pub(super) fn remove(&self, event: Position) -> Result<(), StoreWriteError> {
        let rows = self
            .tree
            .range(key(event, START, 0)..=key(event, u8::MAX, u16::MAX));
        rows.keys()
            .try_for_each(|key| self.tree.remove(key?).map(drop))
    }

    /// Returns the positions of all events that have rows, in order.
    ///
    /// # Errors
    /// The error of the store.
    pub(super) fn list_events(&self) -> Result<Vec<Position>, StoreWriteError> {
        let mut events: Vec<Position> = Vec::new();
        for key in self.tree.iter().keys() {
            let key = key?;
            let event = key
                .first_chunk()
                .map(|number| Position::new(u64::from_be_bytes(*number)));
            let event = event.ok_or_else(malformed_row)?;
            if events.last() != Some(&event) {
                events.push(event);
            }
        }
        Ok(events)
    }

    fn write_value(&self, event: Position, step: u8, value: &[u8]) -> Result<(), StoreWriteError> {
        let parts = value.chunks(VALUE_MAX_BYTES - HEADER_BYTES);
        // An empty value has one empty part.
        let parts = parts.chain(value.is_empty().then_some(&[][..]));
        let mut parts = parts.zip(0_u16..).peekable();
        while let Some((part, number)) = parts.next() {
            let flags = if parts.peek().is_none() { LAST_PART } else { 0 };
            self.tree
                .insert(key(event, step, number), [&[FORMAT, flags], part].concat())?;
        }
        self.store.sync()
    }

    /// Reads a value; returns `None` if there is none, or if a crash left it without its last part.
    fn read_value(&self, event: Position, step: u8) -> Result<Option<Vec<u8>>, StoreWriteError> {
        let mut value = Vec::new();
        for (row, part) in self
            .tree
            .range(key(event, step, 0)..=key(event, step, u16::MAX))
            .zip(0_u16..)
        {
            let (found, row) = row?;
            let Some((&[format, flags], bytes)) = row.split_first_chunk::<HEADER_BYTES>() else {
                return Err(malformed_row());
            };
            if format != FORMAT || *found != key(event, step, part) {
                return Err(malformed_row());
            }
            value.extend_from_slice(bytes);
            if flags & LAST_PART != 0 {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

fn key(event: Position, step: u8, part: u16) -> [u8; 11] {
    let mut key = [0; 11];
    key[..8].copy_from_slice(&event.get().to_be_bytes());
    key[8] = step;
    key[9..].copy_from_slice(&part.to_be_bytes());
    key
}

fn malformed_row() -> StoreWriteError {
    StoreWriteError::ReportableBug("a row of the enrichment progress table is malformed".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failpoints::NoFailures;

    fn open_table() -> (tempfile::TempDir, ProgressTable) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
        (folder, ProgressTable::open(&store).expect("opens"))
    }

    #[test]
    fn finished_steps_are_read_back_and_removed_with_their_event() {
        let (_folder, table) = open_table();
        let event = Position::new(7);
        let person = format!(r#"{{"name": "{}"}}"#, "x".repeat(30_000));
        table
            .record_step(event, EnrichmentStep::LookupByEmail, "")
            .expect("writes");
        table
            .record_step(event, EnrichmentStep::Person, &person)
            .expect("writes");
        table
            .record_step(Position::new(8), EnrichmentStep::Reply, "")
            .expect("writes");
        let mut expected = EnrichmentProgress::default();
        expected.record(EnrichmentStep::LookupByEmail, "");
        expected.record(EnrichmentStep::Person, &person);
        assert_eq!(table.load_progress(event).expect("reads"), expected);
        assert!(
            table
                .tree
                .iter()
                .values()
                .all(|value| value.expect("reads").len() <= VALUE_MAX_BYTES)
        );
        assert_eq!(
            table.list_events().expect("reads"),
            [event, Position::new(8)]
        );
        table.remove(event).expect("removes");
        assert_eq!(
            table.load_progress(event).expect("reads"),
            EnrichmentProgress::default()
        );
        assert_eq!(table.list_events().expect("reads"), [Position::new(8)]);
    }

    #[test]
    fn the_recorded_start_does_not_change() {
        let (_folder, table) = open_table();
        let begin = |written| {
            table
                .record_start(Position::new(7), Position::new(written))
                .expect("writes")
                .get()
        };
        assert_eq!((begin(20), begin(30)), (20, 20));
    }

    #[test]
    fn a_step_without_its_last_part_is_not_done() {
        let (_folder, table) = open_table();
        let event = Position::new(7);
        table
            .record_step(
                event,
                EnrichmentStep::Person,
                &format!("{{{}}}", " ".repeat(30_000)),
            )
            .expect("writes");
        table
            .tree
            .remove(key(event, EnrichmentStep::Person as u8, 2))
            .expect("removes");
        assert_eq!(
            table.load_progress(event).expect("reads"),
            EnrichmentProgress::default()
        );
    }

    #[test]
    fn the_bytes_of_rows_never_change() {
        let (_folder, table) = open_table();
        table
            .record_step(Position::new(7), EnrichmentStep::Person, "{}")
            .expect("writes");
        let row = table.tree.iter().next().expect("one row").expect("reads");
        assert_eq!(
            (hex::encode(row.0), hex::encode(row.1)),
            ("0000000000000007030000".into(), "01017b7d".into())
        );
    }
}
