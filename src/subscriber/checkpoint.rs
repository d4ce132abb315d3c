//! The ledger: gathers what actors and jobs want to be kept, and writes it in rounds, so that no
//! delivery waits for the disk.
//!
//! ```text
//! checkpoint   put dead letters, counters, lanes ── remove dead letters ── put jobs ── sync ──┐
//!              ┌──────────────────────────────────────────────────────────────────────────────┘
//!              └─ put read states, dispatcher's cursor ── remove other rows ── sync
//! ```
//!
//! In this order a crash anywhere repeats at most the deliveries after the last checkpoint, and
//! loses nothing. No cursor passes a record before everything pending of it has a row on the disk.
//! No job counts a record as settled on the disk while the record's dead letter is still there: the
//! job would never come back to that dead letter. A job that finds its dead letter gone after a
//! crash counts the record as delivered.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::SubscriberId;
use super::tables::{self, DeliveryTables, ReadStateRow, RowKey, SubscriberCounters, TableTag};
use crate::event::Position;
use crate::journal::StoreWriteError;

/// The ledger is closed: its store failed, or the node is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deliveries cannot be noted, the store is being closed")]
pub struct LedgerClosedError;

/// In which order values are put: what says that a delivery is settled stands before what says that
/// it is not owed any more.
const WRITE_ORDER: [TableTag; 6] = [
    TableTag::DeadLetter,
    TableTag::Counters,
    TableTag::Lane,
    TableTag::Job,
    TableTag::ReadState,
    TableTag::DispatcherCursor,
];

/// What is to be kept. Shared by all that keep something.
#[derive(Debug, Default)]
pub struct CheckpointBuffer {
    pending: Mutex<PendingChanges>,
    /// The change up to which (inclusive) everything is to be written soon.
    flush_requested: watch::Sender<u64>,
    written: watch::Sender<CheckpointProgress>,
}

/// How far the ledger is written.
#[derive(Clone, Copy, Debug, Default)]
struct CheckpointProgress {
    /// The change up to which (inclusive) everything is on the disk.
    through: u64,
    is_closed: bool,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct PendingChanges {
    rows: BTreeMap<RowKey, Option<Vec<u8>>>,
    /// The beginnings of keys that are all to go, but for those that were put since.
    removed_prefixes: Vec<RowKey>,
    /// Changes that were made.
    changes: u64,
}

impl CheckpointBuffer {
    /// Keeps `value`, of any length, under `key`, in place of what was there.
    pub fn put(&self, key: RowKey, value: Vec<u8>) {
        self.record_change(key, Some(value));
    }

    /// Removes what is under `key`.
    pub fn remove(&self, key: RowKey) {
        self.record_change(key, None);
    }

    /// Notes that everything before `cursor` is settled or has a row, for all who are live.
    pub(super) fn set_cursor(&self, cursor: Position) {
        self.put(
            RowKey::from_tag(TableTag::DispatcherCursor),
            tables::read_states::encode_cursor(cursor),
        );
    }

    /// Notes where a subscriber is.
    pub(super) fn set_read_state(&self, subscriber: &SubscriberId, place: ReadStateRow) {
        self.put(
            RowKey::for_subscriber(TableTag::ReadState, subscriber),
            place.encode(),
        );
    }

    /// Keeps what is counted of a subscriber.
    pub(super) fn set_counters(&self, subscriber: &SubscriberId, counters: &SubscriberCounters) {
        self.put(
            RowKey::for_subscriber(TableTag::Counters, subscriber),
            counters.encode(),
        );
    }

    /// Removes all rows about a subscriber that is gone.
    pub(super) fn remove_subscriber(&self, subscriber: &SubscriberId) {
        self.remove_prefixes(
            subscriber,
            &[TableTag::ReadState, TableTag::Lane, TableTag::Counters],
        );
    }

    /// Removes what says what is owed to a subscriber.
    pub(super) fn remove_backlog(&self, subscriber: &SubscriberId) {
        self.remove_prefixes(subscriber, &[TableTag::ReadState, TableTag::Lane]);
    }

    /// Returns when everything that was changed before this call is on the disk.
    ///
    /// # Errors
    /// [`Closed`] when the store fails or the node stops first.
    pub async fn settled(&self) -> Result<(), LedgerClosedError> {
        let changes = self.lock().changes;
        let mut written = self.written.subscribe();
        self.flush_requested
            .send_if_modified(|asked| std::mem::replace(asked, changes.max(*asked)) < changes);
        let is_over =
            |written: &CheckpointProgress| written.through >= changes || written.is_closed;
        let written = written
            .wait_for(is_over)
            .await
            .map_err(|_| LedgerClosedError)?;
        if written.through >= changes {
            Ok(())
        } else {
            Err(LedgerClosedError)
        }
    }

    /// Changes whenever somebody waits for a round.
    pub(super) fn flush_requests(&self) -> watch::Receiver<u64> {
        self.flush_requested.subscribe()
    }

    /// What the next round is to write; `None` if there is nothing.
    pub(super) fn take_checkpoint(&self) -> Option<DeliveryCheckpoint> {
        let mut pending = self.lock();
        if pending.rows.is_empty() && pending.removed_prefixes.is_empty() {
            return None;
        }
        let (rows, forgotten) = (
            std::mem::take(&mut pending.rows),
            std::mem::take(&mut pending.removed_prefixes),
        );
        Some(DeliveryCheckpoint {
            rows,
            removed_prefixes: forgotten,
            through: pending.changes,
        })
    }

    /// Tells those who wait that `round` is on the disk.
    pub(super) fn mark_written(&self, round: &DeliveryCheckpoint) {
        self.written
            .send_modify(|written| written.through = round.through);
    }

    /// Tells those who wait that nothing more is written.
    pub(super) fn close(&self) {
        self.written.send_modify(|written| written.is_closed = true);
    }

    fn remove_prefixes(&self, subscriber: &SubscriberId, tags: &[TableTag]) {
        let mut pending = self.lock();
        for prefix in tags
            .iter()
            .map(|tag| RowKey::for_subscriber(*tag, subscriber))
        {
            pending.rows.retain(|key, _| !key.has_prefix(&prefix));
            pending.removed_prefixes.push(prefix);
        }
        pending.changes += 1;
    }

    fn record_change(&self, key: RowKey, value: Option<Vec<u8>>) {
        let mut pending = self.lock();
        pending.rows.insert(key, value);
        pending.changes += 1;
    }

    fn lock(&self) -> MutexGuard<'_, PendingChanges> {
        self.pending.lock()
    }
}

/// What one round writes.
#[derive(Debug)]
pub(super) struct DeliveryCheckpoint {
    rows: BTreeMap<RowKey, Option<Vec<u8>>>,
    removed_prefixes: Vec<RowKey>,
    through: u64,
}

impl DeliveryCheckpoint {
    /// Writes it, in the order that this module's picture shows, and returns when it is on the
    /// disk. Blocks.
    ///
    /// # Errors
    /// Those of the store, which must be opened anew then.
    pub(super) fn write(&self, rows: &DeliveryTables) -> Result<(), StoreWriteError> {
        let mut is_synced = true;
        for tag in WRITE_ORDER {
            // After a crash nobody would remove the dead letter of a record that its job has
            // settled.
            if tag == TableTag::Job {
                let mut removed = self.removed_keys().filter(|key| is_dead_letter(key));
                removed.try_for_each(|key| rows.remove(key))?;
            }
            let is_cursor = matches!(tag, TableTag::ReadState | TableTag::DispatcherCursor);
            if is_cursor && !is_synced {
                rows.sync()?;
                is_synced = true;
            }
            for (key, value) in self.rows_tagged(tag) {
                rows.put(key, value)?;
                is_synced &= is_cursor;
            }
        }
        let mut removed = self.removed_keys().filter(|key| !is_dead_letter(key));
        removed.try_for_each(|key| rows.remove(key))?;
        for prefix in &self.removed_prefixes {
            rows.remove_prefix(prefix, |key| {
                self.rows.get(key).is_some_and(Option::is_some)
            })?;
        }
        rows.sync()
    }

    fn removed_keys(&self) -> impl Iterator<Item = &RowKey> {
        let removed = self.rows.iter().filter(|(_, value)| value.is_none());
        removed.map(|(key, _)| key)
    }

    fn rows_tagged(&self, tag: TableTag) -> impl Iterator<Item = (&RowKey, &Vec<u8>)> {
        let rows = self
            .rows
            .range(RowKey::from_tag(tag)..)
            .take_while(move |(key, _)| key.has_prefix(&RowKey::from_tag(tag)));
        rows.filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }
}

fn is_dead_letter(key: &RowKey) -> bool {
    key.has_prefix(&RowKey::from_tag(TableTag::DeadLetter))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::failpoints::{Failpoint, FailureInjector, NoFailures};
    use crate::journal::DataStore;

    fn key(tag: TableTag) -> RowKey {
        RowKey::for_subscriber(tag, &SubscriberId::Webhook(4))
    }

    /// Fails every sync after so many.
    struct SyncFailpoint(AtomicU32);

    impl FailureInjector for SyncFailpoint {
        fn evaluate(&self, point: Failpoint<'_>) -> io::Result<()> {
            let left = |left: u32| left.checked_sub(1);
            let is_over = matches!(point, Failpoint::Flush)
                && self
                    .0
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
                    .is_err();
            if is_over {
                Err(io::Error::other("the disk is gone"))
            } else {
                Ok(())
            }
        }
    }

    /// A ledger with something of everything.
    fn full() -> CheckpointBuffer {
        let ledger = CheckpointBuffer::default();
        ledger.set_cursor(Position::new(9));
        ledger.set_read_state(&SubscriberId::Webhook(4), ReadStateRow::Live);
        for tag in [
            TableTag::DeadLetter,
            TableTag::Counters,
            TableTag::Lane,
            TableTag::Job,
        ] {
            ledger.put(key(tag), vec![1]);
        }
        ledger.remove(key(TableTag::Lane).number(7));
        ledger
    }

    #[test]
    fn no_cursor_is_put_and_nothing_removed_before_what_is_owed_is_on_the_disk() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
        let rows = DeliveryTables::open(store).expect("opens");
        rows.put(&key(TableTag::Lane).number(7), &[2])
            .expect("puts");
        rows.sync().expect("syncs");
        drop(rows);
        let faults = Arc::new(SyncFailpoint(AtomicU32::new(u32::MAX)));
        let store =
            DataStore::open(folder.path(), 1 << 20, Arc::clone(&faults) as _).expect("opens");
        let rows = DeliveryTables::open(store).expect("opens");
        faults.0.store(0, Ordering::SeqCst);
        let round = full().take_checkpoint().expect("something");
        round.write(&rows).expect_err("the disk is gone");
        assert!(
            rows.get(&key(TableTag::DeadLetter))
                .expect("reads")
                .is_some()
        );
        assert_eq!(rows.cursor().expect("reads"), None);
        assert_eq!(rows.read_states().expect("reads"), []);
        assert!(
            rows.get(&key(TableTag::Lane).number(7))
                .expect("reads")
                .is_some()
        );
        faults.0.store(u32::MAX, Ordering::SeqCst);
        round.write(&rows).expect("the disk is back");
        assert_eq!(rows.cursor().expect("reads"), Some(Position::new(9)));
        assert!(
            rows.get(&key(TableTag::Lane).number(7))
                .expect("reads")
                .is_none()
        );
    }

    /// A kill between the two had left the dead letter for ever: its job had settled the record and
    /// never came back to it.
    #[test]
    fn no_job_has_settled_a_record_on_the_disk_while_the_dead_letter_is_still_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let faults = Arc::new(SyncFailpoint(AtomicU32::new(u32::MAX)));
        let store =
            DataStore::open(folder.path(), 1 << 20, Arc::clone(&faults) as _).expect("opens");
        let rows = DeliveryTables::open(store).expect("opens");
        let (letter, job) = (key(TableTag::DeadLetter), key(TableTag::Job));
        rows.put(&letter, &[1]).expect("puts");

        let buffer = CheckpointBuffer::default();
        buffer.remove(letter.clone());
        buffer.put(job.clone(), vec![2]);
        buffer.set_cursor(Position::new(9));
        let checkpoint = buffer.take_checkpoint().expect("something");
        faults.0.store(0, Ordering::SeqCst);
        checkpoint.write(&rows).expect_err("the disk is gone");

        assert_eq!(rows.get(&job).expect("reads"), Some(vec![2]));
        assert_eq!(rows.get(&letter).expect("reads"), None);
    }

    #[test]
    fn what_is_put_after_everything_about_a_subscriber_was_forgotten_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rows = DeliveryTables::open(
            DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens"),
        )
        .expect("opens");
        let ledger = full();
        ledger
            .take_checkpoint()
            .expect("something")
            .write(&rows)
            .expect("writes");
        ledger.put(key(TableTag::Lane).number(8), vec![3]);
        ledger.remove_subscriber(&SubscriberId::Webhook(4));
        ledger.set_read_state(
            &SubscriberId::Webhook(4),
            ReadStateRow::Behind(Position::new(5)),
        );
        ledger
            .take_checkpoint()
            .expect("something")
            .write(&rows)
            .expect("writes");
        assert_eq!(
            rows.scan(&RowKey::from_tag(TableTag::Lane), None, 9)
                .expect("reads"),
            []
        );
        assert_eq!(
            rows.read_states().expect("reads"),
            [(
                SubscriberId::Webhook(4),
                ReadStateRow::Behind(Position::new(5))
            )]
        );
        assert!(
            rows.get(&key(TableTag::DeadLetter))
                .expect("reads")
                .is_some()
        );
        assert!(ledger.take_checkpoint().is_none());
    }

    #[tokio::test]
    async fn who_waits_is_told_when_a_round_with_it_was_written_or_never_will_be() {
        let ledger = full();
        let mut asked = ledger.flush_requests();
        let waiting = async {
            tokio::join!(ledger.settled(), async {
                asked.changed().await.expect("somebody asks");
                let round = ledger.take_checkpoint().expect("something");
                ledger.mark_written(&round);
            })
        };
        assert_eq!(waiting.await.0, Ok(()));
        assert_eq!(ledger.settled().await, Ok(()));
        ledger.put(key(TableTag::Job), vec![2]);
        ledger.close();
        assert_eq!(ledger.settled().await, Err(LedgerClosedError));
    }
}
