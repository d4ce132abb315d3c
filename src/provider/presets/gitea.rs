//! Gitea and Forgejo sign the body, in hex without a prefix. The entity is an issue or pull request,
//! `octo/repo#7`, else the repository.
//!
//! The content type must be `application/json`: of a form, Gitea signs the JSON inside it.
//!
//! Source: <https://docs.gitea.com/usage/webhooks>

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "gitea",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-gitea-signature",
        "",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Hex,
    )),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields {
        entity: &[
            "{/repository/full_name}#{/issue/number}",
            "{/repository/full_name}#{/pull_request/number}",
            "/repository/full_name",
            "organization:{/organization/username}",
            "account:{/sender/login}",
            "account",
        ],
        event: &["X-Gitea-Event"],
        idempotency_key: &["X-Gitea-Delivery"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts {
        is_unique_body: Some(super::github::is_unique_body),
        ..PresetFacts::USUAL
    },
};
