//! `POST /api/v1/events/{event_id}/reprocess`: another attempt at a failed event, from its stored
//! payload.
//!
//! Each source defines its own attempt: the support contract submits the same command again, and
//! Contact2Sale reopens the enrichment of an applied event.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tracing::Span;

use super::super::context::RequestContext;
use super::super::error::{ApiError, check_content};
use super::super::gate::NodeCore;
use super::super::signature::VerifiedBody;
use super::super::state::Edge;
use super::super::support::{self, SupportRequestContext};
use super::super::{c2s, submit};
use super::events;
use crate::entity::Command;
use crate::event::{EntityKey, EventId, Record};
use crate::projection::{EventStatus, EventView};
use crate::router::Refusal;

/// Handles `POST /api/v1/events/{event_id}/reprocess`. The answer is 202 with the event's own id
/// and its present number.
pub(in crate::edge) async fn run(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let span = context.call.span().clone();
    let reprocessed = reprocess_event(&context.edge, &id, span).await?;
    Ok(submit::accepted_response(
        StatusCode::ACCEPTED,
        "accepted",
        reprocessed.id,
        &reprocessed.entity,
        reprocessed.sequence,
    ))
}

/// Failed event after another attempt at it.
pub(in crate::edge) struct ReprocessedEvent {
    id: EventId,
    entity: EntityKey,
    sequence: Option<u64>,
}

/// Processes the failed event with the public id `id` again, in the span of its call.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::NotFailed`], and the errors of accepting an event.
pub(in crate::edge) async fn reprocess_event(
    edge: &Edge,
    id: &str,
    span: Span,
) -> Result<ReprocessedEvent, ApiError> {
    let core = edge.core()?;
    let (id, view) = events::find_event(&core, id).await?;
    check_content(&view.event.record)?;
    if view.status != EventStatus::Failed {
        return Err(ApiError::NotFailed);
    }
    let command = reprocess_command(id, &view, edge, span)?;

    let entity = command.entity.clone();
    let outcome = core
        .router
        .submit_command(command)
        .await
        .map_err(|refusal| reprocess_error(refusal, &core))?;

    let sequence = outcome.sequence.or(view.event.record.sequence);
    Ok(ReprocessedEvent {
        id,
        entity,
        sequence,
    })
}

/// Builds the command of another attempt. The event keeps its time, so that the attempt does not
/// overwrite newer values.
fn reprocess_command(
    id: EventId,
    view: &EventView,
    edge: &Edge,
    span: Span,
) -> Result<Command, ApiError> {
    let record = &view.event.record;
    let command = if record.source == support::SOURCE.as_str() {
        support_command(record, edge, span)?
    } else if record.source == c2s::SOURCE.as_str() {
        edge.c2s().reopen_command(record, span)
    } else {
        tracing::error!(
            source = record.source,
            event_id = %id,
            "event source supports no reprocessing"
        );
        return Err(ApiError::Internal);
    };
    // Key of this attempt, so that two requests at once make one attempt. Keys of senders contain
    // no control characters, so this key differs from all of them.
    let key = format!("\u{1}reprocess:{id}:{}", view.later_records);
    Ok(Command {
        at: Some(record.at),
        idempotency_key: Some(key),
        reprocesses: Some(id.position()),
        hops: record.hops,
        trace: record.trace,
        ..command
    })
}

/// Decodes the command of a support event again, by the present configuration.
fn support_command(record: &Record, edge: &Edge, span: Span) -> Result<Command, ApiError> {
    let request = SupportRequestContext {
        // Placeholder, replaced by the caller: the decoder refuses the control character of its
        // key.
        idempotency_key: Some(b"reprocess"),
        at: Some(record.at),
        unknown_entity: edge.support().unknown_entity(),
    };
    support::decode_support_event(&VerifiedBody::from_store(record), request, span)
}

fn reprocess_error(refusal: Refusal, core: &NodeCore) -> ApiError {
    match refusal {
        Refusal::Duplicate { .. } => ApiError::ReprocessInProgress,
        other => ApiError::from_refusal(other, |position| submit::public_event_id(core, position)),
    }
}
