//! The part of a pattern that is about names of events.

/// What the part after the kind admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventNamePattern<'a> {
    /// Every event.
    All,
    /// Those whose names begin so, the dot included.
    Prefix(&'a str),
    /// The one of that name.
    Exact(&'a str),
}

/// The kind of the entities whose events the node makes of itself.
pub(super) const INTERNAL_KIND: &str = "subscriber";
