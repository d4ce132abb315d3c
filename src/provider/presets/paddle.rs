//! Paddle signs the time and the body; one header holds the time and the signatures,
//! `ts=1671552777;h1=…`, several during a rotation.
//!
//! Source: <https://developer.paddle.com/webhooks/signature-verification>

use std::borrow::Cow;

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use crate::provider::handshake::ProviderHandshake;
use crate::provider::scheme::SignatureScheme;
use crate::provider::signature_header::SignatureHeaderParts;
use crate::provider::signed_template::SignedContentPart;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "paddle",
    signing: PresetSigning::Scheme(SignatureScheme::with_parts(
        "paddle-signature",
        SignatureHeaderParts::from_static(';', "ts", &[Cow::Borrowed("h1")]),
        &[
            SignedContentPart::Timestamp,
            SignedContentPart::Literal(Cow::Borrowed(":")),
            SignedContentPart::Body,
        ],
    )),
    sends_forms: false,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: &["/data/id", "account"],
        event: &["/event_type"],
        // Each destination has notification ids of its own.
        idempotency_key: &["/event_id", "/notification_id"],
        occurred_at: &["/occurred_at"],
        // A replay of an event is another notification.
        volatile: &["notification_id"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};
