//! Value with the time of the event that set it; the time decides which events are late.

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// Time in its stored form: whole microseconds since 1970. [`Timestamp`] serializes to
/// milliseconds, which would make two events of one millisecond indistinguishable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::entity) struct UnixMicros(i64);

impl From<Timestamp> for UnixMicros {
    fn from(time: Timestamp) -> Self {
        Self(time.as_micros())
    }
}

impl From<UnixMicros> for Timestamp {
    fn from(time: UnixMicros) -> Self {
        Self::from_micros(time.0)
    }
}

/// Value and the time of the event that set it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::entity) struct TimedValue<T> {
    pub(in crate::entity) value: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<UnixMicros>,
}

impl<T> TimedValue<T> {
    /// Initial value of a new entity; no event is late for it.
    pub(in crate::entity) const fn initial(value: T) -> Self {
        Self { value, at: None }
    }

    pub(in crate::entity) const fn from_event(value: T, at: UnixMicros) -> Self {
        Self {
            value,
            at: Some(at),
        }
    }

    /// Returns true if `at` is before the time of the value; an equal time is not late.
    pub(in crate::entity) fn is_late(&self, at: UnixMicros) -> bool {
        self.at.is_some_and(|seen| at < seen)
    }
}
