//! Rate limit of a subscriber: a token bucket.
//!
//! The bucket holds a twentieth of a second's tokens, at least one. So a late timer costs no
//! attempts, and a burst after a quiet time is small: any second has at most the limit and that
//! twentieth.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::token_bucket::{TokenBucket, TokenRate};

/// Divisor of a second's tokens that gives the size of the bucket.
const BURST_DIVISOR: u32 = 20;

/// Token bucket for the beginnings of attempts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DeliveryRateLimiter {
    limit: Option<TokenRate>,
    bucket: TokenBucket,
}

impl DeliveryRateLimiter {
    /// Sets the limit in attempts per second; `None` for no limit.
    pub(super) fn set_limit(&mut self, limit: Option<NonZeroU32>) {
        self.limit = limit.map(|limit| {
            let interval = Duration::from_secs(1) / limit.get();
            TokenRate {
                interval,
                burst: interval * (limit.get() / BURST_DIVISOR).max(1).saturating_sub(1),
            }
        });
    }

    /// Time from which on an attempt may begin; zero means at any time.
    pub(super) fn next_attempt_at(&self) -> Duration {
        self.limit
            .map_or(Duration::ZERO, |limit| self.bucket.next_token_at(limit))
    }

    /// Takes a token for an attempt that begins at `now`.
    pub(super) fn consume_token(&mut self, now: Duration) {
        if let Some(limit) = self.limit {
            self.bucket.take_token(limit, now);
        }
    }

    /// Time at which the bucket is full, so that its state need not be kept.
    pub(super) const fn full_at(&self) -> Duration {
        self.bucket.full_at()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limited(limit: u32) -> DeliveryRateLimiter {
        let mut rate = DeliveryRateLimiter::default();
        rate.set_limit(NonZeroU32::new(limit));
        rate
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_wait_for() {
        let mut rate = limited(0);
        rate.consume_token(Duration::from_secs(9));
        assert_eq!(
            (rate.next_attempt_at(), rate.full_at()),
            (Duration::ZERO, Duration::ZERO)
        );
    }

    #[test]
    fn a_low_limit_spaces_attempts_evenly_and_a_lost_second_is_not_made_up_for() {
        let mut rate = limited(4);
        rate.consume_token(Duration::from_secs(10));
        assert_eq!(rate.next_attempt_at(), Duration::from_millis(10_250));
        rate.consume_token(Duration::from_secs(60));
        assert_eq!(rate.next_attempt_at(), Duration::from_millis(60_250));
    }

    proptest! {
        /// A caller that asks all the time gets at most the limit and the small burst in any
        /// second, and at least the limit if its timers are not late.
        #[test]
        fn no_second_has_more_than_the_limit(
            limit in 1_u32..2_000, pauses in prop::collection::vec(0_u64..30_000, 1..3_000),
        ) {
            let mut rate = limited(limit);
            let (mut now, mut begun) = (Duration::from_secs(5), Vec::new());
            for pause in pauses {
                now += Duration::from_micros(pause);
                while rate.next_attempt_at() <= now {
                    rate.consume_token(now);
                    begun.push(now);
                }
            }
            let most = (limit + (limit / BURST_DIVISOR).max(1)) as usize;
            for (n, first) in begun.iter().enumerate() {
                let within = begun[n..].partition_point(|at| *at < *first + Duration::from_secs(1));
                prop_assert!(within <= most, "{within} of {limit} in a second");
            }
            // From this limit on, timers that are late by up to 30 ms cost no attempts.
            if limit >= 100 {
                let due = (now - Duration::from_secs(5)).as_secs_f64() * f64::from(limit);
                prop_assert!(begun.len() as f64 + 1.0 + f64::from(limit) * 0.03 >= due);
            }
        }
    }
}
