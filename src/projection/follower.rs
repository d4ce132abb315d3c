//! Thread of the projection: follows the journal to its durable end, writes rows, and writes
//! checkpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::error;

use super::claim_archive::ClaimArchive;
use super::keys::PROJECTION_TREE;
use super::reader::{ProjectionReadError, ProjectionReader};
use super::row_buffer::RowBuffer;
use super::signals::ProjectionSignals;
use super::snapshot::PendingSnapshots;
use crate::clock::Clock;
use crate::derived::{DerivedStore, DerivedStoreError, DerivedTree};
use crate::error_chain;
use crate::event::{
    EntityKey, ErasureMark, FingerprintFn, Position, Record, RecordError, Timestamp,
};
use crate::journal::{Journal, JournalFrame, JournalReadError, find_position_at};

/// Number of changed rows at which they are written: so many that the row of a busy entity is
/// written once for many records.
const DIRTY_ROWS_MAX: usize = 2_000;
/// Largest number of records that are projected before their rows are written, because readers and
/// checkpoints wait for the write.
const BATCH_RECORDS_MAX: u64 = 10_000;
/// Longest time for which a changed row stays unwritten when no reader waits for it.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two checkpoints, which bounds the work that a crash repeats.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// Time to wait for more commits after a wake-up: one pass over twenty commits costs less than
/// twenty passes.
const BATCH_INTERVAL: Duration = Duration::from_millis(5);

/// Bounds of the projection, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionLimits {
    /// Longest idempotency window of all sources; older claims expire.
    pub claim_window: Duration,
}

/// Error that stops the projection until the store is opened again.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The projection's tree could not be read or written.
    #[error("cannot access the tree of the projection")]
    Store(#[from] DerivedStoreError),
    /// The journal could not be read.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
    /// A record of the journal is corrupt.
    #[error("the record at position {position} cannot be read")]
    Record {
        /// Position of the corrupt record.
        position: Position,
        /// Error of the record's decoder.
        #[source]
        source: RecordError,
    },
    /// The journal lost records that the projection has seen.
    #[error(
        "the journal ends at position {end}, but records up to {seen} were read from it before; \
         restore the data folder from a backup"
    )]
    AheadOfJournal {
        /// Position after the journal's last record.
        end: Position,
        /// Position after the last projected record.
        seen: Position,
    },
    /// A reader found a malformed row.
    #[error(transparent)]
    Unreadable(#[from] ProjectionReadError),
    /// The projection's thread could not be started.
    #[error("cannot start the projection thread")]
    Thread(#[from] std::io::Error),
}

/// Handle of the projection, for one opening of the store.
pub struct Projection {
    signals: Arc<ProjectionSignals>,
    archive: Arc<ClaimArchive>,
    pending_snapshots: Arc<PendingSnapshots>,
    written: watch::Receiver<Position>,
    failure: watch::Receiver<Option<String>>,
    highest_id: u64,
    entity_count: u64,
    tree: DerivedTree,
    journal: Arc<dyn Journal>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Projection {
    /// Catches up with `journal`, then follows it on a thread of its own. Blocks until it has
    /// caught up.
    ///
    /// # Errors
    /// [`ProjectionError`] when the store fails, or when the projection is ahead of the journal.
    pub fn start(
        store: Arc<DerivedStore>,
        journal: Arc<dyn Journal>,
        limits: ProjectionLimits,
        clock: Arc<dyn Clock>,
        fingerprint: FingerprintFn,
    ) -> Result<Arc<Self>, ProjectionError> {
        let tree = store.tree(PROJECTION_TREE)?;
        let archive = Arc::new(ClaimArchive::open(tree.clone())?);
        let pending_snapshots = Arc::new(PendingSnapshots::default());
        let signals = Arc::new(ProjectionSignals::default());
        let mut follower = JournalFollower {
            rows: RowBuffer::open(tree.clone())?,
            archive: Arc::clone(&archive),
            pending_snapshots: Arc::clone(&pending_snapshots),
            journal: Arc::clone(&journal),
            store,
            clock,
            fingerprint,
            claim_window: limits.claim_window,
        };

        // A projection ahead of its journal means that records were lost: refuse to go on.
        let end = *journal.durable_end().borrow();
        let seen = Position::new(follower.rows.cursor.position).max(archive.end());
        if seen > end {
            return Err(ProjectionError::AheadOfJournal { end, seen });
        }

        // Catch up before the node accepts events, so that the first reads and claims are complete.
        follower.reload_claims()?;
        while follower.project_some()? {
            follower.rows.write_rows()?;
        }
        follower.rows.write_rows()?;
        let highest_id = follower.rows.cursor.highest_id;
        let entity_count = follower.rows.cursor.entity_count();

        let (written_sender, written) = watch::channel(follower.position());
        let (failure_sender, failure) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let thread_signals = Arc::clone(&signals);
        let thread = thread::Builder::new()
            .name("projection".into())
            .spawn(move || {
                let following = follower.follow_journal(&thread_signals, &written_sender);
                if let Err(error) = runtime.block_on(following) {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "projection stopped"
                    );
                    // With the error chain, because the operator needs the root cause, such as a
                    // full disk.
                    failure_sender.send_replace(Some(error_chain::format_error_chain(&error)));
                }
            })?;
        let thread = Mutex::new(Some(thread));

        Ok(Arc::new(Self {
            signals,
            archive,
            pending_snapshots,
            written,
            failure,
            highest_id,
            entity_count,
            tree,
            journal,
            thread,
        }))
    }

    /// Returns a watch of the position before which all records can be read.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<Position> {
        self.written.clone()
    }

    /// Returns a watch that becomes `Some` with the reason when the projection fails.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Returns the highest id that the node had allocated when the projection started.
    #[must_use]
    pub fn highest_id(&self) -> u64 {
        self.highest_id
    }

    /// Returns the number of entities when the projection started.
    #[must_use]
    pub fn entity_count(&self) -> u64 {
        self.entity_count
    }

    /// Returns the archive with the claims of all projected records.
    #[must_use]
    pub fn claim_archive(&self) -> &Arc<ClaimArchive> {
        &self.archive
    }

    /// Returns the place where entities offer snapshots of their states.
    #[must_use]
    pub fn pending_snapshots(&self) -> &Arc<PendingSnapshots> {
        &self.pending_snapshots
    }

    /// Creates a reader of this projection.
    #[must_use]
    pub fn reader(&self) -> ProjectionReader {
        let signals = Arc::clone(&self.signals);
        ProjectionReader::new(
            self.tree.clone(),
            Arc::clone(&self.journal),
            signals,
            self.written.clone(),
        )
    }

    /// Follows the journal to its end a last time, writes a checkpoint, and ends the thread. Blocks
    /// until the thread has ended.
    pub fn close(&self) {
        self.signals.stopping.store(true, Ordering::Release);
        self.signals.wake.notify_one();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // The panic hook has logged any panic of the thread, and the next opening of the store
            // repeats the unfinished work.
            let _ = thread.join();
        }
    }
}

/// State of the projection's thread.
struct JournalFollower {
    rows: RowBuffer,
    archive: Arc<ClaimArchive>,
    pending_snapshots: Arc<PendingSnapshots>,
    journal: Arc<dyn Journal>,
    store: Arc<DerivedStore>,
    clock: Arc<dyn Clock>,
    fingerprint: FingerprintFn,
    claim_window: Duration,
}

impl JournalFollower {
    fn position(&self) -> Position {
        Position::new(self.rows.cursor.position)
    }

    async fn follow_journal(
        mut self,
        signals: &ProjectionSignals,
        written: &watch::Sender<Position>,
    ) -> Result<(), ProjectionError> {
        let mut durable_end = self.journal.durable_end();
        let mut write_due = Instant::now() + WRITE_INTERVAL;
        let mut checkpoint_due = Instant::now() + CHECKPOINT_INTERVAL;
        let mut checkpointed = Position::new(0);

        loop {
            // Read before projecting: records appended before `close` must still be projected.
            let stopping = signals.stopping.load(Ordering::Acquire);
            durable_end.borrow_and_update();
            let is_batch_full = self.project_some()?;

            // Write when a reader waits, when the batch is full, or when the rows have waited long
            // enough. Otherwise wait, so that a busy entity's row is written once for many records.
            let now = Instant::now();
            let has_unwritten = *written.borrow() < self.position();
            let requested_end = signals.requested_end.load(Ordering::Acquire);
            let is_requested = requested_end > written.borrow().get();
            if has_unwritten && (is_batch_full || is_requested || stopping || now >= write_due) {
                self.write_rows(signals, written)?;
                write_due = now + WRITE_INTERVAL;
            }

            // Checkpoint by time even under load, to bound the work that a crash repeats.
            if now >= checkpoint_due && checkpointed < *written.borrow() {
                self.write_checkpoint(signals, written)?;
                checkpointed = self.position();
                checkpoint_due = now + CHECKPOINT_INTERVAL;
            }

            // A full batch means that there are probably more records.
            if is_batch_full {
                continue;
            }
            if stopping {
                return self.write_checkpoint(signals, written);
            }

            // Sleep until there is work; an idle projection has no timer.
            let is_idle = checkpointed == self.position();
            let has_unwritten = *written.borrow() < self.position();
            let next_due = if has_unwritten {
                write_due.min(checkpoint_due)
            } else {
                checkpoint_due
            };
            tokio::select! {
                biased;
                () = signals.wake.notified() => {}
                changed = durable_end.changed() => {
                    if changed.is_err() {
                        // The journal is closed, so the only remaining wake-up is from `close`.
                        signals.wake.notified().await;
                    } else {
                        // A timeout and a wake-up both mean that there is work now.
                        let _ = timeout(BATCH_INTERVAL, signals.wake.notified()).await;
                    }
                }
                () = sleep_until(next_due), if !is_idle => {}
            }
        }
    }

    /// Writes all changed rows, then notifies the waiting readers.
    fn write_rows(
        &mut self,
        signals: &ProjectionSignals,
        written: &watch::Sender<Position>,
    ) -> Result<(), ProjectionError> {
        self.rows.write_rows()?;
        written.send_replace(self.position());
        for event in self.rows.take_reopened() {
            // The send fails if there is no listener; a later one reads the pending events anyway.
            let _ = signals.reopened.send(event);
        }
        Ok(())
    }

    /// Writes all changed rows, syncs them, and then writes the cursor row. This order matters: a
    /// cursor ahead of its rows would lose them in a crash.
    fn write_checkpoint(
        &mut self,
        signals: &ProjectionSignals,
        written: &watch::Sender<Position>,
    ) -> Result<(), ProjectionError> {
        if *written.borrow() < self.position() {
            self.write_rows(signals, written)?;
        }

        self.store.sync()?;
        self.rows.write_cursor()?;
        self.archive.expire_claims(self.claim_horizon())?;
        Ok(())
    }

    /// Projects durable records until there are no more, or until the batch is full; returns `true`
    /// for a full batch.
    fn project_some(&mut self) -> Result<bool, ProjectionError> {
        let batch_end = self.position().plus(BATCH_RECORDS_MAX);
        while self.rows.dirty_rows() < DIRTY_ROWS_MAX && self.position() < batch_end {
            let Some(frame) = self.journal.read_frame_at(self.position())? else {
                return Ok(false);
            };
            let mut position = self.position();
            while let Some((received_at, record)) = decode_record(&frame, position)? {
                self.rows.project_record(
                    position,
                    received_at,
                    &record,
                    &self.pending_snapshots,
                )?;
                if record.erases() {
                    self.end_pending_events(position, &record.entity)?;
                }
                // After a crash the archive can be ahead of the cursor.
                if position >= self.archive.end() {
                    self.archive_claim(position, received_at, &record)?;
                }
                position = position.plus(1);
            }
        }
        Ok(true)
    }

    /// Takes the entity's events before `end` as completed: nobody can work on them, since their
    /// content is erased.
    fn end_pending_events(
        &mut self,
        end: Position,
        entity: &EntityKey,
    ) -> Result<(), ProjectionError> {
        for event in self.rows.pending_events_before(end)? {
            let frame = match self.journal.read_frame_at(event) {
                Err(JournalReadError::Removed { .. }) | Ok(None) => continue,
                Err(error) => return Err(error.into()),
                Ok(Some(frame)) => frame,
            };
            let stored = decode_record(&frame, event)?;
            if stored.is_some_and(|(_, record)| record.entity == *entity) {
                self.rows.end_pending_event(event)?;
            }
        }
        Ok(())
    }

    /// Reads the claims behind the cursor that are in no stored block from the journal again, as
    /// far back as the idempotency window.
    fn reload_claims(&mut self) -> Result<(), ProjectionError> {
        let cursor = self.position();
        let mut position = self.archive.end().max(find_position_at(
            self.journal.as_ref(),
            self.claim_horizon(),
            cursor,
        )?);
        while position < cursor {
            let Some(frame) = self.journal.read_frame_at(position)? else {
                break;
            };
            while let Some((received_at, record)) =
                decode_record(&frame, position)?.filter(|_| position < cursor)
            {
                self.archive_claim(position, received_at, &record)?;
                position = position.plus(1);
            }
        }
        Ok(())
    }

    /// Returns the moment before which claims have expired.
    fn claim_horizon(&self) -> Timestamp {
        self.clock.wall().saturating_sub(self.claim_window)
    }

    fn archive_claim(
        &self,
        position: Position,
        received_at: Timestamp,
        record: &Record,
    ) -> Result<(), DerivedStoreError> {
        let fingerprint = |key: &str| (self.fingerprint)(&record.source, key);
        let key = match record.erasure {
            Some(ErasureMark::Erased { claim }) => claim,
            Some(ErasureMark::Erases | ErasureMark::Expired { .. }) | None => {
                record.idempotency_key.as_deref().map(fingerprint)
            }
        };
        let request = record
            .signed_request
            .map(|request| fingerprint(&request.claim_key()));
        let is_valid = received_at >= self.claim_horizon();
        let claims = [key, request].into_iter().flatten();
        self.archive
            .add_record(position, received_at, claims.filter(|_| is_valid))
    }
}

/// Decodes the record at `position` of `frame`, with its receive time; returns `None` beyond the
/// frame's end.
fn decode_record(
    frame: &JournalFrame,
    position: Position,
) -> Result<Option<(Timestamp, Record)>, ProjectionError> {
    let Some(entry) = frame.entry(position) else {
        return Ok(None);
    };
    let record = Record::decode(&entry.bytes)
        .map_err(|source| ProjectionError::Record { position, source })?;
    Ok(Some((entry.received_at, record)))
}
