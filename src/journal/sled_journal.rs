//! Journal implementation on sled: the sending side of the queue, and reads.

use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::error;

use super::commit_thread::CommitThread;
use super::frame::{self, JournalFrame};
use super::limits::JournalLimits;
use super::recent_frames::RecentFrames;
use super::store::{DataStore, StoreOpenError};
use super::submission::{Journal, JournalClosed, JournalReadError, JournalSubmission};
use crate::clock::Clock;
use crate::event::{Position, StoreIncarnation, Timestamp};

/// Journal that stores its frames in a tree of sled.
pub struct SledJournal {
    tree: sled::Tree,
    queue: RwLock<Option<SyncSender<JournalSubmission>>>,
    durable_end: watch::Receiver<Position>,
    failed: watch::Receiver<Option<String>>,
    recent: Arc<RecentFrames>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    // Dropped after the tree: once no handle of the store is left, the store may be opened again,
    // and a tree that is still alive would keep sled's lock.
    store: Arc<DataStore>,
}

impl SledJournal {
    /// Opens the journal of `store`, removes an incomplete commit at its end, and starts the commit
    /// thread.
    ///
    /// # Errors
    /// [`StoreOpenError`] when the store fails or the last frames of the journal are corrupt.
    pub fn open(
        store: Arc<DataStore>,
        limits: JournalLimits,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreOpenError> {
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
        }))
    }

    /// Returns a watch that becomes `Some` with the reason when the store fails; nothing is written
    /// after that.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Returns the store that contains the journal.
    #[must_use]
    pub fn store(&self) -> &Arc<DataStore> {
        &self.store
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

impl Journal for SledJournal {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::event::{EntityKey, Kind};
    use crate::failpoints::NoFailures;
    use crate::journal::{RecordDraft, await_fence};

    const LIMITS: JournalLimits = JournalLimits {
        queue: 64,
        commit_records: 16,
        commit_bytes: 1 << 20,
        sync_interval: None,
    };

    fn open(folder: &std::path::Path) -> (Arc<DataStore>, Arc<SledJournal>) {
        let store = DataStore::open(folder, 1 << 20, Arc::new(NoFailures)).expect("opens");
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_micros(1)));
        let log = SledJournal::open(Arc::clone(&store), LIMITS, clock).expect("opens");
        (store, log)
    }

    fn submission(sequence: u64, bytes: usize) -> JournalSubmission {
        let draft = RecordDraft {
            entity: EntityKey::try_new(Kind::Ticket, "S").expect("valid"),
            sequence: Some(sequence),
            received_at: Timestamp::from_micros(5),
            bytes: vec![sequence as u8; bytes],
        };
        JournalSubmission {
            drafts: vec![draft],
            settle: Box::new(|_| ()),
        }
    }

    #[tokio::test]
    async fn committed_records_are_read_after_reopening_and_positions_continue() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, log) = open(folder.path());
        for sequence in 1..=3 {
            log.append(submission(sequence, 30_000)).expect("open");
        }
        assert_eq!(await_fence(log.as_ref()).await, Ok(Position::new(4)));
        log.close();
        assert!(log.append(submission(4, 1)).is_err());
        drop((store, log));

        let (_store, log) = open(folder.path());
        let frame = log
            .read_frame_at(Position::new(3))
            .expect("reads")
            .expect("is there");
        assert_eq!(
            frame.entry(Position::new(3)).expect("is in it").bytes,
            vec![3; 30_000]
        );
        assert_eq!(await_fence(log.as_ref()).await, Ok(Position::new(4)));
        assert!(
            log.read_frame_at(Position::new(4))
                .expect("reads")
                .is_none()
        );
        assert!(
            std::fs::read_dir(folder.path().join("log/blobs"))
                .is_ok_and(|mut dir| dir.next().is_none())
        );
        log.close();
    }

    /// A crash between the values of one commit must not leave half of the commit.
    #[tokio::test]
    async fn an_unfinished_commit_at_the_end_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, log) = open(folder.path());
        log.append(submission(1, 10)).expect("open");
        await_fence(log.as_ref()).await.expect("open");
        let entries = vec![frame::FrameEntry {
            received_at: Timestamp::default(),
            bytes: vec![7; 100_000].into(),
        }];
        let values = frame::encode_frames(&frame::gather_frames(
            Position::new(2),
            Timestamp::default(),
            entries,
        ));
        for (key, value) in &values[..values.len() - 1] {
            log.tree.insert(key, value.as_slice()).expect("puts");
        }
        log.close();
        drop((store, log));

        let (_store, log) = open(folder.path());
        assert_eq!(await_fence(log.as_ref()).await, Ok(Position::new(2)));
        assert_eq!(log.tree.len(), 1);
        log.close();
    }

    #[tokio::test]
    async fn a_record_that_does_not_follow_the_last_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_store, log) = open(folder.path());
        log.append(submission(1, 10)).expect("open");
        let (settled, wait) = tokio::sync::oneshot::channel();
        let mut repeated = submission(1, 10);
        repeated.settle = Box::new(move |outcome| settled.send(outcome).expect("someone waits"));
        log.append(repeated).expect("open");
        let refusal = wait.await.expect("settled").expect_err("refused");
        assert_eq!((refusal.last, refusal.found), (1, 1));
        assert_eq!(await_fence(log.as_ref()).await, Ok(Position::new(2)));
        log.close();
    }
}
