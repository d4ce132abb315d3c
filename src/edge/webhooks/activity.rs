//! The state that a subscription is in: whether events are delivered, and how that is paused and resumed.

use crate::event::Position;
use crate::subscription::{State, Subscription};

pub(super) fn is_active(subscription: &Subscription) -> bool {
    subscription.state == State::Active
}

/// Keeps what is owed from now on. One that is disabled owes nothing and stays so.
pub(super) fn pause(subscription: &mut Subscription) {
    match subscription.state {
        State::Active => subscription.state = State::Paused { reason: None },
        State::Paused { .. } | State::Disabled { .. } => {}
    }
}

/// Delivers again: what was owed, or to one that was disabled what comes from `from` on.
pub(super) fn resume(subscription: &mut Subscription, from: Position) {
    match subscription.state {
        State::Active => return,
        State::Paused { .. } => {}
        State::Disabled { .. } => subscription.from = from,
    }
    subscription.state = State::Active;
}
