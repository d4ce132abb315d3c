//! Stripe: one header holds the time and the signatures, `t=1492774577,v1=…,v1=…`; several during a
//! rotation. The key is the text `whsec_…` as it is, not its decoded base64.
//!
//! Source: <https://docs.stripe.com/webhooks/signature>

use std::borrow::Cow;

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use crate::provider::handshake::ProviderHandshake;
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
        entity: &[
            "/data/object/id",
            "{/data/object/object}:{/data/object/subscription}",
            "{/data/object/object}:{/data/object/customer}",
            "/related_object/id",
            "{/data/object/object}:{/account}",
            "/data/object/object",
            "context:{/context}",
            // Of an event about nothing; a body that is no event stays unmatched.
            "account{!/type}",
        ],
        event: &["/type"],
        idempotency_key: &["/id"],
        occurred_at: &["/created"],
        volatile: &["pending_webhooks"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};
