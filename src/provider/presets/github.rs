//! GitHub signs the body. The entity is an issue or pull request, `octo/repo#7`, else the
//! repository, the organization, or the account.
//!
//! Source: <https://docs.github.com/en/webhooks/webhook-events-and-payloads>

use serde_json::value::RawValue;

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::pointer::JsonPointer;
use crate::provider::scheme::SignatureScheme;

/// Size to which GitHub limits a payload.
/// Source: <https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap>
const BODY_BYTES_MAX: usize = 25 * 1024 * 1024;

/// Events whose bodies have the time of the change, or an id that comes once. Of the others, such as
/// `label` and `member`, two may be equal when a change is undone and made again.
const TIMED_EVENTS: [&str; 16] = [
    "commit_comment",
    "deployment",
    "deployment_status",
    "discussion_comment",
    "issue_comment",
    "issues",
    "package",
    "page_build",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "push",
    "release",
    "status",
    "workflow_job",
    "workflow_run",
];

/// Actions that do not change the time of an issue, pull request or other thing.
const UNTIMED_ACTIONS: [&str; 8] = [
    "auto_merge_disabled",
    "auto_merge_enabled",
    "dequeued",
    "enqueued",
    "locked",
    "pinned",
    "unlocked",
    "unpinned",
];

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
    facts: PresetFacts {
        is_unique_body: Some(is_unique_body),
        body_bytes_max: Some(BODY_BYTES_MAX),
        ..PresetFacts::USUAL
    },
};

/// Tells if an event with this `name` has a `body` that no other event has. A body without any time is
/// not GitHub's whole one, and may come again.
pub(super) fn is_unique_body(name: &str, body: &RawValue) -> bool {
    let action = JsonPointer::from_static("/action").resolve(body);
    let action = action.map_or("", |action| action.get().trim_matches('"'));
    let has_time = ["_at\":", "\"timestamp\":"]
        .iter()
        .any(|member| body.get().contains(member));
    has_time && TIMED_EVENTS.contains(&name) && !UNTIMED_ACTIONS.contains(&action)
}
