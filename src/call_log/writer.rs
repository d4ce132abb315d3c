//! The writer's thread: about once a second, or as soon as much waits, puts what the disk has not,
//! and removes what the rings have not.
//!
//! A block and its summary are put as one batch, so that a crash leaves both or neither. Until the
//! mark of this opening is written, nobody may see a row of it: its number could come again after a
//! crash. An opening without rows writes nothing.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;
use tracing::warn;

use super::block::{self, BlockSummary, CallClass};
use super::ring::DirtyBlock;
use super::ring_pair::{RingKind, RingPair};
use crate::failpoints::Failpoint;
use crate::journal::DataStore;

/// How long a row waits for the disk at most: what `kill -9` costs.
const INTERVAL: Duration = Duration::from_secs(1);
/// When this much waits it is written at once.
const PRESSING_BYTES: usize = 2 * 1024 * 1024;
/// When this much waits, the disk is stuck: new rows are dropped.
const WAITING_MAX_BYTES: usize = 16 * 1024 * 1024;
/// As many numbers are given out at most before the rows with them are written, so that after a
/// crash it is known which numbers were never seen.
pub(super) const UNWRITTEN_MAX: u64 = 65_536;

/// What the appending, the reading and the writing threads share.
pub(super) struct CallBuffer {
    state: Mutex<CallBufferState>,
    work_available: Condvar,
    /// The id before which everything is with the operating system.
    written: watch::Sender<u64>,
    /// Whether the mark of this opening is.
    marked: watch::Sender<bool>,
    /// The first id that this opening gives.
    first_id: u64,
}

struct CallBufferState {
    rings: RingPair,
    /// Something is there that the disk has not.
    is_dirty: bool,
    /// Someone waits for it.
    is_flush_requested: bool,
    is_closed: bool,
    /// Ids below it are written.
    written: u64,
    /// Rows that found no place since the disk was last fast enough.
    dropped: u64,
}

impl CallBuffer {
    pub(super) fn new(rings: RingPair) -> Self {
        let first_id = rings.next_id();
        // Blocks beyond a bound that was lowered have to be removed.
        let is_dirty = rings.has_removed();
        let state = CallBufferState {
            rings,
            is_dirty,
            is_flush_requested: false,
            is_closed: false,
            written: first_id,
            dropped: 0,
        };
        Self {
            state: Mutex::new(state),
            work_available: Condvar::new(),
            written: watch::Sender::new(first_id),
            marked: watch::Sender::new(false),
            first_id,
        }
    }

    /// Gives the row its number and keeps it; drops it when the disk is too far behind.
    pub(super) fn append(&self, kind: RingKind, class: CallClass, row: &[u8]) {
        let mut state = self.lock_state();
        if state.is_closed {
            return;
        }
        let waiting = state.rings.waiting_bytes();
        if waiting >= WAITING_MAX_BYTES || state.rings.next_id() - state.written >= UNWRITTEN_MAX {
            state.dropped += 1;
            let is_first = state.dropped == 1;
            drop(state);
            if is_first {
                warn!("the disk is too slow for the exchange log, calls go unlogged");
            }
            return;
        }
        state.rings.push_row(kind, class, row);
        let begins = !mem::replace(&mut state.is_dirty, true);
        let presses = waiting < PRESSING_BYTES && state.rings.waiting_bytes() >= PRESSING_BYTES;
        drop(state);
        // Waking costs a system call, so not at each row.
        if begins || presses {
            self.work_available.notify_one();
        }
    }

    /// The id before which everything is with the operating system, and every change of it.
    pub(super) fn watch_written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Whether the mark of this opening is written, and when it is; `None` while no row needs it.
    pub(super) fn watch_marked(&self) -> Option<watch::Receiver<bool>> {
        (self.lock_state().rings.next_id() > self.first_id).then(|| self.marked.subscribe())
    }

    /// Asks for what is there now to be written soon; gives the id before which that is.
    pub(super) fn request_flush(&self) -> u64 {
        let mut state = self.lock_state();
        state.is_flush_requested = state.is_dirty;
        let next = state.rings.next_id();
        drop(state);
        self.work_available.notify_one();
        next
    }

    pub(super) fn close(&self) {
        self.lock_state().is_closed = true;
        self.work_available.notify_one();
    }

    /// Looks into the rings; appending waits for as long, so nothing in it may wait for the disk.
    pub(super) fn with_rings<T>(&self, look: impl FnOnce(&RingPair) -> T) -> T {
        look(&self.lock_state().rings)
    }

    fn lock_state(&self) -> MutexGuard<'_, CallBufferState> {
        self.state.lock()
    }

    /// Returns when there is something to write, or the log is to close: whether there is.
    fn wait_for_work(&self) -> bool {
        let idle = |state: &mut CallBufferState| !state.is_dirty && !state.is_closed;
        let mut state = self.lock_state();
        self.work_available.wait_while(&mut state, idle);
        state.is_dirty
    }

    /// Returns when there is something to write and it has gathered for a while, or the log is to
    /// close: whether it is.
    fn wait_for_batch(&self) -> bool {
        let idle = |state: &mut CallBufferState| !state.is_dirty && !state.is_closed;
        let mut state = self.lock_state();
        self.work_available.wait_while(&mut state, idle);
        let gathers = |state: &mut CallBufferState| {
            !state.is_closed
                && !state.is_flush_requested
                && state.rings.waiting_bytes() < PRESSING_BYTES
        };
        self.work_available
            .wait_while_for(&mut state, gathers, INTERVAL);
        state.is_closed
    }
}

/// One block as it was written.
struct WrittenBlock {
    block: DirtyBlock,
    parts: Vec<BlockSummary>,
}

pub(super) struct CallLogWriter {
    shared: Arc<CallBuffer>,
    tree: sled::Tree,
    // Dropped after the tree: a tree keeps sled's lock.
    store: Arc<DataStore>,
}

impl CallLogWriter {
    pub(super) fn new(shared: Arc<CallBuffer>, tree: sled::Tree, store: Arc<DataStore>) -> Self {
        Self {
            shared,
            tree,
            store,
        }
    }

    /// Writes until the log is closed or the store fails.
    pub(super) fn run(self) -> Result<(), sled::Error> {
        let outcome = self.write_until_closed();
        // After a failure nothing may gather in memory that nobody writes.
        self.shared.lock_state().is_closed = true;
        outcome
    }

    fn write_until_closed(&self) -> Result<(), sled::Error> {
        if !self.shared.wait_for_work() {
            return Ok(());
        }
        self.write_mark(false, self.shared.first_id)?;
        self.shared.marked.send_replace(true);
        while !self.shared.wait_for_batch() {
            self.write_pending()?;
        }
        self.write_pending()?;
        self.write_mark(true, self.shared.with_rings(RingPair::next_id))
    }

    fn write_mark(&self, is_closed: bool, next: u64) -> Result<(), sled::Error> {
        self.store
            .failure_injector()
            .evaluate(Failpoint::CallLogWrite)?;
        self.tree
            .insert(block::MARK, block::encode_mark(is_closed, next))?;
        self.tree.flush().map(|_| ())
    }

    fn write_pending(&self) -> Result<(), sled::Error> {
        let mut state = self.shared.lock_state();
        (state.is_dirty, state.is_flush_requested) = (false, false);
        let (next, unwritten, removed) = (
            state.rings.next_id(),
            state.rings.dirty_blocks(),
            state.rings.take_removed(),
        );
        drop(state);
        self.store
            .failure_injector()
            .evaluate(Failpoint::CallLogWrite)?;
        let mut written = Vec::with_capacity(unwritten.len());
        for block in unwritten {
            let parts = self.write_block(&block)?;
            written.push(WrittenBlock { block, parts });
        }
        for (ring, first) in removed {
            self.remove_block(ring, first)?;
        }
        self.tree.flush()?;
        self.publish_written(next, &written);
        Ok(())
    }

    fn write_block(&self, block: &DirtyBlock) -> Result<Vec<BlockSummary>, sled::Error> {
        let mut batch = sled::Batch::default();
        let mut parts = Vec::new();
        for (summary, value) in block::encode_blocks(block.summary, &block.body) {
            batch.insert(&block::block_key(block.ring, summary.first), value);
            batch.insert(
                &block::summary_key(block.ring, summary.first),
                summary.encode(),
            );
            parts.push(summary);
        }
        // A batch shuts out other writers while it is put: one of two small values does so for no
        // longer than they would.
        self.tree.apply_batch(batch)?;
        Ok(parts)
    }

    fn remove_block(&self, ring: u8, first: u64) -> Result<(), sled::Error> {
        let mut batch = sled::Batch::default();
        batch.remove(&block::block_key(ring, first));
        batch.remove(&block::summary_key(ring, first));
        self.tree.apply_batch(batch)
    }

    fn publish_written(&self, next: u64, written: &[WrittenBlock]) {
        let mut state = self.shared.lock_state();
        for WrittenBlock { block, parts } in written {
            state.rings.ring_mut(block.ring).mark_written(block, parts);
        }
        state.written = next;
        let dropped = mem::take(&mut state.dropped);
        drop(state);
        self.shared.written.send_replace(next);
        if dropped > 0 {
            warn!(
                dropped,
                "calls went unlogged while the disk was too slow for the exchange log"
            );
        }
    }
}
