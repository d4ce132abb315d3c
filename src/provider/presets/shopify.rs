//! Shopify signs the body with the app's client secret, in base64.

use super::preset::{PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "shopify",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-shopify-hmac-sha256",
        "",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Base64,
    )),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields::NONE,
    handshake: ProviderHandshake::None,
};
