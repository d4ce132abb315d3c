//! Vocabulary of the catalogue: one event as readers see it, and the compact form in which the list
//! is written.

use crate::event::Kind;

/// Source whose events an operator can extend by declaring more of them.
pub const CRM_SOURCE: &str = "crm";

/// Event of the catalogue, with the source and kind of its group.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueEntry {
    /// Name of the event, such as `lead.created`.
    pub name: &'static str,
    /// Source that sends the event; `None` for an event that the node itself creates.
    pub source: Option<&'static str>,
    /// Kind of the event's entity; `None` for an event about a subscriber.
    pub kind: Option<Kind>,
    /// Name that the source uses on the wire; `None` where the wire has no name for the event.
    pub wire_name: Option<&'static str>,
    /// Circumstances in which the event happens, in one sentence.
    pub description: &'static str,
    /// Example of the event's data, as JSON.
    pub data: &'static str,
}

/// Events that share a source and a kind.
pub(super) struct CatalogueGroup {
    pub(super) source: Option<&'static str>,
    pub(super) kind: Option<Kind>,
    pub(super) events: &'static [CatalogueEvent],
}

/// Event of a group; its fields are those of [`CatalogueEntry`].
pub(super) struct CatalogueEvent {
    pub(super) name: &'static str,
    pub(super) wire_name: Option<&'static str>,
    pub(super) description: &'static str,
    pub(super) data: &'static str,
}

/// Creates an event whose name on the wire is its name in the catalogue.
pub(super) const fn same_on_wire(
    name: &'static str,
    description: &'static str,
    data: &'static str,
) -> CatalogueEvent {
    CatalogueEvent {
        name,
        wire_name: Some(name),
        description,
        data,
    }
}

/// Creates an event that has another name on the wire.
pub(super) const fn named_on_wire(
    name: &'static str,
    wire_name: &'static str,
    description: &'static str,
    data: &'static str,
) -> CatalogueEvent {
    CatalogueEvent {
        name,
        wire_name: Some(wire_name),
        description,
        data,
    }
}

/// Creates an event that has no name on any wire.
pub(super) const fn unnamed_on_wire(
    name: &'static str,
    description: &'static str,
    data: &'static str,
) -> CatalogueEvent {
    CatalogueEvent {
        name,
        wire_name: None,
        description,
        data,
    }
}
