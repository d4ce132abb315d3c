//! Trello signs the body and the callback URL, exactly as it was given when the webhook was created,
//! with the application's secret. It asks with HEAD if the URL exists.
//!
//! Source: <https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/>

use std::borrow::Cow;

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;
use crate::provider::signature_header::SignatureHeaderForm;
use crate::provider::signed_template::{SignedContentPart, SignedTemplate};

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "trello",
    signing: PresetSigning::Scheme(SignatureScheme::Signature {
        header: Cow::Borrowed("x-trello-webhook"),
        form: SignatureHeaderForm::List {
            prefix: Cow::Borrowed(""),
        },
        algorithm: SignatureAlgorithm::HmacSha1,
        encoding: SignatureEncoding::Base64,
        signed: SignedTemplate::from_static(&[SignedContentPart::Body, SignedContentPart::Url]),
        timestamp_header: None,
        id_header: None,
    }),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields {
        entity: &[
            "/action/data/card/id",
            "/action/data/list/id",
            "/action/data/board/id",
            "/action/data/organization/id",
            "/model/id",
        ],
        event: &["/action/type"],
        idempotency_key: &["/action/id"],
        occurred_at: &["/action/date"],
        // Two webhooks, of a board and of its card, tell of one action.
        volatile: &["model", "webhook"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};
