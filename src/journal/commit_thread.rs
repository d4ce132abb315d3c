//! Commit thread: takes the queued submissions, writes their records as consecutive frames, syncs,
//! and settles the submissions (group commit).

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::error;

use super::frame::{self, FrameEntry, JournalFrame};
use super::limits::JournalLimits;
use super::recent_frames::RecentFrames;
use super::store::DataStore;
use super::submission::{JournalSubmission, RecordDraft, SequenceError, SubmissionResult};
use crate::clock::Clock;
use crate::event::{EntityKey, Position, Timestamp};
use crate::failpoints::Failpoint;

/// Number of entities whose last sequence number is remembered in one generation, to detect two
/// actors that write for the same entity.
const SEQUENCES_MAX: usize = 32 * 1024;

/// State of the commit thread, the only writer of the journal's tree.
pub(super) struct CommitThread {
    tree: sled::Tree,
    limits: JournalLimits,
    clock: Arc<dyn Clock>,
    recent: Arc<RecentFrames>,
    durable_end: watch::Sender<Position>,
    /// Position after the last written record, which may not be durable yet.
    end: Position,
    /// Receive time of the last written record.
    received_at: Timestamp,
    sequences: RecentSequences,
    /// Frames that are written but not yet synced; empty after each commit unless there is a sync
    /// interval.
    unsynced: Vec<JournalFrame>,
    synced_at: Duration,
    // Dropped after the tree, as in `SledJournal`.
    store: Arc<DataStore>,
}

impl CommitThread {
    pub(super) fn new(
        store: Arc<DataStore>,
        tree: sled::Tree,
        limits: JournalLimits,
        clock: Arc<dyn Clock>,
        recent: Arc<RecentFrames>,
        durable_end: watch::Sender<Position>,
        received_at: Timestamp,
    ) -> Self {
        let end = *durable_end.borrow();
        let synced_at = clock.monotonic();
        let (sequences, unsynced) = (RecentSequences::default(), Vec::new());
        Self {
            store,
            tree,
            limits,
            clock,
            recent,
            durable_end,
            end,
            received_at,
            sequences,
            unsynced,
            synced_at,
        }
    }

    /// Commits submissions until the queue is closed and empty, or the store fails.
    pub(super) fn run_until_closed(
        mut self,
        queue: &Receiver<JournalSubmission>,
    ) -> Result<(), sled::Error> {
        loop {
            let first = match self.limits.sync_interval {
                Some(interval) if !self.unsynced.is_empty() => {
                    match queue.recv_timeout(self.time_until_sync(interval)) {
                        Ok(submission) => submission,
                        Err(RecvTimeoutError::Timeout) => {
                            self.sync_frames()?;
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
                _ => match queue.recv() {
                    Ok(submission) => submission,
                    Err(_) => break,
                },
            };
            self.commit_queued(first, queue)?;
        }
        self.sync_frames()
    }

    /// Commits `first` and the submissions queued behind it, up to the bounds of one commit.
    fn commit_queued(
        &mut self,
        first: JournalSubmission,
        queue: &Receiver<JournalSubmission>,
    ) -> Result<(), sled::Error> {
        let mut entries = Vec::new();
        let mut settlements: Vec<QueuedSettlement> = Vec::new();
        let mut bytes = 0;

        // Gather as many submissions as one commit may hold: they share one sync.
        let mut next = Some(first);
        while let Some(submission) = next {
            let outcome = self
                .sequences
                .check_and_record(&submission.drafts)
                .map(|()| self.end.plus(entries.len() as u64));
            if outcome.is_ok() {
                for draft in submission.drafts {
                    bytes += draft.bytes.len();
                    // Actors on several threads take the time before they queue, so receive times
                    // can arrive out of order. Followers rely on times that never go backwards.
                    self.received_at = self.received_at.max(draft.received_at);
                    entries.push(FrameEntry {
                        received_at: self.received_at,
                        bytes: draft.bytes.into(),
                    });
                }
            }
            settlements.push(QueuedSettlement {
                outcome,
                on_settled: submission.settle,
            });
            let is_full =
                entries.len() >= self.limits.commit_records || bytes >= self.limits.commit_bytes;
            next = if is_full { None } else { queue.try_recv().ok() };
        }

        self.write_frames(entries)?;

        // Sync before settling: a settled submission is a promise to survive a crash.
        let is_sync_due = self
            .limits
            .sync_interval
            .is_none_or(|interval| self.time_until_sync(interval).is_zero());
        if is_sync_due {
            self.sync_frames()?;
        } else {
            // With a sync interval, answered events survive a crash of the process, but not
            // necessarily a power failure.
            self.store.flush()?;
        }

        settlements.into_iter().for_each(QueuedSettlement::settle);
        Ok(())
    }

    /// Writes `entries` as frames, without syncing them.
    fn write_frames(&mut self, entries: Vec<FrameEntry>) -> Result<(), sled::Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let count = entries.len() as u64;
        let frames = frame::gather_frames(self.end, self.clock.wall(), entries);
        for (key, value) in frame::encode_frames(&frames) {
            self.store.failure_injector().evaluate(Failpoint::Put)?;
            self.tree.insert(key, value)?;
        }
        self.end = self.end.plus(count);
        self.unsynced.extend(frames);
        Ok(())
    }

    fn time_until_sync(&self, interval: Duration) -> Duration {
        (self.synced_at + interval).saturating_sub(self.clock.monotonic())
    }

    /// Syncs the written frames, then publishes the new durable end to the followers.
    fn sync_frames(&mut self) -> Result<(), sled::Error> {
        self.synced_at = self.clock.monotonic();
        if self.unsynced.is_empty() {
            return Ok(());
        }
        self.store.sync()?;
        self.recent.push(mem::take(&mut self.unsynced));
        self.durable_end.send_replace(self.end);
        Ok(())
    }
}

/// Result of one submission, which is reported after the commit.
struct QueuedSettlement {
    outcome: SubmissionResult,
    on_settled: Box<dyn FnOnce(SubmissionResult) + Send>,
}

impl QueuedSettlement {
    fn settle(self) {
        if let Err(error) = &self.outcome {
            error!(
                entity = %error.entity,
                last_sequence = error.last,
                sequence = error.found,
                "record rejected: sequence number does not follow the last one",
            );
        }
        (self.on_settled)(self.outcome);
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
