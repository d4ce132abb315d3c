//! The rows of stopped lanes.
//!
//! ```text
//! key    3 | subscriber | 1, kind, id of an entity; or 2, position u64 of a record
//! value  format u8 = 1 | position u64 | sequence u64 | attempts u64 | counted u64 µs | due i64 µs since 1970
//!        | flags u8: 1 = halted, 2 = a failure follows, 4 = with a status | status u64 | code UTF-8
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Key, Rest, Rows, Tag, malformed};
use crate::event::{EntityKey, Kind, Position, Timestamp};
use crate::journal::WriteError;
use crate::subscriber::SubscriberId;
use crate::subscriber::delivery::{LaneKey, LaneRow};

const FORMAT: u8 = 1;
const ENTITY: u8 = 1;
const RECORD: u8 = 2;

const HALTED: u8 = 1;
const FAILED: u8 = 2;
const STATUS: u8 = 4;

/// The key of the row of a lane.
#[must_use]
pub(in crate::subscriber) fn lane_key(subscriber: &SubscriberId, lane: &LaneKey) -> Key {
    let key = Key::about(Tag::Lane, subscriber);
    match lane {
        LaneKey::Entity(entity) => key.byte(ENTITY).text(entity.kind().as_str()).text(entity.id()),
        LaneKey::Record(position) => key.byte(RECORD).number(position.get()),
    }
}

/// The value of a lane's row that is written at `now`.
#[must_use]
pub(in crate::subscriber) fn encode_lane(row: &LaneRow, now: Timestamp) -> Vec<u8> {
    let LaneRow { key: _, position, sequence, attempts, counted, wait, is_halted, last } = row;
    let counted = u64::try_from(counted.as_micros()).unwrap_or(u64::MAX);
    let due = now.saturating_add(*wait).as_micros();
    let status = last.as_ref().and_then(|(status, _)| *status);
    let mut flags = if *is_halted { HALTED } else { 0 };
    flags |= if last.is_some() { FAILED } else { 0 };
    flags |= if status.is_some() { STATUS } else { 0 };
    let mut value = vec![FORMAT];
    for number in [position.get(), *sequence, u64::from(*attempts), counted, due.cast_unsigned()] {
        value.extend_from_slice(&number.to_be_bytes());
    }
    value.push(flags);
    value.extend_from_slice(&u64::from(status.unwrap_or_default()).to_be_bytes());
    value.extend_from_slice(last.as_ref().map(|(_, code)| code.as_bytes()).unwrap_or_default());
    value
}

/// The row of a lane, read at `now`; `None` for what is none.
#[must_use]
fn decode_lane(key: &Key, value: &[u8], now: Timestamp) -> Option<LaneRow> {
    let mut rest = Rest::new(value);
    if rest.byte()? != FORMAT {
        return None;
    }
    let key = lane_of(key)?;
    let (position, sequence) = (Position::new(rest.number()?), rest.number()?);
    let attempts = u32::try_from(rest.number()?).ok()?;
    let counted = Duration::from_micros(rest.number()?);
    let due = rest.number()?.cast_signed();
    let wait = Duration::from_micros(u64::try_from(due.saturating_sub(now.as_micros())).unwrap_or_default());
    let flags = rest.byte()?;
    let status = u16::try_from(rest.number()?).ok()?;
    let code = std::str::from_utf8(rest.all()).ok()?;
    let status = (flags & STATUS != 0).then_some(status);
    let last = (flags & FAILED != 0).then(|| (status, code.to_owned()));
    Some(LaneRow { key, position, sequence, attempts, counted, wait, is_halted: flags & HALTED != 0, last })
}

fn lane_of(key: &Key) -> Option<LaneKey> {
    let mut rest = Rest::new(key.bytes());
    rest.byte()?;
    rest.text()?;
    match rest.byte()? {
        ENTITY => {
            let kind = Kind::from_store(&rest.text()?)?;
            EntityKey::try_new(kind, &rest.text()?).ok().map(LaneKey::Entity)
        }
        RECORD => Some(LaneKey::Record(Position::new(rest.number()?))),
        _ => None,
    }
}

impl Rows {
    /// The stopped lanes of `subscriber`, read at `now`.
    pub(in crate::subscriber) fn lanes(
        &self,
        subscriber: &SubscriberId,
        now: Timestamp,
    ) -> Result<Vec<LaneRow>, WriteError> {
        let rows = self.scan(&Key::about(Tag::Lane, subscriber), None, usize::MAX)?;
        rows.iter().map(|(key, value)| decode_lane(key, value, now).ok_or_else(malformed)).collect()
    }

    /// Those who have stopped lanes.
    pub(in crate::subscriber) fn lane_owners(&self) -> Result<BTreeSet<SubscriberId>, WriteError> {
        let mut owners = BTreeSet::new();
        let mut after: Option<Key> = None;
        while let Some((key, _)) = self.scan(&Key::of(Tag::Lane), after.as_ref(), 1)?.pop() {
            let owner = key.subscriber().ok_or_else(malformed)?;
            // The rest of its lanes need not be looked at.
            after = Some(Key::about(Tag::Lane, &owner).byte(u8::MAX));
            owners.insert(owner);
        }
        Ok(owners)
    }
}
