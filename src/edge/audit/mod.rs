//! `GET /api/v1/audit` and `/api/v1/audit/export`: the audit log.

use std::net::IpAddr;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::answer::{self, JSON_LINES};
use super::context::RequestContext;
use super::docs::schemas;
use super::error::ApiError;
use super::query::{QueryParameters, parse_number};
use super::state::Edge;
use crate::audit::{AuditChannel, AuditEntry, AuditFilter, AuditPage};
use crate::event::Timestamp;

pub(super) mod spec;

/// Parameters that select entries of the log.
pub(in crate::edge) const FILTERS: [&str; 5] = ["who", "operation", "object", "since", "until"];

/// Parameters of the list, with its pages.
const PARAMETERS: [&str; 7] = [
    "who",
    "operation",
    "object",
    "since",
    "until",
    "cursor",
    "limit",
];

/// Entries of a page, unless `limit` says otherwise, and at most.
const LIMIT: u64 = 100;
const LIMIT_MAX: u64 = 500;

/// Entry, as answers show it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct AuditEntryView<'a> {
    id: u64,
    at: Timestamp,
    who: Option<&'a str>,
    operation: &'a str,
    object: Option<&'a str>,
    outcome: &'a str,
    #[schema(schema_with = channels)]
    channel: &'static str,
    /// Null for an act of the node itself.
    #[schema(value_type = Option<String>)]
    client_address: Option<IpAddr>,
    request_id: Option<&'a str>,
    /// Number of refused calls of the same cause before this one that have no entry.
    left_out: u64,
}

fn channels() -> Schema {
    schemas::one_of(AuditChannel::ALL.map(AuditChannel::as_str))
}

impl<'a> AuditEntryView<'a> {
    fn new((id, entry): &'a (u64, AuditEntry)) -> Self {
        Self {
            id: *id,
            at: entry.at,
            who: entry.who.as_deref(),
            operation: &entry.operation,
            object: entry.object.as_deref(),
            outcome: &entry.outcome,
            channel: entry.channel.as_str(),
            client_address: entry.client,
            request_id: entry.request_id.as_deref(),
            left_out: entry.left_out,
        }
    }
}

/// Page of the list; `cursor` is null on the last page.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
struct AuditPageView<'a> {
    items: Vec<AuditEntryView<'a>>,
    cursor: Option<String>,
    has_more: bool,
}

/// Handles `GET /api/v1/audit`: lists entries, newest first.
pub(super) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&PARAMETERS);
    let filter = read_filter(&mut parameters);
    let cursor = read_cursor(&mut parameters);
    let limit = parameters.take_text("limit").map(|text| {
        let limit = parse_number(&text).filter(|limit| (1..=LIMIT_MAX).contains(limit));
        if limit.is_none() {
            parameters.add_error("limit", "must be a whole number from 1 to 500");
        }
        limit.unwrap_or(LIMIT)
    });
    let (filter, cursor, limit) = parameters.finish((filter, cursor, limit.unwrap_or(LIMIT)))?;

    let limit = usize::try_from(limit).unwrap_or_default();
    let page = list_entries(&context.edge, filter, cursor, limit).await?;
    Ok(answer::ok_json(&AuditPageView {
        items: page.entries.iter().map(AuditEntryView::new).collect(),
        cursor: page.next.map(|id| id.to_string()),
        has_more: page.next.is_some(),
    }))
}

/// Handles `GET /api/v1/audit/export`: writes out the selected entries, newest first. The log is
/// bounded, so the answer is made at once.
pub(super) async fn export(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&FILTERS);
    let filter = read_filter(&mut parameters);
    let filter = parameters.finish(filter)?;

    let page = list_entries(&context.edge, filter, None, usize::MAX).await?;
    let mut lines = Vec::new();
    for entry in &page.entries {
        lines.extend(serde_json::to_vec(&AuditEntryView::new(entry)).unwrap_or_default());
        lines.push(b'\n');
    }
    Ok(HttpResponse::Ok()
        .content_type(JSON_LINES)
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(lines))
}

/// Reads the parameters of [`FILTERS`].
pub(in crate::edge) fn read_filter(parameters: &mut QueryParameters) -> AuditFilter {
    AuditFilter {
        who: parameters.take_text("who"),
        operation: parameters.take_text("operation"),
        object: parameters.take_text("object"),
        since: parameters.time("since"),
        until: parameters.time("until"),
    }
}

/// Reads the parameter `cursor`: the id before which the page begins.
pub(in crate::edge) fn read_cursor(parameters: &mut QueryParameters) -> Option<u64> {
    let text = parameters.take_text("cursor")?;
    let cursor = parse_number(&text);
    if cursor.is_none() {
        parameters.add_error("cursor", "must be the cursor of an answer");
    }
    cursor
}

/// Lists the entries that pass `filter`, the newest first, from `cursor` on.
///
/// # Errors
/// [`ApiError::Unavailable`] without an open store, or if it fails.
pub(in crate::edge) async fn list_entries(
    edge: &Edge,
    filter: AuditFilter,
    cursor: Option<u64>,
    limit: usize,
) -> Result<AuditPage, ApiError> {
    // Also while the clock is being confirmed: nothing else tells who was there.
    let core = edge.gate.opened().ok_or(ApiError::Unavailable)?;
    let now = edge.clock.wall();
    let read = spawn_blocking(move || core.audit.list(&filter, cursor, limit, now)).await;
    read.map_err(|_| ApiError::Internal)?
        .map_err(|_| ApiError::Unavailable)
}
