//! The projection's thread: follows the journal to its durable end, writes rows, checkpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::error;

use super::claim_archive::ClaimArchive;
use super::reader::{ProjectionReadError, ProjectionReader};
use super::row_buffer::RowBuffer;
use super::signals::{PROJECTION_TREE, ProjectionSignals};
use super::snapshot::PendingSnapshots;
use crate::clock::Clock;
use crate::error_chain;
use crate::event::{FingerprintFn, Position, Record, RecordError, Timestamp};
use crate::journal::{DataStore, Journal, JournalFrame, JournalReadError};

/// Rows that wait at most, before they are written: enough to write a busy entity's row once
/// instead of many times.
const DIRTY_ROWS_MAX: usize = 2_000;
/// Records that are taken in at most, before what they made is written: readers and a busy node's
/// checkpoints wait for it.
const RECORDS_MAX: u64 = 10_000;
/// How long a row waits at most when nobody asks for it.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How far a crash sets the projection back.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// After a wake-up, how long more commits are awaited: one pass over twenty costs less than twenty
/// passes.
const GATHER_INTERVAL: Duration = Duration::from_millis(5);

/// What bounds the projection.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionLimits {
    /// The longest time for which a source remembers idempotency keys.
    pub claim_window: Duration,
}

/// Why the projection cannot go on. The store must be opened anew.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The tree failed.
    #[error("cannot write what is derived from the journal")]
    Store(#[from] sled::Error),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
    /// A record cannot be read.
    #[error("the record at position {position} cannot be read")]
    Record {
        /// Where it stands.
        position: Position,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// The journal lost records that the projection has seen.
    #[error(
        "the journal ends at position {end}, but records up to {seen} were read from it before; restore the data folder from a backup"
    )]
    AheadOfJournal {
        /// The journal's end.
        end: Position,
        /// The position after the last record seen.
        seen: Position,
    },
    /// A reader found what was derived unreadable.
    #[error(transparent)]
    Unreadable(#[from] ProjectionReadError),
    /// The thread could not be started.
    #[error("cannot start the projection's thread")]
    Thread(#[from] std::io::Error),
}

/// The projection of one opening of the store.
pub struct Projection {
    signals: Arc<ProjectionSignals>,
    archive: Arc<ClaimArchive>,
    pending_snapshots: Arc<PendingSnapshots>,
    written: watch::Receiver<Position>,
    failed: watch::Receiver<Option<String>>,
    highest_id: u64,
    entities: u64,
    tree: sled::Tree,
    journal: Arc<dyn Journal>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Projection {
    /// Catches up with `journal`, then goes on following it on a thread of its own. Blocks until it
    /// has caught up.
    ///
    /// # Errors
    /// [`Failed`] when the store fails or what is derived does not fit the journal.
    pub fn start(
        store: Arc<DataStore>,
        journal: Arc<dyn Journal>,
        limits: ProjectionLimits,
        clock: Arc<dyn Clock>,
        fingerprint: FingerprintFn,
    ) -> Result<Arc<Self>, ProjectionError> {
        let tree = store.tree(PROJECTION_TREE)?;
        let archive = Arc::new(ClaimArchive::open(tree.clone())?);
        let offers = Arc::new(PendingSnapshots::default());
        let shared = Arc::new(ProjectionSignals::default());
        let mut follower = JournalFollower {
            index: RowBuffer::open(tree.clone())?,
            archive: Arc::clone(&archive),
            pending_snapshots: Arc::clone(&offers),
            journal: Arc::clone(&journal),
            store,
            clock,
            fingerprint,
            claim_window: limits.claim_window,
        };
        let end = *journal.durable_end().borrow();
        let seen = Position::new(follower.index.cursor.position).max(archive.end());
        if seen > end {
            return Err(ProjectionError::AheadOfJournal { end, seen });
        }
        follower.reload_claims()?;
        while follower.project_some()? {
            follower.index.write_rows()?;
        }
        follower.index.write_rows()?;
        let (drawn, entities) = (
            follower.index.cursor.drawn,
            follower.index.cursor.entity_count(),
        );
        let (written_sender, written) = watch::channel(follower.position());
        let (failed_sender, failed) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("projection".into())
            .spawn(move || {
                if let Err(error) =
                    runtime.block_on(follower.follow_journal(&for_thread, &written_sender))
                {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "projection failed"
                    );
                    // With its causes: a full disk, say, is what an operator has to read.
                    failed_sender.send_replace(Some(error_chain::format_error_chain(&error)));
                }
            })?;
        let thread = Mutex::new(Some(thread));
        Ok(Arc::new(Self {
            signals: shared,
            archive,
            pending_snapshots: offers,
            written,
            failed,
            highest_id: drawn,
            entities,
            tree,
            journal,
            thread,
        }))
    }

    /// The position before which everything can be read, and every change of it.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<Position> {
        self.written.clone()
    }

    /// Becomes `Some` with the reason when the projection cannot go on.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// The highest id that the node had given when this opening began.
    #[must_use]
    pub fn highest_id(&self) -> u64 {
        self.highest_id
    }

    /// How many entities there were when this opening began.
    #[must_use]
    pub fn entity_count(&self) -> u64 {
        self.entities
    }

    /// Claims that the projection has passed.
    #[must_use]
    pub fn claim_archive(&self) -> &Arc<ClaimArchive> {
        &self.archive
    }

    /// Where entities offer their states.
    #[must_use]
    pub fn pending_snapshots(&self) -> &Arc<PendingSnapshots> {
        &self.pending_snapshots
    }

    /// What readers use.
    #[must_use]
    pub fn reader(&self) -> ProjectionReader {
        let shared = Arc::clone(&self.signals);
        ProjectionReader::new(
            self.tree.clone(),
            Arc::clone(&self.journal),
            shared,
            self.written.clone(),
        )
    }

    /// Follows the journal to its end a last time, checkpoints, and ends the thread. Blocks until
    /// then.
    pub fn close(&self) {
        self.signals.stopping.store(true, Ordering::Release);
        self.signals.wake.notify_one();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic there has been logged by the hook, and the next opening repeats what it left
            // undone.
            let _ = thread.join();
        }
    }
}

struct JournalFollower {
    index: RowBuffer,
    archive: Arc<ClaimArchive>,
    pending_snapshots: Arc<PendingSnapshots>,
    journal: Arc<dyn Journal>,
    store: Arc<DataStore>,
    clock: Arc<dyn Clock>,
    fingerprint: FingerprintFn,
    claim_window: Duration,
}

impl JournalFollower {
    fn position(&self) -> Position {
        Position::new(self.index.cursor.position)
    }

    async fn follow_journal(
        mut self,
        shared: &ProjectionSignals,
        written: &watch::Sender<Position>,
    ) -> Result<(), ProjectionError> {
        let mut durable_end = self.journal.durable_end();
        let mut write_due = Instant::now() + WRITE_INTERVAL;
        let mut checkpoint_due = Instant::now() + CHECKPOINT_INTERVAL;
        let mut checkpointed = Position::new(0);
        loop {
            let stopping = shared.stopping.load(Ordering::Acquire);
            durable_end.borrow_and_update();
            let full = self.project_some()?;
            let now = Instant::now();
            let unwritten = *written.borrow() < self.position();
            let wanted = shared.wanted.load(Ordering::Acquire) > written.borrow().get();
            if unwritten && (full || wanted || stopping || now >= write_due) {
                self.write_rows(shared, written)?;
                write_due = now + WRITE_INTERVAL;
            }
            if now >= checkpoint_due && checkpointed < *written.borrow() {
                self.write_checkpoint(shared, written)?;
                checkpointed = self.position();
                checkpoint_due = now + CHECKPOINT_INTERVAL;
            }
            if full {
                continue;
            }
            if stopping {
                return self.write_checkpoint(shared, written);
            }
            let idle = checkpointed == self.position();
            let unwritten = *written.borrow() < self.position();
            let next = if unwritten {
                write_due.min(checkpoint_due)
            } else {
                checkpoint_due
            };
            tokio::select! {
                biased;
                () = shared.wake.notified() => {}
                changed = durable_end.changed() => {
                    if changed.is_err() {
                        // The journal is gone: what is left to do is what `close` asks for.
                        shared.wake.notified().await;
                    } else {
                        // Either way there is something to do now.
                        let _ = timeout(GATHER_INTERVAL, shared.wake.notified()).await;
                    }
                }
                () = sleep_until(next), if !idle => {}
            }
        }
    }

    /// Writes every row, then tells those who wait for that.
    fn write_rows(
        &mut self,
        shared: &ProjectionSignals,
        written: &watch::Sender<Position>,
    ) -> Result<(), ProjectionError> {
        self.index.write_rows()?;
        written.send_replace(self.position());
        for event in self.index.take_reopened() {
            // Nobody may be listening: who comes later finds the row.
            let _ = shared.reopened.send(event);
        }
        Ok(())
    }

    fn write_checkpoint(
        &mut self,
        shared: &ProjectionSignals,
        written: &watch::Sender<Position>,
    ) -> Result<(), ProjectionError> {
        if *written.borrow() < self.position() {
            self.write_rows(shared, written)?;
        }
        self.store.sync()?;
        self.index.write_cursor()?;
        self.archive.expire_claims(self.claim_horizon())?;
        Ok(())
    }

    /// Takes in what is durable, until there is no more or enough rows wait to be written; says
    /// whether it is the latter.
    fn project_some(&mut self) -> Result<bool, ProjectionError> {
        let enough = self.position().plus(RECORDS_MAX);
        while self.index.dirty_rows() < DIRTY_ROWS_MAX && self.position() < enough {
            let Some(frame) = self.journal.read_frame_at(self.position())? else {
                return Ok(false);
            };
            let mut position = self.position();
            while let Some((received_at, record)) = decode_record(&frame, position)? {
                self.index.project_record(
                    position,
                    received_at,
                    &record,
                    &self.pending_snapshots,
                )?;
                if position >= self.archive.end() {
                    self.archive_claim(position, received_at, &record)?;
                }
                position = position.plus(1);
            }
        }
        Ok(true)
    }

    /// Reads again the claims that stand in no block but lie behind the cursor, as far back as keys
    /// are remembered.
    fn reload_claims(&mut self) -> Result<(), ProjectionError> {
        let cursor = self.position();
        let mut position = self
            .archive
            .end()
            .max(self.first_position_since(self.claim_horizon())?);
        while position < cursor {
            let Some(frame) = self.journal.read_frame_at(position)? else {
                break;
            };
            while let Some((entry, record)) =
                decode_record(&frame, position)?.filter(|_| position < cursor)
            {
                self.archive_claim(position, entry, &record)?;
                position = position.plus(1);
            }
        }
        Ok(())
    }

    /// Claims received before this moment are forgotten.
    fn claim_horizon(&self) -> Timestamp {
        self.clock.wall().saturating_sub(self.claim_window)
    }

    /// The first position behind the cursor that was received at `moment` or later, else the
    /// cursor's. Receive times never go backwards, so halving finds it.
    fn first_position_since(&self, moment: Timestamp) -> Result<Position, ProjectionError> {
        let (mut low, mut high) = (Position::FIRST.get(), self.position().get());
        while low < high {
            let middle = Position::new(low + (high - low) / 2);
            let frame = self.journal.read_frame_at(middle)?;
            let entry = frame.as_ref().and_then(|frame| frame.entry(middle));
            if entry.is_some_and(|entry| entry.received_at < moment) {
                low = middle.get() + 1;
            } else {
                high = middle.get();
            }
        }
        Ok(Position::new(low))
    }

    fn archive_claim(
        &self,
        position: Position,
        received_at: Timestamp,
        record: &Record,
    ) -> Result<(), sled::Error> {
        let key = record
            .idempotency_key
            .as_ref()
            .filter(|_| received_at >= self.claim_horizon());
        let claim = key.map(|key| (self.fingerprint)(&record.source, key));
        self.archive.add_record(position, received_at, claim)
    }
}

/// The record at `position` of `frame` with its receive time, or `None` beyond the frame's end.
fn decode_record(
    frame: &JournalFrame,
    position: Position,
) -> Result<Option<(Timestamp, Record)>, ProjectionError> {
    let Some(entry) = frame.entry(position) else {
        return Ok(None);
    };
    let bytes: &Bytes = &entry.bytes;
    let record =
        Record::decode(bytes).map_err(|source| ProjectionError::Record { position, source })?;
    Ok(Some((entry.received_at, record)))
}
