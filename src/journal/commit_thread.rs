//! Commit thread: takes the queued submissions, writes them as one commit, syncs it, and settles
//! them (group commit).

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::error;

use super::content_cipher::ContentCipher;
use super::data_folder::DataFolder;
use super::frame::{self, FrameEntry, JournalFrame};
use super::limits::JournalLimits;
use super::log_place::LogPlace;
use super::recent_frames::RecentFrames;
use super::segment::{Block, BlockContent, SegmentWriter, SegmentWriterError};
use super::shared_log::{LogCommit, LogRole, SharedLog, SharedLogError};
use super::submission::{
    JournalSubmission, LogMark, RecordDraft, SequenceError, SubmissionResult, TableSubmission,
};
use super::table_changes::TableChanges;
use crate::clock::Clock;
use crate::event::{EntityKey, Position, Timestamp};
use crate::metrics::NodeMetrics;
use crate::traces::TraceSink;

/// Number of entities whose last sequence number is remembered in one generation, to detect two
/// actors that write for the same entity.
const SEQUENCES_MAX: usize = 32 * 1024;

/// Longest time for which events are accepted into files that nobody will find again, because the
/// data folder was removed or replaced under the node.
const PLACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest time without a call of the shared log, which renews the lease of this node.
const LEASE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Error that ends the journal until it is opened again.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    /// The segments could not be written.
    #[error(transparent)]
    Segment(#[from] SegmentWriterError),
    /// The shared log did not take a commit, or the lease of this node is over.
    #[error(transparent)]
    Shared(#[from] SharedLogError),
}

/// Commits of the shared log for this copy of it.
pub(super) struct CopiedCommits {
    /// Blocks of each commit, in order.
    pub(super) commits: Vec<Vec<Block>>,
    /// Frames in all of them, in order.
    pub(super) frames: Vec<JournalFrame>,
    /// Callback for when all commits are durable. Dropped without a call when the store fails.
    pub(super) on_settled: Box<dyn FnOnce() + Send>,
}

/// Entry of the journal's queue.
pub(super) enum QueuedSubmission {
    Records(JournalSubmission),
    Changes(TableSubmission),
    Copied(CopiedCommits),
    /// Request to begin a new segment; the function is called then.
    NextSegment(Box<dyn FnOnce() + Send>),
}

/// Outputs of the commit thread for readers and for the next opening.
pub(super) struct CommitOutputs {
    pub(super) recent: Arc<RecentFrames>,
    pub(super) durable_end: watch::Sender<Position>,
    pub(super) synced_end: Arc<Mutex<SyncedEnd>>,
    pub(super) observers: CommitObservers,
    /// Number of turns that the thread has made: one every second at least, while it moves.
    pub(super) turns: Arc<AtomicU64>,
}

/// End of what is synced: in the files, and in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct SyncedEnd {
    pub(super) mark: LogMark,
    pub(super) place: LogPlace,
}

impl SyncedEnd {
    /// Returns the end of what `writer` has synced. Nothing may be written behind it.
    pub(super) fn of_writer(writer: &SegmentWriter) -> Self {
        Self {
            mark: writer.synced_mark(),
            place: writer.synced_place(),
        }
    }
}

/// Receivers of the times of commits.
#[derive(Clone, Default)]
pub struct CommitObservers {
    /// Metrics with the histograms of commits.
    pub metrics: Arc<NodeMetrics>,
    /// Sink of the spans of events.
    pub traces: TraceSink,
}

/// State of the commit thread, the only writer of the journal.
pub(super) struct CommitThread {
    writer: SegmentWriter,
    /// Log that each commit goes to first; `None` if the journal is the log, or copies it.
    shared_log: Option<Box<dyn SharedLog>>,
    /// `true` if the journal takes nothing but copied commits.
    is_follower: bool,
    folder: Arc<DataFolder>,
    limits: JournalLimits,
    clock: Arc<dyn Clock>,
    outputs: CommitOutputs,
    /// Receive time of the last record; later records never have an earlier one.
    received_at: Timestamp,
    sequences: RecentSequences,
    /// Frames that are written but not yet synced; empty after each commit unless there is a sync
    /// interval.
    unsynced: Vec<JournalFrame>,
    /// Submissions of the commit that is being written.
    unsettled: Vec<QueuedSettlement>,
    synced_at: Duration,
    /// Moment of the last check that the files are the ones at their paths.
    checked_at: Duration,
    /// `true` if a later block says that all earlier ones were synced.
    is_closed_off: bool,
}

impl CommitThread {
    pub(super) fn new(
        (folder, writer): (Arc<DataFolder>, SegmentWriter),
        limits: JournalLimits,
        clock: Arc<dyn Clock>,
        outputs: CommitOutputs,
        received_at: Timestamp,
        role: LogRole,
    ) -> Self {
        let synced_at = clock.monotonic();
        let is_follower = matches!(role, LogRole::Follower);
        let shared_log = match role {
            LogRole::Leader(shared_log) => Some(shared_log),
            LogRole::Sole | LogRole::Follower => None,
        };
        Self {
            writer,
            shared_log,
            is_follower,
            folder,
            limits,
            clock,
            outputs,
            received_at,
            sequences: RecentSequences::default(),
            unsynced: Vec::new(),
            unsettled: Vec::new(),
            synced_at,
            checked_at: synced_at,
            is_closed_off: true,
        }
    }

    /// Commits submissions until the queue is closed and empty, or the store fails.
    ///
    /// After an error, the submissions that are not settled are dropped with this thread's state.
    pub(super) fn run_until_closed(
        &mut self,
        queue: &Receiver<QueuedSubmission>,
    ) -> Result<(), CommitError> {
        let until_check = match &self.shared_log {
            Some(_) => LEASE_CHECK_INTERVAL,
            None => PLACE_CHECK_INTERVAL,
        };
        loop {
            self.outputs.turns.fetch_add(1, Ordering::Relaxed);
            if let Some(shared_log) = &mut self.shared_log {
                shared_log.renew_lease()?;
            }
            let until_sync = match self.limits.sync_interval {
                Some(interval) if self.writer.has_unsynced() => self.time_until_sync(interval),
                _ => until_check,
            };
            match queue.recv_timeout(until_sync.min(until_check)) {
                Ok(QueuedSubmission::Copied(copied)) => self.append_copied(copied)?,
                Ok(first) => self.commit_queued(first, queue)?,
                Err(RecvTimeoutError::Timeout) if until_sync < until_check => {
                    self.sync_blocks()?;
                }
                Err(RecvTimeoutError::Timeout) => self.check_place()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.close_off()?;
        if let Some(mut shared_log) = self.shared_log.take() {
            shared_log.release_lease();
        }
        Ok(())
    }

    /// Appends commits that the shared log has taken.
    fn append_copied(&mut self, copied: CopiedCommits) -> Result<(), CommitError> {
        if !self.is_follower {
            error!("journal is no copy; copied commits rejected");
            return Ok(());
        }
        for blocks in copied.commits {
            self.is_closed_off = false;
            self.writer.append_commit(blocks)?;
        }
        if let Some(last) = copied.frames.last().and_then(|frame| frame.entries.last()) {
            self.received_at = self.received_at.max(last.received_at);
        }
        self.unsynced.extend(copied.frames);
        self.sync_blocks()?;
        (copied.on_settled)();
        Ok(())
    }

    /// Commits `first` and the submissions queued behind it, up to the bounds of one commit.
    fn commit_queued(
        &mut self,
        first: QueuedSubmission,
        queue: &Receiver<QueuedSubmission>,
    ) -> Result<(), CommitError> {
        // Gather as many submissions as one commit may hold: they share one sync.
        let mut commit = PendingCommit::default();
        let mut next = Some(first);
        while let Some(submission) = next {
            match submission {
                QueuedSubmission::Records(_) | QueuedSubmission::Changes(_) if self.is_follower => {
                    error!("journal is a copy; submission rejected");
                }
                QueuedSubmission::Records(records) => self.add_records(records, &mut commit),
                QueuedSubmission::Changes(changes) => self.add_changes(changes, &mut commit),
                QueuedSubmission::Copied(_) => {
                    error!("journal is no copy; copied commits rejected");
                }
                QueuedSubmission::NextSegment(on_settled) => {
                    commit
                        .settlements
                        .push(QueuedSettlement::Segment { on_settled });
                    commit.ends_segment = true;
                }
            }
            let is_full = commit.ends_segment
                || commit.entries.len() >= self.limits.commit_records
                || commit.bytes >= self.limits.commit_bytes;
            next = if is_full { None } else { queue.try_recv().ok() };
        }

        let PendingCommit {
            entries,
            changes,
            settlements,
            ends_segment,
            ..
        } = commit;
        // Kept over an error: submitters notice it only after its reason is published.
        self.unsettled = settlements;
        let (records, has_changes) = (entries.len(), !changes.is_empty());
        let first = self.writer.end_position();
        let began = self.clock.monotonic();
        if began.saturating_sub(self.checked_at) >= PLACE_CHECK_INTERVAL {
            self.check_place()?;
        }
        self.write_commit(entries, changes)?;

        // Sync before settling: a settled submission is a promise to survive a crash. With a sync
        // interval, records survive a crash of the process, but not necessarily a power failure.
        // Changes are synced in any case: the rows derived from them must not be ahead of the journal.
        // A writer that was rescued from a failure has synced everything already.
        let is_sync_due = has_changes
            || ends_segment
            || !self.writer.has_unsynced()
            || self
                .limits
                .sync_interval
                .is_none_or(|interval| self.time_until_sync(interval).is_zero());
        if is_sync_due {
            self.sync_blocks()?;
        }
        let duration = self.clock.monotonic().saturating_sub(began);
        let metrics = &self.outputs.observers.metrics;
        metrics.commit_seconds().observe(duration.as_secs_f64());
        metrics.commit_records().observe(records as f64);
        if ends_segment {
            self.writer.begin_segment()?;
            *self.outputs.synced_end.lock() = SyncedEnd::of_writer(&self.writer);
        }

        mem::take(&mut self.unsettled)
            .into_iter()
            .for_each(QueuedSettlement::settle);
        // After the answers are on their way: a trace delays none.
        let traces = &self.outputs.observers.traces;
        if traces.is_on() {
            let since = self.clock.monotonic().saturating_sub(began);
            let began_at = self.clock.wall().saturating_sub(since);
            traces.note_commit(first, records as u64, began_at, duration);
        }
        Ok(())
    }

    fn add_records(&mut self, submission: JournalSubmission, commit: &mut PendingCommit) {
        let outcome = self
            .sequences
            .check_and_record(&submission.drafts)
            .map(|()| self.writer.end_position().plus(commit.entries.len() as u64));
        if outcome.is_ok() {
            for draft in submission.drafts {
                commit.bytes += draft.bytes.len();
                // Actors on several threads take the time before they queue, so receive times
                // can arrive out of order. Followers rely on times that never go backwards.
                self.received_at = self.received_at.max(draft.received_at);
                commit.entries.push(FrameEntry {
                    received_at: self.received_at,
                    bytes: draft.bytes.into(),
                });
            }
        }
        commit.settlements.push(QueuedSettlement::Records {
            outcome,
            on_settled: submission.settle,
        });
    }

    fn add_changes(&self, submission: TableSubmission, commit: &mut PendingCommit) {
        commit.bytes += submission.changes.encoded_bytes();
        commit.settlements.push(QueuedSettlement::Changes {
            number: self.writer.next_change() + commit.changes.len() as u64,
            on_settled: submission.settle,
        });
        commit.changes.push(submission.changes);
    }

    /// Writes `entries` and `changes` as one commit, without syncing it.
    fn write_commit(
        &mut self,
        entries: Vec<FrameEntry>,
        changes: Vec<Arc<TableChanges>>,
    ) -> Result<(), CommitError> {
        let first = self.writer.end_position();
        let frames = frame::gather_frames(first, self.clock.wall(), entries);
        let cipher = self.writer.cipher();
        let mut blocks = encode_frames(&frames, cipher);
        for (changes, number) in changes.iter().zip(self.writer.next_change()..) {
            blocks.push(Block::new(
                BlockContent::Changes,
                number,
                1,
                changes.encode(),
                cipher,
            ));
        }

        if blocks.is_empty() {
            return Ok(());
        }
        self.is_closed_off = false;
        // The shared log comes first: this node must never have what the cluster does not have.
        if let Some(shared_log) = &mut self.shared_log {
            let begin = self.writer.written_place();
            shared_log.append(&LogCommit::encode(begin, &blocks, self.writer.seed()))?;
        }
        self.writer.append_commit(blocks)?;
        self.unsynced.extend(frames);
        Ok(())
    }

    fn check_place(&mut self) -> Result<(), CommitError> {
        self.checked_at = self.clock.monotonic();
        match self.folder.find_displaced_file() {
            Ok(None) => self.writer.check_place()?,
            Ok(Some(file)) => return Err(SegmentWriterError::Displaced(file).into()),
            Err(error) => return Err(SegmentWriterError::Write(error).into()),
        }
        Ok(())
    }

    fn time_until_sync(&self, interval: Duration) -> Duration {
        (self.synced_at + interval).saturating_sub(self.clock.monotonic())
    }

    /// Syncs the written blocks, then publishes the new durable end to the followers.
    fn sync_blocks(&mut self) -> Result<(), CommitError> {
        self.synced_at = self.clock.monotonic();
        self.writer.sync()?;
        *self.outputs.synced_end.lock() = SyncedEnd::of_writer(&self.writer);
        if !self.unsynced.is_empty() {
            self.outputs.recent.push(mem::take(&mut self.unsynced));
            let end = self.writer.end_position();
            self.outputs.durable_end.send_replace(end);
        }
        Ok(())
    }

    /// Ends the log with a block that says that everything before it was synced. So damage to the
    /// last records is told from a torn tail at the next opening.
    fn close_off(&mut self) -> Result<(), CommitError> {
        self.sync_blocks()?;
        // A copy has no blocks of its own.
        if self.is_closed_off || self.is_follower {
            return Ok(());
        }
        self.write_commit(Vec::new(), vec![Arc::new(TableChanges::empty())])?;
        self.sync_blocks()
    }
}

/// Encodes `frames` as blocks of records, which `cipher` encrypts.
pub(super) fn encode_frames(frames: &[JournalFrame], cipher: &ContentCipher) -> Vec<Block> {
    let blocks = frames.iter().map(|frame| {
        let count = u32::try_from(frame.entries.len()).expect("a frame has far fewer records");
        let number = frame.first.get();
        let body = frame.encode_body();
        Block::new(BlockContent::Records, number, count, body, cipher)
    });
    blocks.collect()
}

/// Submissions that are gathered for one commit.
#[derive(Default)]
struct PendingCommit {
    entries: Vec<FrameEntry>,
    changes: Vec<Arc<TableChanges>>,
    settlements: Vec<QueuedSettlement>,
    /// Bytes of entries and changes.
    bytes: usize,
    /// `true` if a new segment begins after this commit.
    ends_segment: bool,
}

/// Result of one submission, which is reported after the commit.
enum QueuedSettlement {
    Records {
        outcome: SubmissionResult,
        on_settled: Box<dyn FnOnce(SubmissionResult) + Send>,
    },
    Changes {
        number: u64,
        on_settled: Box<dyn FnOnce(u64) + Send>,
    },
    Segment {
        on_settled: Box<dyn FnOnce() + Send>,
    },
}

impl QueuedSettlement {
    fn settle(self) {
        match self {
            Self::Records {
                outcome,
                on_settled,
            } => {
                if let Err(error) = &outcome {
                    error!(
                        entity = %error.entity,
                        last_sequence = error.last,
                        sequence = error.found,
                        "record rejected: sequence number does not follow the last one",
                    );
                }
                on_settled(outcome);
            }
            Self::Changes { number, on_settled } => on_settled(number),
            Self::Segment { on_settled } => on_settled(),
        }
    }
}

/// Last sequence numbers of the entities that wrote recently, in two generations so that eviction
/// is cheap.
///
/// Records of an entity that was evicted are accepted without a check. The check detects two actors
/// of one entity, and those would write at the same time.
#[derive(Default)]
struct RecentSequences {
    young: HashMap<EntityKey, u64>,
    old: HashMap<EntityKey, u64>,
}

impl RecentSequences {
    /// Checks that the sequence numbers of `drafts` have no gap, then remembers them.
    fn check_and_record(&mut self, drafts: &[RecordDraft]) -> Result<(), SequenceError> {
        // Check all records before remembering any: a submission is written whole or not at all.
        let mut checked: Vec<(&EntityKey, u64)> = Vec::new();
        for draft in drafts {
            let Some(found) = draft.sequence else {
                continue;
            };
            let earlier = checked
                .iter()
                .rev()
                .find(|(entity, _)| *entity == &draft.entity)
                .map(|(_, sequence)| *sequence);
            let last = earlier.or_else(|| self.last_sequence(&draft.entity));
            if let Some(last) = last.filter(|last| last + 1 != found) {
                return Err(SequenceError {
                    entity: draft.entity.clone(),
                    last,
                    found,
                });
            }
            checked.push((&draft.entity, found));
        }

        for (entity, sequence) in checked {
            self.remember_sequence(entity.clone(), sequence);
        }
        Ok(())
    }

    fn last_sequence(&self, entity: &EntityKey) -> Option<u64> {
        self.young
            .get(entity)
            .or_else(|| self.old.get(entity))
            .copied()
    }

    fn remember_sequence(&mut self, entity: EntityKey, sequence: u64) {
        if self.young.len() >= SEQUENCES_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(entity, sequence);
    }
}
