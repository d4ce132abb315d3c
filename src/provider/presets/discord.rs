//! Discord signs the time and the body with Ed25519; the secret is the application's public key in
//! hex. It pings the URL when it is saved, and now and then sends a wrong signature, which must get
//! 401. Events are answered with 204.
//!
//! | ping of | body | reply |
//! |---|---|---|
//! | webhook events | `"type": 0` | 204 without a body |
//! | interactions | `"type": 1`, and no `event` | `{"type": 1}` |
//!
//! Sources: <https://docs.discord.com/developers/events/webhook-events>,
//! <https://docs.discord.com/developers/interactions/overview>

use std::borrow::Cow;
use std::time::Duration;

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::{
    HandshakeReplyForm, HandshakeSign, ProviderHandshake, SignedHandshake,
};
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;
use crate::provider::signature_header::SignatureHeaderForm;
use crate::provider::signed_template::{SignedContentPart, SignedTemplate};

/// Discord repeats an event for up to 10 minutes and does not say if it signs the time anew.
const TOLERANCE: Duration = Duration::from_secs(900);

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "discord",
    signing: PresetSigning::Scheme(SignatureScheme::Signature {
        header: Cow::Borrowed("x-signature-ed25519"),
        form: SignatureHeaderForm::List {
            prefix: Cow::Borrowed(""),
        },
        algorithm: SignatureAlgorithm::Ed25519,
        encoding: SignatureEncoding::Hex,
        signed: SignedTemplate::from_static(&[
            SignedContentPart::Timestamp,
            SignedContentPart::Body,
        ]),
        timestamp_header: Some(Cow::Borrowed("x-signature-timestamp")),
        id_header: None,
    }),
    sends_forms: false,
    tolerance: Some(TOLERANCE),
    defaults: PresetFields {
        entity: &[
            "lobby:{/event/data/lobby_id}",
            "channel:{/event/data/channel_id}",
            "guild:{/event/data/guild/id}",
            "user:{/event/data/user/id}",
            "user:{/event/data/user_id}",
            "channel:{/channel_id}",
            "guild:{/guild_id}",
            "user:{/user/id}",
            "application:{/application_id}",
        ],
        event: &[
            "/event/type",
            "interaction.{/data/name}",
            "interaction.{/type}",
        ],
        idempotency_key: &[
            "{/event/type}:{/event/data/id}:{/event/timestamp}",
            "{/event/type}:{/event/data/user/id}:{/event/timestamp}",
            "{/event/type}:{/event/data/user_id}:{/event/timestamp}",
            "/id",
        ],
        // The field is in UTC and does not say so.
        occurred_at: &["{/event/timestamp}Z", "/event/timestamp"],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::Signed(&[
        SignedHandshake {
            sign: HandshakeSign::Value("/type", "0"),
            absent: None,
            reply: HandshakeReplyForm::Empty(204),
        },
        SignedHandshake {
            sign: HandshakeSign::Value("/type", "1"),
            absent: Some("/event"),
            reply: HandshakeReplyForm::Json(r#"{"type":1}"#),
        },
    ]),
    answer: PresetAnswer::Empty(204),
    facts: PresetFacts::USUAL,
};
