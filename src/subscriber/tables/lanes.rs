//! The rows of stopped lanes.
//!
//! ```text
//! key    3 | subscriber | 1, kind, id of an entity; or 2, position u64 of a record
//! value  format u8 = 1 | position u64 | sequence u64 | attempts u64 | counted u64 µs | due i64 µs since 1970
//!        | flags u8: 1 = halted, 2 = a failure follows, 4 = with a status | status u64 | code UTF-8
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use super::{DeliveryTables, RowDecoder, RowKey, TableTag, malformed_row};
use crate::event::{EntityKey, Kind, Position, Timestamp};
use crate::journal::StoreWriteError;
use crate::subscriber::SubscriberId;
use crate::subscriber::delivery::{LaneKey, LaneRow};

const FORMAT: u8 = 1;
const ENTITY: u8 = 1;
const RECORD: u8 = 2;

const HALTED_FLAG: u8 = 1;
const FAILED_FLAG: u8 = 2;
const STATUS_FLAG: u8 = 4;

/// The key of the row of a lane.
#[must_use]
pub(in crate::subscriber) fn lane_key(subscriber: &SubscriberId, lane: &LaneKey) -> RowKey {
    let key = RowKey::for_subscriber(TableTag::Lane, subscriber);
    match lane {
        LaneKey::Entity(entity) => key
            .with_byte(ENTITY)
            .text(entity.kind().as_str())
            .text(entity.id()),
        LaneKey::Record(position) => key.with_byte(RECORD).number(position.get()),
    }
}

/// The value of a lane's row that is written at `now`.
#[must_use]
pub(in crate::subscriber) fn encode_lane(row: &LaneRow, now: Timestamp) -> Vec<u8> {
    let LaneRow {
        key: _,
        position,
        sequence,
        attempts,
        counted_time: counted,
        wait,
        is_halted,
        last_failure: last,
    } = row;
    let counted = u64::try_from(counted.as_micros()).unwrap_or(u64::MAX);
    let due = now.saturating_add(*wait).as_micros();
    let status = last.as_ref().and_then(|(status, _)| *status);
    let mut flags = if *is_halted { HALTED_FLAG } else { 0 };
    flags |= if last.is_some() { FAILED_FLAG } else { 0 };
    flags |= if status.is_some() { STATUS_FLAG } else { 0 };
    let mut value = vec![FORMAT];
    for number in [
        position.get(),
        *sequence,
        u64::from(*attempts),
        counted,
        due.cast_unsigned(),
    ] {
        value.extend_from_slice(&number.to_be_bytes());
    }
    value.push(flags);
    value.extend_from_slice(&u64::from(status.unwrap_or_default()).to_be_bytes());
    value.extend_from_slice(
        last.as_ref()
            .map(|(_, code)| code.as_bytes())
            .unwrap_or_default(),
    );
    value
}

/// The row of a lane, read at `now`; `None` for what is none.
#[must_use]
fn decode_lane(key: &RowKey, value: &[u8], now: Timestamp) -> Option<LaneRow> {
    let mut rest = RowDecoder::new(value);
    if rest.read_byte()? != FORMAT {
        return None;
    }
    let key = decode_lane_key(key)?;
    let (position, sequence) = (Position::new(rest.number()?), rest.number()?);
    let attempts = u32::try_from(rest.number()?).ok()?;
    let counted = Duration::from_micros(rest.number()?);
    let due = rest.number()?.cast_signed();
    let wait = Duration::from_micros(
        u64::try_from(due.saturating_sub(now.as_micros())).unwrap_or_default(),
    );
    let flags = rest.read_byte()?;
    let status = u16::try_from(rest.number()?).ok()?;
    let code = std::str::from_utf8(rest.remaining()).ok()?;
    let status = (flags & STATUS_FLAG != 0).then_some(status);
    let last = (flags & FAILED_FLAG != 0).then(|| (status, code.to_owned()));
    Some(LaneRow {
        key,
        position,
        sequence,
        attempts,
        counted_time: counted,
        wait,
        is_halted: flags & HALTED_FLAG != 0,
        last_failure: last,
    })
}

fn decode_lane_key(key: &RowKey) -> Option<LaneKey> {
    let mut rest = RowDecoder::new(key.as_bytes());
    rest.read_byte()?;
    rest.text()?;
    match rest.read_byte()? {
        ENTITY => {
            let kind = Kind::from_store(&rest.text()?)?;
            EntityKey::try_new(kind, &rest.text()?)
                .ok()
                .map(LaneKey::Entity)
        }
        RECORD => Some(LaneKey::Record(Position::new(rest.number()?))),
        _ => None,
    }
}

impl DeliveryTables {
    /// The stopped lanes of `subscriber`, read at `now`.
    pub(in crate::subscriber) fn lane_rows(
        &self,
        subscriber: &SubscriberId,
        now: Timestamp,
    ) -> Result<Vec<LaneRow>, StoreWriteError> {
        let rows = self.scan(
            &RowKey::for_subscriber(TableTag::Lane, subscriber),
            None,
            usize::MAX,
        )?;
        rows.iter()
            .map(|(key, value)| decode_lane(key, value, now).ok_or_else(malformed_row))
            .collect()
    }

    /// Those who have stopped lanes.
    pub(in crate::subscriber) fn lane_owners(
        &self,
    ) -> Result<BTreeSet<SubscriberId>, StoreWriteError> {
        let mut owners = BTreeSet::new();
        let mut after: Option<RowKey> = None;
        while let Some((key, _)) = self
            .scan(&RowKey::from_tag(TableTag::Lane), after.as_ref(), 1)?
            .pop()
        {
            let owner = key.subscriber().ok_or_else(malformed_row)?;
            // The rest of its lanes need not be looked at.
            after = Some(RowKey::for_subscriber(TableTag::Lane, &owner).with_byte(u8::MAX));
            owners.insert(owner);
        }
        Ok(owners)
    }
}
