//! Index of all patterns, which finds the subscriptions that may match a record.
//!
//! A look-up costs nothing for subscriptions of other events, so ten thousand of them do not slow
//! down a delivery.

use std::collections::HashMap;

use super::definition::{SubscriptionId, SubscriptionState};
use super::event_names::EventNamePattern;
use super::pattern::{Pattern, is_internal_record};
use super::registry::{SubscriptionEntry, SubscriptionSnapshot};
use crate::event::{Kind, Record};

/// Patterns of all subscriptions that are not disabled, by the kind to which the pattern is
/// limited.
#[derive(Clone, Debug, Default)]
pub struct PatternIndex {
    by_kind: HashMap<Option<Kind>, KindPatterns>,
}

/// Patterns for one kind, or for all kinds.
#[derive(Clone, Debug, Default)]
struct KindPatterns {
    /// Subscriptions by the whole name of the event.
    exact: HashMap<Box<str>, Vec<SubscriptionId>>,
    /// Subscriptions by a prefix of the name, with its last dot.
    prefixes: HashMap<Box<str>, Vec<SubscriptionId>>,
    all: Vec<SubscriptionId>,
}

impl PatternIndex {
    /// Builds the index of `snapshot`. Leaves out disabled subscriptions, for which no events are
    /// kept. Paused subscriptions are in the index, because their events stay pending.
    #[must_use]
    pub fn new(snapshot: &SubscriptionSnapshot) -> Self {
        let mut index = Self::default();
        snapshot
            .iter()
            .for_each(|entry| index.add_subscription(entry));
        index
    }

    /// Returns the subscriptions with a pattern that admits `record`, each once, in the order of
    /// their ids. [`super::SubscriberInterest::match_record`] decides then.
    #[must_use]
    pub fn candidates(&self, record: &Record) -> Vec<SubscriptionId> {
        let mut found = Vec::new();
        for kind in [None, Some(record.entity.kind())] {
            let Some(patterns) = self.by_kind.get(&kind) else {
                continue;
            };
            patterns.collect_subscriptions(&record.event_type, &mut found);
            // A bare `*` does not include internal events; a pattern with their kind does.
            if kind.is_some() || !is_internal_record(record) {
                found.extend(&patterns.all);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Replaces the patterns of one subscription, of which `old` was its definition.
    pub fn update(&mut self, old: Option<&SubscriptionEntry>, new: Option<&SubscriptionEntry>) {
        if let Some(old) = old {
            self.remove_subscription(old);
        }
        if let Some(new) = new {
            self.add_subscription(new);
        }
    }

    fn add_subscription(&mut self, entry: &SubscriptionEntry) {
        let id = entry.subscription.id;
        match entry.subscription.state {
            SubscriptionState::Active | SubscriptionState::Paused { .. } => {}
            SubscriptionState::Disabled { .. } => return,
        }
        for pattern in entry.interest.patterns.iter() {
            let ids = self.subscriptions_of(pattern);
            if let Err(place) = ids.binary_search(&id) {
                ids.insert(place, id);
            }
        }
    }

    fn remove_subscription(&mut self, entry: &SubscriptionEntry) {
        for pattern in entry.interest.patterns.iter() {
            let ids = self.subscriptions_of(pattern);
            if let Ok(place) = ids.binary_search(&entry.subscription.id) {
                ids.remove(place);
            }
            if !ids.is_empty() {
                continue;
            }
            // Otherwise each name that ever had a subscription would stay.
            let patterns = self.by_kind.entry(pattern.kind()).or_default();
            match pattern.name_pattern() {
                EventNamePattern::All => {}
                EventNamePattern::Prefix(prefix) => drop(patterns.prefixes.remove(prefix)),
                EventNamePattern::Exact(name) => drop(patterns.exact.remove(name)),
            }
        }
    }

    /// Subscriptions with `pattern`, in the order of their ids.
    fn subscriptions_of(&mut self, pattern: &Pattern) -> &mut Vec<SubscriptionId> {
        let patterns = self.by_kind.entry(pattern.kind()).or_default();
        match pattern.name_pattern() {
            EventNamePattern::All => &mut patterns.all,
            EventNamePattern::Prefix(prefix) => patterns.prefixes.entry(prefix.into()).or_default(),
            EventNamePattern::Exact(name) => patterns.exact.entry(name.into()).or_default(),
        }
    }
}

impl KindPatterns {
    /// Adds the subscriptions with the event `name`, or a prefix of it, in a pattern to `found`.
    fn collect_subscriptions(&self, name: &str, found: &mut Vec<SubscriptionId>) {
        found.extend(self.exact.get(name).into_iter().flatten());
        if self.prefixes.is_empty() {
            return;
        }
        for (dot, _) in name.match_indices('.') {
            found.extend(self.prefixes.get(&name[..=dot]).into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{EntityKey, Timestamp};
    use crate::subscription::{Subscription, sample_subscription};

    fn record(source: &str, kind: &str, event: &str) -> Record {
        let kind = Kind::from_store(kind).expect("a kind");
        let entity = EntityKey::try_new(kind, "1").expect("an id");
        Record {
            sequence: Some(1),
            ..Record::new(source, entity, event, Timestamp::from_micros(0))
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let kind = prop::sample::select(vec![
            "",
            "",
            "lead:",
            "ticket:",
            "custom:shop:",
            "custom:subscriber:",
        ]);
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
                0 => SubscriptionState::Active,
                1 => SubscriptionState::Paused { reason: None },
                _ => SubscriptionState::Disabled { reason: "gone".into() },
            };
            let subscriptions = all.iter().zip(1..).map(|((patterns, number), id)| {
                let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
                Subscription { state: state(*number), ..sample_subscription(id, &patterns) }
            });
            let known: SubscriptionSnapshot = subscriptions.collect();
            let record = record(source, kind, event);
            let wants = |entry: &&std::sync::Arc<SubscriptionEntry>| {
                let is_enabled = !matches!(entry.subscription.state, SubscriptionState::Disabled { .. });
                let admits = |pattern: &super::super::Pattern| {
                    pattern.admits(record.entity.kind(), &record.event_type, is_internal_record(&record))
                };
                is_enabled && entry.interest.patterns.iter().any(admits)
            };
            let asked: Vec<_> = known.iter().filter(wants).map(|entry| entry.subscription.id).collect();
            prop_assert_eq!(PatternIndex::new(&known).candidates(&record), asked.clone());

            // The same by changes, one after another, from definitions that were other ones.
            let others: SubscriptionSnapshot = all.iter().zip(1..).map(|((patterns, number), id)| {
                let patterns: Vec<_> = patterns.iter().rev().skip(1).map(String::as_str).collect();
                Subscription { state: state((number + 1) % 3), ..sample_subscription(id, &patterns) }
            }).collect();
            let mut index = PatternIndex::new(&others);
            for id in known.changes_since(&others) {
                let entry = |snapshot: &SubscriptionSnapshot| snapshot.get(id).cloned();
                index.update(entry(&others).as_deref(), entry(&known).as_deref());
            }
            prop_assert_eq!(index.candidates(&record), asked);
        }
    }
}
