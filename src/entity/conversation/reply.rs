//! A message to the counterpart that was asked for here, as its record holds it and as its command
//! asks for it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::action::{AutomaticReply, ConversationAction, ConversationParties, ConversationUpdate};
use crate::entity::{self, Command};
use crate::event::{InternedName, InvalidId, PayloadShape};

/// The name of Instagram's source, in records and logs.
pub const SOURCE: InternedName = InternedName::from_static("instagram");

/// The event that a message to the counterpart was asked for.
pub const REPLY_EVENT: &str = "message.reply";

/// What the record of a reply says. Members that are added later need a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The account that it is sent for.
    pub account_id: String,
    /// Whom it is sent to.
    pub recipient_id: String,
    /// What it says.
    pub text: String,
    /// Whether nobody asked for it.
    pub is_automatic: bool,
}

impl Reply {
    /// Reads the payload of a record; `None` if it is none of a reply.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    /// Asks the conversation of `business` with its recipient for it; for an automatic one it is
    /// said what it answers.
    ///
    /// # Errors
    /// [`InvalidId`] when the recipient's id is none that a conversation can have.
    pub fn to_command(
        &self,
        business: &str,
        automatic: Option<AutomaticReply>,
    ) -> Result<Command, InvalidId> {
        let between = ConversationParties {
            business: business.into(),
            counterpart: Some(self.recipient_id.as_str().into()),
        };
        let entity = between.key()?;
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
