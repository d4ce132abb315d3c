//! Subscriptions: who wants which events, in which form, and signed how.
//!
//! They are definitions, true in themselves and not derived from any event. All of them are in
//! memory as well, since every event asks who wants it.

mod codec;
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
mod vocabulary;

#[cfg(test)]
pub(crate) use definition::sample_subscription;
pub use definition::{
    DeliveryOrdering, SharedSubscription, SigningStyle, Subscription, SubscriptionId,
    SubscriptionState,
};
pub use expression::{CompileError, FilterExpression, TransformExpression};
pub use index::PatternIndex;
pub use interest::{InterestMatch, SubscriberInterest};
pub use pattern::Pattern;
pub use registry::{
    SubscriptionChangeError, SubscriptionEntry, SubscriptionOpenError, SubscriptionRegistry,
    SubscriptionSnapshot,
};
pub use secrets::SigningSecrets;
pub use vocabulary::EventVocabulary;
