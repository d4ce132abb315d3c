//! Sliding window: an exact limit of admissions in any 60 seconds, which keeps the time of each
//! admission.
//!
//! ```text
//!        now - 60 s                           now
//!            |  a     b  c            d        |
//!   a leaves first: a full window has room again at a + 60 s, which is what Retry-After says
//! ```

use std::collections::VecDeque;
use std::time::Duration;

/// Length of the window of every rate limit.
pub const WINDOW_LENGTH: Duration = Duration::from_secs(60);

/// Rest of a rate limit, as the `RateLimit-*` headers show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateQuota {
    /// Largest number of admissions in any window.
    pub limit: u32,
    /// Admissions that would be granted right now.
    pub remaining: u32,
    /// Time until the oldest admission leaves the window.
    pub reset: Duration,
}

impl RateQuota {
    /// Returns `reset` in whole seconds, rounded up, at least one: a caller that waits so long is
    /// admitted.
    #[must_use]
    pub fn reset_seconds(&self) -> u64 {
        ceil_seconds(self.reset)
    }
}

/// Converts to whole seconds for `Retry-After`, rounded up, at least one.
#[must_use]
pub fn ceil_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Sliding window of one caller. Its memory is bounded by its limit.
#[derive(Debug)]
pub struct SlidingWindow {
    limit: u32,
    /// Moments of admission in microseconds, oldest first.
    admitted: VecDeque<u64>,
}

impl SlidingWindow {
    /// Makes a window that grants `limit` admissions in any [`WINDOW_LENGTH`]; `None` for 0, which
    /// means no limit.
    #[must_use]
    pub fn try_new(limit: u32) -> Option<Self> {
        (limit > 0).then(|| Self {
            limit,
            admitted: VecDeque::new(),
        })
    }

    /// Grants `limit` admissions from now on, one at least; those of the last minute count.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit.max(1);
    }

    /// Requests an admission at `now`. A refusal does not count against the limit.
    ///
    /// # Errors
    /// The quota of the full window; its `reset` is the time until an admission is free.
    pub fn admit(&mut self, now: Duration) -> Result<RateQuota, RateQuota> {
        let now = self.drop_expired(now);
        let is_full = self.admitted.len() >= self.limit as usize;
        if !is_full {
            self.admitted.push_back(now);
        }
        let quota = self.quota(now);
        if is_full { Err(quota) } else { Ok(quota) }
    }

    /// Drops admissions older than the window, and returns `now` in microseconds. A thread may read
    /// the clock and then wait for the lock, so the returned time never goes back.
    fn drop_expired(&mut self, now: Duration) -> u64 {
        let now = as_micros(now).max(self.admitted.back().copied().unwrap_or(0));
        while self
            .admitted
            .front()
            .is_some_and(|at| at + as_micros(WINDOW_LENGTH) <= now)
        {
            self.admitted.pop_front();
        }
        now
    }

    fn quota(&self, now: u64) -> RateQuota {
        // After the limit was lowered, more than one has to leave.
        let excess = self.admitted.len().saturating_sub(self.limit as usize);
        let oldest = self.admitted.get(excess).copied().unwrap_or(now);
        RateQuota {
            limit: self.limit,
            remaining: self.limit.saturating_sub(self.admitted.len() as u32),
            reset: Duration::from_micros(oldest + as_micros(WINDOW_LENGTH) - now),
        }
    }
}

fn as_micros(time: Duration) -> u64 {
    // Half a million years of uptime fit into a u64.
    time.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn a_full_window_says_when_it_has_room() {
        let mut window = SlidingWindow::try_new(2).expect("limited");
        assert_eq!(window.admit(seconds(10.0)).map(|q| q.remaining), Ok(1));
        assert_eq!(window.admit(seconds(20.0)).map(|q| q.remaining), Ok(0));
        let refused = window.admit(seconds(30.5)).expect_err("full");
        assert_eq!(
            refused,
            RateQuota {
                limit: 2,
                remaining: 0,
                reset: seconds(39.5)
            }
        );
        assert_eq!(refused.reset_seconds(), 40);
        assert!(window.admit(seconds(69.9)).is_err());
        assert!(
            window.admit(seconds(70.0)).is_ok(),
            "the first left at 70 s"
        );
        assert!(window.admit(seconds(79.9)).is_err());
    }

    #[test]
    fn a_changed_limit_counts_what_was_admitted_before() {
        let mut window = SlidingWindow::try_new(3).expect("limited");
        for at in [10.0, 20.0, 30.0] {
            assert!(window.admit(seconds(at)).is_ok());
        }
        window.set_limit(2);
        let refused = window.admit(seconds(40.0)).expect_err("too many already");
        assert_eq!((refused.remaining, refused.reset), (0, seconds(40.0)));
        assert!(window.admit(seconds(79.9)).is_err(), "two are left");
        assert!(window.admit(seconds(80.0)).is_ok(), "the second left");
        window.set_limit(4);
        assert_eq!(
            window.admit(seconds(81.0)).map(|quota| quota.remaining),
            Ok(1)
        );
    }

    #[test]
    fn zero_means_no_limit() {
        assert!(SlidingWindow::try_new(0).is_none());
    }

    #[test]
    fn seconds_are_rounded_up_and_never_zero() {
        for (wait, expected) in [(0.0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (59.99, 60)] {
            assert_eq!(ceil_seconds(seconds(wait)), expected, "{wait}");
        }
    }

    proptest! {
        /// Against a model that keeps every admission and counts those of the last 60 s.
        #[test]
        fn a_window_agrees_with_a_naive_count(
            limit in 1_u32..8, gaps in prop::collection::vec(0_u64..30_000_000, 1..200),
        ) {
            let mut window = SlidingWindow::try_new(limit).expect("limited");
            let mut model: Vec<Duration> = Vec::new();
            let mut now = Duration::ZERO;
            for gap in gaps {
                now += Duration::from_micros(gap);
                let recent = model.iter().filter(|at| **at + WINDOW_LENGTH > now).count();
                let answer = window.admit(now);
                prop_assert_eq!(answer.is_ok(), recent < limit as usize, "refused if and only if full");
                match answer {
                    Ok(quota) => {
                        model.push(now);
                        prop_assert_eq!(quota.remaining as usize, limit as usize - recent - 1);
                    }
                    Err(quota) => {
                        let oldest = model.iter().find(|at| **at + WINDOW_LENGTH > now).expect("full");
                        prop_assert_eq!(now + quota.reset, *oldest + WINDOW_LENGTH);
                    }
                }
                prop_assert!(window.admitted.len() <= limit as usize);
            }
            for (index, from) in model.iter().enumerate() {
                let within = model[index..].iter().filter(|at| **at < *from + WINDOW_LENGTH).count();
                prop_assert!(within <= limit as usize);
            }
        }

        #[test]
        fn who_waits_as_told_is_admitted(limit in 1_u32..5, start in 0_u64..100_000_000) {
            let mut window = SlidingWindow::try_new(limit).expect("limited");
            let mut now = Duration::from_micros(start);
            while window.admit(now).is_ok() {
                now += Duration::from_millis(7);
            }
            let wait = window.admit(now).expect_err("full").reset_seconds();
            prop_assert!(window.admit(now + Duration::from_secs(wait)).is_ok());
        }

        #[test]
        fn a_clock_read_too_early_changes_nothing(limit in 1_u32..5, moments in prop::collection::vec(0_u64..200_000_000, 1..60)) {
            let mut window = SlidingWindow::try_new(limit).expect("limited");
            for moment in moments {
                let quota = window.admit(Duration::from_micros(moment)).unwrap_or_else(|full| full);
                prop_assert!(quota.reset <= WINDOW_LENGTH);
            }
        }
    }
}
