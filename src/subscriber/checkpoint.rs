//! Checkpoints: changed rows are collected in memory and written together, so that no delivery waits
//! for the disk.
//!
//! ```text
//! checkpoint   removals of prefixes ── puts and removals of rows     all of them or none
//! ```
//!
//! A checkpoint is one write. So a crash repeats at most the deliveries since the last checkpoint,
//! and loses none: no cursor passes a record before every pending delivery of it has a row on the
//! disk.
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
use crate::journal::TableChange;
use crate::table_store::TableWriteError;

/// The buffer was closed: its store failed, or the node is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("delivery state can no longer be written; the store is closing")]
pub(super) struct CheckpointsClosedError;

/// Changed rows that wait for the next checkpoint. Shared by the stage, the dead letters and the
/// jobs.
#[derive(Debug, Default)]
pub(crate) struct CheckpointBuffer {
    pending: Mutex<DeliveryCheckpoint>,
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
        let last_change = self.lock().through;

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
        let next = DeliveryCheckpoint {
            through: pending.through,
            ..DeliveryCheckpoint::default()
        };
        Some(std::mem::replace(&mut *pending, next))
    }

    /// Wakes the callers of [`Self::flush`] whose changes are on the disk: those up to the number
    /// `through`, which [`DeliveryCheckpoint::write`] returned.
    pub(super) fn mark_written(&self, through: u64) {
        self.written
            .send_modify(|written| written.through = through);
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
        pending.through += 1;
    }

    /// Puts `value` under `key`, or removes the row if there is none.
    pub(super) fn record_change(&self, key: RowKey, value: Option<Vec<u8>>) {
        let mut pending = self.lock();
        pending.rows.insert(key, value);
        pending.through += 1;
    }

    fn lock(&self) -> MutexGuard<'_, DeliveryCheckpoint> {
        self.pending.lock()
    }
}

/// Changes that are written together.
#[derive(Debug, Default)]
pub(super) struct DeliveryCheckpoint {
    /// New value of each changed row; `None` for a removal.
    rows: BTreeMap<RowKey, Option<Vec<u8>>>,
    /// Prefixes of keys to remove, except those of rows that were put afterwards.
    removed_prefixes: Vec<RowKey>,
    /// Number of the last change, counted from the start of the process.
    through: u64,
}

impl DeliveryCheckpoint {
    /// Writes the changes, all of them or none, and returns the number of the last one. Blocks.
    ///
    /// # Errors
    /// [`TableWriteError`] when the store fails; the store must then be opened again.
    pub(super) fn write(self, tables: &DeliveryTables) -> Result<u64, TableWriteError> {
        // Prefixes first: a row that was put after its prefix was removed stays.
        let prefixes = self.removed_prefixes.into_iter().map(|prefix| {
            let prefix = prefix.into_bytes();
            TableChange::RemovePrefix { prefix }
        });
        let rows = self.rows.into_iter().map(|(key, value)| {
            let key = key.into_bytes();
            match value {
                Some(value) => TableChange::Put { key, value },
                None => TableChange::Remove { key },
            }
        });
        tables.write(prefixes.chain(rows).collect())?;
        Ok(self.through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table_store::{JournaledTableId, open_test_tables};

    fn key(tag: TableTag) -> RowKey {
        RowKey::for_subscriber(tag, &SubscriberId::Webhook(4))
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
    fn a_row_that_is_put_after_its_subscriber_was_removed_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let table = open_test_tables(folder.path()).table(JournaledTableId::Deliveries);
        let tables = DeliveryTables::new(table);
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
                buffer.mark_written(checkpoint.through);
            })
        };
        assert_eq!(waiting.await.0, Ok(()));
        assert_eq!(buffer.flush().await, Ok(()));
        buffer.put(key(TableTag::Job), vec![2]);
        buffer.close();
        assert_eq!(buffer.flush().await, Err(CheckpointsClosedError));
    }
}
