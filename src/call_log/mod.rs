//! The call log: one row for each call of a source, accepted or refused, for each delivery attempt,
//! and for each enrichment call.
//!
//! ```text
//!                         ┌─> kept ring    ─┐ blocks of rows:
//!  append ──encode──lock──┼─> refused ring ─┼─ sealed, or 1 s old ──> writer thread ──> tree
//!                         └─> failed ring  ─┘ oldest block evicted         │
//!                                │                                     summaries
//!  list_calls, ──plan by summaries┴─ then blocks are read without the lock
//!  get_call
//! ```
//!
//! Rows are a record for people, not a promise: appending never waits for the disk and never fails.
//! After a crash the rows of about the last second may be missing, and the ids have a gap there.
//! The journal does not hold these rows, so `rebuild` leaves them alone.

mod block;
mod erase;
mod event_search;
mod page_reader;
mod redact;
mod ring;
mod ring_set;
mod row;
mod tally_cache;
#[cfg(test)]
mod tests;
mod varint;
mod writer;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tracing::error;

pub use block::CallFilter;
pub use erase::erase_calls;
pub use event_search::EventCalls;
pub use page_reader::{CallPage, CallReadError};
pub use redact::REDACTED;
pub use row::{CallDirection, CallEntry, CallRow, EVENT_IDS_MAX};

use block::{BlockSummary, CallClass};
use ring::BlockRing;
use ring_set::{RingKind, RingSet};
use tally_cache::TallyCache;
use writer::{CallBuffer, CallLogWriter, UNWRITTEN_MAX};

use crate::derived::{DerivedStore, DerivedStoreError, DerivedTree};
use crate::error_chain;
use crate::event::{EventId, Timestamp};

/// Name of the tree, older than the name "call log"; a new name would lose the rows of stores.
const TREE: &str = "exchange";

/// Most reads at the same time, so that readers of other stages find a blocking thread too.
const READERS_MAX: usize = 2;

/// Bounds of the call log; the oldest rows beyond a bound are removed.
#[derive(Clone, Copy, Debug)]
pub struct CallLogLimits {
    /// Most rows of accepted calls and of accepted deliveries.
    pub rows_max: u64,
    /// Most rows of refused calls.
    pub refused_rows_max: u64,
    /// Most rows of calls of this node that failed.
    pub failed_rows_max: u64,
}

/// Failure to open the call log.
#[derive(Debug, thiserror::Error)]
pub enum CallLogOpenError {
    /// The store failed while the summaries were read.
    #[error("cannot read the call log")]
    Store(#[from] DerivedStoreError),
    /// A summary or the mark is malformed.
    #[error("the call log is damaged at row {0}")]
    Corrupt(u64),
    /// The writer thread could not be started.
    #[error("cannot start the call log's thread")]
    Thread(#[from] std::io::Error),
}

/// The call log of one opening of the store.
pub struct CallLog {
    shared: Arc<CallBuffer>,
    tree: DerivedTree,
    failed: watch::Receiver<Option<String>>,
    read_permits: Semaphore,
    tallies: TallyCache,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for CallLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallLog")
    }
}

thread_local! {
    /// Buffer for a row, which is encoded before the lock is taken.
    static ROW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl CallLog {
    /// Opens the call log in `store` and starts its writer thread. Writes nothing before the first
    /// row is appended.
    ///
    /// # Errors
    /// [`CallLogOpenError`] when the store fails or the call log is damaged.
    pub fn open(
        store: &Arc<DerivedStore>,
        limits: CallLogLimits,
    ) -> Result<Arc<Self>, CallLogOpenError> {
        let tree = store.tree(TREE)?;
        let rings = load_rings(&tree, limits)?;
        let shared = Arc::new(CallBuffer::new(rings));
        let writer = CallLogWriter::new(Arc::clone(&shared), tree.clone());
        let (failed_sender, failed) = watch::channel(None);
        let thread = thread::Builder::new()
            .name("call-log".into())
            .spawn(move || {
                if let Err(error) = writer.run() {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "call log writer failed"
                    );
                    failed_sender.send_replace(Some(format!(
                        "the call log failed: {}",
                        error_chain::format_error_chain(&error)
                    )));
                }
            })?;
        Ok(Arc::new(Self {
            shared,
            tree,
            failed,
            read_permits: Semaphore::new(READERS_MAX),
            tallies: TallyCache::default(),
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Adds a row with the `headers` of the request, whose names are in lower case. Redacts the
    /// values of secrets and signatures. Returns at once; the row is dropped when the disk is too
    /// slow.
    pub fn append<'h>(
        &self,
        entry: &CallEntry<'_>,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) {
        // Refused calls, which anyone can make, must not push out the rows of accepted calls, and
        // nor must the successes of one subscriber push out the failures of another.
        let kind = match (entry.is_successful(), entry.direction) {
            (true, _) => RingKind::Kept,
            (false, CallDirection::Incoming) => RingKind::Refused,
            (false, CallDirection::Outgoing) => RingKind::Failed,
        };
        self.append_to(kind, entry, headers);
    }

    /// Adds the row of a call that was answered without any proof of its sender. Like a refused call,
    /// anyone can make it.
    pub fn append_unproven<'h>(
        &self,
        entry: &CallEntry<'_>,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) {
        self.append_to(RingKind::Refused, entry, headers);
    }

    fn append_to<'h>(
        &self,
        kind: RingKind,
        entry: &CallEntry<'_>,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) {
        ROW.with_borrow_mut(|bytes| {
            bytes.clear();
            row::encode_row(entry, headers, bytes);
            self.shared
                .append(kind, CallClass::from_entry(entry), bytes);
        });
    }

    /// Returns the rows at `places` of those that pass `filter`, counted from the newest; at least
    /// one place. Sees every row that was appended before.
    ///
    /// # Errors
    /// [`CallReadError`] when the store fails.
    pub async fn list_calls(
        self: &Arc<Self>,
        filter: CallFilter,
        places: Range<u64>,
    ) -> Result<CallPage, CallReadError> {
        self.read_blocking(move |log| {
            page_reader::read_page(&log.shared, &log.tree, filter, places)
        })
        .await
    }

    /// Returns the rows at `places` of the deliveries to `subscriber` that pass `filter`, counted
    /// from the newest.
    ///
    /// # Errors
    /// [`CallReadError`] when the store fails.
    pub async fn list_deliveries(
        self: &Arc<Self>,
        subscriber: String,
        filter: CallFilter,
        places: Range<u64>,
    ) -> Result<CallPage, CallReadError> {
        let list = move |log: &Self| {
            page_reader::read_delivery_page(
                &log.shared,
                &log.tree,
                &log.tallies,
                &subscriber,
                filter,
                places,
            )
        };
        self.read_blocking(list).await
    }

    /// Returns the deliveries of `event`, which was received at `received_at`, oldest first.
    ///
    /// # Errors
    /// [`CallReadError`] when the store fails.
    pub async fn find_event_calls(
        self: &Arc<Self>,
        event: EventId,
        received_at: Timestamp,
    ) -> Result<EventCalls, CallReadError> {
        self.read_blocking(move |log| {
            event_search::find_event_calls(&log.shared, &log.tree, event, received_at)
        })
        .await
    }

    /// Returns the row `id`, or `None` if there is no such row, or no longer.
    ///
    /// # Errors
    /// [`CallReadError`] when the store fails.
    pub async fn get_call(self: &Arc<Self>, id: u64) -> Result<Option<CallRow>, CallReadError> {
        self.read_blocking(move |log| page_reader::read_row(&log.shared, &log.tree, id))
            .await
    }

    /// Writes the rows that were appended before this call, and returns when they would survive the
    /// end of the process.
    ///
    /// # Errors
    /// [`CallReadError::Ended`] when the store fails first.
    pub async fn flush(&self) -> Result<(), CallReadError> {
        self.wait_written_up_to(self.shared.request_flush()).await
    }

    /// Watches for a failure of the store: `Some` with the reason. Nothing is written after that.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Refuses new rows, writes the pending rows, and ends the thread. Blocks until then. Rows can
    /// still be read.
    pub fn close(&self) {
        self.shared.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // The panic hook has logged a panic of that thread.
            let _ = thread.join();
        }
    }

    async fn read_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<T, CallReadError> + Send + 'static,
    ) -> Result<T, CallReadError> {
        let _permit = self
            .read_permits
            .acquire()
            .await
            .map_err(|_| CallReadError::Cancelled)?;
        let log = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || read(&log))
            .await
            .map_err(|_| CallReadError::Cancelled)??;

        // A row that was shown must never share its id with another row after a crash. The mark
        // guarantees that, so the answer waits for it.
        if let Some(mut marked) = self.shared.watch_marked() {
            self.wait_unless_failed(marked.wait_for(|marked| *marked))
                .await?;
        }
        Ok(found)
    }

    async fn wait_written_up_to(&self, id: u64) -> Result<(), CallReadError> {
        let mut written = self.shared.watch_written();
        self.wait_unless_failed(written.wait_for(|written| *written >= id))
            .await
    }

    /// Waits for `progress` of the writer thread, unless the thread fails before.
    async fn wait_unless_failed<T>(
        &self,
        progress: impl Future<Output = T>,
    ) -> Result<(), CallReadError> {
        let mut failed = self.watch_failure();
        tokio::select! {
            biased;
            _ = progress => Ok(()),
            _ = failed.wait_for(Option::is_some) => Err(CallReadError::Ended),
        }
    }
}

/// Removes all rows of the call log from the store.
///
/// # Errors
/// [`DerivedStoreError`] when the store cannot be written.
pub fn clear_call_log(store: &DerivedStore) -> Result<(), DerivedStoreError> {
    store.drop_tree(TREE)?;
    store.sync()
}

/// Loads the summaries of all rings and the next id from the tree.
fn load_rings(tree: &DerivedTree, limits: CallLogLimits) -> Result<RingSet, CallLogOpenError> {
    let [kept, refused, failed] = RingKind::ALL.map(|kind| load_summaries(tree, kind));
    let rings = [
        BlockRing::new(RingKind::Kept.number(), limits.rows_max, kept?),
        BlockRing::new(
            RingKind::Refused.number(),
            limits.refused_rows_max,
            refused?,
        ),
        BlockRing::new(RingKind::Failed.number(), limits.failed_rows_max, failed?),
    ];

    let end = rings
        .iter()
        .map(BlockRing::end_id)
        .max()
        .unwrap_or_default();
    let mark = tree.get(block::MARK)?;
    let mark = mark
        .map(|mark| block::decode_mark(&mark).ok_or(CallLogOpenError::Corrupt(end)))
        .transpose()?;
    let next = match mark {
        None => end.max(1),
        Some((true, next)) => end.max(next),
        // After a crash: ids that were given out but not written may have been shown.
        Some((false, next)) => end.max(next) + UNWRITTEN_MAX,
    };
    Ok(RingSet::new(rings, next))
}

fn load_summaries(
    tree: &DerivedTree,
    kind: RingKind,
) -> Result<Vec<BlockSummary>, CallLogOpenError> {
    let mut summaries = Vec::new();
    for row in tree.scan_prefix(block::summary_prefix(kind.number())) {
        let (key, value) = row?;
        let first = block::parse_first_id(&key).unwrap_or_default();
        summaries
            .push(BlockSummary::decode(first, &value).ok_or(CallLogOpenError::Corrupt(first))?);
    }
    Ok(summaries)
}
