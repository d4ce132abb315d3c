//! Circuit breaker of one server: stops calls to a server that fails, then probes it with a single
//! call.
//!
//! ```text
//!          consecutive failures              open time over, next call
//!   Closed ────────────────────> Open(until) ─────────────────────────> HalfOpen (probe running)
//!     ^                            ^                                      │        │
//!     │                            └───────────── probe failed ───────────┘        │
//!     └──────────────────────────────────── probe succeeded ───────────────────────┘
//! ```
//!
//! A pure state machine: the time is an argument. In `HalfOpen` only the probe's outcome counts.
//! Outcomes of calls that began before the breaker opened are ignored.

use std::time::Duration;

/// Time after which a caller asks again while a probe is running.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Thresholds of a circuit breaker, from the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerBreakerPolicy {
    /// Number of consecutive failures that opens the breaker.
    pub(super) failures: u32,
    /// Time for which the breaker stays open.
    pub(super) open: Duration,
}

/// Answer of a breaker to a request for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerBreakerDecision {
    /// The call may be made; its outcome must be reported with this permit.
    Go(ServerCallPermit),
    /// No call may be made before this time has passed.
    Wait(Duration),
}

/// Permit for one call to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerCallPermit {
    Ordinary,
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerBreakerState {
    Closed { failures: u32 },
    Open { until: Duration },
    HalfOpen,
}

/// State machine of one server's circuit breaker.
#[derive(Debug)]
pub(super) struct ServerBreaker {
    policy: ServerBreakerPolicy,
    state: ServerBreakerState,
}

impl ServerBreaker {
    pub(super) const fn new(policy: ServerBreakerPolicy) -> Self {
        Self {
            policy,
            state: ServerBreakerState::Closed { failures: 0 },
        }
    }

    /// Requests a permit for a call at `now`.
    pub(super) fn try_acquire(&mut self, now: Duration) -> ServerBreakerDecision {
        match self.state {
            ServerBreakerState::Closed { .. } => {
                ServerBreakerDecision::Go(ServerCallPermit::Ordinary)
            }
            ServerBreakerState::Open { until } if now < until => {
                ServerBreakerDecision::Wait(until - now)
            }
            ServerBreakerState::Open { .. } => {
                self.state = ServerBreakerState::HalfOpen;
                ServerBreakerDecision::Go(ServerCallPermit::Probe)
            }
            ServerBreakerState::HalfOpen => ServerBreakerDecision::Wait(PROBE_INTERVAL),
        }
    }

    /// Records an answer that shows that the server works, such as 2xx or 404.
    pub(super) fn record_success(&mut self, permit: ServerCallPermit) {
        match (self.state, permit) {
            (ServerBreakerState::Closed { .. }, _)
            | (ServerBreakerState::HalfOpen, ServerCallPermit::Probe) => {
                self.state = ServerBreakerState::Closed { failures: 0 }
            }
            (ServerBreakerState::HalfOpen, ServerCallPermit::Ordinary)
            | (ServerBreakerState::Open { .. }, _) => {}
        }
    }

    /// Records a transient failure at `now`.
    pub(super) fn record_failure(&mut self, permit: ServerCallPermit, now: Duration) {
        let open = ServerBreakerState::Open {
            until: now + self.policy.open,
        };
        match (self.state, permit) {
            (ServerBreakerState::Closed { failures }, _) if failures + 1 < self.policy.failures => {
                self.state = ServerBreakerState::Closed {
                    failures: failures + 1,
                };
            }
            (ServerBreakerState::Closed { .. }, _)
            | (ServerBreakerState::HalfOpen, ServerCallPermit::Probe) => self.state = open,
            (ServerBreakerState::HalfOpen, ServerCallPermit::Ordinary)
            | (ServerBreakerState::Open { .. }, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: ServerBreakerPolicy = ServerBreakerPolicy {
        failures: 3,
        open: Duration::from_secs(30),
    };

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn opened() -> ServerBreaker {
        let mut breaker = ServerBreaker::new(POLICY);
        (0..3).for_each(|_| breaker.record_failure(ServerCallPermit::Ordinary, seconds(10)));
        breaker
    }

    #[test]
    fn consecutive_failures_open_the_breaker_and_a_success_between_them_resets_it() {
        let mut breaker = ServerBreaker::new(POLICY);
        for _ in 0..5 {
            breaker.record_failure(ServerCallPermit::Ordinary, seconds(1));
            breaker.record_failure(ServerCallPermit::Ordinary, seconds(1));
            assert_eq!(
                breaker.try_acquire(seconds(1)),
                ServerBreakerDecision::Go(ServerCallPermit::Ordinary)
            );
            breaker.record_success(ServerCallPermit::Ordinary);
        }
        assert_eq!(
            opened().try_acquire(seconds(11)),
            ServerBreakerDecision::Wait(seconds(29))
        );
    }

    #[test]
    fn after_the_open_time_one_probe_is_permitted_and_decides() {
        let mut breaker = opened();
        assert_eq!(
            breaker.try_acquire(seconds(40)),
            ServerBreakerDecision::Go(ServerCallPermit::Probe)
        );
        assert_eq!(
            breaker.try_acquire(seconds(40)),
            ServerBreakerDecision::Wait(PROBE_INTERVAL),
            "one only"
        );
        breaker.record_failure(ServerCallPermit::Probe, seconds(45));
        assert_eq!(
            breaker.try_acquire(seconds(46)),
            ServerBreakerDecision::Wait(seconds(29))
        );
        assert_eq!(
            breaker.try_acquire(seconds(75)),
            ServerBreakerDecision::Go(ServerCallPermit::Probe)
        );
        breaker.record_success(ServerCallPermit::Probe);
        assert_eq!(
            breaker.try_acquire(seconds(75)),
            ServerBreakerDecision::Go(ServerCallPermit::Ordinary)
        );
        breaker.record_failure(ServerCallPermit::Ordinary, seconds(76));
        assert_eq!(
            breaker.try_acquire(seconds(76)),
            ServerBreakerDecision::Go(ServerCallPermit::Ordinary),
            "counted from zero again"
        );
    }

    #[test]
    fn outcomes_of_calls_from_before_the_opening_are_ignored() {
        let mut breaker = opened();
        breaker.record_success(ServerCallPermit::Ordinary);
        assert_eq!(
            breaker.try_acquire(seconds(11)),
            ServerBreakerDecision::Wait(seconds(29))
        );
        breaker.record_failure(ServerCallPermit::Ordinary, seconds(39));
        assert_eq!(
            breaker.try_acquire(seconds(40)),
            ServerBreakerDecision::Go(ServerCallPermit::Probe),
            "it does not stay open longer for it"
        );
        breaker.record_failure(ServerCallPermit::Ordinary, seconds(41));
        breaker.record_success(ServerCallPermit::Ordinary);
        assert_eq!(
            breaker.try_acquire(seconds(41)),
            ServerBreakerDecision::Wait(PROBE_INTERVAL)
        );
    }

    proptest! {
        /// At most one probe runs at a time, and no other call is permitted while it runs.
        #[test]
        fn there_is_never_more_than_one_probe(
            steps in prop::collection::vec((0_u64..20, 0..4_u8), 1..200),
        ) {
            let mut breaker = ServerBreaker::new(POLICY);
            let (mut now, mut probing) = (0, false);
            for (pause, action) in steps {
                now += pause;
                match action {
                    0 | 1 => match breaker.try_acquire(seconds(now)) {
                        ServerBreakerDecision::Go(ServerCallPermit::Probe) => {
                            prop_assert!(!probing);
                            probing = true;
                        }
                        ServerBreakerDecision::Go(ServerCallPermit::Ordinary) => {
                            prop_assert!(!probing);
                        }
                        ServerBreakerDecision::Wait(wait) => {
                            prop_assert!(!wait.is_zero() && wait <= POLICY.open);
                        }
                    },
                    _ => {
                        let permit = if probing {
                            ServerCallPermit::Probe
                        } else {
                            ServerCallPermit::Ordinary
                        };
                        if action == 2 {
                            breaker.record_success(permit);
                        } else {
                            breaker.record_failure(permit, seconds(now));
                        }
                        probing = false;
                    }
                }
            }
        }
    }
}
