//! `POST /api/v1/events/{event_id}/reprocess`: one more attempt at an event that failed, from its
//! stored payload.
//!
//! Each source says for itself what another attempt is: the same command again, or more work on an
//! event that was applied.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use tracing::Span;

use super::super::context::RequestContext;
use super::super::error::Error;
use super::super::signature::VerifiedBody;
use super::super::state::Edge;
use super::super::support::{self, SupportRequestContext};
use super::super::{c2s, submit};
use super::events;
use crate::entity::Command;
use crate::event::{EventId, Record};
use crate::projection::{EventStatus, EventView};
use crate::router::Refusal;

/// Answers as the first request of the event was: 202, with the event's own id, and the number that
/// it has now.
pub(in crate::edge) async fn run(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let core = context.edge.core()?;
    let (id, view) = events::find_event(&core, &id).await?;
    if view.status != EventStatus::Failed {
        return Err(Error::NotFailed);
    }
    let command = reprocess_command(id, &view, &context.edge, context.call.span().clone())?;
    let entity = command.entity.clone();
    let outcome = core
        .router
        .submit_command(command)
        .await
        .map_err(|refusal| reprocess_error(refusal, id))?;
    let sequence = outcome.sequence.or(view.event.record.sequence);
    Ok(submit::accepted_response(
        StatusCode::ACCEPTED,
        "accepted",
        id,
        &entity,
        sequence,
    ))
}

/// The command of one more attempt. Its time stays what it was: an attempt makes nothing newer.
fn reprocess_command(
    id: EventId,
    view: &EventView,
    edge: &Edge,
    span: Span,
) -> Result<Command, Error> {
    let record = &view.event.record;
    let command = if record.source == support::SOURCE.as_str() {
        support_command(record, edge, span)?
    } else if record.source == c2s::SOURCE.as_str() {
        edge.c2s().reopen_command(record, span)
    } else {
        tracing::error!(source = record.source, event_id = %id, "event of an unknown source cannot be reprocessed");
        return Err(Error::Internal);
    };
    // The claim of this attempt: two requests at once make one attempt, and no sender's key can be
    // the same.
    let key = format!("\u{1}reprocess:{id}:{}", view.later_records);
    Ok(Command {
        at: Some(record.at),
        idempotency_key: Some(key),
        reprocesses: Some(id.position()),
        ..command
    })
}

/// A support event's command again, by the rules of today.
fn support_command(record: &Record, edge: &Edge, span: Span) -> Result<Command, Error> {
    let given = SupportRequestContext {
        // Replaced later: a key with a control character is refused where keys come from outside.
        idempotency_key: Some(b"reprocess"),
        at: Some(record.at),
        unknown_entity: edge.support().unknown_entity(),
    };
    support::decode_support_event(&VerifiedBody::from_store(record), given, span)
}

fn reprocess_error(refusal: Refusal, id: EventId) -> Error {
    match refusal {
        Refusal::Duplicate { .. } => Error::ReprocessInProgress,
        other => Error::from_refusal(other, |position| EventId::new(id.incarnation(), position)),
    }
}
