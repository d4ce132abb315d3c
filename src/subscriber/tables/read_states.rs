//! Rows of the dispatcher's cursor and of each subscriber's read state.

use super::delivery_tables::{DeliveryTables, malformed_row};
use super::row_decoder::RowDecoder;
use super::row_key::{RowKey, TableTag};
use crate::derived::DerivedStoreError;
use crate::event::Position;
use crate::subscriber::SubscriberId;

const FORMAT: u8 = 1;
const LIVE: u8 = 0;
const BEHIND: u8 = 1;

/// Cursor that holds for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::subscriber) enum ReadState {
    /// The cursor is the dispatcher's; the dispatcher hands over the records.
    Live,
    /// The cursor is the subscriber's own; its actor reads the journal from this position on.
    Behind(Position),
}

impl ReadState {
    pub(in crate::subscriber) fn encode(self) -> Vec<u8> {
        match self {
            Self::Live => vec![FORMAT, LIVE],
            Self::Behind(cursor) => [&[FORMAT, BEHIND][..], &cursor.get().to_be_bytes()].concat(),
        }
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut rest = RowDecoder::new(value);
        match (rest.read_byte()?, rest.read_byte()?) {
            (FORMAT, LIVE) => Some(Self::Live),
            (FORMAT, BEHIND) => Some(Self::Behind(Position::new(rest.read_number()?))),
            _ => None,
        }
    }
}

pub(in crate::subscriber) fn encode_cursor(cursor: Position) -> Vec<u8> {
    [&[FORMAT][..], &cursor.get().to_be_bytes()].concat()
}

fn decode_cursor(value: &[u8]) -> Option<Position> {
    let mut rest = RowDecoder::new(value);
    rest.read_byte().filter(|format| *format == FORMAT)?;
    rest.read_number().map(Position::new)
}

impl DeliveryTables {
    /// Returns the dispatcher's cursor; `None` in a store that never delivered anything.
    pub(in crate::subscriber) fn cursor(&self) -> Result<Option<Position>, DerivedStoreError> {
        let value = self.get(&RowKey::from_tag(TableTag::DispatcherCursor))?;
        value
            .map(|value| decode_cursor(&value).ok_or_else(malformed_row))
            .transpose()
    }

    /// Returns the read states of all subscribers that have a row.
    pub(in crate::subscriber) fn read_states(
        &self,
    ) -> Result<Vec<(SubscriberId, ReadState)>, DerivedStoreError> {
        let decode =
            |(key, value): (RowKey, Vec<u8>)| Some((key.subscriber()?, ReadState::decode(&value)?));
        let rows = self.scan(&RowKey::from_tag(TableTag::ReadState), None, usize::MAX)?;
        rows.into_iter()
            .map(|row| decode(row).ok_or_else(malformed_row))
            .collect()
    }
}
