//! Progress of a command on standard error: one line that changes on a terminal, plain lines now
//! and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};

const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Progress towards a position in the journal, or a number of other things.
pub(super) struct ProgressLine {
    /// Name of what is counted.
    unit: &'static str,
    /// Position to reach, if it is known.
    end: Option<u64>,
    is_terminal: bool,
    clock: SystemClock,
    told_at: Duration,
    has_told: bool,
}

impl ProgressLine {
    /// Begins the way to the position `end`.
    pub(super) fn new(end: u64) -> Self {
        let mut line = Self::without_end();
        line.end = Some(end);
        line
    }

    /// Begins a way whose end is not known.
    pub(super) fn without_end() -> Self {
        Self {
            unit: "position",
            end: None,
            is_terminal: io::stderr().is_terminal(),
            clock: SystemClock::default(),
            told_at: Duration::ZERO,
            has_told: false,
        }
    }

    /// Counts other things than positions, named `unit`, up to `end`.
    pub(super) fn of_units(unit: &'static str, end: u64) -> Self {
        let mut line = Self::without_end();
        (line.unit, line.end) = (unit, Some(end));
        line
    }

    /// Shows that `position` is reached, unless something was shown just now.
    pub(super) fn report(&mut self, position: u64) {
        let (unit, end) = (self.unit, self.end);
        self.report_text(|| {
            let way = end.map_or_else(String::new, |end| {
                let percent = position.saturating_mul(100) / end.max(1);
                format!(" of {end} ({percent} %)")
            });
            format!("{unit} {position}{way}")
        });
    }

    /// Shows a text, unless something was shown just now.
    pub(super) fn report_text(&mut self, text: impl FnOnce() -> String) {
        let interval = if self.is_terminal {
            TERMINAL_INTERVAL
        } else {
            PLAIN_INTERVAL
        };
        let now = self.clock.monotonic();
        if now.saturating_sub(self.told_at) < interval {
            return;
        }
        self.told_at = now;
        self.has_told = true;
        // A shorter text clears the rest of the longer one before it.
        let (begin, finish) = if self.is_terminal {
            ("\r", "\x1b[K")
        } else {
            ("", "\n")
        };
        // Ignored: without a terminal there is no reader.
        let _ = write!(io::stderr(), "{begin}{}{finish}", text());
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.has_told && self.is_terminal {
            // Ignored: without a terminal there is no reader.
            let _ = writeln!(io::stderr());
        }
    }
}
