//! What the decisions of every kind are made of: what they are told, and what they say.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::event::{EntityKey, EventFailure, InternedName, Timestamp};

/// The bounds on what one entity holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateLimits {
    /// How many items each collection of a state keeps; older ones live on in the timeline.
    pub items_max: usize,
}

/// What an event is decided with, besides the state and what it asks for.
#[derive(Debug)]
pub struct DecisionContext<'a> {
    /// The entity that decides.
    pub key: &'a EntityKey,
    /// The source that the event came by.
    pub source: InternedName,
    /// The event's own time, at most a tolerance ahead of `received_at`.
    pub at: Timestamp,
    /// When it was received.
    pub received_at: Timestamp,
    /// Whether nobody else holds the key that the event claims for ever; `true` if it claims none.
    pub unique_key_is_free: bool,
    /// The bounds of a state.
    pub limits: StateLimits,
    /// Gives ids to what the event makes.
    pub ids: DecisionIds<'a>,
}

/// The ids that the node gives: 1, 2, 3 … over everything that needs one, never the same twice.
#[derive(Debug)]
pub struct IdAllocator(AtomicU64);

impl IdAllocator {
    /// Ids above `highest`, the highest one given so far.
    #[must_use]
    pub const fn starting_after(highest: u64) -> Self {
        Self(AtomicU64::new(highest))
    }

    /// The next id.
    #[must_use]
    pub fn allocate_id(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Draws ids for one decision, and remembers the highest.
#[derive(Debug)]
pub struct DecisionIds<'a> {
    ids: &'a IdAllocator,
    highest: Cell<Option<u64>>,
}

impl<'a> DecisionIds<'a> {
    /// Draws from `ids`.
    #[must_use]
    pub const fn new(ids: &'a IdAllocator) -> Self {
        Self {
            ids,
            highest: Cell::new(None),
        }
    }

    /// An id that nothing had before.
    #[must_use]
    pub fn id(&self) -> u64 {
        let id = self.ids.allocate_id();
        self.highest.set(self.highest.get().max(Some(id)));
        id
    }

    /// The highest id drawn so far.
    #[must_use]
    pub fn highest_id(&self) -> Option<u64> {
        self.highest.get()
    }
}

/// What an entity says to an event that it does not refuse; `C` is its kind's change.
#[derive(Clone, Debug, PartialEq)]
pub enum EntityDecision<C> {
    /// It is recorded.
    Accept(AcceptedChange<C>),
    /// It is recorded and changes nothing, not even the sequence.
    RecordOnly,
    /// It came before, by the state: nothing is recorded, and its sender is answered this.
    AlreadyApplied(Option<Value>),
}

/// What an accepted event does.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedChange<C> {
    /// What to record and to apply.
    pub change: C,
    /// Whether something of the event was older than what the entity already had.
    pub late: bool,
    /// What its sender is answered, where that comes from the state.
    pub answer: Option<Value>,
    /// Entities that begin with it, recorded together with it or not at all.
    pub spawned: Vec<SpawnedEntity>,
}

impl<C> AcceptedChange<C> {
    /// The change alone.
    #[must_use]
    pub const fn new(change: C) -> Self {
        Self {
            change,
            late: false,
            answer: None,
            spawned: Vec::new(),
        }
    }

    /// The same for another type of change.
    pub(super) fn map<D>(self, wrap: impl FnOnce(C) -> D) -> AcceptedChange<D> {
        let Self {
            change,
            late,
            answer,
            spawned: births,
        } = self;
        AcceptedChange {
            change: wrap(change),
            late,
            answer,
            spawned: births,
        }
    }
}

/// The first record of an entity whose id the deciding entity drew.
#[derive(Clone, Debug, PartialEq)]
pub struct SpawnedEntity {
    /// The new entity.
    pub key: EntityKey,
    /// The name of its first event.
    pub event_type: &'static str,
    /// The change by which that event makes a state of the empty one, encoded as its record holds
    /// it.
    pub change: Vec<u8>,
    /// The event as readers and subscribers see it: an object with a member `data`.
    pub payload: Bytes,
    /// The key that it holds for ever, if it has one.
    pub unique_key: Option<String>,
}

/// The change of a kind as its record holds it.
pub(super) fn encode_change(change: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(change).expect("a change has string keys")
}

/// Why an entity refuses an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// An HTTP status.
    pub status: u16,
    /// A stable code, such as `closed`.
    pub code: &'static str,
    /// One sentence for a person.
    pub message: String,
    /// A member that the answer carries besides: the number of what exists already.
    pub member: Option<(&'static str, u64)>,
}

impl Rejection {
    /// A 404 with `message`.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: 404,
            code: "not_found",
            message: message.into(),
            member: None,
        }
    }

    /// A 409 with `code` and `message`.
    #[must_use]
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: 409,
            code,
            message: message.into(),
            member: None,
        }
    }

    /// What is recorded of it.
    #[must_use]
    pub fn to_failure(&self) -> EventFailure {
        EventFailure {
            code: self.status,
            message: self.message.clone(),
        }
    }
}

impl From<EventFailure> for Rejection {
    fn from(failure: EventFailure) -> Self {
        let code = if failure.code == 404 {
            "not_found"
        } else {
            "rejected"
        };
        Self {
            status: failure.code,
            code,
            message: failure.message,
            member: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_on_above_the_highest_one_given() {
        let ids = IdAllocator::starting_after(41);
        let draw = DecisionIds::new(&ids);
        assert_eq!(draw.highest_id(), None);
        assert_eq!([draw.id(), draw.id()], [42, 43]);
        assert_eq!((draw.highest_id(), ids.allocate_id()), (Some(43), 44));
    }
}
