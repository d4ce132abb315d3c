//! Vocabulary between the contracts and the entities: the command that a request is decoded into,
//! and its outcome.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::decision::Rejection;
use super::state::EntityAction;
use crate::event::{
    ClaimOwner, EntityKey, EventFailure, InternedName, KeyReusePolicy, PayloadShape, Position,
    SignedRequest, Timestamp, TraceContext, join_key_and_content,
};

/// Authentic, decoded event on its way to its entity.
#[derive(Clone, Debug)]
pub struct Command {
    /// Source that sent the event, such as `support`.
    pub source: InternedName,
    /// Entity that decides on the event.
    pub entity: EntityKey,
    /// Decoded content that the entity decides on.
    pub action: EntityAction,
    /// Event name in the catalogue, such as `status.changed`.
    pub event_type: Cow<'static, str>,
    /// Event time, if the event or its request carries one.
    pub at: Option<Timestamp>,
    /// Key by which the source marks repetitions of one event.
    pub idempotency_key: Option<String>,
    /// Hash of the request, for contracts in which a repetition must be identical.
    pub request_hash: Option<[u8; 32]>,
    /// Tag of the credential that the idempotency key belongs to, as `tag_credential` makes it. Without
    /// one the key belongs to the whole source.
    pub credential: Option<u32>,
    /// Name of the token that published the event, if it came with one.
    pub token: Option<Arc<str>>,
    /// Number of deliveries by which the event came here.
    pub hops: u8,
    /// Trace that the event is a part of, if its sender told one.
    pub trace: Option<TraceContext>,
    /// Signed request that brought the event, if it counts besides the key.
    pub signed_request: Option<SignedRequest>,
    /// Treatment of the event if its key was used for another one.
    pub on_key_reuse: KeyReusePolicy,
    /// Event as it was received.
    pub payload: Bytes,
    /// Form of the payload, with or without envelope.
    pub shape: PayloadShape,
    /// True if the event may create its entity; otherwise an absent entity answers 404.
    pub may_create: bool,
    /// Treatment of the event if the entity rejects it.
    pub on_rejection: RejectionPolicy,
    /// Key that an entity spawned by this event holds for ever, such as a customer code.
    pub unique_key: Option<String>,
    /// True if only a later event completes this event or marks it as failed.
    pub pending: bool,
    /// Failed event that this event tries again.
    pub reprocesses: Option<Position>,
    /// Pending event that this event completes or marks as failed.
    pub resolves: Option<EventResolution>,
    /// Sentences about fields that the event should have had, which its record keeps.
    pub warnings: Vec<String>,
    /// Body of the call if the payload is another form of it; all but the events of a call with several.
    pub call_body: Bytes,
    /// Span of the request; later log lines on the event appear under it.
    pub span: tracing::Span,
}

/// Warning of an event whose key was used before for another event.
pub const KEY_REUSED: &str =
    "idempotency_key was used before for another event; both events are kept";

impl Command {
    /// Command with the defaults: the event may create its entity, and is stored as failed if the
    /// entity rejects it.
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
            credential: None,
            token: None,
            hops: 0,
            trace: None,
            signed_request: None,
            on_key_reuse: KeyReusePolicy::Refuse,
            payload,
            shape: PayloadShape::Envelope,
            may_create: true,
            on_rejection: RejectionPolicy::Record,
            unique_key: None,
            pending: false,
            reprocesses: None,
            resolves: None,
            warnings: Vec::new(),
            call_body: Bytes::new(),
            span: tracing::Span::current(),
        }
    }
}

impl Command {
    /// Owner of the idempotency key; `None` if the key belongs to the whole source.
    #[must_use]
    pub fn claim_owner(&self) -> Option<ClaimOwner> {
        Some(ClaimOwner {
            credential: self.credential?,
            content: self.request_hash?,
        })
    }

    /// Gives the event a key of its own, since its sender's key stands for another event.
    pub fn keep_apart(&mut self) {
        if let (Some(key), Some(content)) = (&self.idempotency_key, &self.request_hash) {
            self.idempotency_key = Some(join_key_and_content(key, content));
            self.warnings.push(KEY_REUSED.to_owned());
        }
    }
}

/// Treatment of an event that its entity rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionPolicy {
    /// Stores the event as failed, for an operator to look at; the sender gets a success.
    Record,
    /// Answers the sender with the rejection and stores nothing.
    Answer,
}

/// End of the processing of an earlier, pending event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventResolution {
    /// Position of the earlier event's record.
    pub event: Position,
    /// Failure of the earlier event; `None` if it succeeded.
    pub failure: Option<EventFailure>,
}

/// Result of a recorded event. It exists only after the record is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutcome {
    /// Position of the event's record.
    pub position: Position,
    /// Position of the last record written with the event: that of the last spawned entity, else
    /// the same as `position`.
    pub last: Position,
    /// Sequence number among the entity's records; `None` if the event failed.
    pub sequence: Option<u64>,
    /// Failure of the event, if the entity rejected it.
    pub failure: Option<EventFailure>,
    /// Answer to the sender as JSON, in contracts that answer from the state; otherwise empty.
    pub answer: Bytes,
    /// True if the event was kept apart from an earlier one with its key.
    pub is_key_reused: bool,
}

/// Result of an event that left no record. It exists only after every record that the decision
/// rests on is durable.
#[derive(Clone, Debug, PartialEq)]
pub enum UnrecordedOutcome {
    /// Rejected by the entity, and the sender is to learn it.
    Rejected(Rejection),
    /// Applied before, by the entity's state; the sender gets this JSON, possibly empty.
    AlreadyApplied(Bytes),
}
