//! State of a conversation, and its form in the API.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::action::{ConversationParties, MessageAttachment, ReactionLabel};
use super::change::MessageContent;
use crate::entity::timed_value::{TimedValue, UnixMicros};
use crate::event::Timestamp;

/// State of a conversation, with the times that decide which updates are late.
///
/// Serialized, it is the body of a snapshot: a missing member takes its initial value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConversationState {
    pub(super) between: Option<ConversationParties>,
    /// Newest messages, in the order of event times.
    pub(super) messages: VecDeque<ConversationMessage>,
    /// Messages that were deleted before they arrived, each with the time of the deletion.
    pub(super) gone: VecDeque<(Arc<str>, UnixMicros)>,
    /// Newest reactions, in the order of arrival. A withdrawn reaction stays in the list, so that
    /// an older event cannot bring it back.
    pub(super) reactions: VecDeque<MessageReaction>,
    pub(super) read: TimedValue<Option<ReadMarker>>,
    /// Time of the last automatic reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answered_at: Option<UnixMicros>,
}

/// Message of a conversation. Content and deletion have times of their own, so that neither makes
/// an update of the other late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ConversationMessage {
    pub(super) content: MessageContent,
    pub(super) at: UnixMicros,
    #[serde(default)]
    pub(super) deleted: TimedValue<bool>,
    /// True after an automatic reply to this message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_answered: bool,
}

/// Reaction of one participant to one message; `given` is `None` after a withdrawal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MessageReaction {
    pub(super) message_id: Arc<str>,
    pub(super) sender_id: Arc<str>,
    pub(super) given: Option<ReactionLabel>,
    pub(super) at: UnixMicros,
}

/// Last message and time that the counterpart has read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ReadMarker {
    pub(super) message_id: Option<Arc<str>>,
    pub(super) until: UnixMicros,
}

impl ConversationState {
    /// Instagram's id of the business account; `None` before the first update.
    #[must_use]
    pub fn business_account(&self) -> Option<&str> {
        self.between.as_ref().map(|between| &*between.business)
    }

    /// State in the form of the API, for a conversation that belongs to no configured account.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        self.to_json_of_account(None)
    }

    /// State in the form of the API, for a conversation of the account `account_id`.
    #[must_use]
    pub fn to_json_of_account(&self, account_id: Option<&str>) -> Value {
        let between = self.between.as_ref();
        let participants = between
            .and_then(|between| between.counterpart.as_deref())
            .into_iter()
            .chain(self.business_account());
        let messages = self.messages.iter().map(ConversationMessage::to_json);
        let reactions = self.reactions.iter().filter_map(MessageReaction::to_json);

        json!({
            "account_id": account_id,
            "instagram_account_id": self.business_account(),
            "participants": participants.collect::<Vec<_>>(),
            "messages": messages.collect::<Vec<_>>(),
            "reactions": reactions.collect::<Vec<_>>(),
            "read": self.read.value.as_ref().map(ReadMarker::to_json),
        })
    }

    pub(super) fn find_message(&self, message_id: &str) -> Option<&ConversationMessage> {
        self.messages
            .iter()
            .rev()
            .find(|message| *message.content.message_id == *message_id)
    }
}

// The stored form and the shown form may diverge, so the API's members are written out here instead
// of derived.

impl ConversationMessage {
    fn to_json(&self) -> Value {
        let MessageContent {
            message_id,
            sender_id,
            text,
            message_type,
            attachments,
            is_echo,
        } = &self.content;
        json!({
            "message_id": message_id,
            "sender_id": sender_id,
            "text": text,
            "message_type": message_type,
            "attachments": attachments.iter().map(MessageAttachment::to_json).collect::<Vec<_>>(),
            "timestamp": Timestamp::from(self.at),
            "is_echo": is_echo,
            "is_deleted": self.deleted.value,
        })
    }
}

impl MessageAttachment {
    fn to_json(&self) -> Value {
        json!({ "type": self.r#type, "url": self.url })
    }
}

impl MessageReaction {
    /// Returns `None` for a withdrawn reaction.
    fn to_json(&self) -> Option<Value> {
        let ReactionLabel { reaction, emoji } = self.given.as_ref()?;
        Some(json!({
            "message_id": self.message_id,
            "sender_id": self.sender_id,
            "reaction": reaction,
            "emoji": emoji,
            "timestamp": Timestamp::from(self.at),
        }))
    }
}

impl ReadMarker {
    fn to_json(&self) -> Value {
        json!({ "message_id": self.message_id, "timestamp": Timestamp::from(self.until) })
    }
}
