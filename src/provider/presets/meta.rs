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
        entity: &["/entry/*/id", "/entry/0/id", "/object"],
        event: &["{/object}.{./field}", "{/object}.{.}", "/object"],
        idempotency_key: &[
            "{./value/statuses/0/id}:{./value/statuses/0/status}",
            "./value/messages/0/id",
            "./value/leadgen_id",
            "{./message/mid}:deleted={./message/is_deleted}",
            "./message/mid",
            // Only an entry of changed fields has items that are texts.
            "{/entry/*/id}:{.}:{/entry/*/time}",
        ],
        occurred_at: &["./timestamp", "./value/created_time", "/entry/*/time"],
        items: &[
            "/entry/*/changes",
            "/entry/*/messaging",
            "/entry/*/standby",
            "/entry/*/changed_fields",
        ],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::Subscription,
    answer: PresetAnswer::Event,
};
