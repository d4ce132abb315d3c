//! Shopify. Signs the body with the app's client secret, in base64.

use super::{Defaults, Preset, Signing};
use crate::provider::encoding::Encoding;
use crate::provider::handshake::Handshake;
use crate::provider::key::Algorithm;
use crate::provider::scheme::Scheme;

pub(super) static PRESET: Preset = Preset {
    name: "shopify",
    signing: Signing::Scheme(Scheme::of_body("x-shopify-hmac-sha256", "", Algorithm::HmacSha256, Encoding::Base64)),
    tolerance: None,
    defaults: Defaults::NONE,
    handshake: Handshake::None,
};
