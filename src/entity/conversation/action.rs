//! What Instagram tells of a conversation, decoded.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{EntityKey, InvalidId, Kind, Timestamp};

/// What stands in a conversation's id for a counterpart that is not known.
const UNKNOWN_COUNTERPART: &str = "0";

/// One update of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationAction {
    /// Whose conversation it is.
    pub between: ConversationParties,
    /// What happened in it.
    pub update: ConversationUpdate,
}

/// The two sides of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationParties {
    /// The business account, by its id at Instagram.
    pub business: Arc<str>,
    /// Whom it talks with; `None` for what belongs to no single person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counterpart: Option<Arc<str>>,
}

impl ConversationParties {
    /// The conversation of these two: `conv_<counterpart>_<business account>`.
    ///
    /// # Errors
    /// [`InvalidId`] when their ids are too long for that, or hold control characters.
    pub fn key(&self) -> Result<EntityKey, InvalidId> {
        let counterpart = self.counterpart.as_deref().unwrap_or(UNKNOWN_COUNTERPART);
        EntityKey::try_new(
            Kind::Conversation,
            &format!("conv_{counterpart}_{}", self.business),
        )
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum ConversationUpdate {
    /// Someone wrote.
    Message {
        /// The message's id.
        message_id: String,
        /// Who wrote it.
        sender_id: String,
        /// What it says, if it has words.
        text: Option<String>,
        /// What sort of message it is.
        message_type: MessageType,
        /// What came with it.
        attachments: Vec<MessageAttachment>,
        /// Whether the business account wrote it.
        is_echo: bool,
    },
    /// Someone took a message back.
    Deleted {
        /// The message's id.
        message_id: String,
    },
    /// Someone reacted to a message, or took a reaction back.
    Reaction {
        /// The id of the message it is about.
        message_id: String,
        /// Who reacted.
        sender_id: String,
        /// How; `None` when it was taken back.
        given: Option<ReactionLabel>,
    },
    /// The counterpart has read the conversation.
    Read {
        /// Up to this message, if that was said.
        message_id: Option<String>,
        /// Up to this moment; that of the event if none was said.
        until: Option<Timestamp>,
    },
    /// Someone here asked for a message to the counterpart. What is shown of it comes with its
    /// echo, once it was sent.
    Reply {
        /// Why nobody had to ask for it, if nobody did.
        automatic: Option<AutomaticReply>,
    },
    /// Something that changes nothing of what is shown, such as a pressed button.
    Other,
}

/// What an automatic reply answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutomaticReply {
    /// The id of the message.
    pub message_id: Arc<str>,
    /// How long after an automatic reply the conversation gets no other.
    pub cooldown: Duration,
}

/// A reaction by its name and its picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactionLabel {
    /// Such as `love`.
    pub reaction: Option<Arc<str>>,
    /// Such as a heart.
    pub emoji: Option<Arc<str>>,
}

/// Something that came with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAttachment {
    /// Its type, in the sender's word.
    pub r#type: Arc<str>,
    /// Where it is, if that was said.
    pub url: Option<Arc<str>>,
}

/// What sort of message it is: that of its first attachment, or text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the words of the wire format")]
pub enum MessageType {
    Text,
    Image,
    Video,
    Audio,
    File,
    Share,
    StoryMention,
}

impl MessageType {
    /// The type of a message whose first attachment has type `attachment`. Reels, posts and
    /// whatever else is shown by a link count as shared.
    #[must_use]
    pub fn from_attachment(attachment: Option<&str>) -> Self {
        match attachment {
            None => Self::Text,
            Some("image") => Self::Image,
            Some("video") => Self::Video,
            Some("audio") => Self::Audio,
            Some("file") => Self::File,
            Some("story_mention") => Self::StoryMention,
            Some(_) => Self::Share,
        }
    }
}
