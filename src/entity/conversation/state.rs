//! What is known of a conversation, and how the API shows it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::action::{ConversationParties, MessageAttachment, ReactionLabel};
use super::change::MessageContent;
use crate::entity::timed_value::{TimedValue, UnixMicros};
use crate::event::Timestamp;

/// A conversation's state, with the times that tell which updates are late for it.
///
/// Serialized, it is the body of a snapshot: a member that is missing takes its initial value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConversationState {
    pub(super) between: Option<ConversationParties>,
    /// The newest ones, in the order of their own times.
    pub(super) messages: VecDeque<ConversationMessage>,
    /// Messages that were taken back before they came, each with the time of that.
    pub(super) gone: VecDeque<(Arc<str>, UnixMicros)>,
    /// The newest ones in the order in which they came. One that was taken back stays, so that an
    /// older one stays out.
    pub(super) reactions: VecDeque<MessageReaction>,
    pub(super) read: TimedValue<Option<ReadMarker>>,
    /// When the last automatic reply was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answered_at: Option<UnixMicros>,
}

/// One message; its content and its deletion have a time each, so neither makes an update late for
/// the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ConversationMessage {
    pub(super) content: MessageContent,
    pub(super) at: UnixMicros,
    #[serde(default)]
    pub(super) deleted: TimedValue<bool>,
    /// Whether it has got an automatic reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_answered: bool,
}

/// What one participant thinks of one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MessageReaction {
    pub(super) message_id: Arc<str>,
    pub(super) sender_id: Arc<str>,
    pub(super) given: Option<ReactionLabel>,
    pub(super) at: UnixMicros,
}

/// How far the counterpart has read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ReadMarker {
    pub(super) message_id: Option<Arc<str>>,
    pub(super) until: UnixMicros,
}

impl ConversationState {
    /// The business account, by its id at Instagram; `None` before the first update.
    #[must_use]
    pub fn business_account(&self) -> Option<&str> {
        self.between.as_ref().map(|between| &*between.business)
    }

    /// The state as the API shows it, of a conversation that nobody claims.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        self.to_json_of_account(None)
    }

    /// The state as the API shows it, of a conversation of the account `account_id`.
    #[must_use]
    pub fn to_json_of_account(&self, account_id: Option<&str>) -> Value {
        let between = self.between.as_ref();
        let participants = between
            .and_then(|between| between.counterpart.as_deref())
            .into_iter()
            .chain(self.business_account());
        json!({
            "account_id": account_id,
            "instagram_account_id": self.business_account(),
            "participants": participants.collect::<Vec<_>>(),
            "messages": self.messages.iter().map(ConversationMessage::to_json).collect::<Vec<_>>(),
            "reactions": self.reactions.iter().filter_map(MessageReaction::to_json).collect::<Vec<_>>(),
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

// What is stored and what is shown may part ways, so the API's members are written out here and not
// derived.

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
    /// `None` for one that was taken back.
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
