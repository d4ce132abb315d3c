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
//! Rows are a record for people, not a promise: appending never waits for the disk and never fails. After a crash the rows
//! of about the last second may be missing, and numbers have a gap there. These are records of their own, which cannot be
//! derived from the journal: `rebuild` leaves them alone.

mod block;
mod mask;
mod reads;
mod ring;
mod rings;
mod row;
mod tallies;
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

pub use block::Filter;
pub use mask::MASK;
pub use reads::{Page, Unavailable};
pub use row::{Direction, EVENT_IDS_MAX, Entry, Row};

use block::{Class, Summary};
use ring::Ring;
use rings::{Kind, Rings};
use tallies::Tallies;
use writer::{Shared, UNWRITTEN_MAX, Writer};

use crate::causes;
use crate::journal::Store;

/// The tree of the log.
const TREE: &str = "exchange";

/// Lists that are read at once, so that other readers find a thread too.
const READERS_MAX: usize = 2;

/// What the log may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Rows of calls that were taken and of deliveries.
    pub rows_max: u64,
    /// Rows of calls that were refused.
    pub refused_rows_max: u64,
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
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
pub struct Exchange {
    shared: Arc<Shared>,
    tree: sled::Tree,
    failed: watch::Receiver<Option<String>>,
    places: Semaphore,
    tallies: Tallies,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    // Dropped after the tree: a tree keeps sled's lock.
    _store: Arc<Store>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange")
    }
}

thread_local! {
    /// Where a row is encoded before the lock is taken.
    static ROW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Exchange {
    /// Opens the log in `store`. Nothing is written before the first row is appended.
    ///
    /// # Errors
    /// [`OpenError`] when the store fails or the log is damaged.
    pub fn open(store: Arc<Store>, bounds: Bounds) -> Result<Arc<Self>, OpenError> {
        let tree = store.tree(TREE)?;
        let rings = rings(&tree, bounds)?;
        let shared = Arc::new(Shared::new(rings));
        let writer = Writer::new(Arc::clone(&shared), tree.clone(), Arc::clone(&store));
        let (failed_sender, failed) = watch::channel(None);
        let thread = thread::Builder::new().name("exchange".into()).spawn(move || {
            if let Err(error) = writer.run() {
                error!(error = &error as &dyn std::error::Error, "exchange log failed");
                failed_sender.send_replace(Some(format!("the exchange log failed: {}", causes::in_one_line(&error))));
            }
        })?;
        let (places, thread) = (Semaphore::new(READERS_MAX), Mutex::new(Some(thread)));
        Ok(Arc::new(Self { shared, tree, failed, places, tallies: Tallies::default(), thread, _store: store }))
    }

    /// Adds a row, with the `headers` of the request, whose names are in lower case. Values of secrets and signatures are
    /// masked. Returns at once; the row is dropped when the disk is too slow for the log.
    pub fn append<'h>(&self, entry: &Entry<'_>, headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) {
        let is_refused = entry.direction == Direction::Incoming && !entry.is_successful();
        let kind = if is_refused { Kind::Refused } else { Kind::Kept };
        ROW.with_borrow_mut(|bytes| {
            bytes.clear();
            row::encode(entry, headers, bytes);
            self.shared.append(kind, Class::of(entry), bytes);
        });
    }

    /// Rows that pass `filter`: those at `places`, at least one, counted from the newest. Every row that was appended before is seen.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn list(self: &Arc<Self>, filter: Filter, places: Range<u64>) -> Result<Page, Unavailable> {
        self.read(move |log| reads::list(&log.shared, &log.tree, filter, places)).await
    }

    /// Deliveries to `source` that pass `filter`: the rows at `places`, counted from the newest.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn list_of(
        self: &Arc<Self>,
        source: String,
        filter: Filter,
        places: Range<u64>,
    ) -> Result<Page, Unavailable> {
        let list = move |log: &Self| reads::list_of(&log.shared, &log.tree, &log.tallies, &source, filter, places);
        self.read(list).await
    }

    /// The row `id`; `None` if there is none or no more.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn get(self: &Arc<Self>, id: u64) -> Result<Option<Row>, Unavailable> {
        self.read(move |log| reads::get(&log.shared, &log.tree, id)).await
    }

    /// Waits until every row that was appended before this call would survive the end of the process.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the store fails first.
    pub async fn settled(&self) -> Result<(), Unavailable> {
        self.written_up_to(self.shared.hurry()).await
    }

    /// Becomes `Some` with the reason when the store failed; nothing is written after that.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Takes nothing more, writes what is there, and ends the thread. Blocks until then. What is there can still be read.
    pub fn close(&self) {
        self.shared.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic there has been logged by the hook.
            let _ = thread.join();
        }
    }

    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let _place = self.places.acquire().await.map_err(|_| Unavailable::Cancelled)?;
        let log = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || ask(&log)).await.map_err(|_| Unavailable::Cancelled)??;
        // A row that is told of must never share its number with another one after a crash: the mark sees to that.
        if let Some(mut marked) = self.shared.marked() {
            self.unless_failed(marked.wait_for(|marked| *marked)).await?;
        }
        Ok(found)
    }

    async fn written_up_to(&self, id: u64) -> Result<(), Unavailable> {
        let mut written = self.shared.written();
        self.unless_failed(written.wait_for(|written| *written >= id)).await
    }

    /// Waits for what the thread will say, unless it ends before.
    async fn unless_failed<T>(&self, said: impl Future<Output = T>) -> Result<(), Unavailable> {
        let mut failed = self.failed();
        tokio::select! {
            biased;
            _ = said => Ok(()),
            _ = failed.wait_for(Option::is_some) => Err(Unavailable::Ended),
        }
    }
}

/// Removes the whole log.
///
/// # Errors
/// sled's own.
pub fn clear(store: &Store) -> Result<(), sled::Error> {
    store.drop_tree(TREE)?;
    store.sync()
}

/// What the tree holds, and the next id.
fn rings(tree: &sled::Tree, bounds: Bounds) -> Result<Rings, OpenError> {
    let [kept, refused] = Kind::ALL.map(|kind| summaries(tree, kind));
    let rings = [
        Ring::new(Kind::Kept.number(), bounds.rows_max, kept?),
        Ring::new(Kind::Refused.number(), bounds.refused_rows_max, refused?),
    ];
    let end = rings.iter().map(Ring::end).max().unwrap_or_default();
    let mark = tree.get(block::MARK)?;
    let mark = mark.map(|mark| block::read_mark(&mark).ok_or(OpenError::Corrupt(end))).transpose()?;
    let next = match mark {
        None => end.max(1),
        Some((true, next)) => end.max(next),
        // Numbers that were given out but not written may have been seen.
        Some((false, next)) => end.max(next) + UNWRITTEN_MAX,
    };
    Ok(Rings::new(rings, next))
}

fn summaries(tree: &sled::Tree, kind: Kind) -> Result<Vec<Summary>, OpenError> {
    let mut summaries = Vec::new();
    for row in tree.scan_prefix(block::summaries(kind.number())) {
        let (key, value) = row?;
        let first = block::first_id(&key).unwrap_or_default();
        summaries.push(Summary::decode(first, &value).ok_or(OpenError::Corrupt(first))?);
    }
    Ok(summaries)
}
