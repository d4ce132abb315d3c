//! GitLab sends the secret token in a header. A webhook with a signing token is signed as Standard
//! Webhooks are, and may have both. The entity is an issue, merge request or other numbered thing,
//! `octo/repo/issue/7`, else the project.
//!
//! Sources: <https://docs.gitlab.com/user/project/integrations/webhooks/>,
//! <https://docs.gitlab.com/user/project/integrations/webhook_events/>,
//! <https://docs.gitlab.com/administration/system_hooks/>, and for signing tokens
//! <https://gitlab.com/gitlab-org/gitlab/-/merge_requests/230944>

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use super::standard;
use crate::provider::claim_error::ClaimError;
use crate::provider::claim_headers::require_header;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::{SignatureAlgorithm, VerificationKey, VerificationKeyError};
use crate::provider::request::RequestView;
use crate::provider::scheme::token_claim;
use crate::provider::signature_claim::{SignatureClaim, SignatureSet};

const TOKEN: &str = "x-gitlab-token";

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "gitlab",
    signing: PresetSigning::Own { key, claim },
    sends_forms: false,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: &[
            "{/project/path_with_namespace}/issue/{/issue/iid}",
            "{/project/path_with_namespace}/merge_request/{/merge_request/iid}",
            "{/project/path_with_namespace}/{/object_kind}/{/object_attributes/iid}",
            "/project/path_with_namespace",
            "/path_with_namespace",
            "/project_path_with_namespace",
            "project:{/project_id}",
            "project:{/object_attributes/project_id}",
            "group:{/group/full_path}",
            "group:{/group/group_path}",
            "group:{/full_path}",
            "group:{/group_path}",
            "group:{/group_id}",
            "user:{/user_id}",
            // Of a system hook about a key, which has no id of its user.
            "user:{/username}",
            "instance",
        ],
        event: &["X-Gitlab-Event", "/object_kind", "/event_name"],
        // An event that another webhook caused repeats the UUID of that event.
        // The first one is signed where a signing token is used.
        idempotency_key: &[
            "webhook-id",
            "Idempotency-Key",
            "{X-Gitlab-Event-UUID}:{X-Gitlab-Event}",
        ],
        occurred_at: &[
            "/object_attributes/updated_at",
            "/object_attributes/finished_at",
            "/object_attributes/created_at",
            "/status_changed_at",
            "/build_finished_at",
            "/build_started_at",
            "/build_created_at",
            "/updated_at",
            "/created_at",
            "/released_at",
        ],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::None,
    answer: PresetAnswer::Event,
    facts: PresetFacts {
        untimed: Some("secret tokens"),
        ..PresetFacts::USUAL
    },
};

/// Parses a signing token, `whsec_…`, or a secret token of any form.
fn key(text: &str) -> Result<VerificationKey, VerificationKeyError> {
    if text.starts_with("whsec_") {
        VerificationKey::from_standard(text)
    } else {
        VerificationKey::from_secret(text)
    }
}

fn claim<'r>(request: &RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError> {
    let token = require_header(request, TOKEN);
    let signed = match standard::HEADERS.read_claim(request) {
        // Without a signing token there is no such header, and the secret token alone counts.
        Err(ClaimError::NoHeader(_)) => return Ok(token_claim(TOKEN, token?.into())),
        signed => signed?,
    };
    if !signed.signed.has_one_cut()
        && let Ok(token) = token
    {
        // The token does not depend on where the signed parts meet.
        return Ok(token_claim(TOKEN, token.into()));
    }
    let token = token.map(|token| SignatureSet {
        algorithm: SignatureAlgorithm::Token,
        signatures: vec![token.into()],
    });
    let mut claim = signed;
    claim.proofs.extend(token);
    Ok(claim)
}
