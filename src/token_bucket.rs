//! Token bucket, stored as one number: the moment at which the bucket is full again (the generic
//! cell rate algorithm, ITU-T I.371).
//!
//! ```text
//!   now <──── missing tokens × interval ────> full_at
//!
//!   taking a token moves full_at later by one interval, to now + burst + interval at most
//! ```

use std::time::Duration;

/// Refill rate and capacity of a bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRate {
    /// Time in which one token is refilled.
    pub(crate) interval: Duration,
    /// Time in which all tokens but one are refilled: (capacity − 1) × interval.
    pub(crate) burst: Duration,
}

/// State of one bucket. A full bucket equals the default, so its state need not be kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenBucket {
    full_at: Duration,
}

impl TokenBucket {
    /// Returns the moment at which the bucket is full again, so that it can be forgotten.
    pub(crate) const fn full_at(self) -> Duration {
        self.full_at
    }

    /// Returns the moment from which on a token is available.
    pub(crate) const fn next_token_at(self, rate: TokenRate) -> Duration {
        self.full_at.saturating_sub(rate.burst)
    }

    /// Takes one token; the caller has checked that one is available.
    pub(crate) fn take_token(&mut self, rate: TokenRate, now: Duration) {
        self.full_at = self.full_at.max(now) + rate.interval;
    }

    /// Returns a token that was not used after all.
    pub(crate) fn give_token_back(&mut self, rate: TokenRate) {
        self.full_at = self.full_at.saturating_sub(rate.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares the bucket with a model that counts fractions of tokens.
        #[test]
        fn a_bucket_agrees_with_a_count_of_tokens(
            per_minute in prop::sample::select(vec![1_u32, 2, 3, 6, 60]),
            steps in prop::collection::vec((0_u64..30_000, any::<bool>()), 1..100),
        ) {
            let interval = Duration::from_secs(60) / per_minute;
            let rate = TokenRate { interval, burst: Duration::from_secs(60) - interval };
            let mut bucket = TokenBucket::default();
            // The model counts 60,000ths of a token: each of these rates refills a whole number of
            // them in a millisecond.
            let (full, token) = (u64::from(per_minute) * 60_000, 60_000);
            let (mut level, mut now) = (full, 0);
            for (pause, given_back) in steps {
                now += pause;
                level = (level + pause * u64::from(per_minute)).min(full);
                let moment = Duration::from_millis(now);
                let has_token = bucket.next_token_at(rate) <= moment;
                prop_assert_eq!(has_token, level >= token);
                if has_token {
                    bucket.take_token(rate, moment);
                    level -= token;
                    if given_back {
                        bucket.give_token_back(rate);
                        level += token;
                    }
                }
            }
        }
    }
}
