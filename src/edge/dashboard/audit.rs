//! Audit log: who did what, when, from where, and with which outcome.

use maud::{Markup, html};

use super::elements::{StateTone, badge, empty_state, exact_time};
use super::filter_form::FilterForm;
use super::form::FormFields;
use super::layout::{DashboardSection, PageContent};
use super::visit::{PageReply, PageVisit};
use crate::audit::AuditEntry;
use crate::edge::audit::{list_entries, read_cursor, read_filter};
use crate::edge::error::ApiError;

const PATH: &str = "/dashboard/audit";

/// Entries of one page of the list.
const ENTRIES: usize = 50;

/// Fields of the filter: name, label.
const FIELDS: [(&str, &str); 3] = [
    ("who", "Token"),
    ("operation", "Operation"),
    ("object", "Object"),
];

/// Handles `GET /dashboard/audit`: lists the entries, newest first.
pub(super) async fn show(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    match list(visit).await {
        Err(error) if !error.field_errors().is_empty() => {
            let query = visit.query();
            let place = (DashboardSection::Audit, "Audit log");
            Ok(filter_form(&query).refuse(visit, place, &error))
        }
        reply => reply,
    }
}

async fn list(visit: &mut PageVisit<'_>) -> Result<PageReply, ApiError> {
    let query = visit.query();
    let mut parameters =
        visit.parameters(&["who", "operation", "object", "since", "until", "cursor"]);
    let filter = read_filter(&mut parameters);
    let cursor = read_cursor(&mut parameters);
    let (criteria, cursor) = parameters.finish((filter, cursor))?;
    let page = list_entries(visit.edge(), criteria, cursor, ENTRIES).await?;

    let body = html! {
        div.panel {
            (filter_form(&query).render())
            @if page.entries.is_empty() {
                (empty_state("No entry here.", html! {
                    "Changes, logins and refused calls leave an entry."
                }))
            } @else { (render_entries(&page.entries, visit)) }
            (pager(&query, page.next))
        }
    };
    let lead = html! {
        "Changes by API, dashboard and the node itself, logins, and refused calls. "
        code { "hookyard audit list" } " shows the same."
    };
    Ok(PageContent::new(DashboardSection::Audit, "Audit log", body)
        .lead(lead)
        .into())
}

fn filter_form(query: &FormFields) -> FilterForm<'_> {
    let fields = FIELDS.into_iter();
    let form = FilterForm::new(PATH, query);
    fields
        .fold(form, |form, (name, label)| form.text(name, label))
        .times()
}

fn render_entries(entries: &[(u64, AuditEntry)], visit: &PageVisit<'_>) -> Markup {
    html! {
        table.cards {
            thead { tr {
                th scope="col" { "When" }
                th scope="col" { "Who" }
                th scope="col" { "Operation" }
                th scope="col" { "Object" }
                th scope="col" { "Outcome" }
                th scope="col" { "From" }
                th scope="col" { "Request" }
            } }
            tbody {
                @for (_, entry) in entries {
                    tr {
                        td.first { (exact_time(entry.at, visit.now)) }
                        td data-label="Who" {
                            @match &entry.who {
                                Some(who) => (who),
                                None => span.muted { "nobody known" },
                            }
                        }
                        td data-label="Operation" { code { (entry.operation) } }
                        td data-label="Object" { (entry.object.as_deref().unwrap_or("–")) }
                        td data-label="Outcome" {
                            (outcome_badge(&entry.outcome))
                            @if entry.left_out > 0 {
                                span.sub { "and " (entry.left_out) " before it" }
                            }
                        }
                        td data-label="From" {
                            @match entry.client {
                                Some(client) => { (client) span.sub { (entry.channel.as_str()) } }
                                None => (entry.channel.as_str()),
                            }
                        }
                        td data-label="Request" { code { (entry.request_id.as_deref().unwrap_or("–")) } }
                    }
                }
            }
        }
    }
}

fn outcome_badge(outcome: &str) -> Markup {
    let tone = match outcome {
        "ok" => StateTone::Good,
        "tried" => StateTone::Neutral,
        _ => StateTone::Bad,
    };
    badge(tone, outcome)
}

/// Link to the entries before those of the page.
fn pager(query: &FormFields, next: Option<u64>) -> Markup {
    let Some(next) = next else {
        return html! {};
    };
    let query = query.clone().with("cursor", &next.to_string());
    html! {
        nav.pager aria-label="Pages" {
            a rel="next" href={ (PATH) "?" (query.to_query()) } { "Older →" }
        }
    }
}
