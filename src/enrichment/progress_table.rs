//! Progress table of the enrichment stage: the finished steps of each pending event. A step is
//! durable before the next step starts, so a crash repeats no finished step.
//!
//! | key | value |
//! |---|---|
//! | position u64, step u8 = 0 | format u8 = 1, position at which the work started, u64 |
//! | position u64, step u8 | format u8 = 1, the step's result |
//!
//! The position is that of the event. Integers are big-endian. An event's rows are removed when the
//! event is resolved. Rows that a crash left behind are removed at the next start, before any event
//! runs.

use std::sync::Arc;

use super::steps::{EnrichmentProgress, EnrichmentStep};
use crate::derived::DerivedStoreError;
use crate::event::Position;
use crate::journal::TableChange;
use crate::table_store::{JournaledTable, JournaledTableId, TableStore, TableWriteError};

const FORMAT: u8 = 1;
/// Step number of the row that records the start of the work.
const START: u8 = 0;

/// Handle of the progress table, for one opening of the store. Cheap to clone. All methods block.
#[derive(Clone)]
pub(super) struct ProgressTable(JournaledTable);

impl ProgressTable {
    pub(super) fn open(tables: &Arc<TableStore>) -> Self {
        Self(tables.table(JournaledTableId::Enrichment))
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
    ) -> Result<Position, TableWriteError> {
        if let Some(value) = self.read_value(event, START)? {
            let number = value.try_into().map(u64::from_be_bytes);
            return Ok(number.map(Position::new).map_err(|_| malformed_row())?);
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
    ) -> Result<EnrichmentProgress, TableWriteError> {
        let mut progress = EnrichmentProgress::default();
        for step in EnrichmentStep::ALL {
            if let Some(result) = self.read_value(event, step as u8)? {
                let result = String::from_utf8(result).map_err(|_| malformed_row())?;
                progress.record(step, &result);
            }
        }
        Ok(progress)
    }

    /// Records the result of the event's `step`, and returns once it is durable.
    ///
    /// # Errors
    /// The error of the store.
    pub(super) fn record_step(
        &self,
        event: Position,
        step: EnrichmentStep,
        result: &str,
    ) -> Result<(), TableWriteError> {
        self.write_value(event, step as u8, result.as_bytes())
    }

    /// Removes the event's rows.
    ///
    /// # Errors
    /// The error of the store.
    pub(super) fn remove(&self, event: Position) -> Result<(), TableWriteError> {
        let prefix = event.get().to_be_bytes().to_vec();
        self.0.write(vec![TableChange::RemovePrefix { prefix }])
    }

    /// Returns the positions of all events that have rows, in order.
    ///
    /// # Errors
    /// The error of the store.
    pub(super) fn list_events(&self) -> Result<Vec<Position>, TableWriteError> {
        let mut events: Vec<Position> = Vec::new();
        for (key, _) in self.0.scan(b"", None, usize::MAX)? {
            events.push(find_event_of_row(&key).ok_or_else(malformed_row)?);
        }
        events.dedup();
        Ok(events)
    }

    fn write_value(&self, event: Position, step: u8, value: &[u8]) -> Result<(), TableWriteError> {
        self.0.write(vec![TableChange::Put {
            key: key(event, step),
            value: [&[FORMAT], value].concat(),
        }])
    }

    fn read_value(&self, event: Position, step: u8) -> Result<Option<Vec<u8>>, DerivedStoreError> {
        match self.0.get(&key(event, step))?.as_deref() {
            None => Ok(None),
            Some([FORMAT, value @ ..]) => Ok(Some(value.to_vec())),
            Some(_) => Err(malformed_row()),
        }
    }
}

/// Returns the event to which a row of the table belongs, by its key.
#[must_use]
pub fn find_event_of_row(key: &[u8]) -> Option<Position> {
    let number = key.first_chunk().copied().map(u64::from_be_bytes);
    number.map(Position::new)
}

/// Removes the finished steps of the events for which `is_erased` holds. The enrichment stage must
/// not run. Blocks.
///
/// # Errors
/// [`TableWriteError`] when the store fails.
pub fn remove_progress(
    tables: &Arc<TableStore>,
    is_erased: &dyn Fn(Position) -> bool,
) -> Result<(), TableWriteError> {
    let table = ProgressTable::open(tables);
    for event in table.list_events()? {
        if is_erased(event) {
            table.remove(event)?;
        }
    }
    Ok(())
}

fn key(event: Position, step: u8) -> Vec<u8> {
    [&event.get().to_be_bytes()[..], &[step]].concat()
}

fn malformed_row() -> DerivedStoreError {
    DerivedStoreError::malformed_row("a row of the enrichment progress table")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table_store::open_test_tables;

    fn open_table() -> (tempfile::TempDir, ProgressTable) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let table = ProgressTable::open(&open_test_tables(folder.path()));
        (folder, table)
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
    fn the_bytes_of_rows_never_change() {
        let (_folder, table) = open_table();
        table
            .record_step(Position::new(7), EnrichmentStep::Person, "{}")
            .expect("writes");
        table
            .record_start(Position::new(7), Position::new(258))
            .expect("writes");
        let rows = table.0.scan(b"", None, usize::MAX).expect("reads");
        let rows: Vec<_> = rows
            .iter()
            .map(|(key, value)| (hex::encode(key), hex::encode(value)))
            .collect();
        let row = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            rows,
            [
                row("000000000000000700", "010000000000000102"),
                row("000000000000000703", "017b7d"),
            ]
        );
    }
}
