//! SendGrid signs the time and the body with ECDSA; the secret is the verification key that it shows.
//! One call has many events.
//!
//! Source: <https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features>

use std::borrow::Cow;

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;
use crate::provider::signature_header::SignatureHeaderForm;
use crate::provider::signed_template::{SignedContentPart, SignedTemplate};

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "sendgrid",
    signing: PresetSigning::Scheme(SignatureScheme::Signature {
        header: Cow::Borrowed("x-twilio-email-event-webhook-signature"),
        form: SignatureHeaderForm::List {
            prefix: Cow::Borrowed(""),
        },
        algorithm: SignatureAlgorithm::EcdsaP256,
        encoding: SignatureEncoding::Base64,
        signed: SignedTemplate::from_static(&[
            SignedContentPart::Timestamp,
            SignedContentPart::Body,
        ]),
        timestamp_header: Some(Cow::Borrowed("x-twilio-email-event-webhook-timestamp")),
        id_header: None,
    }),
    sends_forms: false,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: &["./sg_message_id", "./email", "account"],
        event: &["./event", "./type"],
        idempotency_key: &["./sg_event_id"],
        occurred_at: &["./timestamp"],
        items: &[""],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};
