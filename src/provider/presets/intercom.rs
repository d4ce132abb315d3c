//! Intercom. Signs the body with the app's client secret; its `ping` only asks whether anyone is
//! there.

use super::{PresetFields, PresetSigning, ProviderPreset};
use crate::provider::body::RequestDocument;
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::{self, ProviderHandshake, Reply};
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
    tolerance: None,
    defaults: PresetFields::NONE,
    handshake: ProviderHandshake::Signed(ping),
};

fn ping(document: &RequestDocument<'_>) -> Option<Reply> {
    (handshake::text_at(document, "/topic")? == "ping").then_some(Reply::Pong)
}
