//! Names and numbers that are parsed once and then trusted: entity keys, positions, event ids.

use std::fmt;
use std::sync::Arc;

use super::Kind;

/// The longest id or idempotency key that is taken, in bytes: long enough for a URL-like id, short
/// enough for an index key.
pub const ID_MAX_BYTES: usize = 256;

/// An id that cannot be used: empty, too long, or holding control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {ID_MAX_BYTES} bytes without control characters")]
pub struct InvalidId;

/// Checks what every id and key that comes from outside must satisfy.
///
/// # Errors
/// [`InvalidId`] when `text` is empty, longer than [`ID_MAX_BYTES`], or holds a control character.
pub fn check_id(text: &str) -> Result<(), InvalidId> {
    let fits =
        !text.is_empty() && text.len() <= ID_MAX_BYTES && !text.chars().any(char::is_control);
    fits.then_some(()).ok_or(InvalidId)
}

/// Which entity an event belongs to. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey {
    kind: Kind,
    id: Arc<str>,
}

impl EntityKey {
    /// The key of the entity `id` of `kind`.
    ///
    /// # Errors
    /// [`InvalidId`] when `id` is empty, longer than [`ID_MAX_BYTES`], or holds a control
    /// character.
    pub fn try_new(kind: Kind, id: &str) -> Result<Self, InvalidId> {
        check_id(id)?;
        Ok(Self {
            kind,
            id: id.into(),
        })
    }

    /// The key of the entity of `kind` that the node has given the number `number`.
    #[must_use]
    pub fn from_number(kind: Kind, number: u64) -> Self {
        Self {
            kind,
            id: number.to_string().into(),
        }
    }

    /// The entity's kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The entity's id, as its sender spells it.
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

/// A record's place in the journal: 1, 2, 3 …, over all entities, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The place of the first record of a store.
    pub const FIRST: Self = Self(1);

    /// The position with number `number`.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position `count` records later.
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

/// Which life of a store an event id comes from: drawn at random when a store is created, so that
/// ids of two stores never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreIncarnation(u32);

impl StoreIncarnation {
    /// The incarnation with number `number`.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// An event's public name, such as `evt_3f9a2c41_1042`: the store's incarnation and the position of
/// its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    incarnation: StoreIncarnation,
    position: Position,
}

impl EventId {
    /// The id of the event at `position` of the store `incarnation`.
    #[must_use]
    pub const fn new(incarnation: StoreIncarnation, position: Position) -> Self {
        Self {
            incarnation,
            position,
        }
    }

    /// Reads what [`fmt::Display`] writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (incarnation, position) = text.strip_prefix("evt_")?.split_once('_')?;
        let id = Self {
            incarnation: StoreIncarnation(u32::from_str_radix(incarnation, 16).ok()?),
            position: Position(position.parse().ok()?),
        };
        // One event has one spelling: `evt_3F9…`, `+7` and `007` are not ids. No event stands at
        // position 0.
        (id.position >= Position::FIRST && id.to_string() == text).then_some(id)
    }

    /// The store's incarnation.
    #[must_use]
    pub const fn incarnation(self) -> StoreIncarnation {
        self.incarnation
    }

    /// The place of the event's record.
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
