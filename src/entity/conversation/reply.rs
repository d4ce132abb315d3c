//! Message to the counterpart that this node is to send: its payload in the record, and its
//! command.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::action::{AutomaticReply, ConversationAction, ConversationParties, ConversationUpdate};
use crate::entity::{self, Command};
use crate::event::{InternedName, InvalidId, PayloadShape};

/// Source name of Instagram's events, in records and logs.
pub const SOURCE: InternedName = InternedName::from_static("instagram");

/// Event type of a message that this node is to send.
pub const REPLY_EVENT: &str = "message.reply";

/// Payload of a reply's record. A member that is added later needs a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationReply {
    /// Configured account that sends the message.
    pub account_id: String,
    /// Instagram's id of the recipient.
    pub recipient_id: String,
    /// Text of the message, UTF-8.
    pub text: String,
    /// True for an automatic reply, false for a message that a client of the API asked for.
    pub is_automatic: bool,
}

impl ConversationReply {
    /// Reads the payload of a record; `None` if it is not that of a reply.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    /// Builds the command that records the reply in the conversation of `business` with the
    /// recipient. An automatic reply names the message that triggers it.
    ///
    /// # Errors
    /// [`InvalidId`] when no conversation can have the recipient's id.
    pub fn to_command(
        &self,
        business: &str,
        automatic: Option<AutomaticReply>,
    ) -> Result<Command, InvalidId> {
        let between = ConversationParties {
            business: business.into(),
            counterpart: Some(self.recipient_id.as_str().into()),
        };
        let entity = between.entity_key()?;
        let action = entity::EntityAction::Conversation(ConversationAction {
            between,
            update: ConversationUpdate::Reply { automatic },
        });
        let payload = serde_json::to_vec(self).expect("its members have JSON texts");

        Ok(Command {
            shape: PayloadShape::Bare,
            ..Command::new(SOURCE, entity, action, REPLY_EVENT, Bytes::from(payload))
        })
    }
}
