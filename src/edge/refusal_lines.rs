//! Limit of the log lines about refused calls, and of their entries in the audit log. Anyone can make
//! such calls, so each cause has a few a minute; the metrics and the call log count all of them.
//!
//! | lines of one cause in a minute | at most |
//! |---|---|
//! | of anybody | `per_minute` |
//! | of one network after these, so that nobody hides the others by using them up | a twentieth of them |
//! | of all networks after these | `per_minute` again |

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::rate_limiter::RateLimiter;

/// Lines of one cause in a minute: enough to see what a sender does wrong.
pub(super) const LINES_PER_MINUTE: u32 = 60;

/// Entries of one cause in the audit log in a minute. Each is written to the disk, and the log keeps
/// a thousand.
pub(super) const AUDIT_ENTRIES_PER_MINUTE: u32 = 6;

/// Part of a cause's lines that each network has after all of them are used up.
const NETWORK_PART: u32 = 20;

/// Lines that each cause has left, by the error code of the answer.
pub(super) struct RefusalLines {
    of_cause: RateLimiter<&'static str>,
    of_network: RateLimiter<(&'static str, IpAddr)>,
    of_networks: RateLimiter<&'static str>,
    /// Number of lines that were left out since the last one of the same cause.
    left_out: Mutex<HashMap<&'static str, u64>>,
}

impl RefusalLines {
    /// Lets each cause have `per_minute` lines in any minute.
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            of_cause: RateLimiter::new(per_minute),
            of_network: RateLimiter::new(per_minute.div_ceil(NETWORK_PART)),
            of_networks: RateLimiter::new(per_minute),
            left_out: Mutex::default(),
        }
    }

    /// Returns the number of lines that were left out before this one, about a call of `network`; `None`
    /// if this one is left out too.
    pub(super) fn admit(&self, code: &'static str, network: IpAddr, now: Duration) -> Option<u64> {
        let has_own = || self.of_network.admit((code, network), now).is_ok();
        let is_admitted = self.of_cause.admit(code, now).is_ok()
            || has_own() && self.of_networks.admit(code, now).is_ok();
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

    const NOW: Duration = Duration::from_secs(1);

    fn network(number: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, number])
    }

    #[test]
    fn each_cause_has_a_few_lines_a_minute_and_counts_the_others() {
        let lines = RefusalLines::new(LINES_PER_MINUTE);
        let admit = |code, now| lines.admit(code, network(1), now);
        for _ in 0..LINES_PER_MINUTE + 3 {
            assert_eq!(admit("unauthorized", NOW), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(admit("unauthorized", NOW), None);
        }
        assert_eq!(admit("not_found", NOW), Some(0), "another cause");
        let later = NOW + Duration::from_secs(61);
        assert_eq!(admit("unauthorized", later), Some(5));
    }

    /// One caller used up the lines of a cause, and nobody saw the refusals of the others.
    #[test]
    fn a_network_has_lines_of_its_own_after_another_has_used_up_all() {
        let lines = RefusalLines::new(LINES_PER_MINUTE);
        let admitted = |number| {
            let mut calls = (0..1_000).map(|_| lines.admit("unauthorized", network(number), NOW));
            calls.by_ref().filter(Option::is_some).count()
        };
        assert_eq!((admitted(1), admitted(2)), (63, 3));
        let of_many: usize = (3..200).map(admitted).sum();
        assert_eq!(of_many, 54, "all networks have as many again together");

        let entries = RefusalLines::new(AUDIT_ENTRIES_PER_MINUTE);
        let audited = |number| {
            entries
                .admit("unauthorized", network(number), NOW)
                .is_some()
        };
        assert_eq!((0..9).filter(|_| audited(1)).count(), 7);
        assert!(audited(2) && !audited(2));
    }
}
