//! Calendly signs the time and the body; one header holds the time and the signature.
//!
//! Source: <https://developer.calendly.com/api-docs/4c305798a61d3-webhook-signatures>

use std::borrow::Cow;

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use crate::provider::handshake::ProviderHandshake;
use crate::provider::scheme::SignatureScheme;
use crate::provider::signature_header::SignatureHeaderParts;
use crate::provider::signed_template::SignedContentPart;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "calendly",
    signing: PresetSigning::Scheme(SignatureScheme::with_parts(
        "calendly-webhook-signature",
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
        // An invitee and its scheduled event change together.
        entity: &[
            "/payload/scheduled_event/uri",
            "/payload/event",
            "/payload/invitee",
            "/payload/uri",
            "/created_by",
        ],
        event: &["/event"],
        // Calendly sends no id of the event.
        idempotency_key: &["{/event}:{/payload/uri}:{/created_at}"],
        occurred_at: &["/created_at"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};
