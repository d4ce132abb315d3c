//! What a contract decodes a request into, and what an entity answers.

use std::borrow::Cow;

use bytes::Bytes;

use super::EntityAction;
use super::decision::Rejection;
use crate::event::{EntityKey, EventFailure, InternedName, PayloadShape, Position, Timestamp};

/// One authentic, decoded event on its way to its entity.
#[derive(Clone, Debug)]
pub struct Command {
    /// The configured source it came by, such as `support`.
    pub source: InternedName,
    /// The entity it is for.
    pub entity: EntityKey,
    /// What it asks for.
    pub action: EntityAction,
    /// Its name in the catalogue, such as `status.changed`.
    pub event_type: Cow<'static, str>,
    /// Its own time, if the event or its request gives one.
    pub at: Option<Timestamp>,
    /// The sender's key against duplicates.
    pub idempotency_key: Option<String>,
    /// The hash of the request, where a repeated one has to be the same.
    pub request_hash: Option<[u8; 32]>,
    /// The event as it was received.
    pub payload: Bytes,
    /// What the payload is.
    pub shape: PayloadShape,
    /// Whether it may be the first of its entity; if not, it is refused with 404 when there is
    /// none.
    pub may_create: bool,
    /// What happens when its entity refuses it.
    pub on_rejection: RejectionPolicy,
    /// A key that an entity it creates is to hold for ever, such as a customer's code.
    pub unique_key: Option<String>,
    /// Whether it is completed or failed by a later event only.
    pub pending: bool,
    /// The failed event that this is another attempt at.
    pub reprocesses: Option<Position>,
    /// The event that this one completes or fails.
    pub resolves: Option<EventResolution>,
    /// The request's span, so that what happens to the event later is logged under it.
    pub span: tracing::Span,
}

impl Command {
    /// An event of which no more is known: it may begin its entity, and is recorded as failed if
    /// that refuses it.
    #[must_use]
    pub fn new(
        source: InternedName,
        entity: EntityKey,
        action: EntityAction,
        event_type: impl Into<Cow<'static, str>>,
        payload: Bytes,
    ) -> Self {
        Self {
            source,
            entity,
            action,
            event_type: event_type.into(),
            at: None,
            idempotency_key: None,
            request_hash: None,
            payload,
            shape: PayloadShape::Envelope,
            may_create: true,
            on_rejection: RejectionPolicy::Record,
            unique_key: None,
            pending: false,
            reprocesses: None,
            resolves: None,
            span: tracing::Span::current(),
        }
    }
}

/// What happens when an entity refuses an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionPolicy {
    /// It is recorded as failed, for someone to look at: its sender is not told.
    Record,
    /// Its sender is told, and nothing is recorded.
    Answer,
}

/// That an event ends the processing of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventResolution {
    /// Where the other event stands.
    pub event: Position,
    /// Why that one failed, if it did.
    pub failure: Option<EventFailure>,
}

/// What became of an event, said once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutcome {
    /// The place of its record.
    pub position: Position,
    /// The place of the last record that was written with it: that of the last entity that began
    /// with it, if any did.
    pub last: Position,
    /// Its number among the entity's records; `None` when it failed.
    pub sequence: Option<u64>,
    /// Why it failed, if it did.
    pub failure: Option<EventFailure>,
    /// What its sender is answered, as JSON, by contracts that answer from the state; else empty.
    pub answer: Bytes,
}

/// Why an event left no record, said once what it was decided on is durable.
#[derive(Clone, Debug, PartialEq)]
pub enum UnrecordedOutcome {
    /// The entity refused it.
    Rejected(Rejection),
    /// The entity knows it already: its sender is answered this JSON (possibly nothing).
    AlreadyApplied(Bytes),
}
