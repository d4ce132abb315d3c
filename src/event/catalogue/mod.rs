//! The catalogue: every event that the node itself knows, under the name that readers and
//! subscribers use for it.

use super::Kind;

mod event_list;

/// The source whose events can be extended by declared ones.
pub const CRM_SOURCE: &str = "crm";

/// The kinds of entity of the CRM's event bus.
pub const BUS_KINDS: [Kind; 5] = [
    Kind::Organisation,
    Kind::Person,
    Kind::Task,
    Kind::Mandat,
    Kind::Interaction,
];

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name, such as `lead.created`.
    pub name: &'static str,
    /// The source that it comes by; `None` for one that the node makes of itself.
    pub source: Option<&'static str>,
    /// What its entity is; `None` for one that the node makes of itself.
    pub kind: Option<Kind>,
    /// What its source calls it on the wire; `None` where nothing there has a name for it.
    pub wire_name: Option<&'static str>,
    /// When it happens, in one sentence.
    pub description: &'static str,
    /// An example of its data, as JSON.
    pub data: &'static str,
}

/// All events, source by source.
pub fn all_entries() -> impl Iterator<Item = Entry> {
    event_list::GROUPS.iter().flat_map(|group| {
        group.events.iter().map(|event| Entry {
            name: event.name,
            source: group.source,
            kind: group.kind,
            wire_name: event.wire_name,
            description: event.description,
            data: event.data,
        })
    })
}

/// The events of `source`.
pub fn of(source: &str) -> impl Iterator<Item = Entry> {
    all_entries().filter(move |entry| entry.source == Some(source))
}

/// The event `name`.
#[must_use]
pub fn find_entry(name: &str) -> Option<Entry> {
    all_entries().find(|entry| entry.name == name)
}

/// Events of one source and kind.
struct CatalogueGroup {
    source: Option<&'static str>,
    kind: Option<Kind>,
    events: &'static [CatalogueEvent],
}

struct CatalogueEvent {
    name: &'static str,
    wire_name: Option<&'static str>,
    description: &'static str,
    data: &'static str,
}

/// An event that its source calls by the name that everyone uses.
const fn same_on_wire(
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

/// An event that its source calls `wire_name`.
const fn named_on_wire(
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

/// An event that has no name on any wire.
const fn unnamed_on_wire(
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_event_has_a_name_of_its_own_a_sentence_and_data_that_is_an_object() {
        let mut names = BTreeSet::new();
        for entry in all_entries() {
            assert!(names.insert(entry.name), "{} is there twice", entry.name);
            assert!(entry.name.split('.').count() == 2, "{}", entry.name);
            let sentence = entry.description;
            assert!(
                sentence.ends_with('.') && sentence.starts_with(char::is_uppercase),
                "{}",
                entry.name
            );
            let data: Value = serde_json::from_str(entry.data)
                .unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            assert!(data.is_object(), "{}", entry.name);
        }
    }

    #[test]
    fn only_what_the_node_makes_of_itself_has_no_source() {
        for entry in all_entries() {
            assert_eq!(
                entry.source.is_none(),
                entry.kind.is_none(),
                "{}",
                entry.name
            );
        }
        let own: Vec<_> = all_entries()
            .filter(|entry| entry.source.is_none())
            .map(|entry| entry.name)
            .collect();
        assert_eq!(
            own,
            [
                "subscriber.disabled",
                "delivery.exhausted",
                "breaker.opened",
                "breaker.closed"
            ]
        );
    }

    #[test]
    fn the_bus_has_its_13_events_each_named_after_its_kind() {
        assert_eq!(of(CRM_SOURCE).count(), 13);
        for entry in of(CRM_SOURCE) {
            let kind = entry.kind.expect("of a source");
            assert!(
                BUS_KINDS.contains(&kind) && entry.name.starts_with(kind.as_str()),
                "{}",
                entry.name
            );
        }
    }
}
