//! Transitions of a subscription between active, paused and disabled.

use crate::event::Position;
use crate::subscription::{Subscription, SubscriptionState};

pub(super) fn is_active(subscription: &Subscription) -> bool {
    subscription.state == SubscriptionState::Active
}

/// Pauses deliveries; events are kept from now on. A disabled subscription stays disabled.
pub(super) fn pause_subscription(subscription: &mut Subscription) {
    match subscription.state {
        SubscriptionState::Active => {
            subscription.state = SubscriptionState::Paused { reason: None }
        }
        SubscriptionState::Paused { .. } | SubscriptionState::Disabled { .. } => {}
    }
}

/// Resumes deliveries: a paused subscription with the events kept for it, a disabled subscription
/// with the events from `from` on.
pub(super) fn resume_subscription(subscription: &mut Subscription, from: Position) {
    match subscription.state {
        SubscriptionState::Active => return,
        SubscriptionState::Paused { .. } => {}
        SubscriptionState::Disabled { .. } => subscription.from = from,
    }
    subscription.state = SubscriptionState::Active;
}
