//! A token bucket, kept as one moment: that at which it is full again (the generic cell rate
//! algorithm, ITU-T I.371).
//!
//! ```text
//!   full again at  now <──── missing tokens × interval ────>|      a take moves it by an interval, to now + burst + interval
//!                                                                  at most
//! ```

use std::time::Duration;

/// Speed at which a bucket fills up, and room in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRate {
    /// Time in which one token comes in.
    pub(crate) interval: Duration,
    /// Time in which as many come in as the bucket holds beyond one.
    pub(crate) burst: Duration,
}

/// One bucket. A full one is as good as none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenBucket {
    full_at: Duration,
}

impl TokenBucket {
    /// Moment from which on there is nothing to remember.
    pub(crate) const fn full_at(self) -> Duration {
        self.full_at
    }

    /// Moment from which on there is a token.
    pub(crate) const fn next_token_at(self, rate: TokenRate) -> Duration {
        self.full_at.saturating_sub(rate.burst)
    }

    pub(crate) fn take_token(&mut self, rate: TokenRate, now: Duration) {
        self.full_at = self.full_at.max(now) + rate.interval;
    }

    /// Gives back a token that was not used after all.
    pub(crate) fn give_token_back(&mut self, rate: TokenRate) {
        self.full_at = self.full_at.saturating_sub(rate.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a model that counts tokens in fractions.
        #[test]
        fn a_bucket_agrees_with_a_count_of_tokens(
            per_minute in prop::sample::select(vec![1_u32, 2, 3, 6, 60]),
            steps in prop::collection::vec((0_u64..30_000, any::<bool>()), 1..100),
        ) {
            let interval = Duration::from_secs(60) / per_minute;
            let rate = TokenRate { interval, burst: Duration::from_secs(60) - interval };
            let mut bucket = TokenBucket::default();
            // In 60,000ths of a token, in which each of these rates fills up evenly by the
            // millisecond.
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
