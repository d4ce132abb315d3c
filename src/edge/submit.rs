//! What becomes of a decoded event: sent to its entity, and answered when it is durable.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use super::answer::{self, ENTITY_SEQUENCE, EVENT_ID};
use super::entity_reference::EntityReference;
use super::error::Error;
use super::gate::NodeCore;
use super::state::Edge;
use crate::entity::Command;
use crate::event::{EntityKey, EventId, Position};

/// Sends `command` on its way, and answers with `status` when it is durable.
///
/// # Errors
/// Those of the router's refusals.
pub(super) async fn submit_command(
    edge: &Edge,
    command: Command,
    status: StatusCode,
) -> Result<HttpResponse, Error> {
    let core = edge.core()?;
    let entity = command.entity.clone();
    let event_id = |position| public_event_id(&core, position);
    let outcome = core
        .router
        .submit_command(command)
        .await
        .map_err(|refusal| Error::from_refusal(refusal, event_id))?;
    Ok(accepted_response(
        status,
        "accepted",
        event_id(outcome.position),
        &entity,
        outcome.sequence,
    ))
}

/// The public id of the event at `position`.
pub(super) fn public_event_id(core: &NodeCore, position: Position) -> EventId {
    EventId::new(core.reads.incarnation(), position)
}

#[derive(Serialize)]
struct AcceptedEvent<'a> {
    status: &'static str,
    event_id: &'a str,
    entity: EntityReference<'a>,
}

/// The answer that an event was taken in: `word` (such as `accepted`), its id and what it is of its
/// entity.
#[must_use]
pub(super) fn accepted_response(
    status: StatusCode,
    word: &'static str,
    event_id: EventId,
    entity: &EntityKey,
    sequence: Option<u64>,
) -> HttpResponse {
    let id = event_id.to_string();
    let body = AcceptedEvent {
        status: word,
        event_id: &id,
        entity: EntityReference::new(entity, sequence),
    };
    let mut response = answer::json_response(status, &body);
    set_event_headers(&mut response, event_id, sequence);
    response
}

/// Says in the headers which event was taken in, and its number if it has one.
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
