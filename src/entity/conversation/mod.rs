//! A conversation of a business account with one counterpart: its newest messages and what became of them.

mod action;
mod apply;
mod change;
mod decide;
mod incoming;
#[cfg(test)]
mod properties;
mod reply;
mod state;

pub use action::{Action, Attachment, Automatic, Between, Emotion, MessageType, Update};
pub use change::{Change, summary};
pub use decide::decide;
pub use incoming::{Incoming, RECEIVED};
pub use reply::{REPLY, Reply, SOURCE};
pub use state::State;
