//! A support ticket: its state, what it decides and how a decision changes it.

mod action;
mod apply;
mod author;
mod bounded_items;
mod change;
mod decide;
#[cfg(test)]
mod property_tests;
mod state;
mod summary;
#[cfg(test)]
mod tests;

pub use action::{EVENTS, PRIORITIES, STATUSES, TicketAction};
pub use change::TicketChange;
pub use decide::decide;
pub use state::TicketState;
pub use summary::summary;
