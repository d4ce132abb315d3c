//! One sample of the `data` of each event, for the description of the API and for sending one from the command line.
//!
//! They tell one story: the message that is created is the one that is updated and deleted later.

use serde_json::Value;

/// Each event with its sample, in the order of the catalogue.
const SAMPLES: [(&str, &str); 12] = [
    (
        "message.created",
        r#"{"message_id": "msg-1", "text": "My parcel has not arrived.", "author": "Ada", "is_internal": false}"#,
    ),
    ("message.updated", r#"{"message_id": "msg-1", "text": "My parcel has not arrived. It was due on Monday."}"#),
    ("message.deleted", r#"{"message_id": "msg-1", "reason": "sent twice"}"#),
    ("status.changed", r#"{"status": "pending", "reason": "waiting for the carrier"}"#),
    ("agent.assigned", r#"{"agent_id": "op-7", "agent_name": "Grace"}"#),
    ("agent.unassigned", r#"{"reason": "end of shift"}"#),
    ("priority.changed", r#"{"priority": "high"}"#),
    ("tags.updated", r#"{"tags": ["delivery", "vip"]}"#),
    ("category.changed", r#"{"category": "shipping"}"#),
    (
        "attachment.added",
        r#"{"attachment_id": "att-1", "file_name": "label.pdf", "url": "https://example.com/label.pdf", "size": 48213}"#,
    ),
    ("sla.breached", r#"{"policy": "first response within 4 h", "due_at": "2025-12-04T14:30:00Z"}"#),
    ("rating.submitted", r#"{"score": 5, "comment": "Quick and friendly."}"#),
];

/// The sample `data` of `event`, or `None` if there is no such event.
#[must_use]
pub fn data(event: &str) -> Option<Value> {
    let (_, text) = SAMPLES.iter().find(|(name, _)| *name == event)?;
    Some(serde_json::from_str(text).expect("a test parses every sample"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::ticket::{EVENTS, PRIORITIES, STATUSES};

    #[test]
    fn every_event_has_a_sample() {
        assert_eq!(SAMPLES.map(|(name, _)| name), EVENTS);
        assert!(EVENTS.iter().all(|event| data(event).is_some_and(|data| data.is_object())));
    }

    #[test]
    fn the_samples_use_names_that_exist() {
        let member = |event, name: &str| data(event).expect("an event")[name].clone();
        assert!(STATUSES.iter().any(|status| member("status.changed", "status") == *status));
        assert!(PRIORITIES.iter().any(|priority| member("priority.changed", "priority") == *priority));
    }
}
