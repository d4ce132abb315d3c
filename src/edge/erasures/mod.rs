//! `DELETE /api/v1/entities/{kind}/{id}?erase=true` and `GET /api/v1/erasures/{erasure_id}`: erasure
//! of an entity's content, and its progress.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::answer;
use super::context::RequestContext;
use super::docs::schemas;
use super::entity_reference::EntityReference;
use super::error::ApiError;
use super::query::parse_number;
use super::reads::entities::parse_entity_key;
use super::state::Edge;
use crate::erasure::{Erasure, ErasureError, ErasureProgress, ErasureState};
use crate::event::{EntityKey, Timestamp};

pub(super) mod spec;

/// Erasure, as answers show it.
#[derive(Serialize, ToSchema)]
#[schema(as = Erasure)]
struct ErasureView<'a> {
    id: u64,
    #[schema(schema_with = states)]
    state: &'static str,
    entity: EntityReference<'a>,
    segments: SegmentCounts,
    requested_at: Timestamp,
    finished_at: Option<Timestamp>,
}

/// Segments of the journal: those that are finished, and all of them.
#[derive(Serialize, ToSchema)]
struct SegmentCounts {
    done: u64,
    total: u64,
}

fn states() -> Schema {
    schemas::one_of(ErasureState::ALL.map(ErasureState::as_str))
}

impl<'a> ErasureView<'a> {
    fn new(erasure: &'a Erasure, progress: ErasureProgress) -> Self {
        Self {
            id: erasure.id,
            state: erasure.state.as_str(),
            entity: EntityReference::new(&erasure.entity, None),
            segments: SegmentCounts {
                done: progress.done,
                total: progress.total,
            },
            requested_at: erasure.requested_at,
            finished_at: erasure.finished_at,
        }
    }
}

/// Handles `DELETE /api/v1/entities/{kind}/{id}?erase=true`: erases an entity's content.
pub(super) async fn erase(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let (kind, id): (String, String) = context.parse_path()?;
    let key = parse_entity_key(&kind, &id)?;
    let mut parameters = context.parameters(&["erase"]);
    match parameters.take_text("erase").as_deref() {
        Some("true") => {}
        // Nothing else can be meant yet, and nothing can undo it.
        Some(_) | None => parameters.add_error("erase", "must be true; an erasure is final"),
    }
    parameters.finish(())?;

    let erasure = erase_entity(&context.edge, &key).await?;
    let view = ErasureView::new(&erasure, ErasureProgress::default());
    Ok(answer::uncached_json(StatusCode::ACCEPTED, &view))
}

/// Erases the content of the entity `key`: no read shows it from now on, and its files are cleaned in
/// the background.
///
/// # Errors
/// [`ApiError::NotFound`], the refusals of an event, and [`ApiError::Unavailable`].
pub(in crate::edge) async fn erase_entity(
    edge: &Edge,
    key: &EntityKey,
) -> Result<Erasure, ApiError> {
    let core = edge.core()?;
    if edge.config.cluster.is_some() {
        return Err(ApiError::ErasureInCluster);
    }
    let erased = core.erasures.erase_entity(key).await;
    erased.map_err(|error| match error {
        ErasureError::Refused(refusal) => {
            let incarnations = core.reads.incarnations();
            ApiError::from_refusal(refusal, |position| incarnations.event_id(position))
        }
        other => erasure_error(&other),
    })
}

/// Handles `GET /api/v1/erasures/{erasure_id}`: shows an erasure and its progress.
pub(super) async fn show(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    context.refuse_parameters()?;
    let no_such_erasure = || ApiError::not_found("there is no such erasure");
    let number = parse_number(&id).ok_or_else(no_such_erasure)?;
    let core = context.edge.core()?;
    let found = core.erasures.find_erasure(number).await;
    let (erasure, progress) = found
        .map_err(|error| erasure_error(&error))?
        .ok_or_else(no_such_erasure)?;
    Ok(answer::ok_json(&ErasureView::new(&erasure, progress)))
}

fn erasure_error(error: &ErasureError) -> ApiError {
    if matches!(error, ErasureError::NotFound) {
        return ApiError::NotFound(error.to_string());
    }
    tracing::warn!(error = error as &dyn std::error::Error, "erasure failed");
    ApiError::Unavailable
}
