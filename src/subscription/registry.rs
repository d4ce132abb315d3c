//! Registry of the subscriptions of a store. All are in memory, and each change is on the disk
//! before it becomes visible.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::codec;
use super::definition::{SharedSubscription, Subscription, SubscriptionId};
use super::interest::SubscriberInterest;
use crate::event::Timestamp;
use crate::table_store::{
    DEFINITION_MAX_BYTES, DefinitionOpenError, DefinitionRegistry, TableStore, TableWriteError,
};

/// Key of the next id, written when the subscription with the highest id is removed.
const NEXT: &str = "next";

/// Failure to create, change or remove a subscription.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionChangeError {
    /// The limit of subscriptions is reached.
    #[error("there are {0} subscriptions already; delivery.subscriptions_max allows no more")]
    TooMany(usize),
    /// The encoded subscription is too large for one value of the store.
    #[error(
        "the subscription needs {found} bytes, and at most {max} are kept; \
         shorten its expressions, headers or events"
    )]
    TooLarge {
        /// Size of the subscription, in bytes.
        found: usize,
        /// Largest allowed size, in bytes.
        max: usize,
    },
    /// No subscription has this id.
    #[error("there is no such subscription")]
    NotFound,
    /// Another request changed the subscription since its caller read it.
    #[error("the subscription was changed at {0}, after you loaded it")]
    ChangedSince(Timestamp),
    /// Another subscription has the `uid`.
    #[error("subscription {0} has this uid already")]
    UidTaken(SubscriptionId),
    /// Another request created a subscription with the same idempotency key.
    #[error("the idempotency key created subscription {0} by another request")]
    KeyReused(SubscriptionId),
    /// The write failed, so the change may or may not be on the disk.
    #[error("it is not known whether the subscription was stored, look at it and try again")]
    OutcomeUnknown(#[from] TableWriteError),
}

/// Subscription with the interest that its definition yields.
#[derive(Clone, Debug)]
pub struct SubscriptionEntry {
    /// Definition as it stands in the store.
    pub subscription: SharedSubscription,
    /// Selection of the records to deliver.
    pub interest: Arc<SubscriberInterest>,
}

/// Ids of one chunk. A change copies the list of chunks and one chunk: some 300 pointers at 20,000
/// subscriptions, instead of all.
const CHUNK_IDS: u64 = 256;

/// Time in which the repetition of a creation returns the subscription, as for events.
const CREATION_KEY_WINDOW: Duration = Duration::from_secs(24 * 3_600);

type SubscriptionChunk = BTreeMap<SubscriptionId, Arc<SubscriptionEntry>>;

/// All subscriptions at one moment, which later changes do not touch. Snapshots share what is the
/// same in both.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionSnapshot {
    /// Subscriptions by `id / CHUNK_IDS` and by id; no chunk is empty.
    chunks: BTreeMap<u64, Arc<SubscriptionChunk>>,
    len: usize,
}

impl SubscriptionSnapshot {
    /// Returns the subscription with this id.
    #[must_use]
    pub fn get(&self, id: SubscriptionId) -> Option<&Arc<SubscriptionEntry>> {
        self.chunks.get(&(id / CHUNK_IDS))?.get(&id)
    }

    /// Returns all subscriptions, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Arc<SubscriptionEntry>> {
        self.chunks
            .values()
            .rev()
            .flat_map(|chunk| chunk.values().rev())
    }

    /// Returns all subscriptions in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SubscriptionEntry>> {
        self.chunks.values().flat_map(|chunk| chunk.values())
    }

    /// Returns the number of subscriptions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells if there are no subscriptions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the ids of the subscriptions that were added, changed or removed since `older`.
    #[must_use]
    pub fn changes_since(&self, older: &Self) -> BTreeSet<SubscriptionId> {
        let mut changed = BTreeSet::new();
        for (one, other) in [(self, older), (older, self)] {
            for (number, chunk) in &one.chunks {
                let is_shared = other
                    .chunks
                    .get(number)
                    .is_some_and(|other| Arc::ptr_eq(chunk, other));
                if is_shared {
                    continue;
                }
                let differs = |(id, entry): &(&SubscriptionId, &Arc<SubscriptionEntry>)| {
                    other
                        .get(**id)
                        .is_none_or(|other| !Arc::ptr_eq(entry, other))
                };
                changed.extend(chunk.iter().filter(differs).map(|(id, _)| *id));
            }
        }
        changed
    }

    /// Adds `subscription`, or replaces the subscription with the same id.
    fn insert(&mut self, subscription: SharedSubscription) {
        let id = subscription.id;
        let interest = Arc::new(SubscriberInterest::from_subscription(&subscription));
        let entry = Arc::new(SubscriptionEntry {
            subscription,
            interest,
        });
        let chunk = self.chunks.entry(id / CHUNK_IDS).or_default();
        let replaced = Arc::make_mut(chunk).insert(id, entry);
        self.len += usize::from(replaced.is_none());
    }

    /// Removes the subscription with this id; returns false if there is none.
    fn remove(&mut self, id: SubscriptionId) -> bool {
        let Some(chunk) = self.chunks.get_mut(&(id / CHUNK_IDS)) else {
            return false;
        };
        let chunk = Arc::make_mut(chunk);
        let is_removed = chunk.remove(&id).is_some();
        if chunk.is_empty() {
            self.chunks.remove(&(id / CHUNK_IDS));
        }
        self.len -= usize::from(is_removed);
        is_removed
    }
}

impl FromIterator<Subscription> for SubscriptionSnapshot {
    fn from_iter<I: IntoIterator<Item = Subscription>>(subscriptions: I) -> Self {
        let mut snapshot = Self::default();
        subscriptions
            .into_iter()
            .for_each(|subscription| snapshot.insert(Arc::new(subscription)));
        snapshot
    }
}

/// Next id, and the subscriptions by the names that clients gave.
#[derive(Debug, Default)]
struct SubscriptionNames {
    next_id: SubscriptionId,
    by_uid: HashMap<String, SubscriptionId>,
    /// Subscriptions by the idempotency key of the request that created them.
    by_creation_key: HashMap<String, SubscriptionId>,
}

impl SubscriptionNames {
    fn add(&mut self, subscription: &Subscription) {
        let id = subscription.id;
        if let Some(uid) = &subscription.uid {
            self.by_uid.insert(uid.clone(), id);
        }
        if let Some(creation) = &subscription.creation {
            self.by_creation_key.insert(creation.key.clone(), id);
        }
    }

    fn remove(&mut self, subscription: &Subscription) {
        if let Some(uid) = &subscription.uid {
            self.by_uid.remove(uid);
        }
        // A later creation may have the key, when it was forgotten.
        if let Some(creation) = &subscription.creation
            && self.by_creation_key.get(&creation.key) == Some(&subscription.id)
        {
            self.by_creation_key.remove(&creation.key);
        }
    }
}

/// Registry of the subscriptions in one opening of the store.
pub struct SubscriptionRegistry {
    definitions: DefinitionRegistry<SubscriptionSnapshot>,
    /// Its lock is held during a change, so that changes come one after another.
    names: Mutex<SubscriptionNames>,
    subscriptions_max: usize,
}

impl std::fmt::Debug for SubscriptionRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SubscriptionRegistry({})", self.snapshot().len())
    }
}

impl SubscriptionRegistry {
    /// Loads the subscriptions in `tables`. No
    /// subscription is added beyond `subscriptions_max`.
    ///
    /// # Errors
    /// [`DefinitionOpenError`] when a subscription cannot be read.
    pub fn open(
        tables: &Arc<TableStore>,
        subscriptions_max: usize,
    ) -> Result<Self, DefinitionOpenError> {
        let mut stored_next_id = 1;
        let load = |loaded: &mut SubscriptionSnapshot, key: &str, value: &[u8]| {
            if key == NEXT {
                stored_next_id = codec::decode_next_id(key, value)?;
            } else {
                loaded.insert(Arc::new(codec::decode_subscription(key, value)?));
            }
            Ok(())
        };
        let definitions = DefinitionRegistry::open(tables, codec::SORT, load)?;
        let loaded = definitions.snapshot();

        // The stored id is only newer than the ids in use if the highest subscription was removed.
        let last_id = loaded.newest_first().next();
        let last_id = last_id.map(|entry| entry.subscription.id);
        let next_id = last_id.map_or(stored_next_id, |last| stored_next_id.max(last + 1));
        let mut names = SubscriptionNames {
            next_id,
            ..SubscriptionNames::default()
        };
        for entry in loaded.iter() {
            names.add(&entry.subscription);
        }
        Ok(Self {
            definitions,
            names: Mutex::new(names),
            subscriptions_max,
        })
    }

    /// Returns all subscriptions as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<SubscriptionSnapshot> {
        self.definitions.snapshot()
    }

    /// Watches the number of changes. A change is visible in [`SubscriptionRegistry::snapshot`]
    /// before it is counted.
    #[must_use]
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.definitions.watch_changes()
    }

    /// Watches for a failed write: `Some` with the reason. The store must be reopened then.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.definitions.watch_failure()
    }

    /// Returns the subscription with the id `uid` that its client chose.
    #[must_use]
    pub fn find_by_uid(&self, uid: &str) -> Option<SharedSubscription> {
        let names = self.names.lock();
        let id = *names.by_uid.get(uid)?;
        let snapshot = self.snapshot();
        Some(Arc::clone(&snapshot.get(id)?.subscription))
    }

    /// Adds the subscription that `build` returns for its new id, and returns when it is on the
    /// disk. Returns the former subscription if the same request has created one within
    /// a day. Blocks.
    ///
    /// # Errors
    /// [`SubscriptionChangeError`]; only [`SubscriptionChangeError::OutcomeUnknown`] may have
    /// changed the store.
    pub fn create(
        &self,
        build: impl FnOnce(SubscriptionId) -> Subscription,
    ) -> Result<SharedSubscription, SubscriptionChangeError> {
        let mut names = self.names.lock();
        let snapshot = self.snapshot();
        let id = names.next_id;
        let subscription = Subscription { id, ..build(id) };
        if let Some(created) = find_creation(&names, &snapshot, &subscription)? {
            return Ok(created);
        }
        if let Some(holder) = subscription
            .uid
            .as_ref()
            .and_then(|uid| names.by_uid.get(uid))
        {
            return Err(SubscriptionChangeError::UidTaken(*holder));
        }
        if snapshot.len() >= self.subscriptions_max {
            return Err(SubscriptionChangeError::TooMany(snapshot.len()));
        }

        let stored = self.persist(&snapshot, subscription)?;
        names.next_id += 1;
        names.add(&stored);
        Ok(stored)
    }

    /// Applies `change` to the subscription `id`, whose `uid` stays, and returns when the result is on the disk.
    /// Blocks.
    ///
    /// # Errors
    /// The same as [`SubscriptionRegistry::create`], and [`SubscriptionChangeError::NotFound`].
    pub fn change(
        &self,
        id: SubscriptionId,
        change: impl FnOnce(&mut Subscription),
    ) -> Result<SharedSubscription, SubscriptionChangeError> {
        self.change_unless_newer(id, None, change)
    }

    /// Applies `change` as [`Self::change`] does, unless another change came after `seen`, the time of
    /// the last change that the caller knows.
    ///
    /// # Errors
    /// As for [`Self::change`], and [`SubscriptionChangeError::ChangedSince`].
    pub fn change_unless_newer(
        &self,
        id: SubscriptionId,
        seen: Option<Timestamp>,
        change: impl FnOnce(&mut Subscription),
    ) -> Result<SharedSubscription, SubscriptionChangeError> {
        let _change_guard = self.names.lock();
        let snapshot = self.snapshot();
        let entry = snapshot.get(id).ok_or(SubscriptionChangeError::NotFound)?;
        let changed_at = entry.subscription.updated_at;
        if seen.is_some_and(|seen| seen != changed_at) {
            return Err(SubscriptionChangeError::ChangedSince(changed_at));
        }

        let mut subscription = Subscription::clone(&entry.subscription);
        change(&mut subscription);
        let uid = entry.subscription.uid.clone();
        self.persist(
            &snapshot,
            Subscription {
                id,
                uid,
                ..subscription
            },
        )
    }

    /// Removes the subscription `id`, and returns when the removal is on the disk. Blocks.
    ///
    /// # Errors
    /// [`SubscriptionChangeError::NotFound`] and [`SubscriptionChangeError::OutcomeUnknown`].
    pub fn remove(&self, id: SubscriptionId) -> Result<(), SubscriptionChangeError> {
        let mut names = self.names.lock();
        let mut snapshot = SubscriptionSnapshot::clone(&self.snapshot());
        let removed = snapshot.get(id).cloned();
        let removed = removed.ok_or(SubscriptionChangeError::NotFound)?;
        snapshot.remove(id);

        // The next id follows from the highest id in the store. If that one is removed, the next id
        // must be stored first, or a crash would let the id be used again.
        if id + 1 == names.next_id {
            self.definitions
                .put(NEXT, &codec::encode_next_id(names.next_id))?;
        }
        self.definitions.remove(&id.to_string())?;
        names.remove(&removed.subscription);
        self.definitions.publish(snapshot);
        Ok(())
    }

    fn persist(
        &self,
        snapshot: &SubscriptionSnapshot,
        subscription: Subscription,
    ) -> Result<SharedSubscription, SubscriptionChangeError> {
        let value = codec::encode_subscription(&subscription);
        if value.len() > DEFINITION_MAX_BYTES {
            return Err(SubscriptionChangeError::TooLarge {
                found: value.len(),
                max: DEFINITION_MAX_BYTES,
            });
        }

        self.definitions.put(&subscription.id.to_string(), &value)?;

        let (mut snapshot, subscription) = (snapshot.clone(), Arc::new(subscription));
        snapshot.insert(Arc::clone(&subscription));
        self.definitions.publish(snapshot);
        Ok(subscription)
    }
}

/// Returns the subscription that the request of `new` has created before.
///
/// # Errors
/// Another request had the same idempotency key.
fn find_creation(
    names: &SubscriptionNames,
    snapshot: &SubscriptionSnapshot,
    new: &Subscription,
) -> Result<Option<SharedSubscription>, SubscriptionChangeError> {
    let Some(creation) = &new.creation else {
        return Ok(None);
    };
    let earlier = names
        .by_creation_key
        .get(&creation.key)
        .and_then(|id| snapshot.get(*id));
    let Some(earlier) = earlier.map(|entry| &entry.subscription) else {
        return Ok(None);
    };
    let is_known = new.created_at < earlier.created_at.saturating_add(CREATION_KEY_WINDOW);
    match (is_known, earlier.creation.as_ref() == Some(creation)) {
        (true, true) => Ok(Some(Arc::clone(earlier))),
        (true, false) => Err(SubscriptionChangeError::KeyReused(earlier.id)),
        (false, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::event::Timestamp;
    use crate::subscription::{CreationRequest, FilterExpression, sample_subscription};
    use crate::table_store::open_test_tables;

    fn open(folder: &Path) -> SubscriptionRegistry {
        SubscriptionRegistry::open(&open_test_tables(folder), 3).expect("opens")
    }

    fn ids(subscriptions: &SubscriptionRegistry) -> Vec<SubscriptionId> {
        subscriptions
            .snapshot()
            .newest_first()
            .map(|entry| entry.subscription.id)
            .collect()
    }

    fn any(id: SubscriptionId) -> Subscription {
        sample_subscription(id, &["*"])
    }

    #[test]
    fn a_number_is_never_used_twice_not_even_that_of_the_last_after_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let subscriptions = open(folder.path());
        let made: Vec<_> = (0..3)
            .map(|_| subscriptions.create(any).expect("room").id)
            .collect();
        assert_eq!(made, [1, 2, 3]);
        assert!(matches!(
            subscriptions.create(any),
            Err(SubscriptionChangeError::TooMany(3))
        ));
        subscriptions.remove(3).expect("there");
        drop(subscriptions);
        let subscriptions = open(folder.path());
        assert_eq!(ids(&subscriptions), [2, 1]);
        assert_eq!(subscriptions.create(any).expect("room").id, 4);
        subscriptions.remove(1).expect("there");
        drop(subscriptions);
        let subscriptions = open(folder.path());
        assert_eq!(
            subscriptions.create(|_| any(1)).expect("room").id,
            5,
            "whatever its maker thinks"
        );
        assert_eq!(ids(&subscriptions), [5, 4, 2]);
    }

    #[test]
    fn two_snapshots_tell_what_has_changed_and_share_the_rest() {
        let all = |ids: std::ops::Range<u64>| ids.map(any).collect::<SubscriptionSnapshot>();
        let older = all(1..1_000);
        let mut newer = older.clone();
        assert!(newer.changes_since(&older).is_empty());
        newer.insert(Arc::new(any(1_000)));
        newer.insert(Arc::new(any(255)));
        assert!(newer.remove(256) && !newer.remove(256));
        let changed = [255, 256, 1_000].into();
        assert_eq!(newer.changes_since(&older), changed);
        assert_eq!(older.changes_since(&newer), changed);
        assert_eq!((older.len(), newer.len()), (999, 999));

        let shared = newer.chunks.iter().filter(|(number, chunk)| {
            let other = older.chunks.get(number);
            other.is_some_and(|other| Arc::ptr_eq(chunk, other))
        });
        assert_eq!(shared.count(), 1, "of four, with one change in each other");
        let ids = |snapshot: &SubscriptionSnapshot| -> Vec<_> {
            snapshot.iter().map(|entry| entry.subscription.id).collect()
        };
        let expected: Vec<_> = (1..=1_000).filter(|id| *id != 256).collect();
        assert_eq!(ids(&newer), expected);
        let mut reversed: Vec<_> = newer
            .newest_first()
            .map(|entry| entry.subscription.id)
            .collect();
        reversed.reverse();
        assert_eq!(reversed, expected);
    }

    #[test]
    fn a_uid_and_an_idempotency_key_name_one_subscription_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let named = |uid: &str, hash: u8, hours: u64| {
            let created_at =
                Timestamp::from_micros(7).saturating_add(Duration::from_secs(hours * 3_600));
            let creation = Some(CreationRequest {
                key: "k".into(),
                hash: [hash; 32],
            });
            let uid = Some(uid.to_owned());
            move |id| Subscription {
                uid: uid.clone(),
                creation: creation.clone(),
                created_at,
                ..any(id)
            }
        };
        let subscriptions = open(folder.path());
        assert_eq!(subscriptions.create(named("a", 1, 0)).expect("room").id, 1);
        drop(subscriptions);

        let subscriptions = open(folder.path());
        let repeated = subscriptions.create(named("a", 1, 23)).expect("the same");
        assert_eq!((repeated.id, subscriptions.snapshot().len()), (1, 1));
        assert!(matches!(
            subscriptions.create(named("b", 2, 23)),
            Err(SubscriptionChangeError::KeyReused(1))
        ));
        assert!(matches!(
            subscriptions.create(named("a", 2, 24)),
            Err(SubscriptionChangeError::UidTaken(1))
        ));
        assert_eq!(subscriptions.create(named("b", 2, 24)).expect("room").id, 2);

        let id_of = |uid: &str| subscriptions.find_by_uid(uid).map(|found| found.id);
        assert_eq!(
            (id_of("a"), id_of("b"), id_of("c")),
            (Some(1), Some(2), None)
        );
        let changed = subscriptions.change(1, |known| known.uid = Some("b".into()));
        assert_eq!(changed.expect("there").uid.as_deref(), Some("a"));
        subscriptions.remove(1).expect("there");
        assert_eq!(id_of("a"), None);
        // The key belongs to the second one now.
        let repeated = subscriptions.create(named("b", 2, 25)).expect("the same");
        assert_eq!(repeated.id, 2);
    }

    #[test]
    fn a_change_is_seen_before_it_is_counted_and_those_who_looked_before_keep_what_they_saw() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let subscriptions = open(folder.path());
        let changes = subscriptions.watch_changes();
        subscriptions.create(any).expect("room");
        let before = subscriptions.snapshot();
        let changed = subscriptions.change(1, |subscription| {
            subscription.id = 7;
            subscription.filter = Some(FilterExpression::compile("late").expect("an expression"));
        });
        assert_eq!(changed.expect("there").id, 1);
        assert_eq!(*changes.borrow(), 2);
        let filter =
            |known: &SubscriptionSnapshot| known.get(1).expect("there").interest.filter.is_some();
        assert!(!filter(&before) && filter(&subscriptions.snapshot()));
        assert!(matches!(
            subscriptions.change(7, |_| {}),
            Err(SubscriptionChangeError::NotFound)
        ));
        assert!(matches!(
            subscriptions.remove(7),
            Err(SubscriptionChangeError::NotFound)
        ));
        assert_eq!(*changes.borrow(), 2);
    }

    #[test]
    fn what_is_too_large_to_keep_is_refused_and_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let subscriptions = open(folder.path());
        let large = |id| Subscription {
            description: Some("x".repeat(DEFINITION_MAX_BYTES)),
            ..any(id)
        };
        let Err(SubscriptionChangeError::TooLarge { found, max }) = subscriptions.create(large)
        else {
            panic!("it fits")
        };
        assert!(found > max && max == DEFINITION_MAX_BYTES);
        assert!(
            subscriptions.snapshot().is_empty() && subscriptions.watch_failure().borrow().is_none()
        );
        assert_eq!(subscriptions.create(any).expect("room").id, 1);
    }
}
