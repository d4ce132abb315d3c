//! State and success of a webhook, as words and colours, and the paths of its pages.

use maud::{Markup, html};

use super::super::elements::{StateTone, badge};
use crate::edge::webhooks::stats::SubscriptionStatsView;
use crate::subscription::{DeliveryMode, Subscription, SubscriptionId, SubscriptionState};

/// Path of the list, below which all other pages of webhooks are.
pub(super) const LIST_PATH: &str = "/dashboard/settings/webhooks";

/// Name of a webhook in lists and on its pages: its number, by which other pages name it, and its URL
/// if it has one.
pub(super) fn webhook_title(subscription: &Subscription) -> String {
    match subscription.delivery {
        DeliveryMode::Push => format!("Webhook {}: {}", subscription.id, subscription.url),
        DeliveryMode::Pull => format!("Webhook {}, read by its subscriber", subscription.id),
    }
}

/// Returns the path of the page of the webhook `id`.
pub(super) fn webhook_path(id: SubscriptionId) -> String {
    format!("{LIST_PATH}/{id}")
}

/// Name of the state, as the filter of the list has it.
pub(super) const fn state_name(state: &SubscriptionState) -> &'static str {
    match state {
        SubscriptionState::Active => "active",
        SubscriptionState::Paused { .. } => "paused",
        SubscriptionState::Disabled { .. } => "disabled",
    }
}

/// Renders the state of a webhook, and beside it that of its circuit breaker unless it is closed.
pub(super) fn state_badges(
    state: &SubscriptionState,
    stats: Option<&SubscriptionStatsView>,
) -> Markup {
    let tone = match state {
        SubscriptionState::Active => StateTone::Good,
        SubscriptionState::Paused { .. } => StateTone::Warning,
        SubscriptionState::Disabled { .. } => StateTone::Bad,
    };
    html! {
        (badge(tone, state_name(state)))
        @match stats.map(|stats| stats.breaker) {
            None => { " " (badge(StateTone::Bad, "no figures")) }
            Some("open") => { " " (badge(StateTone::Bad, "breaker open")) }
            Some("half_open") => { " " (badge(StateTone::Warning, "breaker half-open")) }
            Some(_) => {}
        }
    }
}

/// Writes the share of attempts that were accepted; a dash without an attempt.
pub(super) fn success_rate(stats: &SubscriptionStatsView) -> String {
    let attempts = stats.delivered + stats.failed_attempts;
    match attempts {
        0 => "–".to_owned(),
        // Rounded down, so that 100 % means that no attempt failed.
        attempts => {
            let permille = u128::from(stats.delivered) * 1_000 / u128::from(attempts);
            format!("{}.{} %", permille / 10, permille % 10)
        }
    }
}
