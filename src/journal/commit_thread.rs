//! The commit thread: takes what is queued, writes it as one chain of frames, syncs, and settles.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::error;

use super::frame::{self, FrameEntry, JournalFrame};
use super::recent_frames::{JournalLimits, RecentFrames};
use super::store::DataStore;
use super::submission::{JournalSubmission, RecordDraft, SequenceError, SubmissionResult};
use crate::clock::Clock;
use crate::event::{EntityKey, Position, Timestamp};
use crate::failpoints::Failpoint;

/// Entities whose newest number is remembered, to catch two actors writing for one entity.
const REMEMBERED_MAX: usize = 32 * 1024;

pub(super) struct CommitThread {
    tree: sled::Tree,
    limits: JournalLimits,
    clock: Arc<dyn Clock>,
    recent: Arc<RecentFrames>,
    durable_end: watch::Sender<Position>,
    end: Position,
    received_at: Timestamp,
    sequences: RecentSequences,
    /// Frames that are put but not yet synced; only with a sync interval.
    unsynced: Vec<JournalFrame>,
    synced_at: Duration,
    // Dropped after the tree, as in `Log`.
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

    /// Commits until the queue is closed and empty, or the store fails.
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

    fn commit_queued(
        &mut self,
        first: JournalSubmission,
        queue: &Receiver<JournalSubmission>,
    ) -> Result<(), sled::Error> {
        let mut entries = Vec::new();
        let mut settlements: Vec<QueuedSettlement> = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(submission) = next {
            let outcome = self
                .sequences
                .check_and_note(&submission.drafts)
                .map(|()| self.end.plus(entries.len() as u64));
            if outcome.is_ok() {
                for draft in submission.drafts {
                    bytes += draft.bytes.len();
                    // Actors stamp before they queue, and several threads queue: the log's order
                    // has the last word.
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
            let full =
                entries.len() >= self.limits.commit_records || bytes >= self.limits.commit_bytes;
            next = if full { None } else { queue.try_recv().ok() };
        }
        self.write_frames(entries)?;
        let due = self
            .limits
            .sync_interval
            .is_none_or(|interval| self.time_until_sync(interval).is_zero());
        if due {
            self.sync_frames()?;
        } else {
            // The end of the process must cost nothing that was answered; only the disk may lag.
            self.store.flush()?;
        }
        settlements.into_iter().for_each(QueuedSettlement::settle);
        Ok(())
    }

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

    /// Makes what was written durable and shows it to the followers.
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

struct QueuedSettlement {
    outcome: SubmissionResult,
    on_settled: Box<dyn FnOnce(SubmissionResult) + Send>,
}

impl QueuedSettlement {
    fn settle(self) {
        if let Err(refusal) = &self.outcome {
            error!(entity = %refusal.entity, last = refusal.last, found = refusal.found, "record out of sequence refused");
        }
        (self.on_settled)(self.outcome);
    }
}

/// The newest number of entities that wrote lately, in two generations so that forgetting is cheap.
///
/// An entity that is not remembered is believed: the check is there to catch two actors of one
/// entity, which would be writing at the same time.
#[derive(Default)]
struct RecentSequences {
    young: HashMap<EntityKey, u64>,
    old: HashMap<EntityKey, u64>,
}

impl RecentSequences {
    fn check_and_note(&mut self, drafts: &[RecordDraft]) -> Result<(), SequenceError> {
        // Checked as a whole before any is noted: a submission is written whole or not at all.
        let mut within: Vec<(&EntityKey, u64)> = Vec::new();
        for draft in drafts {
            let Some(found) = draft.sequence else {
                continue;
            };
            let earlier = within
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
            within.push((&draft.entity, found));
        }
        for (entity, sequence) in within {
            self.note_sequence(entity.clone(), sequence);
        }
        Ok(())
    }

    fn last_sequence(&self, entity: &EntityKey) -> Option<u64> {
        self.young
            .get(entity)
            .or_else(|| self.old.get(entity))
            .copied()
    }

    fn note_sequence(&mut self, entity: EntityKey, sequence: u64) {
        if self.young.len() >= REMEMBERED_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(entity, sequence);
    }
}
