//! `GET /api/v1/webhooks/{id}/events`: the events of a subscription that its subscriber reads itself.

use std::time::Duration;

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::super::answer;
use super::super::context::RequestContext;
use super::super::entity_reference::EntityReference;
use super::super::error::ApiError;
use super::super::query::parse_number;
use super::find_subscription;
use crate::entity::Rejection;
use crate::event::{IncarnationHistory, Position};
use crate::journal::JournalReadError;
use crate::projection::ProjectionReadError;
use crate::subscriber::{PullError, PulledEvent, SubscriberId};
use crate::subscription::{DeliveryMode, SubscriptionState};

/// Events of a page, unless `limit` says otherwise, and at most.
const LIMIT: u64 = 100;
pub(super) const LIMIT_MAX: u64 = 500;
/// Longest time in seconds for which a request waits for an event.
pub(super) const WAIT_MAX_S: u64 = 30;

#[derive(Serialize, ToSchema)]
#[schema(as = PulledEvent)]
struct PulledEventView<'a> {
    id: String,
    event: &'a str,
    entity: EntityReference<'a>,
    /// Body of the delivery; null if there is an error.
    #[schema(value_type = serde_json::Value)]
    body: Option<&'a RawValue>,
    error: Option<&'a str>,
}

impl<'a> PulledEventView<'a> {
    fn new(pulled: &'a PulledEvent, incarnations: &IncarnationHistory) -> Self {
        let PulledEvent { item, body } = pulled;
        Self {
            id: incarnations.event_id(item.position).to_string(),
            event: &item.record.event_type,
            entity: EntityReference::new(&item.record.entity, Some(item.sequence)),
            body: body
                .as_ref()
                .ok()
                .and_then(|body| serde_json::from_slice(body).ok()),
            error: body.as_ref().err().map(String::as_str),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = PulledEvents)]
pub(super) struct PulledPageView<'a> {
    items: Vec<PulledEventView<'a>>,
    cursor: String,
    has_more: bool,
}

/// Handles `GET /api/v1/webhooks/{id}/events`: acknowledges the events before `cursor` and returns
/// the next ones.
pub(in crate::edge) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let mut parameters = context.parameters(&["cursor", "limit", "wait"]);
    let mut number = |name, least, most, default| {
        let Some(text) = parameters.take_text(name) else {
            return default;
        };
        let number = parse_number(&text).filter(|number| (least..=most).contains(number));
        if number.is_none() {
            parameters.add_error(
                name,
                &format!("must be a whole number from {least} to {most}"),
            );
        }
        number.unwrap_or(default)
    };
    let limit = number("limit", 1, LIMIT_MAX, LIMIT);
    let wait = number("wait", 0, WAIT_MAX_S, 0);
    let cursor = parameters.take_text("cursor");
    let cursor = cursor.map(|text| {
        let position = parse_number(&text).filter(|number| *number >= Position::FIRST.get());
        if position.is_none() {
            parameters.add_error("cursor", "must be the cursor of an answer");
        }
        Position::new(position.unwrap_or_default())
    });
    let (limit, wait, cursor) = parameters.finish((limit, wait, cursor))?;

    let core = context.edge.core()?;
    let subscription = find_subscription(&core, &id)?;
    if subscription.delivery != DeliveryMode::Pull {
        let message = "the events of this subscription are delivered to its url; create one with delivery: pull";
        return Err(ApiError::Rejected(Rejection::conflict(
            "not_pulled",
            message,
        )));
    }

    if subscription.state != SubscriptionState::Active {
        let message = "the subscription is paused or disabled; resume it to read its events";
        return Err(ApiError::Rejected(Rejection::conflict(
            "not_active",
            message,
        )));
    }

    let subscriber = SubscriberId::Webhook(subscription.id);
    let from = match cursor {
        Some(cursor) => {
            let acknowledged = core.subscribers.acknowledge(subscriber, cursor);
            acknowledged.map_err(pull_error)?;
            cursor
        }
        // Without the stage's answer nobody knows what was read: from the start would repeat it all.
        None => match core.subscribers.stats(&subscriber).await {
            Ok(Some(stats)) => stats.next_position,
            Ok(None) => subscription.from,
            Err(_) => return Err(ApiError::Unavailable),
        },
    };
    let limit = usize::try_from(limit).unwrap_or_default();
    let page = core
        .subscribers
        .pull_events(&subscription, from, limit, Duration::from_secs(wait))
        .await
        .map_err(pull_error)?;

    let incarnations = core.reads.incarnations();
    let items = page
        .events
        .iter()
        .map(|pulled| PulledEventView::new(pulled, incarnations));
    Ok(answer::ok_json(&PulledPageView {
        items: items.collect(),
        cursor: page.next.to_string(),
        has_more: page.has_more,
    }))
}

fn pull_error(error: PullError) -> ApiError {
    match error {
        PullError::CursorPastEnd => {
            let message = "there is no event at this cursor yet";
            ApiError::Rejected(Rejection::conflict("cursor_past_end", message))
        }
        PullError::Journal(error @ JournalReadError::Removed { .. }) => {
            ProjectionReadError::from(error).into()
        }
        PullError::Journal(_) | PullError::Stage(_) => ApiError::Unavailable,
    }
}
