//! State, action and change of an entity of any kind; each method dispatches to the kind's module.
//!
//! A snapshot is a format byte and the kind's JSON. A change is the kind's JSON alone, since its
//! record has a format byte already.

use serde_json::value::{RawValue, to_raw_value};

use super::decision::{
    AcceptedChange, DecisionContext, EntityDecision, Rejection, SpawnedEntity, StateLimits,
    encode_change,
};
use super::{c2s_lead, conversation, customer, generic, lead, pre_lead, ticket};
use crate::event::Kind;

/// Format byte of the snapshots written; every other format is refused.
const SNAPSHOT_FORMAT: u8 = 1;

/// Generates the common enums from the list of kinds. The module of a kind has a state with `apply`
/// and `to_json`, an action, a change, and the functions `decide` and `summary`.
macro_rules! kinds {
    (
        $states:ident, $actions:ident, $changes:ident;
        $(
            $(#[$doc:meta])*
            $variant:ident($module:ident, $state:ident, $action:ident, $change:ident) = $kinds:pat,
        )+
    ) => {
        /// State of one entity, by its kind.
        #[allow(clippy::large_enum_variant, reason = "one per actor, moved once")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum $states {
            $($(#[$doc])* $variant($module::$state),)+
        }

        /// Input of a decision, by the entity's kind.
        #[derive(Clone, Debug)]
        pub enum $actions {
            $($(#[$doc])* $variant($module::$action),)+
            /// Erasure of everything that the entity holds, which every kind accepts.
            Erase,
        }

        /// Effect of one event on an entity, by the entity's kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum $changes {
            $($(#[$doc])* $variant($module::$change),)+
        }

        impl $states {
            /// State of an entity of `kind` before its first event.
            #[must_use]
            pub fn new(kind: Kind) -> Self {
                match kind {
                    $($kinds => Self::$variant($module::$state::default()),)+
                }
            }

            /// Decides on `action`. Changes nothing by itself.
            ///
            /// # Errors
            /// [`Rejection`] when the entity cannot accept the event, for example an event about a
            /// message that does not exist.
            pub fn decide(
                &self,
                action: &$actions,
                context: &DecisionContext<'_>,
            ) -> Result<EntityDecision<$changes>, Rejection> {
                match (self, action) {
                    (_, $actions::Erase) => Ok(EntityDecision::Erase),
                    $((Self::$variant(state), $actions::$variant(action)) => {
                        let decision = $module::decide(state, action, context)?;
                        Ok(decision.map($changes::$variant))
                    })+
                    _ => {
                        let message = format!("a {} takes no such event", context.key.kind());
                        Err(Rejection::not_found(message))
                    }
                }
            }

            /// Copies `change` into the state.
            pub fn apply(&mut self, change: &$changes, limits: StateLimits) {
                match (self, change) {
                    $((Self::$variant(state), $changes::$variant(change)) => {
                        state.apply(change, limits)
                    })+
                    _ => unreachable!("a change is made or decoded by the kind of its state"),
                }
            }

            fn write_snapshot(&self, bytes: &mut Vec<u8>) -> Result<(), serde_json::Error> {
                match self {
                    $(Self::$variant(state) => serde_json::to_writer(bytes, state),)+
                }
            }

            fn read_snapshot(kind: Kind, json: &[u8]) -> Result<Self, serde_json::Error> {
                match kind {
                    $($kinds => serde_json::from_slice(json).map(Self::$variant),)+
                }
            }

            /// State in the form of the API, with the digits of its numbers kept.
            #[must_use]
            pub fn to_raw_json(&self) -> Box<RawValue> {
                match self {
                    $(Self::$variant(state) => to_raw_value(&state.to_json()),)+
                }
                .expect("a state has string keys")
            }
        }

        impl $changes {
            /// Encodes the change as its record holds it.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant(change) => encode_change(change),)+
                }
            }

            /// Decodes a change that [`Self::encode`] wrote.
            ///
            /// # Errors
            /// [`serde_json::Error`] if `bytes` are no change of `kind`, or contain an effect that only
            /// a newer version knows.
            pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, serde_json::Error> {
                match kind {
                    $($kinds => serde_json::from_slice(bytes).map(Self::$variant),)+
                }
            }

            fn summary(&self) -> String {
                match self {
                    $(Self::$variant(change) => $module::summary(change),)+
                }
            }
        }
    };
}

kinds! {
    EntityState, EntityAction, EntityChange;
    /// Support ticket, implemented in [`ticket`]
    Ticket(ticket, TicketState, TicketAction, TicketChange) = Kind::Ticket,
    /// Inquiry before a lead, implemented in [`pre_lead`]
    PreLead(pre_lead, PreLeadState, PreLeadAction, PreLeadChange) = Kind::PreLead,
    /// Possible customer, implemented in [`lead`]
    Lead(lead, LeadState, LeadAction, LeadChange) = Kind::Lead,
    /// Converted lead, implemented in [`customer`]
    Customer(customer, CustomerState, CustomerAction, CustomerChange) = Kind::Customer,
    /// Instagram conversation, implemented in [`conversation`]
    Conversation(conversation, ConversationState, ConversationAction, ConversationChange) =
        Kind::Conversation,
    /// Lead of Contact2Sale, implemented in [`c2s_lead`]
    C2sLead(c2s_lead, C2sLeadState, C2sLeadAction, C2sLeadChange) = Kind::C2sLead,
    /// Kinds with plain fields only, implemented in [`generic`]
    Generic(generic, GenericState, GenericAction, GenericChange) = Kind::Organisation
        | Kind::Person
        | Kind::Task
        | Kind::Mandat
        | Kind::Interaction
        | Kind::Custom(_),
}

impl EntityChange {
    /// First change of the entity `spawned`.
    #[must_use]
    pub fn from_spawned(spawned: &SpawnedEntity) -> Self {
        Self::decode(spawned.key.kind(), &spawned.change)
            .expect("the kind of its key has just encoded it")
    }
}

impl<C> EntityDecision<C> {
    fn map<D>(self, wrap: impl FnOnce(C) -> D) -> EntityDecision<D> {
        match self {
            Self::Accept(accepted) => EntityDecision::Accept(AcceptedChange::map(accepted, wrap)),
            Self::RecordOnly => EntityDecision::RecordOnly,
            Self::AlreadyApplied(answer) => EntityDecision::AlreadyApplied(answer),
            Self::Erase => EntityDecision::Erase,
        }
    }
}

/// Failure to make a state from stored bytes.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Snapshot of another version of the program.
    #[error(
        "snapshot has format {found}; this version reads {SNAPSHOT_FORMAT} \
         (start the version that wrote it)"
    )]
    Format {
        /// Format byte of the snapshot.
        found: u8,
    },
    /// Snapshot that is empty, or not in the form of its kind.
    #[error("snapshot of a {kind} cannot be decoded")]
    Snapshot {
        /// Kind of the entity that was to be restored.
        kind: Kind,
        /// Error of the JSON decoder.
        #[source]
        source: serde_json::Error,
    },
    /// Change that is not in the form of its kind, or that a newer version wrote.
    #[error("change {number} after the snapshot of a {kind} cannot be decoded")]
    Change {
        /// Kind of the entity that was to be restored.
        kind: Kind,
        /// Index of the change after the snapshot, from 1.
        number: usize,
        /// Error of the JSON decoder.
        #[source]
        source: serde_json::Error,
    },
}

impl EntityState {
    /// Encodes the state; [`Self::from_snapshot`] restores it.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![SNAPSHOT_FORMAT];
        self.write_snapshot(&mut bytes)
            .expect("a state has string keys, and a Vec takes every write");
        bytes
    }

    /// Restores a state from the bytes that [`Self::to_snapshot`] wrote.
    ///
    /// # Errors
    /// [`RestoreError::Format`] or [`RestoreError::Snapshot`].
    pub fn from_snapshot(kind: Kind, bytes: &[u8]) -> Result<Self, RestoreError> {
        let json = match bytes.split_first() {
            Some((&SNAPSHOT_FORMAT, json)) => json,
            Some((&found, _)) => return Err(RestoreError::Format { found }),
            None => &[],
        };
        Self::read_snapshot(kind, json).map_err(|source| RestoreError::Snapshot { kind, source })
    }
}

/// Restores a state from `snapshot`, or from an empty state, and the `changes` after it in their
/// order.
///
/// # Errors
/// [`RestoreError`] at the first bytes that cannot be read.
pub(super) fn replay_changes<'a>(
    kind: Kind,
    snapshot: Option<&[u8]>,
    changes: impl Iterator<Item = &'a [u8]>,
    limits: StateLimits,
) -> Result<EntityState, RestoreError> {
    // The snapshot of an erased entity has no bytes.
    let snapshot = snapshot.filter(|bytes| !bytes.is_empty());
    let mut state = snapshot.map_or_else(
        || Ok(EntityState::new(kind)),
        |bytes| EntityState::from_snapshot(kind, bytes),
    )?;
    for (number, bytes) in (1..).zip(changes) {
        let change = EntityChange::decode(kind, bytes).map_err(|source| RestoreError::Change {
            kind,
            number,
            source,
        })?;
        state.apply(&change, limits);
    }

    Ok(state)
}

/// Summary line of a timeline for the change in a record, without the text of messages.
#[must_use]
pub fn summarize_change(kind: Kind, change: &[u8]) -> String {
    match EntityChange::decode(kind, change) {
        Ok(change) => change.summary(),
        // A timeline with one line unexplained is more useful than no timeline.
        Err(_) => "recorded".into(),
    }
}

#[cfg(test)]
pub(in crate::entity) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::entity::decision::{DecisionIds, IdAllocator};
    use crate::event::{EntityKey, InternedName, Timestamp};

    const LIMITS: StateLimits = StateLimits { items_max: 3 };

    impl EntityState {
        /// State in the form of the API.
        pub(in crate::entity) fn to_json(&self) -> Value {
            serde_json::from_str(self.to_raw_json().get()).expect("JSON")
        }
    }

    /// Decides on `action` of the time `at`, for entity 7 in `state`.
    pub(in crate::entity) fn decide_at(
        state: &EntityState,
        at: i64,
        action: &EntityAction,
    ) -> Result<EntityDecision<EntityChange>, Rejection> {
        decide_within(LIMITS, state, Timestamp::from_micros(at), action)
    }

    pub(in crate::entity) fn decide_within(
        limits: StateLimits,
        state: &EntityState,
        at: Timestamp,
        action: &EntityAction,
    ) -> Result<EntityDecision<EntityChange>, Rejection> {
        let ids = IdAllocator::starting_after(1_000);
        let context = DecisionContext {
            key: &EntityKey::from_number(Kind::Ticket, 7),
            source: InternedName::from_static("test"),
            at,
            received_at: at,
            unique_key_is_free: true,
            limits,
            ids: DecisionIds::new(&ids),
        };
        state.decide(action, &context)
    }

    /// Decides and applies, as a live entity does.
    pub(in crate::entity) fn apply_action(
        state: &mut EntityState,
        at: i64,
        action: &EntityAction,
    ) -> AcceptedChange<EntityChange> {
        match decide_at(state, at, action) {
            Ok(EntityDecision::Accept(accepted)) => {
                state.apply(&accepted.change, LIMITS);
                accepted
            }
            other => panic!("not accepted: {other:?}"),
        }
    }

    fn opened() -> EntityChange {
        let action = EntityAction::Ticket(ticket::TicketAction::StatusChanged {
            status: "open".into(),
            reason: None,
        });
        apply_action(&mut EntityState::new(Kind::Ticket), 5, &action).change
    }

    #[test]
    fn an_older_event_is_decided_late() {
        let mut state = EntityState::new(Kind::Ticket);
        state.apply(&opened(), LIMITS);
        let action = EntityAction::Ticket(ticket::TicketAction::StatusChanged {
            status: "closed".into(),
            reason: None,
        });
        let late = |at| apply_action(&mut state.clone(), at, &action).late;
        assert_eq!([late(4), late(5), late(6)], [true, false, false]);
    }

    #[test]
    fn a_snapshot_of_another_format_is_refused_by_its_number() {
        let mut bytes = EntityState::new(Kind::Ticket).to_snapshot();
        bytes[0] = 2;
        let refused = EntityState::from_snapshot(Kind::Ticket, &bytes);
        assert!(
            matches!(refused, Err(RestoreError::Format { found: 2 })),
            "{refused:?}"
        );
        let empty = EntityState::from_snapshot(Kind::Ticket, &[]);
        assert!(
            matches!(
                empty,
                Err(RestoreError::Snapshot {
                    kind: Kind::Ticket,
                    ..
                })
            ),
            "{empty:?}"
        );
    }

    #[test]
    fn an_unreadable_change_is_named_by_its_place() {
        let good = opened().encode();
        let changes = [good.as_slice(), b"{}", good.as_slice()];
        let restored = replay_changes(Kind::Ticket, None, changes.into_iter(), LIMITS);
        assert!(
            matches!(restored, Err(RestoreError::Change { number: 2, .. })),
            "{restored:?}"
        );
    }

    #[test]
    fn a_summary_is_made_from_stored_bytes() {
        assert_eq!(
            summarize_change(Kind::Ticket, &opened().encode()),
            "status changed to open"
        );
        assert_eq!(summarize_change(Kind::Ticket, b"?"), "recorded");
    }
}
