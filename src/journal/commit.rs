//! The commit thread: takes what is queued, writes it as one chain of frames, syncs, and settles.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::error;

use super::frame::{self, Entry, Frame};
use super::recent::{Limits, Recent};
use super::store::Store;
use super::submission::{Draft, OutOfSequence, Settled, Submission};
use crate::clock::Clock;
use crate::event::{EntityKey, Position, Timestamp};
use crate::faults::Point;

/// Entities whose newest number is remembered, to catch two actors writing for one entity.
const REMEMBERED_MAX: usize = 32 * 1024;

pub(super) struct Committer {
    tree: sled::Tree,
    limits: Limits,
    clock: Arc<dyn Clock>,
    recent: Arc<Recent>,
    durable_end: watch::Sender<Position>,
    end: Position,
    received_at: Timestamp,
    sequences: Sequences,
    /// Frames that are put but not yet synced; only with a sync interval.
    unsynced: Vec<Frame>,
    synced_at: Duration,
    // Dropped after the tree, as in `Log`.
    store: Arc<Store>,
}

impl Committer {
    pub(super) fn new(
        store: Arc<Store>,
        tree: sled::Tree,
        limits: Limits,
        clock: Arc<dyn Clock>,
        recent: Arc<Recent>,
        durable_end: watch::Sender<Position>,
        received_at: Timestamp,
    ) -> Self {
        let end = *durable_end.borrow();
        let synced_at = clock.monotonic();
        let (sequences, unsynced) = (Sequences::default(), Vec::new());
        Self { store, tree, limits, clock, recent, durable_end, end, received_at, sequences, unsynced, synced_at }
    }

    /// Commits until the queue is closed and empty, or the store fails.
    pub(super) fn run(mut self, queue: &Receiver<Submission>) -> Result<(), sled::Error> {
        loop {
            let first = match self.limits.sync_interval {
                Some(interval) if !self.unsynced.is_empty() => match queue.recv_timeout(self.until_sync(interval)) {
                    Ok(submission) => submission,
                    Err(RecvTimeoutError::Timeout) => {
                        self.sync()?;
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                },
                _ => match queue.recv() {
                    Ok(submission) => submission,
                    Err(_) => break,
                },
            };
            self.commit(first, queue)?;
        }
        self.sync()
    }

    fn commit(&mut self, first: Submission, queue: &Receiver<Submission>) -> Result<(), sled::Error> {
        let mut entries = Vec::new();
        let mut settlements: Vec<Settlement> = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(submission) = next {
            let outcome = self.sequences.admit(&submission.drafts).map(|()| self.end.plus(entries.len() as u64));
            if outcome.is_ok() {
                for draft in submission.drafts {
                    bytes += draft.bytes.len();
                    // Actors stamp before they queue, and several threads queue: the log's order has the last word.
                    self.received_at = self.received_at.max(draft.received_at);
                    entries.push(Entry { received_at: self.received_at, bytes: draft.bytes.into() });
                }
            }
            settlements.push(Settlement { outcome, settle: submission.settle });
            let full = entries.len() >= self.limits.commit_records || bytes >= self.limits.commit_bytes;
            next = if full { None } else { queue.try_recv().ok() };
        }
        self.write(entries)?;
        let due = self.limits.sync_interval.is_none_or(|interval| self.until_sync(interval).is_zero());
        if due {
            self.sync()?;
        } else {
            // The end of the process must cost nothing that was answered; only the disk may lag.
            self.store.flush()?;
        }
        settlements.into_iter().for_each(Settlement::settle);
        Ok(())
    }

    fn write(&mut self, entries: Vec<Entry>) -> Result<(), sled::Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let count = entries.len() as u64;
        let frames = frame::gather(self.end, self.clock.wall(), entries);
        for (key, value) in frame::encode(&frames) {
            self.store.faults().at(Point::Put)?;
            self.tree.insert(key, value)?;
        }
        self.end = self.end.plus(count);
        self.unsynced.extend(frames);
        Ok(())
    }

    fn until_sync(&self, interval: Duration) -> Duration {
        (self.synced_at + interval).saturating_sub(self.clock.monotonic())
    }

    /// Makes what was written durable and shows it to the followers.
    fn sync(&mut self) -> Result<(), sled::Error> {
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

struct Settlement {
    outcome: Settled,
    settle: Box<dyn FnOnce(Settled) + Send>,
}

impl Settlement {
    fn settle(self) {
        if let Err(refusal) = &self.outcome {
            error!(entity = %refusal.entity, last = refusal.last, found = refusal.found, "record out of sequence refused");
        }
        (self.settle)(self.outcome);
    }
}

/// The newest number of entities that wrote lately, in two generations so that forgetting is cheap.
///
/// An entity that is not remembered is believed: the check is there to catch two actors of one entity, which would be
/// writing at the same time.
#[derive(Default)]
struct Sequences {
    young: HashMap<EntityKey, u64>,
    old: HashMap<EntityKey, u64>,
}

impl Sequences {
    fn admit(&mut self, drafts: &[Draft]) -> Result<(), OutOfSequence> {
        // Checked as a whole before any is noted: a submission is written whole or not at all.
        let mut within: Vec<(&EntityKey, u64)> = Vec::new();
        for draft in drafts {
            let Some(found) = draft.sequence else { continue };
            let earlier =
                within.iter().rev().find(|(entity, _)| *entity == &draft.entity).map(|(_, sequence)| *sequence);
            let last = earlier.or_else(|| self.last(&draft.entity));
            if let Some(last) = last.filter(|last| last + 1 != found) {
                return Err(OutOfSequence { entity: draft.entity.clone(), last, found });
            }
            within.push((&draft.entity, found));
        }
        for (entity, sequence) in within {
            self.note(entity.clone(), sequence);
        }
        Ok(())
    }

    fn last(&self, entity: &EntityKey) -> Option<u64> {
        self.young.get(entity).or_else(|| self.old.get(entity)).copied()
    }

    fn note(&mut self, entity: EntityKey, sequence: u64) {
        if self.young.len() >= REMEMBERED_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(entity, sequence);
    }
}
