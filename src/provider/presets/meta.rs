//! Meta (Facebook, Instagram, WhatsApp) signs the body with the app secret and makes a handshake
//! with a verify token.

use super::preset::{PresetFields, PresetSigning, ProviderPreset};
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
        entity: &["/entry/*/id"],
        event: &["{/object}.{./field}", "/object"],
        items: &["/entry/*/changes", "/entry/*/messaging", "/entry/*/standby"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::Subscription,
};
