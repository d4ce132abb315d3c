//! Xero signs the body with the webhook's key, in base64. One call has many events. The "intent to
//! receive" has none; it is answered with 200 or 401 by its signature, and without a body.
//!
//! Sources: <https://developer.xero.com/documentation/guides/webhooks/overview/>,
//! <https://developer.xero.com/documentation/guides/webhooks/configuring-your-server/>

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::{
    HandshakeReplyForm, HandshakeSign, ProviderHandshake, SignedHandshake,
};
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "xero",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-xero-signature",
        "",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Base64,
    )),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields {
        entity: &["./resourceId", "tenant:{./tenantId}"],
        event: &["{./eventCategory}.{./eventType}"],
        // Xero sends no id of the event.
        idempotency_key: &["{./tenantId}:{./resourceId}:{./eventType}:{./eventDateUtc}"],
        // The field is in UTC and does not say so.
        occurred_at: &["{./eventDateUtc}Z", "./eventDateUtc"],
        items: &["/events"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::Signed(&[SignedHandshake {
        sign: HandshakeSign::NoItems("/events"),
        absent: None,
        reply: HandshakeReplyForm::Empty(200),
    }]),
    answer: PresetAnswer::Empty(200),
    facts: PresetFacts::USUAL,
};
