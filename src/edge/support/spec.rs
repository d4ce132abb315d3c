//! OpenAPI endpoint of the support contract.

use serde_json::json;

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::super::submit::AcceptedEvent;
use super::samples;
use crate::entity::ticket::EVENT_NAMES;

const ABOUT: &str = "\
One event of one ticket. The answer comes once the event is on the disk. The events of a ticket \
are numbered in the order in which they were accepted.\n\n\
`X-CRM-Timestamp` is an RFC 3339 time near the node's clock; without this header the body's \
`timestamp` is signed. `Idempotency-Key` (or `X-Idempotency-Key`, or `idempotency_key` in the \
body, which wins because it is signed) is required: a repeated key gets a 409 that names the first \
event, and 409 `idempotency_key_reused` if the sender used it for another event.";

const HEADERS: &[(&str, &str)] = &[
    ("X-Event-Id", "Id of the event."),
    (
        "X-Entity-Sequence",
        "Sequence number of the event in its ticket.",
    ),
    (
        "RateLimit-Limit",
        "Limit of requests a minute for this API key.",
    ),
    ("RateLimit-Remaining", "Requests that are left now."),
    (
        "RateLimit-Reset",
        "Seconds until the oldest request leaves the window.",
    ),
];

pub(in crate::edge) fn receive() -> EndpointDoc {
    let endpoint = EndpointDoc::new(
        "Support",
        "receiveSupportEvent",
        "Receive an event of a ticket",
    )
    .about(ABOUT)
    .access(EndpointAccess::Signed(&[
        "support_api_key",
        "support_signature",
    ]))
    .header(
        "X-CRM-Timestamp",
        "Time at which the request was signed (RFC 3339).",
        schemas::time(),
        "2025-12-04T10:30:00.000Z",
    )
    .idempotency_key(
        "The sender's own id of the event. \
             This page replaces `{random}` with a new value for each request.",
        "{random}",
    )
    .requires(&["event", "support_uid"]);
    let endpoint = EVENT_NAMES.iter().fold(endpoint, |endpoint, event| {
        let body = json!({
            "event": event,
            "support_uid": "SUP-1042",
            "data": samples::sample_data(event),
            "actor": {"id": "op-7", "name": "Grace"},
        });
        endpoint.takes(*event, body)
    });
    let accepted = json!({
        "status": "accepted",
        "event_id": "evt_3f9a2c41_1042",
        "entity": {"kind": "ticket", "id": "SUP-1042", "sequence": 3},
    });
    endpoint
        .answers_with::<AcceptedEvent<'_>>(202, "The event is stored.", accepted, HEADERS)
        .refuses_bodies()
        .refuses(
            400,
            "unknown_event",
            &format!("event must be one of {}", EVENT_NAMES.join(", ")),
        )
        .refuses_field("data.status", "data.status is required")
        .refuses(
            401,
            "invalid_api_key",
            "X-CRM-API-Key is missing or not valid",
        )
        .refuses(
            401,
            "invalid_signature",
            "X-CRM-Signature is missing or does not match this body and timestamp",
        )
        .refuses(
            401,
            "stale_timestamp",
            "timestamp is not an RFC 3339 time near the server's clock",
        )
        .refuses(
            409,
            "duplicate_event",
            "an event with this idempotency key was accepted before, as evt_3f9a2c41_7",
        )
        .refuses(
            409,
            "idempotency_key_reused",
            "the idempotency key \"7\" was used before for another event, evt_3f9a2c41_7; send this one under a key of its own",
        )
        .limits(100, "Requests with one API key")
        .refuses_when_busy()
}
