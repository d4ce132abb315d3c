//! Choice of the segments that may go.

use std::time::Duration;

use crate::event::{Position, Timestamp};
use crate::journal::SegmentSummary;

/// Bounds of the journal, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct RetentionPolicy {
    /// Age at which segments go; `None` keeps them for ever.
    pub keep_for: Option<Duration>,
    /// Size in bytes of all segments beyond which the oldest go; `None` for no bound.
    pub max_bytes: Option<u64>,
    /// Longest idempotency window: duplicates are told by the records within it.
    pub claim_window: Duration,
    /// Time for which undelivered events are held for a subscriber.
    pub hold: Duration,
}

impl RetentionPolicy {
    /// Returns `true` if segments ever go.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.keep_for.is_some() || self.max_bytes.is_some()
    }
}

/// Segment with the age of its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct AgedSegment {
    pub(super) summary: SegmentSummary,
    /// Receive time of the newest record in the segment, or before it.
    pub(super) newest: Timestamp,
}

/// Returns how many of `segments`, oldest first, are out of retention at `now`. The newest one is
/// in use and stays.
pub(super) fn count_expired(
    segments: &[AgedSegment],
    policy: &RetentionPolicy,
    now: Timestamp,
) -> usize {
    let mut bytes: u64 = segments
        .iter()
        .map(|segment| segment.summary.file_bytes)
        .sum();
    let all_but_newest = &segments[..segments.len().saturating_sub(1)];
    let is_expired = |segment: &AgedSegment| {
        let is_older = |age: Duration| segment.newest < now.saturating_sub(age);
        let is_out = policy.keep_for.is_some_and(is_older)
            || policy.max_bytes.is_some_and(|max| bytes > max);
        bytes -= segment.summary.file_bytes;
        is_out && is_older(policy.claim_window)
    };
    all_but_newest
        .iter()
        .map(is_expired)
        .take_while(|out| *out)
        .count()
}

/// Returns how many of the first `expired` segments hold nothing from `needed_position` or
/// `needed_change` on.
pub(super) fn count_unneeded(
    segments: &[AgedSegment],
    expired: usize,
    (needed_position, needed_change): (Position, u64),
) -> usize {
    // The segment behind the removed ones says where they end.
    let ends = segments.iter().skip(1).take(expired);
    ends.take_while(|next| {
        next.summary.first_position <= needed_position && next.summary.first_change <= needed_change
    })
    .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Ten segments of ten bytes; the segment `n` ends with hour `n`.
    fn segments() -> Vec<AgedSegment> {
        let segment = |number: u64| AgedSegment {
            summary: SegmentSummary {
                number,
                first_position: Position::new(number * 100),
                first_change: number,
                file_bytes: 10,
            },
            newest: at_hour(number),
        };
        (1..=10).map(segment).collect()
    }

    fn at_hour(hour: u64) -> Timestamp {
        Timestamp::from_micros(0).saturating_add(HOUR * hour as u32)
    }

    fn policy() -> RetentionPolicy {
        RetentionPolicy {
            keep_for: None,
            max_bytes: None,
            claim_window: HOUR,
            hold: HOUR,
        }
    }

    #[test]
    fn segments_go_once_their_newest_record_is_older_than_the_retention() {
        let policy = RetentionPolicy {
            keep_for: Some(HOUR * 5),
            ..policy()
        };
        let count = |hour| count_expired(&segments(), &policy, at_hour(hour));
        assert_eq!([count(6), count(7), count(10)], [0, 1, 4]);
        assert_eq!(count(1_000), 9, "the newest segment is in use");
    }

    #[test]
    fn segments_go_until_the_rest_is_small_enough() {
        let count = |max_bytes, hour| {
            let policy = RetentionPolicy {
                max_bytes: Some(max_bytes),
                ..policy()
            };
            count_expired(&segments(), &policy, at_hour(hour))
        };
        assert_eq!([count(100, 50), count(99, 50), count(35, 50)], [0, 1, 7]);
        assert_eq!(
            count(35, 5),
            3,
            "duplicates are told by the records of an hour"
        );
    }

    #[test]
    fn nothing_goes_without_a_bound() {
        assert_eq!(count_expired(&segments(), &policy(), at_hour(1_000)), 0);
        assert_eq!(count_expired(&[], &policy(), at_hour(1_000)), 0);
    }

    #[test]
    fn a_segment_stays_while_one_of_its_records_or_changes_is_needed() {
        let count =
            |position, change| count_unneeded(&segments(), 9, (Position::new(position), change));
        assert_eq!([count(399, 99), count(400, 99)], [2, 3]);
        assert_eq!([count(9_999, 3), count(9_999, 4)], [2, 3]);
        assert_eq!(count(9_999, 99), 9);
        let none = (Position::new(9_999), 99);
        assert_eq!(count_unneeded(&segments(), 2, none), 2);
    }
}
