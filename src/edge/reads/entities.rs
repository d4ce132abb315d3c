//! `GET /api/v1/entities/…`: the entities of a kind, the state of an entity, and its timeline.

use std::borrow::Cow;

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::super::context::RequestContext;
use super::super::error::ApiError;
use super::super::gate::NodeCore;
use super::super::list::ListPage;
use super::super::state::Edge;
use super::super::{answer, blocking};
use super::{EventRef, stored_event_id};
use crate::entity;
use crate::event::{EntityKey, ErasureMark, IncarnationHistory, Kind, Record, Timestamp};
use crate::projection::{EntityHistory, PageRequest, StoredRecord};

#[derive(Serialize, ToSchema)]
#[schema(as = Entity)]
pub(super) struct EntityView<'a> {
    kind: Kind,
    id: &'a str,
    sequence: Option<u64>,
    first_event: EventRef,
    last_event: EventRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    state: Option<Box<RawValue>>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TimelineEntry<'a> {
    sequence: Option<u64>,
    r#type: &'a str,
    summary: String,
    #[schema(value_type = serde_json::Value)]
    actor: Option<&'a RawValue>,
    at: Timestamp,
    received_at: Timestamp,
    late: bool,
    event_id: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    /// Time at which retention removed the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    removed_at: Option<Timestamp>,
    #[schema(value_type = serde_json::Value)]
    data: Option<Cow<'a, RawValue>>,
    /// True if the page had no room for the content, which the event by itself has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    content_omitted: bool,
}

/// Page of a timeline. The events before `first_sequence` were removed by retention.
#[derive(Serialize, ToSchema)]
#[schema(as = TimelinePage)]
pub(super) struct TimelineList<'a> {
    #[serde(flatten)]
    list: ListPage<TimelineEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    first_sequence: Option<u64>,
}

/// Handles `GET /api/v1/entities/{kind}`: lists entities, newest first.
pub(in crate::edge) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let kind: String = context.parse_path()?;
    let kind = parse_kind(&kind)?;
    let page = parse_page_request(context)?;
    let core = context.edge.core()?;
    let found = core.reads.entities(kind, page).await?;
    let mut items = Vec::with_capacity(found.items.len());
    for key in &found.items {
        // An entity that was removed between the two reads is left out.
        if let Some((first, last)) = core.reads.first_and_last(key).await? {
            items.push(entity_view(key, core.reads.incarnations(), &first, &last));
        }
    }
    Ok(answer::ok_json(&ListPage::new(items, found.total, page)))
}

/// Handles `GET /api/v1/entities/{kind}/{id}`: shows an entity with its state.
pub(in crate::edge) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let (kind, id): (String, String) = context.parse_path()?;
    let key = parse_entity_key(&kind, &id)?;
    context.refuse_parameters()?;
    let core = context.edge.core()?;
    let history = core.reads.history(&key).await?.ok_or_else(no_such_entity)?;
    let edge = context.edge.clone();
    blocking::ok_json(core, move |core| {
        let entity = entity_with_state(&key, &history, &edge, core)?;
        Ok(answer::encode_json(&entity))
    })
    .await
}

/// Returns the answer that shows an entity with its state.
///
/// # Errors
/// [`ApiError::Internal`] if the state cannot be restored.
pub(super) fn entity_with_state<'a>(
    key: &'a EntityKey,
    history: &EntityHistory,
    edge: &Edge,
    core: &NodeCore,
) -> Result<impl Serialize + use<'a>, ApiError> {
    let incarnations = core.reads.incarnations();
    let mut entity = entity_view(key, incarnations, &history.first, &history.last);
    entity.state = Some(render_state(key, history, edge, core)?);
    Ok(entity)
}

/// Handles `GET /api/v1/entities/{kind}/{id}/timeline`: lists the events of an entity.
pub(in crate::edge) async fn timeline(
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let (kind, id): (String, String) = context.parse_path()?;
    let key = parse_entity_key(&kind, &id)?;
    let page = parse_page_request(context)?;
    let core = context.edge.core()?;
    let found = core
        .reads
        .timeline(&key, page)
        .await?
        .ok_or_else(no_such_entity)?;
    blocking::ok_json(core, move |core| {
        let records = found.page.items.iter();
        let items = records.map(|stored| timeline_entry(core.reads.incarnations(), stored));
        Ok(answer::encode_json(&TimelineList {
            list: ListPage::new(items.collect(), found.page.total, page),
            first_sequence: (found.first_sequence > 1).then_some(found.first_sequence),
        }))
    })
    .await
}

fn entity_view<'a>(
    key: &'a EntityKey,
    incarnations: &IncarnationHistory,
    first: &StoredRecord,
    last: &StoredRecord,
) -> EntityView<'a> {
    EntityView {
        kind: key.kind(),
        id: key.id(),
        sequence: last.record.sequence,
        first_event: EventRef::new(incarnations, first),
        last_event: EventRef::new(incarnations, last),
        state: None,
    }
}

/// Renders the state of the entity `key` as JSON.
///
/// # Errors
/// [`ApiError::Internal`] if the state cannot be restored.
pub(in crate::edge) fn render_state(
    key: &EntityKey,
    history: &EntityHistory,
    edge: &Edge,
    core: &NodeCore,
) -> Result<Box<RawValue>, ApiError> {
    let limits = entity::StateLimits {
        items_max: edge.config.entity.items_max,
    };
    let state =
        entity::restore_state(key.kind(), &history.snapshot_and_tail, limits).map_err(|error| {
            tracing::error!(entity = %key, %error, "entity state could not be restored");
            ApiError::Internal
        })?;
    // The account of a conversation can change after its last event, so it is looked up now.
    if let entity::EntityState::Conversation(conversation) = &state {
        let known = core.accounts.snapshot();
        let account = conversation
            .business_account()
            .and_then(|business| known.find_by_business_account(business));
        let json = conversation.to_json_of_account(account.map(|account| account.id.as_str()));
        return to_raw_value(&json).map_err(|_| ApiError::Internal);
    }
    Ok(state.to_raw_json())
}

fn timeline_entry<'a>(
    incarnations: &IncarnationHistory,
    stored: &'a StoredRecord,
) -> TimelineEntry<'a> {
    let record = &stored.record;
    TimelineEntry {
        sequence: record.sequence,
        r#type: &record.event_type,
        summary: summarize_record(record),
        actor: record.envelope_member("actor"),
        at: record.at,
        received_at: stored.received_at,
        late: record.late,
        event_id: stored_event_id(incarnations, stored).to_string(),
        erased: record.is_erased(),
        removed_at: record.content_expired_at(),
        data: record.data(),
        content_omitted: stored.omits_content,
    }
}

/// Summarizes the effect of `record` on its entity in a few words.
pub(in crate::edge) fn summarize_record(record: &Record) -> String {
    match record.erasure {
        Some(ErasureMark::Erases) => "erased all earlier content".to_owned(),
        Some(ErasureMark::Erased { .. }) => "erased".to_owned(),
        Some(ErasureMark::Expired { .. }) => "content removed by retention".to_owned(),
        None => entity::summarize_change(record.entity.kind(), &record.change),
    }
}

fn parse_page_request(context: &RequestContext) -> Result<PageRequest, ApiError> {
    let mut parameters = context.parameters(&["page", "page_size"]);
    let page = parameters.page_request();
    parameters.finish(page)
}

pub(in crate::edge) fn parse_kind(name: &str) -> Result<Kind, ApiError> {
    Kind::parse(name).ok_or_else(|| {
        let names = Kind::BUILT_IN.map(Kind::as_str).join(", ");
        ApiError::not_found(format!(
            "there is no such kind of entity; known: {names}, and custom:<name> for \
                each configured name"
        ))
    })
}

pub(in crate::edge) fn parse_entity_key(kind: &str, id: &str) -> Result<EntityKey, ApiError> {
    EntityKey::try_new(parse_kind(kind)?, id).map_err(|_| no_such_entity())
}

pub(in crate::edge) fn no_such_entity() -> ApiError {
    ApiError::not_found("there is no such entity")
}
