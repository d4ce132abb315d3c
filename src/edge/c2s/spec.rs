//! OpenAPI endpoint of the C2S contract.

use serde_json::json;

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::C2sSummary;

const ABOUT: &str = "\
One event of a Contact2Sale lead, or a list of at most 1,000 events. `lead_id` (a string or a \
number: `7` and `\"7\"` are one lead) and `updated_at` (RFC 3339, at the top level or in \
`attributes`) are required; all other members are kept. An event is identified by its lead and its \
instant: the same pair again counts as a duplicate, without a time limit. An instant is a whole \
number of microseconds; finer digits are cut off. An event that is older than the lead's newest \
event is recorded as late.\n\n\
The events of a list are independent, and those of one lead are applied in list order; `errors` \
names each invalid event. Only a list without any valid event is refused, like a single invalid \
event. After a 503, repeat the whole request.";

const HEADERS: &[(&str, &str)] = &[
    ("X-Event-Id", "Id of the event, if exactly one was stored."),
    (
        "X-Entity-Sequence",
        "Sequence number of the event in its lead.",
    ),
    (
        "RateLimit-Limit",
        "Limit of requests a minute for this address (for IPv6, its /64 network).",
    ),
    ("RateLimit-Remaining", "Requests that are left now."),
    (
        "RateLimit-Reset",
        "Seconds until the oldest request leaves the window.",
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
            "status": "success", "received": received, "processed": processed,
            "duplicates": duplicates, "failed": failed, "errors": errors,
        })
    };
    let first = event(1042, "2025-01-20T10:00:00Z");
    let list = json!([first, event(1042, "2025-01-20T10:05:00Z"), {"lead_id": 1043}]);
    let errors = json!([{"index": 2, "field": "updated_at", "detail": "updated_at is required"}]);
    EndpointDoc::new("C2S", "receiveC2sEvents", "Receive events of leads")
        .about(ABOUT)
        .access(EndpointAccess::Signed(&["c2s_token"]))
        .takes("an event", first)
        .takes("a list", list)
        .answers_with::<C2sSummary>(
            200,
            "Number of events applied, repeated and failed.",
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
        .limits(1000, "Single events of one lead")
        .refuses_when_busy()
}
