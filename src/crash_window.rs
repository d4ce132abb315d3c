//! Sliding-window crash counter, which decides when a crashing actor is no longer restarted. Pure:
//! the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

/// Monotonic times of the crashes within a window, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct CrashWindow(VecDeque<Duration>);

impl CrashWindow {
    /// Records a crash at `now`. Returns `true` when there are now more than `crashes_max` crashes
    /// within `window`; the count then restarts at zero.
    pub(crate) fn note_crash(
        &mut self,
        now: Duration,
        crashes_max: usize,
        window: Duration,
    ) -> bool {
        self.0.push_back(now);

        while self.0.front().is_some_and(|crash| *crash + window <= now) {
            self.0.pop_front();
        }

        let exceeds_max = self.0.len() > crashes_max;
        if exceeds_max {
            self.0.clear();
        }
        exceeds_max
    }

    /// Returns `true` when every recorded crash lies outside the window at `now`.
    pub(crate) fn is_over(&self, now: Duration, window: Duration) -> bool {
        self.0.back().is_none_or(|crash| *crash + window <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn one_crash_too_many_within_the_window_is_reported_and_the_count_restarts() {
        let mut crashes = CrashWindow::default();
        let table = [
            (0, false),
            (1, false),
            (62, false),
            (63, false),
            (64, true),
            (65, false),
            (66, false),
            (67, true),
        ];
        for (at, expected) in table {
            assert_eq!(
                crashes.note_crash(Duration::from_secs(at), 2, WINDOW),
                expected,
                "crash at {at} s"
            );
        }
    }

    #[test]
    fn a_crash_counts_for_as_long_as_the_window() {
        let mut crashes = CrashWindow::default();
        assert!(crashes.is_over(Duration::ZERO, WINDOW));
        crashes.note_crash(Duration::from_secs(5), 2, WINDOW);
        assert!(!crashes.is_over(Duration::from_secs(64), WINDOW));
        assert!(crashes.is_over(Duration::from_secs(65), WINDOW));
    }
}
