//! Zendesk signs the time, in ISO 8601, and the body. The key is the text of the secret as it is,
//! although the secret looks like base64.
//!
//! Sources: <https://developer.zendesk.com/documentation/webhooks/verifying/>,
//! <https://developer.zendesk.com/api-reference/webhooks/event-types/webhook-event-types/>

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
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
    defaults: PresetFields {
        entity: &[
            "/detail/id",
            "/subject",
            "/ticket/id",
            "/ticket_id",
            "account:{/account_id}",
            "account",
        ],
        event: &["/type", "notification"],
        // Bodies of triggers are the customer's own: their `id` is a ticket's, not an event's.
        idempotency_key: &["{/zendesk_event_version}:{/id}"],
        occurred_at: &["/time"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};
