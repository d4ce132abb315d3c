//! GitHub signs the body. The entity is an issue or pull request, `octo/repo#7`, else the
//! repository, the organization, or the account.
//!
//! Source: <https://docs.github.com/en/webhooks/webhook-events-and-payloads>

use super::preset::{PresetAnswer, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "github",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-hub-signature-256",
        "sha256=",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Hex,
    )),
    sends_forms: true,
    tolerance: None,
    defaults: PresetFields {
        entity: &[
            "{/repository/full_name}#{/issue/number}",
            "{/repository/full_name}#{/pull_request/number}",
            "{/repository/full_name}#{/discussion/number}",
            "/repository/full_name",
            "organization:{/organization/login}",
            "enterprise:{/enterprise/slug}",
            "account:{/marketplace_purchase/account/login}",
            "account:{/sponsorship/sponsorable/login}",
            "account:{/installation/account/login}",
            "advisory:{/security_advisory/ghsa_id}",
            "app:{/hook/app_id}",
            "account:{/sender/login}",
            "account",
        ],
        event: &["X-GitHub-Event"],
        idempotency_key: &["X-GitHub-Delivery"],
        json_fields: &["payload"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
};
