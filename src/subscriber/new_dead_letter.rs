//! A delivery that has just failed for good, with its cause.

use super::attempt_failure::AttemptFailure;
use super::outbound_record::OutboundRecord;

/// Cause for which a delivery is not made any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterCause {
    /// All retries of the schedule have failed.
    Exhausted,
    /// The time for retries (`delivery.dead_letter_after_h`) is over.
    TooOld,
    /// The subscriber refused the delivery for good, or no request can be built for it.
    Refused,
    /// The subscription's filter or transform failed on the event.
    Expression,
    /// The delivery was pending for longer than `delivery.hold_days`.
    Expired,
    /// The subscriber was disabled with the delivery still pending.
    Disabled,
}

impl DeadLetterCause {
    /// All causes with their names in the API and the store.
    pub const NAMED: [(&'static str, Self); 6] = [
        ("exhausted", Self::Exhausted),
        ("too_old", Self::TooOld),
        ("refused", Self::Refused),
        ("expression", Self::Expression),
        ("expired", Self::Expired),
        ("disabled", Self::Disabled),
    ];

    /// Name of the cause in the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::TooOld => "too_old",
            Self::Refused => "refused",
            Self::Expression => "expression",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
        }
    }

    /// Returns the cause called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, cause)| *cause)
    }
}

/// A delivery that has just failed for good and has no dead letter yet.
#[derive(Clone, Debug)]
pub struct NewDeadLetter {
    /// Record that was to be delivered.
    pub item: OutboundRecord,
    /// Number of attempts since the delivery or its job began.
    pub attempts: u32,
    /// Failure of the last attempt, or of the filter.
    pub failure: AttemptFailure,
    /// Cause for which there is no other attempt.
    pub cause: DeadLetterCause,
    /// True if the lane halts until the dead letter is delivered or discarded.
    pub is_halting: bool,
}
