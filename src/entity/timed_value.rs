//! A value together with the time it was last given, by which a late event is told.

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// A moment as it is stored: whole microseconds. A [`Timestamp`] writes itself with milliseconds,
/// after which two events of one millisecond could no longer be told apart.
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

/// A value and the own time of the event that gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::entity) struct TimedValue<T> {
    pub(in crate::entity) value: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<UnixMicros>,
}

impl<T> TimedValue<T> {
    /// The value a ticket begins with; no event is late for it.
    pub(in crate::entity) const fn initial(value: T) -> Self {
        Self { value, at: None }
    }

    pub(in crate::entity) const fn from_event(value: T, at: UnixMicros) -> Self {
        Self {
            value,
            at: Some(at),
        }
    }

    /// Whether an event of `at` is older than what gave the value; an equal time is not.
    pub(in crate::entity) fn is_late(&self, at: UnixMicros) -> bool {
        self.at.is_some_and(|seen| at < seen)
    }
}
