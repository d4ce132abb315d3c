//! Tables whose changes go through the journal, and the order in which durable changes are applied.
//!
//! ```text
//!  writer ──append──> journal ──settle, in order──> settled changes ──> the first writer that wakes
//!    └─────────────── waits for settle ────────────────────────────────> applies all of them, in order
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::applied_rows::AppliedRows;
use super::error::{TableStoreError, TableWriteError};
use crate::clock::{Clock, SystemClock};
use crate::derived::{DerivedRow, DerivedStore, DerivedStoreError};
use crate::journal::{
    ContentCipher, Journal, JournalClosed, TableChange, TableChanges, TableSubmission,
};

/// Shortest time between two writes of the cursor row. Each needs a sync, and a crash repeats only
/// the changes of this time.
const CURSOR_INTERVAL: Duration = Duration::from_secs(5);

/// Number of a table. The values are in the journal and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum JournaledTableId {
    /// Definitions of the webhook subscriptions.
    Subscriptions = 1,
    /// Definitions of the Instagram accounts.
    Accounts = 2,
    /// Cursors, lanes, dead letters, jobs and counters of the delivery stage.
    Deliveries = 3,
    /// Finished steps of pending enrichments.
    Enrichment = 4,
    /// Erasures of entities, with their states.
    Erasures = 5,
    /// Records that are kept of removed segments.
    KeptRecords = 6,
    /// Definitions of the named tokens.
    Tokens = 7,
    /// Entries of the audit log.
    Audit = 8,
    /// Places up to which removals of content are finished.
    FinishedCuts = 9,
}

/// All tables of one opening of the store.
pub struct TableStore {
    journal: Arc<dyn Journal>,
    /// Changes that are durable and not yet applied, in the order of their numbers.
    settled: Arc<Mutex<VecDeque<SettledChanges>>>,
    /// Locked for writing while changes are applied, so that a reader sees all changes of a write
    /// or none.
    rows: RwLock<AppliedRows>,
    progress: Mutex<ApplyProgress>,
    clock: SystemClock,
    /// Keys that definitions are encrypted with.
    cipher: ContentCipher,
}

/// Number of a durable group of changes, and the group.
type SettledChanges = (u64, Arc<TableChanges>);

/// State of the applying, locked by the thread that applies.
struct ApplyProgress {
    /// Number of the next change to apply.
    next: u64,
    /// Value of the cursor row.
    cursor: u64,
    /// Time at which the cursor row was written.
    cursor_written_at: Duration,
    /// `true` after an error: a change that was not applied must not be overtaken.
    is_halted: bool,
}

impl TableStore {
    /// Opens the tables and applies the changes that are not in `derived` yet.
    ///
    /// # Errors
    /// [`TableStoreError`] when the changes cannot be read or applied.
    pub fn open(
        journal: Arc<dyn Journal>,
        derived: Arc<DerivedStore>,
    ) -> Result<Arc<Self>, TableStoreError> {
        let rows = AppliedRows::open(&derived)?;
        let cursor = rows.load_cursor()?;

        // The last applied change is visited again, to see that the journal still has it, unless it
        // was removed from the beginning.
        let last_applied = cursor - 1;
        let first_kept = journal.start().change;
        let (mut found, mut applied) = (first_kept - 1, Ok(()));
        let next = journal.read_changes(
            last_applied.max(first_kept.min(cursor)),
            &mut |number, changes| {
                found = number;
                if number >= cursor && applied.is_ok() {
                    applied = rows.apply(&changes);
                }
            },
        )?;
        applied?;
        if found < last_applied {
            return Err(TableStoreError::AheadOfJournal(last_applied));
        }

        let clock = SystemClock::default();
        let progress = ApplyProgress {
            next,
            cursor,
            cursor_written_at: clock.monotonic(),
            is_halted: false,
        };
        Ok(Arc::new(Self {
            journal,
            settled: Arc::default(),
            cipher: derived.cipher().clone(),
            rows: RwLock::new(rows),
            progress: Mutex::new(progress),
            clock,
        }))
    }

    /// Applies the changes that the journal has got from elsewhere, as a copy of a shared log does.
    ///
    /// # Errors
    /// [`TableStoreError`] when the changes cannot be read or applied.
    pub fn apply_new_changes(&self) -> Result<(), TableStoreError> {
        let mut progress = self.progress.lock();
        let rows = self.rows.write();
        let mut applied = Ok(());
        let next = self
            .journal
            .read_changes(progress.next, &mut |_, changes| {
                if applied.is_ok() {
                    applied = rows.apply(&changes);
                }
            })?;
        applied?;
        drop(rows);
        progress.next = next;
        self.write_due_cursor(&mut progress)?;
        Ok(())
    }

    /// Returns the keys of definitions.
    pub(super) fn cipher(&self) -> &ContentCipher {
        &self.cipher
    }

    /// Returns the handle of one table.
    #[must_use]
    pub fn table(self: &Arc<Self>, id: JournaledTableId) -> JournaledTable {
        JournaledTable {
            id,
            store: Arc::clone(self),
        }
    }

    /// Writes the cursor row, so that the next opening has nothing to apply again.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be synced.
    pub fn close(&self) -> Result<(), DerivedStoreError> {
        let mut progress = self.progress.lock();
        if progress.is_halted || progress.cursor == progress.next {
            return Ok(());
        }
        self.store_cursor(&mut progress)
    }

    /// Syncs the rows and writes the cursor row. Returns the number of the next change to apply.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be synced.
    pub fn write_cursor(&self) -> Result<u64, DerivedStoreError> {
        let mut progress = self.progress.lock();
        if !progress.is_halted {
            self.store_cursor(&mut progress)?;
        }
        Ok(progress.cursor)
    }

    /// Returns the value under `key` of the table `id`.
    pub(super) fn get_row(
        &self,
        id: JournaledTableId,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, DerivedStoreError> {
        self.stored_value(id as u8, key)
    }

    /// Returns the value under `key` of the table with the number `table`.
    pub(super) fn stored_value(
        &self,
        table: u8,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, DerivedStoreError> {
        self.rows.read().get(table, key)
    }

    fn write(&self, changes: TableChanges) -> Result<(), TableWriteError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let settled = Arc::clone(&self.settled);
        let changes = Arc::new(changes);
        let applied_later = Arc::clone(&changes);
        self.journal.append_changes(TableSubmission {
            changes,
            settle: Box::new(move |number| {
                settled.lock().push_back((number, applied_later));
                // The writer waits for this, unless its thread panicked.
                let _ = sender.send(number);
            }),
        })?;

        let number = receiver.recv().map_err(|_| JournalClosed)?;
        self.apply_settled(number)
    }

    /// Applies all settled changes; `number` is one of them, unless another thread has applied it.
    fn apply_settled(&self, number: u64) -> Result<(), TableWriteError> {
        let mut progress = self.progress.lock();
        if !progress.is_halted {
            let applied = self.apply_in_order(&mut progress);
            progress.is_halted = applied.is_err();
            applied?;
        }
        if progress.next <= number {
            return Err(TableWriteError::Halted);
        }
        Ok(())
    }

    fn apply_in_order(&self, progress: &mut ApplyProgress) -> Result<(), DerivedStoreError> {
        let settled = std::mem::take(&mut *self.settled.lock());
        let rows = self.rows.write();
        for (number, changes) in settled {
            rows.apply(&changes)?;
            progress.next = number + 1;
        }
        drop(rows);
        self.write_due_cursor(progress)
    }

    fn write_due_cursor(&self, progress: &mut ApplyProgress) -> Result<(), DerivedStoreError> {
        let is_due = self.clock.monotonic() >= progress.cursor_written_at + CURSOR_INTERVAL;
        if is_due && progress.cursor != progress.next {
            self.store_cursor(progress)?;
        }
        Ok(())
    }

    fn store_cursor(&self, progress: &mut ApplyProgress) -> Result<(), DerivedStoreError> {
        self.rows.read().store_cursor(progress.next)?;
        progress.cursor = progress.next;
        progress.cursor_written_at = self.clock.monotonic();
        Ok(())
    }
}

/// Handle of one table. Cheap to clone. All methods block.
#[derive(Clone)]
pub struct JournaledTable {
    id: JournaledTableId,
    store: Arc<TableStore>,
}

impl JournaledTable {
    /// Makes `changes` in order, all of them or none. Returns when they are durable, and visible to
    /// readers.
    ///
    /// # Errors
    /// [`TableWriteError`] when the store fails; it must then be opened again.
    pub fn write(&self, changes: Vec<TableChange>) -> Result<(), TableWriteError> {
        self.store.write(TableChanges {
            table: self.id as u8,
            changes,
        })
    }

    /// Returns the value under `key`.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DerivedStoreError> {
        self.store.rows.read().get(self.id as u8, key)
    }

    /// Returns the first `limit` rows whose keys begin with `prefix` and sort after `after`, in the
    /// order of their keys.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the rows cannot be read.
    pub fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DerivedRow>, DerivedStoreError> {
        let rows = self.store.rows.read();
        rows.scan(self.id as u8, prefix, after, limit)
    }
}
