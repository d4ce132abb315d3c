//! List of all webhooks, a page at a time, with a filter.

use std::cmp::Reverse;
use std::sync::Arc;

use maud::{Markup, html};

use super::super::elements::{empty_state, number, optional_time, pager, stopped_lanes, time};
use super::super::filter_form::FilterForm;
use super::super::form::FormFields;
use super::super::layout::{DashboardSection, PageContent, sentence};
use super::super::visit::{PageReply, PageVisit};
use super::state::{
    LIST_PATH, state_badges, state_name, success_rate, webhook_path, webhook_title,
};
use crate::edge::error::ApiError;
use crate::edge::webhooks::stats::SubscriptionStatsView;
use crate::subscriber::{DeliveryOverview, StatsError, SubscriberId, SubscriberStats};
use crate::subscription::{Subscription, SubscriptionEntry};
use crate::token::AccessOperation;

/// Event patterns of a webhook that the list shows.
const PATTERNS_SHOWN: usize = 3;

/// Value of the filter by state for webhooks that fail or have lanes to retry.
const FAILING: &str = "failing";

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
    let is_failing_only = state == FAILING;
    // Only then are the figures of webhooks needed that are not on the page.
    let overview = match is_by_backlog || is_failing_only {
        true => core.subscribers.overview().await.map(Some),
        false => Ok(None),
    };
    let figures = overview
        .as_ref()
        .ok()
        .and_then(|overview| overview.as_deref());
    let matches = |entry: &&Arc<SubscriptionEntry>| {
        let subscription = &entry.subscription;
        let has_state = match is_failing_only {
            true => {
                stats_of(entry, figures).is_some_and(|stats| stats.is_active && stats.is_failing())
            }
            false => state.is_empty() || state == state_name(&subscription.state),
        };
        has_state && (text.is_empty() || mentions(subscription, &text))
    };
    let mut found: Vec<_> = known.newest_first().filter(matches).collect();
    if is_by_backlog {
        let backlog = |entry: &_| stats_of(entry, figures).map_or(0, SubscriberStats::backlog);
        found.sort_by_cached_key(|entry| Reverse(backlog(entry)));
    }

    let selected: Vec<_> = page.select(&found).collect();
    let ids: Vec<_> = selected.iter().map(|entry| entry.subscription.id).collect();
    let shown = SubscriptionStatsView::load_all(&ids, &core).await;
    let silence = overview.as_ref().err().or(shown.as_ref().err()).copied();
    let rows: Vec<_> = selected
        .iter()
        .map(|entry| {
            let stats = shown.as_ref().ok();
            let stats = stats.and_then(|stats| stats.get(&entry.subscription.id));
            render_row(&entry.subscription, stats, visit)
        })
        .collect();

    let total = found.len() as u64;
    let body = html! {
        div.panel id="webhooks" {
            (render_filter(&query))
            div id="webhook-rows" data-live {
                @if let Some(silence) = silence { (render_silence(silence)) }
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

/// Returns the figures of a webhook; `None` if the delivery stage does not know it, or not answer.
fn stats_of<'a>(
    entry: &SubscriptionEntry,
    overview: Option<&'a DeliveryOverview>,
) -> Option<&'a SubscriberStats> {
    let subscriber = SubscriberId::Webhook(entry.subscription.id);
    overview?.subscribers.get(&subscriber)
}

/// Renders the reason for which the figures are missing.
fn render_silence(silence: StatsError) -> Markup {
    html! {
        div.notice.bad role="status" {
            (sentence(&silence.to_string()))
            " The figures are missing, and so are the order by backlog and the filter by failures."
        }
    }
}

/// Returns true if the title or the description has `text`, which is in lower case.
fn mentions(subscription: &Subscription, text: &str) -> bool {
    let description = subscription.description.as_deref().unwrap_or_default();
    let title = webhook_title(subscription).to_lowercase();
    title.contains(text) || description.to_lowercase().contains(text)
}

fn render_filter(query: &FormFields) -> Markup {
    FilterForm::new(LIST_PATH, query)
        .text("text", "Number, URL or description")
        .choice(
            "state",
            "State",
            [
                ("", "All"),
                ("active", "Active"),
                (FAILING, "Failing or retrying"),
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
    stats: Option<&SubscriptionStatsView>,
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
            @match stats {
                Some(stats) => { (render_figures(subscription, stats, visit)) }
                None => {
                    @for label in ["Success", "Backlog", "Dead letters", "Last success"] {
                        td.num data-label=(label) { "?" }
                    }
                }
            }
        }
    }
}

fn render_figures(
    subscription: &Subscription,
    stats: &SubscriptionStatsView,
    visit: &PageVisit<'_>,
) -> Markup {
    html! {
        td.num data-label="Success" { (success_rate(stats)) }
        td.num data-label="Backlog" {
            span {
                (number(stats.backlog()))
                @if stats.stopped_lanes > 0 {
                    span.sub { (stopped_lanes(stats.stopped_lanes)) }
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
