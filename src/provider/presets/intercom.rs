//! Intercom signs the body with the app's client secret. Its `ping` tests the endpoint and is no
//! event.

use super::preset::{PresetFields, PresetSigning, ProviderPreset};
use crate::provider::body::RequestDocument;
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::{self, HandshakeReply, ProviderHandshake};
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
    defaults: PresetFields::NONE,
    handshake: ProviderHandshake::Signed(ping),
};

fn ping(document: &RequestDocument<'_>) -> Option<HandshakeReply> {
    (handshake::find_text(document, "/topic")? == "ping").then_some(HandshakeReply::Pong)
}
