//! Meta (Facebook, Instagram, WhatsApp) signs the body with the app secret and makes a handshake
//! with a verify token.
//!
//! | in an entry | events | named |
//! |---|---|---|
//! | `changes` with messages, statuses … | each of these | `whatsapp_business_account.messages`: the field |
//! | `changes` with anything else | each change | `page.feed`: the field |
//! | `messaging` | each member | `page.read`: its kind |
//! | `standby` | each member | `page.standby` |
//! | `changed_fields` | each name | `user.photos` |
//! | none of them | the entry | `page` |
//!
//! Threads sends no entries, but one change: `threads.replies`.
//!
//! Sources: <https://developers.facebook.com/docs/graph-api/webhooks/getting-started>,
//! <https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/components>,
//! <https://developers.facebook.com/docs/messenger-platform/reference/webhook-events>,
//! <https://developers.facebook.com/docs/instagram-platform/webhooks>,
//! <https://developers.facebook.com/docs/threads/webhooks>

use super::preset::{PresetAnswer, PresetFacts, PresetFields, PresetSigning, ProviderPreset};
use crate::provider::encoding::SignatureEncoding;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::SignatureAlgorithm;
use crate::provider::scheme::SignatureScheme;

pub(super) static PRESET: ProviderPreset = ProviderPreset {
    name: "meta",
    signing: PresetSigning::Scheme(SignatureScheme::for_body(
        "x-hub-signature-256",
        "sha256=",
        SignatureAlgorithm::HmacSha256,
        SignatureEncoding::Hex,
    )),
    sends_forms: false,
    tolerance: None,
    defaults: PresetFields {
        entity: &["/entry/*/id", "/entry/0/id", "/object", "/target_id"],
        event: &[
            "{/object}.{/entry/*/changes/*/field}",
            "{/object}.{/entry/*/changed_fields/*}",
            "{/object}.standby{!/entry/*/standby/*}",
            "{/object}.message_echo{!./message/is_echo}",
            "{/object}.message{!./message}",
            "{/object}.message_edit{!./message_edit}",
            "{/object}.postback{!./postback}",
            "{/object}.reaction{!./reaction}",
            "{/object}.read{!./read}",
            "{/object}.delivery{!./delivery}",
            "{/object}.optin{!./optin}",
            "{/object}.referral{!./referral}",
            "{/object}.account_linking{!./account_linking}",
            "{/object}.policy_enforcement{!./policy_enforcement}",
            "{/object}.pass_thread_control{!./pass_thread_control}",
            "{/object}.take_thread_control{!./take_thread_control}",
            "{/object}.request_thread_control{!./request_thread_control}",
            "{/object}.app_roles{!./app_roles}",
            "{/object}.feedback{!./messaging_feedback}",
            "{/object}.response_feedback{!./response_feedback}",
            "{/object}.messaging{!/entry/*/messaging/*}",
            "/object",
            "threads.{/values/field}",
            "threads.{/values/*/field}",
        ],
        idempotency_key: &[
            // In a group, each participant has statuses of one message.
            "{/entry/*/changes/*/value/statuses/*/id}:{./status}{?./recipient_participant_id}",
            "/entry/*/changes/*/value/messages/*/id",
            "/entry/*/changes/*/value/message_echoes/*/id",
            "{/entry/*/changes/*/value/calls/*/id}:{./event}",
            "./value/leadgen_id",
            "{./message/mid}:deleted={./message/is_deleted}",
            "./message/mid",
            "./value/message/mid",
            "postback:{./postback/mid}",
            "postback:{./value/postback/mid}",
            // A person may react, take it back, and react again.
            "{./reaction/mid}:{./reaction/action}:{?./sender/id}:{./timestamp}",
            "{./message_edit/mid}:edit={./message_edit/num_edit}",
            "{./read/mid}:read:{./sender/id}",
            "{./sender/id}:{./recipient/id}:read={./read/watermark}",
            "{./sender/id}:{./recipient/id}:delivered={./delivery/watermark}:{?./delivery/mids/0}",
            // A comment is edited or liked any number of times: the time and the person count too.
            "{?./value/item}:{./value/comment_id}:{./value/verb}:{./value/from/id}:{/entry/*/time}",
            "{?./value/item}:{./value/comment_id}:{./value/verb}:{?./value/created_time}",
            "{?./value/item}:{./value/post_id}:{./value/verb}:{?./value/from/id}:{/entry/*/time}",
            // Of Instagram's comments, which do not change.
            "{./value/id}{!./value/text}",
            "{./field}:{./value/media_id}:{./value/comment_id}",
            "{./field}:{./value/media_id}:{/entry/*/time}",
            "{./field}:{./value/message_template_id}:{./value/event}:{/entry/*/time}",
            "{/entry/*/id}:{/entry/*/changed_fields/*}:{/entry/*/time}",
            "{/values/field}:{/values/value/id}",
        ],
        occurred_at: &[
            "./timestamp",
            "./value/timestamp",
            "./value/created_time",
            "/entry/*/time",
            "/values/value/timestamp",
            "/time",
        ],
        items: &[
            "/entry",
            "/entry/*/changes",
            "/entry/*/changes/*/value/messages",
            "/entry/*/changes/*/value/statuses",
            "/entry/*/changes/*/value/message_echoes",
            "/entry/*/changes/*/value/calls",
            "/entry/*/changes/*/value/groups",
            "/entry/*/changes/*/value/user_preferences",
            "/entry/*/changes/*/value/state_sync",
            "/entry/*/messaging",
            "/entry/*/standby",
            "/entry/*/changed_fields",
            "/values",
        ],
        ..PresetFields::NONE
    },
    handshake: ProviderHandshake::Subscription,
    answer: PresetAnswer::Event,
    facts: PresetFacts::USUAL,
};
