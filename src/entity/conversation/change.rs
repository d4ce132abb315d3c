//! Effect of an update on a conversation, with every decision resolved, so that a replay needs no
//! rules.
//!
//! Stored as JSON, for example `{"at":1762597800000000,"keep":100,"effect":{"deleted":"m-1"}}`.
//! A member added later needs a default. An effect that this version does not know makes the change
//! unreadable: to skip it would lose it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::action::{ConversationParties, MessageAttachment, MessageType, ReactionLabel};
use crate::entity::timed_value::UnixMicros;

/// Effect of one update on a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConversationChange {
    /// Event time of the update.
    pub(super) at: UnixMicros,
    /// Sides of the conversation; only in the first change, since they never change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) between: Option<ConversationParties>,
    /// A late change is recorded and has no effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) late: bool,
    /// Bound of the collections at the time of the decision.
    pub(super) keep: usize,
    pub(super) effect: ConversationEffect,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConversationEffect {
    Message(MessageContent),
    Deleted(Arc<str>),
    Reaction {
        message_id: Arc<str>,
        sender_id: Arc<str>,
        given: Option<ReactionLabel>,
    },
    Read {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<Arc<str>>,
        until: UnixMicros,
    },
    Reply {
        /// Message that triggered the automatic reply.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answers: Option<Arc<str>>,
    },
    Nothing,
}

/// Content of a message as it was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MessageContent {
    pub(super) message_id: Arc<str>,
    pub(super) sender_id: Arc<str>,
    pub(super) text: Option<Arc<str>>,
    pub(super) message_type: MessageType,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) attachments: Vec<MessageAttachment>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_echo: bool,
}

/// Summary line of a timeline, without any text of the participants.
#[must_use]
pub fn summary(change: &ConversationChange) -> String {
    let sentence = match &change.effect {
        ConversationEffect::Message(content) if content.is_echo => {
            format!("message {} sent", content.message_id)
        }
        ConversationEffect::Message(content) => format!("message {} received", content.message_id),
        ConversationEffect::Deleted(message_id) => format!("message {message_id} deleted"),
        ConversationEffect::Reaction {
            message_id,
            given: Some(_),
            ..
        } => format!("reaction to message {message_id}"),
        ConversationEffect::Reaction {
            message_id,
            given: None,
            ..
        } => {
            format!("reaction to message {message_id} taken back")
        }
        ConversationEffect::Read {
            message_id: Some(message_id),
            ..
        } => format!("read up to message {message_id}"),
        ConversationEffect::Read {
            message_id: None, ..
        } => "read".into(),
        ConversationEffect::Reply {
            answers: Some(message_id),
        } => format!("automatic reply to message {message_id}"),
        ConversationEffect::Reply { answers: None } => "reply to be sent".into(),
        ConversationEffect::Nothing => "recorded".into(),
    };
    if change.late {
        format!("{sentence}, too late to change anything")
    } else {
        sentence
    }
}
