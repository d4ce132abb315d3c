//! Property tests of the decoders of all contracts: any bytes are decoded or refused with an error of
//! the sender, without a panic and without an internal error.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tracing::Span;

use super::error::ApiError;
use super::signature::VerifiedBody;
use super::{c2s, crm, instagram, support};
use crate::config;

/// Names that the contracts read, so that random objects reach deep into the decoders.
const NAMES: [&str; 32] = [
    "event",
    "support_uid",
    "idempotency_key",
    "timestamp",
    "data",
    "actor",
    "message_id",
    "text",
    "status",
    "lead_id",
    "updated_at",
    "customer",
    "attributes",
    "object",
    "entry",
    "messaging",
    "changes",
    "value",
    "sender",
    "recipient",
    "id",
    "message",
    "mid",
    "attachments",
    "type",
    "payload",
    "is_deleted",
    "reaction",
    "user_id",
    "time",
    "tags",
    "name",
];
/// Texts that the contracts take somewhere.
const TEXTS: [&str; 9] = [
    "instagram",
    "message.created",
    "tags.updated",
    "organisation.created",
    "2025-12-04T10:30:00Z",
    "SUP-1",
    "true",
    "\u{fffd}",
    "",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        prop::sample::select(&TEXTS[..]).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let names = prop_oneof![
            9 => prop::sample::select(&NAMES[..]).prop_map(str::to_owned),
            1 => ".{0,6}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(names, inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Bodies of JSON, of JSON with a few bytes replaced, and of anything.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let json = any_json().prop_map(|json| json.to_string().into_bytes());
    let halves = any_json().prop_map(|json| json.to_string().replace('\u{fffd}', "\\ud800").into());
    let damaged =
        (any_json(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(json, at, byte)| {
            let mut bytes = json.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        });
    let bytes = prop::collection::vec(any::<u8>(), 0..80);
    prop_oneof![4 => json, 2 => halves, 2 => damaged, 1 => bytes]
}

fn is_senders_fault<T>(result: &Result<T, ApiError>) -> bool {
    !matches!(result, Err(ApiError::Internal))
}

proptest! {
    #[test]
    fn any_body_is_decoded_or_refused_by_each_contract(body in any_body()) {
        let bytes = Bytes::from(body);
        let verified = VerifiedBody::unsigned(bytes.clone());
        let context = || support::SupportRequestContext {
            idempotency_key: Some(b"k"),
            at: None,
            unknown_entity: config::UnknownEntityPolicy::Create,
        };
        let ticket = support::decode_support_event(&verified, context(), Span::none());
        prop_assert!(is_senders_fault(&ticket), "support");
        prop_assert!(is_senders_fault(&c2s::decode_c2s_request(&bytes)), "c2s");
        let calls = instagram::decode_instagram_call(&verified, &Span::none());
        prop_assert!(is_senders_fault(&calls), "instagram");

        let events = crm::BusEventCatalogue::new(&config::CrmConfig {
            enabled: true,
            tokens: Vec::new(),
            events: Vec::new(),
        });
        if let Ok(text) = str::from_utf8(&bytes) {
            let event = crm::decode_bus_event(&events, &bytes, text, None, Span::none());
            prop_assert!(is_senders_fault(&event), "crm");
        }
    }

    /// The decoders see objects of the right shape more often than chance would make them.
    #[test]
    fn any_members_of_a_contracts_envelope_are_decoded_or_refused(
        data in any_json(), actor in any_json(), entry in any_json(),
    ) {
        let ticket = json!({"event": "message.created", "support_uid": "S", "data": data, "actor": actor});
        let verified = VerifiedBody::unsigned(ticket.to_string().into());
        let context = support::SupportRequestContext {
            idempotency_key: Some(b"k"),
            at: None,
            unknown_entity: config::UnknownEntityPolicy::Create,
        };
        let decoded = support::decode_support_event(&verified, context, Span::none());
        prop_assert!(is_senders_fault(&decoded), "support");

        let call = json!({"object": "instagram", "entry": [{"id": "9", "messaging": [entry, data]}, actor]});
        let verified = VerifiedBody::unsigned(call.to_string().into());
        let decoded = instagram::decode_instagram_call(&verified, &Span::none());
        prop_assert!(decoded.is_ok(), "an authentic update is never refused");
    }
}
