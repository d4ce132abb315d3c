//! Journal implementation on sled: the sending side of the queue, and reads.

use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::error;

use super::commit_thread::CommitThread;
use super::data_folder::DataFolder;
use super::frame::{self, JournalFrame};
use super::limits::JournalLimits;
use super::recent_frames::RecentFrames;
use super::store::{DataStore, StoreOpenError};
use super::submission::{
    Journal, JournalClosed, JournalReadError, JournalSubmission, TableChange, TableChanges,
    TableSubmission,
};
use crate::clock::Clock;
use crate::event::{Position, StoreIncarnation, Timestamp};

/// Journal that stores its frames in a tree of sled.
pub struct SegmentJournal {
    tree: sled::Tree,
    queue: RwLock<Option<SyncSender<JournalSubmission>>>,
    durable_end: watch::Receiver<Position>,
    failed: watch::Receiver<Option<String>>,
    recent: Arc<RecentFrames>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    changes: Mutex<sled::Tree>,
    // Dropped after the tree: once no handle of the store is left, the store may be opened again,
    // and a tree that is still alive would keep sled's lock.
    store: Arc<DataStore>,
}

impl SegmentJournal {
    /// Opens the journal of `store`, removes an incomplete commit at its end, and starts the commit
    /// thread.
    ///
    /// # Errors
    /// [`StoreOpenError`] when the store fails or the last frames of the journal are corrupt.
    pub fn open(
        folder: &Arc<DataFolder>,
        _disk: Arc<dyn super::Disk>,
        failure_injector: Arc<dyn crate::failpoints::FailureInjector>,
        limits: JournalLimits,
        clock: Arc<dyn Clock>,
        _discard_after: Option<()>,
    ) -> Result<Arc<Self>, StoreOpenError> {
        let store = folder.store(failure_injector);
        let folder = store.folder().join("log");
        let sled = |source| StoreOpenError::Sled {
            folder: folder.clone(),
            source,
        };
        let tree = store.tree("journal").map_err(sled)?;

        // Sync the removal before anything is appended: a remainder of the old commit must not
        // reappear behind new frames.
        if drop_incomplete_commit(&tree).map_err(sled)? {
            store.sync().map_err(sled)?;
        }

        let tail = JournalTail::load_tail(&tree).map_err(|error| match error {
            JournalReadError::Store(source) => sled(source),
            JournalReadError::Corrupt(position) => StoreOpenError::Broken {
                folder: folder.clone(),
                position: position.get(),
            },
        })?;

        let changes = store.tree("changes").map_err(sled)?;
        let (sender, receiver) = mpsc::sync_channel(limits.queue);
        let (end_sender, durable_end) = watch::channel(tail.end);
        let (failed_sender, failed) = watch::channel(None);
        let recent = Arc::new(RecentFrames::default());
        let commit_thread = CommitThread::new(
            Arc::clone(&store),
            tree.clone(),
            limits,
            clock,
            Arc::clone(&recent),
            end_sender,
            tail.received_at,
        );
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                if let Err(error) = commit_thread.run_until_closed(&receiver) {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "journal commit failed; appends stopped"
                    );
                    failed_sender.send_replace(Some(format!("the store failed: {error}")));
                }
            })
            .map_err(|source| StoreOpenError::Io {
                path: folder.clone(),
                source,
            })?;

        Ok(Arc::new(Self {
            store,
            tree,
            queue: RwLock::new(Some(sender)),
            durable_end,
            failed,
            recent,
            thread: Mutex::new(Some(thread)),
            changes: Mutex::new(changes),
        }))
    }

    /// Returns a watch that becomes `Some` with the reason when the store fails; nothing is written
    /// after that.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Proves that the disk accepts writes.
    ///
    /// # Errors
    /// [`JournalClosed`] when it does not.
    pub fn prove_writable(&self) -> Result<(), JournalClosed> {
        self.store.prove_writable().map_err(|_| JournalClosed)
    }

    /// Rejects new submissions, commits the queued ones, and ends the commit thread. Blocks until
    /// the thread has ended.
    pub fn close(&self) {
        self.queue.write().take();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // The panic hook has logged any panic of the thread, and the submissions that it left
            // behind were never acknowledged.
            let _ = thread.join();
        }
    }
}

impl Journal for SegmentJournal {
    fn append(&self, submission: JournalSubmission) -> Result<(), JournalClosed> {
        let queue = self.queue.read();
        match queue.as_ref().ok_or(JournalClosed)?.try_send(submission) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(JournalClosed),
            Err(TrySendError::Full(_)) => {
                // There are fewer admission permits than places in the queue, so this is a bug. The
                // submission must not vanish silently.
                error!("journal queue full despite admission control; submission rejected");
                Err(JournalClosed)
            }
        }
    }

    fn append_changes(&self, submission: TableSubmission) -> Result<(), JournalClosed> {
        if self.queue.read().is_none() || self.failed.borrow().is_some() {
            return Err(JournalClosed);
        }
        let changes = self.changes.lock();
        let last = changes.last().map_err(|_| JournalClosed)?;
        let last = last.map_or(0, |(key, _)| {
            u64::from_be_bytes(key[..].try_into().expect("8"))
        });
        let value = encode_changes(&submission.changes);
        self.store
            .failure_injector()
            .evaluate(crate::failpoints::Failpoint::Put)
            .map_err(|_| JournalClosed)?;
        changes
            .insert((last + 1).to_be_bytes(), value)
            .map_err(|_| JournalClosed)?;
        self.store.sync().map_err(|_| JournalClosed)?;
        (submission.settle)(last + 1);
        Ok(())
    }

    fn read_changes(
        &self,
        from: u64,
        visit: &mut dyn FnMut(u64, TableChanges),
    ) -> Result<u64, JournalReadError> {
        let changes = self.changes.lock();
        let last = changes.last()?;
        let last = last.map_or(0, |(key, _)| {
            u64::from_be_bytes(key[..].try_into().expect("8"))
        });
        for row in changes.range(from.to_be_bytes()..) {
            let (key, value) = row?;
            visit(
                u64::from_be_bytes(key[..].try_into().expect("8")),
                decode_changes(&value),
            );
        }
        Ok(last + 1)
    }

    fn durable_end(&self) -> watch::Receiver<Position> {
        self.durable_end.clone()
    }

    fn read_frame_at(
        &self,
        position: Position,
    ) -> Result<Option<Arc<JournalFrame>>, JournalReadError> {
        if position >= *self.durable_end.borrow() {
            return Ok(None);
        }
        if let Some(frame) = self.recent.find_frame(position) {
            return Ok(Some(frame));
        }
        read_frame(&self.tree, position).map(|frame| Some(Arc::new(frame)))
    }

    fn recent_frame_at(&self, position: Position) -> Option<Arc<JournalFrame>> {
        // The cache is filled before the durable end is published.
        (position < *self.durable_end.borrow())
            .then(|| self.recent.find_frame(position))
            .flatten()
    }

    fn incarnation(&self) -> StoreIncarnation {
        self.store.incarnation()
    }
}

fn encode_changes(changes: &TableChanges) -> Vec<u8> {
    let mut bytes = vec![changes.table];
    let mut put = |tag: u8, parts: [&[u8]; 2]| {
        bytes.push(tag);
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    };
    for change in &changes.changes {
        match change {
            TableChange::Put { key, value } => put(1, [key, value]),
            TableChange::Remove { key } => put(2, [key, &[]]),
            TableChange::RemovePrefix { prefix } => put(3, [prefix, &[]]),
        }
    }
    bytes
}

fn decode_changes(bytes: &[u8]) -> TableChanges {
    let (table, mut rest) = bytes.split_first().expect("a table");
    let mut changes = Vec::new();
    while let Some((tag, after)) = rest.split_first() {
        rest = after;
        let mut part = || {
            let (length, after) = rest.split_first_chunk::<4>().expect("a length");
            let (part, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            rest = after;
            part.to_vec()
        };
        let (key, value) = (part(), part());
        changes.push(match tag {
            1 => TableChange::Put { key, value },
            2 => TableChange::Remove { key },
            _ => TableChange::RemovePrefix { prefix: key },
        });
    }
    TableChanges {
        table: *table,
        changes,
    }
}

/// Reads the frame that contains `position`, which must exist.
fn read_frame(tree: &sled::Tree, position: Position) -> Result<JournalFrame, JournalReadError> {
    let corrupt = || JournalReadError::Corrupt(position);
    let (key, _) = tree
        .range(..=frame::chunk_key(position, u16::MAX))
        .next_back()
        .ok_or_else(corrupt)??;
    let first = frame::first_position(&key).ok_or_else(corrupt)?;

    let chunks: Vec<_> = tree
        .range(frame::chunk_key(first, 0)..=frame::chunk_key(first, u16::MAX))
        .values()
        .collect::<Result<_, _>>()?;
    let frame = frame::decode_frame(first, chunks).ok_or_else(corrupt)?;
    if frame.entry(position).is_some() {
        Ok(frame)
    } else {
        Err(corrupt())
    }
}

/// Removes the chunks of an incomplete commit from the end of the journal; returns `true` if there
/// were any.
fn drop_incomplete_commit(tree: &sled::Tree) -> Result<bool, sled::Error> {
    let mut dropped = false;
    while let Some((key, value)) = tree.last()? {
        if frame::ends_commit(&value) {
            break;
        }
        tree.remove(key)?;
        dropped = true;
    }
    Ok(dropped)
}

/// State of the journal's end, with which the commit thread continues.
struct JournalTail {
    end: Position,
    /// Receive time of the last record; later records never have an earlier one.
    received_at: Timestamp,
}

impl JournalTail {
    /// Number of frames at the end that are checked to be consecutive when the journal is opened.
    const CHECKED_FRAMES: usize = 8;

    fn load_tail(tree: &sled::Tree) -> Result<Self, JournalReadError> {
        let Some((key, _)) = tree.last()? else {
            return Ok(Self {
                end: Position::FIRST,
                received_at: Timestamp::default(),
            });
        };
        let last = frame::first_position(&key).ok_or(JournalReadError::Corrupt(Position::FIRST))?;
        let newest = read_frame(tree, last)?;

        let mut following = last;
        for _ in 0..Self::CHECKED_FRAMES {
            if following == Position::FIRST
                || tree
                    .range(..frame::chunk_key(following, 0))
                    .next_back()
                    .is_none()
            {
                break;
            }
            let frame = read_frame(tree, Position::new(following.get() - 1))?;
            if frame.end() != following {
                return Err(JournalReadError::Corrupt(following));
            }
            following = frame.first;
        }

        let received_at = newest
            .entries
            .last()
            .map(|entry| entry.received_at)
            .unwrap_or_default();
        Ok(Self {
            end: newest.end(),
            received_at,
        })
    }
}
