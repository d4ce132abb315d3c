//! Slow start: limits a subscriber's concurrent attempts. The limit grows with its successes and
//! shrinks with its failures, so a dead subscriber never occupies many permits.

/// Limit of concurrent attempts: one more after each success, half after each failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlowStart {
    limit: usize,
    max: usize,
}

impl SlowStart {
    /// Initial limit; two, so that one slow response does not block all others.
    const INITIAL_LIMIT: usize = 2;

    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self {
            limit: Self::INITIAL_LIMIT.min(max),
            max,
        }
    }

    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max.max(1);
        self.limit = self.limit.min(self.max);
    }

    pub(super) fn record_success(&mut self) {
        self.limit = (self.limit + 1).min(self.max);
    }

    pub(super) fn record_failure(&mut self) {
        self.limit = (self.limit / 2).max(1);
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_each_success_and_halves_with_each_failure() {
        let mut slow_start = SlowStart::new(5);
        let mut seen = vec![slow_start.limit()];
        for is_good in [true, true, true, true, false, false, false, true] {
            if is_good {
                slow_start.record_success()
            } else {
                slow_start.record_failure()
            }
            seen.push(slow_start.limit());
        }
        assert_eq!(seen, [2, 3, 4, 5, 5, 2, 1, 1, 2]);
        slow_start.set_max(1);
        assert_eq!((slow_start.limit(), SlowStart::new(1).limit()), (1, 1));
    }
}
