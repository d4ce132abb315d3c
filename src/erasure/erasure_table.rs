//! Table of erasures.
//!
//! | key | value |
//! |---|---|
//! | id u64 | format u8 = 1, JSON of [`Erasure`] |
//!
//! Integers are big-endian. The newest rows stay after their erasures are done.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::derived::DerivedStoreError;
use crate::event::{EntityKey, IncarnationHistory, Kind, Position, StoreIncarnation, Timestamp};
use crate::journal::TableChange;
use crate::table_store::{JournaledTable, JournaledTableId, TableStore, TableWriteError};

const FORMAT: u8 = 1;

/// Finished erasures that are kept for people to look at.
const FINISHED_MAX: usize = 1_000;

/// State of an erasure, in the order in which they follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasureState {
    /// The entity's own record of the erasure is not durable yet.
    Recording,
    /// The content is hidden, and being removed from the files of the journal.
    Rewriting,
    /// The content is gone from the journal, and waits to be removed from the derived store.
    Copying,
    /// No file of the data folder holds the content.
    Done,
}

impl ErasureState {
    /// Every state, in the order in which an erasure has them.
    pub const ALL: [Self; 4] = [Self::Recording, Self::Rewriting, Self::Copying, Self::Done];

    /// Returns the state's name in the API and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Rewriting => "rewriting",
            Self::Copying => "copying",
            Self::Done => "done",
        }
    }
}

/// Erasure of an entity's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Number of the erasure, from 1.
    pub id: u64,
    /// Entity that is erased; its id stays as the name of its records.
    pub entity: EntityKey,
    /// Step that the work has reached.
    pub state: ErasureState,
    /// Position of the entity's record of the erasure, once it is durable.
    pub position: Option<Position>,
    /// Newest segment when the segments were last rewritten; later ones were written since.
    pub segment: Option<u64>,
    /// Time at which the erasure was requested.
    pub requested_at: Timestamp,
    /// Time at which the erasure was done.
    pub finished_at: Option<Timestamp>,
    /// Incarnation of the store whose segments were rewritten, once they were.
    pub incarnation: Option<StoreIncarnation>,
}

/// JSON of a row. Times are microseconds since 1970.
#[derive(Serialize, Deserialize)]
struct ErasureRow {
    kind: String,
    id: String,
    state: ErasureState,
    position: Option<u64>,
    segment: Option<u64>,
    requested_at: i64,
    finished_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incarnation: Option<u32>,
}

/// Handle of the table. All methods block.
#[derive(Clone)]
pub(super) struct ErasureTable(JournaledTable);

impl ErasureTable {
    pub(super) fn open(tables: &Arc<TableStore>) -> Self {
        Self(tables.table(JournaledTableId::Erasures))
    }

    /// Returns all erasures, oldest first.
    pub(super) fn list(&self) -> Result<Vec<Erasure>, DerivedStoreError> {
        let rows = self.0.scan(b"", None, usize::MAX)?;
        let decode = |(key, value): &(Vec<u8>, Vec<u8>)| decode_row(key, value);
        rows.iter()
            .map(|row| decode(row).ok_or_else(malformed_row))
            .collect()
    }

    pub(super) fn find(&self, id: u64) -> Result<Option<Erasure>, DerivedStoreError> {
        let key = id.to_be_bytes();
        let value = self.0.get(&key)?;
        value
            .map(|value| decode_row(&key, &value).ok_or_else(malformed_row))
            .transpose()
    }

    /// Writes `erasures`, and returns once they are durable.
    pub(super) fn store(&self, erasures: &[Erasure]) -> Result<(), TableWriteError> {
        let puts = erasures.iter().map(|erasure| TableChange::Put {
            key: erasure.id.to_be_bytes().to_vec(),
            value: encode_row(erasure),
        });
        self.0.write(puts.collect())
    }

    /// Adds an erasure of `entity`, with the next number, and drops the oldest that are done.
    pub(super) fn add(
        &self,
        entity: &EntityKey,
        requested_at: Timestamp,
    ) -> Result<Erasure, TableWriteError> {
        let known = self.list()?;
        let erasure = Erasure {
            id: known.last().map_or(1, |last| last.id + 1),
            entity: entity.clone(),
            state: ErasureState::Recording,
            position: None,
            segment: None,
            requested_at,
            finished_at: None,
            incarnation: None,
        };
        let mut changes = vec![TableChange::Put {
            key: erasure.id.to_be_bytes().to_vec(),
            value: encode_row(&erasure),
        }];
        let finished = known.iter().filter(|one| one.state == ErasureState::Done);
        let superfluous = finished.clone().count().saturating_sub(FINISHED_MAX);
        changes.extend(finished.take(superfluous).map(|old| TableChange::Remove {
            key: old.id.to_be_bytes().to_vec(),
        }));
        self.0.write(changes)?;
        Ok(erasure)
    }

    /// Begins the erasures anew whose segments were rewritten in another incarnation: the store was
    /// restored since, perhaps from a backup of before.
    pub(super) fn restart_restored(
        &self,
        incarnations: &IncarnationHistory,
    ) -> Result<(), TableWriteError> {
        if !incarnations.is_restored() {
            return Ok(());
        }
        let newest = Some(incarnations.newest());
        let listed = self.list()?.into_iter();
        let restored = listed.filter(|erasure| {
            let is_rewritten = matches!(erasure.state, ErasureState::Copying | ErasureState::Done);
            is_rewritten && erasure.incarnation != newest
        });
        let begun = restored.map(|erasure| Erasure {
            state: ErasureState::Rewriting,
            segment: None,
            finished_at: None,
            ..erasure
        });
        let begun: Vec<_> = begun.collect();
        if begun.is_empty() {
            return Ok(());
        }
        self.store(&begun)
    }

    /// Removes an erasure that did not happen.
    pub(super) fn remove(&self, id: u64) -> Result<(), TableWriteError> {
        let key = id.to_be_bytes().to_vec();
        self.0.write(vec![TableChange::Remove { key }])
    }
}

fn encode_row(erasure: &Erasure) -> Vec<u8> {
    let row = ErasureRow {
        kind: erasure.entity.kind().as_str().to_owned(),
        id: erasure.entity.id().to_owned(),
        state: erasure.state,
        position: erasure.position.map(Position::get),
        segment: erasure.segment,
        requested_at: erasure.requested_at.as_micros(),
        finished_at: erasure.finished_at.map(Timestamp::as_micros),
        incarnation: erasure.incarnation.map(StoreIncarnation::get),
    };
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, &row)
        .expect("its members have JSON texts, and a Vec takes every write");
    bytes
}

fn decode_row(key: &[u8], value: &[u8]) -> Option<Erasure> {
    let id = key.try_into().ok().map(u64::from_be_bytes)?;
    let (&FORMAT, json) = value.split_first()? else {
        return None;
    };
    let row: ErasureRow = serde_json::from_slice(json).ok()?;
    Some(Erasure {
        id,
        entity: EntityKey::try_new(Kind::from_store(&row.kind)?, &row.id).ok()?,
        state: row.state,
        position: row.position.map(Position::new),
        segment: row.segment,
        requested_at: Timestamp::from_micros(row.requested_at),
        finished_at: row.finished_at.map(Timestamp::from_micros),
        incarnation: row.incarnation.map(StoreIncarnation::new),
    })
}

fn malformed_row() -> DerivedStoreError {
    DerivedStoreError::malformed_row("a row of the table of erasures")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};
    use crate::table_store::open_test_tables;

    fn open_table() -> (tempfile::TempDir, ErasureTable) {
        let folder = tempfile::tempdir().expect("a folder");
        let table = ErasureTable::open(&open_test_tables(folder.path()));
        (folder, table)
    }

    fn ticket() -> EntityKey {
        EntityKey::try_new(Kind::Ticket, "SUP-1").expect("valid")
    }

    #[test]
    fn the_bytes_of_rows_never_change() {
        let (_folder, table) = open_table();
        let requested = table
            .add(&ticket(), Timestamp::from_micros(5))
            .expect("writes");
        let done = Erasure {
            state: ErasureState::Done,
            position: Some(Position::new(7)),
            segment: Some(3),
            finished_at: Some(Timestamp::from_micros(9)),
            ..requested
        };
        table.store(std::slice::from_ref(&done)).expect("writes");
        let value = table.0.get(&1_u64.to_be_bytes()).expect("reads");
        let json = concat!(
            "\u{1}",
            r#"{"kind":"ticket","id":"SUP-1","state":"done","position":7,"segment":3,"#,
            r#""requested_at":5,"finished_at":9}"#
        );
        assert_eq!(value.as_deref(), Some(json.as_bytes()));
        assert_eq!(table.find(1).expect("reads"), Some(done));
        assert_eq!(decode_row(&[0; 8], b"\x02{}"), None);
    }

    /// A full backup of before the erasure, with an increment of after it, has brought the content
    /// back, and the erasure counted as done.
    #[test]
    fn an_erasure_begins_anew_in_a_restored_store_and_only_there() {
        let (_folder, table) = open_table();
        let requested = table
            .add(&ticket(), Timestamp::from_micros(5))
            .expect("writes");
        let [first, second, third] = [1, 2, 3].map(StoreIncarnation::new);
        let done = Erasure {
            state: ErasureState::Done,
            position: Some(Position::new(7)),
            segment: Some(3),
            finished_at: Some(Timestamp::from_micros(9)),
            incarnation: Some(first),
            ..requested
        };
        table.store(std::slice::from_ref(&done)).expect("writes");
        let original = IncarnationHistory::new(first);
        let restored = original.restarted(second, Position::new(9));
        let state_in = |history: &IncarnationHistory| {
            table.restart_restored(history).expect("writes");
            table.find(1).expect("reads").expect("there").state
        };
        assert_eq!(state_in(&original), ErasureState::Done);
        assert_eq!(state_in(&restored), ErasureState::Rewriting);

        let again = Erasure {
            incarnation: Some(second),
            ..done
        };
        table.store(&[again]).expect("writes");
        assert_eq!(state_in(&restored), ErasureState::Done);
        let twice = restored.restarted(third, Position::new(20));
        assert_eq!(state_in(&twice), ErasureState::Rewriting);
    }

    #[test]
    fn erasures_are_numbered_and_the_oldest_finished_ones_are_dropped() {
        let (_folder, table) = open_table();
        let at = Timestamp::from_micros(5);
        for id in 1..=3 {
            assert_eq!(table.add(&ticket(), at).expect("writes").id, id);
        }
        table.remove(3).expect("writes");
        let many: Vec<_> = (3..FINISHED_MAX as u64 + 10)
            .map(|id| Erasure {
                id,
                state: ErasureState::Done,
                ..table.find(1).expect("reads").expect("there")
            })
            .collect();
        table.store(&many).expect("writes");
        table.add(&ticket(), at).expect("writes");
        let left = table.list().expect("reads");
        assert_eq!(left.len(), 2 + FINISHED_MAX + 1);
        assert_eq!([left[0].id, left[1].id, left[2].id], [1, 2, 10]);
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_stored_erasure_is_read_or_refused(
            value in damaged(&["\u{1}{\"kind\":\"ticket\",\"id\":\"SUP-1\",\"state\":\"done\",\"position\":7,\"requested_at\":5,\"finished_at\":9}"]),
        ) {
            let _ = decode_row(&[0, 0, 0, 0, 0, 0, 0, 1], &value);
        }
    }
}
