//! Limit of the log lines about refused calls, and of their entries in the audit log. Anyone can make
//! such calls, so each cause has a few a minute; the metrics and the call log count all of them.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::rate_limiter::RateLimiter;

/// Lines of one cause in a minute: enough to see what a sender does wrong.
pub(super) const LINES_PER_MINUTE: u32 = 60;

/// Entries of one cause in the audit log in a minute. Each is written to the disk, and the log keeps
/// a thousand.
pub(super) const AUDIT_ENTRIES_PER_MINUTE: u32 = 6;

/// Lines that each cause has left, by the error code of the answer.
pub(super) struct RefusalLines {
    limiter: RateLimiter<&'static str>,
    /// Number of lines that were left out since the last one of the same cause.
    left_out: Mutex<HashMap<&'static str, u64>>,
}

impl RefusalLines {
    /// Lets each cause have `per_minute` lines in any minute.
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            limiter: RateLimiter::new(per_minute),
            left_out: Mutex::default(),
        }
    }

    /// Returns the number of lines that were left out before this one; `None` if this one is left out
    /// too.
    pub(super) fn admit(&self, code: &'static str, now: Duration) -> Option<u64> {
        let is_admitted = self.limiter.admit(code, now).is_ok();
        let mut left_out = self.left_out.lock();
        let count = left_out.entry(code).or_default();
        if is_admitted {
            return Some(std::mem::take(count));
        }
        *count += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_few_lines_a_minute_and_counts_the_others() {
        let lines = RefusalLines::new(LINES_PER_MINUTE);
        let now = Duration::from_secs(1);
        for _ in 0..LINES_PER_MINUTE {
            assert_eq!(lines.admit("unauthorized", now), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(lines.admit("unauthorized", now), None);
        }
        assert_eq!(lines.admit("not_found", now), Some(0), "another cause");
        let later = now + Duration::from_secs(61);
        assert_eq!(lines.admit("unauthorized", later), Some(5));
    }
}
