//! Check of the wall clock against monotonic time, and against the times of the journal.
//!
//! ```text
//!   wall time within the tolerance of its anchor ──> shown
//!   further away: a jump ──> the expected time is shown, until the clock agrees again, or an operator
//!                            confirms the new time
//! ```
//!
//! The anchor follows the clock by one tolerance a day at most: however small its steps are, a clock
//! that is moved further than its crystal drifts has jumped.
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

use super::{BootMoment, Clock, LastKnownTime};
use crate::event::Timestamp;

/// Largest difference from the expected time that is no jump, in microseconds: five minutes, as far
/// as the signed times of most senders may differ.
const TOLERANCE_MICROS: i64 = 300 * 1_000_000;

/// Longest that the anchor follows the clock in some time, as a part of it: one tolerance a day. A
/// crystal drifts by a hundredth of that.
const FOLLOWED_PART: i64 = 24 * 3_600 * 1_000_000 / TOLERANCE_MICROS;

/// Time between two moves of the anchor, in microseconds.
const ANCHOR_INTERVAL_MICROS: i64 = 60 * 1_000_000;

/// Longest time since the newest event that is believed if nothing else is known, in microseconds: a
/// year. So it is at the first start on a restored backup, or of a version that knows more.
const QUIET_MAX_MICROS: i64 = 366 * 24 * 3_600 * 1_000_000;

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
    /// Offset from which the shown one may differ by the tolerance.
    anchor: AtomicI64,
    /// Monotonic time of the anchor's last move, in microseconds.
    anchored_at: AtomicI64,
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
        let monotonic = to_micros(clock.monotonic());
        let offset = clock.wall().as_micros().saturating_sub(monotonic);
        Self {
            clock,
            offset: AtomicI64::new(offset),
            anchor: AtomicI64::new(offset),
            anchored_at: AtomicI64::new(monotonic),
            is_jumped: AtomicBool::new(false),
            is_aligned: AtomicBool::new(false),
        }
    }

    /// Compares the clock with `last`, the last time of the store. In the same boot of the machine the
    /// present time follows from that. After another boot, the clock must not be before it, nor more
    /// than `downtime_max` after it. A clock that is has jumped, and `false` is returned. Once they have
    /// agreed, or an operator has confirmed the clock, every call returns `true`.
    pub fn agrees_with(&self, last: &LastKnownTime, downtime_max: Duration) -> bool {
        if self.is_aligned.load(Ordering::Relaxed) {
            return true;
        }
        let now = self.clock.boot_moment();
        let expected = now.and_then(|now| last.wall_at(&now));
        let latest = match (expected, &last.moment) {
            (Some(_), _) => TOLERANCE_MICROS,
            (None, Some(_)) => to_micros(downtime_max),
            (None, None) => QUIET_MAX_MICROS,
        };
        let expected = expected.unwrap_or(last.wall);
        let shown = self.clock.wall().as_micros();
        let ahead = shown.saturating_sub(expected.as_micros());
        let agrees =
            last.wall == Timestamp::default() || (-TOLERANCE_MICROS..=latest).contains(&ahead);
        if agrees {
            self.confirm();
        } else if !self.is_jumped.load(Ordering::Relaxed) {
            self.set_anchor(expected);
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
        self.set_anchor(self.clock.wall());
        self.is_jumped.store(false, Ordering::Relaxed);
        self.is_aligned.store(true, Ordering::Relaxed);
    }

    /// Expects the wall time `now` at this moment.
    fn set_anchor(&self, now: Timestamp) {
        let monotonic = to_micros(self.clock.monotonic());
        let offset = now.as_micros().saturating_sub(monotonic);
        self.offset.store(offset, Ordering::Relaxed);
        self.anchor.store(offset, Ordering::Relaxed);
        self.anchored_at.store(monotonic, Ordering::Relaxed);
    }

    /// Moves the anchor towards `offset`, as far as it may at the time `monotonic`.
    fn move_anchor(&self, offset: i64, monotonic: i64) {
        let anchored_at = self.anchored_at.load(Ordering::Relaxed);
        let elapsed = monotonic.saturating_sub(anchored_at);
        if elapsed < ANCHOR_INTERVAL_MICROS {
            return;
        }
        // Of several threads, one moves it.
        let moved = self.anchored_at.compare_exchange(
            anchored_at,
            monotonic,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if moved.is_ok() {
            let most = elapsed / FOLLOWED_PART;
            let anchor = self.anchor.load(Ordering::Relaxed);
            let step = offset.saturating_sub(anchor).clamp(-most, most);
            self.anchor.store(anchor + step, Ordering::Relaxed);
        }
    }
}

impl Clock for CheckedClock {
    fn wall(&self) -> Timestamp {
        let (shown, monotonic) = (self.clock.wall(), to_micros(self.clock.monotonic()));
        let offset = shown.as_micros().saturating_sub(monotonic);
        let from_anchor = offset.saturating_sub(self.anchor.load(Ordering::Relaxed));
        let last_offset = self.offset.load(Ordering::Relaxed);
        if from_anchor.saturating_abs() > TOLERANCE_MICROS {
            self.is_jumped.store(true, Ordering::Relaxed);
            return Timestamp::from_micros(monotonic.saturating_add(last_offset));
        }

        // Written only if there is something to write: many threads read the clock all the time.
        if offset != last_offset {
            self.offset.store(offset, Ordering::Relaxed);
        }
        self.move_anchor(offset, monotonic);
        if self.is_jumped.load(Ordering::Relaxed) {
            self.is_jumped.store(false, Ordering::Relaxed);
        }
        shown
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn boot_moment(&self) -> Option<BootMoment> {
        self.clock.boot_moment()
    }
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
    struct TwoClocks(Mutex<(i64, u64)>, Option<&'static str>);

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

        fn boot_moment(&self) -> Option<BootMoment> {
            Some(boot_moment(self.1?, self.monotonic()))
        }
    }

    fn boot_moment(boot_id: &str, since: Duration) -> BootMoment {
        let boot_id = boot_id.to_owned();
        BootMoment { boot_id, since }
    }

    const NOW: i64 = 1_700_000_000;
    const DAY: i64 = 86_400;
    const WEEK: Duration = Duration::from_secs(7 * 86_400);

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

    /// Steps of 299 s, once a second, moved the time of the node by a week in 34 minutes.
    #[test]
    fn a_clock_that_is_moved_by_many_small_steps_has_jumped() {
        let (clocks, checked) = checked();
        for step in 1..=2_000 {
            clocks.set(NOW + step * 300, step.cast_unsigned());
            checked.wall();
        }
        let followed = wall_seconds(&checked) - (NOW + 2_000);
        assert!((0..=310).contains(&followed), "{followed} s");
        assert!(checked.jump().is_some());
    }

    #[test]
    fn a_clock_that_drifts_is_followed() {
        let (clocks, checked) = checked();
        for hour in 1..=24 * 365 {
            let (elapsed, drift) = (hour * 3_600, hour / 3);
            clocks.set(NOW + elapsed + drift, elapsed.cast_unsigned());
            assert_eq!(wall_seconds(&checked), NOW + elapsed + drift);
        }
        assert_eq!(checked.jump(), None);
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
        let recorded =
            |seconds: i64| LastKnownTime::of_event(Timestamp::from_micros(seconds * 1_000_000));
        for (last, is_jump) in [
            (NOW, false),
            (NOW - 300 * DAY, false),
            (NOW - 400 * DAY, true),
            (NOW + 200, false),
            (NOW + 400, true),
            (0, false),
        ] {
            let (_, checked) = checked();
            assert_ne!(
                checked.agrees_with(&recorded(last), WEEK),
                is_jump,
                "{last}"
            );
            assert_eq!(checked.jump().is_some(), is_jump, "{}", NOW - last);
            assert_eq!(wall_seconds(&checked), if is_jump { last } else { NOW });
            checked.confirm();
            assert!(
                checked.agrees_with(&recorded(last), WEEK),
                "it is confirmed"
            );
            assert_eq!((wall_seconds(&checked), checked.jump()), (NOW, None));
        }
    }

    /// A clock up to a year ahead at the start was believed, and expired what was a year younger.
    #[test]
    fn a_start_in_the_same_boot_knows_the_time_and_one_after_another_believes_a_short_downtime() {
        for (boot_id, shown, is_jump) in [
            ("same", NOW + 60, false),
            ("same", NOW + 300, false),
            ("same", NOW + 400, true),
            ("same", NOW - 400, true),
            ("other", NOW + 6 * DAY, false),
            ("other", NOW + 8 * DAY, true),
            ("other", NOW - 400, true),
        ] {
            let clocks = Arc::new(TwoClocks(Mutex::new((shown, 100)), Some(boot_id)));
            let checked = CheckedClock::new(clocks as Arc<dyn Clock>);
            let last = LastKnownTime {
                wall: Timestamp::from_micros(NOW * 1_000_000),
                moment: Some(boot_moment("same", Duration::from_secs(40))),
            };
            let case = format!("{boot_id} {}", shown - NOW);
            assert_ne!(checked.agrees_with(&last, WEEK), is_jump, "{case}");
            assert_eq!(checked.jump().is_some(), is_jump, "{case}");
        }
    }

    #[test]
    fn a_clock_that_is_set_right_after_a_wrong_start_may_show_any_time_after_the_last_one() {
        let (clocks, checked) = checked();
        let last = LastKnownTime::of_event(Timestamp::from_micros((NOW + 5 * DAY) * 1_000_000));
        assert!(!checked.agrees_with(&last, WEEK));
        clocks.set(NOW + 9 * DAY, 60);
        assert!(checked.agrees_with(&last, WEEK));
        assert_eq!(
            (wall_seconds(&checked), checked.jump()),
            (NOW + 9 * DAY, None)
        );
    }
}
