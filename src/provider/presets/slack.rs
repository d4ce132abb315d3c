//! Slack signs a version, the time and the body. It sends a challenge when the URL is configured.

use std::borrow::Cow;

use super::preset::{PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE};
use crate::provider::body::RequestDocument;
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::{self, HandshakeReply, ProviderHandshake};
use crate::provider::scheme::SignatureScheme;
use crate::provider::signed_template::SignedContentPart;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "slack",
    signing: PresetSigning::Scheme(SignatureScheme::with_timestamp(
        "x-slack-signature",
        "v0=",
        SignatureEncoding::Hex,
        "x-slack-request-timestamp",
        &[
            SignedContentPart::Literal(Cow::Borrowed("v0:")),
            SignedContentPart::Timestamp,
            SignedContentPart::Literal(Cow::Borrowed(":")),
            SignedContentPart::Body,
        ],
    )),
    sends_forms: true,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        json_fields: &["payload"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::Signed(url_verification),
};

fn url_verification(document: &RequestDocument<'_>) -> Option<HandshakeReply> {
    handshake::find_challenge(document, "/type", "url_verification", "/challenge")
}
