//! Check of the wall clock against monotonic time, and against the times of the journal.
//!
//! ```text
//!   wall time within the tolerance of the expected time ──> shown, and expected from now on
//!   further away: a jump ──> the expected time is shown, until the clock agrees again, or an operator
//!                            confirms the new time
//! ```
//!
//! So nothing is ever stamped with a time that came by a jump: it would expire claims and deliveries,
//! and later events would count as late.
//!
//! At the start, monotonic time tells nothing of the time before, and either the clock or the last time
//! of the journal may be the wrong one. So no stage may start before both agree, or an operator has
//! confirmed the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use super::Clock;
use crate::event::Timestamp;

/// Largest difference from the expected time that is no jump, in microseconds: five minutes, as far
/// as the signed times of most senders may differ.
const TOLERANCE_MICROS: i64 = 300 * 1_000_000;

/// Longest downtime that is believed, in microseconds: a year.
const DOWNTIME_MAX_MICROS: i64 = 366 * 24 * 3_600 * 1_000_000;

/// Jump of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockJump {
    /// Time that the system's clock shows.
    pub shown: Timestamp,
    /// Time that monotonic time, or the journal, let expect.
    pub expected: Timestamp,
}

/// Clock whose wall time does not follow a jump of the system's clock.
pub struct CheckedClock {
    clock: Arc<dyn Clock>,
    /// Wall time minus monotonic time, in microseconds, as it was shown last.
    offset: AtomicI64,
    is_jumped: AtomicBool,
    is_aligned: AtomicBool,
}

impl std::fmt::Debug for CheckedClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckedClock")
    }
}

impl CheckedClock {
    /// Wraps `clock`, whose present wall time is believed until [`Self::agrees_with`].
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let offset = offset_of(clock.as_ref());
        Self {
            clock,
            offset: AtomicI64::new(offset),
            is_jumped: AtomicBool::new(false),
            is_aligned: AtomicBool::new(false),
        }
    }

    /// Compares the clock with `recorded`, the last time of the journal. A clock that is before that
    /// time, or more than a year after it, has jumped, and `false` is returned. Once they have agreed,
    /// or an operator has confirmed the clock, every call returns `true`.
    pub fn agrees_with(&self, recorded: Timestamp) -> bool {
        if self.is_aligned.load(Ordering::Relaxed) {
            return true;
        }
        let ahead = self.clock.wall().as_micros() - recorded.as_micros();
        let agrees = recorded == Timestamp::default()
            || (-TOLERANCE_MICROS..=DOWNTIME_MAX_MICROS).contains(&ahead);
        if agrees {
            self.confirm();
        } else if !self.is_jumped.load(Ordering::Relaxed) {
            let monotonic = to_micros(self.clock.monotonic());
            let offset = recorded.as_micros().saturating_sub(monotonic);
            self.offset.store(offset, Ordering::Relaxed);
            self.is_jumped.store(true, Ordering::Relaxed);
        }
        agrees
    }

    /// Returns the jump of the clock; `None` while the clock agrees with the expected time.
    #[must_use]
    pub fn jump(&self) -> Option<ClockJump> {
        let expected = self.wall();
        self.is_jumped.load(Ordering::Relaxed).then(|| ClockJump {
            shown: self.clock.wall(),
            expected,
        })
    }

    /// Believes the clock from now on, as an operator has confirmed.
    pub fn confirm(&self) {
        self.offset
            .store(offset_of(self.clock.as_ref()), Ordering::Relaxed);
        self.is_jumped.store(false, Ordering::Relaxed);
        self.is_aligned.store(true, Ordering::Relaxed);
    }
}

impl Clock for CheckedClock {
    fn wall(&self) -> Timestamp {
        let (shown, monotonic) = (self.clock.wall(), to_micros(self.clock.monotonic()));
        let offset = self.offset.load(Ordering::Relaxed);
        let expected = monotonic.saturating_add(offset);
        let difference = shown.as_micros().saturating_sub(expected);
        if difference.saturating_abs() > TOLERANCE_MICROS {
            self.is_jumped.store(true, Ordering::Relaxed);
            return Timestamp::from_micros(expected);
        }

        // Written only if there is something to write: many threads read the clock all the time.
        if difference != 0 {
            self.offset.store(offset + difference, Ordering::Relaxed);
        }
        if self.is_jumped.load(Ordering::Relaxed) {
            self.is_jumped.store(false, Ordering::Relaxed);
        }
        shown
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

fn offset_of(clock: &dyn Clock) -> i64 {
    let monotonic = to_micros(clock.monotonic());
    clock.wall().as_micros().saturating_sub(monotonic)
}

fn to_micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Clock whose wall time and monotonic time a test sets apart, in seconds.
    #[derive(Default)]
    struct TwoClocks(Mutex<(i64, u64)>);

    impl TwoClocks {
        fn set(&self, wall: i64, monotonic: u64) {
            *self.0.lock() = (wall, monotonic);
        }
    }

    impl Clock for TwoClocks {
        fn wall(&self) -> Timestamp {
            Timestamp::from_micros(self.0.lock().0 * 1_000_000)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.lock().1)
        }
    }

    const NOW: i64 = 1_700_000_000;
    const DAY: i64 = 86_400;

    fn checked() -> (Arc<TwoClocks>, CheckedClock) {
        let clocks = Arc::<TwoClocks>::default();
        clocks.set(NOW, 0);
        let checked = CheckedClock::new(Arc::clone(&clocks) as Arc<dyn Clock>);
        (clocks, checked)
    }

    fn wall_seconds(clock: &CheckedClock) -> i64 {
        clock.wall().as_micros() / 1_000_000
    }

    #[test]
    fn a_clock_that_is_set_by_minutes_is_followed() {
        let (clocks, checked) = checked();
        for (wall, monotonic) in [
            (NOW + 10, 10),
            (NOW + 250, 20),
            (NOW + 30, 30),
            (NOW + 320, 40),
        ] {
            clocks.set(wall, monotonic);
            assert_eq!(wall_seconds(&checked), wall);
        }
        assert_eq!(checked.jump(), None);
    }

    /// A clock that showed 2036 for two events left all later ones with that time.
    #[test]
    fn a_jump_is_not_followed_until_the_clock_agrees_again() {
        let (clocks, checked) = checked();
        for jumped in [NOW + 4_000 * DAY, NOW - 4_000 * DAY, NOW + 700] {
            clocks.set(jumped, 60);
            assert_eq!(wall_seconds(&checked), NOW + 60);
            let jump = checked.jump().expect("a jump");
            assert_eq!(jump.shown.as_micros(), jumped * 1_000_000);
            assert_eq!(jump.expected.as_micros(), (NOW + 60) * 1_000_000);
            clocks.set(NOW + 62, 60);
            assert_eq!((wall_seconds(&checked), checked.jump()), (NOW + 62, None));
            clocks.set(NOW + 60, 60);
            checked.wall();
        }
    }

    #[test]
    fn a_jump_that_is_confirmed_is_followed() {
        let (clocks, checked) = checked();
        clocks.set(NOW + DAY, 1);
        assert!(checked.jump().is_some());
        checked.confirm();
        assert_eq!((wall_seconds(&checked), checked.jump()), (NOW + DAY, None));
    }

    #[test]
    fn a_start_is_compared_with_the_last_time_of_the_journal() {
        let recorded = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        for (last, is_jump) in [
            (NOW, false),
            (NOW - 300 * DAY, false),
            (NOW - 400 * DAY, true),
            (NOW + 200, false),
            (NOW + 400, true),
            (0, false),
        ] {
            let (_, checked) = checked();
            assert_ne!(checked.agrees_with(recorded(last)), is_jump, "{last}");
            assert_eq!(checked.jump().is_some(), is_jump, "{}", NOW - last);
            assert_eq!(wall_seconds(&checked), if is_jump { last } else { NOW });
            checked.confirm();
            assert!(checked.agrees_with(recorded(last)), "it is confirmed");
            assert_eq!((wall_seconds(&checked), checked.jump()), (NOW, None));
        }
    }

    #[test]
    fn a_clock_that_is_set_right_after_a_wrong_start_may_show_any_time_after_the_last_one() {
        let (clocks, checked) = checked();
        let last = Timestamp::from_micros((NOW + 5 * DAY) * 1_000_000);
        assert!(!checked.agrees_with(last));
        clocks.set(NOW + 9 * DAY, 60);
        assert!(checked.agrees_with(last));
        assert_eq!(
            (wall_seconds(&checked), checked.jump()),
            (NOW + 9 * DAY, None)
        );
    }
}
