//! What the description of the API says of configured sources.

use serde_json::json;

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};

const ABOUT: &str = "\
One event of a sender that the configuration describes, under `[[sources.custom]]`: by a preset (github, hubspot, intercom, meta, \
pipedrive, shopify, slack, standard, stripe, svix, twilio, zendesk) or a scheme of its own. Which header carries the signature, \
and where the entity, the event's name, the idempotency key and the time stand, is up to that; here it is shown for one that \
signs as GitHub and Meta do. The entity's kind is `custom:<name>`, the event's name begins with `<name>.`.\n\n\
JSON and forms (`application/x-www-form-urlencoded`) are taken. The same idempotency key again is answered with the first \
event. Slack's `url_verification` is answered with its challenge and Intercom's `ping` with `{\"status\": \"pong\"}`, once their \
signatures fit, both with 200; Meta subscribes with `GET` at the same path. `hookyard check --source` tells why a request is refused.";

const HEADERS: &[(&str, &str)] = &[
    ("X-Event-Id", "The event's id."),
    ("X-Entity-Sequence", "Its number among the entity's events."),
    (
        "RateLimit-Limit",
        "Requests a minute for this address (for IPv6, its /64 network), if the source has a limit.",
    ),
    ("RateLimit-Remaining", "How many are left now."),
    (
        "RateLimit-Reset",
        "Seconds until the oldest of the minute no longer counts.",
    ),
];

/// The endpoint of every configured source.
pub(in crate::edge) fn receive() -> EndpointDoc {
    let taken = |status: &str| {
        json!({
            "status": status,
            "event_id": "evt_3f9a2c41_1042",
            "entity": {"kind": "custom:billing", "id": "cus_42", "sequence": 3},
        })
    };
    EndpointDoc::new(
        "Configured sources",
        "Take in an event of a configured source",
    )
    .about(ABOUT)
    .access(EndpointAccess::Signed(&["configured_signature"]))
    .part("name", "The source's name in the configuration.", "billing")
    .takes(
        "an event",
        json!({"id": "evt_1", "type": "invoice.paid", "customer": "cus_42", "amount": 1200}),
    )
    .answers_with(200, "The event is stored.", taken("accepted"), HEADERS)
    .answers(
        200,
        "An event with its idempotency key was stored before: this one.",
        taken("duplicate"),
    )
    .refuses(
        400,
        "invalid_json",
        "body is not valid JSON at line 1 column 5",
    )
    .refuses_field("entity", "entity is not at /customer")
    .refuses(
        401,
        "invalid_signature",
        "the signature is missing or not that of this request",
    )
    .refuses(
        401,
        "stale_timestamp",
        "the signed time is too far from this machine's clock",
    )
    .refuses(404, "not_found", "there is nothing at this path")
    .refuses(413, "body_too_large", "body is larger than 1000000 bytes")
    .refuses(
        415,
        "unsupported_media_type",
        "Content-Type must be application/json or application/x-www-form-urlencoded",
    )
    .limits(
        600,
        "Requests of one address (for IPv6, of its /64 network), if `rate_per_minute` says 600",
    )
    .refuses_when_busy()
}

/// What a source with the preset meta and a verify token answers besides.
pub(in crate::edge) fn subscription() -> EndpointDoc {
    EndpointDoc::new("Configured sources", "Answer Meta's handshake")
        .about(
            "Meta calls it when a subscription is made, if the source has the preset meta and a `verify_token`. The answer is the \
             challenge alone, as text. Other sources take no GET.",
        )
        .part("name", "The source's name in the configuration.", "billing")
        .query("hub.mode", "Always subscribe.", "subscribe")
        .query("hub.verify_token", "`verify_token` of the source.", "my-verify-token")
        .query("hub.challenge", "What is given back.", "1158201444")
        .answers_text(200, "The challenge.", "1158201444")
        .refuses(403, "forbidden", "hub.verify_token is missing or not the configured one")
        .refuses(404, "not_found", "there is nothing at this path")
        .refuses(405, "method_not_allowed", "method is not allowed on this path")
        .limits_failures()
}
