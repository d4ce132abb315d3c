//! What the description of the API says of the C2S contract.

use serde_json::json;

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};

const ABOUT: &str = "\
One event of a lead of Contact2Sale, or a list of at most 1,000. `lead_id` (a text or a number: `7` and `\"7\"` are one lead) and \
`updated_at` (RFC 3339, here or in `attributes`) are required; everything else is kept. An event is known by its lead and its \
instant, so the same one again is counted as a duplicate, however much later it comes. An instant is a whole number of \
microseconds: what is finer is cut off, and two that differ only in that are one. An older event than the lead's newest is \
recorded as late.\n\n\
In a list each event stands by itself and those of one lead are applied in its order: what is wrong with one is said in `errors`. \
Only a list without any valid event is refused, like a single event that is wrong. After a 503 the whole request can be \
repeated.";

const HEADERS: &[(&str, &str)] = &[
    ("X-Event-Id", "The event's id, if exactly one was stored."),
    ("X-Entity-Sequence", "Its number among the lead's events."),
    (
        "RateLimit-Limit",
        "Requests a minute for this address (for IPv6, its /64 network).",
    ),
    ("RateLimit-Remaining", "How many are left now."),
    (
        "RateLimit-Reset",
        "Seconds until the oldest of the minute no longer counts.",
    ),
];

pub(in crate::edge) fn receive() -> EndpointDoc {
    let event = |lead_id: u32, updated_at: &str| {
        json!({
            "lead_id": lead_id,
            "updated_at": updated_at,
            "hook_action": "lead.created",
            "customer": {"name": "Ana", "email": "ana@example.com", "phone": "+5511999999999"},
        })
    };
    let summary = |received: u32, processed: u32, duplicates: u32, errors: serde_json::Value| {
        let failed = received - processed - duplicates;
        json!({
            "status": "success", "received": received, "processed": processed, "duplicates": duplicates,
            "failed": failed, "errors": errors,
        })
    };
    let first = event(1042, "2025-01-20T10:00:00Z");
    let list = json!([first, event(1042, "2025-01-20T10:05:00Z"), {"lead_id": 1043}]);
    let errors = json!([{"index": 2, "field": "updated_at", "detail": "updated_at is required"}]);
    EndpointDoc::new("C2S", "Take in events of leads")
        .about(ABOUT)
        .access(EndpointAccess::Signed(&["c2s_token"]))
        .takes("an event", first)
        .takes("a list", list)
        .answers_with(
            200,
            "What became of the events.",
            summary(3, 1, 1, errors),
            HEADERS,
        )
        .refuses_bodies()
        .refuses_field("updated_at", "updated_at is required")
        .refuses(
            401,
            "unauthorized",
            "X-Webhook-Token is missing or not valid",
        )
        .refuses(403, "forbidden", "client address is not on the allow list")
        .limits(
            600,
            "Requests of one address (for IPv6, of its /64 network)",
        )
        .limits(1000, "Events of one lead, of an event that comes alone")
        .refuses_when_busy()
}
