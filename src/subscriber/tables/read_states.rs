//! The rows that say where the dispatcher and every subscriber are.

use super::{DeliveryTables, RowDecoder, RowKey, TableTag, malformed_row};
use crate::event::Position;
use crate::journal::StoreWriteError;
use crate::subscriber::SubscriberId;

const FORMAT: u8 = 1;
const LIVE: u8 = 0;
const BEHIND: u8 = 1;

/// Where a subscriber is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::subscriber) enum ReadStateRow {
    /// Its cursor is the dispatcher's.
    Live,
    /// It reads for itself, from here on.
    Behind(Position),
}

impl ReadStateRow {
    pub(in crate::subscriber) fn encode(self) -> Vec<u8> {
        match self {
            Self::Live => vec![FORMAT, LIVE],
            Self::Behind(position) => {
                [&[FORMAT, BEHIND][..], &position.get().to_be_bytes()].concat()
            }
        }
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut rest = RowDecoder::new(value);
        match (rest.read_byte()?, rest.read_byte()?) {
            (FORMAT, LIVE) => Some(Self::Live),
            (FORMAT, BEHIND) => Some(Self::Behind(Position::new(rest.number()?))),
            _ => None,
        }
    }
}

pub(in crate::subscriber) fn encode_cursor(cursor: Position) -> Vec<u8> {
    [&[FORMAT][..], &cursor.get().to_be_bytes()].concat()
}

impl DeliveryTables {
    /// Where the dispatcher is; `None` in a store from which nothing was ever delivered.
    pub(in crate::subscriber) fn cursor(&self) -> Result<Option<Position>, StoreWriteError> {
        let decode = |value: Vec<u8>| match value.split_first_chunk::<1>() {
            Some((&[FORMAT], number)) => RowDecoder::new(number).number().map(Position::new),
            Some(_) | None => None,
        };
        let value = self.get(&RowKey::from_tag(TableTag::DispatcherCursor))?;
        value
            .map(|value| decode(value).ok_or_else(malformed_row))
            .transpose()
    }

    /// Where every subscriber is.
    pub(in crate::subscriber) fn read_states(
        &self,
    ) -> Result<Vec<(SubscriberId, ReadStateRow)>, StoreWriteError> {
        let decode = |(key, value): (RowKey, Vec<u8>)| {
            Some((key.subscriber()?, ReadStateRow::decode(&value)?))
        };
        let rows = self.scan(&RowKey::from_tag(TableTag::ReadState), None, usize::MAX)?;
        rows.into_iter()
            .map(|row| decode(row).ok_or_else(malformed_row))
            .collect()
    }
}
