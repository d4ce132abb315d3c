//! Voice of the demo: sentences with their times for a person, or JSON lines for a script.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::summary::DemoSummary;
use crate::clock::{Clock, SystemClock};

/// Output of the demo, with its clock.
pub(super) struct DemoNarrator<'a, W> {
    is_json: bool,
    out: &'a mut W,
    clock: SystemClock,
}

impl<'a, W: Write> DemoNarrator<'a, W> {
    pub(super) fn new(is_json: bool, out: &'a mut W) -> Self {
        Self {
            is_json,
            out,
            clock: SystemClock::default(),
        }
    }

    /// Prints the beginning: `start` for a script, `lines` for a person.
    pub(super) fn show_start(&mut self, start: &Value, lines: &[String]) -> io::Result<()> {
        if self.is_json {
            writeln!(self.out, "{}", json!({"start": start}))?;
        } else {
            for line in lines {
                writeln!(self.out, "{line}")?;
            }
            writeln!(self.out)?;
        }
        self.out.flush()
    }

    /// Tells one thing that happened.
    pub(super) fn tell(&mut self, text: &str) -> io::Result<()> {
        let at_s = self.clock.monotonic().as_secs_f64();
        if self.is_json {
            let at_s = (at_s * 10.0).round() / 10.0;
            writeln!(self.out, "{}", json!({"at_s": at_s, "text": text}))?;
        } else {
            writeln!(self.out, "{at_s:>5.1} s  {text}")?;
        }
        self.out.flush()
    }

    /// Prints the figures at the end.
    pub(super) fn show_summary(&mut self, summary: &DemoSummary) -> io::Result<()> {
        match self.is_json {
            true => writeln!(self.out, "{}", json!({"summary": summary}))?,
            false => writeln!(self.out, "\n{}", summary.describe())?,
        }
        self.out.flush()
    }
}
