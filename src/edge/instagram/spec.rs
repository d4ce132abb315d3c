//! OpenAPI endpoints of the Instagram contract.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::InstagramSummary;
use super::reply::{AcceptedReply, reply_schema};
use crate::entity::conversation;
use crate::event::catalogue;

const ABOUT: &str = "\
Up to 1,000 updates. The answer is 200 once each update is on the disk or known as a duplicate, \
and 503 otherwise, after which Instagram sends the call again. An update that cannot be decoded is \
kept as `message.unknown`.";

const HEADERS: &[(&str, &str)] = &[
    (
        "X-Event-Id",
        "Id of the event, if the call stored exactly one.",
    ),
    (
        "X-Entity-Sequence",
        "Sequence number of the event in its conversation.",
    ),
];

const ABOUT_REPLIES: &str = "\
A publisher (with a token of `[sources.crm]`) or the admin sends a message. The answer comes once \
the message is on the disk. Messages of one conversation are sent in order, and retried while \
Instagram cannot be reached. `delivery_id` is the id of the event `message.reply`. Instagram \
accepts replies for 24 hours after the user's last message.\n\n\
With an `Idempotency-Key` a request can be repeated safely for 24 hours: the answer to the first \
request is repeated.";

const REPLY_HEADERS: &[(&str, &str)] = &[
    (
        "X-Event-Id",
        "Id of the event, which is also the id of the delivery.",
    ),
    (
        "X-Entity-Sequence",
        "Sequence number of the event in its conversation.",
    ),
    (
        "Idempotent-Replay",
        "`true` if the answer repeats the answer to an earlier request.",
    ),
];

pub(in crate::edge) fn receive() -> EndpointDoc {
    let data = |entry: &catalogue::CatalogueEntry| {
        serde_json::from_str::<Value>(entry.data).unwrap_or_default()
    };
    let endpoint = EndpointDoc::new(
        "Instagram",
        "receiveInstagramUpdates",
        "Receive updates of conversations",
    )
    .about(ABOUT)
    .access(EndpointAccess::Signed(&["instagram_signature"]))
    .requires(&["object", "entry"]);
    let sent = catalogue::entries_of_source(conversation::SOURCE.as_str())
        .filter(|entry| entry.name != conversation::REPLY_EVENT);
    let endpoint = sent.fold(endpoint, |endpoint, entry| {
        let list = if entry.wire_name.is_some() {
            "messaging"
        } else {
            "changes"
        };
        let update = json!({
            "id": "0987654321", "time": 1_762_597_800_000_u64, list: [data(&entry)],
        });
        endpoint.takes(
            entry.name,
            json!({"object": "instagram", "entry": [update]}),
        )
    });
    let accepted = json!({"status": "accepted", "received": 1, "accepted": 1, "duplicates": 0});
    endpoint
        .answers_with::<InstagramSummary>(200, "Every update is stored.", accepted, HEADERS)
        .refuses_bodies()
        .refuses_field("object", "object must be one of instagram")
        .refuses(
            401,
            "invalid_signature",
            "X-Hub-Signature-256 is missing or does not match this body",
        )
        .refuses_when_busy()
}

pub(in crate::edge) fn verify() -> EndpointDoc {
    EndpointDoc::new("Instagram", "verifyInstagram", "Answer Meta's handshake")
        .about(
            "Meta calls this endpoint when a subscription is created. \
             The answer is the challenge alone, as text.",
        )
        .query(
            "hub.mode",
            "Always subscribe.",
            schemas::string(),
            "subscribe",
        )
        .query(
            "hub.verify_token",
            "`verify_token` of `[sources.instagram]`.",
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
            "hub.mode, hub.verify_token or hub.challenge is missing or not valid",
        )
        .limits_failures()
}

pub(in crate::edge) fn reply() -> EndpointDoc {
    let accepted = json!({
        "status": "accepted", "delivery_id": "evt_3f9a2c41_1042",
        "conversation_id": "conv_1234567890_0987654321", "sequence": 3,
    });
    EndpointDoc::new(
        "Instagram",
        "sendInstagramMessage",
        "Send a message to an Instagram user",
    )
    .about(ABOUT_REPLIES)
    .access(EndpointAccess::Publisher)
    .part(
        "account_id",
        "Id of the account that sends the message.",
        schemas::string(),
        "acc_xyz789",
    )
    .idempotency_key("The sender's own id of the message.", "order-1042-shipped")
    .takes(
        "message",
        json!({"recipient_id": "1234567890", "text": "It ships today."}),
    )
    .takes_type("InstagramMessage", reply_schema())
    .answers_with::<AcceptedReply<'_>>(
        202,
        "The message is stored and will be sent in order.",
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
