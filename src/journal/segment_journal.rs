//! Journal in segment files: the sending side of the queue, and reads.

use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::error;

use super::commit_thread::{CommitOutputs, CommitThread, LogEnd, QueuedSubmission};
use super::data_folder::DataFolder;
use super::disk::Disk;
use super::frame::JournalFrame;
use super::limits::JournalLimits;
use super::open_error::StoreOpenError;
use super::recent_frames::RecentFrames;
use super::segment::{self, BlockContent, OpenedLog, SegmentSet};
use super::submission::{
    Journal, JournalClosed, JournalReadError, JournalSubmission, LogMark, TableSubmission,
};
use super::table_changes::TableChanges;
use crate::clock::Clock;
use crate::error_chain::format_error_chain;
use crate::event::{Position, StoreIncarnation, Timestamp};

/// Journal that stores its records in segment files.
pub struct SegmentJournal {
    segments: Arc<SegmentSet>,
    queue: RwLock<Option<SyncSender<QueuedSubmission>>>,
    durable_end: watch::Receiver<Position>,
    failed: watch::Receiver<Option<String>>,
    recent: Arc<RecentFrames>,
    synced_mark: Arc<Mutex<LogMark>>,
    /// `true` if submissions are settled only once they are synced.
    settles_synced: bool,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    // Dropped last: once no handle is left, another process may use the folder.
    data: Arc<DataFolder>,
}

impl SegmentJournal {
    /// Opens the journal of `data` on `disk`, removes an incomplete commit at its end, and starts
    /// the commit thread. Records behind `discard_after` are removed: see
    /// [`SegmentJournal::failed_mark`].
    ///
    /// # Errors
    /// [`StoreOpenError`] when a file cannot be used, or acknowledged records are damaged.
    pub fn open(
        data: &Arc<DataFolder>,
        disk: Arc<dyn Disk>,
        limits: JournalLimits,
        clock: Arc<dyn Clock>,
        discard_after: Option<LogMark>,
    ) -> Result<Arc<Self>, StoreOpenError> {
        let OpenedLog {
            segments,
            writer,
            end,
            next_change,
        } = segment::open_log(data, disk, limits.segment_bytes, discard_after)?;
        let log_end = LogEnd {
            position: end,
            change: next_change,
            received_at: last_received_at(&segments, end)?,
        };

        let (sender, receiver) = mpsc::sync_channel(limits.queue);
        let (end_sender, durable_end) = watch::channel(end);
        let (failed_sender, failed) = watch::channel(None);
        let recent = Arc::new(RecentFrames::default());
        let synced_mark = Arc::new(Mutex::new(writer.synced_mark()));
        let outputs = CommitOutputs {
            recent: Arc::clone(&recent),
            durable_end: end_sender,
            synced_mark: Arc::clone(&synced_mark),
        };
        let commit_thread = CommitThread::new(writer, limits, clock, outputs, log_end);
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                if let Err(error) = commit_thread.run_until_closed(&receiver) {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "journal commit failed; appends stopped"
                    );
                    failed_sender.send_replace(Some(format_error_chain(&error)));
                }
            })
            .map_err(|source| StoreOpenError::Io {
                path: data.journal_path(),
                source,
            })?;

        Ok(Arc::new(Self {
            segments,
            queue: RwLock::new(Some(sender)),
            durable_end,
            failed,
            recent,
            synced_mark,
            settles_synced: limits.sync_interval.is_none(),
            thread: Mutex::new(Some(thread)),
            data: Arc::clone(data),
        }))
    }

    /// Returns a watch that becomes `Some` with the reason when the store fails; nothing is written
    /// after that.
    #[must_use]
    pub fn watch_failure(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Returns the place behind which a failed journal settled nothing; `None` if it did not fail,
    /// or settles before it syncs.
    ///
    /// The next opening in the same process discards what is behind it. The page cache may show
    /// those records although the disk does not have them, and their submitters were told that they
    /// are not there.
    #[must_use]
    pub fn failed_mark(&self) -> Option<LogMark> {
        let is_failed = self.failed.borrow().is_some();
        (is_failed && self.settles_synced).then(|| *self.synced_mark.lock())
    }

    /// Writes and syncs a group without changes, to prove that the disk accepts writes. Blocks.
    ///
    /// # Errors
    /// [`JournalClosed`] when the disk does not; [`Self::watch_failure`] has the reason.
    pub fn prove_writable(&self) -> Result<(), JournalClosed> {
        let (sender, receiver) = mpsc::channel();
        self.append_changes(TableSubmission {
            changes: TableChanges::empty(),
            // The send fails only if the caller no longer waits.
            settle: Box::new(move |_| sender.send(()).unwrap_or_default()),
        })?;
        receiver.recv().map_err(|_| JournalClosed)
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

    fn sender(&self) -> Result<SyncSender<QueuedSubmission>, JournalClosed> {
        self.queue.read().clone().ok_or(JournalClosed)
    }
}

impl Journal for SegmentJournal {
    fn append(&self, submission: JournalSubmission) -> Result<(), JournalClosed> {
        let queue = self.queue.read();
        let queued = QueuedSubmission::Records(submission);
        match queue.as_ref().ok_or(JournalClosed)?.try_send(queued) {
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
        // Without the lock: a full queue must not keep `close` from closing it.
        self.sender()?
            .send(QueuedSubmission::Changes(submission))
            .map_err(|_| JournalClosed)
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
        read_frame(&self.segments, position).map(|frame| Some(Arc::new(frame)))
    }

    fn recent_frame_at(&self, position: Position) -> Option<Arc<JournalFrame>> {
        // The cache is filled before the durable end is published.
        (position < *self.durable_end.borrow())
            .then(|| self.recent.find_frame(position))
            .flatten()
    }

    fn read_changes(
        &self,
        from: u64,
        visit: &mut dyn FnMut(u64, TableChanges),
    ) -> Result<u64, JournalReadError> {
        let mut next = from;
        self.segments.visit_blocks(from, &mut |segment, stored| {
            let block = &stored.block;
            if block.content == BlockContent::Changes && block.number >= from {
                let changes = block.body().and_then(TableChanges::decode);
                let changes = changes.ok_or_else(|| segment.corrupt_block(&stored))?;
                visit(block.number, changes);
                next = block.next_number();
            }
            Ok(())
        })?;
        Ok(next)
    }

    fn incarnation(&self) -> StoreIncarnation {
        self.data.incarnation()
    }
}

/// Reads the frame that contains `position`, which must be durable.
fn read_frame(segments: &SegmentSet, position: Position) -> Result<JournalFrame, JournalReadError> {
    let (segment, stored) = segments.read_block_at(position)?;
    let block = &stored.block;
    let first = Position::new(block.number);
    block
        .body()
        .and_then(|body| JournalFrame::from_body(first, body))
        .filter(|frame| frame.entry(position).is_some())
        .ok_or_else(|| segment.corrupt_block(&stored))
}

/// Returns the receive time of the last record before `end`.
fn last_received_at(segments: &SegmentSet, end: Position) -> Result<Timestamp, JournalReadError> {
    let Some(last) = end.get().checked_sub(1).map(Position::new) else {
        return Ok(Timestamp::default());
    };
    if last < Position::FIRST {
        return Ok(Timestamp::default());
    }
    let frame = read_frame(segments, last)?;
    Ok(frame
        .entry(last)
        .map(|entry| entry.received_at)
        .unwrap_or_default())
}
