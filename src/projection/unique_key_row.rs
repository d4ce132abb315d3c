//! Row of a unique key: the entity that holds the key, with the position of its first record.
//!
//! ```text
//! row  position u64 BE | length of kind u8 | kind | id
//! ```
//!
//! Rows of earlier versions end after the position; the record there names the entity.

use bytes::{Buf, BufMut};

use crate::event::{EntityKey, Kind, Position};

/// Encodes the row of a key that `entity` holds since its record at `position`.
pub(super) fn encode_unique_key_row(position: Position, entity: &EntityKey) -> Vec<u8> {
    let (kind, id) = (entity.kind().as_str(), entity.id());
    let mut row = Vec::with_capacity(9 + kind.len() + id.len());
    row.put_u64(position.get());
    row.put_u8(u8::try_from(kind.len()).expect("names of kinds are short"));
    row.put_slice(kind.as_bytes());
    row.put_slice(id.as_bytes());
    row
}

/// Decodes a row; the entity is `None` in a row of an earlier version.
pub(super) fn decode_unique_key_row(mut row: &[u8]) -> Option<(Position, Option<EntityKey>)> {
    let position = Position::new(row.try_get_u64().ok()?);
    if row.is_empty() {
        return Some((position, None));
    }
    let length = usize::from(row.try_get_u8().ok()?);
    let (kind, id) = row.split_at_checked(length)?;
    let kind = Kind::from_store(std::str::from_utf8(kind).ok()?)?;
    let entity = EntityKey::try_new(kind, std::str::from_utf8(id).ok()?).ok()?;
    Some((position, Some(entity)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_row_never_change_and_shorter_rows_are_read() {
        let entity = EntityKey::try_new(Kind::Ticket, "A").expect("valid");
        let position = Position::new(3);
        let row = encode_unique_key_row(position, &entity);
        assert_eq!(hex::encode(&row), "0000000000000003067469636b657441");
        assert_eq!(decode_unique_key_row(&row), Some((position, Some(entity))));
        assert_eq!(decode_unique_key_row(&row[..8]), Some((position, None)));
        assert_eq!(decode_unique_key_row(&row[..7]), None);
    }
}
