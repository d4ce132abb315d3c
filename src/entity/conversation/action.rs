//! Updates of an Instagram conversation, decoded.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{EntityKey, InvalidId, Kind, Timestamp};

/// Stands in a conversation's id for an unknown counterpart.
const UNKNOWN_COUNTERPART: &str = "0";

/// Input of a decision on a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationAction {
    /// Two sides of the conversation.
    pub between: ConversationParties,
    /// Update that happened in the conversation.
    pub update: ConversationUpdate,
}

/// Business account and counterpart of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationParties {
    /// Instagram's id of the business account.
    pub business: Arc<str>,
    /// Instagram's id of the person; `None` for an update that belongs to no single person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counterpart: Option<Arc<str>>,
}

impl ConversationParties {
    /// Key of the conversation: `conv_<counterpart>_<business account>`.
    ///
    /// # Errors
    /// [`InvalidId`] when the two ids are too long together, or hold control characters.
    pub fn entity_key(&self) -> Result<EntityKey, InvalidId> {
        let counterpart = self.counterpart.as_deref().unwrap_or(UNKNOWN_COUNTERPART);
        EntityKey::try_new(
            Kind::Conversation,
            &format!("conv_{counterpart}_{}", self.business),
        )
    }
}

/// Kind of update, with its content.
#[derive(Clone, Debug, PartialEq)]
pub enum ConversationUpdate {
    /// Message from either side of the conversation.
    Message {
        /// Instagram's id of the message.
        message_id: String,
        /// Instagram's id of the sender.
        sender_id: String,
        /// Text of the message; `None` for a mere attachment.
        text: Option<String>,
        /// Type of the message, from its first attachment.
        message_type: MessageType,
        /// Attachments in the order of the message.
        attachments: Vec<MessageAttachment>,
        /// True if the business account wrote the message.
        is_echo: bool,
    },
    /// Deletion of a message by its sender.
    Deleted {
        /// Instagram's id of the message.
        message_id: String,
    },
    /// Reaction to a message, or its withdrawal.
    Reaction {
        /// Instagram's id of the message.
        message_id: String,
        /// Instagram's id of the reacting person.
        sender_id: String,
        /// New reaction; `None` for a withdrawal.
        reaction: Option<ReactionLabel>,
    },
    /// Read receipt of the counterpart.
    Read {
        /// Last message read, if the update names it.
        message_id: Option<String>,
        /// Time up to which everything is read; the event time if absent.
        until: Option<Timestamp>,
    },
    /// Request for a message to the counterpart. The state shows the message only when its echo
    /// arrives, that is, after it was sent.
    Reply {
        /// Trigger of an automatic reply; `None` if a client of the API asked for the message.
        automatic: Option<AutomaticReply>,
    },
    /// Update without effect on the shown state, such as a pressed button.
    Other,
}

/// Message that triggers an automatic reply, and the pause between such replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutomaticReply {
    /// Instagram's id of the triggering message.
    pub message_id: Arc<str>,
    /// Minimum time between two automatic replies in one conversation.
    pub cooldown: Duration,
}

/// Reaction by name and picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactionLabel {
    /// Name of the reaction, such as `love`.
    pub reaction: Option<Arc<str>>,
    /// Picture of the reaction, such as a heart.
    pub emoji: Option<Arc<str>>,
}

/// Attachment of a message, by type and address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAttachment {
    /// Type in Instagram's vocabulary, such as `image`.
    pub r#type: Arc<str>,
    /// Address of the file, if the update has one.
    pub url: Option<Arc<str>>,
}

/// Message type: that of the first attachment, or text.
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
    /// Type of a message whose first attachment has type `attachment`. Reels, posts and every other
    /// linked content count as [`Self::Share`].
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
