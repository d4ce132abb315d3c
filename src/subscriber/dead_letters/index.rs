//! What is in memory of all dead letters: enough to count them, to find that of a record, and to go through those of a
//! subscriber in the order of their events. A hundred bytes each; the rest is on the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::letter::{Cause, DeadLetter, Filter, Subject};
use crate::event::{EntityKey, Position, Timestamp};
use crate::subscriber::SubscriberId;

/// A dead letter of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) cause: Cause,
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    /// The job that is delivering it again.
    pub(super) job: Option<u64>,
    /// The entity whose lane stands still for it.
    pub(super) halts: Option<EntityKey>,
}

/// A dead letter about a part of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) id: u64,
    pub(super) cause: Cause,
    pub(super) at: Timestamp,
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) count: u64,
    pub(super) job: Option<u64>,
}

/// The dead letters of one subscriber.
#[derive(Debug, Default)]
pub(super) struct OfOne {
    pub(super) entries: BTreeMap<Position, Entry>,
    pub(super) spans: BTreeMap<u64, Span>,
    /// The entities whose lanes stand still: a lane does so for one dead letter at a time.
    halting: BTreeSet<EntityKey>,
}

impl OfOne {
    pub(super) fn add(&mut self, position: Position, entry: Entry) {
        self.halting.extend(entry.halts.clone());
        self.entries.insert(position, entry);
    }

    pub(super) fn remove(&mut self, position: Position) -> Option<Entry> {
        let entry = self.entries.remove(&position)?;
        if let Some(entity) = &entry.halts {
            self.halting.remove(entity);
        }
        Some(entry)
    }

    pub(super) fn len(&self) -> u64 {
        (self.entries.len() + self.spans.len()) as u64
    }

    /// Whether a dead letter keeps the lane of `entity` from going on.
    pub(super) fn halts(&self, entity: &EntityKey) -> bool {
        self.halting.contains(entity)
    }
}

/// Those of all subscribers.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) by_subscriber: HashMap<SubscriberId, OfOne>,
    /// The number that the next one gets.
    pub(super) next: u64,
}

impl Index {
    pub(super) fn add(&mut self, letter: &DeadLetter) {
        self.next = self.next.max(letter.id + 1);
        let of_one = self.of(&letter.subscriber);
        let (id, cause, at) = (letter.id, letter.cause, letter.at);
        match &letter.subject {
            Subject::One(delivery) => {
                let halts = delivery.is_halting.then(|| delivery.entity.clone());
                let entry = Entry { id, cause, at, attempts: delivery.attempts, job: None, halts };
                of_one.add(delivery.position, entry);
            }
            Subject::Many { first, last, count } => {
                let span = Span { id, cause, at, first: *first, last: *last, count: *count, job: None };
                of_one.spans.insert(id, span);
            }
        }
    }

    pub(super) fn of(&mut self, subscriber: &SubscriberId) -> &mut OfOne {
        self.by_subscriber.entry(subscriber.clone()).or_default()
    }

    pub(super) fn find(&self, subscriber: &SubscriberId) -> Option<&OfOne> {
        self.by_subscriber.get(subscriber)
    }

    /// The numbers of those that pass `filter`, in their order, if what is in memory can say so.
    pub(super) fn ids(&self, filter: &Filter) -> Option<Vec<u64>> {
        let Filter { subscriber, cause, event, kind, entity, since, until } = filter;
        let is_known = (event, kind, entity, since, until) == (&None, &None, &None, &None, &None);
        let passes = |found: Cause| cause.is_none_or(|cause| cause == found);
        let of_those = |of_one: &OfOne| -> Vec<u64> {
            let entries = of_one.entries.values().filter(|entry| passes(entry.cause)).map(|entry| entry.id);
            entries.chain(of_one.spans.values().filter(|span| passes(span.cause)).map(|span| span.id)).collect()
        };
        is_known.then(|| {
            let mut ids = match subscriber {
                Some(subscriber) => self.find(subscriber).map(of_those).unwrap_or_default(),
                None => self.by_subscriber.values().flat_map(of_those).collect(),
            };
            ids.sort_unstable();
            ids
        })
    }

    pub(super) fn draw(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }
}
