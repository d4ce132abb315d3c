//! `GET /api/v1/webhooks/logs` and `/api/v1/webhooks/logs/{log_id}`: the call log, with accepted
//! and refused calls of every source, and deliveries.

use std::collections::BTreeMap;
use std::net::IpAddr;

use actix_web::HttpResponse;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::super::answer;
use super::super::context::RequestContext;
use super::super::docs::schemas;
use super::super::error::ApiError;
use super::super::gate::NodeCore;
use super::super::list::ListPage;
use super::super::query::{QueryParameters, parse_number};
use crate::call_log::{CallDirection, CallFilter, CallPage, CallRow};
use crate::event::Timestamp;
use crate::projection::PageRequest;

/// Parameters of the list of calls.
pub(in crate::edge) const PARAMETERS: [&str; 4] =
    ["direction", "is_successful", "page", "page_size"];

const DIRECTIONS: [(&str, CallDirection); 2] = [
    (CallDirection::Incoming.as_str(), CallDirection::Incoming),
    (CallDirection::Outgoing.as_str(), CallDirection::Outgoing),
];

pub(super) fn directions() -> Schema {
    schemas::choice(&DIRECTIONS)
}

/// Row of the call log, as lists show it.
#[derive(Serialize, ToSchema)]
#[schema(as = Call)]
pub(super) struct CallLogItem<'a> {
    id: u64,
    at: Timestamp,
    #[schema(schema_with = directions)]
    direction: &'static str,
    source: &'a str,
    method: &'a str,
    path: &'a str,
    status: Option<u16>,
    code: Option<&'a str>,
    is_successful: bool,
    duration_ms: f64,
    #[schema(value_type = Option<String>)]
    client_address: Option<IpAddr>,
    event_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    warning: Option<&'a str>,
    /// Name of the caller's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token: Option<&'a str>,
}

/// Row of the call log with headers, body reference and answer.
#[derive(Serialize, ToSchema)]
#[schema(as = CallDetails)]
pub(super) struct CallLogDetails<'a> {
    #[serde(flatten)]
    log: CallLogItem<'a>,
    #[serde(serialize_with = "serialize_headers")]
    #[schema(value_type = BTreeMap<String, String>)]
    headers: &'a [(String, String)],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    body: CallLogBody,
    #[schema(value_type = serde_json::Value)]
    answer: Option<&'a RawValue>,
    answer_bytes: Option<u64>,
}

/// Reference to the request's body, which the events made of it hold.
#[derive(Serialize, ToSchema)]
#[schema(as = CallBody)]
struct CallLogBody {
    bytes: Option<u64>,
    event_ids: Vec<String>,
}

/// Handles `GET /api/v1/webhooks/logs`: lists calls, newest first.
pub(in crate::edge) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let (filter, page) = parse_log_filter(context.parameters(&PARAMETERS))?;
    let found = list_calls(&*context.edge.core()?, filter, page).await?;
    let items = found.items.iter().map(call_log_item).collect();
    Ok(answer::ok_json(&ListPage::new(items, found.total, page)))
}

/// Lists the calls that pass `filter`, newest first, without the content of erased events.
///
/// # Errors
/// [`ApiError::Unavailable`] when the store fails.
pub(in crate::edge) async fn list_calls(
    core: &NodeCore,
    filter: CallFilter,
    page: PageRequest,
) -> Result<CallPage, ApiError> {
    let mut found = core.call_log.list_calls(filter, page.places()).await?;
    for row in &mut found.items {
        hide_if_erased(row, core);
    }
    Ok(found)
}

/// Handles `GET /api/v1/webhooks/logs/{log_id}`: shows a call.
pub(in crate::edge) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let (row, is_erased) = find_call(&*context.edge.core()?, &id).await?;
    Ok(answer::ok_json(&call_log_details(&row, is_erased)))
}

/// Finds the call with the number `id`, without the content of an erased event; `true` beside it
/// says that there was some.
///
/// # Errors
/// [`ApiError::NotFound`], and [`ApiError::Unavailable`] when the store fails.
pub(in crate::edge) async fn find_call(
    core: &NodeCore,
    id: &str,
) -> Result<(CallRow, bool), ApiError> {
    let no_such_log =
        || ApiError::not_found("there is no such row in the call log, or it was deleted");
    let number = parse_number(id).ok_or_else(no_such_log)?;
    let found = core.call_log.get_call(number).await?;
    let mut row = found.ok_or_else(no_such_log)?;
    let is_erased = hide_if_erased(&mut row, core);
    Ok((row, is_erased))
}

/// Takes out of `row` what can quote an event whose content is erased; returns `true` then. The row
/// itself goes when the erasure is done.
fn hide_if_erased(row: &mut CallRow, core: &NodeCore) -> bool {
    let mut events = row.event_ids.iter();
    let is_erased = events.any(|event| core.erasures.hides_event(event.position()));
    if is_erased {
        row.path.clear();
        row.headers.clear();
        row.answer = None;
        row.warning = None;
    }
    is_erased
}

/// Reads the filter and the page of a query of [`PARAMETERS`].
///
/// # Errors
/// [`ApiError::InvalidFields`] with every wrong parameter.
pub(in crate::edge) fn parse_log_filter(
    mut parameters: QueryParameters,
) -> Result<(CallFilter, PageRequest), ApiError> {
    let page = parameters.page_request();
    let filter = CallFilter {
        direction: parameters.one_of("direction", &DIRECTIONS),
        is_successful: parameters.one_of("is_successful", &[("true", true), ("false", false)]),
    };
    parameters.finish((filter, page))
}

fn call_log_item(row: &CallRow) -> CallLogItem<'_> {
    CallLogItem {
        id: row.id,
        at: row.at,
        direction: row.direction.as_str(),
        source: &row.source,
        method: &row.method,
        path: &row.path,
        status: row.status,
        code: row.code.as_deref(),
        is_successful: row.is_successful(),
        duration_ms: answer::as_milliseconds(row.duration),
        client_address: row.client,
        event_ids: event_ids(row),
        warning: row.warning.as_deref(),
        token: row.token.as_deref(),
    }
}

fn call_log_details(row: &CallRow, is_erased: bool) -> CallLogDetails<'_> {
    CallLogDetails {
        log: call_log_item(row),
        headers: &row.headers,
        erased: is_erased,
        body: CallLogBody {
            bytes: row.body_bytes,
            event_ids: event_ids(row),
        },
        answer: row
            .answer
            .as_deref()
            .and_then(|answer| serde_json::from_slice(answer).ok()),
        answer_bytes: row.answer_bytes,
    }
}

fn event_ids(row: &CallRow) -> Vec<String> {
    row.event_ids.iter().map(ToString::to_string).collect()
}

/// Serializes headers as an object; the values of a repeated header are joined by commas, as HTTP
/// allows (RFC 9110, 5.3).
fn serialize_headers<S: Serializer>(
    headers: &[(String, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut joined = BTreeMap::<&str, String>::new();
    for (name, value) in headers {
        let values = joined.entry(name).or_default();
        if !values.is_empty() {
            values.push_str(", ");
        }
        values.push_str(value);
    }
    serializer.collect_map(joined)
}
