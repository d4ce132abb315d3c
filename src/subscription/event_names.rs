//! Event names in patterns, and the kind of internal events.

/// Part of a pattern after the kind, which selects event names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventNamePattern<'a> {
    /// Every name of an event.
    All,
    /// Names with this prefix, which ends with a dot.
    Prefix(&'a str),
    /// This name and no other.
    Exact(&'a str),
}

/// Name of the kind whose events the node itself creates.
pub(super) const INTERNAL_KIND: &str = "subscriber";

/// End of the name of the event that tells of the erasure of an entity, behind its kind.
pub(super) const ERASED_SUFFIX: &str = ".erased";
