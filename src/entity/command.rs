//! What a contract decodes a request into, and what an entity answers.

use bytes::Bytes;

use super::ticket;
use crate::event::{EntityKey, Failure, Position, Timestamp};

/// One authentic, decoded event on its way to its entity.
#[derive(Clone, Debug)]
pub struct Command {
    /// The configured source it came by, such as `support`.
    pub source: &'static str,
    /// The entity it is for.
    pub entity: EntityKey,
    /// What it asks for.
    pub action: Action,
    /// Its name in the catalogue, such as `status.changed`.
    pub event_type: &'static str,
    /// Its own time, if the event or its request gives one.
    pub at: Option<Timestamp>,
    /// The sender's key against duplicates.
    pub idempotency_key: Option<String>,
    /// The event as it was received.
    pub payload: Bytes,
    /// Whether it may be the first of its entity; if not, it fails with 404 when there is none.
    pub may_create: bool,
    /// The failed event that this is another attempt at.
    pub reprocesses: Option<Position>,
    /// The request's span, so that what happens to the event later is logged under it.
    pub span: tracing::Span,
}

/// What is asked of an entity, one variant for each kind.
#[derive(Clone, Debug)]
pub enum Action {
    /// Of a support ticket.
    Ticket(ticket::Action),
}

/// What became of an event, said once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The place of its record.
    pub position: Position,
    /// Its number among the entity's records; `None` when it failed.
    pub sequence: Option<u64>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}
