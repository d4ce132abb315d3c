//! OpenAPI endpoints of configured sources.

use serde_json::json;

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::super::submit::AcceptedEvent;
use super::BatchSummary;

const ABOUT: &str = "\
One event of a sender that the configuration describes under `[[sources.custom]]`, by a preset \
(calendly, discord, gitea, github, gitlab, hubspot, intercom, linear, meta, paddle, pipedrive, \
sendgrid, shopify, slack, standard, stripe, svix, trello, twilio, woocommerce, xero, zendesk) or by a scheme of its own. The preset or scheme determines the header of the signature \
and the location of the entity, event name, idempotency key and time; this page shows a source \
that signs as GitHub and Meta do. The entity's kind is `custom:<name>`, and the event's name \
begins with `<name>.`. Without an entity the event belongs to the entity `unmatched` of the source; a missing name is `unmatched`. Such an event has a warning.\n\n\
A call may hold several events, if the preset or `items` says so. Its answer is `{\"status\": \
\"accepted\", \"received\", \"accepted\", \"duplicates\", \"event_ids\"}`, with the ids in the order of \
the body.\n\n\
JSON and forms (`application/x-www-form-urlencoded`) are accepted. A repeated idempotency key is \
answered with the first event. With a valid signature, Slack's `url_verification` is answered with \
its challenge and Intercom's `ping` with `{\"status\": \"pong\"}`, both with 200; the handshakes \
of Discord, WooCommerce and Xero are answered too. Discord's events are answered with 204, Xero's \
with 200, both without a body. Meta makes its handshake with `GET` at the same path, and Microsoft with `?validationToken=` if the source has `validation_token`. `HEAD` answers 200. `hookyard check --source` explains why a request is \
refused.";

const HEADERS: &[(&str, &str)] = &[
    ("X-Event-Id", "Id of the event."),
    (
        "X-Entity-Sequence",
        "Sequence number of the event in its entity.",
    ),
    (
        "RateLimit-Limit",
        "Limit of requests a minute for this address (for IPv6, its /64 network), if there is one.",
    ),
    ("RateLimit-Remaining", "Requests that are left now."),
    (
        "RateLimit-Reset",
        "Seconds until the oldest request leaves the window.",
    ),
];

/// Endpoint that receives events of every configured source.
pub(in crate::edge) fn receive() -> EndpointDoc {
    let answer = |status: &str| {
        json!({
            "status": status,
            "event_id": "evt_3f9a2c41_1042",
            "entity": {"kind": "custom:billing", "id": "cus_42", "sequence": 3},
        })
    };
    EndpointDoc::new(
        "Configured sources",
        "receiveCustomEvent",
        "Receive an event of a configured source",
    )
    .about(ABOUT)
    .access(EndpointAccess::Signed(&["configured_signature"]))
    .part("name", "The source's name in the configuration.", schemas::string(), "billing")
    .takes(
        "an event",
        json!({"id": "evt_1", "type": "invoice.paid", "customer": "cus_42", "amount": 1200}),
    )
    .answers_with::<AcceptedEvent<'_>>(200, "The event is stored.", answer("accepted"), HEADERS)
    .answers::<AcceptedEvent<'_>>(
        200,
        "The idempotency key was used before, by this event.",
        answer("duplicate"),
    )
    .answers::<BatchSummary>(
        200,
        "Outcome of a call with several events.",
        json!({
            "status": "accepted", "received": 2, "accepted": 1, "duplicates": 1,
            "event_ids": ["evt_3f9a2c41_1042", "evt_3f9a2c41_1041"],
        }),
    )
    .refuses(
        400,
        "invalid_json",
        "body is not valid JSON at line 1 column 5",
    )
    .refuses(
        401,
        "invalid_signature",
        "signature is missing or does not match this request",
    )
    .refuses(
        401,
        "stale_timestamp",
        "signed timestamp is outside the tolerance of this node's clock",
    )
    .refuses(404, "not_found", "there is nothing at this path")
    .refuses(
        409,
        "idempotency_key_reused",
        "the idempotency key \"7\" was used before for another event, evt_3f9a2c41_7; send this one under a key of its own",
    )
    .refuses_slow_bodies()
    .refuses(
        415,
        "unsupported_media_type",
        "Content-Type must be application/json or application/x-www-form-urlencoded, and is \"text/plain\"",
    )
    .limits(
        600,
        "Requests of one address (for IPv6, of its /64 network), with `rate_per_minute = 600`",
    )
    .refuses_when_busy()
}

/// Endpoint of Meta's handshake, for a source with the preset `meta` and a verify token.
pub(in crate::edge) fn subscription() -> EndpointDoc {
    EndpointDoc::new(
        "Configured sources",
        "verifyCustomSource",
        "Answer Meta's handshake",
    )
    .about(
        "Meta calls this endpoint when a subscription is created, if the source has the preset \
             meta and a `verify_token`. The answer is the challenge alone, as text. Other sources \
             say what the address is for.",
    )
    .part(
        "name",
        "The source's name in the configuration.",
        schemas::string(),
        "billing",
    )
    .query(
        "hub.mode",
        "Always subscribe.",
        schemas::string(),
        "subscribe",
    )
    .query(
        "hub.verify_token",
        "`verify_token` of the source.",
        schemas::string(),
        "my-verify-token",
    )
    .query(
        "hub.challenge",
        "Text that the answer repeats.",
        schemas::string(),
        "1158201444",
    )
    .answers_text(200, "The challenge.", "1158201444")
    .refuses(
        403,
        "forbidden",
        "hub.verify_token is missing or not the configured one",
    )
    .refuses(404, "not_found", "there is nothing at this path")
    .limits_failures()
}
