//! Subscriptions: who wants which events, in which form, and signed how.
//!
//! They are definitions, true in themselves and not derived from any event. All of them are in memory as well, since every
//! event asks who wants it.

mod definition;
pub mod envelope;
mod event_names;
pub mod expression;
mod index;
mod interest;
pub mod limits;
pub mod pattern;
mod registry;
pub mod secrets;
mod stored;
mod vocabulary;

#[cfg(test)]
pub(crate) use definition::sample;
pub use definition::{Id, Ordering, Shared, State, Style, Subscription};
pub use expression::{CompileError, Filter, Transform};
pub use index::Index;
pub use interest::{Interest, Judgement};
pub use pattern::Pattern;
pub use registry::{Entry, Known, OpenError, Refused, Subscriptions};
pub use secrets::Secrets;
pub use vocabulary::Vocabulary;
