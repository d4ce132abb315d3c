//! Who might want a record, found without asking everyone: what ten thousand others want costs nothing.

use std::collections::HashMap;

use super::definition::{Id, State};
use super::event_names::Events;
use super::pattern::is_own;
use super::registry::{Entry, Known};
use crate::event::{Kind, Record};

/// The patterns of all subscriptions that are owed anything, by the kind that they are limited to.
#[derive(Clone, Debug, Default)]
pub struct Index {
    by_kind: HashMap<Option<Kind>, Wanted>,
}

/// What is wanted of one kind, or of every one.
#[derive(Clone, Debug, Default)]
struct Wanted {
    /// By the whole name.
    named: HashMap<Box<str>, Vec<Id>>,
    /// By the beginning of the name, its last dot included.
    under: HashMap<Box<str>, Vec<Id>>,
    all: Vec<Id>,
}

impl Index {
    /// The index of `known`. Disabled subscriptions are not in it, since they are owed nothing; paused ones are.
    #[must_use]
    pub fn new(known: &Known) -> Self {
        let mut index = Self::default();
        known.iter().for_each(|entry| index.add(entry));
        index
    }

    /// The subscriptions with a pattern that admits `record`, each once, in the order of their numbers. Whether it is theirs
    /// after all is [`super::Interest::judge`]'s to say.
    #[must_use]
    pub fn candidates(&self, record: &Record) -> Vec<Id> {
        let mut found = Vec::new();
        for kind in [None, Some(record.entity.kind())] {
            let Some(wanted) = self.by_kind.get(&kind) else { continue };
            wanted.find(&record.event_type, &mut found);
            // What the node makes of itself is in no pattern that names neither it nor its kind.
            if kind.is_some() || !is_own(record) {
                found.extend(&wanted.all);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn add(&mut self, entry: &Entry) {
        let id = entry.subscription.id;
        match entry.subscription.state {
            State::Active | State::Paused { .. } => {}
            State::Disabled { .. } => return,
        }
        for pattern in entry.interest.patterns.iter() {
            let wanted = self.by_kind.entry(pattern.kind()).or_default();
            let ids = match pattern.events() {
                Events::All => &mut wanted.all,
                Events::Under(beginning) => wanted.under.entry(beginning.into()).or_default(),
                Events::Named(name) => wanted.named.entry(name.into()).or_default(),
            };
            ids.push(id);
        }
    }
}

impl Wanted {
    /// Adds those who want the event `name` by it or by a beginning of it.
    fn find(&self, name: &str, found: &mut Vec<Id>) {
        found.extend(self.named.get(name).into_iter().flatten());
        if self.under.is_empty() {
            return;
        }
        for (dot, _) in name.match_indices('.') {
            found.extend(self.under.get(&name[..=dot]).into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{EntityKey, Timestamp};
    use crate::subscription::{Subscription, sample};

    fn record(source: &str, kind: &str, event: &str) -> Record {
        let kind = Kind::from_store(kind).expect("a kind");
        let entity = EntityKey::try_new(kind, "1").expect("an id");
        Record { sequence: Some(1), ..Record::new(source, entity, event, Timestamp::from_micros(0)) }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let kind = prop::sample::select(vec!["", "", "lead:", "ticket:", "custom:shop:", "custom:subscriber:"]);
        let events = prop::sample::select(vec![
            "*",
            "lead.*",
            "lead.created",
            "lead.a.*",
            "lead.a.b",
            "shop.*",
            "shop.order",
            "subscriber.*",
            "le.*",
        ]);
        (kind, events).prop_map(|(kind, events)| format!("{kind}{events}"))
    }

    proptest! {
        #[test]
        fn it_finds_whom_asking_each_would_find(
            all in prop::collection::vec((prop::collection::vec(pattern(), 1..4), 0..3_u8), 0..12),
            source in prop::sample::select(vec!["leads", "hookyard"]),
            kind in prop::sample::select(vec!["lead", "ticket", "custom:shop", "custom:subscriber"]),
            event in prop::sample::select(vec!["lead.created", "lead.a.b", "lead.", "lead", "shop.order", "subscriber.disabled", "x"]),
        ) {
            let state = |number| match number {
                0 => State::Active,
                1 => State::Paused { reason: None },
                _ => State::Disabled { reason: "gone".into() },
            };
            let subscriptions = all.iter().zip(1..).map(|((patterns, number), id)| {
                let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
                Subscription { state: state(*number), ..sample(id, &patterns) }
            });
            let known: Known = subscriptions.collect();
            let record = record(source, kind, event);
            let wants = |entry: &&std::sync::Arc<Entry>| {
                let is_owed = !matches!(entry.subscription.state, State::Disabled { .. });
                let admits = |pattern: &super::super::Pattern| {
                    pattern.admits(record.entity.kind(), &record.event_type, is_own(&record))
                };
                is_owed && entry.interest.patterns.iter().any(admits)
            };
            let asked: Vec<_> = known.iter().filter(wants).map(|entry| entry.subscription.id).collect();
            prop_assert_eq!(Index::new(&known).candidates(&record), asked);
        }
    }
}
