//! The writer thread and the buffer before it: about once a second, or when many bytes are pending,
//! writes new blocks and removes evicted blocks.
//!
//! A block and its summary are one batch, so a crash leaves both or neither. Rows of this opening
//! stay invisible until its mark is written: otherwise their ids could be used again after a crash.
//! An opening without rows writes nothing.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;
use tracing::warn;

use super::block::{self, BlockSummary, CallClass};
use super::ring::DirtyBlock;
use super::ring_set::{RingKind, RingSet};
use crate::derived::{DerivedBatch, DerivedStoreError, DerivedTree};
use crate::failpoints::Failpoint;

/// Longest time that a row waits for the disk; `kill -9` loses at most the rows of this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pending bytes that are written at once, without waiting for [`INTERVAL`].
const PRESSING_BYTES: usize = 2 * 1024 * 1024;
/// Pending bytes at which the disk counts as stuck, and new rows are dropped.
const WAITING_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most ids whose rows are not written yet. After a crash, ids this far above the last written one
/// may have been shown, and all higher ids cannot.
pub(super) const UNWRITTEN_MAX: u64 = 65_536;

/// Rings and progress that the appending, the reading and the writing threads share.
pub(super) struct CallBuffer {
    state: Mutex<CallBufferState>,
    work_available: Condvar,
    /// Id below which all rows have been handed to the operating system.
    written: watch::Sender<u64>,
    /// Becomes true when the mark of this opening is written.
    marked: watch::Sender<bool>,
    /// First id that this opening gives out.
    first_id: u64,
}

struct CallBufferState {
    rings: RingSet,
    /// Set while the rings differ from the disk.
    is_dirty: bool,
    /// Set while a caller waits for the next write.
    is_flush_requested: bool,
    is_closed: bool,
    /// Id below which all rows are written.
    written: u64,
    /// Rows that were dropped since the last write.
    dropped: u64,
}

impl CallBuffer {
    pub(super) fn new(rings: RingSet) -> Self {
        let first_id = rings.next_id();
        // A lowered limit evicts blocks at the start, which have to be removed from the disk.
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

    /// Gives the row its id and keeps it. Drops the row when the disk is too far behind.
    pub(super) fn append(&self, kind: RingKind, class: CallClass, row: &[u8]) {
        let mut state = self.lock_state();
        if state.is_closed {
            return;
        }

        // A stuck disk must cost neither the caller's time nor unbounded memory.
        let waiting = state.rings.waiting_bytes();
        if waiting >= WAITING_MAX_BYTES || state.rings.next_id() - state.written >= UNWRITTEN_MAX {
            state.dropped += 1;
            let is_first = state.dropped == 1;
            drop(state);
            if is_first {
                warn!("call log buffer full; dropping rows");
            }
            return;
        }

        state.rings.push_row(kind, class, row);
        let was_clean = !mem::replace(&mut state.is_dirty, true);
        let is_now_pressing =
            waiting < PRESSING_BYTES && state.rings.waiting_bytes() >= PRESSING_BYTES;
        drop(state);

        // Waking the writer costs a system call, so rows between these two moments do not.
        if was_clean || is_now_pressing {
            self.work_available.notify_one();
        }
    }

    /// Watches the id below which all rows have been handed to the operating system.
    pub(super) fn watch_written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Watches if the mark of this opening is written. Returns `None` while there are no rows that
    /// need the mark.
    pub(super) fn watch_marked(&self) -> Option<watch::Receiver<bool>> {
        (self.lock_state().rings.next_id() > self.first_id).then(|| self.marked.subscribe())
    }

    /// Asks the writer to write all present rows soon. Returns the id below which they are.
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

    /// Runs `read` on the rings. Appending waits meanwhile, so `read` must not wait for the disk.
    pub(super) fn with_rings<T>(&self, read: impl FnOnce(&RingSet) -> T) -> T {
        read(&self.lock_state().rings)
    }

    fn lock_state(&self) -> MutexGuard<'_, CallBufferState> {
        self.state.lock()
    }

    /// Waits until the rings are dirty or the call log is to close. Returns `true` if they are
    /// dirty.
    fn wait_for_work(&self) -> bool {
        let idle = |state: &mut CallBufferState| !state.is_dirty && !state.is_closed;
        let mut state = self.lock_state();
        self.work_available.wait_while(&mut state, idle);
        state.is_dirty
    }

    /// Waits until the rings are dirty and have gathered rows for a while, or the call log is to
    /// close. Returns `true` if the call log is to close.
    fn wait_for_batch(&self) -> bool {
        let idle = |state: &mut CallBufferState| !state.is_dirty && !state.is_closed;
        let mut state = self.lock_state();
        self.work_available.wait_while(&mut state, idle);

        let may_gather = |state: &mut CallBufferState| {
            !state.is_closed
                && !state.is_flush_requested
                && state.rings.waiting_bytes() < PRESSING_BYTES
        };
        self.work_available
            .wait_while_for(&mut state, may_gather, INTERVAL);
        state.is_closed
    }
}

/// Block that was written, with the summaries of the values that store it.
struct WrittenBlock {
    block: DirtyBlock,
    parts: Vec<BlockSummary>,
}

pub(super) struct CallLogWriter {
    shared: Arc<CallBuffer>,
    tree: DerivedTree,
}

impl CallLogWriter {
    pub(super) fn new(shared: Arc<CallBuffer>, tree: DerivedTree) -> Self {
        Self { shared, tree }
    }

    /// Writes until the call log is closed or the store fails.
    pub(super) fn run(self) -> Result<(), DerivedStoreError> {
        let outcome = self.write_until_closed();
        // After a failure no thread writes, so rows must not gather in memory.
        self.shared.lock_state().is_closed = true;
        outcome
    }

    fn write_until_closed(&self) -> Result<(), DerivedStoreError> {
        if !self.shared.wait_for_work() {
            return Ok(());
        }

        // The mark precedes the rows, so that a crash from here on skips the ids that were shown.
        self.write_mark(false, self.shared.first_id)?;
        self.shared.marked.send_replace(true);

        while !self.shared.wait_for_batch() {
            self.write_pending()?;
        }
        self.write_pending()?;
        self.write_mark(true, self.shared.with_rings(RingSet::next_id))
    }

    fn write_mark(&self, is_closed: bool, next: u64) -> Result<(), DerivedStoreError> {
        self.tree.store().evaluate(Failpoint::CallLogWrite)?;
        self.tree
            .insert(block::MARK, block::encode_mark(is_closed, next))?;
        self.tree.store().flush()
    }

    fn write_pending(&self) -> Result<(), DerivedStoreError> {
        let mut state = self.shared.lock_state();
        (state.is_dirty, state.is_flush_requested) = (false, false);
        let (next, unwritten, removed) = (
            state.rings.next_id(),
            state.rings.dirty_blocks(),
            state.rings.take_removed(),
        );
        drop(state);

        // The lock is free from here on: appending never waits for the disk.
        self.tree.store().evaluate(Failpoint::CallLogWrite)?;
        let mut written = Vec::with_capacity(unwritten.len());
        for block in unwritten {
            let parts = self.write_block(&block)?;
            written.push(WrittenBlock { block, parts });
        }
        for (ring, first) in removed {
            self.remove_block(ring, first)?;
        }

        // Published only after the flush: readers wait for rows that survive the process.
        self.tree.store().flush()?;
        self.publish_written(next, &written);
        Ok(())
    }

    fn write_block(&self, block: &DirtyBlock) -> Result<Vec<BlockSummary>, DerivedStoreError> {
        let mut batch = DerivedBatch::default();
        let mut parts = Vec::new();
        for (summary, value) in block::encode_blocks(block.summary, &block.body) {
            batch.insert(block::block_key(block.ring, summary.first), value);
            batch.insert(
                block::summary_key(block.ring, summary.first),
                summary.encode(),
            );
            parts.push(summary);
        }
        // A batch blocks other writers of the store. A batch of two small values blocks them no
        // longer than two single writes would.
        self.tree.apply_batch(batch)?;
        Ok(parts)
    }

    fn remove_block(&self, ring: u8, first: u64) -> Result<(), DerivedStoreError> {
        let mut batch = DerivedBatch::default();
        batch.remove(block::block_key(ring, first));
        batch.remove(block::summary_key(ring, first));
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
            warn!(dropped, "call log caught up after dropping rows");
        }
    }
}
