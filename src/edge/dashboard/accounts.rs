//! Instagram accounts and where the messages of each go.

use std::collections::HashMap;
use std::sync::Arc;

use maud::{Markup, html};

use super::elements::{
    empty_state, number, pager, path_part, stopped_lanes, subscriber_link, time,
};
use super::layout::{DashboardSection, PageContent, sentence};
use super::overview::breaker_badge;
use super::visit::{PageReply, PageVisit};
use crate::account::Account;
use crate::edge::error::ApiError;
use crate::edge::gate::NodeCore;
use crate::subscriber::{StatsError, SubscriberId, SubscriberStats};
use crate::token::AccessOperation;

/// Path of the list, below which all other pages of accounts are.
pub(super) const LIST_PATH: &str = "/dashboard/accounts";

/// Path of the form of a new account.
pub(super) const NEW_PATH: &str = "/dashboard/accounts/new";

/// Returns the path of the form that changes the account `id`.
pub(super) fn edit_path(id: &str) -> String {
    format!("{LIST_PATH}/{}/edit", path_part(id))
}

/// Handles `GET /dashboard/accounts`: lists accounts, newest first.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let query = visit.query();
    let mut parameters = visit.parameters(&["page", "page_size"]);
    let page = parameters.page_request();
    let page = parameters.finish(page)?;
    let core = visit.core()?;

    let known = core.accounts.snapshot();
    let accounts = known.newest_first();
    let selected: Vec<_> = page.select(&accounts).copied().collect();
    let known_stats = core.subscribers.stats_of(subscribers_of(&selected)).await;
    let rows: Vec<_> = selected
        .iter()
        .map(|account| render_row(account, &known_stats, &core, visit))
        .collect();
    let total = accounts.len() as u64;
    let body = html! {
        @if rows.is_empty() {
            (render_empty(visit))
        } @else {
            div.panel id="accounts" data-live {
                @if let Err(silence) = &known_stats {
                    div.notice.bad role="status" {
                        (sentence(&silence.to_string())) " The figures are missing."
                    }
                }
                @if let Some(stats) = automatic_replies(&known_stats) {
                    div.inside {
                        p { (subscriber_link(&SubscriberId::AutoReply)) ": " (render_deliveries(stats)) }
                    }
                }
                (render_table(&rows)) (pager(LIST_PATH, &query, page, total))
            }
        }
    };
    let may_create =
        visit.may(AccessOperation::AccountsCreate) && visit.edge().config.sources.instagram.enabled;
    let new = html! { @if may_create { a.button.primary href=(NEW_PATH) { "New account" } } };
    let lead = html! {
        "Business accounts of Instagram. An account says where its messages go. "
        a href="/docs/guide/receive#instagram" { "Guide" }
    };
    Ok(
        PageContent::new(DashboardSection::Accounts, "Accounts", body)
            .lead(lead)
            .actions(new)
            .refreshed_every(10)
            .into(),
    )
}

fn render_empty(visit: &PageVisit<'_>) -> Markup {
    if !visit.edge().config.sources.instagram.enabled {
        return empty_state(
            "Instagram is not enabled.",
            html! {
                "Set "
                code { "sources.instagram.enabled = true" }
                " and its secrets to receive messages."
            },
        );
    }
    empty_state(
        "No account yet.",
        html! {
            "Messages are kept, but nobody gets them. Create an account here, or by "
            code { "POST /api/v1/accounts" } "."

        },
    )
}

/// Figures of the subscribers of some accounts, or the reason for which there are none.
type KnownStats = Result<HashMap<SubscriberId, SubscriberStats>, StatsError>;

/// Subscribers of `accounts`, and that of the automatic replies of all.
fn subscribers_of(accounts: &[&Arc<Account>]) -> Vec<SubscriberId> {
    let ids = accounts.iter().map(|account| account.id.as_str());
    let of_accounts = ids.flat_map(|id| {
        [
            SubscriberId::Forward(id.into()),
            SubscriberId::Replies(id.into()),
        ]
    });
    of_accounts.chain([SubscriberId::AutoReply]).collect()
}

fn automatic_replies(known: &KnownStats) -> Option<&SubscriberStats> {
    let stats = known.as_ref().ok()?.get(&SubscriberId::AutoReply)?;
    (stats.backlog() > 0 || stats.is_failing()).then_some(stats)
}

/// Renders the circuit breaker of a subscriber without a page of its own, and what waits for it.
fn render_deliveries(stats: &SubscriberStats) -> Markup {
    html! {
        (breaker_badge(stats.breaker)) " "
        (number(stats.backlog())) " waiting"
        @if stats.stopped_lanes > 0 {
            ", " (stopped_lanes(stats.stopped_lanes))
        }
    }
}

fn render_table(rows: &[Markup]) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Account" }
                th scope="col" { "Messages go to" }
                th scope="col" { "Automatic reply" }
                th scope="col" { "Access token" }
                th scope="col" { "Deliveries" }
                th.num scope="col" { "Delivered" }
                th.num scope="col" { "Dead letters" }
                th scope="col" { "Created" }
            } }
            tbody { @for row in rows { (row) } }
        }
    }
}

fn render_row(
    account: &Account,
    known_stats: &KnownStats,
    core: &NodeCore,
    visit: &PageVisit<'_>,
) -> Markup {
    let defaults = &visit.edge().config.sources.instagram;
    let subscriber = SubscriberId::Forward(account.id.as_str().into());
    let replies = SubscriberId::Replies(account.id.as_str().into());
    let of = |subscriber: &SubscriberId| known_stats.as_ref().ok()?.get(subscriber);
    let letters = core.subscribers.dead_letters().count(&subscriber);
    let url = account
        .crm_webhook_url
        .as_ref()
        .or(defaults.crm_webhook_url.as_ref());
    let reply = account.auto_reply.as_ref().unwrap_or(&defaults.auto_reply);
    let has_token = account.access_token.is_some() || defaults.access_token.is_some();
    let filter = super::form::FormFields::default().with("subscriber", &subscriber.to_string());
    html! {
        tr {
            td.first {
                @if visit.may(AccessOperation::AccountsChange) {
                    a.strong-link href=(edit_path(&account.id)) { (account.id) }
                } @else { strong { (account.id) } }
                span.sub { "Instagram " (account.instagram_account_id) }
            }
            td data-label="Messages go to" {
                @match url { Some(url) => (url), None => span.muted { "nowhere" } }
            }
            td data-label="Automatic reply" {
                @if reply.text.is_empty() { span.muted { "none" } } @else { (reply.text) }
            }
            td data-label="Access token" {
                @if has_token { "set" } @else { span.muted { "missing, so no replies" } }
            }
            td data-label="Deliveries" {
                @match (of(&subscriber), of(&replies)) {
                    (None, None) => "?",
                    (messages, sent) => {
                        @for (name, stats) in [("messages", messages), ("replies", sent)] {
                            @if let Some(stats) = stats {
                                span.sub { (name) ": " (render_deliveries(stats)) }
                            }
                        }
                    }
                }
            }
            td.num data-label="Delivered" {
                @match of(&subscriber) { Some(stats) => (number(stats.delivered)), None => "?" }
            }
            td.num data-label="Dead letters" {
                @if letters == 0 { "0" }
                @else {
                    a href={ "/dashboard/dead-letters?" (filter.to_query()) } { (number(letters)) }
                }
            }
            td data-label="Created" { (time(account.created_at, visit.now)) }
        }
    }
}
