//! Counters and state of the deliveries to one subscriber, for the admin API.

use crate::event::Timestamp;

/// Counters and current state of the deliveries to one subscriber.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriberStats {
    /// Deliveries that the subscriber accepted.
    pub delivered: u64,
    /// Attempts that failed, retries included.
    pub failed: u64,
    /// Deliveries dropped without an attempt: they had expired, or the subscriber was disabled.
    pub dropped: u64,
    /// Time of the last accepted delivery.
    pub last_success_at: Option<Timestamp>,
    /// Time of the first failure since the last success; `None` if the last attempt succeeded.
    pub failing_since: Option<Timestamp>,
    /// Attempts that are running now.
    pub in_flight: usize,
    /// Deliveries that are queued in memory.
    pub waiting: usize,
    /// Lanes that wait for a retry.
    pub stopped_lanes: usize,
    /// State of the circuit breaker: `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Journal records that were not yet matched for this subscriber.
    pub behind: u64,
}
