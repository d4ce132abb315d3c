//! A token bucket for each lead, so that a lead with too many events slows down alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::super::sliding_window::RateQuota;
use crate::token_bucket::{TokenBucket, TokenRate};

/// Most buckets in memory, a few MiB. Beyond that, the bucket that is full first is dropped, which
/// loses least.
const BUCKETS_MAX: usize = 65_536;

/// Time that an empty bucket takes to fill up.
const REFILL_TIME: Duration = Duration::from_secs(60);

/// Token buckets of all leads, by the fingerprint of the lead.
#[derive(Debug)]
pub(super) struct LeadTokenBuckets {
    per_minute: u32,
    table: Arc<Mutex<BucketTable>>,
}

impl LeadTokenBuckets {
    /// Creates buckets of `per_minute` tokens; 0 means no limit.
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            table: Arc::new(Mutex::new(BucketTable::new(BUCKETS_MAX))),
        }
    }

    /// Makes buckets of `per_minute` tokens from which those are gone that were taken from these.
    pub(super) fn with_limit(&self, per_minute: u32) -> Self {
        Self {
            per_minute,
            table: Arc::clone(&self.table),
        }
    }

    /// Takes a token from the bucket of `lead`.
    ///
    /// # Errors
    /// The quota of an empty bucket; its `reset` is the time until the next token.
    pub(super) fn take_token(&self, lead: u64, now: Duration) -> Result<(), RateQuota> {
        self.with_table(|table, per_minute| table.take_token(lead, per_minute, now))
            .unwrap_or(Ok(()))
    }

    /// Returns an unused token to the bucket of `lead`.
    pub(super) fn return_token(&self, lead: u64, now: Duration) {
        self.with_table(|table, per_minute| table.return_token(lead, per_minute, now));
    }

    fn with_table<T>(&self, action: impl FnOnce(&mut BucketTable, u32) -> T) -> Option<T> {
        let mut table = self.table.lock();
        (self.per_minute > 0).then(|| action(&mut table, self.per_minute))
    }
}

/// Table of at most `capacity` buckets, indexed by lead and by the time at which each is full.
#[derive(Debug)]
struct BucketTable {
    capacity: usize,
    buckets: HashMap<u64, TokenBucket>,
    by_time: BTreeSet<(Duration, u64)>,
}

impl BucketTable {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            buckets: HashMap::new(),
            by_time: BTreeSet::new(),
        }
    }

    fn take_token(&mut self, lead: u64, per_minute: u32, now: Duration) -> Result<(), RateQuota> {
        let rate = token_rate(per_minute);
        let mut bucket = self.buckets.get(&lead).copied().unwrap_or_default();
        let wait = bucket.next_token_at(rate).saturating_sub(now);
        if !wait.is_zero() {
            return Err(RateQuota {
                limit: per_minute,
                remaining: 0,
                reset: wait,
            });
        }
        bucket.take_token(rate, now);
        self.set_full_at(lead, bucket, now);
        Ok(())
    }

    fn return_token(&mut self, lead: u64, per_minute: u32, now: Duration) {
        if let Some(mut bucket) = self.buckets.get(&lead).copied() {
            bucket.give_token_back(token_rate(per_minute));
            self.set_full_at(lead, bucket, now);
        }
    }

    fn set_full_at(&mut self, lead: u64, bucket: TokenBucket, now: Duration) {
        if let Some(before) = self.buckets.remove(&lead) {
            self.by_time.remove(&(before.full_at(), lead));
        }
        // A full bucket need not be stored: a missing bucket counts as full.
        if bucket.full_at() <= now {
            return;
        }
        while self.buckets.len() >= self.capacity {
            let Some((_, fullest)) = self.by_time.pop_first() else {
                return;
            };
            self.buckets.remove(&fullest);
        }
        self.buckets.insert(lead, bucket);
        self.by_time.insert((bucket.full_at(), lead));
    }
}

/// Returns the rate of a bucket of `per_minute` tokens that fills up within a minute. The division
/// rounds down, so that a full bucket never lacks its last token.
fn token_rate(per_minute: u32) -> TokenRate {
    let interval = REFILL_TIME / per_minute;
    TokenRate {
        interval,
        burst: REFILL_TIME - interval,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn an_empty_bucket_says_when_there_is_a_token_and_fills_up_evenly() {
        let buckets = LeadTokenBuckets::new(3);
        assert!((0..3).all(|_| buckets.take_token(7, seconds(0)).is_ok()));
        let refused = buckets.take_token(7, seconds(5)).expect_err("empty");
        assert_eq!(
            refused,
            RateQuota {
                limit: 3,
                remaining: 0,
                reset: seconds(15)
            }
        );
        assert!(
            buckets.take_token(8, seconds(5)).is_ok(),
            "another lead's is full"
        );
        assert!(buckets.take_token(7, seconds(20)).is_ok());
        assert!(buckets.take_token(7, seconds(39)).is_err());
        assert!(
            buckets.take_token(7, seconds(60)).is_ok()
                && buckets.take_token(7, seconds(60)).is_ok()
        );
        assert!(buckets.take_token(7, seconds(60)).is_err());
    }

    #[test]
    fn a_token_given_back_can_be_taken_again() {
        let buckets = LeadTokenBuckets::new(1);
        buckets.take_token(7, seconds(0)).expect("full");
        assert!(buckets.take_token(7, seconds(1)).is_err());
        buckets.return_token(7, seconds(1));
        assert!(buckets.take_token(7, seconds(1)).is_ok());
        buckets.return_token(9, seconds(1));
    }

    #[test]
    fn zero_means_no_limit() {
        let buckets = LeadTokenBuckets::new(0);
        assert!((0..10_000).all(|_| buckets.take_token(7, seconds(0)).is_ok()));
        buckets.return_token(7, seconds(0));
    }

    #[test]
    fn the_fullest_bucket_is_forgotten_first() {
        let mut table = BucketTable::new(2);
        for (lead, count) in [(1, 2), (2, 1), (3, 1)] {
            (0..count).for_each(|_| table.take_token(lead, 2, seconds(0)).expect("a token"));
        }
        assert!(
            table.take_token(1, 2, seconds(0)).is_err(),
            "it was the emptiest"
        );
        assert_eq!(table.buckets.keys().filter(|lead| **lead == 2).count(), 0);
    }

    proptest! {
        #[test]
        fn the_table_stays_within_its_bound(
            takes in prop::collection::vec((0_u64..40, 0_u64..3_000), 1..200),
        ) {
            let mut table = BucketTable::new(8);
            let mut now = 0;
            for (lead, pause) in takes {
                now += pause;
                let _ = table.take_token(lead, 2, Duration::from_millis(now));
                prop_assert!(table.buckets.len() <= 8);
                prop_assert_eq!(table.buckets.len(), table.by_time.len());
            }
        }
    }
}
