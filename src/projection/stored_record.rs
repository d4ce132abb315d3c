//! Record of the journal in its decoded form, and the outline that is left of a removed one.
//!
//! ```text
//! outline  format u8 = 1 | position u64 BE | received_at i64 BE µs | committed_at i64 BE µs
//!          | record without payload, change, answer, warnings and call body
//! ```

use bytes::{Buf, BufMut, Bytes};

use crate::event::{Position, Record, Timestamp};
use crate::journal::{JournalFrame, JournalReadError};

const FORMAT: u8 = 1;

/// Record with its position and the times of its storage.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    /// Position of the record in the journal.
    pub position: Position,
    /// Receive time of the record's request.
    pub received_at: Timestamp,
    /// Time at which the record's commit was written.
    pub committed_at: Timestamp,
    /// Record in its decoded form.
    pub record: Record,
    /// True if the content is left out here, because the page of a list had no room for it.
    pub omits_content: bool,
}

impl StoredRecord {
    /// Decodes the record at `position` of `frame`.
    ///
    /// # Errors
    /// [`JournalReadError::Missing`] if the frame has no valid record there.
    pub fn from_frame(frame: &JournalFrame, position: Position) -> Result<Self, JournalReadError> {
        let missing = || JournalReadError::Missing(position);
        let entry = frame.entry(position).ok_or_else(missing)?;
        let record = Record::decode(&entry.bytes).map_err(|_| missing())?;
        Ok(Self {
            position,
            received_at: entry.received_at,
            committed_at: frame.committed_at,
            record,
            omits_content: false,
        })
    }

    /// Encodes what a list of entities needs of the record.
    pub(super) fn encode_outline(&self) -> Vec<u8> {
        let record = self.record.clone().into_outline();
        let mut value = vec![FORMAT];
        value.put_u64(self.position.get());
        value.put_i64(self.received_at.as_micros());
        value.put_i64(self.committed_at.as_micros());
        value.extend(record.encode());
        value
    }

    /// Decodes an outline; `None` if it is malformed.
    pub(super) fn from_outline(mut value: Bytes) -> Option<Self> {
        value.try_get_u8().ok().filter(|format| *format == FORMAT)?;
        Some(Self {
            position: Position::new(value.try_get_u64().ok()?),
            received_at: Timestamp::from_micros(value.try_get_i64().ok()?),
            committed_at: Timestamp::from_micros(value.try_get_i64().ok()?),
            record: Record::decode(&value).ok()?,
            omits_content: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EntityKey, Kind};

    #[test]
    fn an_outline_has_everything_but_the_content_and_its_bytes_never_change() {
        let entity = EntityKey::try_new(Kind::Ticket, "A").expect("valid");
        let at = Timestamp::from_micros(1);
        let whole = Record {
            payload: Bytes::from_static(b"secret"),
            change: Bytes::from_static(b"secret"),
            answer: Bytes::from_static(b"secret"),
            warnings: vec!["secret".into()],
            call_body: Bytes::from_static(b"secret"),
            sequence: Some(2),
            ..Record::new("s", entity, "e", at)
        };
        let stored = StoredRecord {
            position: Position::new(3),
            received_at: Timestamp::from_micros(4),
            committed_at: Timestamp::from_micros(5),
            record: whole.clone(),
            omits_content: false,
        };
        let outline = stored.encode_outline();
        assert_eq!(
            hex::encode(&outline),
            "01000000000000000300000000000000040000000000000005\
             01080000000000000001\
             0d080000000000000001\
             020173\
             03067469636b6574\
             040141\
             05080000000000000002\
             060165\
             0900"
        );
        let found = StoredRecord::from_outline(outline.into()).expect("an outline");
        assert_eq!(found.position, stored.position);
        let expected = Record {
            payload: Bytes::new(),
            change: Bytes::new(),
            answer: Bytes::new(),
            warnings: Vec::new(),
            call_body: Bytes::new(),
            ..whole
        };
        assert_eq!(found.record, expected);
    }
}
