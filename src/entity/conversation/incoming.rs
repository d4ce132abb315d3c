//! Message of a counterpart, as the automatic replies read it from its record.

use std::sync::Arc;

use super::action::MessageType;
use super::change::{ConversationChange, ConversationEffect};
use crate::event::{Kind, Record};

/// Event type of a received message, and of a deletion.
pub const RECEIVED_EVENT: &str = "message.received";

/// Message from the counterpart to a business account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingMessage {
    /// Instagram's id of the message.
    pub message_id: Arc<str>,
    /// Instagram's id of the sender.
    pub sender_id: Arc<str>,
    /// Instagram's id of the business account that received it.
    pub business: Box<str>,
    /// Text of the message; `None` for a mere attachment.
    pub text: Option<Arc<str>>,
    /// Type of the message, from its first attachment.
    pub message_type: MessageType,
}

impl IncomingMessage {
    /// Reads the message in `record`; `None` for every other event, also for a deletion and for a
    /// message of the account itself.
    #[must_use]
    pub fn from_record(record: &Record) -> Option<Self> {
        if record.event_type != RECEIVED_EVENT
            || record.entity.kind() != Kind::Conversation
            || record.sequence.is_none()
        {
            return None;
        }

        let change: ConversationChange = serde_json::from_slice(&record.change).ok()?;
        let ConversationEffect::Message(content) = change.effect else {
            return None;
        };

        // The conversation's id names the counterpart first. The counterpart must be the sender
        // here.
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
