//! The clock: one trait for wall time and monotonic time, so that tests can move time by hand.
//!
//! No other file reads the system's clocks; clippy's `disallowed_methods` enforces that.

mod checked_clock;
mod last_known_time;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::event::Timestamp;

pub use checked_clock::{CheckedClock, ClockJump};
pub use last_known_time::{BootMoment, LastKnownTime};

/// Source of wall time and of monotonic time.
///
/// Wall time is for stored times and for comparison with senders' clocks. Monotonic time is for
/// limits and idle timeouts.
pub trait Clock: Send + Sync + 'static {
    /// Returns the wall-clock time in UTC.
    fn wall(&self) -> Timestamp;
    /// Returns the time since an arbitrary fixed moment; it never goes backwards.
    fn monotonic(&self) -> Duration;
    /// Returns the present moment of the machine's boot; `None` if the clock does not know the boot.
    fn boot_moment(&self) -> Option<BootMoment> {
        None
    }
}

/// Clock that reads the operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Duration,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            started: time_since_boot(),
        }
    }
}

/// Time since the machine was started, with the time in which it was suspended: a node whose machine
/// wakes up finds its wall clock where it expects it.
#[cfg(target_os = "linux")]
fn time_since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn time_since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(time).unwrap_or_default()
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the system's clocks"
    )]
    fn wall(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        time_since_boot().saturating_sub(self.started)
    }

    #[cfg(target_os = "linux")]
    fn boot_moment(&self) -> Option<BootMoment> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(BootMoment {
            boot_id: boot_id.trim().to_owned(),
            since: time_since_boot(),
        })
    }
}

/// Clock for tests: it stands still until a test advances it. Wall time and monotonic time move
/// together.
#[derive(Debug)]
pub struct ManualClock {
    start: Timestamp,
    elapsed: Mutex<Duration>,
}

impl ManualClock {
    /// Creates a clock that shows `start` until it is advanced.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            start,
            elapsed: Mutex::new(Duration::ZERO),
        }
    }

    /// Moves wall time and monotonic time forward by `by`.
    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock() += by;
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        self.start.saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.lock()
    }
}
