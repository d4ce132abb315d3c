//! Vocabulary of all decisions: their context, their results, and the allocation of ids.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::event::{EntityKey, EventFailure, InternedName, Timestamp};

/// Limits of one entity's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateLimits {
    /// Maximum of items in each collection of a state; older items remain in the timeline only.
    pub items_max: usize,
}

/// Input of a decision besides the state and the action.
#[derive(Debug)]
pub struct DecisionContext<'a> {
    /// Key of the deciding entity.
    pub key: &'a EntityKey,
    /// Source that sent the event.
    pub source: InternedName,
    /// Event time, at most the clock tolerance ahead of `received_at`.
    pub at: Timestamp,
    /// Time of receipt by the node's clock; never before the entity's previous event.
    pub received_at: Timestamp,
    /// False if another entity holds the unique key that the event claims; true if it claims none.
    pub unique_key_is_free: bool,
    /// Limits of the state after the decision.
    pub limits: StateLimits,
    /// Allocates ids for new items and spawned entities.
    pub ids: DecisionIds<'a>,
}

/// Allocator of the node's ids: 1, 2, 3 … across all kinds, never the same twice.
#[derive(Debug)]
pub struct IdAllocator(AtomicU64);

impl IdAllocator {
    /// Allocates ids above `highest`, the highest id in the store.
    #[must_use]
    pub const fn starting_after(highest: u64) -> Self {
        Self(AtomicU64::new(highest))
    }

    /// Returns an id that was never allocated before.
    #[must_use]
    pub fn allocate_id(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Allocates ids for one decision, and remembers the highest, which the record keeps.
#[derive(Debug)]
pub struct DecisionIds<'a> {
    ids: &'a IdAllocator,
    highest: Cell<Option<u64>>,
}

impl<'a> DecisionIds<'a> {
    /// Starts a decision without any allocated id.
    #[must_use]
    pub const fn new(ids: &'a IdAllocator) -> Self {
        Self {
            ids,
            highest: Cell::new(None),
        }
    }

    /// Returns an id that was never allocated before.
    #[must_use]
    pub fn allocate_id(&self) -> u64 {
        let id = self.ids.allocate_id();
        self.highest.set(self.highest.get().max(Some(id)));
        id
    }

    /// Highest id that this decision has allocated.
    #[must_use]
    pub fn highest_id(&self) -> Option<u64> {
        self.highest.get()
    }
}

/// Result of a decision that does not reject the event; `C` is the change of the kind.
#[derive(Clone, Debug, PartialEq)]
pub enum EntityDecision<C> {
    /// Records the event and applies its change.
    Accept(AcceptedChange<C>),
    /// Records the event without a change; the sequence number stays.
    RecordOnly,
    /// Records nothing: by the state, the event was applied before. The sender gets this answer.
    AlreadyApplied(Option<Value>),
    /// Records the event, which erases the content of all earlier records and the state.
    Erase,
}

/// Effect of an accepted event.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedChange<C> {
    /// Change to record and to apply.
    pub change: C,
    /// True if a part of the event was older than the state.
    pub late: bool,
    /// Answer to the sender, in contracts that answer from the state.
    pub answer: Option<Value>,
    /// Entities that the event creates, recorded together with it or not at all.
    pub spawned: Vec<SpawnedEntity>,
}

impl<C> AcceptedChange<C> {
    /// Accepts `change` in time, without an answer or a spawned entity.
    #[must_use]
    pub const fn new(change: C) -> Self {
        Self {
            change,
            late: false,
            answer: None,
            spawned: Vec::new(),
        }
    }

    /// Converts the change to another type.
    pub(super) fn map<D>(self, wrap: impl FnOnce(C) -> D) -> AcceptedChange<D> {
        let Self {
            change,
            late,
            answer,
            spawned,
        } = self;
        AcceptedChange {
            change: wrap(change),
            late,
            answer,
            spawned,
        }
    }
}

/// First record of an entity whose id the deciding entity has allocated.
#[derive(Clone, Debug, PartialEq)]
pub struct SpawnedEntity {
    /// Key of the new entity.
    pub key: EntityKey,
    /// Name of its first event.
    pub event_type: &'static str,
    /// Change that makes the new entity's state from an empty one, encoded as in its record.
    pub change: Vec<u8>,
    /// Event as readers and subscribers see it: an object with a member `data`.
    pub payload: Bytes,
    /// Unique key that the new entity holds for ever, if any.
    pub unique_key: Option<String>,
}

/// Encodes the change of a kind as its record holds it.
pub(super) fn encode_change(change: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(change).expect("a change has string keys")
}

/// Code of rejections because of an erasure.
const ERASED: &str = "erased";

/// Reason for which an entity does not accept an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// HTTP status of the answer.
    pub status: u16,
    /// Stable, machine-readable code, such as `closed`.
    pub code: &'static str,
    /// Sentence for the sender, in plain words.
    pub message: String,
    /// Additional member of the answer: the id of the entity that exists already.
    pub member: Option<(&'static str, u64)>,
}

impl Rejection {
    /// Rejection with status 404, code `not_found` and `message`.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: 404,
            code: "not_found",
            message: message.into(),
            member: None,
        }
    }

    /// Rejection with status 409, `code` and `message`.
    #[must_use]
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: 409,
            code,
            message: message.into(),
            member: None,
        }
    }

    /// Rejection of further work on an event whose content was erased.
    #[must_use]
    pub fn of_erased_event() -> Self {
        Self {
            status: 410,
            code: ERASED,
            message: "the content of this event was erased".to_owned(),
            member: None,
        }
    }

    /// Returns `true` if the reason is that the content of an event was erased.
    #[must_use]
    pub fn is_of_erased_event(&self) -> bool {
        self.code == ERASED
    }

    /// Failure that the record of the rejected event keeps.
    #[must_use]
    pub fn to_failure(&self) -> EventFailure {
        EventFailure {
            code: self.status,
            message: self.message.clone(),
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
        assert_eq!([draw.allocate_id(), draw.allocate_id()], [42, 43]);
        assert_eq!((draw.highest_id(), ids.allocate_id()), (Some(43), 44));
    }
}
