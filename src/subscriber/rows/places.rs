//! The rows that say where the dispatcher and every subscriber are.

use super::{Key, Rest, Rows, Tag, malformed};
use crate::event::Position;
use crate::journal::WriteError;
use crate::subscriber::SubscriberId;

const FORMAT: u8 = 1;
const LIVE: u8 = 0;
const BEHIND: u8 = 1;

/// Where a subscriber is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::subscriber) enum Place {
    /// Its cursor is the dispatcher's.
    Live,
    /// It reads for itself, from here on.
    Behind(Position),
}

impl Place {
    pub(in crate::subscriber) fn encode(self) -> Vec<u8> {
        match self {
            Self::Live => vec![FORMAT, LIVE],
            Self::Behind(position) => [&[FORMAT, BEHIND][..], &position.get().to_be_bytes()].concat(),
        }
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut rest = Rest::new(value);
        match (rest.byte()?, rest.byte()?) {
            (FORMAT, LIVE) => Some(Self::Live),
            (FORMAT, BEHIND) => Some(Self::Behind(Position::new(rest.number()?))),
            _ => None,
        }
    }
}

pub(in crate::subscriber) fn encode_cursor(cursor: Position) -> Vec<u8> {
    [&[FORMAT][..], &cursor.get().to_be_bytes()].concat()
}

impl Rows {
    /// Where the dispatcher is; `None` in a store from which nothing was ever delivered.
    pub(in crate::subscriber) fn cursor(&self) -> Result<Option<Position>, WriteError> {
        let decode = |value: Vec<u8>| match value.split_first_chunk::<1>() {
            Some((&[FORMAT], number)) => Rest::new(number).number().map(Position::new),
            Some(_) | None => None,
        };
        let value = self.read(&Key::of(Tag::Dispatcher))?;
        value.map(|value| decode(value).ok_or_else(malformed)).transpose()
    }

    /// Where every subscriber is.
    pub(in crate::subscriber) fn places(&self) -> Result<Vec<(SubscriberId, Place)>, WriteError> {
        let decode = |(key, value): (Key, Vec<u8>)| Some((key.subscriber()?, Place::decode(&value)?));
        let rows = self.scan(&Key::of(Tag::Place), None, usize::MAX)?;
        rows.into_iter().map(|row| decode(row).ok_or_else(malformed)).collect()
    }
}
