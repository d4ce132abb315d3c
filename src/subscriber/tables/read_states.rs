//! Rows of the dispatcher's cursor and of each subscriber's read state.

use super::delivery_tables::DeliveryTables;
use super::row_decoder::{FORMAT, RowDecoder, decode_number, encode_number};
use super::row_key::{RowKey, TableTag};
use crate::derived::DerivedStoreError;
use crate::event::Position;
use crate::subscriber::SubscriberId;

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
        let mut rest = RowDecoder::from_value(value)?;
        match rest.read_byte()? {
            LIVE => Some(Self::Live),
            BEHIND => Some(Self::Behind(Position::new(rest.read_number()?))),
            _ => None,
        }
    }
}

pub(in crate::subscriber) fn encode_cursor(cursor: Position) -> Vec<u8> {
    encode_number(cursor.get())
}

impl DeliveryTables {
    /// Returns the dispatcher's cursor; `None` in a store that never delivered anything.
    pub(in crate::subscriber) fn cursor(&self) -> Result<Option<Position>, DerivedStoreError> {
        let key = RowKey::from_tag(TableTag::DispatcherCursor);
        let cursor = self.get_decoded(&key, decode_number)?;
        Ok(cursor.map(Position::new))
    }

    /// Returns the read states of all subscribers that have a row.
    pub(in crate::subscriber) fn read_states(
        &self,
    ) -> Result<Vec<(SubscriberId, ReadState)>, DerivedStoreError> {
        let prefix = RowKey::from_tag(TableTag::ReadState);
        self.scan_decoded(&prefix, None, usize::MAX, |key, value| {
            Some((key.subscriber()?, ReadState::decode(value)?))
        })
    }
}
