//! Circuit breaker of one subscriber: stops attempts after too many failures, then lets probes
//! pass.
//!
//! ```text
//!          failures in a row,            time over,
//!          or failure rate               a probe begins
//!   Closed ──────────────────> Open(until) ──────────> HalfOpen (probe under way)
//!     ^                          ^                        │        │
//!     │                          └── probe failed: ───────┘        │
//!     │                              open twice as long            │
//!     └───────────────────────── probe accepted ───────────────────┘
//! ```
//!
//! A pure state machine: the time is an argument. Once a probe has begun, only its outcome counts;
//! attempts that began before the breaker opened are ignored.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::config::BreakerConfig;

/// Number of slots of the window, which slides by one slot at a time.
const SLOTS: u64 = 12;

/// State of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryBreakerState {
    /// All attempts are let through.
    #[default]
    Closed,
    /// No attempt is let through.
    Open,
    /// A single attempt, the probe, is under way; its outcome decides.
    HalfOpen,
}

/// Kind of attempt that the breaker let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakerPass {
    Ordinary,
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryBreakerPhase {
    Closed,
    Open { until: Duration },
    HalfOpen,
}

/// Circuit breaker with the failure rate of a sliding window.
#[derive(Debug)]
pub(super) struct DeliveryBreaker {
    policy: BreakerConfig,
    phase: DeliveryBreakerPhase,
    consecutive_failures: u32,
    window: FailureRateWindow,
    open_backoff: ExponentialBackoff<BackoffClock>,
}

impl DeliveryBreaker {
    pub(super) fn new(policy: BreakerConfig) -> Self {
        let open_backoff = build_open_backoff(&policy);
        Self {
            policy,
            phase: DeliveryBreakerPhase::Closed,
            consecutive_failures: 0,
            window: FailureRateWindow::default(),
            open_backoff,
        }
    }

    /// Changes the policy. An open breaker stays open for the time that was planned.
    pub(super) fn set_policy(&mut self, policy: BreakerConfig) {
        let current = self.open_backoff.current_interval;
        self.open_backoff = build_open_backoff(&policy);
        self.open_backoff.current_interval = current.clamp(
            self.open_backoff.initial_interval,
            self.open_backoff.max_interval,
        );
        self.policy = policy;
    }

    /// Lets an attempt through at `now`; `None` if it may not be made now.
    pub(super) fn try_pass(&mut self, now: Duration) -> Option<BreakerPass> {
        match self.phase {
            DeliveryBreakerPhase::Closed => Some(BreakerPass::Ordinary),
            DeliveryBreakerPhase::Open { until } if now >= until => {
                self.phase = DeliveryBreakerPhase::HalfOpen;
                Some(BreakerPass::Probe)
            }
            DeliveryBreakerPhase::Open { .. } | DeliveryBreakerPhase::HalfOpen => None,
        }
    }

    /// Notes a success. Returns true if it closes the breaker.
    pub(super) fn record_success(&mut self, pass: BreakerPass, now: Duration) -> bool {
        match (self.phase, pass) {
            (DeliveryBreakerPhase::Closed, _) => {
                self.consecutive_failures = 0;
                self.window.record_attempt(self.policy.window, now, false);
                false
            }
            (DeliveryBreakerPhase::HalfOpen, BreakerPass::Probe) => {
                self.phase = DeliveryBreakerPhase::Closed;
                self.consecutive_failures = 0;
                self.window = FailureRateWindow::default();
                self.open_backoff.reset();
                true
            }
            (DeliveryBreakerPhase::HalfOpen, BreakerPass::Ordinary)
            | (DeliveryBreakerPhase::Open { .. }, _) => false,
        }
    }

    /// Notes a failure. Returns the failure rate if it opens the closed breaker. A refusal, by
    /// which the subscriber shows that it works, counts for the rate only.
    pub(super) fn record_failure(
        &mut self,
        pass: BreakerPass,
        is_refusal: bool,
        now: Duration,
    ) -> Option<f64> {
        match (self.phase, pass) {
            (DeliveryBreakerPhase::Closed, _) => {
                let in_a_row = u32::from(!is_refusal);
                self.consecutive_failures = self.consecutive_failures.saturating_add(in_a_row);
                self.window.record_attempt(self.policy.window, now, true);
                let failure_rate = self.window.failure_rate();
                self.is_over_threshold().then(|| {
                    self.trip(now);
                    failure_rate
                })
            }
            (DeliveryBreakerPhase::HalfOpen, BreakerPass::Probe) => {
                self.trip(now);
                None
            }
            (DeliveryBreakerPhase::HalfOpen, BreakerPass::Ordinary)
            | (DeliveryBreakerPhase::Open { .. }, _) => None,
        }
    }

    /// Returns the pass of an attempt that was not made or never reached the subscriber. After a
    /// probe's return another probe may begin at once.
    pub(super) fn return_pass(&mut self, pass: BreakerPass, now: Duration) {
        if (self.phase, pass) == (DeliveryBreakerPhase::HalfOpen, BreakerPass::Probe) {
            self.phase = DeliveryBreakerPhase::Open { until: now };
        }
    }

    /// Lets an open breaker's probe through from `now` on, as an operator asked.
    pub(super) fn allow_probe(&mut self, now: Duration) {
        if let DeliveryBreakerPhase::Open { until } = &mut self.phase {
            *until = now.min(*until);
        }
    }

    pub(super) const fn state(&self) -> DeliveryBreakerState {
        match self.phase {
            DeliveryBreakerPhase::Closed => DeliveryBreakerState::Closed,
            DeliveryBreakerPhase::Open { .. } => DeliveryBreakerState::Open,
            DeliveryBreakerPhase::HalfOpen => DeliveryBreakerState::HalfOpen,
        }
    }

    /// Time from which on an attempt may be made: zero means at any time, `None` means after the
    /// end of the probe.
    pub(super) const fn next_attempt_at(&self) -> Option<Duration> {
        match self.phase {
            DeliveryBreakerPhase::Closed => Some(Duration::ZERO),
            DeliveryBreakerPhase::Open { until } => Some(until),
            DeliveryBreakerPhase::HalfOpen => None,
        }
    }

    fn is_over_threshold(&self) -> bool {
        let BreakerConfig {
            consecutive,
            failure_rate,
            attempts_min,
            ..
        } = self.policy;
        let (attempts, failures) = self.window.totals();
        let is_row = consecutive > 0 && self.consecutive_failures >= consecutive;
        // The rate has to exceed the limit; a limit of 1 cannot be exceeded, so reaching it counts.
        let is_share =
            f64::from(failures) > failure_rate * f64::from(attempts) || failures == attempts;
        is_row || (failure_rate > 0.0 && attempts >= attempts_min && is_share)
    }

    fn trip(&mut self, now: Duration) {
        let pause = self
            .open_backoff
            .next_backoff()
            .unwrap_or(self.policy.open_max);
        self.phase = DeliveryBreakerPhase::Open {
            until: now.saturating_add(pause),
        };
    }
}

/// Builds the backoff: `open`, doubled each time up to `open_max`, without jitter and without end.
fn build_open_backoff(policy: &BreakerConfig) -> ExponentialBackoff<BackoffClock> {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(policy.open.min(policy.open_max))
        .with_max_interval(policy.open_max)
        .with_multiplier(2.0)
        .with_randomization_factor(0.0)
        .with_max_elapsed_time(None)
        .build()
}

/// Clock type that the backoff requires; it is not used, since the backoff never ends by time.
type BackoffClock = backoff::SystemClock;

/// Numbers of attempts and failures in a sliding window.
#[derive(Debug, Default)]
struct FailureRateWindow {
    slots: [(u32, u32); SLOTS as usize],
    /// Number of the newest slot, counted from time zero.
    newest: u64,
}

impl FailureRateWindow {
    fn record_attempt(&mut self, length: Duration, now: Duration, has_failed: bool) {
        self.slide(length, now);
        let (attempts, failures) = &mut self.slots[(self.newest % SLOTS) as usize];
        *attempts = attempts.saturating_add(1);
        *failures = failures.saturating_add(u32::from(has_failed));
    }

    fn slide(&mut self, length: Duration, now: Duration) {
        let slot = (length.as_nanos() / u128::from(SLOTS)).max(1);
        let number = u64::try_from(now.as_nanos() / slot).unwrap_or(u64::MAX);
        // A changed length of the window gives other slot numbers: the old counts are dropped.
        let passed = if number < self.newest {
            SLOTS
        } else {
            (number - self.newest).min(SLOTS)
        };
        for old in 0..passed {
            self.slots[((number - old.min(number)) % SLOTS) as usize] = (0, 0);
        }
        self.newest = number;
    }

    fn totals(&self) -> (u32, u32) {
        self.slots
            .iter()
            .fold((0, 0), |(all, bad), (attempts, failures)| {
                (
                    u32::saturating_add(all, *attempts),
                    u32::saturating_add(bad, *failures),
                )
            })
    }

    fn failure_rate(&self) -> f64 {
        let (attempts, failures) = self.totals();
        f64::from(failures) / f64::from(attempts.max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BreakerConfig = BreakerConfig {
        window: Duration::from_secs(60),
        failure_rate: 0.5,
        attempts_min: 20,
        consecutive: 3,
        open: Duration::from_secs(30),
        open_max: Duration::from_secs(100),
    };

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn opened() -> DeliveryBreaker {
        let mut breaker = DeliveryBreaker::new(POLICY);
        let opened: Vec<_> = (0..3)
            .map(|_| {
                breaker
                    .record_failure(BreakerPass::Ordinary, false, seconds(10))
                    .is_some()
            })
            .collect();
        assert_eq!(opened, [false, false, true]);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_accepted_attempt_between_them_does_not() {
        let mut breaker = DeliveryBreaker::new(BreakerConfig {
            failure_rate: 0.0,
            ..POLICY
        });
        for _ in 0..50 {
            assert_eq!(
                breaker.record_failure(BreakerPass::Ordinary, false, seconds(1)),
                None
            );
            assert_eq!(
                breaker.record_failure(BreakerPass::Ordinary, false, seconds(1)),
                None
            );
            assert!(
                !breaker.record_success(BreakerPass::Ordinary, seconds(1)),
                "it was closed all along"
            );
        }
        assert_eq!(opened().try_pass(seconds(39)), None);
    }

    #[test]
    fn a_share_of_failures_opens_it_once_there_are_enough_attempts() {
        for (share, attempts_min, bad_of_4, opens_at) in [
            (0.5, 20, 2, None),
            (0.5, 20, 3, Some(20)),
            (0.5, 7, 3, Some(7)),
            (0.7, 20, 3, Some(20)),
            (0.8, 20, 3, None),
            (1.0, 20, 3, None),
            (1.0, 20, 4, Some(20)),
            (0.0, 1, 4, None),
        ] {
            let policy = BreakerConfig {
                failure_rate: share,
                attempts_min,
                consecutive: 0,
                ..POLICY
            };
            let mut breaker = DeliveryBreaker::new(policy);
            let opened = (1..=40_u32).find(|n| {
                // Failures come last in each four, so that the opening attempt is a failure.
                if (n - 1) % 4 < 4 - bad_of_4 {
                    breaker.record_success(BreakerPass::Ordinary, seconds(1));
                    return false;
                }
                breaker
                    .record_failure(BreakerPass::Ordinary, false, seconds(1))
                    .is_some()
            });
            assert_eq!(
                opened, opens_at,
                "{share} of {attempts_min}, {bad_of_4} of 4 bad"
            );
        }
    }

    #[test]
    fn failures_that_are_older_than_the_window_count_no_more() {
        let policy = BreakerConfig {
            consecutive: 0,
            attempts_min: 10,
            ..POLICY
        };
        let mut breaker = DeliveryBreaker::new(policy);
        (0..9).for_each(|_| {
            assert_eq!(
                breaker.record_failure(BreakerPass::Ordinary, false, seconds(3)),
                None
            )
        });
        assert_eq!(
            breaker.record_failure(BreakerPass::Ordinary, false, seconds(70)),
            None,
            "the first nine are out of the window"
        );
        (0..8).for_each(|_| {
            assert_eq!(
                breaker.record_failure(BreakerPass::Ordinary, false, seconds(100)),
                None
            )
        });
        assert_eq!(
            breaker.record_failure(BreakerPass::Ordinary, false, seconds(110)),
            Some(1.0),
            "ten within a minute"
        );
    }

    #[test]
    fn when_the_time_is_over_one_probe_goes_and_decides_and_each_that_fails_doubles_the_time() {
        let mut breaker = opened();
        let mut now = 10;
        for open in [30, 60, 100, 100] {
            assert_eq!(
                breaker.try_pass(seconds(now + open - 1)),
                None,
                "open for {open} s"
            );
            now += open;
            assert_eq!(breaker.try_pass(seconds(now)), Some(BreakerPass::Probe));
            assert_eq!(breaker.try_pass(seconds(now)), None, "one only");
            assert_eq!(
                breaker.record_failure(BreakerPass::Probe, false, seconds(now)),
                None,
                "it was open before"
            );
        }
        assert_eq!(
            breaker.try_pass(seconds(now + 100)),
            Some(BreakerPass::Probe)
        );
        assert!(breaker.record_success(BreakerPass::Probe, seconds(now + 100)));
        assert_eq!(
            breaker.try_pass(seconds(now + 100)),
            Some(BreakerPass::Ordinary)
        );
        assert_eq!(
            breaker.record_failure(BreakerPass::Ordinary, false, seconds(now + 100)),
            None,
            "counted from zero again"
        );
        breaker.record_failure(BreakerPass::Ordinary, false, seconds(now + 100));
        breaker.record_failure(BreakerPass::Ordinary, false, seconds(now + 100));
        assert_eq!(
            breaker.next_attempt_at(),
            Some(seconds(now + 130)),
            "as short as at first again"
        );
    }

    #[test]
    fn what_was_attempted_before_it_opened_says_nothing_later() {
        let mut breaker = opened();
        assert!(!breaker.record_success(BreakerPass::Ordinary, seconds(11)));
        assert_eq!(
            breaker.record_failure(BreakerPass::Ordinary, false, seconds(39)),
            None
        );
        assert_eq!(
            breaker.try_pass(seconds(40)),
            Some(BreakerPass::Probe),
            "it does not stay open longer for it"
        );
        assert_eq!(
            breaker.record_failure(BreakerPass::Ordinary, false, seconds(41)),
            None
        );
        assert!(!breaker.record_success(BreakerPass::Ordinary, seconds(41)));
        assert_eq!(breaker.state(), DeliveryBreakerState::HalfOpen);
    }

    #[test]
    fn a_probe_that_was_not_made_leaves_its_place_to_another() {
        let mut breaker = opened();
        assert_eq!(breaker.try_pass(seconds(40)), Some(BreakerPass::Probe));
        breaker.return_pass(BreakerPass::Ordinary, seconds(41));
        assert_eq!(
            breaker.try_pass(seconds(41)),
            None,
            "another's end is not the probe's"
        );
        breaker.return_pass(BreakerPass::Probe, seconds(42));
        assert_eq!(breaker.try_pass(seconds(42)), Some(BreakerPass::Probe));
    }

    #[test]
    fn one_that_is_open_lets_its_probe_through_as_soon_as_somebody_asks_for_it() {
        let mut breaker = opened();
        breaker.allow_probe(seconds(12));
        assert_eq!(breaker.try_pass(seconds(12)), Some(BreakerPass::Probe));
        breaker.allow_probe(seconds(13));
        assert_eq!(breaker.try_pass(seconds(13)), None, "one only");
        breaker.record_failure(BreakerPass::Probe, false, seconds(14));
        assert_eq!(
            breaker.next_attempt_at(),
            Some(seconds(74)),
            "as if it had been its time"
        );
    }

    proptest! {
        /// In any history there is at most one probe at a time, no attempt passes an open breaker,
        /// and the breaker is never open for longer than its maximum.
        #[test]
        fn there_is_never_more_than_one_probe(steps in prop::collection::vec((0_u64..200, 0..4_u8), 1..200)) {
            let mut breaker = DeliveryBreaker::new(POLICY);
            let (mut now, mut probing) = (0, false);
            for (pause, what) in steps {
                now += pause;
                match what {
                    0 | 1 => match breaker.try_pass(seconds(now)) {
                        Some(BreakerPass::Probe) => {
                            prop_assert!(!probing);
                            probing = true;
                        }
                        Some(BreakerPass::Ordinary) => prop_assert!(!probing),
                        None => prop_assert!(probing || breaker.next_attempt_at() > Some(seconds(now))),
                    },
                    _ => {
                        let pass = if probing { BreakerPass::Probe } else { BreakerPass::Ordinary };
                        if what == 2 {
                            breaker.record_success(pass, seconds(now));
                        } else {
                            breaker.record_failure(pass, false, seconds(now));
                        }
                        probing = false;
                    }
                }
                prop_assert!(breaker.next_attempt_at() <= Some(seconds(now) + POLICY.open_max));
            }
        }
    }
}
