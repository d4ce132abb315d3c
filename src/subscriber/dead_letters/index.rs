//! Index of all dead letters in memory.
//!
//! It counts dead letters, finds the one of a record and those that pass a filter, and iterates over
//! those of a subscriber in the order of their events.
//!
//! An entry takes about a hundred bytes; the rest of a dead letter is only on the disk. Of names and
//! ids it has hashes, keyed anew by each process.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use super::super::new_dead_letter::DeadLetterCause;
use super::filter::DeadLetterFilter;
use super::letter::{DeadLetter, DeadLetterSubject};
use crate::event::{EntityKey, Kind, Position, Timestamp};
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
    event_hash: u64,
    kind: Kind,
    entity_hash: u64,
    received_at: Timestamp,
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

/// Place of a dead letter in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeadLetterPlace {
    /// Dead letter of the record at this position.
    Record(Position),
    /// Dead letter of missed records, found by its id.
    MissedRecords,
}

/// Index entries of one subscriber.
#[derive(Debug, Default)]
pub(super) struct SubscriberDeadLetters {
    pub(super) entries: BTreeMap<Position, DeadLetterEntry>,
    pub(super) ranges: BTreeMap<u64, MissedRecordsEntry>,
    /// Number of dead letters that halt the lane of each entity. It can be several: a lane that went on
    /// because halts were switched off may be halted again.
    halted_entities: BTreeMap<EntityKey, usize>,
}

impl SubscriberDeadLetters {
    pub(super) fn len(&self) -> u64 {
        (self.entries.len() + self.ranges.len()) as u64
    }

    /// True if a dead letter halts the lane of `entity`.
    pub(super) fn is_lane_halted(&self, entity: &EntityKey) -> bool {
        self.halted_entities.contains_key(entity)
    }
}

/// Index of the dead letters of all subscribers.
#[derive(Debug, Default)]
pub(super) struct DeadLetterIndex {
    pub(super) by_subscriber: HashMap<SubscriberId, SubscriberDeadLetters>,
    /// Id that the next dead letter gets.
    pub(super) next_id: u64,
    total: u64,
    hashes: RandomState,
}

impl DeadLetterIndex {
    /// Adds the entry of `letter`, which `job` holds, and replaces an earlier entry.
    pub(super) fn add(&mut self, letter: &DeadLetter, job: Option<u64>) {
        self.next_id = self.next_id.max(letter.id + 1);
        let hash = |text: &str| self.hashes.hash_one(text);
        let owned = self
            .by_subscriber
            .entry(letter.subscriber.clone())
            .or_default();
        let before = owned.len();

        match &letter.subject {
            DeadLetterSubject::Event(delivery) => {
                let halted_entity = delivery.is_halting.then(|| delivery.entity.clone());
                if let Some(entity) = &halted_entity {
                    *owned.halted_entities.entry(entity.clone()).or_default() += 1;
                }
                let entry = DeadLetterEntry {
                    id: letter.id,
                    cause: letter.cause,
                    at: letter.at,
                    attempts: delivery.attempts,
                    job,
                    halted_entity,
                    event_hash: hash(&delivery.event_type),
                    kind: delivery.entity.kind(),
                    entity_hash: hash(delivery.entity.id()),
                    received_at: delivery.received_at,
                };
                owned.entries.insert(delivery.position, entry);
            }
            DeadLetterSubject::Range(missed) => {
                let range = MissedRecordsEntry {
                    id: letter.id,
                    cause: letter.cause,
                    at: letter.at,
                    missed: missed.clone(),
                    job,
                };
                owned.ranges.insert(letter.id, range);
            }
        }
        self.total += owned.len() - before;
    }

    /// Removes the dead letter of the record at `position`.
    pub(super) fn remove(
        &mut self,
        subscriber: &SubscriberId,
        position: Position,
    ) -> Option<DeadLetterEntry> {
        let owned = self.by_subscriber.get_mut(subscriber)?;
        let entry = owned.entries.remove(&position)?;
        if let Some(entity) = &entry.halted_entity
            && let Some(letters) = owned.halted_entities.get_mut(entity)
        {
            *letters -= 1;
            if *letters == 0 {
                owned.halted_entities.remove(entity);
            }
        }
        self.total -= 1;
        Some(entry)
    }

    /// Removes the dead letter `id` of missed records.
    pub(super) fn remove_range(
        &mut self,
        subscriber: &SubscriberId,
        id: u64,
    ) -> Option<MissedRecordsEntry> {
        let owned = self.by_subscriber.get_mut(subscriber)?;
        let range = owned.ranges.remove(&id)?;
        self.total -= 1;
        Some(range)
    }

    /// Removes the subscribers for which `is_known` is false; returns the ids of their dead letters.
    pub(super) fn retain(&mut self, is_known: impl Fn(&SubscriberId) -> bool) -> Vec<u64> {
        let mut removed = Vec::new();
        self.by_subscriber.retain(|subscriber, owned| {
            let is_known = is_known(subscriber);
            if !is_known {
                removed.extend(owned.entries.values().map(|entry| entry.id));
                removed.extend(owned.ranges.keys());
            }
            is_known
        });
        self.total -= removed.len() as u64;
        removed
    }

    /// True if `letter`, which stands for one record, is still there.
    pub(super) fn holds(&self, letter: &DeadLetter) -> bool {
        let DeadLetterSubject::Event(delivery) = &letter.subject else {
            return false;
        };
        let owned = self.by_subscriber.get(&letter.subscriber);
        let entry = owned.and_then(|owned| owned.entries.get(&delivery.position));
        entry.is_some_and(|entry| entry.id == letter.id)
    }

    /// Number of all dead letters, those of missed records included.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn subscriber(&self, subscriber: &SubscriberId) -> Option<&SubscriberDeadLetters> {
        self.by_subscriber.get(subscriber)
    }

    /// Calls `visit` with subscriber, id and place of each dead letter that passes `filter`.
    pub(super) fn for_each_match(
        &self,
        filter: &DeadLetterFilter,
        mut visit: impl FnMut(&SubscriberId, u64, DeadLetterPlace),
    ) {
        let hash = |text: &String| self.hashes.hash_one(text.as_str());
        let event_hash = filter.event.as_ref().map(hash);
        let entity_hash = filter.entity.as_ref().map(hash);
        let admits_entry = |entry: &DeadLetterEntry| {
            filter.cause.is_none_or(|cause| cause == entry.cause)
                && event_hash.is_none_or(|hash| hash == entry.event_hash)
                && filter.kind.is_none_or(|kind| kind == entry.kind)
                && entity_hash.is_none_or(|hash| hash == entry.entity_hash)
                && filter.admits_time(entry.received_at)
                && filter.admits_id(entry.id)
        };
        let admits_range = |range: &MissedRecordsEntry| {
            filter.cause.is_none_or(|cause| cause == range.cause)
                && filter.names_no_event()
                && filter.admits_time(range.at)
                && filter.admits_id(range.id)
        };
        let mut visit_owned = |id: &SubscriberId, owned: &SubscriberDeadLetters| {
            for (position, entry) in &owned.entries {
                if admits_entry(entry) {
                    visit(id, entry.id, DeadLetterPlace::Record(*position));
                }
            }
            for range in owned.ranges.values() {
                if admits_range(range) {
                    visit(id, range.id, DeadLetterPlace::MissedRecords);
                }
            }
        };

        match &filter.subscriber {
            Some(id) => {
                if let Some(owned) = self.by_subscriber.get(id) {
                    visit_owned(id, owned);
                }
            }
            None => self
                .by_subscriber
                .iter()
                .for_each(|(id, owned)| visit_owned(id, owned)),
        }
    }

    pub(super) fn allocate_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}
