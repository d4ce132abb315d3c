//! Checkpoints: changed rows are collected in memory and written together, so that no delivery waits
//! for the disk.
//!
//! ```text
//! checkpoint   put dead letters, counters, lanes ── remove dead letters ── put jobs ── sync ──┐
//!              ┌──────────────────────────────────────────────────────────────────────────────┘
//!              └─ put read states, dispatcher's cursor ── remove other rows ── sync
//! ```
//!
//! With this order, a crash at any point repeats at most the deliveries since the last checkpoint,
//! and loses none: no cursor passes a record before every pending delivery of it has a row on the
//! disk. No job counts a record as settled on the disk while the record's dead letter is still
//! there, or the job would never come back to that dead letter.
//!
//! A job that finds its dead letter gone after a crash counts the record as delivered if its row on
//! the disk holds the position as unsettled. A position that the row had not reached is not counted
//! at all, so the counts of a completed job may be short of the number expected at its start. The
//! difference is not counted as delivered: a dead letter that was discarded, or that another job
//! settled, before the job reached it is missing in the same way.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::subscriber_id::SubscriberId;
use super::tables::{
    DeliveryTables, ReadState, RowKey, SubscriberCounters, TableTag, encode_cursor,
};
use crate::event::Position;
use crate::journal::StoreWriteError;

/// The buffer was closed: its store failed, or the node is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("delivery state can no longer be written; the store is closing")]
pub(super) struct CheckpointsClosedError;

/// Order in which tables are written. A row that records the outcome of a delivery precedes the
/// rows that declare the delivery settled.
const WRITE_ORDER: [TableTag; 6] = [
    TableTag::DeadLetter,
    TableTag::Counters,
    TableTag::Lane,
    TableTag::Job,
    TableTag::ReadState,
    TableTag::DispatcherCursor,
];

/// Changed rows that wait for the next checkpoint. Shared by the stage, the dead letters and the
/// jobs.
#[derive(Debug, Default)]
pub(crate) struct CheckpointBuffer {
    pending: Mutex<PendingChanges>,
    /// Number of the last change that a caller of [`Self::flush`] waits for.
    flush_requested: watch::Sender<u64>,
    written: watch::Sender<CheckpointProgress>,
}

#[derive(Clone, Copy, Debug, Default)]
struct CheckpointProgress {
    /// Number of the last change that is on the disk, with all changes before it.
    through: u64,
    is_closed: bool,
}

/// Changes that no checkpoint has taken yet.
#[derive(Debug, Default)]
struct PendingChanges {
    /// New value of each changed row; `None` for a removal.
    rows: BTreeMap<RowKey, Option<Vec<u8>>>,
    /// Prefixes of keys to remove, except those of rows that were put afterwards.
    removed_prefixes: Vec<RowKey>,
    /// Number of the last change, counted from the start of the process.
    last_change: u64,
}

impl CheckpointBuffer {
    /// Puts `value`, of any length, under `key` and replaces the previous value.
    pub(super) fn put(&self, key: RowKey, value: Vec<u8>) {
        self.record_change(key, Some(value));
    }

    /// Removes the row under `key`.
    pub(super) fn remove(&self, key: RowKey) {
        self.record_change(key, None);
    }

    /// Sets the dispatcher's cursor: every record before it is settled or has a row, for all live
    /// subscribers.
    pub(super) fn set_cursor(&self, cursor: Position) {
        self.put(
            RowKey::from_tag(TableTag::DispatcherCursor),
            encode_cursor(cursor),
        );
    }

    pub(super) fn set_read_state(&self, subscriber: &SubscriberId, state: ReadState) {
        self.put(
            RowKey::for_subscriber(TableTag::ReadState, subscriber),
            state.encode(),
        );
    }

    pub(super) fn set_counters(&self, subscriber: &SubscriberId, counters: &SubscriberCounters) {
        self.put(
            RowKey::for_subscriber(TableTag::Counters, subscriber),
            counters.encode(),
        );
    }

    /// Removes the stage's rows of a deleted subscriber. Dead letters and jobs remove their own.
    pub(super) fn remove_subscriber(&self, subscriber: &SubscriberId) {
        self.remove_prefixes(
            subscriber,
            &[TableTag::ReadState, TableTag::Lane, TableTag::Counters],
        );
    }

    /// Removes the rows that hold the backlog of a subscriber; its counters stay.
    pub(super) fn remove_backlog(&self, subscriber: &SubscriberId) {
        self.remove_prefixes(subscriber, &[TableTag::ReadState, TableTag::Lane]);
    }

    /// Returns as soon as all changes made before this call are on the disk.
    ///
    /// # Errors
    /// [`CheckpointsClosedError`] when the store fails or the node stops first.
    pub(super) async fn flush(&self) -> Result<(), CheckpointsClosedError> {
        let last_change = self.lock().last_change;

        // Subscribe before the request, so that the answer cannot come unseen.
        let mut written = self.written.subscribe();
        self.flush_requested.send_if_modified(|requested| {
            std::mem::replace(requested, last_change.max(*requested)) < last_change
        });

        let is_over =
            |written: &CheckpointProgress| written.through >= last_change || written.is_closed;
        let written = written
            .wait_for(is_over)
            .await
            .map_err(|_| CheckpointsClosedError)?;
        if written.through >= last_change {
            Ok(())
        } else {
            Err(CheckpointsClosedError)
        }
    }

    /// Watches for calls of [`Self::flush`] that need a checkpoint.
    pub(super) fn flush_requests(&self) -> watch::Receiver<u64> {
        self.flush_requested.subscribe()
    }

    /// Takes all pending changes as the next checkpoint; `None` if nothing has changed.
    pub(super) fn take_checkpoint(&self) -> Option<DeliveryCheckpoint> {
        let mut pending = self.lock();
        if pending.rows.is_empty() && pending.removed_prefixes.is_empty() {
            return None;
        }
        Some(DeliveryCheckpoint {
            rows: std::mem::take(&mut pending.rows),
            removed_prefixes: std::mem::take(&mut pending.removed_prefixes),
            through: pending.last_change,
        })
    }

    /// Wakes the callers of [`Self::flush`] whose changes are on the disk with `checkpoint`.
    pub(super) fn mark_written(&self, checkpoint: &DeliveryCheckpoint) {
        self.written
            .send_modify(|written| written.through = checkpoint.through);
    }

    /// Fails all present and future calls of [`Self::flush`] that still need a checkpoint.
    pub(super) fn close(&self) {
        self.written.send_modify(|written| written.is_closed = true);
    }

    fn remove_prefixes(&self, subscriber: &SubscriberId, tags: &[TableTag]) {
        let mut pending = self.lock();
        for tag in tags {
            let prefix = RowKey::for_subscriber(*tag, subscriber);
            pending.rows.retain(|key, _| !key.has_prefix(&prefix));
            pending.removed_prefixes.push(prefix);
        }
        pending.last_change += 1;
    }

    fn record_change(&self, key: RowKey, value: Option<Vec<u8>>) {
        let mut pending = self.lock();
        pending.rows.insert(key, value);
        pending.last_change += 1;
    }

    fn lock(&self) -> MutexGuard<'_, PendingChanges> {
        self.pending.lock()
    }
}

/// Changes that are written together.
#[derive(Debug)]
pub(super) struct DeliveryCheckpoint {
    rows: BTreeMap<RowKey, Option<Vec<u8>>>,
    removed_prefixes: Vec<RowKey>,
    /// Number of the last change that this checkpoint contains.
    through: u64,
}

impl DeliveryCheckpoint {
    /// Writes the changes in the order of this file's picture and syncs them. Blocks.
    ///
    /// # Errors
    /// [`StoreWriteError`] when the store fails; the store must then be opened again.
    pub(super) fn write(&self, tables: &DeliveryTables) -> Result<(), StoreWriteError> {
        let mut is_synced = true;
        for tag in WRITE_ORDER {
            // Dead letters go before the jobs that have settled their records: after a crash
            // between the two, nothing else would remove them.
            if tag == TableTag::Job {
                let mut removed = self.removed_keys().filter(|key| is_dead_letter(key));
                removed.try_for_each(|key| tables.remove(key))?;
            }

            // A cursor declares earlier deliveries settled, so their rows must be on the disk first.
            let is_cursor = matches!(tag, TableTag::ReadState | TableTag::DispatcherCursor);
            if is_cursor && !is_synced {
                tables.sync()?;
                is_synced = true;
            }
            for (key, value) in self.put_rows(tag) {
                tables.put(key, value)?;
                is_synced &= is_cursor;
            }
        }

        // Other removals come last: until the cursors are written, a crash may need these rows.
        let mut removed = self.removed_keys().filter(|key| !is_dead_letter(key));
        removed.try_for_each(|key| tables.remove(key))?;
        for prefix in &self.removed_prefixes {
            tables.remove_prefix(prefix, |key| {
                self.rows.get(key).is_some_and(Option::is_some)
            })?;
        }

        tables.sync()
    }

    fn removed_keys(&self) -> impl Iterator<Item = &RowKey> {
        let removed = self.rows.iter().filter(|(_, value)| value.is_none());
        removed.map(|(key, _)| key)
    }

    fn put_rows(&self, tag: TableTag) -> impl Iterator<Item = (&RowKey, &Vec<u8>)> {
        let prefix = RowKey::from_tag(tag);
        let rows = self
            .rows
            .range(prefix.clone()..)
            .take_while(move |(key, _)| key.has_prefix(&prefix));
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

    /// Fails every sync after the given number of syncs.
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

    /// Buffer with a change in each table.
    fn filled_buffer() -> CheckpointBuffer {
        let buffer = CheckpointBuffer::default();
        buffer.set_cursor(Position::new(9));
        buffer.set_read_state(&SubscriberId::Webhook(4), ReadState::Live);
        for tag in [
            TableTag::DeadLetter,
            TableTag::Counters,
            TableTag::Lane,
            TableTag::Job,
        ] {
            buffer.put(key(tag), vec![1]);
        }
        buffer.remove(key(TableTag::Lane).with_number(7));
        buffer
    }

    #[test]
    fn no_cursor_is_put_and_no_row_removed_before_pending_deliveries_are_on_the_disk() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens");
        let tables = DeliveryTables::open(store).expect("opens");
        tables
            .put(&key(TableTag::Lane).with_number(7), &[2])
            .expect("puts");
        tables.sync().expect("syncs");
        drop(tables);
        let failpoint = Arc::new(SyncFailpoint(AtomicU32::new(u32::MAX)));
        let store =
            DataStore::open(folder.path(), 1 << 20, Arc::clone(&failpoint) as _).expect("opens");
        let tables = DeliveryTables::open(store).expect("opens");
        failpoint.0.store(0, Ordering::SeqCst);
        let checkpoint = filled_buffer().take_checkpoint().expect("something");
        checkpoint.write(&tables).expect_err("the disk is gone");
        assert!(
            tables
                .get(&key(TableTag::DeadLetter))
                .expect("reads")
                .is_some()
        );
        assert_eq!(tables.cursor().expect("reads"), None);
        assert_eq!(tables.read_states().expect("reads"), []);
        assert!(
            tables
                .get(&key(TableTag::Lane).with_number(7))
                .expect("reads")
                .is_some()
        );
        failpoint.0.store(u32::MAX, Ordering::SeqCst);
        checkpoint.write(&tables).expect("the disk is back");
        assert_eq!(tables.cursor().expect("reads"), Some(Position::new(9)));
        assert!(
            tables
                .get(&key(TableTag::Lane).with_number(7))
                .expect("reads")
                .is_none()
        );
    }

    /// A kill between the two writes had left the dead letter for ever: its job had settled the record
    /// and never came back to it.
    #[test]
    fn no_job_has_settled_a_record_on_the_disk_while_the_dead_letter_is_still_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let failpoint = Arc::new(SyncFailpoint(AtomicU32::new(u32::MAX)));
        let store =
            DataStore::open(folder.path(), 1 << 20, Arc::clone(&failpoint) as _).expect("opens");
        let tables = DeliveryTables::open(store).expect("opens");
        let (dead_letter, job) = (key(TableTag::DeadLetter), key(TableTag::Job));
        tables.put(&dead_letter, &[1]).expect("puts");

        let buffer = CheckpointBuffer::default();
        buffer.remove(dead_letter.clone());
        buffer.put(job.clone(), vec![2]);
        buffer.set_cursor(Position::new(9));
        let checkpoint = buffer.take_checkpoint().expect("something");
        failpoint.0.store(0, Ordering::SeqCst);
        checkpoint.write(&tables).expect_err("the disk is gone");

        assert_eq!(tables.get(&job).expect("reads"), Some(vec![2]));
        assert_eq!(tables.get(&dead_letter).expect("reads"), None);
    }

    #[test]
    fn a_row_that_is_put_after_its_subscriber_was_removed_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tables = DeliveryTables::open(
            DataStore::open(folder.path(), 1 << 20, Arc::new(NoFailures)).expect("opens"),
        )
        .expect("opens");
        let buffer = filled_buffer();
        buffer
            .take_checkpoint()
            .expect("something")
            .write(&tables)
            .expect("writes");
        buffer.put(key(TableTag::Lane).with_number(8), vec![3]);
        buffer.remove_subscriber(&SubscriberId::Webhook(4));
        buffer.set_read_state(
            &SubscriberId::Webhook(4),
            ReadState::Behind(Position::new(5)),
        );
        buffer
            .take_checkpoint()
            .expect("something")
            .write(&tables)
            .expect("writes");
        assert_eq!(
            tables
                .scan(&RowKey::from_tag(TableTag::Lane), None, 9)
                .expect("reads"),
            []
        );
        assert_eq!(
            tables.read_states().expect("reads"),
            [(
                SubscriberId::Webhook(4),
                ReadState::Behind(Position::new(5))
            )]
        );
        assert!(
            tables
                .get(&key(TableTag::DeadLetter))
                .expect("reads")
                .is_some()
        );
        assert!(buffer.take_checkpoint().is_none());
    }

    #[tokio::test]
    async fn a_flush_ends_with_the_checkpoint_that_holds_its_changes_or_with_the_close() {
        let buffer = filled_buffer();
        let mut requests = buffer.flush_requests();
        let waiting = async {
            tokio::join!(buffer.flush(), async {
                requests.changed().await.expect("a flush is requested");
                let checkpoint = buffer.take_checkpoint().expect("something");
                buffer.mark_written(&checkpoint);
            })
        };
        assert_eq!(waiting.await.0, Ok(()));
        assert_eq!(buffer.flush().await, Ok(()));
        buffer.put(key(TableTag::Job), vec![2]);
        buffer.close();
        assert_eq!(buffer.flush().await, Err(CheckpointsClosedError));
    }
}
