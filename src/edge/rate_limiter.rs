//! Rate limiter with a sliding window for each caller; beyond a bound, the callers idle longest are
//! forgotten.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::sliding_window::{RateQuota, SlidingWindow};

/// Callers that are remembered at most: a few MiB at a limit of 100. Beyond it the caller idle
/// longest is forgotten.
const CALLERS_MAX: usize = 4_096;

/// Sliding windows of all callers, by a key `K` such as the client network.
#[derive(Debug)]
pub struct RateLimiter<K> {
    per_minute: u32,
    table: Arc<Mutex<WindowTable<K>>>,
}

impl<K: Copy + Ord + Hash> RateLimiter<K> {
    /// Limits each caller to `per_minute` admissions in any minute; 0 means no limit.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            table: Arc::new(Mutex::new(WindowTable::new(CALLERS_MAX))),
        }
    }

    /// Makes a limiter of `per_minute` admissions that counts what this one has admitted.
    #[must_use]
    pub fn with_limit(&self, per_minute: u32) -> Self {
        Self {
            per_minute,
            table: Arc::clone(&self.table),
        }
    }

    /// Requests an admission of `caller`; the quota is `None` without a limit.
    ///
    /// # Errors
    /// The quota of the full window.
    pub fn admit(&self, caller: K, now: Duration) -> Result<Option<RateQuota>, RateQuota> {
        if self.per_minute == 0 {
            return Ok(None);
        }
        let mut table = self.table.lock();
        table.admit(caller, self.per_minute, now)
    }
}

/// At most `capacity` windows, indexed by caller and by time of last use.
#[derive(Debug)]
struct WindowTable<K> {
    capacity: usize,
    windows: HashMap<K, (Duration, SlidingWindow)>,
    by_age: BTreeSet<(Duration, K)>,
}

impl<K: Copy + Ord + Hash> WindowTable<K> {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            windows: HashMap::new(),
            by_age: BTreeSet::new(),
        }
    }

    fn admit(
        &mut self,
        caller: K,
        per_minute: u32,
        now: Duration,
    ) -> Result<Option<RateQuota>, RateQuota> {
        if !self.windows.contains_key(&caller) {
            let Some(window) = SlidingWindow::try_new(per_minute) else {
                return Ok(None);
            };
            self.evict_oldest();
            self.windows.insert(caller, (now, window));
        }
        let Some((touched, window)) = self.windows.get_mut(&caller) else {
            return Ok(None);
        };
        self.by_age.remove(&(*touched, caller));
        self.by_age.insert((now, caller));
        *touched = now;
        window.set_limit(per_minute);
        window.admit(now).map(Some)
    }

    fn evict_oldest(&mut self) {
        while self.windows.len() >= self.capacity {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                return;
            };
            self.windows.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_caller_is_admitted_so_often_and_then_told_to_wait() {
        let limiter = RateLimiter::new(2);
        let (one, other) = (1, 2);
        assert!(limiter.admit(one, at(0)).is_ok());
        assert!(limiter.admit(one, at(1)).is_ok());
        assert_eq!(
            limiter.admit(one, at(2)).map_err(|quota| quota.reset),
            Err(at(58))
        );
        assert!(limiter.admit(other, at(2)).is_ok());
        assert!(limiter.admit(one, at(60)).is_ok());
    }

    #[test]
    fn another_limit_counts_the_same_admissions() {
        let limiter = RateLimiter::new(2);
        assert!(limiter.admit(1, at(0)).is_ok() && limiter.admit(1, at(1)).is_ok());
        let (lower, higher) = (limiter.with_limit(1), limiter.with_limit(3));
        assert!(lower.admit(1, at(2)).is_err());
        assert!(higher.admit(1, at(2)).is_ok() && higher.admit(1, at(3)).is_err());
    }

    #[test]
    fn zero_counts_nothing() {
        let limiter = RateLimiter::new(0);
        assert!((0..1_000).all(|_| limiter.admit(1, at(0)) == Ok(None)));
        assert!(limiter.table.lock().windows.is_empty());
    }

    #[test]
    fn the_caller_that_was_quiet_longest_makes_room() {
        let mut table = WindowTable::new(2);
        let [a, b, c] = [1, 2, 3];
        for (caller, moment) in [(a, 0), (b, 1), (a, 2), (c, 3)] {
            assert!(table.admit(caller, 5, at(moment)).is_ok());
        }
        assert!(table.windows.contains_key(&a) && table.windows.contains_key(&c));
        assert!(!table.windows.contains_key(&b));
    }

    proptest! {
        #[test]
        fn the_table_stays_bounded_and_consistent(calls in prop::collection::vec((any::<u8>(), 0_u64..50), 1..300)) {
            let mut table = WindowTable::new(16);
            for (caller, moment) in calls {
                let _ = table.admit(caller, 3, at(moment));
                prop_assert!(table.windows.len() <= 16);
                prop_assert_eq!(table.windows.len(), table.by_age.len());
            }
        }
    }
}
