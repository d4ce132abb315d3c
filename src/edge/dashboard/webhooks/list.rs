//! List of all webhooks, a page at a time, with a filter.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use maud::{Markup, html};

use super::super::elements::{counted, empty_state, number, optional_time, pager, time};
use super::super::filter_form::FilterForm;
use super::super::form::FormFields;
use super::super::layout::{DashboardSection, PageContent};
use super::super::visit::{PageReply, PageVisit};
use super::state::{
    LIST_PATH, state_badges, state_name, success_rate, webhook_path, webhook_title,
};
use crate::edge::error::ApiError;
use crate::edge::gate::NodeCore;
use crate::edge::webhooks::stats::SubscriptionStatsView;
use crate::subscriber::SubscriberId;
use crate::subscription::{Subscription, SubscriptionEntry};
use crate::token::AccessOperation;

/// Event patterns of a webhook that the list shows.
const PATTERNS_SHOWN: usize = 3;

/// Orders of the list, by their names in the query: true for the largest backlog first.
const ORDERS: [(&str, bool); 1] = [("backlog", true)];

/// Handles `GET /dashboard/settings/webhooks`: lists webhooks, the newest or the largest backlog
/// first.
pub(in crate::edge::dashboard) async fn show(
    visit: &mut PageVisit<'_>,
) -> Result<PageReply, ApiError> {
    let query = visit.query();
    let mut parameters = visit.parameters(&["state", "text", "order", "page", "page_size"]);
    let page = parameters.page_request();
    let is_by_backlog = parameters.one_of("order", &ORDERS).unwrap_or_default();
    let (is_by_backlog, page) = parameters.finish((is_by_backlog, page))?;
    let core = visit.core()?;

    let known = core.subscriptions.snapshot();
    let (state, text) = (query.text("state"), query.text("text").to_lowercase());
    let matches = |entry: &&Arc<SubscriptionEntry>| {
        let subscription = &entry.subscription;
        (state.is_empty() || state == state_name(&subscription.state))
            && (text.is_empty() || mentions(subscription, &text))
    };
    let mut found: Vec<_> = known.newest_first().filter(matches).collect();
    if is_by_backlog {
        sort_by_backlog(&mut found, &core).await;
    }
    let mut rows = Vec::new();
    for entry in page.select(&found) {
        let stats = SubscriptionStatsView::load(entry.subscription.id, &core, visit.now).await;
        rows.push(render_row(&entry.subscription, &stats, visit));
    }

    let total = found.len() as u64;
    let body = html! {
        div.panel id="webhooks" {
            (render_filter(&query))
            div id="webhook-rows" data-live {
                @if rows.is_empty() { (render_empty(known.is_empty())) }
                @else { (render_table(&rows)) }
                (pager(LIST_PATH, &query, page, total))
            }
        }
    };
    let may_create = visit.may(AccessOperation::WebhooksCreate);
    let new =
        html! { @if may_create { a.button.primary href={ (LIST_PATH) "/new" } { "New webhook" } } };
    let lead = html! {
        "Each webhook sends the events that it follows to one address, signed, and in order for \
         each entity."
    };
    Ok(
        PageContent::new(DashboardSection::Webhooks, "Webhooks", body)
            .lead(lead)
            .actions(new)
            .refreshed_every(10)
            .into(),
    )
}

/// Moves those with a backlog to the front, the largest first.
async fn sort_by_backlog(found: &mut [&Arc<SubscriptionEntry>], core: &NodeCore) {
    let overview = core.subscribers.overview(usize::MAX).await;
    let backlogs: HashMap<_, _> = overview
        .unwrap_or_default()
        .largest_backlogs
        .into_iter()
        .collect();
    found.sort_by_cached_key(|entry| {
        let subscriber = SubscriberId::Webhook(entry.subscription.id);
        Reverse(backlogs.get(&subscriber).copied().unwrap_or_default())
    });
}

/// Returns true if the URL or the description has `text`, which is in lower case.
fn mentions(subscription: &Subscription, text: &str) -> bool {
    let description = subscription.description.as_deref().unwrap_or_default();
    subscription.url.to_lowercase().contains(text) || description.to_lowercase().contains(text)
}

fn render_filter(query: &FormFields) -> Markup {
    FilterForm::new(LIST_PATH, query)
        .text("text", "URL or description")
        .choice(
            "state",
            "State",
            [
                ("", "All"),
                ("active", "Active"),
                ("paused", "Paused"),
                ("disabled", "Disabled"),
            ],
        )
        .choice(
            "order",
            "Order",
            [("", "Newest first"), ("backlog", "Largest backlog first")],
        )
        .render()
}

fn render_empty(is_first: bool) -> Markup {
    if is_first {
        empty_state(
            "No webhook yet.",
            html! {
                "Create one to send events to an address of yours. You choose the events, and get a secret \
                 to verify the deliveries with. " a href={ (LIST_PATH) "/new" } { "Create a webhook" } "."
            },
        )
    } else {
        empty_state(
            "No webhook matches the filter.",
            html! { a href=(LIST_PATH) { "Show all webhooks" } "." },
        )
    }
}

fn render_table(rows: &[Markup]) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Webhook" }
                th scope="col" { "Events" }
                th scope="col" { "State" }
                th.num scope="col" { "Success" }
                th.num scope="col" { "Backlog" }
                th.num scope="col" { "Dead letters" }
                th scope="col" { "Last success" }
            } }
            tbody { @for row in rows { (row) } }
        }
    }
}

fn render_row(
    subscription: &Subscription,
    stats: &SubscriptionStatsView,
    visit: &PageVisit<'_>,
) -> Markup {
    let patterns = &subscription.events;
    html! {
        tr {
            td.first {
                a.strong-link href=(webhook_path(subscription.id)) { (webhook_title(subscription)) }
                @if let Some(description) = &subscription.description { span.sub { (description) } }
            }
            td data-label="Events" {
                span.tags {
                    @for pattern in patterns.iter().take(PATTERNS_SHOWN) {
                        span.tag { (pattern.as_str()) }
                    }
                    @if patterns.len() > PATTERNS_SHOWN {
                        span.muted.small { "and " (patterns.len() - PATTERNS_SHOWN) " more" }
                    }
                }
            }
            td data-label="State" { span { (state_badges(&subscription.state, stats)) } }
            td.num data-label="Success" { (success_rate(stats)) }
            td.num data-label="Backlog" {
                span {
                    (number(stats.backlog()))
                    @if stats.stopped_lanes > 0 {
                        span.sub {
                            (counted(stats.stopped_lanes as u64, "lane", "lanes")) " to retry"
                        }
                    }
                    @if let Some(oldest) = stats.oldest_owed_at {
                        span.sub { "oldest " (time(oldest, visit.now)) }
                    }
                }
            }
            td.num data-label="Dead letters" {
                @if stats.dead_letters == 0 { "0" } @else {
                    a href={ "/dashboard/dead-letters?webhook_id=" (subscription.id) } {
                        (number(stats.dead_letters))
                    }
                }
            }
            td data-label="Last success" { (optional_time(stats.last_success_at, visit.now)) }
        }
    }
}
