//! A conversation of a business account with one counterpart: its newest messages and what became of them.

mod action;
mod apply;
mod change;
mod decide;
#[cfg(test)]
mod properties;
mod state;

pub use action::{Action, Attachment, Automatic, Between, Emotion, MessageType, Update};
pub use change::{Change, summary};
pub use decide::decide;
pub use state::State;

/// The event that a message to the counterpart was asked for.
pub const REPLY: &str = "message.reply";
