//! The subscriptions of a store: all of them in memory, each change on the disk before anybody sees
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::codec;
use super::definition::{SharedSubscription, Subscription, SubscriptionId};
use super::interest::SubscriberInterest;
use crate::config::EncryptionKey;
use crate::journal::{
    DEFINITION_MAX_BYTES, DataStore, DefinitionError, DefinitionTree, StoreWriteError,
};

/// The tree of subscriptions.
const TREE: &str = "subscriptions";
/// Where the next number stands once the subscription with the last one was removed.
const NEXT: &str = "next";

/// Why the subscriptions of a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionOpenError {
    /// The store failed, or its key is missing or another one.
    #[error("cannot read the subscriptions")]
    Unreadable(#[from] DefinitionError),
    /// A later version wrote one.
    #[error(
        "subscription {id} has format {found}, which this version does not read; start the version that wrote it"
    )]
    Format {
        /// Which subscription.
        id: String,
        /// Its format.
        found: u8,
    },
    /// The bytes of one are none of ours.
    #[error("subscription {id} cannot be read; restore the data folder from a backup")]
    Corrupt {
        /// Which subscription.
        id: String,
    },
}

/// Why a subscription was not made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionChangeError {
    /// There is no room for another.
    #[error("there are {0} subscriptions already; delivery.subscriptions_max allows no more")]
    TooMany(usize),
    /// There is more in it than is kept of one.
    #[error(
        "the subscription needs {found} bytes, and at most {max} are kept; shorten its expressions, headers or events"
    )]
    TooLarge {
        /// What it needs.
        found: usize,
        /// What there is.
        max: usize,
    },
    /// There is no such subscription.
    #[error("there is no such subscription")]
    NotFound,
    /// It is not known whether it is on the disk.
    #[error("it is not known whether the subscription was stored, look at it and try again")]
    OutcomeUnknown(#[source] StoreWriteError),
}

/// A subscription, and what follows from it.
#[derive(Clone, Debug)]
pub struct SubscriptionEntry {
    /// The definition.
    pub subscription: SharedSubscription,
    /// What it is interested in.
    pub interest: Arc<SubscriberInterest>,
}

/// All subscriptions at one moment.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionSnapshot {
    by_id: BTreeMap<SubscriptionId, Arc<SubscriptionEntry>>,
}

impl SubscriptionSnapshot {
    /// The subscription `id`.
    #[must_use]
    pub fn get(&self, id: SubscriptionId) -> Option<&Arc<SubscriptionEntry>> {
        self.by_id.get(&id)
    }

    /// All of them, the one made last first.
    pub fn newest_first(&self) -> impl ExactSizeIterator<Item = &Arc<SubscriptionEntry>> {
        self.by_id.values().rev()
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<SubscriptionEntry>> {
        self.by_id.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Adds `subscription`, in place of the one of its number.
    fn insert(&mut self, subscription: SharedSubscription) {
        let interest = Arc::new(SubscriberInterest::from_subscription(&subscription));
        self.by_id.insert(
            subscription.id,
            Arc::new(SubscriptionEntry {
                subscription,
                interest,
            }),
        );
    }
}

impl FromIterator<Subscription> for SubscriptionSnapshot {
    fn from_iter<I: IntoIterator<Item = Subscription>>(subscriptions: I) -> Self {
        let mut known = Self::default();
        subscriptions
            .into_iter()
            .for_each(|subscription| known.insert(Arc::new(subscription)));
        known
    }
}

/// The subscriptions of one opening of the store.
pub struct SubscriptionRegistry {
    definitions: DefinitionTree,
    snapshot: RwLock<Arc<SubscriptionSnapshot>>,
    /// The next number. Held while one is written: changes come one after another.
    next: Mutex<SubscriptionId>,
    subscriptions_max: usize,
    changes: watch::Sender<u64>,
    failed: watch::Sender<Option<String>>,
}

impl std::fmt::Debug for SubscriptionRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscriptions({})", self.snapshot().len())
    }
}

impl SubscriptionRegistry {
    /// The subscriptions in `store`, to which no more are added beyond `subscriptions_max`, sealed
    /// with `key` if there is one.
    ///
    /// # Errors
    /// [`OpenError`] when one of them cannot be read.
    pub fn open(
        store: Arc<DataStore>,
        subscriptions_max: usize,
        key: Option<&EncryptionKey>,
    ) -> Result<Self, SubscriptionOpenError> {
        let definitions = DefinitionTree::open(store, TREE, key)?;
        let (mut known, mut next) = (SubscriptionSnapshot::default(), 1);
        for (key, value) in definitions.read_all()? {
            if key == NEXT {
                next = codec::decode_next_id(&key, &value)?;
            } else {
                known.insert(Arc::new(codec::decode_subscription(&key, &value)?));
            }
        }
        let next = known
            .by_id
            .keys()
            .next_back()
            .map_or(next, |last| next.max(last + 1));
        Ok(Self {
            definitions,
            snapshot: RwLock::new(Arc::new(known)),
            next: Mutex::new(next),
            subscriptions_max,
            changes: watch::Sender::new(0),
            failed: watch::Sender::new(None),
        })
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<SubscriptionSnapshot> {
        Arc::clone(&self.snapshot.read())
    }

    /// Counts the changes: each is to be seen in [`Subscriptions::known`] before it is counted
    /// here.
    #[must_use]
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Says why the store has to be opened anew, once a write failed.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Adds what `make` makes of the number that is its own, and returns when it is on the disk.
    /// Blocks.
    ///
    /// # Errors
    /// [`Refused`]; only [`Refused::Unknown`] can have changed something.
    pub fn create(
        &self,
        make: impl FnOnce(SubscriptionId) -> Subscription,
    ) -> Result<SharedSubscription, SubscriptionChangeError> {
        let mut next = self.next.lock();
        let known = self.snapshot();
        if known.len() >= self.subscriptions_max {
            return Err(SubscriptionChangeError::TooMany(known.len()));
        }
        let kept = self.persist(
            &known,
            Subscription {
                id: *next,
                ..make(*next)
            },
        )?;
        *next += 1;
        Ok(kept)
    }

    /// Puts what `change` makes of the subscription `id` in its place, and returns when that is on
    /// the disk. Blocks.
    ///
    /// # Errors
    /// As [`Subscriptions::create`].
    pub fn change(
        &self,
        id: SubscriptionId,
        change: impl FnOnce(&mut Subscription),
    ) -> Result<SharedSubscription, SubscriptionChangeError> {
        let _writing = self.next.lock();
        let known = self.snapshot();
        let mut subscription = Subscription::clone(
            &known
                .get(id)
                .ok_or(SubscriptionChangeError::NotFound)?
                .subscription,
        );
        change(&mut subscription);
        self.persist(&known, Subscription { id, ..subscription })
    }

    /// Removes the subscription `id`, and returns when that is on the disk. Blocks.
    ///
    /// # Errors
    /// As [`Subscriptions::create`].
    pub fn remove(&self, id: SubscriptionId) -> Result<(), SubscriptionChangeError> {
        let next = self.next.lock();
        let mut known = SubscriptionSnapshot::clone(&self.snapshot());
        known
            .by_id
            .remove(&id)
            .ok_or(SubscriptionChangeError::NotFound)?;
        // The next number follows from the highest that is there, which is about to go.
        if id + 1 == *next {
            self.definitions
                .put(NEXT, &codec::encode_next_id(*next))
                .map_err(|error| self.report_write_failure(error))?;
        }
        self.definitions
            .remove(&id.to_string())
            .map_err(|error| self.report_write_failure(error))?;
        self.publish(known);
        Ok(())
    }

    fn persist(
        &self,
        known: &SubscriptionSnapshot,
        subscription: Subscription,
    ) -> Result<SharedSubscription, SubscriptionChangeError> {
        let value = codec::encode_subscription(&subscription);
        if value.len() > DEFINITION_MAX_BYTES {
            return Err(SubscriptionChangeError::TooLarge {
                found: value.len(),
                max: DEFINITION_MAX_BYTES,
            });
        }
        self.definitions
            .put(&subscription.id.to_string(), &value)
            .map_err(|error| self.report_write_failure(error))?;
        let (mut known, subscription) = (known.clone(), Arc::new(subscription));
        known.insert(Arc::clone(&subscription));
        self.publish(known);
        Ok(subscription)
    }

    fn publish(&self, known: SubscriptionSnapshot) {
        *self.snapshot.write() = Arc::new(known);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// What is on the disk is not known any more: only opening the store anew tells.
    fn report_write_failure(&self, error: StoreWriteError) -> SubscriptionChangeError {
        self.failed
            .send_replace(Some(format!("subscriptions cannot be written: {error}")));
        SubscriptionChangeError::OutcomeUnknown(error)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::config::Secret;
    use crate::failpoints::NoFailures;
    use crate::subscription::{FilterExpression, sample_subscription};

    fn open(folder: &Path) -> SubscriptionRegistry {
        let store = DataStore::open(folder, 1 << 20, Arc::new(NoFailures)).expect("opens");
        SubscriptionRegistry::open(store, 3, None).expect("opens")
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
    fn sealed_subscriptions_open_with_their_key_alone_and_the_refusal_names_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = |byte: u8| EncryptionKey::parse(&Secret::new(STANDARD.encode([byte; 32])));
        let open = |key: Option<EncryptionKey>| {
            let store =
                DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
            SubscriptionRegistry::open(store, 3, key.as_ref())
        };
        open(key(7)).expect("new").create(any).expect("room");
        for wrong in [None, key(8)] {
            let error = open(wrong).expect_err("it is sealed");
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| {
                error.source()
            });
            assert!(
                causes
                    .into_iter()
                    .any(|cause| cause.to_string().contains("store.encryption_key")),
                "{error:?}"
            );
        }
        let known = open(key(7)).expect("its own").snapshot();
        assert_eq!(
            known
                .get(1)
                .expect("there")
                .subscription
                .secrets
                .current
                .expose(),
            "hush"
        );
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
