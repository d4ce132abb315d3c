//! Set of the event times that a lead has applied; it recognizes a repeated event however late the
//! repetition arrives.
//!
//! ```text
//!   <= floor: counts as applied    remembered, at most 10,000    newer: applied only if remembered
//! ───────────────┤───────•──•────•───────────────•──•────────────────────────────────────────────>
//! ```
//!
//! Beyond the limit the oldest times are dropped, and the newest dropped time becomes the floor. An
//! event at or below the floor may have been applied, so it counts as a duplicate: to apply an
//! event twice would be worse than to ignore an event that is older than ten thousand others of its
//! lead.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::entity::timed_value::UnixMicros;

/// Maximum of remembered times: years of a busy lead, at most about 200 KB of its snapshot.
const REMEMBERED_MAX: usize = 10_000;

/// Times of the events applied so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct AppliedInstants {
    remembered: BTreeSet<UnixMicros>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floor: Option<UnixMicros>,
}

impl AppliedInstants {
    /// Returns true if an event of this time counts as applied.
    pub(super) fn contains(&self, instant: UnixMicros) -> bool {
        self.floor.is_some_and(|floor| instant <= floor) || self.remembered.contains(&instant)
    }

    /// Remembers `instant`, and raises the floor over the oldest times if there are too many.
    pub(super) fn insert(&mut self, instant: UnixMicros) {
        self.remembered.insert(instant);
        while self.remembered.len() > REMEMBERED_MAX {
            self.floor = self.remembered.pop_first().max(self.floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    fn micros(number: i64) -> UnixMicros {
        Timestamp::from_micros(number).into()
    }

    #[test]
    fn beyond_the_limit_the_oldest_are_forgotten_and_count_as_applied_for_ever() {
        let mut instants = AppliedInstants::default();
        let last = 10 + 2 * REMEMBERED_MAX as i64;
        (10..last)
            .step_by(2)
            .for_each(|number| instants.insert(micros(number)));
        assert!(
            !instants.contains(micros(9)) && !instants.contains(micros(11)),
            "nothing is forgotten yet"
        );
        instants.insert(micros(last));
        assert_eq!(
            (instants.remembered.len(), instants.floor),
            (REMEMBERED_MAX, Some(micros(10)))
        );
        assert!(
            instants.contains(micros(9)) && instants.contains(micros(10)),
            "at or below the floor"
        );
        assert!(!instants.contains(micros(11)) && instants.contains(micros(12)));
        instants.insert(micros(11));
        assert_eq!(instants.floor, Some(micros(11)), "it is the oldest itself");
        assert!(instants.contains(micros(11)) && instants.contains(micros(12)));
    }
}
