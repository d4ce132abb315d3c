//! Support ticket: its events, its state, and the rules between them.

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

pub use action::{EVENT_NAMES, PRIORITIES, STATUSES, TicketAction};
pub use change::TicketChange;
pub use decide::decide;
pub use state::TicketState;
pub use summary::summary;
