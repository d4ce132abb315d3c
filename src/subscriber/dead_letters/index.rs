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

/// Place of a dead letter among those of its subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::subscriber) enum DeadLetterPlace {
    /// Dead letter of the record at this position.
    Record(Position),
    /// Dead letter of missed records, with this id.
    Missed(u64),
}

impl From<Position> for DeadLetterPlace {
    fn from(position: Position) -> Self {
        Self::Record(position)
    }
}

impl DeadLetterPlace {
    pub(super) fn from_letter(letter: &DeadLetter) -> Self {
        match &letter.subject {
            DeadLetterSubject::Event(delivery) => Self::Record(delivery.position),
            DeadLetterSubject::Range(_) => Self::Missed(letter.id),
        }
    }
}

/// Index entry of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeadLetterEntry {
    pub(super) id: u64,
    pub(super) cause: DeadLetterCause,
    pub(super) at: Timestamp,
    /// Job that holds the dead letter in order to deliver it again.
    pub(super) job: Option<u64>,
    pub(super) content: EntryContent,
}

/// Part of an entry that depends on the subject of the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryContent {
    Record {
        attempts: u32,
        /// Entity whose lane is halted until the dead letter is delivered or discarded.
        halted_entity: Option<EntityKey>,
        event_hash: u64,
        kind: Kind,
        entity_hash: u64,
        received_at: Timestamp,
    },
    Missed(MissedRecords),
}

impl DeadLetterEntry {
    /// Attempts that were made; none at missed records.
    pub(super) const fn attempts(&self) -> u32 {
        match &self.content {
            EntryContent::Record { attempts, .. } => *attempts,
            EntryContent::Missed(_) => 0,
        }
    }

    pub(super) const fn halted_entity(&self) -> Option<&EntityKey> {
        match &self.content {
            EntryContent::Record { halted_entity, .. } => halted_entity.as_ref(),
            EntryContent::Missed(_) => None,
        }
    }

    pub(super) const fn missed(&self) -> Option<&MissedRecords> {
        match &self.content {
            EntryContent::Record { .. } => None,
            EntryContent::Missed(missed) => Some(missed),
        }
    }
}

/// Index entries of one subscriber.
#[derive(Debug, Default)]
pub(super) struct SubscriberDeadLetters {
    pub(super) entries: BTreeMap<DeadLetterPlace, DeadLetterEntry>,
    /// Number of dead letters that halt the lane of each entity. It can be several: a lane that went on
    /// because halts were switched off may be halted again.
    halted_entities: BTreeMap<EntityKey, usize>,
}

impl SubscriberDeadLetters {
    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Entries that stand for several records each; they sort behind those of single records.
    pub(super) fn missed_entries(&self) -> impl Iterator<Item = &DeadLetterEntry> {
        let missed = self.entries.range(DeadLetterPlace::Missed(0)..);
        missed.map(|(_, entry)| entry)
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
        let place = DeadLetterPlace::from_letter(letter);
        self.remove(&letter.subscriber, place);

        let hash = |text: &str| self.hashes.hash_one(text);
        let content = match &letter.subject {
            DeadLetterSubject::Event(delivery) => EntryContent::Record {
                attempts: delivery.attempts,
                halted_entity: delivery.is_halting.then(|| delivery.entity.clone()),
                event_hash: hash(&delivery.event_type),
                kind: delivery.entity.kind(),
                entity_hash: hash(delivery.entity.id()),
                received_at: delivery.received_at,
            },
            DeadLetterSubject::Range(missed) => EntryContent::Missed(missed.clone()),
        };
        let entry = DeadLetterEntry {
            id: letter.id,
            cause: letter.cause,
            at: letter.at,
            job,
            content,
        };
        let owned = self
            .by_subscriber
            .entry(letter.subscriber.clone())
            .or_default();
        if let Some(entity) = entry.halted_entity() {
            *owned.halted_entities.entry(entity.clone()).or_default() += 1;
        }
        owned.entries.insert(place, entry);
        self.total += 1;
    }

    /// Removes the dead letter at `place`.
    pub(super) fn remove(
        &mut self,
        subscriber: &SubscriberId,
        place: DeadLetterPlace,
    ) -> Option<DeadLetterEntry> {
        let owned = self.by_subscriber.get_mut(subscriber)?;
        let entry = owned.entries.remove(&place)?;
        if let Some(entity) = entry.halted_entity()
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

    /// Removes the subscribers for which `is_known` is false; returns the ids of their dead letters.
    pub(super) fn retain(&mut self, is_known: impl Fn(&SubscriberId) -> bool) -> Vec<u64> {
        let mut removed = Vec::new();
        self.by_subscriber.retain(|subscriber, owned| {
            let is_known = is_known(subscriber);
            if !is_known {
                removed.extend(owned.entries.values().map(|entry| entry.id));
            }
            is_known
        });
        self.total -= removed.len() as u64;
        removed
    }

    /// Returns the entry at `place`.
    pub(super) fn get(
        &self,
        subscriber: &SubscriberId,
        place: DeadLetterPlace,
    ) -> Option<&DeadLetterEntry> {
        self.by_subscriber.get(subscriber)?.entries.get(&place)
    }

    pub(super) fn get_mut(
        &mut self,
        subscriber: &SubscriberId,
        place: DeadLetterPlace,
    ) -> Option<&mut DeadLetterEntry> {
        let owned = self.by_subscriber.get_mut(subscriber)?;
        owned.entries.get_mut(&place)
    }

    /// Returns the entry of `letter`; `None` if it is gone, even if its record has another one.
    pub(super) fn find_entry(&self, letter: &DeadLetter) -> Option<&DeadLetterEntry> {
        self.get(&letter.subscriber, DeadLetterPlace::from_letter(letter))
            .filter(|entry| entry.id == letter.id)
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
        let admits_content = |entry: &DeadLetterEntry| match &entry.content {
            EntryContent::Record {
                event_hash: event,
                kind,
                entity_hash: entity,
                received_at,
                ..
            } => {
                event_hash.is_none_or(|hash| hash == *event)
                    && filter.kind.is_none_or(|asked| asked == *kind)
                    && entity_hash.is_none_or(|hash| hash == *entity)
                    && filter.admits_time(*received_at)
            }
            EntryContent::Missed(_) => filter.names_no_event() && filter.admits_time(entry.at),
        };
        let admits = |entry: &DeadLetterEntry| {
            filter.cause.is_none_or(|cause| cause == entry.cause)
                && filter.admits_id(entry.id)
                && admits_content(entry)
        };
        let mut visit_owned = |id: &SubscriberId, owned: &SubscriberDeadLetters| {
            for (place, entry) in owned.entries.iter().filter(|(_, entry)| admits(entry)) {
                visit(id, entry.id, *place);
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
