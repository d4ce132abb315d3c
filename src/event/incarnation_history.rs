//! Incarnations of a store: the one that it was created with, and a new one for each restore.
//!
//! ```text
//! positions     1 … 1041   1042 … 2500   2501 …
//! incarnation   3f9a2c41   8c0a11d2      07be5510
//!                          └ restored    └ restored
//! ```
//!
//! A restore begins a new incarnation, because the original store may go on from the same position:
//! two events at position 1042 must not have the same id.

use std::fmt;
use std::sync::Arc;

use super::id::{EventId, Position, StoreIncarnation};

/// Incarnations of a store, each with the position from which on it holds. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationHistory(Arc<[IncarnationStart]>);

/// Incarnation with the first position at which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IncarnationStart {
    incarnation: StoreIncarnation,
    from: Position,
}

impl IncarnationHistory {
    /// Creates the history of a new store.
    #[must_use]
    pub fn new(incarnation: StoreIncarnation) -> Self {
        let start = IncarnationStart {
            incarnation,
            from: Position::FIRST,
        };
        Self(Arc::new([start]))
    }

    /// Returns the history in which `incarnation` holds from `from` on, which is not before the
    /// newest incarnation. An incarnation without a single position is left out.
    #[must_use]
    pub fn restarted(&self, incarnation: StoreIncarnation, from: Position) -> Self {
        let earlier = self.0.iter().filter(|start| start.from < from);
        let start = IncarnationStart { incarnation, from };
        Self(earlier.copied().chain([start]).collect())
    }

    /// Returns `true` if the store was restored with events of an earlier incarnation.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        self.0.len() > 1
    }

    /// Returns the incarnation of the events to come.
    #[must_use]
    pub fn newest(&self) -> StoreIncarnation {
        self.0
            .last()
            .expect("there is a first incarnation")
            .incarnation
    }

    /// Returns the public id of the event at `position`.
    #[must_use]
    pub fn event_id(&self, position: Position) -> EventId {
        let later = self.0.partition_point(|start| start.from <= position);
        let start = &self.0[later.saturating_sub(1)];
        EventId::new(start.incarnation, position)
    }

    /// Returns the position of the event `id`; `None` if its incarnation does not hold at its
    /// position, so that it is the event of another store.
    #[must_use]
    pub fn position_of(&self, id: EventId) -> Option<Position> {
        (self.event_id(id.position()) == id).then_some(id.position())
    }

    /// Returns `true` if a store with the history `later` holds the events of this history before
    /// `end`: it is the same store, or was restored from it at `end` or later.
    #[must_use]
    pub fn is_continued_by(&self, later: &Self, end: Position) -> bool {
        let is_prefix = later.0.starts_with(&self.0);
        let next = later.0.get(self.0.len());
        let is_same_end = next.is_none_or(|next| next.from >= end);
        // A restore without events leaves the newest incarnation of this history out.
        let is_empty_end = self.0.last().is_some_and(|last| last.from >= end);
        let earlier = &self.0[..self.0.len() - 1];
        (is_prefix && is_same_end) || (is_empty_end && later.0.starts_with(earlier))
    }

    /// Parses the form that [`fmt::Display`] writes; returns `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let starts: Option<Vec<_>> = text.split(' ').map(IncarnationStart::parse).collect();
        let starts = starts?;
        let is_first = starts.first()?.from == Position::FIRST;
        let is_rising = starts.windows(2).all(|pair| pair[0].from < pair[1].from);
        (is_first && is_rising).then(|| Self(starts.into()))
    }
}

impl IncarnationStart {
    /// Parses a number in hex, with the position behind `@` unless it is the first.
    fn parse(text: &str) -> Option<Self> {
        let (incarnation, from) = text.split_once('@').unwrap_or((text, "1"));
        Some(Self {
            incarnation: StoreIncarnation::new(u32::from_str_radix(incarnation, 16).ok()?),
            from: Position::new(from.parse().ok()?),
        })
    }
}

impl fmt::Display for IncarnationHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, start) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{:08x}", start.incarnation.get())?;
            if start.from > Position::FIRST {
                write!(f, "@{}", start.from)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StoreIncarnation = StoreIncarnation::new(0x3f9a_2c41);
    const B: StoreIncarnation = StoreIncarnation::new(0x8c0a_11d2);
    const C: StoreIncarnation = StoreIncarnation::new(0x07be_5510);

    fn at(position: u64) -> Position {
        Position::new(position)
    }

    fn restored() -> IncarnationHistory {
        IncarnationHistory::new(A).restarted(B, at(1042))
    }

    #[test]
    fn an_event_keeps_the_id_that_it_had_before_a_restore() {
        let history = restored();
        assert_eq!(history.newest(), B);
        for (position, incarnation) in [(1, A), (1041, A), (1042, B), (9999, B)] {
            let id = EventId::new(incarnation, at(position));
            assert_eq!(history.event_id(at(position)), id);
            assert_eq!(history.position_of(id), Some(at(position)));
        }
    }

    #[test]
    fn an_id_whose_incarnation_does_not_hold_at_its_position_is_of_another_store() {
        for (position, incarnation) in [(1042, A), (1041, B), (1, C)] {
            let id = EventId::new(incarnation, at(position));
            assert_eq!(restored().position_of(id), None, "{id}");
        }
    }

    #[test]
    fn the_text_of_a_history_never_changes() {
        for (history, text) in [
            (IncarnationHistory::new(A), "3f9a2c41"),
            (restored(), "3f9a2c41 8c0a11d2@1042"),
        ] {
            assert_eq!(history.to_string(), text);
            assert_eq!(IncarnationHistory::parse(text), Some(history));
        }
        for text in [
            "",
            "x",
            "3f9a2c41@2",
            "3f9a2c41 8c0a11d2",
            "1 2@9 3@9",
            "1@",
        ] {
            assert_eq!(IncarnationHistory::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_incarnation_without_events_is_forgotten() {
        let history = restored().restarted(C, at(1042));
        assert_eq!(history.to_string(), "3f9a2c41 07be5510@1042");
        let empty = IncarnationHistory::new(A).restarted(B, at(1));
        assert_eq!(empty, IncarnationHistory::new(B));
    }

    #[test]
    fn a_history_is_continued_by_its_restores_that_have_all_its_events() {
        let original = IncarnationHistory::new(A);
        assert!(original.is_continued_by(&original, at(7)));
        assert!(original.is_continued_by(&restored(), at(1042)));
        assert!(!original.is_continued_by(&restored(), at(1043)));
        assert!(!original.is_continued_by(&IncarnationHistory::new(B), at(7)));
        assert!(!restored().is_continued_by(&original, at(2000)));
        let again = restored().restarted(C, at(1042));
        assert!(restored().is_continued_by(&again, at(1042)));
        assert!(!restored().is_continued_by(&again, at(1043)));
    }
}
