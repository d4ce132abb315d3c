//! OpenAPI description of a delivery, the request that the node makes to a subscriber.

use serde_json::{Value, json};

/// Headers of a delivery, each with the style that adds it, an example, and its meaning.
const HEADERS: [(&str, Option<&str>, &str, &str); 13] = [
    (
        "webhook-id",
        None,
        "evt_3f9a2c41_1042",
        "Id of the event, the same for each attempt: a receiver recognises duplicates by it.",
    ),
    (
        "X-Entity-Sequence",
        None,
        "3",
        "Number of the event among those of its entity. A ping has none.",
    ),
    (
        "X-Hookyard-Hops",
        None,
        "1",
        "Number of deliveries by which the receiver gets the event, this one included.",
    ),
    (
        "X-Hookyard-Replay",
        None,
        "true",
        "Present if a job delivers the event again.",
    ),
    (
        "traceparent",
        None,
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Trace of the event, if its sender told one or the node exports traces.",
    ),
    ("X-Webhook-Id", Some("crm"), "1", "Id of the subscription."),
    (
        "X-Webhook-Event",
        Some("crm"),
        "organisation.created",
        "Name of the event.",
    ),
    (
        "X-Webhook-Timestamp",
        Some("crm"),
        "2025-10-18T09:43:12.442Z",
        "Time of the event.",
    ),
    (
        "X-Webhook-Signature",
        Some("crm"),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "Hex HMAC-SHA256 of the body.",
    ),
    (
        "webhook-timestamp",
        Some("standard or v1a"),
        "1760780592",
        "Time of the attempt, in seconds since 1970.",
    ),
    (
        "webhook-signature",
        Some("standard or v1a"),
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        "Signatures of `id.timestamp.body`, separated by spaces: `v1,` and base64 HMAC-SHA256, or \
         `v1a,` and base64 Ed25519.",
    ),
    (
        "X-Hub-Signature-256",
        Some("hub"),
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "`sha256=` and hex HMAC-SHA256 of the body.",
    ),
    (
        "User-Agent",
        None,
        concat!("hookyard/", env!("CARGO_PKG_VERSION")),
        "Name and version of the node.",
    ),
];

const ABOUT: &str = "\
Sent for each event that a subscription matches, until it is answered with 2xx. The headers of a \
signature are those of the styles in the subscription's `signing`; `signature_header` names another \
header for the signature of the body, and `headers` adds some. A subscription with a `transform` gets \
the result of that as the body.";

/// Makes the schema of the body of a delivery, which is written without a type.
pub(super) fn delivery_schema() -> Value {
    let entity = json!({
        "type": "object", "required": ["kind", "id", "sequence"],
        "properties": {
            "kind": {"$ref": "#/components/schemas/EntityKind"},
            "id": {"type": "string"},
            "sequence": {"type": ["integer", "null"], "minimum": 0},
        },
    });
    json!({
        "type": "object", "required": ["event", "timestamp", "user_id", "data", "entity", "late"],
        "properties": {
            "event": {"type": "string", "description": "Name of the event, or `ping`."},
            "timestamp": {"$ref": "#/components/schemas/Timestamp"},
            "user_id": {"description": "User of the CRM, as its events name it; null in events of others."},
            "data": {"description": "What the sender of the event sent as its data."},
            "entity": entity,
            "late": {
                "type": "boolean",
                "description": "True if the event is older than the newest one that its entity had.",
            },
        },
    })
}

/// Describes the request of a delivery.
pub(super) fn describe_deliveries() -> Value {
    let parameters = HEADERS.map(|(name, style, example, about)| {
        let about = match style {
            Some(style) => format!("{about} In the style {style}."),
            None => about.to_owned(),
        };
        json!({
            "name": name, "in": "header", "required": name == "webhook-id", "description": about,
            "schema": {"type": "string"}, "example": example,
        })
    });
    let example = json!({
        "event": "organisation.created", "timestamp": "2025-10-18T09:43:12.442Z", "user_id": 12,
        "data": {"organisation_id": 51, "name": "ACME Capital"},
        "entity": {"kind": "organisation", "id": "51", "sequence": 1}, "late": false,
    });
    let answer = |about: &str| json!({"description": about});
    json!({
        "operationId": "receiveDelivery",
        "tags": ["Subscriptions"],
        "summary": "Receive a delivery of an event",
        "description": ABOUT,
        "parameters": parameters,
        "requestBody": {
            "required": true,
            "content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/Delivery"},
                "examples": {"an event": {"value": example}},
            }},
        },
        "responses": {
            "2XX": answer("The event is delivered. The body is ignored."),
            "410": answer("No more events are wanted: the subscription is disabled."),
            "429": answer("The delivery is tried again, not before the time in `Retry-After`."),
            "4XX": answer("Most refuse the delivery for good, which makes it a dead letter."),
            "5XX": answer("The delivery is tried again, by `retry_schedule_s`; 503 may have `Retry-After`."),
        },
    })
}
