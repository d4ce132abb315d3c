//! Retry schedule: pauses between the attempts at one delivery, and the end of the retries.
//!
//! ```text
//!   attempt 1 ──pause 1──> attempt 2 ──pause 2──> … ──> schedule or time used up: dead letter
//! ```

use std::borrow::Cow;
use std::time::Duration;

use crate::subscriber::AttemptFailure;
use crate::subscriber::delivery_policy::RetryPolicy;
use crate::subscriber::new_dead_letter::DeadLetterCause;

/// Longest pause that a failed attempt can ask for: 24 h, the longest `router.quarantine_s`. An
/// automatic reply waits for the rest of a quarantine, which is no `Retry-After` header; the parser
/// of that header has a lower maximum.
pub(super) const REQUESTED_PAUSE_MAX: Duration = Duration::from_secs(24 * 3_600);

impl RetryPolicy {
    /// Longest pause between two attempts.
    pub(super) fn pause_max(&self) -> Duration {
        let planned = self.schedule.iter().max().copied().unwrap_or_default();
        planned.max(REQUESTED_PAUSE_MAX).mul_f64(1.0 + self.jitter)
    }
}

/// Decision after a transient failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// Make another attempt after this pause.
    RetryAfter(Duration),
    /// Make no other attempt: the delivery becomes a dead letter.
    GiveUp(DeadLetterCause),
}

/// Decides after the failure of the `attempts`-th attempt, at the counted time `counted` since the
/// first one began. `retry_after` is the shortest pause that the attempt asked for; `draw`, from
/// 0 to 1, is the random draw of the jitter.
pub(super) fn decide_retry(
    retries: &RetryPolicy,
    attempts: u32,
    counted: Duration,
    retry_after: Option<Duration>,
    draw: f64,
) -> RetryDecision {
    let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(planned) = retries.schedule.get(index) else {
        return RetryDecision::GiveUp(DeadLetterCause::Exhausted);
    };

    let left = retries.dead_letter_after.saturating_sub(counted);
    if left.is_zero() {
        return RetryDecision::GiveUp(DeadLetterCause::TooOld);
    }

    let pause = planned.mul_f64((1.0 + retries.jitter * (2.0 * draw - 1.0)).max(0.0));
    // Attempts refused together get the same `Retry-After`. Jitter spreads their retries too, but
    // never to an earlier time.
    let least = retry_after
        .unwrap_or_default()
        .min(REQUESTED_PAUSE_MAX)
        .mul_f64(1.0 + retries.jitter * draw);
    // The last attempt is made when the time is over, even if its pause would be longer.
    RetryDecision::RetryAfter(pause.max(least).min(left))
}

/// History of the attempts at one delivery.
#[derive(Clone, Debug, Default)]
pub(super) struct AttemptHistory {
    pub(super) attempts: u32,
    /// Counted time since the first attempt, up to the reading `since` of the counted clock.
    counted: Duration,
    /// Reading of the counted clock from which on time is not in `counted` yet, and the most that
    /// may be added.
    since: Option<(Duration, Duration)>,
    pub(super) last_failure: Option<(Option<u16>, Cow<'static, str>)>,
}

impl AttemptHistory {
    /// Restores a stored history, with `wait` to go until the retry at the reading `clock`.
    pub(super) fn from_stored(
        attempts: u32,
        counted: Duration,
        last: Option<(Option<u16>, String)>,
        wait: Duration,
        clock: Duration,
    ) -> Self {
        let last_failure = last.map(|(status, code)| (status, Cow::Owned(code)));
        Self {
            attempts,
            counted,
            since: Some((clock, wait)),
            last_failure,
        }
    }

    /// Notes that an attempt begins; its duration counts.
    pub(super) fn begin_attempt(&mut self, clock: Duration) {
        self.stop_counting(clock);
        self.since = Some((clock, Duration::MAX));
    }

    /// Notes a transient failure and decides about the retry; `draw` is from 0 to 1.
    pub(super) fn record_failure(
        &mut self,
        retries: &RetryPolicy,
        failure: &AttemptFailure,
        retry_after: Option<Duration>,
        draw: f64,
        clock: Duration,
    ) -> RetryDecision {
        self.stop_counting(clock);
        self.attempts = self.attempts.saturating_add(1);
        self.last_failure = Some((failure.status, Cow::Borrowed(failure.code)));
        let next = decide_retry(retries, self.attempts, self.counted, retry_after, draw);
        if let RetryDecision::RetryAfter(pause) = next {
            self.since = Some((clock, pause));
        }
        next
    }

    /// Takes back the attempt under way, which could not be made: its time does not count.
    pub(super) fn discard_attempt(&mut self) {
        self.since = None;
    }

    /// Stops counting: the delivery waits for capacity, which is not its fault.
    pub(super) fn stop_counting(&mut self, clock: Duration) {
        if let Some((since, most)) = self.since.take() {
            self.counted += clock.saturating_sub(since).min(most);
        }
    }

    /// Counted time since the first attempt.
    pub(super) fn counted_time(&self, clock: Duration) -> Duration {
        self.since.map_or(self.counted, |(since, most)| {
            self.counted + clock.saturating_sub(since).min(most)
        })
    }
}

/// Clock that stands still while attempts may not be made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PausableClock {
    sum: Duration,
    /// Time from which on the clock runs; `None` while it stands still.
    from: Option<Duration>,
}

impl PausableClock {
    pub(super) fn elapsed(&self, now: Duration) -> Duration {
        self.sum
            + self
                .from
                .map_or(Duration::ZERO, |from| now.saturating_sub(from))
    }

    /// Runs the clock from `from` on, at the earliest from `now`; `None` stops it.
    pub(super) fn set_start(&mut self, from: Option<Duration>, now: Duration) {
        *self = Self {
            sum: self.elapsed(now),
            from: from.map(|from| from.max(now)),
        };
    }
}

/// Seeded generator of random draws: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Copy, Debug)]
pub(super) struct JitterSource(u64);

impl JitterSource {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next draw, from 0 to 1.
    pub(super) fn next_fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from((mixed ^ (mixed >> 31)) as u32) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn retries(jitter: f64) -> RetryPolicy {
        let schedule = [5, 30, 300, 1_800].map(Duration::from_secs).into();
        RetryPolicy {
            schedule,
            jitter,
            dead_letter_after: seconds(1_000),
        }
    }

    #[test]
    fn the_schedule_the_time_and_the_subscriber_say_when() {
        let again = |s| RetryDecision::RetryAfter(seconds(s));
        for (attempts, counted, retry_after, expected) in [
            (1, 0, None, again(5)),
            (2, 6, None, again(30)),
            (3, 40, None, again(300)),
            // The last attempt is made when the time is over.
            (4, 400, None, again(600)),
            (
                5,
                500,
                None,
                RetryDecision::GiveUp(DeadLetterCause::Exhausted),
            ),
            (2, 999, None, again(1)),
            (
                2,
                1_000,
                None,
                RetryDecision::GiveUp(DeadLetterCause::TooOld),
            ),
            (
                5,
                5_000,
                None,
                RetryDecision::GiveUp(DeadLetterCause::Exhausted),
            ),
            (1, 0, Some(3), again(5)),
            (1, 0, Some(60), again(60)),
            (2, 900, Some(600), again(100)),
        ] {
            let next = decide_retry(
                &retries(0.0),
                attempts,
                seconds(counted),
                retry_after.map(seconds),
                0.7,
            );
            assert_eq!(
                next, expected,
                "attempt {attempts}, {counted} s, {retry_after:?}"
            );
        }
        let patient = RetryPolicy {
            dead_letter_after: Duration::from_secs(1 << 30),
            ..retries(0.0)
        };
        let asked = decide_retry(&patient, 1, Duration::ZERO, Some(Duration::MAX), 0.5);
        assert_eq!(
            asked,
            RetryDecision::RetryAfter(REQUESTED_PAUSE_MAX),
            "a slip of its clock"
        );
        // The pause was cut to 1 h, so an automatic reply used its attempts up in the quarantine.
        let quarantine = Some(seconds(20 * 3_600));
        assert_eq!(
            decide_retry(&patient, 1, Duration::ZERO, quarantine, 0.5),
            again(20 * 3_600),
            "the rest of a quarantine is longer than any Retry-After"
        );
        let none = RetryPolicy {
            schedule: [].into(),
            ..retries(0.0)
        };
        assert_eq!(
            decide_retry(&none, 1, Duration::ZERO, None, 0.5),
            RetryDecision::GiveUp(DeadLetterCause::Exhausted)
        );
    }

    #[test]
    fn only_time_in_which_it_could_have_been_attempted_counts() {
        let failure = AttemptFailure {
            status: Some(503),
            code: "status",
            detail: String::new(),
            answer: Bytes::new(),
        };
        let (mut clock, mut tries) = (PausableClock::default(), AttemptHistory::default());
        clock.set_start(Some(seconds(0)), seconds(0));
        tries.begin_attempt(clock.elapsed(seconds(100)));
        let next = tries.record_failure(
            &retries(0.0),
            &failure,
            None,
            0.5,
            clock.elapsed(seconds(110)),
        );
        assert_eq!(next, RetryDecision::RetryAfter(seconds(5)));
        assert_eq!(tries.counted_time(clock.elapsed(seconds(112))), seconds(12));
        // Paused for an hour in the middle of the pause, and then in a queue for another.
        clock.set_start(None, seconds(113));
        clock.set_start(Some(seconds(3_713)), seconds(3_713));
        assert_eq!(
            tries.counted_time(clock.elapsed(seconds(3_713))),
            seconds(13)
        );
        tries.stop_counting(clock.elapsed(seconds(3_715)));
        tries.begin_attempt(clock.elapsed(seconds(7_315)));
        tries.record_failure(
            &retries(0.0),
            &failure,
            None,
            0.5,
            clock.elapsed(seconds(7_316)),
        );
        assert_eq!(
            tries.counted_time(clock.elapsed(seconds(7_316))),
            seconds(16)
        );
        assert_eq!(
            (tries.attempts, tries.last_failure.clone()),
            (2, Some((Some(503), "status".into())))
        );
        // The step came after the end of the pause: the time beyond the pause was waiting.
        assert_eq!(
            tries.counted_time(clock.elapsed(seconds(9_000))),
            seconds(46)
        );
    }

    #[test]
    fn a_clock_can_be_told_to_go_on_later() {
        let mut clock = PausableClock::default();
        clock.set_start(Some(seconds(50)), seconds(10));
        assert_eq!(clock.elapsed(seconds(40)), seconds(0));
        clock.set_start(Some(seconds(50)), seconds(40));
        assert_eq!(clock.elapsed(seconds(57)), seconds(7));
    }

    proptest! {
        /// Jitter stays within its fraction, never undercuts `Retry-After`, and depends on the seed
        /// alone.
        #[test]
        fn jitter_is_bounded_and_follows_from_the_seed(
            seed: u64, jitter in 0.0..=1.0_f64, attempts in 1_u32..4, asked in prop::option::of(0_u64..400),
        ) {
            let (mut jitter_source, mut again) = (JitterSource::new(seed), JitterSource::new(seed));
            let retries = RetryPolicy { dead_letter_after: seconds(100_000), ..retries(jitter) };
            for _ in 0..20 {
                let draw = jitter_source.next_fraction();
                prop_assert!((0.0..=1.0).contains(&draw));
                prop_assert_eq!(draw.to_bits(), again.next_fraction().to_bits());
                let planned = retries.schedule[attempts as usize - 1];
                let RetryDecision::RetryAfter(pause) = decide_retry(&retries, attempts, Duration::ZERO, asked.map(seconds), draw) else {
                    return Err(TestCaseError::fail("there are attempts left"));
                };
                let asked = seconds(asked.unwrap_or(0));
                prop_assert!(pause >= asked && pause + Duration::from_micros(1) >= planned.mul_f64(1.0 - jitter));
                let most = planned.max(asked).mul_f64(1.0 + jitter);
                prop_assert!(pause <= most + Duration::from_micros(1));
            }
        }
    }
}
