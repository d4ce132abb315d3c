//! Definitions of subscriptions: receiver, events, filter, form and signature of deliveries.
//!
//! A subscription is not derived from events, so subscriptions have a tree of their own in the
//! store. All subscriptions are in memory as well, because every record is matched against them.

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
    CreationRequest, DeliveryMode, DeliveryOrdering, SharedSubscription, SigningStyle,
    Subscription, SubscriptionId, SubscriptionState,
};
pub use event_names::EventNamePattern;
pub use expression::{CompileError, FilterExpression, TransformExpression};
pub use index::PatternIndex;
pub use interest::{InterestMatch, SubscriberInterest};
pub use pattern::Pattern;
pub use registry::{
    SubscriptionChangeError, SubscriptionEntry, SubscriptionRegistry, SubscriptionSnapshot,
};
pub use secrets::SigningSecrets;
pub use vocabulary::EventVocabulary;
