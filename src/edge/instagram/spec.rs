//! What the description of the API says of Instagram's webhook.

use serde_json::{Value, json};

use super::super::docs::endpoint::{Access, Endpoint};
use crate::entity::conversation;
use crate::event::catalogue;

const ABOUT: &str = "\
Up to 1,000 updates. A call is answered with 200 once each of them is on the disk or known already, and with 503 when that \
is not so: Instagram sends it again then. What is not understood is kept as `message.unknown`.";

const HEADERS: &[(&str, &str)] =
    &[("X-Event-Id", "The event's id, of a single update."), ("X-Entity-Sequence", "Its number in its conversation.")];

/// The two endpoints of the contract.
pub(in crate::edge) fn endpoints() -> Vec<Endpoint> {
    let data = |entry: &catalogue::Entry| serde_json::from_str::<Value>(entry.data).unwrap_or_default();
    let endpoint = Endpoint::post("Instagram", "/webhooks/instagram", "Take in updates of conversations")
        .about(ABOUT)
        .access(Access::Signed(&["instagram_signature"]))
        .requires(&["object", "entry"]);
    let sent = catalogue::of(super::SOURCE.as_str()).filter(|entry| entry.name != conversation::REPLY);
    let endpoint = sent.fold(endpoint, |endpoint, entry| {
        let list = if entry.wire_name.is_some() { "messaging" } else { "changes" };
        let body = json!({"object": "instagram", "entry": [{"id": "0987654321", "time": 1_762_597_800_000_u64, list: [data(&entry)]}]});
        endpoint.takes(entry.name, body)
    });
    let accepted = json!({"status": "accepted", "received": 1, "accepted": 1, "duplicates": 0});
    let endpoint = endpoint
        .answers_with(200, "Every update is stored.", accepted, HEADERS)
        .refuses_bodies()
        .refuses_field("object", "object must be one of instagram")
        .refuses(401, "invalid_signature", "X-Hub-Signature-256 is missing or not that of this body")
        .refuses_when_busy();
    let handshake = Endpoint::get("Instagram", "/webhooks/instagram", "Answer the handshake")
        .about("Meta calls it when a subscription is made. The answer is the challenge alone, as text.")
        .query("hub.mode", "Always subscribe.", "subscribe")
        .query("hub.verify_token", "`verify_token` of `[sources.instagram]`.", "my-verify-token")
        .query("hub.challenge", "What is given back.", "1158201444")
        .answers_text(200, "The challenge.", "1158201444")
        .refuses(403, "forbidden", "hub.mode, hub.verify_token or hub.challenge is missing or not valid")
        .limits_failures();
    vec![handshake, endpoint]
}
