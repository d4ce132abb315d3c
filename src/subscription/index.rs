//! Who might want a record, found without asking everyone: what ten thousand others want costs
//! nothing.

use std::collections::HashMap;

use super::definition::{SubscriptionId, SubscriptionState};
use super::event_names::EventNamePattern;
use super::pattern::is_internal_record;
use super::registry::{SubscriptionEntry, SubscriptionSnapshot};
use crate::event::{Kind, Record};

/// The patterns of all subscriptions that are owed anything, by the kind that they are limited to.
#[derive(Clone, Debug, Default)]
pub struct PatternIndex {
    by_kind: HashMap<Option<Kind>, KindPatterns>,
}

/// What is wanted of one kind, or of every one.
#[derive(Clone, Debug, Default)]
struct KindPatterns {
    /// By the whole name.
    exact: HashMap<Box<str>, Vec<SubscriptionId>>,
    /// By the beginning of the name, its last dot included.
    prefixes: HashMap<Box<str>, Vec<SubscriptionId>>,
    all: Vec<SubscriptionId>,
}

impl PatternIndex {
    /// The index of `known`. Disabled subscriptions are not in it, since they are owed nothing;
    /// paused ones are.
    #[must_use]
    pub fn new(known: &SubscriptionSnapshot) -> Self {
        let mut index = Self::default();
        known.iter().for_each(|entry| index.add_subscription(entry));
        index
    }

    /// The subscriptions with a pattern that admits `record`, each once, in the order of their
    /// numbers. Whether it is theirs after all is [`super::Interest::judge`]'s to say.
    #[must_use]
    pub fn candidates(&self, record: &Record) -> Vec<SubscriptionId> {
        let mut found = Vec::new();
        for kind in [None, Some(record.entity.kind())] {
            let Some(wanted) = self.by_kind.get(&kind) else {
                continue;
            };
            wanted.collect_subscriptions(&record.event_type, &mut found);
            // What the node makes of itself is in no pattern that names neither it nor its kind.
            if kind.is_some() || !is_internal_record(record) {
                found.extend(&wanted.all);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn add_subscription(&mut self, entry: &SubscriptionEntry) {
        let id = entry.subscription.id;
        match entry.subscription.state {
            SubscriptionState::Active | SubscriptionState::Paused { .. } => {}
            SubscriptionState::Disabled { .. } => return,
        }
        for pattern in entry.interest.patterns.iter() {
            let wanted = self.by_kind.entry(pattern.kind()).or_default();
            let ids = match pattern.name_pattern() {
                EventNamePattern::All => &mut wanted.all,
                EventNamePattern::Prefix(beginning) => {
                    wanted.prefixes.entry(beginning.into()).or_default()
                }
                EventNamePattern::Exact(name) => wanted.exact.entry(name.into()).or_default(),
            };
            ids.push(id);
        }
    }
}

impl KindPatterns {
    /// Adds those who want the event `name` by it or by a beginning of it.
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
                let is_owed = !matches!(entry.subscription.state, SubscriptionState::Disabled { .. });
                let admits = |pattern: &super::super::Pattern| {
                    pattern.admits(record.entity.kind(), &record.event_type, is_internal_record(&record))
                };
                is_owed && entry.interest.patterns.iter().any(admits)
            };
            let asked: Vec<_> = known.iter().filter(wants).map(|entry| entry.subscription.id).collect();
            prop_assert_eq!(PatternIndex::new(&known).candidates(&record), asked);
        }
    }
}
