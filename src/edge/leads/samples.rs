//! One sample of the `data` of each event, for the description of the API and for sending one from the command line.

use serde_json::Value;

/// Each event with its sample, in the order of the catalogue. The ids are there for the path that takes every event.
const SAMPLES: [(&str, &str); 18] = [
    (
        "new_inquiry",
        r#"{"first_name": "Ada", "last_name": "Byron", "email": "ada@example.com", "phone": "+44 20 7946 0001",
            "company_name": "Engines Ltd", "source": "website", "product_interest": "Looms", "city": "London"}"#,
    ),
    ("pre_lead_update", r#"{"pre_lead_id": 1, "city": "Nottingham", "lead_status": "contacted"}"#),
    ("pre_lead_discard", r#"{"pre_lead_id": 1, "reason": "asked for something else"}"#),
    (
        "pre_lead_contact_add",
        r#"{"pre_lead_id": 1, "first_name": "Charles", "email": "charles@example.com", "designation": "Engineer", "is_primary": true}"#,
    ),
    (
        "pre_lead_memo_add",
        r#"{"pre_lead_id": 1, "title": "First call", "content": "Wants to see a loom.", "memo_type": "call"}"#,
    ),
    ("pre_lead_status_update", r#"{"pre_lead_id": 1, "lead_status": "qualified", "remarks": "has a budget"}"#),
    ("pre_lead_convert", r#"{"pre_lead_id": 1, "priority": "high", "assigned_to": 5, "expected_value": 12500.50}"#),
    (
        "new_lead",
        r#"{"first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com", "source": "referral",
            "priority": "high", "expected_value": 99000.50, "assigned_to": 3}"#,
    ),
    (
        "lead_update",
        r#"{"lead_id": 2, "designation": "Admiral", "expected_value": 120000.50, "lead_status": "negotiation"}"#,
    ),
    ("lead_discard", r#"{"lead_id": 2, "reason": "bought elsewhere", "loss_reason": "price"}"#),
    (
        "lead_contact_add",
        r#"{"lead_id": 2, "first_name": "Howard", "phone": "+1 202 555 0101", "department": "Research"}"#,
    ),
    (
        "lead_activity_add",
        r#"{"lead_id": 2, "activity_type": "meeting", "title": "Demonstration", "scheduled_at": "2025-12-04T14:00:00Z",
            "completed_at": "2025-12-04T15:30:00Z", "outcome": "wants an offer"}"#,
    ),
    (
        "lead_qualified_profile_update",
        r#"{"lead_id": 2, "profile_type": "qualified", "company": "Navy Yard", "budget": 150000.50, "decision_timeline": "spring"}"#,
    ),
    ("lead_memo_add", r#"{"lead_id": 2, "content": "Asks for a discount of a tenth.", "memo_type": "general"}"#),
    (
        "lead_status_update",
        r#"{"lead_id": 2, "lead_status": "won", "remarks": "signed", "status_date": "2025-12-04T09:00:00Z"}"#,
    ),
    ("lead_convert", r#"{"lead_id": 2, "credit_limit": 50000.50, "payment_terms": "30 days"}"#),
    ("order_created", r#"{"customer_id": 3, "order_id": "ORD-1042", "amount": 199.90, "currency": "EUR"}"#),
    (
        "payment_received",
        r#"{"customer_code": "CUST-0042", "payment_id": "PAY-77", "amount": 199.90, "currency": "EUR"}"#,
    ),
];

/// The sample `data` of `event`, or `None` if there is no such event.
#[must_use]
pub fn data(event: &str) -> Option<Value> {
    let (_, text) = SAMPLES.iter().find(|(name, _)| *name == event)?;
    Some(serde_json::from_str(text).expect("a test parses every sample"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::super::{EVENTS, Given, Verifier, decode};
    use super::*;

    #[test]
    fn every_event_has_a_sample_that_is_taken() {
        assert_eq!(SAMPLES.map(|(name, _)| name), EVENTS.map(|event| event.name));
        for event in &EVENTS {
            let body = json!({"event": event.name, "source": "crm", "data": data(event.name)}).to_string();
            let body = Verifier::new(&[]).verify(Bytes::from(body), None).expect("no secrets");
            let given = Given { event: None, id: None, new_code: || Some("CUST-1".to_owned()) };
            assert!(decode(&body, given).is_ok(), "{}", event.name);
        }
    }
}
