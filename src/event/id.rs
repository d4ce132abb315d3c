//! Identifiers that are parsed once and trusted from then on: entity keys, positions, event ids.

use std::fmt;
use std::sync::Arc;

use super::kind::Kind;

/// Longest id or idempotency key that is accepted, in bytes: long enough for an id like a URL,
/// short enough for an index key.
pub const ID_MAX_BYTES: usize = 256;

/// Error for an id that is empty, too long, or contains control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {ID_MAX_BYTES} bytes without control characters")]
pub struct InvalidId;

/// Checks the rules for ids and idempotency keys that come from outside.
///
/// # Errors
/// [`InvalidId`] when `text` is empty, longer than [`ID_MAX_BYTES`], or contains a control
/// character.
pub fn check_id(text: &str) -> Result<(), InvalidId> {
    let fits =
        !text.is_empty() && text.len() <= ID_MAX_BYTES && !text.chars().any(char::is_control);
    fits.then_some(()).ok_or(InvalidId)
}

/// Checks an id in the JSON of a sender. U+FFFD stands for lost text there, such as half a surrogate
/// pair: two ids that differed may be the same with it, and would become one entity.
///
/// # Errors
/// [`InvalidId`] as for [`check_id`], and for U+FFFD.
pub fn check_json_id(text: &str) -> Result<(), InvalidId> {
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err(InvalidId);
    }
    check_id(text)
}

/// Kind and id of the entity that an event belongs to. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey {
    kind: Kind,
    id: Arc<str>,
}

impl EntityKey {
    /// Creates the key of the entity with id `id` of kind `kind`.
    ///
    /// # Errors
    /// [`InvalidId`] when `id` is empty, longer than [`ID_MAX_BYTES`], or contains a control
    /// character.
    pub fn try_new(kind: Kind, id: &str) -> Result<Self, InvalidId> {
        check_id(id)?;
        Ok(Self {
            kind,
            id: id.into(),
        })
    }

    /// Creates the key of an entity whose id is a number that this node allocated.
    #[must_use]
    pub fn from_number(kind: Kind, number: u64) -> Self {
        Self {
            kind,
            id: number.to_string().into(),
        }
    }

    /// Returns the kind of the entity.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the entity's id as its sender spells it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}

/// Position of a record in the journal: 1, 2, 3 …, over all entities, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Position of the first record of a store.
    pub const FIRST: Self = Self(1);

    /// Creates a position from its number, which starts at 1.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the position as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the position `count` records later.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Random number that is chosen when a store is created, so that event ids of two stores do not
/// collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreIncarnation(u32);

impl StoreIncarnation {
    /// Creates an incarnation from its stored number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the incarnation as a number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Public id of an event, such as `evt_3f9a2c41_1042`: the incarnation of its store in hex, and the
/// position of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    incarnation: StoreIncarnation,
    position: Position,
}

impl EventId {
    /// Creates the id of the event at `position` of the store with this `incarnation`.
    #[must_use]
    pub const fn new(incarnation: StoreIncarnation, position: Position) -> Self {
        Self {
            incarnation,
            position,
        }
    }

    /// Parses the form that [`fmt::Display`] writes; returns `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (incarnation, position) = text.strip_prefix("evt_")?.split_once('_')?;
        let id = Self {
            incarnation: StoreIncarnation(u32::from_str_radix(incarnation, 16).ok()?),
            position: Position(position.parse().ok()?),
        };
        // Each event has exactly one spelling: `evt_3F9…`, `+7` and `007` are not ids. No event has
        // position 0.
        (id.position >= Position::FIRST && id.to_string() == text).then_some(id)
    }

    /// Returns the incarnation of the event's store.
    #[must_use]
    pub const fn incarnation(self) -> StoreIncarnation {
        self.incarnation
    }

    /// Returns the position of the event's record.
    #[must_use]
    pub const fn position(self) -> Position {
        self.position
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{:08x}_{}", self.incarnation.0, self.position.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_has_one_spelling() {
        let id = EventId::new(StoreIncarnation::new(0x3f9a_2c41), Position::new(1042));
        assert_eq!(id.to_string(), "evt_3f9a2c41_1042");
        assert_eq!(EventId::parse("evt_3f9a2c41_1042"), Some(id));
        for text in [
            "evt_3F9A2C41_1042",
            "evt_3f9a2c41_01042",
            "evt_3f9a2c41_+1042",
            "3f9a2c41_1042",
            "evt_3f9a2c41",
            "",
        ] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_id_is_bounded_and_printable() {
        assert!(EntityKey::try_new(Kind::Ticket, "SUP-1042").is_ok());
        assert!(EntityKey::try_new(Kind::Ticket, "звернення/7").is_ok());
        assert_eq!(EntityKey::try_new(Kind::Ticket, ""), Err(InvalidId));
        assert_eq!(EntityKey::try_new(Kind::Ticket, "a\nb"), Err(InvalidId));
        assert_eq!(
            EntityKey::try_new(Kind::Ticket, &"x".repeat(ID_MAX_BYTES + 1)),
            Err(InvalidId)
        );
    }
}
