//! Figures at the end of the demo, and the promises that they must show.

use serde::Serialize;

use super::error::DemoError;
use crate::cli::plural::format_count;

/// Figures of the whole demo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct DemoSummary {
    /// Events that the node accepted, repetitions not counted.
    pub(super) accepted: u64,
    pub(super) entities: u64,
    /// Repetitions that the node recognised.
    pub(super) duplicates: u64,
    pub(super) subscribers: u64,
    /// Subscribers that a visitor changed; the other figures leave them out.
    pub(super) not_judged: u64,
    /// Events of the demo that a subscriber accepted for the first time, over all subscribers.
    pub(super) delivered: u64,
    /// Attempts that the flaky subscriber answered with an error.
    pub(super) failed_attempts: u64,
    pub(super) breakers_opened: u64,
    pub(super) breakers_closed: u64,
    pub(super) dead_letters: u64,
    pub(super) dead_letters_delivered: u64,
    pub(super) swaps: u64,
    pub(super) lost: u64,
    pub(super) wrongly_signed: u64,
}

impl DemoSummary {
    /// Formats the figures for a person.
    pub(super) fn describe(&self) -> String {
        let mut text = format!(
            "{} of {} accepted, {} recognised.\n\
             {} to {}: {}, {} lost, {} wrongly signed.\n\
             {}, the circuit breaker opened {} and closed {}, {} of {} delivered by a retry.",
            format_count(self.accepted, "event", "events"),
            format_count(self.entities, "entity", "entities"),
            format_count(self.duplicates, "repetition", "repetitions"),
            format_count(self.delivered, "delivery", "deliveries"),
            format_count(self.subscribers, "subscriber", "subscribers"),
            format_count(self.swaps, "swap", "swaps"),
            self.lost,
            self.wrongly_signed,
            format_count(self.failed_attempts, "failed attempt", "failed attempts"),
            format_count(self.breakers_opened, "time", "times"),
            format_count(self.breakers_closed, "time", "times"),
            self.dead_letters_delivered,
            format_count(self.dead_letters, "dead letter", "dead letters"),
        );
        if self.not_judged > 0 {
            let changed = format_count(self.not_judged, "subscriber", "subscribers");
            text.push_str(&format!(
                "\n{changed} not judged, because you changed what it gets."
            ));
        }
        text
    }

    /// Checks what the node promises.
    ///
    /// # Errors
    /// [`DemoError::Broken`] if an event came out of order, wrongly signed or not at all.
    pub(super) fn check_claims(&self) -> Result<(), DemoError> {
        let Self {
            swaps,
            lost,
            wrongly_signed,
            ..
        } = *self;
        if swaps + lost + wrongly_signed == 0 {
            return Ok(());
        }
        Err(DemoError::Broken {
            swaps,
            lost,
            wrongly_signed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_promise_fails_the_demo() {
        let good = DemoSummary {
            accepted: 4,
            subscribers: 3,
            delivered: 12,
            ..DemoSummary::default()
        };
        assert!(good.check_claims().is_ok());
        let lost = DemoSummary {
            delivered: 11,
            lost: 1,
            ..good
        };
        let swapped = DemoSummary { swaps: 1, ..good };
        let unsigned = DemoSummary {
            wrongly_signed: 1,
            ..good
        };
        for (name, summary) in [
            ("1 not delivered", lost),
            ("1 out of order", swapped),
            ("1 wrongly signed", unsigned),
        ] {
            let error = summary.check_claims().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
