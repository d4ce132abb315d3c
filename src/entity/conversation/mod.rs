//! Conversation of an Instagram business account with one counterpart: its newest messages,
//! reactions and read receipts.

mod action;
mod apply;
mod change;
mod decide;
mod incoming;
#[cfg(test)]
mod property_tests;
mod reply;
mod state;

pub use action::{
    AutomaticReply, ConversationAction, ConversationParties, ConversationUpdate, MessageAttachment,
    MessageType, ReactionLabel,
};
pub use change::{ConversationChange, summary};
pub use decide::decide;
pub use incoming::{IncomingMessage, RECEIVED_EVENT};
pub use reply::{ConversationReply, REPLY_EVENT, SOURCE};
pub use state::ConversationState;
