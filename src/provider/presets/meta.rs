//! Meta: Facebook, Instagram and WhatsApp. Signs the body with the app secret and subscribes with a verify token.

use super::{Defaults, Preset, Signing};
use crate::provider::encoding::Encoding;
use crate::provider::handshake::Handshake;
use crate::provider::key::Algorithm;
use crate::provider::scheme::Scheme;

pub(super) static PRESET: Preset = Preset {
    name: "meta",
    signing: Signing::Scheme(Scheme::of_body("x-hub-signature-256", "sha256=", Algorithm::HmacSha256, Encoding::Hex)),
    tolerance: None,
    defaults: Defaults::NONE,
    handshake: Handshake::Subscription,
};
