//! Stripe: one header holds the time and the signatures, `t=1492774577,v1=…,v1=…`; several during a
//! rotation. The key is the text `whsec_…` as it is, not its decoded base64.
//!
//! Source: <https://docs.stripe.com/webhooks/signature>

use std::borrow::Cow;

use super::preset::{PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE};
use crate::provider::handshake::ProviderHandshake;
use crate::provider::locator::FieldLocator;
use crate::provider::scheme::SignatureScheme;
use crate::provider::signature_header::SignatureHeaderParts;
use crate::provider::signed_template::SignedContentPart;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "stripe",
    signing: PresetSigning::Scheme(SignatureScheme::with_parts(
        "stripe-signature",
        SignatureHeaderParts::from_static(',', "t", &[Cow::Borrowed("v1")]),
        &[
            SignedContentPart::Timestamp,
            SignedContentPart::Literal(Cow::Borrowed(".")),
            SignedContentPart::Body,
        ],
    )),
    sends_forms: false,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: Some(FieldLocator::pointer("/data/object/id")),
        event: Some(FieldLocator::pointer("/type")),
        idempotency_key: Some(FieldLocator::pointer("/id")),
        occurred_at: Some(FieldLocator::pointer("/created")),
    },
    handshake: ProviderHandshake::None,
};
