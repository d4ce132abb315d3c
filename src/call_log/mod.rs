//! The exchange log: one row for each call of a source, also a refused one, and for each delivery.
//!
//! ```text
//!                         ┌─> kept     ─┐ blocks of rows,
//!  append ──encode──lock──┤             ├──sealed or a second old──> writer's thread ──> tree
//!                         └─> refused  ─┘ the oldest removed whole        │
//!                                │                                     summaries
//!                    list, get ──┴── where to look, from summaries; blocks read without the lock
//! ```
//!
//! Rows are a record for people, not a promise: appending never waits for the disk and never fails.
//! After a crash the rows of about the last second may be missing, and numbers have a gap there.
//! These are records of their own, which cannot be derived from the journal: `rebuild` leaves them
//! alone.

mod block;
mod page_reader;
mod redact;
mod ring;
mod ring_pair;
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
pub use page_reader::{CallPage, CallReadError};
pub use redact::REDACTED;
pub use row::{CallDirection, CallEntry, CallRow, EVENT_IDS_MAX};

use block::{BlockSummary, CallClass};
use ring::BlockRing;
use ring_pair::{RingKind, RingPair};
use tally_cache::TallyCache;
use writer::{CallBuffer, CallLogWriter, UNWRITTEN_MAX};

use crate::error_chain;
use crate::journal::DataStore;

/// The tree of the log.
const TREE: &str = "exchange";

/// Lists that are read at once, so that other readers find a thread too.
const READERS_MAX: usize = 2;

/// What the log may hold.
#[derive(Clone, Copy, Debug)]
pub struct CallLogLimits {
    /// Rows of calls that were taken and of deliveries.
    pub rows_max: u64,
    /// Rows of calls that were refused.
    pub refused_rows_max: u64,
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CallLogOpenError {
    /// The tree failed.
    #[error("cannot read the exchange log")]
    Store(#[from] sled::Error),
    /// Something in it is not as it was written.
    #[error("the exchange log is damaged at row {0}")]
    Corrupt(u64),
    /// The writer's thread could not be started.
    #[error("cannot start the exchange log's thread")]
    Thread(#[from] std::io::Error),
}

/// The exchange log of one opening of the store.
pub struct CallLog {
    shared: Arc<CallBuffer>,
    tree: sled::Tree,
    failed: watch::Receiver<Option<String>>,
    read_permits: Semaphore,
    tallies: TallyCache,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    // Dropped after the tree: a tree keeps sled's lock.
    _store: Arc<DataStore>,
}

impl std::fmt::Debug for CallLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange")
    }
}

thread_local! {
    /// Where a row is encoded before the lock is taken.
    static ROW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl CallLog {
    /// Opens the log in `store`. Nothing is written before the first row is appended.
    ///
    /// # Errors
    /// [`OpenError`] when the store fails or the log is damaged.
    pub fn open(
        store: Arc<DataStore>,
        bounds: CallLogLimits,
    ) -> Result<Arc<Self>, CallLogOpenError> {
        let tree = store.tree(TREE)?;
        let rings = load_rings(&tree, bounds)?;
        let shared = Arc::new(CallBuffer::new(rings));
        let writer = CallLogWriter::new(Arc::clone(&shared), tree.clone(), Arc::clone(&store));
        let (failed_sender, failed) = watch::channel(None);
        let thread = thread::Builder::new()
            .name("exchange".into())
            .spawn(move || {
                if let Err(error) = writer.run() {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "exchange log failed"
                    );
                    failed_sender.send_replace(Some(format!(
                        "the exchange log failed: {}",
                        error_chain::format_error_chain(&error)
                    )));
                }
            })?;
        let (places, thread) = (Semaphore::new(READERS_MAX), Mutex::new(Some(thread)));
        Ok(Arc::new(Self {
            shared,
            tree,
            failed,
            read_permits: places,
            tallies: TallyCache::default(),
            thread,
            _store: store,
        }))
    }

    /// Adds a row, with the `headers` of the request, whose names are in lower case. Values of
    /// secrets and signatures are masked. Returns at once; the row is dropped when the disk is too
    /// slow for the log.
    pub fn append<'h>(
        &self,
        entry: &CallEntry<'_>,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) {
        let is_refused = entry.direction == CallDirection::Incoming && !entry.is_successful();
        let kind = if is_refused {
            RingKind::Refused
        } else {
            RingKind::Kept
        };
        ROW.with_borrow_mut(|bytes| {
            bytes.clear();
            row::encode_row(entry, headers, bytes);
            self.shared
                .append(kind, CallClass::from_entry(entry), bytes);
        });
    }

    /// Rows that pass `filter`: those at `places`, at least one, counted from the newest. Every row
    /// that was appended before is seen.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
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

    /// Deliveries to `source` that pass `filter`: the rows at `places`, counted from the newest.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn list_deliveries(
        self: &Arc<Self>,
        source: String,
        filter: CallFilter,
        places: Range<u64>,
    ) -> Result<CallPage, CallReadError> {
        let list = move |log: &Self| {
            page_reader::read_delivery_page(
                &log.shared,
                &log.tree,
                &log.tallies,
                &source,
                filter,
                places,
            )
        };
        self.read_blocking(list).await
    }

    /// The row `id`; `None` if there is none or no more.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn get_call(self: &Arc<Self>, id: u64) -> Result<Option<CallRow>, CallReadError> {
        self.read_blocking(move |log| page_reader::read_row(&log.shared, &log.tree, id))
            .await
    }

    /// Waits until every row that was appended before this call would survive the end of the
    /// process.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the store fails first.
    pub async fn flush(&self) -> Result<(), CallReadError> {
        self.wait_written_up_to(self.shared.request_flush()).await
    }

    /// Becomes `Some` with the reason when the store failed; nothing is written after that.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Takes nothing more, writes what is there, and ends the thread. Blocks until then. What is
    /// there can still be read.
    pub fn close(&self) {
        self.shared.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic there has been logged by the hook.
            let _ = thread.join();
        }
    }

    async fn read_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> Result<T, CallReadError> + Send + 'static,
    ) -> Result<T, CallReadError> {
        let _place = self
            .read_permits
            .acquire()
            .await
            .map_err(|_| CallReadError::Cancelled)?;
        let log = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || ask(&log))
            .await
            .map_err(|_| CallReadError::Cancelled)??;
        // A row that is told of must never share its number with another one after a crash: the
        // mark sees to that.
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

    /// Waits for what the thread will say, unless it ends before.
    async fn wait_unless_failed<T>(
        &self,
        said: impl Future<Output = T>,
    ) -> Result<(), CallReadError> {
        let mut failed = self.watch_failure();
        tokio::select! {
            biased;
            _ = said => Ok(()),
            _ = failed.wait_for(Option::is_some) => Err(CallReadError::Ended),
        }
    }
}

/// Removes the whole log.
///
/// # Errors
/// sled's own.
pub fn clear_call_log(store: &DataStore) -> Result<(), sled::Error> {
    store.drop_tree(TREE)?;
    store.sync()
}

/// What the tree holds, and the next id.
fn load_rings(tree: &sled::Tree, bounds: CallLogLimits) -> Result<RingPair, CallLogOpenError> {
    let [kept, refused] = RingKind::ALL.map(|kind| load_summaries(tree, kind));
    let rings = [
        BlockRing::new(RingKind::Kept.number(), bounds.rows_max, kept?),
        BlockRing::new(
            RingKind::Refused.number(),
            bounds.refused_rows_max,
            refused?,
        ),
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
        // Numbers that were given out but not written may have been seen.
        Some((false, next)) => end.max(next) + UNWRITTEN_MAX,
    };
    Ok(RingPair::new(rings, next))
}

fn load_summaries(
    tree: &sled::Tree,
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
