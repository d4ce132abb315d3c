//! Submission of decoded events: sends a command to its entity, and answers when it is durable.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{self, ENTITY_SEQUENCE, EVENT_ID};
use super::entity_reference::EntityReference;
use super::error::ApiError;
use super::gate::NodeCore;
use super::state::Edge;
use crate::entity::Command;
use crate::event::{EntityKey, EventId, Position};

/// Submits `command` to the router, and answers with `status` when its record is durable.
///
/// # Errors
/// The refusal of the router, as [`ApiError::from_refusal`] converts it, or
/// [`ApiError::Unavailable`].
pub(super) async fn submit_command(
    edge: &Edge,
    command: Command,
    status: StatusCode,
) -> Result<HttpResponse, ApiError> {
    let core = edge.core()?;
    let entity = command.entity.clone();
    let event_id = |position| public_event_id(&core, position);

    let outcome = core
        .router
        .submit_command(command)
        .await
        .map_err(|refusal| ApiError::from_refusal(refusal, event_id))?;

    Ok(accepted_response(
        status,
        "accepted",
        event_id(outcome.position),
        &entity,
        outcome.sequence,
    ))
}

/// Returns the public id of the event at `position`.
pub(super) fn public_event_id(core: &NodeCore, position: Position) -> EventId {
    core.reads.incarnations().event_id(position)
}

#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedEvent<'a> {
    status: &'static str,
    event_id: &'a str,
    entity: EntityReference<'a>,
}

/// Builds the answer for an accepted event, with the member `status` set to `outcome`, such as
/// `accepted`.
#[must_use]
pub(super) fn accepted_response(
    status: StatusCode,
    outcome: &'static str,
    event_id: EventId,
    entity: &EntityKey,
    sequence: Option<u64>,
) -> HttpResponse {
    let id = event_id.to_string();
    let body = AcceptedEvent {
        status: outcome,
        event_id: &id,
        entity: EntityReference::new(entity, sequence),
    };
    let mut response = answer::json_response(status, &body);
    set_event_headers(&mut response, event_id, sequence);
    response
}

/// Sets the headers with the event's id and its number among the entity's events, if it has one.
pub(super) fn set_event_headers(
    response: &mut HttpResponse,
    event_id: EventId,
    sequence: Option<u64>,
) {
    answer::set_header(response.headers_mut(), EVENT_ID, &event_id.to_string());
    if let Some(sequence) = sequence {
        response
            .headers_mut()
            .insert(ENTITY_SEQUENCE, sequence.into());
    }
}
