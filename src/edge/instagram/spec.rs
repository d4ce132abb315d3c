//! What the description of the API says of Instagram's webhook.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use crate::entity::conversation;
use crate::event::catalogue;

const ABOUT: &str = "\
Up to 1,000 updates. A call is answered with 200 once each of them is on the disk or known already, and with 503 when that \
is not so: Instagram sends it again then. What is not understood is kept as `message.unknown`.";

const HEADERS: &[(&str, &str)] = &[
    ("X-Event-Id", "The event's id, of a single update."),
    ("X-Entity-Sequence", "Its number in its conversation."),
];

const ABOUT_REPLIES: &str = "\
From a publisher (with a token of `[sources.crm]`) or the admin. The answer comes once the message is on the disk; it is sent in \
the order of its conversation, and again while Instagram cannot be reached. `delivery_id` is the id of its event, \
`message.reply`. Instagram takes replies for 24 hours after somebody wrote.\n\n\
With an `Idempotency-Key` a request can be repeated safely for 24 hours: it is answered as the first one was.";

const REPLY_HEADERS: &[(&str, &str)] = &[
    (
        "X-Event-Id",
        "The event's id, which is that of the delivery.",
    ),
    ("X-Entity-Sequence", "Its number in its conversation."),
    (
        "Idempotent-Replay",
        "`true` where the request had come before.",
    ),
];

pub(in crate::edge) fn receive() -> EndpointDoc {
    let data = |entry: &catalogue::CatalogueEntry| {
        serde_json::from_str::<Value>(entry.data).unwrap_or_default()
    };
    let endpoint = EndpointDoc::new("Instagram", "Take in updates of conversations")
        .about(ABOUT)
        .access(EndpointAccess::Signed(&["instagram_signature"]))
        .requires(&["object", "entry"]);
    let sent = catalogue::entries_of_source(conversation::SOURCE.as_str())
        .filter(|entry| entry.name != conversation::REPLY_EVENT);
    let endpoint = sent.fold(endpoint, |endpoint, entry| {
        let list = if entry.wire_name.is_some() { "messaging" } else { "changes" };
        let body = json!({"object": "instagram", "entry": [{"id": "0987654321", "time": 1_762_597_800_000_u64, list: [data(&entry)]}]});
        endpoint.takes(entry.name, body)
    });
    let accepted = json!({"status": "accepted", "received": 1, "accepted": 1, "duplicates": 0});
    endpoint
        .answers_with(200, "Every update is stored.", accepted, HEADERS)
        .refuses_bodies()
        .refuses_field("object", "object must be one of instagram")
        .refuses(
            401,
            "invalid_signature",
            "X-Hub-Signature-256 is missing or not that of this body",
        )
        .refuses_when_busy()
}

pub(in crate::edge) fn verify() -> EndpointDoc {
    EndpointDoc::new("Instagram", "Answer the handshake")
        .about("Meta calls it when a subscription is made. The answer is the challenge alone, as text.")
        .query("hub.mode", "Always subscribe.", "subscribe")
        .query("hub.verify_token", "`verify_token` of `[sources.instagram]`.", "my-verify-token")
        .query("hub.challenge", "What is given back.", "1158201444")
        .answers_text(200, "The challenge.", "1158201444")
        .refuses(403, "forbidden", "hub.mode, hub.verify_token or hub.challenge is missing or not valid")
        .limits_failures()
}

pub(in crate::edge) fn reply() -> EndpointDoc {
    let accepted = json!({
        "status": "accepted", "delivery_id": "evt_3f9a2c41_1042", "conversation_id": "conv_1234567890_0987654321",
        "sequence": 3,
    });
    EndpointDoc::new("Instagram", "Send a message to somebody")
        .about(ABOUT_REPLIES)
        .access(EndpointAccess::Publisher)
        .part(
            "account_id",
            "The account that it is sent for.",
            "acc_xyz789",
        )
        .header(
            "Idempotency-Key",
            "The sender's own name for the message.",
            "order-1042-shipped",
        )
        .takes(
            "message",
            json!({"recipient_id": "1234567890", "text": "It ships today."}),
        )
        .requires(&["recipient_id", "text"])
        .answers_with(
            202,
            "The message is stored, and sent when it is its turn.",
            accepted,
            REPLY_HEADERS,
        )
        .refuses_bodies()
        .refuses_field("text", "text must not be empty")
        .refuses(404, "not_found", "there is no such account")
        .refuses(
            409,
            "idempotency_key_reused",
            "the idempotency key was used before with another path or body",
        )
        .refuses_when_busy()
}
