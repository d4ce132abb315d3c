//! `GET /api/v1/events` and `/api/v1/events/{event_id}`: what became of each accepted event.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::answer;
use super::super::context::RequestContext;
use super::super::error::Error;
use super::super::gate::NodeCore;
use super::super::list::ListPage;
use super::stored_event_id;
use crate::event::{EventId, Kind, StoreIncarnation, Timestamp};
use crate::projection::{EventFilter, EventStatus, EventView, PageRequest, ProjectionPage};

const PARAMETERS: [&str; 9] = [
    "source",
    "type",
    "kind",
    "entity",
    "status",
    "since",
    "until",
    "page",
    "page_size",
];

#[derive(Serialize)]
struct ReceivedEventView<'a> {
    event_id: String,
    source: &'a str,
    r#type: &'a str,
    entity: EventEntity<'a>,
    status: &'static str,
    code: Option<u16>,
    error_message: Option<&'a str>,
    received_at: Timestamp,
    processing_at: Timestamp,
    processed_at: Option<Timestamp>,
    payload: Option<Cow<'a, RawValue>>,
}

#[derive(Serialize)]
struct EventEntity<'a> {
    kind: Kind,
    id: &'a str,
    sequence: Option<u64>,
}

/// What `status` asks for. No reader ever sees an event before it is decided, so one of the names
/// finds nothing.
#[derive(Clone, Copy)]
enum StatusFilter {
    Undecided,
    Decided(EventStatus),
}

const STATUSES: [(&str, StatusFilter); 4] = [
    ("received", StatusFilter::Undecided),
    ("processing", StatusFilter::Decided(EventStatus::Processing)),
    ("completed", StatusFilter::Decided(EventStatus::Completed)),
    ("failed", StatusFilter::Decided(EventStatus::Failed)),
];

/// `GET /api/v1/events`
pub(in crate::edge) async fn list(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let (filter, page) = parse_event_filter(context)?;
    let core = context.edge.core()?;
    let found = match filter {
        Some(filter) => core.reads.events(filter, page).await?,
        None => ProjectionPage {
            items: Vec::new(),
            total: 0,
        },
    };
    let items = found
        .items
        .iter()
        .map(|view| event_view(core.reads.incarnation(), view))
        .collect();
    Ok(answer::uncached_json(
        StatusCode::OK,
        &ListPage::new(items, found.total, page),
    ))
}

/// `GET /api/v1/events/{event_id}`
pub(in crate::edge) async fn show(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let core = context.edge.core()?;
    let (_, view) = find_event(&core, &id).await?;
    Ok(answer::uncached_json(
        StatusCode::OK,
        &event_view(core.reads.incarnation(), &view),
    ))
}

/// The event with the public id `id`.
///
/// # Errors
/// [`Error::NotFound`] for an id that is malformed, of another store, or of no event.
pub(super) async fn find_event(core: &NodeCore, id: &str) -> Result<(EventId, EventView), Error> {
    let no_such_event = || Error::not_found("there is no such event");
    let ours = |id: &EventId| id.incarnation() == core.reads.incarnation();
    let id = EventId::parse(id).filter(ours).ok_or_else(no_such_event)?;
    let view = core
        .reads
        .event(id.position())
        .await?
        .ok_or_else(no_such_event)?;
    // An event has one id: a further attempt at one is found under that one's.
    if view.event.record.reprocesses.is_some() {
        return Err(no_such_event());
    }
    Ok((id, view))
}

/// The filter that a query asks for; `None` when it can find nothing.
fn parse_event_filter(
    context: &RequestContext,
) -> Result<(Option<EventFilter>, PageRequest), Error> {
    let mut parameters = context.parameters(&PARAMETERS);
    let page = parameters.page_request();
    let status = parameters.one_of("status", &STATUSES);
    let filter = EventFilter {
        source: parameters.take_text("source"),
        event_type: parameters.take_text("type"),
        kind: parameters.kind("kind"),
        entity: parameters.take_text("entity"),
        status: match status {
            Some(StatusFilter::Decided(status)) => Some(status),
            Some(StatusFilter::Undecided) | None => None,
        },
        since: parameters.time("since"),
        until: parameters.time("until"),
    };
    let finds_nothing = matches!(status, Some(StatusFilter::Undecided));
    parameters.finish(((!finds_nothing).then_some(filter), page))
}

/// An event as it was received, with the outcome of the newest attempt at it.
fn event_view(incarnation: StoreIncarnation, view: &EventView) -> ReceivedEventView<'_> {
    let received = &view.event.record;
    let decided = view.resolution.as_ref().unwrap_or(&view.event);
    let failure = decided
        .record
        .failure
        .as_ref()
        .filter(|_| view.status == EventStatus::Failed);
    ReceivedEventView {
        event_id: stored_event_id(incarnation, &view.event).to_string(),
        source: &received.source,
        r#type: &received.event_type,
        entity: EventEntity {
            kind: received.entity.kind(),
            id: received.entity.id(),
            sequence: received.sequence.or(decided.record.sequence),
        },
        status: match view.status {
            EventStatus::Processing => "processing",
            EventStatus::Completed => "completed",
            EventStatus::Failed => "failed",
        },
        code: failure.map(|failure| failure.code),
        error_message: failure.map(|failure| failure.message.as_str()),
        received_at: view.event.received_at,
        // What owes more is being processed from its own decision on.
        processing_at: if received.pending {
            received.decided_at
        } else {
            decided.record.decided_at
        },
        processed_at: (view.status != EventStatus::Processing).then_some(decided.committed_at),
        payload: received.payload_json(),
    }
}
