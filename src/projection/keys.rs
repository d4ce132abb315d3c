//! Keys of the projection's tree.
//!
//! | tag | key after the tag | value |
//! |---|---|---|
//! | 1 | – | cursor row |
//! | 2 | entity, chunk u32 | timeline: positions of 64 records, slot = (sequence − 1) mod 64 |
//! | 3 | entity, sequence u64, chunk u16 | a part of the entity's state after that record |
//! | 4 | kind, number u64 | id of the kind's n-th entity, from 0 |
//! | 5 | block u64 | event block: attributes of 512 events, for filters |
//! | 6 | position u64 | positions of the records that reprocess or resolve the event there |
//! | 7 | position u64, chunk u16 | a part of a sorted claim block, by the block's last position |
//! | 8 | – | name table: the names that event blocks refer to by number |
//! | 9 | unique key | entity that holds the unique key, and the position of its first record |
//! | 10 | position u64 | empty: the event there is pending |
//! | 11 | entity, 1 or 2 u8 | outline of the entity's first (1) or last (2) record, if it is removed |
//! | 12 | – | position u64 before which no state needs the content that retention removes |
//!
//! Integers are big-endian, so that keys sort in the order of their values. In a text the byte 0 is
//! written as `0, 255`, and `0, 1` ends the text. So no text's key is a prefix of another's, and
//! texts sort by their bytes.

use crate::event::{EntityKey, Kind, Position};

/// Name of the tree with all derived rows.
pub(super) const PROJECTION_TREE: &str = "projection";

pub(super) const CURSOR: &[u8] = &[1];
const TIMELINE: u8 = 2;
const SNAPSHOT: u8 = 3;
const KIND_ENTITY: u8 = 4;
const EVENTS: u8 = 5;
const ATTEMPTS: u8 = 6;
pub(super) const CLAIMS: u8 = 7;
pub(super) const NAMES: &[u8] = &[8];
pub(super) const UNIQUE_KEY: u8 = 9;
const PENDING_EVENT: u8 = 10;
const OUTLINE: u8 = 11;
pub(super) const PREPARED: &[u8] = &[12];

const FIRST_RECORD: u8 = 1;
const LAST_RECORD: u8 = 2;

fn push_text(key: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(255);
        }
    }
    key.extend_from_slice(&[0, 1]);
}

fn entity_prefix(tag: u8, entity: &EntityKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(entity.id().len() + 32);
    key.push(tag);
    push_text(&mut key, entity.kind().as_str());
    push_text(&mut key, entity.id());
    key
}

pub(super) fn timeline_prefix(key: &EntityKey) -> Vec<u8> {
    entity_prefix(TIMELINE, key)
}

pub(super) fn timeline_key(key: &EntityKey, chunk: u32) -> Vec<u8> {
    let mut key = timeline_prefix(key);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// Returns the chunk number from a key of [`timeline_key`].
pub(super) fn timeline_chunk(key: &[u8]) -> Option<u32> {
    key.last_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

pub(super) fn snapshot_prefix(key: &EntityKey) -> Vec<u8> {
    entity_prefix(SNAPSHOT, key)
}

pub(super) fn snapshot_key(key: &EntityKey, sequence: u64, chunk: u16) -> Vec<u8> {
    let mut key = snapshot_prefix(key);
    key.extend_from_slice(&sequence.to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// Returns the sequence from a key of [`snapshot_key`].
pub(super) fn snapshot_sequence(key: &[u8]) -> Option<u64> {
    let (sequence, _chunk) = key.last_chunk::<10>()?.split_first_chunk::<8>()?;
    Some(u64::from_be_bytes(*sequence))
}

pub(super) fn kind_entity_key(kind: Kind, number: u64) -> Vec<u8> {
    let mut key = vec![KIND_ENTITY];
    push_text(&mut key, kind.as_str());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn event_block_key(block: u64) -> [u8; 9] {
    numbered_key(EVENTS, block)
}

/// Returns the block number from a key of [`event_block_key`].
pub(super) fn event_block_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::from_be_bytes(*number))
}

pub(super) fn attempts_key(position: Position) -> [u8; 9] {
    numbered_key(ATTEMPTS, position.get())
}

pub(super) fn claims_key(last: Position, chunk: u16) -> [u8; 11] {
    let mut key = [0; 11];
    key[..9].copy_from_slice(&numbered_key(CLAIMS, last.get()));
    key[9..].copy_from_slice(&chunk.to_be_bytes());
    key
}

pub(super) fn unique_key(unique_key: &str) -> Vec<u8> {
    let mut key = vec![UNIQUE_KEY];
    push_text(&mut key, unique_key);
    key
}

pub(super) fn pending_event_key(position: Position) -> [u8; 9] {
    numbered_key(PENDING_EVENT, position.get())
}

/// Returns the position from a key of [`pending_event_key`].
pub(super) fn pending_event_position(key: &[u8]) -> Option<Position> {
    key.last_chunk()
        .map(|number| Position::new(u64::from_be_bytes(*number)))
}

pub(super) fn first_outline_key(entity: &EntityKey) -> Vec<u8> {
    let mut key = entity_prefix(OUTLINE, entity);
    key.push(FIRST_RECORD);
    key
}

pub(super) fn last_outline_key(entity: &EntityKey) -> Vec<u8> {
    let mut key = entity_prefix(OUTLINE, entity);
    key.push(LAST_RECORD);
    key
}

/// Row that speaks of records only, and so becomes obsolete with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovableRow<'k> {
    /// Row of a timeline, with the key's part that names the entity.
    Timeline { entity: &'k [u8] },
    /// Event block with this number.
    Events { block: u64 },
    /// Attempts at the event at this position.
    Attempts { event: Position },
}

/// Parses the key of a row that can become obsolete.
pub(super) fn removable_row(key: &[u8]) -> Option<RemovableRow<'_>> {
    match *key.first()? {
        TIMELINE => {
            let (entity, _chunk) = key.split_last_chunk::<4>()?;
            Some(RemovableRow::Timeline { entity })
        }
        EVENTS => event_block_number(key).map(|block| RemovableRow::Events { block }),
        ATTEMPTS => event_block_number(key).map(|event| RemovableRow::Attempts {
            event: Position::new(event),
        }),
        _ => None,
    }
}

/// Returns the block's last position from a key of [`claims_key`].
pub(super) fn claims_last(key: &[u8]) -> Option<Position> {
    let (position, _chunk) = key.get(1..)?.split_first_chunk::<8>()?;
    Some(Position::new(u64::from_be_bytes(*position)))
}

/// Returns the part number from a key of [`claims_key`].
pub(super) fn claims_part(key: &[u8]) -> Option<u16> {
    key.last_chunk().map(|part| u16::from_be_bytes(*part))
}

fn numbered_key(tag: u8, number: u64) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket(id: &str) -> EntityKey {
        EntityKey::try_new(Kind::Ticket, id).expect("valid")
    }

    #[test]
    fn the_bytes_of_keys_never_change() {
        assert_eq!(
            hex::encode(timeline_key(&ticket("A"), 2)),
            "027469636b6574000141000100000002"
        );
        assert_eq!(
            hex::encode(snapshot_key(&ticket("A"), 3, 1)),
            "037469636b6574000141000100000000000000030001"
        );
        assert_eq!(
            hex::encode(kind_entity_key(Kind::Ticket, 9)),
            "047469636b657400010000000000000009"
        );
        assert_eq!(hex::encode(event_block_key(1)), "050000000000000001");
        assert_eq!(
            hex::encode(attempts_key(Position::new(1))),
            "060000000000000001"
        );
        assert_eq!(hex::encode(unique_key("C")), "09430001");
        assert_eq!(
            hex::encode(pending_event_key(Position::new(1))),
            "0a0000000000000001"
        );
        assert_eq!(
            hex::encode(first_outline_key(&ticket("A"))),
            "0b7469636b6574000141000101"
        );
        assert_eq!(
            hex::encode(last_outline_key(&ticket("A"))),
            "0b7469636b6574000141000102"
        );
        assert_eq!(
            hex::encode(claims_key(Position::new(1), 2)),
            "0700000000000000010002"
        );
    }

    proptest! {
        #[test]
        fn keys_sort_in_the_order_of_their_values(
            a in "[^\\p{Cc}]{1,9}",
            b in "[^\\p{Cc}]{1,9}",
            m in any::<u32>(),
            n in any::<u32>(),
        ) {
            let (first, second) = (timeline_key(&ticket(&a), m), timeline_key(&ticket(&b), n));
            prop_assert_eq!(first.cmp(&second), (a.as_bytes(), m).cmp(&(b.as_bytes(), n)));
            prop_assert_eq!(timeline_chunk(&first), Some(m));
        }

        #[test]
        fn texts_with_zero_bytes_sort_as_texts(a in "[\0\u{1}a]{0,6}", b in "[\0\u{1}a]{0,6}") {
            let encoded = |value: &str| {
                let mut key = Vec::new();
                push_text(&mut key, value);
                key
            };
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.as_bytes().cmp(b.as_bytes()));
            prop_assert!(a == b || !encoded(&a).starts_with(&encoded(&b)));
        }

        #[test]
        fn no_entity_s_rows_are_among_another_s(
            a in "[^\\p{Cc}]{1,5}",
            b in "[^\\p{Cc}]{1,5}",
            n in any::<u64>(),
        ) {
            prop_assume!(a != b);
            let key = snapshot_key(&ticket(&a), n, 0);
            prop_assert!(!key.starts_with(&snapshot_prefix(&ticket(&b))));
        }
    }
}
