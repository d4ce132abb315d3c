//! Meta (Facebook, Instagram, WhatsApp) signs the body with the app secret and makes a handshake
//! with a verify token.
//!
//! Source: <https://developers.facebook.com/docs/graph-api/webhooks/getting-started>

use super::preset::{PresetAnswer, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "meta",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-hub-signature-256",
        "sha256=",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Hex,
    )),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields {
        entity: &["/entry/0/id", "/object"],
        event: &[
            "{/object}.{/entry/0/changes/0/field}",
            "{/object}.{/entry/0/changed_fields/0}",
            "/object",
        ],
        idempotency_key: &[
            "{/entry/0/changes/0/value/statuses/0/id}:{/entry/0/changes/0/value/statuses/0/status}",
            "/entry/0/changes/0/value/messages/0/id",
            "/entry/0/messaging/0/message/mid",
        ],
        occurred_at: &["/entry/0/time"],
    },
    handshake: ProviderHandshake::Subscription,
    answer: PresetAnswer::Event,
};
