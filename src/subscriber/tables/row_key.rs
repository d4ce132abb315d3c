//! Keys of rows: their tags, and the encoding of their parts.

use super::row_decoder::RowDecoder;
use crate::subscriber::SubscriberId;

/// Table that a row belongs to. The values are on disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(in crate::subscriber) enum TableTag {
    DispatcherCursor = 1,
    ReadState = 2,
    Lane = 3,
    DeadLetter = 4,
    Job = 5,
    Counters = 6,
}

/// Appends a text that [`super::row_decoder::RowDecoder::read_text`] reads.
pub(super) fn append_text(bytes: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(255);
        }
    }
    bytes.extend_from_slice(&[0, 1]);
}

/// Key of a row. Keys sort as their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::subscriber) struct RowKey(Vec<u8>);

impl RowKey {
    /// Prefix of all keys of the table `tag`.
    pub(in crate::subscriber) fn from_tag(tag: TableTag) -> Self {
        Self(vec![tag as u8])
    }

    /// Prefix of all keys of the table `tag` that belong to `subscriber`.
    pub(in crate::subscriber) fn for_subscriber(tag: TableTag, subscriber: &SubscriberId) -> Self {
        Self::from_tag(tag).with_text(&subscriber.to_string())
    }

    /// Appends a text, escaped so that no key is a prefix of another one.
    pub(in crate::subscriber) fn with_text(mut self, text: &str) -> Self {
        append_text(&mut self.0, text);
        self
    }

    pub(super) fn with_byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// Appends a big-endian number, so that keys sort by it.
    pub(in crate::subscriber) fn with_number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Parses the subscriber after the tag. Meaningful only for tables whose keys begin with one.
    pub(super) fn subscriber(&self) -> Option<SubscriberId> {
        let mut rest = RowDecoder::new(&self.0);
        rest.read_byte()?;
        SubscriberId::parse(&rest.read_text()?)
    }

    pub(in crate::subscriber) fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(in crate::subscriber) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(in crate::subscriber) fn has_prefix(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }
}
