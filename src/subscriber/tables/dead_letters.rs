//! Rows of dead letters.
//!
//! | key after the tag | value |
//! |---|---|
//! | id u64 | format u8 = 1, JSON |
//! | 0 u64 | format u8 = 1, next free id u64 |
//!
//! The failed record itself stays in the journal; the row holds its position.

use serde::{Deserialize, Serialize};

use super::delivery_tables::DeliveryTables;
use super::row_decoder::{FORMAT, RowDecoder, decode_number, encode_number};
use super::row_key::{RowKey, TableTag};
use crate::derived::DerivedStoreError;
use crate::event::{EntityKey, Kind as EntityKind, Position, Timestamp};
use crate::subscriber::dead_letters::{
    DeadLetter, DeadLetterCause, DeadLetterSubject, FailedDelivery,
};
use crate::subscriber::{MissedRecords, SubscriberId};

/// Id that is never allocated; its row holds the next free id.
const NEXT_ID_SLOT: u64 = 0;

/// JSON of a dead letter; exactly one of `one` and `many` is present. Times are microseconds since
/// 1970. Members added later need a default.
#[derive(Serialize, Deserialize)]
struct DeadLetterRow {
    subscriber: String,
    reason: String,
    at: i64,
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    one: Option<FailedDeliveryRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    many: Option<DroppedRangeRow>,
}

#[derive(Serialize, Deserialize)]
struct FailedDeliveryRow {
    event: u64,
    event_type: String,
    kind: String,
    entity: String,
    sequence: u64,
    received_at: i64,
    attempts: u32,
    last_at: i64,
    status: Option<u16>,
    code: String,
    detail: String,
    answer: String,
    halts: bool,
}

#[derive(Serialize, Deserialize)]
struct DroppedRangeRow {
    last: u64,
    count: u64,
    /// First and last position of each gap; empty for a single gap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<(u64, u64)>,
}

impl DeliveryTables {
    /// Returns the dead letter `id`; `None` if there is none on the disk.
    pub(in crate::subscriber) fn dead_letter(
        &self,
        id: u64,
    ) -> Result<Option<DeadLetter>, DerivedStoreError> {
        if id == NEXT_ID_SLOT {
            return Ok(None);
        }
        self.get_decoded(&dead_letter_key(id), |value| decode_dead_letter(id, value))
    }

    /// Returns the first `limit` dead letters with ids above `after`, by ascending id.
    pub(in crate::subscriber) fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, DerivedStoreError> {
        // The slot of the next free id sorts first, and every `after` skips it.
        let (prefix, after) = (
            RowKey::from_tag(TableTag::DeadLetter),
            dead_letter_key(after),
        );
        self.scan_decoded(&prefix, Some(&after), limit, |key, value| {
            decode_dead_letter(dead_letter_id(key)?, value)
        })
    }

    /// Returns the next free id of the table `tag`, from 1 on.
    pub(in crate::subscriber) fn next_id(&self, tag: TableTag) -> Result<u64, DerivedStoreError> {
        let next = self.get_decoded(&next_id_key(tag), decode_number)?;
        Ok(next.unwrap_or(1))
    }
}

pub(in crate::subscriber) fn dead_letter_key(id: u64) -> RowKey {
    RowKey::from_tag(TableTag::DeadLetter).with_number(id)
}

/// Decodes a row of a dead letter; `None` for a row of another table.
pub(in crate::subscriber) fn decode_dead_letter_row(
    key: &RowKey,
    value: &[u8],
) -> Option<DeadLetter> {
    let is_letter = key.has_prefix(&RowKey::from_tag(TableTag::DeadLetter));
    let id = dead_letter_id(key).filter(|id| is_letter && *id != NEXT_ID_SLOT)?;
    decode_dead_letter(id, value)
}

/// Parses the id in a key made by [`dead_letter_key`].
fn dead_letter_id(key: &RowKey) -> Option<u64> {
    let mut rest = RowDecoder::new(key.as_bytes());
    rest.read_byte()?;
    rest.read_number()
}

/// Key of the row that holds the next free id of the table `tag`.
pub(in crate::subscriber) fn next_id_key(tag: TableTag) -> RowKey {
    RowKey::from_tag(tag).with_number(NEXT_ID_SLOT)
}

pub(in crate::subscriber) fn encode_next_id(next: u64) -> Vec<u8> {
    encode_number(next)
}

pub(in crate::subscriber) fn encode_dead_letter(letter: &DeadLetter) -> Vec<u8> {
    let (position, one, many) = match &letter.subject {
        DeadLetterSubject::Event(delivery) => (
            delivery.position,
            Some(to_failed_delivery_row(delivery)),
            None,
        ),
        DeadLetterSubject::Range(missed) => {
            let (first, row) = to_dropped_range_row(missed);
            (first, None, Some(row))
        }
    };
    let stored = DeadLetterRow {
        subscriber: letter.subscriber.to_string(),
        reason: letter.cause.as_str().to_owned(),
        at: letter.at.as_micros(),
        position: position.get(),
        one,
        many,
    };
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, &stored)
        .expect("its members have JSON texts, and a Vec takes every write");
    bytes
}

/// Returns the row of `missed`, and the position of its first record.
fn to_dropped_range_row(missed: &MissedRecords) -> (Position, DroppedRangeRow) {
    let (first, last) = missed
        .bounds()
        .unwrap_or((Position::FIRST, Position::FIRST));
    let gaps = match missed.gaps() {
        [_] => Vec::new(),
        gaps => gaps
            .iter()
            .map(|(first, last)| (first.get(), last.get()))
            .collect(),
    };
    let row = DroppedRangeRow {
        last: last.get(),
        count: missed.count(),
        gaps,
    };
    (first, row)
}

fn from_dropped_range_row(first: Position, row: DroppedRangeRow) -> Option<MissedRecords> {
    let DroppedRangeRow { last, count, gaps } = row;
    let gaps = if gaps.is_empty() {
        vec![(first, Position::new(last))]
    } else {
        let position = |(first, last)| (Position::new(first), Position::new(last));
        gaps.into_iter().map(position).collect()
    };
    MissedRecords::from_stored(gaps, count)
}

fn to_failed_delivery_row(delivery: &FailedDelivery) -> FailedDeliveryRow {
    FailedDeliveryRow {
        event: delivery.event.get(),
        event_type: delivery.event_type.clone(),
        kind: delivery.entity.kind().as_str().to_owned(),
        entity: delivery.entity.id().to_owned(),
        sequence: delivery.sequence,
        received_at: delivery.received_at.as_micros(),
        attempts: delivery.attempts,
        last_at: delivery.last_at.as_micros(),
        status: delivery.status,
        code: delivery.code.clone(),
        detail: delivery.detail.clone(),
        answer: delivery.answer.clone(),
        halts: delivery.is_halting,
    }
}

fn decode_dead_letter(id: u64, bytes: &[u8]) -> Option<DeadLetter> {
    let json = RowDecoder::from_value(bytes)?.remaining();
    let stored: DeadLetterRow = serde_json::from_slice(json).ok()?;
    let position = Position::new(stored.position);
    let subject = match (stored.one, stored.many) {
        (Some(one), None) => {
            DeadLetterSubject::Event(Box::new(from_failed_delivery_row(position, one)?))
        }
        (None, Some(row)) => DeadLetterSubject::Range(from_dropped_range_row(position, row)?),
        (Some(_), Some(_)) | (None, None) => return None,
    };
    Some(DeadLetter {
        id,
        subscriber: SubscriberId::parse(&stored.subscriber)?,
        cause: DeadLetterCause::parse(&stored.reason)?,
        at: Timestamp::from_micros(stored.at),
        subject,
    })
}

fn from_failed_delivery_row(position: Position, one: FailedDeliveryRow) -> Option<FailedDelivery> {
    Some(FailedDelivery {
        position,
        event: Position::new(one.event),
        event_type: one.event_type,
        entity: EntityKey::try_new(EntityKind::from_store(&one.kind)?, &one.entity).ok()?,
        sequence: one.sequence,
        received_at: Timestamp::from_micros(one.received_at),
        attempts: one.attempts,
        last_at: Timestamp::from_micros(one.last_at),
        status: one.status,
        code: one.code,
        detail: one.detail,
        answer: one.answer,
        is_halting: one.halts,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    fn sample() -> DeadLetter {
        let delivery = FailedDelivery {
            position: Position::new(9),
            event: Position::new(7),
            event_type: "status.changed".into(),
            entity: EntityKey::try_new(EntityKind::Ticket, "SUP-1").expect("valid"),
            sequence: 3,
            received_at: Timestamp::from_micros(1),
            attempts: 8,
            last_at: Timestamp::from_micros(2),
            status: Some(503),
            code: "status".into(),
            detail: "the answer was 503".into(),
            answer: "down".into(),
            is_halting: true,
        };
        let subject = DeadLetterSubject::Event(Box::new(delivery));
        let (subscriber, at) = (SubscriberId::Webhook(4), Timestamp::from_micros(3));
        DeadLetter {
            id: 5,
            subscriber,
            cause: DeadLetterCause::Exhausted,
            at,
            subject,
        }
    }

    #[test]
    fn the_bytes_of_dead_letters_never_change() {
        assert_eq!(
            hex::encode(dead_letter_key(5).as_bytes()),
            "040000000000000005"
        );
        assert_eq!(
            hex::encode(next_id_key(TableTag::DeadLetter).as_bytes()),
            "040000000000000000"
        );
        assert_eq!(hex::encode(encode_next_id(6)), "010000000000000006");
        let one = concat!(
            "\u{1}",
            r#"{"subscriber":"webhook:4","reason":"exhausted","at":3,"position":9,"one":{"event":7,"#,
            r#""event_type":"status.changed","kind":"ticket","entity":"SUP-1","sequence":3,"received_at":1,"#,
            r#""attempts":8,"last_at":2,"status":503,"code":"status","detail":"the answer was 503","#,
            r#""answer":"down","halts":true}}"#
        );
        assert_eq!(
            String::from_utf8(encode_dead_letter(&sample())).expect("text"),
            one
        );
        assert_eq!(decode_dead_letter(5, one.as_bytes()), Some(sample()));
        let missed = |gaps: &[(u64, u64)]| {
            let position =
                |(first, last): &(u64, u64)| (Position::new(*first), Position::new(*last));
            MissedRecords::from_stored(gaps.iter().map(position).collect(), 5)
                .map(DeadLetterSubject::Range)
                .expect("ordered gaps")
        };
        let subject = missed(&[(2, 8)]);
        let letter = DeadLetter {
            subscriber: SubscriberId::AutoReply,
            cause: DeadLetterCause::Expired,
            subject,
            ..sample()
        };
        let many = "\u{1}{\"subscriber\":\"auto_reply\",\"reason\":\"expired\",\"at\":3,\"position\":2,\"many\":{\"last\":8,\"count\":5}}";
        assert_eq!(
            String::from_utf8(encode_dead_letter(&letter)).expect("text"),
            many
        );
        assert_eq!(decode_dead_letter(5, many.as_bytes()), Some(letter.clone()));
        let apart = "\u{1}{\"subscriber\":\"auto_reply\",\"reason\":\"expired\",\"at\":3,\"position\":2,\"many\":{\"last\":8,\"count\":5,\"gaps\":[[2,4],[7,8]]}}";
        let letter = DeadLetter {
            subject: missed(&[(2, 4), (7, 8)]),
            ..letter
        };
        assert_eq!(
            String::from_utf8(encode_dead_letter(&letter)).expect("text"),
            apart
        );
        assert_eq!(decode_dead_letter(5, apart.as_bytes()), Some(letter));
    }

    #[test]
    fn what_is_no_dead_letter_of_this_format_is_not_read() {
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x01{}",
            b"\x02{\"subscriber\":\"auto_reply\"}",
        ] {
            assert_eq!(decode_dead_letter(5, bytes), None);
        }
        let mut newer = encode_dead_letter(&sample());
        newer[0] = 2;
        assert_eq!(decode_dead_letter(5, &newer), None);
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_stored_dead_letter_is_read_or_refused(bytes in damaged(&[encode_dead_letter(&sample())])) {
            let _ = decode_dead_letter(1, &bytes);
        }
    }
}
