//! Catalogue of all events that the node itself knows, by the names that readers and subscribers
//! use.

mod entry;
mod event_list;

use super::kind::Kind;

pub use entry::{CRM_SOURCE, CatalogueEntry};

/// Entity kinds of the CRM's event bus.
pub const BUS_KINDS: [Kind; 5] = [
    Kind::Organisation,
    Kind::Person,
    Kind::Task,
    Kind::Mandat,
    Kind::Interaction,
];

/// Returns all events, grouped by source.
pub fn all_entries() -> impl Iterator<Item = CatalogueEntry> {
    event_list::GROUPS.iter().flat_map(|group| {
        group.events.iter().map(|event| CatalogueEntry {
            name: event.name,
            source: group.source,
            kind: group.kind,
            wire_name: event.wire_name,
            description: event.description,
            data: event.data,
        })
    })
}

/// Returns the events that `source` sends.
pub fn entries_of_source(source: &str) -> impl Iterator<Item = CatalogueEntry> {
    all_entries().filter(move |entry| entry.source == Some(source))
}

/// Returns the event with this `name`.
#[must_use]
pub fn find_entry(name: &str) -> Option<CatalogueEntry> {
    all_entries().find(|entry| entry.name == name)
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
    fn only_events_that_the_node_creates_have_no_source() {
        for entry in all_entries() {
            assert!(
                entry.source.is_none() || entry.kind.is_some(),
                "{}",
                entry.name
            );
        }
        let own = all_entries().filter(|entry| entry.source.is_none());
        let (of_subscribers, of_entities): (Vec<_>, Vec<_>) =
            own.partition(|entry| entry.kind.is_none());
        let (alerts, of_entities): (Vec<_>, Vec<_>) = of_entities
            .into_iter()
            .partition(|entry| entry.kind == Some(Kind::ALERT));
        let alerts: Vec<_> = alerts.iter().map(|entry| entry.name).collect();
        assert_eq!(alerts, ["alert.raised", "alert.cleared"]);
        let erased: Vec<_> = of_entities.iter().map(|entry| entry.name).collect();
        assert_eq!(erased, Kind::BUILT_IN.map(|kind| format!("{kind}.erased")));
        let own: Vec<_> = of_subscribers.iter().map(|entry| entry.name).collect();
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
        assert_eq!(entries_of_source(CRM_SOURCE).count(), 13);
        for entry in entries_of_source(CRM_SOURCE) {
            let kind = entry.kind.expect("of a source");
            assert!(
                BUS_KINDS.contains(&kind) && entry.name.starts_with(kind.as_str()),
                "{}",
                entry.name
            );
        }
    }
}
