//! Choice of the segments that may go.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::{Position, Timestamp};
use crate::journal::SegmentSummary;

/// Times for which the content of single sources is kept, by their names.
pub type SourceRetention = BTreeMap<String, Duration>;

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

/// Returns how many of `segments`, oldest first, are out of retention at `now`. The newest one is
/// in use and stays. `newest` returns a time at or after the receive time of the newest record in
/// the segment at an index; it is called only for those that may go.
///
/// # Errors
/// The error of `newest`.
pub(super) fn count_expired<E>(
    segments: &[SegmentSummary],
    policy: &RetentionPolicy,
    now: Timestamp,
    mut newest: impl FnMut(usize) -> Result<Timestamp, E>,
) -> Result<usize, E> {
    let mut bytes: u64 = segments.iter().map(|segment| segment.file_bytes).sum();
    let all_but_newest = &segments[..segments.len().saturating_sub(1)];
    for (index, segment) in all_but_newest.iter().enumerate() {
        let is_too_much = policy.max_bytes.is_some_and(|max| bytes > max);
        if !is_too_much && policy.keep_for.is_none() {
            return Ok(index);
        }
        let newest = newest(index)?;
        let is_older = |age: Duration| newest < now.saturating_sub(age);
        let is_out = is_too_much || policy.keep_for.is_some_and(is_older);
        if !is_out || !is_older(policy.claim_window) {
            return Ok(index);
        }
        bytes -= segment.file_bytes;
    }
    Ok(all_but_newest.len())
}

/// Returns how many of the first `expired` segments hold no record from `needed` on.
pub(super) fn count_unneeded(
    segments: &[SegmentSummary],
    expired: usize,
    needed: Position,
) -> usize {
    // The segment behind the removed ones says where they end.
    let ends = segments.iter().skip(1).take(expired);
    ends.take_while(|next| next.first_position <= needed)
        .count()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Ten segments of ten bytes; the segment `n` ends with hour `n`.
    fn segments() -> Vec<SegmentSummary> {
        let segment = |number: u64| SegmentSummary {
            number,
            first_position: Position::new(number * 100),
            first_change: number,
            file_bytes: 10,
        };
        (1..=10).map(segment).collect()
    }

    fn count(policy: &RetentionPolicy, hour: u64) -> usize {
        let newest = |index: usize| Ok::<_, Infallible>(at_hour(index as u64 + 1));
        match count_expired(&segments(), policy, at_hour(hour), newest) {
            Ok(count) => count,
        }
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
        let count = |hour| count(&policy, hour);
        assert_eq!([count(6), count(7), count(10)], [0, 1, 4]);
        assert_eq!(count(1_000), 9, "the newest segment is in use");
    }

    #[test]
    fn segments_go_until_the_rest_is_small_enough() {
        let bounded = |max_bytes, hour| {
            let policy = RetentionPolicy {
                max_bytes: Some(max_bytes),
                ..policy()
            };
            count(&policy, hour)
        };
        assert_eq!(
            [bounded(100, 50), bounded(99, 50), bounded(35, 50)],
            [0, 1, 7]
        );
        assert_eq!(
            bounded(35, 5),
            3,
            "duplicates are told by the records of an hour"
        );
    }

    #[test]
    fn nothing_goes_without_a_bound() {
        assert_eq!(count(&policy(), 1_000), 0);
    }

    #[test]
    fn a_segment_stays_while_one_of_its_records_is_needed() {
        let count = |needed| count_unneeded(&segments(), 9, Position::new(needed));
        assert_eq!([count(399), count(400), count(9_999)], [2, 3, 9]);
        assert_eq!(count_unneeded(&segments(), 2, Position::new(9_999)), 2);
    }
}
