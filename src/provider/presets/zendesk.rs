//! Zendesk signs the time, in ISO 8601, and the body. The key is the text of the secret as it is,
//! although the secret looks like base64.

use super::preset::{PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::scheme::SignatureScheme;
use crate::provider::signed_template::SignedContentPart;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "zendesk",
    signing: PresetSigning::Scheme(SignatureScheme::with_timestamp(
        "x-zendesk-webhook-signature",
        "",
        SignatureEncoding::Base64,
        "x-zendesk-webhook-signature-timestamp",
        &[SignedContentPart::Timestamp, SignedContentPart::Body],
    )),
    sends_forms: true,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields::NONE,
    handshake: ProviderHandshake::None,
};
