//! What is known of a conversation, and how the API shows it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::action::{Attachment, Between, Emotion};
use super::change::Content;
use crate::entity::field::{Field, Micros};
use crate::event::Timestamp;

/// A conversation's state, with the times that tell which updates are late for it.
///
/// Serialized, it is the body of a snapshot: a member that is missing takes its initial value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub(super) between: Option<Between>,
    /// The newest ones, in the order of their own times.
    pub(super) messages: VecDeque<Message>,
    /// Messages that were taken back before they came, each with the time of that.
    pub(super) gone: VecDeque<(Arc<str>, Micros)>,
    /// The newest ones in the order in which they came. One that was taken back stays, so that an older one stays out.
    pub(super) reactions: VecDeque<Reaction>,
    pub(super) read: Field<Option<Read>>,
    /// When the last automatic reply was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answered_at: Option<Micros>,
}

/// One message; its content and its deletion have a time each, so neither makes an update late for the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) content: Content,
    pub(super) at: Micros,
    #[serde(default)]
    pub(super) deleted: Field<bool>,
    /// Whether it has got an automatic reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_answered: bool,
}

/// What one participant thinks of one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reaction {
    pub(super) message_id: Arc<str>,
    pub(super) sender_id: Arc<str>,
    pub(super) given: Option<Emotion>,
    pub(super) at: Micros,
}

/// How far the counterpart has read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Read {
    pub(super) message_id: Option<Arc<str>>,
    pub(super) until: Micros,
}

impl State {
    /// The business account, by its id at Instagram; `None` before the first update.
    #[must_use]
    pub fn business(&self) -> Option<&str> {
        self.between.as_ref().map(|between| &*between.business)
    }

    /// The state as the API shows it, of a conversation that nobody claims.
    #[must_use]
    pub fn to_json(&self) -> impl Serialize {
        self.claimed_by(None)
    }

    /// The state as the API shows it, of a conversation of the account `account_id`.
    #[must_use]
    pub fn claimed_by(&self, account_id: Option<&str>) -> Value {
        let between = self.between.as_ref();
        let participants =
            between.and_then(|between| between.counterpart.as_deref()).into_iter().chain(self.business());
        json!({
            "account_id": account_id,
            "instagram_account_id": self.business(),
            "participants": participants.collect::<Vec<_>>(),
            "messages": self.messages.iter().map(Message::to_json).collect::<Vec<_>>(),
            "reactions": self.reactions.iter().filter_map(Reaction::to_json).collect::<Vec<_>>(),
            "read": self.read.value.as_ref().map(Read::to_json),
        })
    }

    pub(super) fn message(&self, message_id: &str) -> Option<&Message> {
        self.messages.iter().rev().find(|message| *message.content.message_id == *message_id)
    }
}

// What is stored and what is shown may part ways, so the API's members are written out here and not derived.

impl Message {
    fn to_json(&self) -> Value {
        let Content { message_id, sender_id, text, message_type, attachments, is_echo } = &self.content;
        json!({
            "message_id": message_id,
            "sender_id": sender_id,
            "text": text,
            "message_type": message_type,
            "attachments": attachments.iter().map(Attachment::to_json).collect::<Vec<_>>(),
            "timestamp": Timestamp::from(self.at),
            "is_echo": is_echo,
            "is_deleted": self.deleted.value,
        })
    }
}

impl Attachment {
    fn to_json(&self) -> Value {
        json!({ "type": self.r#type, "url": self.url })
    }
}

impl Reaction {
    /// `None` for one that was taken back.
    fn to_json(&self) -> Option<Value> {
        let Emotion { reaction, emoji } = self.given.as_ref()?;
        Some(json!({
            "message_id": self.message_id,
            "sender_id": self.sender_id,
            "reaction": reaction,
            "emoji": emoji,
            "timestamp": Timestamp::from(self.at),
        }))
    }
}

impl Read {
    fn to_json(&self) -> Value {
        json!({ "message_id": self.message_id, "timestamp": Timestamp::from(self.until) })
    }
}
