//! What is in memory of all dead letters: enough to count them, to find that of a record, and to go
//! through those of a subscriber in the order of their events. A hundred bytes each; the rest is on
//! the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::letter::{DeadLetter, DeadLetterCause, DeadLetterSubject, Filter};
use crate::event::{EntityKey, Position, Timestamp};
use crate::subscriber::SubscriberId;

/// A dead letter of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeadLetterEntry {
    pub(super) id: u64,
    pub(super) cause: DeadLetterCause,
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    /// The job that is delivering it again.
    pub(super) job: Option<u64>,
    /// The entity whose lane stands still for it.
    pub(super) halted_entity: Option<EntityKey>,
}

/// A dead letter about a part of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DroppedRangeEntry {
    pub(super) id: u64,
    pub(super) cause: DeadLetterCause,
    pub(super) at: Timestamp,
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) count: u64,
    pub(super) job: Option<u64>,
}

/// The dead letters of one subscriber.
#[derive(Debug, Default)]
pub(super) struct SubscriberDeadLetters {
    pub(super) entries: BTreeMap<Position, DeadLetterEntry>,
    pub(super) ranges: BTreeMap<u64, DroppedRangeEntry>,
    /// The entities whose lanes stand still: a lane does so for one dead letter at a time.
    halted_entities: BTreeSet<EntityKey>,
}

impl SubscriberDeadLetters {
    pub(super) fn add(&mut self, position: Position, entry: DeadLetterEntry) {
        self.halted_entities.extend(entry.halted_entity.clone());
        self.entries.insert(position, entry);
    }

    pub(super) fn remove(&mut self, position: Position) -> Option<DeadLetterEntry> {
        let entry = self.entries.remove(&position)?;
        if let Some(entity) = &entry.halted_entity {
            self.halted_entities.remove(entity);
        }
        Some(entry)
    }

    pub(super) fn len(&self) -> u64 {
        (self.entries.len() + self.ranges.len()) as u64
    }

    /// Whether a dead letter keeps the lane of `entity` from going on.
    pub(super) fn is_lane_halted(&self, entity: &EntityKey) -> bool {
        self.halted_entities.contains(entity)
    }
}

/// Those of all subscribers.
#[derive(Debug, Default)]
pub(super) struct DeadLetterIndex {
    pub(super) by_subscriber: HashMap<SubscriberId, SubscriberDeadLetters>,
    /// The number that the next one gets.
    pub(super) next_id: u64,
}

impl DeadLetterIndex {
    pub(super) fn add(&mut self, letter: &DeadLetter) {
        self.next_id = self.next_id.max(letter.id + 1);
        let of_one = self.subscriber_mut(&letter.subscriber);
        let (id, cause, at) = (letter.id, letter.cause, letter.at);
        match &letter.subject {
            DeadLetterSubject::Event(delivery) => {
                let halts = delivery.is_halting.then(|| delivery.entity.clone());
                let entry = DeadLetterEntry {
                    id,
                    cause,
                    at,
                    attempts: delivery.attempts,
                    job: None,
                    halted_entity: halts,
                };
                of_one.add(delivery.position, entry);
            }
            DeadLetterSubject::Range { first, last, count } => {
                let span = DroppedRangeEntry {
                    id,
                    cause,
                    at,
                    first: *first,
                    last: *last,
                    count: *count,
                    job: None,
                };
                of_one.ranges.insert(id, span);
            }
        }
    }

    pub(super) fn subscriber_mut(
        &mut self,
        subscriber: &SubscriberId,
    ) -> &mut SubscriberDeadLetters {
        self.by_subscriber.entry(subscriber.clone()).or_default()
    }

    pub(super) fn subscriber(&self, subscriber: &SubscriberId) -> Option<&SubscriberDeadLetters> {
        self.by_subscriber.get(subscriber)
    }

    /// The numbers of those that pass `filter`, in their order, if what is in memory can say so.
    pub(super) fn matching_ids(&self, filter: &Filter) -> Option<Vec<u64>> {
        let Filter {
            subscriber,
            cause,
            event,
            kind,
            entity,
            since,
            until,
        } = filter;
        let is_known = (event, kind, entity, since, until) == (&None, &None, &None, &None, &None);
        let passes = |found: DeadLetterCause| cause.is_none_or(|cause| cause == found);
        let of_those = |of_one: &SubscriberDeadLetters| -> Vec<u64> {
            let entries = of_one
                .entries
                .values()
                .filter(|entry| passes(entry.cause))
                .map(|entry| entry.id);
            entries
                .chain(
                    of_one
                        .ranges
                        .values()
                        .filter(|span| passes(span.cause))
                        .map(|span| span.id),
                )
                .collect()
        };
        is_known.then(|| {
            let mut ids = match subscriber {
                Some(subscriber) => self
                    .subscriber(subscriber)
                    .map(of_those)
                    .unwrap_or_default(),
                None => self.by_subscriber.values().flat_map(of_those).collect(),
            };
            ids.sort_unstable();
            ids
        })
    }

    pub(super) fn allocate_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}
