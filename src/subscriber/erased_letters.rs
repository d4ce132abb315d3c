//! Dead letters of events whose content goes: they hold answers of subscribers, which can quote the
//! event. Those of erased events are removed, and those of expired ones lose the answer.

use std::sync::Arc;

use super::dead_letters::{DeadLetter, DeadLetterSubject, for_each_letter};
use super::tables::dead_letters::{dead_letter_key, decode_dead_letter_row, encode_dead_letter};
use super::tables::{DeliveryTables, RowKey};
use crate::event::{EntityKey, Position};
use crate::journal::TableChange;
use crate::table_store::{JournaledTableId, TableStore, TableWriteError};

/// Returns the entity and the position of the record whose dead letter is in a row of the table of
/// deliveries; `None` for any other row.
#[must_use]
pub fn find_record_of_letter(key: &[u8], value: &[u8]) -> Option<(EntityKey, Position)> {
    let key = RowKey::from_stored(key.to_vec());
    record_of_letter(decode_dead_letter_row(&key, value)?)
}

fn record_of_letter(letter: DeadLetter) -> Option<(EntityKey, Position)> {
    match letter.subject {
        DeadLetterSubject::Event(delivery) => Some((delivery.entity, delivery.position)),
        DeadLetterSubject::Range(_) => None,
    }
}

/// Returns the row of a dead letter without what it can quote of its record, if `is_expired` holds
/// for that; `None` for any other row.
#[must_use]
pub fn expire_letter_row(
    key: &[u8],
    value: &[u8],
    is_expired: &dyn Fn(Position) -> bool,
) -> Option<Vec<u8>> {
    let key = RowKey::from_stored(key.to_vec());
    let letter = decode_dead_letter_row(&key, value)?;
    let is_of_expired = letter.quoted_position().is_some_and(is_expired);
    is_of_expired.then(|| encode_dead_letter(&letter.into_expired()))
}

/// Removes the dead letters of all records for which `is_erased` holds. The delivery stage must not
/// run. Blocks.
///
/// # Errors
/// [`TableWriteError`] when the store fails.
pub fn remove_dead_letters(
    tables: &Arc<TableStore>,
    is_erased: &dyn Fn(&EntityKey, Position) -> bool,
) -> Result<(), TableWriteError> {
    let tables = DeliveryTables::new(tables.table(JournaledTableId::Deliveries));
    let mut removals = Vec::new();
    for_each_letter(&tables, |letter| {
        let key = dead_letter_key(letter.id).into_bytes();
        let record = record_of_letter(letter);
        if record.is_some_and(|(entity, position)| is_erased(&entity, position)) {
            removals.push(TableChange::Remove { key });
        }
    })?;
    if removals.is_empty() {
        return Ok(());
    }
    tables.write(removals)
}
