//! Rows of lanes, which let the cursor pass records that are not settled yet.
//!
//! | lane | purpose of its row |
//! |---|---|
//! | stopped | its first record waits for a retry |
//! | halted | its dead letter has to be delivered or discarded first |
//! | in delivery | its first record was read before the last checkpoint and is not settled |
//! | finished, ahead of the reader | the reader must not deliver its settled records again |
//!
//! ```text
//! key    3 | subscriber | 1, kind, id of the entity; or 2, position u64 of a single record
//! value  format u8 = 1 | position u64 | sequence u64 | attempts u64 | counted time u64 µs | due i64 µs since 1970
//!        | flags u8: 1 = halted, 2 = a failure follows, 4 = with a status, 8 = an entity follows | status u64
//!        | kind, id of the entity of a single record | code UTF-8
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use super::delivery_tables::{DeliveryTables, malformed_row};
use super::row_decoder::{FORMAT, RowDecoder};
use super::row_key::{RowKey, TableTag, append_text};
use crate::derived::DerivedStoreError;
use crate::event::{EntityKey, Kind, Position, Timestamp};
use crate::subscriber::SubscriberId;
use crate::subscriber::delivery::{LaneKey, LaneRow};

const ENTITY: u8 = 1;
const RECORD: u8 = 2;

const HALTED_FLAG: u8 = 1;
const FAILED_FLAG: u8 = 2;
const STATUS_FLAG: u8 = 4;
const ENTITY_FLAG: u8 = 8;

pub(in crate::subscriber) fn lane_key(subscriber: &SubscriberId, lane: &LaneKey) -> RowKey {
    let key = RowKey::for_subscriber(TableTag::Lane, subscriber);
    match lane {
        LaneKey::Entity(entity) => key
            .with_byte(ENTITY)
            .with_text(entity.kind().as_str())
            .with_text(entity.id()),
        LaneKey::Record(position) => key.with_byte(RECORD).with_number(position.get()),
    }
}

/// Encodes a lane's row that is written at `now`; the wait is stored as the wall time of its end.
pub(in crate::subscriber) fn encode_lane(row: &LaneRow, now: Timestamp) -> Vec<u8> {
    let LaneRow {
        key: _,
        entity,
        position,
        sequence,
        attempts,
        counted_time,
        wait,
        is_halted,
        last_failure,
    } = row;
    let counted_micros = u64::try_from(counted_time.as_micros()).unwrap_or(u64::MAX);
    let due = now.saturating_add(*wait).as_micros();
    let status = last_failure.as_ref().and_then(|(status, _)| *status);

    let mut flags = if *is_halted { HALTED_FLAG } else { 0 };
    flags |= if last_failure.is_some() {
        FAILED_FLAG
    } else {
        0
    };
    flags |= if status.is_some() { STATUS_FLAG } else { 0 };
    flags |= if entity.is_some() { ENTITY_FLAG } else { 0 };

    let mut value = vec![FORMAT];
    for number in [
        position.get(),
        *sequence,
        u64::from(*attempts),
        counted_micros,
        due.cast_unsigned(),
    ] {
        value.extend_from_slice(&number.to_be_bytes());
    }
    value.push(flags);
    value.extend_from_slice(&u64::from(status.unwrap_or_default()).to_be_bytes());
    if let Some(entity) = entity {
        append_text(&mut value, entity.kind().as_str());
        append_text(&mut value, entity.id());
    }
    value.extend_from_slice(
        last_failure
            .as_ref()
            .map(|(_, code)| code.as_bytes())
            .unwrap_or_default(),
    );
    value
}

/// Decodes a lane's row that is read at `now`; `None` if it is malformed.
fn decode_lane(key: &RowKey, value: &[u8], now: Timestamp) -> Option<LaneRow> {
    let mut rest = RowDecoder::from_value(value)?;
    let key = decode_lane_key(key)?;
    let (position, sequence) = (Position::new(rest.read_number()?), rest.read_number()?);
    let attempts = u32::try_from(rest.read_number()?).ok()?;
    let counted_time = Duration::from_micros(rest.read_number()?);
    let due = rest.read_number()?.cast_signed();
    let wait = Duration::from_micros(
        u64::try_from(due.saturating_sub(now.as_micros())).unwrap_or_default(),
    );

    let flags = rest.read_byte()?;
    let status = u16::try_from(rest.read_number()?).ok()?;
    let entity = if flags & ENTITY_FLAG == 0 {
        None
    } else {
        Some(read_entity(&mut rest)?)
    };
    let code = std::str::from_utf8(rest.remaining()).ok()?;
    let status = (flags & STATUS_FLAG != 0).then_some(status);
    let last_failure = (flags & FAILED_FLAG != 0).then(|| (status, code.to_owned()));

    Some(LaneRow {
        key,
        entity,
        position,
        sequence,
        attempts,
        counted_time,
        wait,
        is_halted: flags & HALTED_FLAG != 0,
        last_failure,
    })
}

fn decode_lane_key(key: &RowKey) -> Option<LaneKey> {
    let mut rest = RowDecoder::new(key.as_bytes());
    rest.read_byte()?;
    rest.read_text()?;
    match rest.read_byte()? {
        ENTITY => read_entity(&mut rest).map(LaneKey::Entity),
        RECORD => Some(LaneKey::Record(Position::new(rest.read_number()?))),
        _ => None,
    }
}

fn read_entity(rest: &mut RowDecoder<'_>) -> Option<EntityKey> {
    let kind = Kind::from_store(&rest.read_text()?)?;
    EntityKey::try_new(kind, &rest.read_text()?).ok()
}

impl DeliveryTables {
    /// Returns the stored lanes of `subscriber`, with their waits as of `now`.
    pub(in crate::subscriber) fn lane_rows(
        &self,
        subscriber: &SubscriberId,
        now: Timestamp,
    ) -> Result<Vec<LaneRow>, DerivedStoreError> {
        let prefix = RowKey::for_subscriber(TableTag::Lane, subscriber);
        self.scan_decoded(&prefix, None, usize::MAX, |key, value| {
            decode_lane(key, value, now)
        })
    }

    /// Returns the stored lane `lane` of `subscriber`, with its wait as of `now`.
    pub(in crate::subscriber) fn lane_row(
        &self,
        subscriber: &SubscriberId,
        lane: &LaneKey,
        now: Timestamp,
    ) -> Result<Option<LaneRow>, DerivedStoreError> {
        let key = lane_key(subscriber, lane);
        self.get_decoded(&key, |value| decode_lane(&key, value, now))
    }

    /// Returns the subscribers that have stopped lanes.
    pub(in crate::subscriber) fn lane_owners(
        &self,
    ) -> Result<BTreeSet<SubscriberId>, DerivedStoreError> {
        let mut owners = BTreeSet::new();
        let mut after: Option<RowKey> = None;
        while let Some((key, _)) = self
            .scan(&RowKey::from_tag(TableTag::Lane), after.as_ref(), 1)?
            .pop()
        {
            let owner = key.subscriber().ok_or_else(malformed_row)?;
            // Skip the other lanes of this subscriber.
            after = Some(RowKey::for_subscriber(TableTag::Lane, &owner).with_byte(u8::MAX));
            owners.insert(owner);
        }
        Ok(owners)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]

        #[test]
        fn any_stored_lane_is_read_or_refused(
            key in damaged(&["\u{3}webhook:4\0\u{1}\u{0}ticket\0\u{1}SUP-1\0\u{1}", "\u{3}webhook:4\0\u{1}\u{1}\0\0\0\0\0\0\0\u{9}"]),
            value in damaged(&[[&[FORMAT][..], &[0; 40], b"\x0f\0\0\0\0\0\0\x01\xf4ticket\0\x01SUP-1\0\x01status"].concat()]),
        ) {
            let _ = decode_lane(&RowKey::from_stored(key), &value, Timestamp::from_micros(7));
        }
    }
}
