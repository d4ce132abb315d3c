//! Choice of the events that a webhook follows: the catalogue with boxes to tick, and a text for
//! patterns.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::super::form::FormFields;
use crate::edge::available_events::{AvailableEvent, list_available_events};
use crate::edge::state::Edge;

/// Group of events with one kind of entity, and the pattern of all of them.
struct EventGroup {
    title: String,
    all: Option<String>,
    events: Vec<AvailableEvent>,
}

/// Boxes of all known events, in groups.
pub(super) struct EventPicker {
    groups: Vec<EventGroup>,
}

impl EventPicker {
    pub(super) fn new(edge: &Edge) -> Self {
        let mut groups: Vec<EventGroup> = Vec::new();
        for event in list_available_events(&edge.config) {
            let (title, all) = match (&event.source, event.kind) {
                (Some(_), Some(kind)) => {
                    (kind.as_str().replace('_', " "), Some(format!("{kind}:*")))
                }
                (Some(source), None) => (source.clone(), None),
                (None, _) => ("this node".to_owned(), None),
            };
            match groups.iter_mut().find(|group| group.title == title) {
                Some(group) => group.events.push(event),
                None => groups.push(EventGroup {
                    title,
                    all,
                    events: vec![event],
                }),
            }
        }
        Self { groups }
    }

    /// Patterns that have a box.
    pub(super) fn boxes(&self) -> BTreeSet<&str> {
        let all = self.groups.iter().filter_map(|group| group.all.as_deref());
        let events = self.groups.iter().flat_map(|group| &group.events);
        all.chain(events.map(|event| event.event.as_str()))
            .collect()
    }

    /// Renders the boxes and the text, as chosen in `fields`.
    pub(super) fn render(&self, fields: &FormFields, error: &Markup) -> Markup {
        let chosen: BTreeSet<_> = fields.all("events").collect();
        html! {
            fieldset aria-describedby="events-hint" {
                legend { "Events" }
                p.hint id="events-hint" {
                    "At least one. Tick a whole kind to follow its future events too. "
                    span data-chosen {}
                }
                (error)
                div.field hidden {
                    label for="event-search" { "Find an event" }
                    input type="search" id="event-search" data-search autocomplete="off";
                }
                div.event-groups {
                    @for group in &self.groups { (render_group(group, &chosen)) }
                }
            }
            div.field {
                label for="patterns" { "More patterns" }
                textarea id="patterns" name="patterns" rows="2" spellcheck="false"
                    aria-describedby="patterns-hint" {
                    (fields.text("patterns"))
                }
                p.hint id="patterns-hint" {
                    "One on each line: " code { "lead.*" } " for all names that begin so, "
                    code { "ticket:*" } " for all events of a kind, "
                    code { "*" } " for everything."
                }
            }
        }
    }
}

fn render_group(group: &EventGroup, chosen: &BTreeSet<&str>) -> Markup {
    let count = group
        .events
        .iter()
        .filter(|event| chosen.contains(event.event.as_str()))
        .count();
    let is_all = group.all.as_deref().is_some_and(|all| chosen.contains(all));
    html! {
        details.group-box data-event-group open[count > 0 || is_all] {
            summary {
                span.capital { (group.title) } " "
                span.muted {
                    (group.events.len())
                    @if group.events.len() == 1 { " event" }
                    @else { " events" }
                    @if is_all { ", all ticked" } @else if count > 0 { ", " (count) " ticked" }
                }
            }
            div.choices {
                @if let Some(all) = &group.all {
                    (choice(all, &format!("Every event of kind {}.", group.title), is_all))
                }
                @for event in &group.events {
                    (choice(
                        &event.event,
                        &event.description,
                        chosen.contains(event.event.as_str()),
                    ))
                }
            }
        }
    }
}

fn choice(value: &str, description: &str, is_chosen: bool) -> Markup {
    html! {
        label.check {
            input type="checkbox" name="events" value=(value) checked[is_chosen];
            span { code { (value) } br; span.hint { (description) } }
        }
    }
}
