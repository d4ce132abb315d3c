//! Time for which a subscriber has accepted nothing, as far as it counts towards disabling it.
//!
//! ```text
//!   failure ──gap──> failure ──gap──> failure …    counted: the gaps, each up to a quarter of the limit
//!      success, nothing owed any more, or a repair ──> the stretch ends, and the next one begins at zero
//! ```
//!
//! Only the time between two failed attempts of the same run of the node counts, so neither the
//! node's downtime nor a changed wall clock is failing time.

use std::time::Duration;

/// Share of the limit that one gap counts at most. So a subscriber is disabled after five failed
/// attempts at least, spread over the whole limit.
const GAP_DIVISOR: u32 = 4;

/// Stretch of failures without a success in between.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FailingStretch {
    counted: Duration,
    /// Time of the last failure, on the node's monotonic clock; `None` before the first failure of
    /// this run.
    last_failure_at: Option<Duration>,
}

impl FailingStretch {
    /// Restores a stretch of which `counted` was stored.
    pub(super) const fn from_stored(counted: Duration) -> Self {
        Self {
            counted,
            last_failure_at: None,
        }
    }

    /// Notes a failed attempt at `now`; the subscriber is disabled when `limit` is reached.
    pub(super) fn record_failure(&mut self, now: Duration, limit: Duration) {
        if let Some(last) = self.last_failure_at {
            self.counted += now.saturating_sub(last).min(limit / GAP_DIVISOR);
        }
        self.last_failure_at = Some(now);
    }

    /// Ends the stretch: the next failure is the first of a new one.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// True if an attempt failed in this run of the node and the stretch has not ended since.
    pub(super) const fn is_running(&self) -> bool {
        self.last_failure_at.is_some()
    }

    /// Counted time of the stretch; zero after its end.
    pub(super) const fn counted(&self) -> Duration {
        self.counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(400);

    fn counted_after(stretch: &mut FailingStretch, failures: &[u64]) -> u64 {
        for at in failures {
            stretch.record_failure(Duration::from_secs(*at), LIMIT);
        }
        stretch.counted().as_secs()
    }

    #[test]
    fn gaps_between_failures_count_up_to_a_quarter_of_the_limit() {
        let mut stretch = FailingStretch::default();
        assert_eq!(counted_after(&mut stretch, &[50]), 0, "a single failure");
        assert_eq!(counted_after(&mut stretch, &[60, 90]), 40);
        // After one 400 and five quiet days, one 503 disabled the subscriber.
        assert_eq!(counted_after(&mut stretch, &[432_000]), 140);
        assert_eq!(counted_after(&mut stretch, &[10]), 140, "a clock set back");
    }

    #[test]
    fn an_ended_stretch_counts_from_zero_and_a_restored_one_goes_on_without_the_downtime() {
        let mut stretch = FailingStretch::default();
        counted_after(&mut stretch, &[0, 90]);
        let mut restored = FailingStretch::from_stored(stretch.counted());
        assert_eq!(counted_after(&mut restored, &[5_000]), 90);
        assert_eq!(counted_after(&mut restored, &[5_010]), 100);
        restored.end();
        assert_eq!(counted_after(&mut restored, &[6_000]), 0);
    }
}
