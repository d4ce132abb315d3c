//! Slack signs a version, the time and the body. It sends a challenge when the URL is configured.
//!
//! Sources: <https://docs.slack.dev/authentication/verifying-requests-from-slack>,
//! <https://docs.slack.dev/apis/events-api/>, <https://docs.slack.dev/interactivity/handling-user-interaction>

use std::borrow::Cow;

use super::preset::{
    PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset, USUAL_TOLERANCE,
};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::{
    HandshakeReplyForm, HandshakeSign, ProviderHandshake, SignedHandshake,
};
use crate::provider::scheme::SignatureScheme;
use crate::provider::signed_template::SignedContentPart;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "slack",
    signing: PresetSigning::Scheme(SignatureScheme::with_timestamp(
        "x-slack-signature",
        "v0=",
        SignatureEncoding::Hex,
        "x-slack-request-timestamp",
        &[
            SignedContentPart::Literal(Cow::Borrowed("v0:")),
            SignedContentPart::Timestamp,
            SignedContentPart::Literal(Cow::Borrowed(":")),
            SignedContentPart::Body,
        ],
    )),
    sends_forms: true,
    tolerance: Some(USUAL_TOLERANCE),
    defaults: PresetFields {
        entity: &[
            "/event/channel",
            "/event/channel/id",
            "/event/item/channel",
            "/event/channel_id",
            "/event/assistant_thread/channel_id",
            "/event/user/id",
            "/event/user",
            "/channel/id",
            "/container/channel_id",
            "/channel_id",
            "/user/id",
            "/user_id",
            "/team/id",
            "/team_id",
            "workspace",
        ],
        event: &["/event/type", "/command", "/type"],
        idempotency_key: &[
            "/event_id",
            "/trigger_id",
            "{/type}:{/view/id}:{/view/hash}",
            "{/type}:{/callback_id}:{/action_ts}",
            "{/type}:{/team_id}:{?/api_app_id}:{/minute_rate_limited}",
        ],
        occurred_at: &[
            "/event_time",
            "/event/event_ts",
            "/actions/0/action_ts",
            "/action_ts",
            "/minute_rate_limited",
        ],
        json_fields: &["payload"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::Signed(&[SignedHandshake {
        sign: HandshakeSign::Value("/type", "url_verification"),
        absent: None,
        reply: HandshakeReplyForm::Challenge("/challenge"),
    }]),
    // A view submission needs a body without JSON, and all other calls take one.
    answer: PresetAnswer::Empty(200),
    facts: PresetFacts::USUAL,
};
