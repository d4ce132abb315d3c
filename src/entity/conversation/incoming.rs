//! What somebody wrote to a business account, read from the record of it.

use std::sync::Arc;

use super::action::MessageType;
use super::change::ConversationEffect;
use crate::entity::EntityChange;
use crate::event::{Kind, Record};

/// The event that somebody wrote to a business account, or took a message back.
pub const RECEIVED_EVENT: &str = "message.received";

/// A message from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingMessage {
    /// The message's id.
    pub message_id: Arc<str>,
    /// Who wrote it.
    pub sender_id: Arc<str>,
    /// The business account that it was written to, by its id at Instagram.
    pub business: Box<str>,
    /// What it says, if it has words.
    pub text: Option<Arc<str>>,
    /// What sort of message it is.
    pub message_type: MessageType,
}

impl IncomingMessage {
    /// The message that `record` is of; `None` for anything else: what the account itself wrote,
    /// and a message taken back, too.
    #[must_use]
    pub fn from_record(record: &Record) -> Option<Self> {
        if record.event_type != RECEIVED_EVENT
            || record.entity.kind() != Kind::Conversation
            || record.sequence.is_none()
        {
            return None;
        }
        let Ok(EntityChange::Conversation(change)) =
            EntityChange::decode(Kind::Conversation, &record.change)
        else {
            return None;
        };
        let ConversationEffect::Message(content) = change.effect else {
            return None;
        };
        // The conversation is named after its two sides, the counterpart first: here that has to be
        // who wrote.
        let business = record
            .entity
            .id()
            .strip_prefix("conv_")?
            .strip_prefix(&*content.sender_id)?
            .strip_prefix('_')?;
        (!content.is_echo).then(|| Self {
            business: business.into(),
            message_id: content.message_id,
            sender_id: content.sender_id,
            text: content.text,
            message_type: content.message_type,
        })
    }
}
