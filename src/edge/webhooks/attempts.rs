//! `GET /api/v1/webhooks/{id}/deliveries`: the delivery attempts of a subscription, from the call
//! log.

use std::borrow::Cow;

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::answer;
use super::super::context::RequestContext;
use super::super::entity_reference::EntityReference;
use super::super::error::ApiError;
use super::super::gate::NodeCore;
use super::super::list::ListPage;
use super::find_subscription;
use crate::call_log::{CallFilter, CallRow};
use crate::event::Timestamp;
use crate::projection::{PageRequest, StoredRecord};
use crate::subscriber::SubscriberId;

/// Delivery attempt, as answers show it.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryAttempt)]
pub(super) struct AttemptView<'a> {
    id: u64,
    event: Option<&'a str>,
    event_id: Option<String>,
    entity: Option<EntityReference<'a>>,
    attempt: Option<u32>,
    status: Option<u16>,
    code: Option<&'a str>,
    is_successful: bool,
    duration_ms: f64,
    answer: Option<Cow<'a, str>>,
    at: Timestamp,
    next_attempt_at: Option<Timestamp>,
}

/// Handles `GET /api/v1/webhooks/{id}/deliveries`: lists delivery attempts, newest first.
pub(in crate::edge) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let mut parameters = context.parameters(&["is_successful", "page", "page_size"]);
    let page = parameters.page_request();
    let is_successful = parameters.one_of("is_successful", &[("true", true), ("false", false)]);
    let (is_successful, page) = parameters.finish((is_successful, page))?;

    let core = context.edge.core()?;
    let subscriber = SubscriberId::Webhook(find_subscription(&core, &id)?.id);
    let filter = CallFilter {
        is_successful,
        ..CallFilter::default()
    };
    let (attempts, total) = list_attempts(&core, &subscriber, filter, page).await?;
    let items = attempts
        .iter()
        .map(|(row, stored)| attempt_view(row, stored.as_ref()))
        .collect();
    Ok(answer::ok_json(&ListPage::new(items, total, page)))
}

/// Lists the attempts of deliveries to `subscriber`, newest first, each with the delivered record
/// if that still exists; and the number of all that pass `filter`.
///
/// # Errors
/// [`ApiError::Unavailable`] when the store fails.
pub(in crate::edge) async fn list_attempts(
    core: &NodeCore,
    subscriber: &SubscriberId,
    filter: CallFilter,
    page: PageRequest,
) -> Result<(Vec<(CallRow, Option<StoredRecord>)>, u64), ApiError> {
    let rows = core
        .call_log
        .list_deliveries(subscriber.to_string(), filter, page.places())
        .await?;

    let mut attempts = Vec::with_capacity(rows.items.len());
    for mut row in rows.items {
        let stored = delivered_record(&row, core).await?;
        // The answer can quote the event.
        if stored
            .as_ref()
            .is_some_and(|stored| !stored.record.has_content())
        {
            row.answer = None;
        }
        attempts.push((row, stored));
    }
    Ok((attempts, rows.total))
}

/// Loads the delivered record, if it belongs to this store and still exists.
async fn delivered_record(
    row: &CallRow,
    core: &NodeCore,
) -> Result<Option<StoredRecord>, ApiError> {
    let position = row
        .event_ids
        .first()
        .and_then(|id| core.reads.incarnations().position_of(*id));
    let Some(position) = position else {
        return Ok(None);
    };

    match core.reads.await_record(position).await {
        Err(error) if error.is_removed() => Ok(None),
        found => Ok(found?),
    }
}

fn attempt_view<'a>(row: &'a CallRow, stored: Option<&'a StoredRecord>) -> AttemptView<'a> {
    let record = stored.map(|stored| &stored.record);
    AttemptView {
        id: row.id,
        event: row.event_type.as_deref(),
        event_id: row.event_ids.first().map(ToString::to_string),
        entity: record.map(|record| EntityReference::new(&record.entity, record.sequence)),
        attempt: row.attempt,
        status: row.status,
        code: row.code.as_deref(),
        is_successful: row.is_successful(),
        duration_ms: answer::as_milliseconds(row.duration),
        answer: row.answer.as_deref().map(String::from_utf8_lossy),
        at: row.at,
        next_attempt_at: row.next_attempt_at,
    }
}
