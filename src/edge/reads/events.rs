//! `GET /api/v1/events` and `/api/v1/events/{event_id}`: accepted events with their outcomes.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::super::context::RequestContext;
use super::super::docs::schemas;
use super::super::entity_reference::EntityReference;
use super::super::error::ApiError;
use super::super::fields::FieldErrors;
use super::super::gate::NodeCore;
use super::super::list::ListPage;
use super::super::query::QueryParameters;
use super::super::state::Edge;
use super::super::{answer, blocking};
use super::stored_event_id;
use crate::event::{EventId, IncarnationHistory, Position, Timestamp};
use crate::projection::{
    EventFilter, EventStatus, EventView, EventsFrom, PageRequest, ProjectionPage,
};
use crate::subscription::pattern::INTERNAL_SOURCE;
use crate::suggest::nearest_name;

/// Parameters of the list of events.
pub(in crate::edge) const PARAMETERS: [&str; 10] = [
    "source",
    "type",
    "kind",
    "entity",
    "status",
    "has_warnings",
    "since",
    "until",
    "page",
    "page_size",
];

/// Parameters of the list of events of the API, which can also begin after an event.
const LIST_PARAMETERS: [&str; 11] = {
    let [a, b, c, d, e, f, g, h, i, j] = PARAMETERS;
    [a, b, c, d, e, f, g, h, i, j, "after"]
};

/// Cursor that stands before the first event of the store.
const START: &str = "start";

/// Place in the list of events at which a caller goes on.
#[derive(Clone, Copy)]
enum EventCursor {
    Start,
    After(EventId),
}

impl EventCursor {
    fn parse(text: &str) -> Option<Self> {
        match text {
            START => Some(Self::Start),
            text => EventId::parse(text).map(Self::After),
        }
    }
}

/// Events after a cursor, oldest first, as answers show them.
#[derive(Serialize, ToSchema)]
#[schema(as = EventsAfter)]
pub(super) struct EventsAfterView<'a> {
    items: Vec<ReceivedEventView<'a>>,
    /// Value of `after` for the next call.
    cursor: String,
    has_more: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct ReceivedEventView<'a> {
    event_id: String,
    source: &'a str,
    r#type: &'a str,
    entity: EntityReference<'a>,
    #[schema(schema_with = statuses)]
    status: &'static str,
    code: Option<u16>,
    error_message: Option<&'a str>,
    received_at: Timestamp,
    processing_at: Timestamp,
    processed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    /// Time at which retention removed the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    removed_at: Option<Timestamp>,
    #[schema(value_type = serde_json::Value)]
    payload: Option<Cow<'a, RawValue>>,
    /// True if the page had no room for the content, which the event by itself has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    content_omitted: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    /// Name of the token that published the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token: Option<&'a str>,
    /// Trace context that the sender told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    idempotency_key: Option<&'a str>,
    /// Body of the call, when one event is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    call_body: Option<Cow<'a, str>>,
}

/// Value of the parameter `status`. Readers see events only after the decision, so `received` finds
/// nothing.
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

pub(super) fn statuses() -> Schema {
    schemas::choice(&STATUSES)
}

/// Handles `GET /api/v1/events`: lists events, newest first; with `after`, those after an event,
/// oldest first.
pub(in crate::edge) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let mut parameters = context.parameters(&LIST_PARAMETERS);
    let after = parameters.take_text("after").map(|text| {
        let cursor = EventCursor::parse(&text);
        if cursor.is_none() {
            parameters.add_error("after", "must be the id of an event, or start");
        }
        cursor
    });
    let (filter, page) = parse_event_filter(parameters)?;
    let core = context.edge.core()?;
    if let Some(after) = after.flatten() {
        if page.page != 1 {
            let problem = "must be absent if after is given".to_owned();
            return Err(ApiError::wrong_field("page", problem));
        }
        return list_after(&context.edge, core, filter, after, page).await;
    }

    let found = match filter {
        Some(filter) => {
            let found = core.reads.events(filter.clone(), page).await?;
            check_known_names(&context.edge, &core, &filter, found.total).await?;
            found
        }
        None => ProjectionPage {
            items: Vec::new(),
            total: 0,
        },
    };
    blocking::ok_json(core, move |core| {
        let views = found.items.iter();
        let items = views.map(|view| event_view(core.reads.incarnations(), view));
        let list = ListPage::new(items.collect(), found.total, page);
        Ok(answer::encode_json(&list))
    })
    .await
}

async fn list_after(
    edge: &Edge,
    core: Arc<NodeCore>,
    filter: Option<EventFilter>,
    after: EventCursor,
    page: PageRequest,
) -> Result<HttpResponse, ApiError> {
    let incarnations = core.reads.incarnations();
    let from = match after {
        EventCursor::Start => None,
        // The store may be one that was restored: its events are others than the caller's.
        EventCursor::After(id) => {
            let last = incarnations.position_of(id);
            let last = last.ok_or_else(|| ApiError::not_found("there is no such event"))?;
            Some(Position::new(last.get().saturating_add(1)))
        }
    };
    let limit = usize::try_from(page.page_size).unwrap_or(usize::MAX);
    let found = match filter {
        Some(filter) => {
            let found = core.reads.events_from(filter.clone(), from, limit).await?;
            check_known_names(edge, &core, &filter, found.items.len() as u64).await?;
            found
        }
        None => EventsFrom::nothing(from.unwrap_or(Position::FIRST)),
    };
    let cursor = match found.next {
        Position::FIRST => START.to_owned(),
        next => incarnations
            .event_id(Position::new(next.get() - 1))
            .to_string(),
    };
    blocking::ok_json(core, move |core| {
        let views = found.items.iter();
        let items = views.map(|view| event_view(core.reads.incarnations(), view));
        Ok(answer::encode_json(&EventsAfterView {
            items: items.collect(),
            cursor,
            has_more: found.has_more,
        }))
    })
    .await
}

/// Refuses a `filter` that found nothing, since no event of this node can have its names: an empty
/// list would hide that one of them is misspelt.
///
/// # Errors
/// [`ApiError::InvalidFields`] with the names that are closest to the unknown ones.
pub(in crate::edge) async fn check_known_names(
    edge: &Edge,
    core: &NodeCore,
    filter: &EventFilter,
    found: u64,
) -> Result<(), ApiError> {
    let mut errors = FieldErrors::default();
    if found > 0 {
        return Ok(());
    }
    if let Some(source) = &filter.source
        && !source_names(edge).any(|known| known == source)
        && !core.reads.may_have_name(source.clone()).await?
    {
        let problem = describe_unknown_name("source", nearest_name(source, source_names(edge)));
        errors.add("source", problem);
    }
    if let Some(event) = &filter.event_type
        && !edge.vocabulary().knows_event(event)
        && !core.reads.may_have_name(event.clone()).await?
    {
        let problem = describe_unknown_name("event", edge.vocabulary().suggest_event(event));
        errors.add("type", problem);
    }
    errors.finish(())
}

/// Describes a name that no `thing` has, for the sentence that begins with the parameter.
pub(in crate::edge) fn describe_unknown_name(thing: &str, nearest: Option<impl Display>) -> String {
    let hint = nearest.map(|nearest| format!("; did you mean {nearest}?"));
    format!("is no {thing} of this node{}", hint.unwrap_or_default())
}

/// Names of all sources, enabled or not, under which events are stored.
pub(in crate::edge) fn source_names(edge: &Edge) -> impl Iterator<Item = &'static str> {
    let built_in = [
        "support",
        "leads",
        "c2s",
        "instagram",
        "crm",
        INTERNAL_SOURCE,
    ];
    let custom = edge.config.sources.custom.iter();
    built_in
        .into_iter()
        .chain(custom.map(|custom| custom.name.as_str()))
}

/// Handles `GET /api/v1/events/{event_id}`: shows an event.
pub(in crate::edge) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let core = context.edge.core()?;
    let (_, view) = find_event(&core, &id).await?;
    if let Some(removed_at) = view.event.record.content_expired_at() {
        return Err(ApiError::ContentRemoved { removed_at });
    }
    let call_body = &view.event.record.call_body;
    Ok(answer::ok_json(&ReceivedEventView {
        call_body: (!call_body.is_empty()).then(|| String::from_utf8_lossy(call_body)),
        ..event_view(core.reads.incarnations(), &view)
    }))
}

/// Finds the event with the public id `id`.
///
/// # Errors
/// [`ApiError::NotFound`] for an id that is malformed, of another store, or of no event, and
/// [`ApiError::Unavailable`] if the projection cannot be read.
pub(in crate::edge) async fn find_event(
    core: &NodeCore,
    id: &str,
) -> Result<(EventId, EventView), ApiError> {
    let no_such_event = || ApiError::not_found("there is no such event");
    let is_of_store = |id: &EventId| core.reads.incarnations().position_of(*id).is_some();
    let id = EventId::parse(id)
        .filter(is_of_store)
        .ok_or_else(no_such_event)?;
    let view = core
        .reads
        .event(id.position())
        .await?
        .ok_or_else(no_such_event)?;
    // A reprocessing is found only under the id of the first attempt.
    if view.event.record.reprocesses.is_some() {
        return Err(no_such_event());
    }
    Ok((id, view))
}

/// Reads the filter and the page of a query of [`PARAMETERS`]; `None` for a filter that finds nothing.
pub(in crate::edge) fn parse_event_filter(
    mut parameters: QueryParameters,
) -> Result<(Option<EventFilter>, PageRequest), ApiError> {
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
        has_warnings: parameters.one_of("has_warnings", &[("true", true), ("false", false)]),
        since: parameters.time("since"),
        until: parameters.time("until"),
    };

    let finds_nothing = matches!(status, Some(StatusFilter::Undecided));
    parameters.finish(((!finds_nothing).then_some(filter), page))
}

/// Shows an event as received, with the outcome of its newest attempt.
fn event_view<'a>(incarnations: &IncarnationHistory, view: &'a EventView) -> ReceivedEventView<'a> {
    let received = &view.event.record;
    let decided = view.resolution.as_ref().unwrap_or(&view.event);
    let failure = decided
        .record
        .failure
        .as_ref()
        .filter(|_| view.status == EventStatus::Failed);
    ReceivedEventView {
        event_id: stored_event_id(incarnations, &view.event).to_string(),
        source: &received.source,
        r#type: &received.event_type,
        entity: EntityReference::new(
            &received.entity,
            received.sequence.or(decided.record.sequence),
        ),
        status: match view.status {
            EventStatus::Processing => "processing",
            EventStatus::Completed => "completed",
            EventStatus::Failed => "failed",
        },
        code: failure.map(|failure| failure.code),
        error_message: failure.map(|failure| failure.message.as_str()),
        received_at: view.event.received_at,
        // Processing of a pending event began with its own decision.
        processing_at: if received.pending {
            received.decided_at
        } else {
            decided.record.decided_at
        },
        processed_at: (view.status != EventStatus::Processing).then_some(decided.committed_at),
        erased: received.is_erased(),
        removed_at: received.content_expired_at(),
        payload: received.payload_json(),
        content_omitted: view.event.omits_content,
        warnings: &received.warnings,
        token: received.token.as_deref(),
        traceparent: received.trace.map(|trace| trace.to_string()),
        idempotency_key: received.idempotency_key.as_deref(),
        call_body: None,
    }
}
