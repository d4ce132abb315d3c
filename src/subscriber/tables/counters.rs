//! The rows of what is counted of each subscriber.
//!
//! ```text
//! value  format u8 = 1 | delivered u64 | failed u64 | dropped u64 | last success i64 | failing since i64
//! ```
//!
//! Times are microseconds since 1970, 0 for none.

use super::{DeliveryTables, RowDecoder, RowKey, TableTag, malformed_row};
use crate::event::Timestamp;
use crate::journal::StoreWriteError;
use crate::subscriber::SubscriberId;

const FORMAT: u8 = 1;

/// What is counted of a subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::subscriber) struct SubscriberCounters {
    /// Deliveries that were accepted.
    pub(in crate::subscriber) delivered: u64,
    /// Attempts that failed.
    pub(in crate::subscriber) failed: u64,
    /// Deliveries that were given up without having failed.
    pub(in crate::subscriber) dropped: u64,
    /// When a delivery was accepted last.
    pub(in crate::subscriber) last_success_at: Option<Timestamp>,
    /// Since when there was no success, if the last attempts failed.
    pub(in crate::subscriber) failing_since: Option<Timestamp>,
}

impl SubscriberCounters {
    pub(in crate::subscriber) fn encode(&self) -> Vec<u8> {
        let time = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_micros).cast_unsigned();
        let times = [time(self.last_success_at), time(self.failing_since)];
        let numbers = [
            self.delivered,
            self.failed,
            self.dropped,
            times[0],
            times[1],
        ];
        let mut value = vec![FORMAT];
        numbers
            .iter()
            .for_each(|number| value.extend_from_slice(&number.to_be_bytes()));
        value
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut rest = RowDecoder::new(value);
        if rest.read_byte()? != FORMAT {
            return None;
        }
        let (delivered, failed, dropped) = (rest.number()?, rest.number()?, rest.number()?);
        let mut time = || {
            let micros = rest.number()?.cast_signed();
            Some((micros != 0).then(|| Timestamp::from_micros(micros)))
        };
        Some(Self {
            delivered,
            failed,
            dropped,
            last_success_at: time()?,
            failing_since: time()?,
        })
    }
}

impl DeliveryTables {
    /// What is counted of every subscriber.
    pub(in crate::subscriber) fn counters(
        &self,
    ) -> Result<Vec<(SubscriberId, SubscriberCounters)>, StoreWriteError> {
        let decode = |(key, value): (RowKey, Vec<u8>)| {
            Some((key.subscriber()?, SubscriberCounters::decode(&value)?))
        };
        let rows = self.scan(&RowKey::from_tag(TableTag::Counters), None, usize::MAX)?;
        rows.into_iter()
            .map(|row| decode(row).ok_or_else(malformed_row))
            .collect()
    }
}
