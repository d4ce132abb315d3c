//! The circuit breaker of one server: stops asking one that does not answer, and tries again with a single request.
//!
//! ```text
//!            failures in a row                  time over, one asks
//!   Closed ────────────────────> Open(until) ───────────────────────> HalfOpen(probe under way)
//!     ^                            ^                                      │        │
//!     │                            └──────────── the probe failed ────────┘        │
//!     └─────────────────────────────────── the probe was answered ─────────────────┘
//! ```
//!
//! A pure state machine: the time is an argument. Only the probe's own outcome counts after it has begun; what was asked
//! before the breaker opened and ends later says nothing new.

use std::time::Duration;

/// How often those who wait for a probe's outcome ask again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// Failures in a row that open it.
    pub(super) failures: u32,
    /// How long it stays open.
    pub(super) open: Duration,
}

/// Whether a request may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may; its outcome is to be told with this pass.
    Go(Pass),
    /// Not before this time is over.
    Wait(Duration),
}

/// What a request was let through as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Ordinary,
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Duration },
    HalfOpen,
}

/// The breaker of one server.
#[derive(Debug)]
pub(super) struct Breaker {
    policy: Policy,
    state: State,
}

impl Breaker {
    pub(super) const fn new(policy: Policy) -> Self {
        Self { policy, state: State::Closed { failures: 0 } }
    }

    /// Asks for a request at `now`.
    pub(super) fn ask(&mut self, now: Duration) -> Verdict {
        match self.state {
            State::Closed { .. } => Verdict::Go(Pass::Ordinary),
            State::Open { until } if now < until => Verdict::Wait(until - now),
            State::Open { .. } => {
                self.state = State::HalfOpen;
                Verdict::Go(Pass::Probe)
            }
            State::HalfOpen => Verdict::Wait(PROBE_INTERVAL),
        }
    }

    /// A request was answered, with whatever status shows that the server is there.
    pub(super) fn answered(&mut self, pass: Pass) {
        match (self.state, pass) {
            (State::Closed { .. }, _) | (State::HalfOpen, Pass::Probe) => self.state = State::Closed { failures: 0 },
            (State::HalfOpen, Pass::Ordinary) | (State::Open { .. }, _) => {}
        }
    }

    /// A request failed at `now` in a way that may pass.
    pub(super) fn failed(&mut self, pass: Pass, now: Duration) {
        let open = State::Open { until: now + self.policy.open };
        match (self.state, pass) {
            (State::Closed { failures }, _) if failures + 1 < self.policy.failures => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (State::Closed { .. }, _) | (State::HalfOpen, Pass::Probe) => self.state = open,
            (State::HalfOpen, Pass::Ordinary) | (State::Open { .. }, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy { failures: 3, open: Duration::from_secs(30) };

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(POLICY);
        (0..3).for_each(|_| breaker.failed(Pass::Ordinary, seconds(10)));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let mut breaker = Breaker::new(POLICY);
        for _ in 0..5 {
            breaker.failed(Pass::Ordinary, seconds(1));
            breaker.failed(Pass::Ordinary, seconds(1));
            assert_eq!(breaker.ask(seconds(1)), Verdict::Go(Pass::Ordinary));
            breaker.answered(Pass::Ordinary);
        }
        assert_eq!(opened().ask(seconds(11)), Verdict::Wait(seconds(29)));
    }

    #[test]
    fn when_the_time_is_over_one_probe_goes_and_decides() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(seconds(40)), Verdict::Go(Pass::Probe));
        assert_eq!(breaker.ask(seconds(40)), Verdict::Wait(PROBE_INTERVAL), "one only");
        breaker.failed(Pass::Probe, seconds(45));
        assert_eq!(breaker.ask(seconds(46)), Verdict::Wait(seconds(29)));
        assert_eq!(breaker.ask(seconds(75)), Verdict::Go(Pass::Probe));
        breaker.answered(Pass::Probe);
        assert_eq!(breaker.ask(seconds(75)), Verdict::Go(Pass::Ordinary));
        breaker.failed(Pass::Ordinary, seconds(76));
        assert_eq!(breaker.ask(seconds(76)), Verdict::Go(Pass::Ordinary), "counted from zero again");
    }

    #[test]
    fn what_was_asked_before_it_opened_says_nothing_later() {
        let mut breaker = opened();
        breaker.answered(Pass::Ordinary);
        assert_eq!(breaker.ask(seconds(11)), Verdict::Wait(seconds(29)));
        breaker.failed(Pass::Ordinary, seconds(39));
        assert_eq!(breaker.ask(seconds(40)), Verdict::Go(Pass::Probe), "it does not stay open longer for it");
        breaker.failed(Pass::Ordinary, seconds(41));
        breaker.answered(Pass::Ordinary);
        assert_eq!(breaker.ask(seconds(41)), Verdict::Wait(PROBE_INTERVAL));
    }

    proptest! {
        /// Whatever happens: at most one probe at a time, and nothing goes while it is open.
        #[test]
        fn there_is_never_more_than_one_probe(steps in prop::collection::vec((0_u64..20, 0..4_u8), 1..200)) {
            let mut breaker = Breaker::new(POLICY);
            let (mut now, mut probing) = (0, false);
            for (pause, what) in steps {
                now += pause;
                match what {
                    0 | 1 => match breaker.ask(seconds(now)) {
                        Verdict::Go(Pass::Probe) => {
                            prop_assert!(!probing);
                            probing = true;
                        }
                        Verdict::Go(Pass::Ordinary) => prop_assert!(!probing),
                        Verdict::Wait(wait) => prop_assert!(!wait.is_zero() && wait <= POLICY.open),
                    },
                    _ => {
                        let pass = if probing { Pass::Probe } else { Pass::Ordinary };
                        if what == 2 { breaker.answered(pass) } else { breaker.failed(pass, seconds(now)) }
                        probing = false;
                    }
                }
            }
        }
    }
}
