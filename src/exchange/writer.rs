//! The writer's thread: about once a second, or as soon as much waits, puts what the disk has not, and removes what the
//! rings have not.
//!
//! A block and its summary are put as one batch, so that a crash leaves both or neither. Until the mark of this opening is
//! written, nobody may see a row of it: its number could come again after a crash. An opening without rows writes nothing.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;
use tracing::warn;

use super::block::{self, Class, Summary};
use super::ring::Unwritten;
use super::rings::{Kind, Rings};
use crate::faults::Point;
use crate::journal::Store;

/// How long a row waits for the disk at most: what `kill -9` costs.
const INTERVAL: Duration = Duration::from_secs(1);
/// When this much waits it is written at once.
const PRESSING_BYTES: usize = 2 * 1024 * 1024;
/// When this much waits, the disk is stuck: new rows are dropped.
const WAITING_MAX_BYTES: usize = 16 * 1024 * 1024;
/// As many numbers are given out at most before the rows with them are written, so that after a crash it is known which
/// numbers were never seen.
pub(super) const UNWRITTEN_MAX: u64 = 65_536;

/// What the appending, the reading and the writing threads share.
pub(super) struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// The id before which everything is with the operating system.
    written: watch::Sender<u64>,
    /// Whether the mark of this opening is.
    marked: watch::Sender<bool>,
    /// The first id that this opening gives.
    begin: u64,
}

struct State {
    rings: Rings,
    /// Something is there that the disk has not.
    is_dirty: bool,
    /// Someone waits for it.
    is_wanted: bool,
    is_closed: bool,
    /// Ids below it are written.
    written: u64,
    /// Rows that found no place since the disk was last fast enough.
    dropped: u64,
}

impl Shared {
    pub(super) fn new(rings: Rings) -> Self {
        let begin = rings.next();
        // Blocks beyond a bound that was lowered have to be removed.
        let is_dirty = rings.has_removed();
        let state = State { rings, is_dirty, is_wanted: false, is_closed: false, written: begin, dropped: 0 };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            written: watch::Sender::new(begin),
            marked: watch::Sender::new(false),
            begin,
        }
    }

    /// Gives the row its number and keeps it; drops it when the disk is too far behind.
    pub(super) fn append(&self, kind: Kind, class: Class, row: &[u8]) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let waiting = state.rings.waiting_bytes();
        if waiting >= WAITING_MAX_BYTES || state.rings.next() - state.written >= UNWRITTEN_MAX {
            state.dropped += 1;
            let is_first = state.dropped == 1;
            drop(state);
            if is_first {
                warn!("the disk is too slow for the exchange log, calls go unlogged");
            }
            return;
        }
        state.rings.push(kind, class, row);
        let begins = !mem::replace(&mut state.is_dirty, true);
        let presses = waiting < PRESSING_BYTES && state.rings.waiting_bytes() >= PRESSING_BYTES;
        drop(state);
        // Waking costs a system call, so not at each row.
        if begins || presses {
            self.work.notify_one();
        }
    }

    /// The id before which everything is with the operating system, and every change of it.
    pub(super) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Whether the mark of this opening is written, and when it is; `None` while no row needs it.
    pub(super) fn marked(&self) -> Option<watch::Receiver<bool>> {
        (self.state().rings.next() > self.begin).then(|| self.marked.subscribe())
    }

    /// Asks for what is there now to be written soon; gives the id before which that is.
    pub(super) fn hurry(&self) -> u64 {
        let mut state = self.state();
        state.is_wanted = state.is_dirty;
        let next = state.rings.next();
        drop(state);
        self.work.notify_one();
        next
    }

    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.work.notify_one();
    }

    /// Looks into the rings; appending waits for as long, so nothing in it may wait for the disk.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Rings) -> T) -> T {
        look(&self.state().rings)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Returns when there is something to write, or the log is to close: whether there is.
    fn wait_for_work(&self) -> bool {
        let idle = |state: &mut State| !state.is_dirty && !state.is_closed;
        let mut state = self.state();
        self.work.wait_while(&mut state, idle);
        state.is_dirty
    }

    /// Returns when there is something to write and it has gathered for a while, or the log is to close: whether it is.
    fn wait(&self) -> bool {
        let idle = |state: &mut State| !state.is_dirty && !state.is_closed;
        let mut state = self.state();
        self.work.wait_while(&mut state, idle);
        let gathers =
            |state: &mut State| !state.is_closed && !state.is_wanted && state.rings.waiting_bytes() < PRESSING_BYTES;
        self.work.wait_while_for(&mut state, gathers, INTERVAL);
        state.is_closed
    }
}

/// One block as it was written.
struct Written {
    block: Unwritten,
    parts: Vec<Summary>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    tree: sled::Tree,
    // Dropped after the tree: a tree keeps sled's lock.
    store: Arc<Store>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, tree: sled::Tree, store: Arc<Store>) -> Self {
        Self { shared, tree, store }
    }

    /// Writes until the log is closed or the store fails.
    pub(super) fn run(self) -> Result<(), sled::Error> {
        let outcome = self.write();
        // After a failure nothing may gather in memory that nobody writes.
        self.shared.state().is_closed = true;
        outcome
    }

    fn write(&self) -> Result<(), sled::Error> {
        if !self.shared.wait_for_work() {
            return Ok(());
        }
        self.mark(false, self.shared.begin)?;
        self.shared.marked.send_replace(true);
        while !self.shared.wait() {
            self.pass()?;
        }
        self.pass()?;
        self.mark(true, self.shared.look(Rings::next))
    }

    fn mark(&self, is_closed: bool, next: u64) -> Result<(), sled::Error> {
        self.store.faults().at(Point::Log)?;
        self.tree.insert(block::MARK, block::mark(is_closed, next))?;
        self.tree.flush().map(|_| ())
    }

    fn pass(&self) -> Result<(), sled::Error> {
        let mut state = self.shared.state();
        (state.is_dirty, state.is_wanted) = (false, false);
        let (next, unwritten, removed) = (state.rings.next(), state.rings.unwritten(), state.rings.take_removed());
        drop(state);
        self.store.faults().at(Point::Log)?;
        let mut written = Vec::with_capacity(unwritten.len());
        for block in unwritten {
            let parts = self.put(&block)?;
            written.push(Written { block, parts });
        }
        for (ring, first) in removed {
            self.remove(ring, first)?;
        }
        self.tree.flush()?;
        self.settle(next, &written);
        Ok(())
    }

    fn put(&self, block: &Unwritten) -> Result<Vec<Summary>, sled::Error> {
        let mut batch = sled::Batch::default();
        let mut parts = Vec::new();
        for (summary, value) in block::values(block.summary, &block.body) {
            batch.insert(&block::block_key(block.ring, summary.first), value);
            batch.insert(&block::summary_key(block.ring, summary.first), summary.encode());
            parts.push(summary);
        }
        // A batch shuts out other writers while it is put: one of two small values does so for no longer than they would.
        self.tree.apply_batch(batch)?;
        Ok(parts)
    }

    fn remove(&self, ring: u8, first: u64) -> Result<(), sled::Error> {
        let mut batch = sled::Batch::default();
        batch.remove(&block::block_key(ring, first));
        batch.remove(&block::summary_key(ring, first));
        self.tree.apply_batch(batch)
    }

    fn settle(&self, next: u64, written: &[Written]) {
        let mut state = self.shared.state();
        for Written { block, parts } in written {
            state.rings.ring_mut(block.ring).written(block, parts);
        }
        state.written = next;
        let dropped = mem::take(&mut state.dropped);
        drop(state);
        self.shared.written.send_replace(next);
        if dropped > 0 {
            warn!(dropped, "calls went unlogged while the disk was too slow for the exchange log");
        }
    }
}
