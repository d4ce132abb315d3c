//! Sample `data` of each event, for the OpenAPI description.
//!
//! The samples come from the catalogue and fit together: one message is created, updated and
//! deleted.

use serde_json::Value;

use super::super::source::SUPPORT;
use crate::event::catalogue;

/// Returns the sample `data` of `event`; `None` if there is no such event.
#[must_use]
pub fn sample_data(event: &str) -> Option<Value> {
    let entry = catalogue::entries_of_source(SUPPORT.as_str()).find(|entry| entry.name == event)?;
    Some(serde_json::from_str(entry.data).expect("a test of the catalogue parses every example"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::ticket::{EVENT_NAMES, PRIORITIES, STATUSES};

    #[test]
    fn every_event_has_a_sample() {
        assert!(
            catalogue::entries_of_source(SUPPORT.as_str())
                .map(|entry| entry.name)
                .eq(EVENT_NAMES)
        );
        assert!(
            EVENT_NAMES
                .iter()
                .all(|event| sample_data(event).is_some_and(|data| data.is_object()))
        );
    }

    #[test]
    fn the_samples_use_names_that_exist() {
        let member = |event, name: &str| sample_data(event).expect("an event")[name].clone();
        assert!(
            STATUSES
                .iter()
                .any(|status| member("status.changed", "status") == *status)
        );
        assert!(
            PRIORITIES
                .iter()
                .any(|priority| member("priority.changed", "priority") == *priority)
        );
    }
}
