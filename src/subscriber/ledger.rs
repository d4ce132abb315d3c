//! The ledger: gathers what actors and jobs want to be kept, and writes it in rounds, so that no delivery waits for the disk.
//!
//! ```text
//! round   dead letters ── lanes, jobs ── sync ── places ── dispatcher's cursor ── removals ── sync
//! ```
//!
//! In this order a crash anywhere repeats at most what came after the last round, and loses nothing: no cursor passes a record
//! before what is still owed of it has a row on the disk.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::SubscriberId;
use super::rows::{self, Counters, Key, Place, Rows, Tag};
use crate::event::Position;
use crate::journal::WriteError;

/// The ledger is closed: its store failed, or the node is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deliveries cannot be noted, the store is being closed")]
pub struct Closed;

/// In which order values are put: what says that a delivery is settled stands before what says that it is not owed any more.
const ORDER: [Tag; 6] = [Tag::DeadLetter, Tag::Counters, Tag::Lane, Tag::Job, Tag::Place, Tag::Dispatcher];

/// What is to be kept. Shared by all that keep something.
#[derive(Debug, Default)]
pub struct Ledger {
    pending: Mutex<Pending>,
    /// The change up to which (inclusive) everything is to be written soon.
    asked: watch::Sender<u64>,
    written: watch::Sender<Written>,
}

/// How far the ledger is written.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    /// The change up to which (inclusive) everything is on the disk.
    through: u64,
    is_closed: bool,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct Pending {
    rows: BTreeMap<Key, Option<Vec<u8>>>,
    /// The beginnings of keys that are all to go, but for those that were put since.
    forgotten: Vec<Key>,
    /// Changes that were made.
    changes: u64,
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

    /// Notes that everything before `cursor` is settled or has a row, for all who are live.
    pub(super) fn set_cursor(&self, cursor: Position) {
        self.put(Key::of(Tag::Dispatcher), rows::places::encode_cursor(cursor));
    }

    /// Notes where a subscriber is.
    pub(super) fn set_place(&self, subscriber: &SubscriberId, place: Place) {
        self.put(Key::about(Tag::Place, subscriber), place.encode());
    }

    /// Keeps what is counted of a subscriber.
    pub(super) fn set_counters(&self, subscriber: &SubscriberId, counters: &Counters) {
        self.put(Key::about(Tag::Counters, subscriber), counters.encode());
    }

    /// Removes all rows about a subscriber that is gone.
    pub(super) fn forget(&self, subscriber: &SubscriberId) {
        self.forget_tags(subscriber, &[Tag::Place, Tag::Lane, Tag::Counters]);
    }

    /// Removes what says what is owed to a subscriber.
    pub(super) fn forget_owed(&self, subscriber: &SubscriberId) {
        self.forget_tags(subscriber, &[Tag::Place, Tag::Lane]);
    }

    /// Returns when everything that was changed before this call is on the disk.
    ///
    /// # Errors
    /// [`Closed`] when the store fails or the node stops first.
    pub async fn settled(&self) -> Result<(), Closed> {
        let changes = self.lock().changes;
        let mut written = self.written.subscribe();
        self.asked.send_if_modified(|asked| std::mem::replace(asked, changes.max(*asked)) < changes);
        let is_over = |written: &Written| written.through >= changes || written.is_closed;
        let written = written.wait_for(is_over).await.map_err(|_| Closed)?;
        if written.through >= changes { Ok(()) } else { Err(Closed) }
    }

    /// Changes whenever somebody waits for a round.
    pub(super) fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// What the next round is to write; `None` if there is nothing.
    pub(super) fn take(&self) -> Option<Round> {
        let mut pending = self.lock();
        if pending.rows.is_empty() && pending.forgotten.is_empty() {
            return None;
        }
        let (rows, forgotten) = (std::mem::take(&mut pending.rows), std::mem::take(&mut pending.forgotten));
        Some(Round { rows, forgotten, through: pending.changes })
    }

    /// Tells those who wait that `round` is on the disk.
    pub(super) fn wrote(&self, round: &Round) {
        self.written.send_modify(|written| written.through = round.through);
    }

    /// Tells those who wait that nothing more is written.
    pub(super) fn close(&self) {
        self.written.send_modify(|written| written.is_closed = true);
    }

    fn forget_tags(&self, subscriber: &SubscriberId, tags: &[Tag]) {
        let mut pending = self.lock();
        for prefix in tags.iter().map(|tag| Key::about(*tag, subscriber)) {
            pending.rows.retain(|key, _| !key.begins_with(&prefix));
            pending.forgotten.push(prefix);
        }
        pending.changes += 1;
    }

    fn change(&self, key: Key, value: Option<Vec<u8>>) {
        let mut pending = self.lock();
        pending.rows.insert(key, value);
        pending.changes += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock()
    }
}

/// What one round writes.
#[derive(Debug)]
pub(super) struct Round {
    rows: BTreeMap<Key, Option<Vec<u8>>>,
    forgotten: Vec<Key>,
    through: u64,
}

impl Round {
    /// Writes it, in the order that this module's picture shows, and returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// Those of the store, which must be opened anew then.
    pub(super) fn write(&self, rows: &Rows) -> Result<(), WriteError> {
        let mut is_synced = true;
        for tag in ORDER {
            let is_cursor = matches!(tag, Tag::Place | Tag::Dispatcher);
            if is_cursor && !is_synced {
                rows.sync()?;
                is_synced = true;
            }
            for (key, value) in self.tagged(tag) {
                rows.put(key, value)?;
                is_synced &= is_cursor;
            }
        }
        let removed = self.rows.iter().filter(|(_, value)| value.is_none());
        removed.map(|(key, _)| key).try_for_each(|key| rows.remove(key))?;
        for prefix in &self.forgotten {
            rows.remove_all(prefix, |key| self.rows.get(key).is_some_and(Option::is_some))?;
        }
        rows.sync()
    }

    fn tagged(&self, tag: Tag) -> impl Iterator<Item = (&Key, &Vec<u8>)> {
        let rows = self.rows.range(Key::of(tag)..).take_while(move |(key, _)| key.begins_with(&Key::of(tag)));
        rows.filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::faults::{Faults, NoFaults, Point};
    use crate::journal::Store;

    fn key(tag: Tag) -> Key {
        Key::about(tag, &SubscriberId::Webhook(4))
    }

    /// Fails every sync after so many.
    struct Breaks(AtomicU32);

    impl Faults for Breaks {
        fn at(&self, point: Point<'_>) -> io::Result<()> {
            let left = |left: u32| left.checked_sub(1);
            let is_over =
                matches!(point, Point::Flush) && self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_err();
            if is_over { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
        }
    }

    /// A ledger with something of everything.
    fn full() -> Ledger {
        let ledger = Ledger::default();
        ledger.set_cursor(Position::new(9));
        ledger.set_place(&SubscriberId::Webhook(4), Place::Live);
        for tag in [Tag::DeadLetter, Tag::Counters, Tag::Lane, Tag::Job] {
            ledger.put(key(tag), vec![1]);
        }
        ledger.remove(key(Tag::Lane).number(7));
        ledger
    }

    #[test]
    fn no_cursor_is_put_and_nothing_removed_before_what_is_owed_is_on_the_disk() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path(), 1 << 20, Arc::new(NoFaults)).expect("opens");
        let rows = Rows::open(store).expect("opens");
        rows.put(&key(Tag::Lane).number(7), &[2]).expect("puts");
        rows.sync().expect("syncs");
        drop(rows);
        let faults = Arc::new(Breaks(AtomicU32::new(u32::MAX)));
        let store = Store::open(folder.path(), 1 << 20, Arc::clone(&faults) as _).expect("opens");
        let rows = Rows::open(store).expect("opens");
        faults.0.store(0, Ordering::SeqCst);
        let round = full().take().expect("something");
        round.write(&rows).expect_err("the disk is gone");
        assert!(rows.read(&key(Tag::DeadLetter)).expect("reads").is_some());
        assert_eq!(rows.cursor().expect("reads"), None);
        assert_eq!(rows.places().expect("reads"), []);
        assert!(rows.read(&key(Tag::Lane).number(7)).expect("reads").is_some());
        faults.0.store(u32::MAX, Ordering::SeqCst);
        round.write(&rows).expect("the disk is back");
        assert_eq!(rows.cursor().expect("reads"), Some(Position::new(9)));
        assert!(rows.read(&key(Tag::Lane).number(7)).expect("reads").is_none());
    }

    #[test]
    fn what_is_put_after_everything_about_a_subscriber_was_forgotten_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rows = Rows::open(Store::open(folder.path(), 1 << 20, Arc::new(NoFaults)).expect("opens")).expect("opens");
        let ledger = full();
        ledger.take().expect("something").write(&rows).expect("writes");
        ledger.put(key(Tag::Lane).number(8), vec![3]);
        ledger.forget(&SubscriberId::Webhook(4));
        ledger.set_place(&SubscriberId::Webhook(4), Place::Behind(Position::new(5)));
        ledger.take().expect("something").write(&rows).expect("writes");
        assert_eq!(rows.scan(&Key::of(Tag::Lane), None, 9).expect("reads"), []);
        assert_eq!(rows.places().expect("reads"), [(SubscriberId::Webhook(4), Place::Behind(Position::new(5)))]);
        assert!(rows.read(&key(Tag::DeadLetter)).expect("reads").is_some());
        assert!(ledger.take().is_none());
    }

    #[tokio::test]
    async fn who_waits_is_told_when_a_round_with_it_was_written_or_never_will_be() {
        let ledger = full();
        let mut asked = ledger.asked();
        let waiting = async {
            tokio::join!(ledger.settled(), async {
                asked.changed().await.expect("somebody asks");
                let round = ledger.take().expect("something");
                ledger.wrote(&round);
            })
        };
        assert_eq!(waiting.await.0, Ok(()));
        assert_eq!(ledger.settled().await, Ok(()));
        ledger.put(key(Tag::Job), vec![2]);
        ledger.close();
        assert_eq!(ledger.settled().await, Err(Closed));
    }
}
