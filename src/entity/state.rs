//! The state of an entity of any kind: each function hands over to the kind's own.
//!
//! A snapshot is a format byte and the kind's JSON; a change is the kind's JSON alone, since its record has a format.

use super::{Action, ticket};
use crate::event::{Failure, Kind, Timestamp};

/// The format of the snapshots written; others are refused.
const SNAPSHOT_FORMAT: u8 = 1;

/// The bounds on what one entity holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many items each collection of a state keeps; older ones live on in the timeline.
    pub items_max: usize,
}

/// Everything that is known of one entity.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Of a support ticket.
    Ticket(ticket::State),
}

/// What one event did to an entity.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// To a support ticket.
    Ticket(ticket::Change),
}

/// The outcome of an event that did not fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to record and to apply.
    pub change: Change,
    /// Whether something of the event was older than what the entity already had.
    pub late: bool,
}

/// Stored bytes that no state can be made from.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Another version wrote the snapshot.
    #[error("snapshot has format {found}, this version reads {SNAPSHOT_FORMAT}: start the version that wrote it")]
    Format {
        /// Its format byte.
        found: u8,
    },
    /// The snapshot is empty, or not what its kind writes.
    #[error("snapshot of a {kind} cannot be read")]
    Snapshot {
        /// Whose snapshot it should be.
        kind: Kind,
        /// What is wrong with its JSON.
        #[source]
        source: serde_json::Error,
    },
    /// A change is not what its kind writes, or was written by a newer version.
    #[error("change {number} of a {kind} cannot be read")]
    Change {
        /// Whose change it should be.
        kind: Kind,
        /// Its place among the changes after the snapshot, from 1.
        number: usize,
        /// What is wrong with its JSON.
        #[source]
        source: serde_json::Error,
    },
}

impl State {
    /// The state of an entity of `kind` before its first event.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Ticket => Self::Ticket(ticket::State::default()),
        }
    }

    /// What `action` does to this entity, given the event's own time `at`. Changes nothing by itself.
    ///
    /// # Errors
    /// [`Failure`] when the entity cannot take the event, such as one about a part of it that does not exist.
    pub fn decide(&self, action: &Action, at: Timestamp, limits: Limits) -> Result<Decision, Failure> {
        match (self, action) {
            (Self::Ticket(state), Action::Ticket(action)) => state
                .decide(action, at, limits)
                .map(|change| Decision { late: change.late(), change: Change::Ticket(change) }),
        }
    }

    /// Makes `change` part of the state.
    pub fn apply(&mut self, change: &Change, limits: Limits) {
        match (self, change) {
            (Self::Ticket(state), Change::Ticket(change)) => state.apply(change, limits),
        }
    }

    /// The bytes from which [`State::from_snapshot`] makes the same state.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![SNAPSHOT_FORMAT];
        match self {
            Self::Ticket(state) => serde_json::to_writer(&mut bytes, state),
        }
        .expect("a state has string keys, and a Vec takes every write");
        bytes
    }

    /// Reads what [`State::snapshot`] wrote.
    ///
    /// # Errors
    /// [`RestoreError::Format`] or [`RestoreError::Snapshot`].
    pub fn from_snapshot(kind: Kind, bytes: &[u8]) -> Result<Self, RestoreError> {
        let json = match bytes.split_first() {
            Some((&SNAPSHOT_FORMAT, json)) => json,
            Some((&found, _)) => return Err(RestoreError::Format { found }),
            None => &[],
        };
        match kind {
            Kind::Ticket => serde_json::from_slice(json).map(Self::Ticket),
        }
        .map_err(|source| RestoreError::Snapshot { kind, source })
    }

    /// The state as the API shows it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Ticket(state) => state.to_json(),
        }
    }
}

impl Change {
    /// The change as its record holds it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ticket(change) => serde_json::to_vec(change),
        }
        .expect("a change has string keys")
    }

    /// Reads what [`Change::encode`] wrote.
    ///
    /// # Errors
    /// When `bytes` are not a change of `kind`, or one that only a newer version knows.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        match kind {
            Kind::Ticket => serde_json::from_slice(bytes).map(Self::Ticket),
        }
    }
}

/// The state that results from `snapshot` (or from nothing) and the `changes` made since, in their order.
///
/// # Errors
/// [`RestoreError`] at the first bytes that cannot be read.
pub(super) fn restore<'a>(
    kind: Kind,
    snapshot: Option<&[u8]>,
    changes: impl Iterator<Item = &'a [u8]>,
    limits: Limits,
) -> Result<State, RestoreError> {
    let mut state = snapshot.map_or_else(|| Ok(State::new(kind)), |bytes| State::from_snapshot(kind, bytes))?;
    for (number, bytes) in (1..).zip(changes) {
        let change = Change::decode(kind, bytes).map_err(|source| RestoreError::Change { kind, number, source })?;
        state.apply(&change, limits);
    }
    Ok(state)
}

/// One plain sentence on the change in a record, without the text of messages.
#[must_use]
pub fn summary(kind: Kind, change: &[u8]) -> String {
    match Change::decode(kind, change) {
        Ok(Change::Ticket(change)) => ticket::summary(&change),
        // A timeline with one unreadable row is of more use than none.
        Err(_) => "recorded".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { items_max: 3 };

    fn opened() -> Change {
        let action = Action::Ticket(ticket::Action::StatusChanged { status: "open".into(), reason: None });
        let decision = State::new(Kind::Ticket).decide(&action, Timestamp::from_micros(5), LIMITS);
        decision.expect("a status can always be taken").change
    }

    #[test]
    fn an_older_event_is_decided_late() {
        let mut state = State::new(Kind::Ticket);
        state.apply(&opened(), LIMITS);
        let action = Action::Ticket(ticket::Action::StatusChanged { status: "closed".into(), reason: None });
        let late = |at| state.decide(&action, Timestamp::from_micros(at), LIMITS).expect("taken").late;
        assert_eq!([late(4), late(5), late(6)], [true, false, false]);
    }

    #[test]
    fn a_snapshot_of_another_format_is_refused_by_its_number() {
        let mut bytes = State::new(Kind::Ticket).snapshot();
        bytes[0] = 2;
        let refused = State::from_snapshot(Kind::Ticket, &bytes);
        assert!(matches!(refused, Err(RestoreError::Format { found: 2 })), "{refused:?}");
        let empty = State::from_snapshot(Kind::Ticket, &[]);
        assert!(matches!(empty, Err(RestoreError::Snapshot { kind: Kind::Ticket, .. })), "{empty:?}");
    }

    #[test]
    fn an_unreadable_change_is_named_by_its_place() {
        let good = opened().encode();
        let changes = [good.as_slice(), b"{}", good.as_slice()];
        let restored = restore(Kind::Ticket, None, changes.into_iter(), LIMITS);
        assert!(matches!(restored, Err(RestoreError::Change { number: 2, .. })), "{restored:?}");
    }

    #[test]
    fn a_summary_is_made_from_stored_bytes() {
        assert_eq!(summary(Kind::Ticket, &opened().encode()), "status changed to open");
        assert_eq!(summary(Kind::Ticket, b"?"), "recorded");
    }
}
