//! Call log: the calls of senders and the deliveries, and one call with its headers and answer.

use maud::{Markup, html};

use super::elements::{
    bytes, duration, empty_state, event_link, json_block, pager, status_badge, time,
};
use super::filter_form::FilterForm;
use super::form::FormFields;
use super::layout::{DashboardSection, PageContent};
use super::visit::{PageReply, PageVisit};
use crate::call_log::{CallDirection, CallRow};
use crate::edge::error::ApiError;
use crate::edge::reads::logs::{PARAMETERS, find_call, list_calls, parse_log_filter};

const LIST_PATH: &str = "/dashboard/calls";

/// Events of one call that its page names.
const EVENTS_SHOWN: usize = 20;

/// Handles `GET /dashboard/calls`: lists calls, newest first.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    match list(visit).await {
        Err(error) if !error.field_errors().is_empty() => {
            let query = visit.query();
            let place = (DashboardSection::CallLog, "Call log");
            Ok(filter_form(&query).refuse(visit, place, &error))
        }
        reply => reply,
    }
}

async fn list(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let query = visit.query();
    let (filter, page) = parse_log_filter(visit.parameters(&PARAMETERS))?;
    let found = list_calls(&*visit.core()?, filter, page).await?;
    let body = html! {
        div.panel {
            (filter_form(&query).render())
            div id="call-rows" data-live {
                @if found.items.is_empty() {
                    (empty_state("No call here.", html! {
                        "Every call of a sender and every delivery is listed, refused ones too. \
                         See how to "
                        a href="/dashboard/sources" { "send events" } "."
                    }))
                } @else { (render_calls(&found.items, visit)) }
                (pager(LIST_PATH, &query, page, found.total))
            }
        }
    };
    let lead = html! {
        "Every HTTP call in and out, the newest first. Secrets and signatures are masked."
    };
    Ok(
        PageContent::new(DashboardSection::CallLog, "Call log", body)
            .lead(lead)
            .refreshed_every(5)
            .into(),
    )
}

/// Handles `GET /dashboard/calls/{log_id}`: shows one call.
pub(super) async fn show_one(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let id: String = visit.path()?;
    let (row, is_erased) = find_call(&*visit.core()?, &id).await?;
    let body = html! {
        section.panel {
            header { h2 { "Call" } } div.inside { (render_facts(&row, is_erased, visit)) }
        }
        @if !row.headers.is_empty() {
            section.panel {
                header { h2 { "Headers" } }
                div.inside {
                    dl.facts {
                        @for (name, value) in &row.headers {
                            dt { code { (name) } } dd { code { (value) } }
                        }
                    }
                }
            }
        }
        @if let Some(answer) = &row.answer {
            section.panel {
                header { h2 { "Answer" } }
                div.inside { (json_block(&String::from_utf8_lossy(answer))) }
            }
        }
    };
    Ok(
        PageContent::new(DashboardSection::CallLog, format!("Call {id}"), body)
            .under("Call log", LIST_PATH)
            .into(),
    )
}

fn filter_form(query: &FormFields) -> FilterForm<'_> {
    FilterForm::new(LIST_PATH, query)
        .choice(
            "direction",
            "Direction",
            [
                ("", "Both"),
                ("incoming", "Calls of senders"),
                ("outgoing", "Deliveries"),
            ],
        )
        .choice(
            "is_successful",
            "Outcome",
            [
                ("", "All"),
                ("true", "Successful"),
                ("false", "Refused or failed"),
            ],
        )
}

/// Renders a table of `calls`.
pub(super) fn render_calls(calls: &[CallRow], visit: &PageVisit<'_>) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "Call" }
                th scope="col" { "From or to" }
                th scope="col" { "Answer" }
                th.num scope="col" { "Took" }
                th scope="col" { "At" }
            } }
            tbody {
                @for row in calls {
                    tr {
                        td.first {
                            a.strong-link href={ (LIST_PATH) "/" (row.id) } {
                                (row.method) " " (row.path)
                            }
                            @if let Some(id) = row.event_ids.first() {
                                span.sub {
                                    (event_link(id, row.event_type.as_deref().unwrap_or("event")))
                                    @if row.event_ids.len() > 1 {
                                        " and " (row.event_ids.len() - 1) " more"
                                    }
                                }
                            }
                            @if let Some(warning) = &row.warning { span.sub { (warning) } }
                        }
                        td data-label="From or to" {
                            span {
                                @match row.direction {
                                    CallDirection::Incoming => "from ",
                                    CallDirection::Outgoing => "to "
                                }
                                (row.source)
                                @if let Some(client) = row.client { span.sub { (client) } }
                            }
                        }
                        td data-label="Answer" {
                            span {
                                (status_badge(row.status, row.code.as_deref(), row.is_successful()))
                                @if let Some(code) = &row.code { span.sub { (code) } }
                            }
                        }
                        td.num data-label="Took" { (duration(row.duration)) }
                        td data-label="At" { (time(row.at, visit.now)) }
                    }
                }
            }
        }
    }
}

fn render_facts(row: &CallRow, is_erased: bool, visit: &PageVisit<'_>) -> Markup {
    html! {
        dl.facts {
            dt { "Answer" }
            dd {
                (status_badge(row.status, row.code.as_deref(), row.is_successful()))
                @if let Some(code) = &row.code { " " code { (code) } }
            }
            dt {
                @match row.direction {
                    CallDirection::Incoming => "From",
                    CallDirection::Outgoing => "To"
                }
            }
            dd { (row.source) @if let Some(client) = row.client { ", " (client) } }
            dt { "Path" }
            dd { @if is_erased { "erased" } @else { code { (row.method) " " (row.path) } } }
            dt { "At" } dd { (time(row.at, visit.now)) }
            dt { "Took" } dd { (duration(row.duration)) }
            @if let Some(size) = row.body_bytes { dt { "Body" } dd { (bytes(size)) } }
            @if let Some(attempt) = row.attempt { dt { "Attempt" } dd { (attempt) } }
            @if let Some(next) = row.next_attempt_at {
                dt { "Next attempt" } dd { (time(next, visit.now)) }
            }
            @if let Some(warning) = &row.warning { dt { "Warning" } dd { (warning) } }
            @if !row.event_ids.is_empty() {
                dt { "Events" }
                dd {
                    span.tags {
                        @for id in row.event_ids.iter().take(EVENTS_SHOWN) { (event_link(id, id)) }
                    }
                    @if row.event_ids.len() > EVENTS_SHOWN {
                        span.muted { "and " (row.event_ids.len() - EVENTS_SHOWN) " more" }
                    }
                }
            }
        }
    }
}
