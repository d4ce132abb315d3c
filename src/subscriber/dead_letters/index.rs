//! Index of all dead letters in memory.
//!
//! It counts dead letters, finds the one of a record, and iterates over those of a subscriber in
//! the order of their events.
//!
//! An entry takes about a hundred bytes; the rest of a dead letter is only on the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::filter::DeadLetterFilter;
use super::letter::{DeadLetter, DeadLetterCause, DeadLetterSubject};
use crate::event::{EntityKey, Position, Timestamp};
use crate::subscriber::MissedRecords;
use crate::subscriber::SubscriberId;

/// Index entry of a dead letter of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeadLetterEntry {
    pub(super) id: u64,
    pub(super) cause: DeadLetterCause,
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    /// Job that holds the dead letter in order to deliver it again.
    pub(super) job: Option<u64>,
    /// Entity whose lane is halted until the dead letter is delivered or discarded.
    pub(super) halted_entity: Option<EntityKey>,
}

/// Index entry of a dead letter of missed records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissedRecordsEntry {
    pub(super) id: u64,
    pub(super) cause: DeadLetterCause,
    pub(super) at: Timestamp,
    pub(super) missed: MissedRecords,
    pub(super) job: Option<u64>,
}

/// Index entries of one subscriber.
#[derive(Debug, Default)]
pub(super) struct SubscriberDeadLetters {
    pub(super) entries: BTreeMap<Position, DeadLetterEntry>,
    pub(super) ranges: BTreeMap<u64, MissedRecordsEntry>,
    /// Entities whose lanes are halted; a lane is halted by one dead letter at a time.
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

    /// True if a dead letter halts the lane of `entity`.
    pub(super) fn is_lane_halted(&self, entity: &EntityKey) -> bool {
        self.halted_entities.contains(entity)
    }
}

/// Index of the dead letters of all subscribers.
#[derive(Debug, Default)]
pub(super) struct DeadLetterIndex {
    pub(super) by_subscriber: HashMap<SubscriberId, SubscriberDeadLetters>,
    /// Id that the next dead letter gets.
    pub(super) next_id: u64,
}

impl DeadLetterIndex {
    /// Adds the entry of `letter`, which `job` holds, and replaces an earlier entry.
    pub(super) fn add(&mut self, letter: &DeadLetter, job: Option<u64>) {
        self.next_id = self.next_id.max(letter.id + 1);
        let dead_letters = self.subscriber_mut(&letter.subscriber);
        let (id, cause, at) = (letter.id, letter.cause, letter.at);

        match &letter.subject {
            DeadLetterSubject::Event(delivery) => {
                let halted_entity = delivery.is_halting.then(|| delivery.entity.clone());
                let entry = DeadLetterEntry {
                    id,
                    cause,
                    at,
                    attempts: delivery.attempts,
                    job,
                    halted_entity,
                };
                dead_letters.add(delivery.position, entry);
            }
            DeadLetterSubject::Range(missed) => {
                let range = MissedRecordsEntry {
                    id,
                    cause,
                    at,
                    missed: missed.clone(),
                    job,
                };
                dead_letters.ranges.insert(id, range);
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

    /// Returns the ids of the dead letters that pass `filter`, ascending. `None` if the filter
    /// names members that are only on the disk.
    pub(super) fn matching_ids(&self, filter: &DeadLetterFilter) -> Option<Vec<u64>> {
        let DeadLetterFilter {
            subscriber,
            cause,
            event,
            kind,
            entity,
            since,
            until,
        } = filter;
        if (event, kind, entity, since, until) != (&None, &None, &None, &None, &None) {
            return None;
        }

        let passes = |found: DeadLetterCause| cause.is_none_or(|cause| cause == found);
        let ids_of = |dead_letters: &SubscriberDeadLetters| -> Vec<u64> {
            let entries = dead_letters.entries.values();
            let entries = entries
                .filter(|entry| passes(entry.cause))
                .map(|entry| entry.id);
            let ranges = dead_letters.ranges.values();
            let ranges = ranges
                .filter(|range| passes(range.cause))
                .map(|range| range.id);
            entries.chain(ranges).collect()
        };
        let mut ids = match subscriber {
            Some(subscriber) => self.subscriber(subscriber).map(ids_of).unwrap_or_default(),
            None => self.by_subscriber.values().flat_map(ids_of).collect(),
        };
        ids.sort_unstable();
        Some(ids)
    }

    pub(super) fn allocate_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}
