//! The state that a subscription is in: whether events are delivered, and how that is paused and
//! resumed.

use crate::event::Position;
use crate::subscription::{Subscription, SubscriptionState};

pub(super) fn is_active(subscription: &Subscription) -> bool {
    subscription.state == SubscriptionState::Active
}

/// Keeps what is owed from now on. One that is disabled owes nothing and stays so.
pub(super) fn pause(subscription: &mut Subscription) {
    match subscription.state {
        SubscriptionState::Active => {
            subscription.state = SubscriptionState::Paused { reason: None }
        }
        SubscriptionState::Paused { .. } | SubscriptionState::Disabled { .. } => {}
    }
}

/// Delivers again: what was owed, or to one that was disabled what comes from `from` on.
pub(super) fn resume(subscription: &mut Subscription, from: Position) {
    match subscription.state {
        SubscriptionState::Active => return,
        SubscriptionState::Paused { .. } => {}
        SubscriptionState::Disabled { .. } => subscription.from = from,
    }
    subscription.state = SubscriptionState::Active;
}
