//! A support ticket: its state, what it decides and how a decision changes it.

mod action;
mod apply;
mod author;
mod change;
mod decide;
mod kept;
#[cfg(test)]
mod properties;
mod state;
mod summary;
#[cfg(test)]
mod tests;

pub use action::{Action, EVENTS, PRIORITIES, STATUSES};
pub use change::Change;
pub use decide::decide;
pub use state::State;
pub use summary::summary;
