//! Intercom signs the body with the app's client secret. Its `ping` tests the endpoint and is no
//! event.
//!
//! Source: <https://developers.intercom.com/docs/webhooks/webhook-notifications>

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::{
    HandshakeReplyForm, HandshakeSign, ProviderHandshake, SignedHandshake,
};
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "intercom",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-hub-signature",
        "sha1=",
        SignatureAlgorithm::HmacSha1,
        SignatureEncoding::Hex,
    )),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields {
        entity: &[
            "/data/item/id",
            "/data/item/conversation/id",
            "/data/item/ticket/id",
            "/data/item/contact/id",
            "/data/item/user/id",
            "/data/item/company/id",
            "app:{/app_id}",
            "app",
        ],
        event: &["/topic"],
        idempotency_key: &["/id"],
        occurred_at: &["/created_at"],
        // They tell of the attempt.
        volatile: &[
            "delivery_attempts",
            "delivery_status",
            "delivered_at",
            "first_sent_at",
        ],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::Signed(&[SignedHandshake {
        sign: HandshakeSign::Value("/topic", "ping"),
        absent: None,
        reply: HandshakeReplyForm::Json(r#"{"status":"pong"}"#),
    }]),
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};
