//! Rows of the counters of each subscriber.
//!
//! ```text
//! value  format u8 = 1 | delivered u64 | failed u64 | dropped u64 | last success i64 | failing since i64
//!        | failing time u64 µs, absent in rows of earlier versions
//! ```
//!
//! Times are microseconds since 1970, 0 for none.

use std::time::Duration;

use super::delivery_tables::DeliveryTables;
use super::row_decoder::{FORMAT, RowDecoder};
use super::row_key::{RowKey, TableTag};
use crate::derived::DerivedStoreError;
use crate::event::Timestamp;
use crate::subscriber::SubscriberId;

/// Counters of the deliveries to one subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::subscriber) struct SubscriberCounters {
    /// Deliveries that the subscriber accepted.
    pub(in crate::subscriber) delivered: u64,
    /// Attempts that failed, retries included.
    pub(in crate::subscriber) failed: u64,
    /// Deliveries dropped without an attempt: they had expired, or the subscriber was disabled.
    pub(in crate::subscriber) dropped: u64,
    /// Time of the last accepted delivery.
    pub(in crate::subscriber) last_success_at: Option<Timestamp>,
    /// Time of the first failure since the last success; `None` if the last attempt succeeded.
    pub(in crate::subscriber) failing_since: Option<Timestamp>,
    /// Time without a success that counts towards disabling the subscriber.
    pub(in crate::subscriber) failing_for: Duration,
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
            u64::try_from(self.failing_for.as_micros()).unwrap_or(u64::MAX),
        ];

        let mut value = vec![FORMAT];
        numbers
            .iter()
            .for_each(|number| value.extend_from_slice(&number.to_be_bytes()));
        value
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut rest = RowDecoder::from_value(value)?;
        let [delivered, failed, dropped] = [
            rest.read_number()?,
            rest.read_number()?,
            rest.read_number()?,
        ];
        let mut time = || {
            let micros = rest.read_number()?.cast_signed();
            Some((micros != 0).then(|| Timestamp::from_micros(micros)))
        };
        Some(Self {
            delivered,
            failed,
            dropped,
            last_success_at: time()?,
            failing_since: time()?,
            failing_for: Duration::from_micros(rest.read_number().unwrap_or_default()),
        })
    }
}

impl DeliveryTables {
    /// Returns the counters of all subscribers that have a row.
    pub(in crate::subscriber) fn counters(
        &self,
    ) -> Result<Vec<(SubscriberId, SubscriberCounters)>, DerivedStoreError> {
        let prefix = RowKey::from_tag(TableTag::Counters);
        self.scan_decoded(&prefix, None, usize::MAX, |key, value| {
            Some((key.subscriber()?, SubscriberCounters::decode(value)?))
        })
    }
}
