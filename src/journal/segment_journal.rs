//! Journal in segment files: the sending side of the queue, and reads.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Weak};
use std::thread;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::error;

use super::backup::{StoreImage, StoreImageError};
use super::base_file::{BaseReadError, BaseReader, BaseWriter};
use super::commit_thread::{
    CommitObservers, CommitOutputs, CommitThread, CopiedCommits, QueuedSubmission, SyncedEnd,
};
use super::content_filter::{ContentFilter, filter_frame};
use super::data_folder::DataFolder;
use super::disk::Disk;
use super::frame::JournalFrame;
use super::kept_records::KeptRecords;
use super::limits::JournalLimits;
use super::log_place::LogPlace;
use super::log_start::LogStart;
use super::open_error::StoreOpenError;
use super::recent_frames::RecentFrames;
use super::segment::{
    self, BlockContent, LogSnapshot, OpenedLog, SegmentRewriteError, SegmentSet, SegmentSummary,
};
use super::shared_log::{CommitContent, CopyError, LogCommit, LogRole};
use super::submission::{
    Journal, JournalClosed, JournalReadError, JournalSubmission, LogMark, TableSubmission,
};
use super::table_changes::TableChanges;
use crate::clock::Clock;
use crate::error_chain::format_error_chain;
use crate::event::{EntityKey, IncarnationHistory, Position, Timestamp};

/// Journal that stores its records in segment files.
pub struct SegmentJournal {
    segments: Arc<SegmentSet>,
    queue: RwLock<Option<SyncSender<QueuedSubmission>>>,
    durable_end: watch::Receiver<Position>,
    failed: watch::Receiver<Option<String>>,
    recent: Arc<RecentFrames>,
    synced_end: Arc<Mutex<SyncedEnd>>,
    /// Storage of records that are kept of removed segments. It uses this journal.
    kept: RwLock<Option<Weak<dyn KeptRecords>>>,
    /// Held by each image of the store that is being backed up.
    segments_in_use: Arc<()>,
    /// Held while the beginning of the journal is moved, or must not move.
    beginning: Mutex<()>,
    /// `true` if submissions are settled only once they are synced.
    settles_synced: bool,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    /// Filter of what readers see, until the segments are rewritten.
    filter: RwLock<Option<Arc<dyn ContentFilter>>>,
    /// Locked while a segment is rewritten: two rewritings would use the same file.
    rewriting: Mutex<()>,
    // Dropped last: once no handle is left, another process may use the folder.
    data: Arc<DataFolder>,
    /// Time of the last record that was there at the opening.
    received_at: Timestamp,
    commit_turns: Arc<AtomicU64>,
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
        observers: CommitObservers,
        discard_after: Option<LogMark>,
    ) -> Result<Arc<Self>, StoreOpenError> {
        let role = LogRole::Sole;
        Self::open_as(role, data, disk, limits, clock, observers, discard_after)
    }

    /// Opens the journal as [`Self::open`] does, with this `role` of the node in a shared log.
    ///
    /// # Errors
    /// As for [`Self::open`], and [`StoreOpenError::Diverged`] when the journal of a leader does not
    /// end where the shared log does.
    pub fn open_as(
        role: LogRole,
        data: &Arc<DataFolder>,
        disk: Arc<dyn Disk>,
        limits: JournalLimits,
        clock: Arc<dyn Clock>,
        observers: CommitObservers,
        discard_after: Option<LogMark>,
    ) -> Result<Arc<Self>, StoreOpenError> {
        let OpenedLog { segments, writer } =
            segment::open_log(data, disk, limits.segment_bytes, discard_after)?;
        if let LogRole::Leader(shared_log) = &role {
            let (at, shared) = (writer.synced_place(), shared_log.end());
            if at != shared {
                return Err(StoreOpenError::Diverged { at, shared });
            }
        }
        let end = writer.end_position();
        let received_at = last_received_at(&segments, end)?;

        let (sender, receiver) = mpsc::sync_channel(limits.queue);
        let (end_sender, durable_end) = watch::channel(end);
        let (failed_sender, failed) = watch::channel(None);
        let recent = Arc::new(RecentFrames::default());
        let synced_end = Arc::new(Mutex::new(SyncedEnd::of_writer(&writer)));
        let commit_turns = Arc::<AtomicU64>::default();
        let outputs = CommitOutputs {
            recent: Arc::clone(&recent),
            durable_end: end_sender,
            synced_end: Arc::clone(&synced_end),
            observers,
            turns: Arc::clone(&commit_turns),
        };
        let commit_thread = CommitThread::new(
            (Arc::clone(data), writer),
            limits,
            clock,
            outputs,
            received_at,
            role,
        );
        let folder_in_use = Arc::clone(data);
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                // The folder must not be free for others while this thread writes to it: locals are
                // dropped in reverse order.
                let _folder_in_use = folder_in_use;
                let mut commit_thread = commit_thread;
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
            synced_end,
            kept: RwLock::default(),
            segments_in_use: Arc::default(),
            beginning: Mutex::default(),
            settles_synced: limits.sync_interval.is_none(),
            thread: Mutex::new(Some(thread)),
            filter: RwLock::default(),
            rewriting: Mutex::default(),
            data: Arc::clone(data),
            received_at,
            commit_turns,
        }))
    }

    /// Returns the number of turns that the commit thread has made, one every second at least: a thread
    /// that makes none hangs.
    #[must_use]
    pub fn commit_turns(&self) -> u64 {
        self.commit_turns.load(Ordering::Relaxed)
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
        (is_failed && self.settles_synced).then(|| self.synced_end.lock().mark)
    }

    /// Returns the place in the log after everything that is durable.
    #[must_use]
    pub fn place(&self) -> LogPlace {
        self.synced_end.lock().place
    }

    /// Appends `commits` of the shared log that this journal is a copy of. Returns once they are
    /// durable. Blocks.
    ///
    /// # Errors
    /// [`CopyError`] when the commits do not continue the journal or cannot be read, or the store
    /// fails. Nothing is appended in the first two cases.
    pub fn append_copies(&self, commits: &[LogCommit]) -> Result<(), CopyError> {
        let (seed, cipher) = (self.segments.seed(), self.segments.cipher());
        let mut place = self.place();
        let mut copied = Vec::new();
        let mut frames = Vec::new();
        for commit in commits {
            if commit.begin() != place {
                let found = commit.begin();
                return Err(CopyError::Gap { at: place, found });
            }
            let blocks = commit.decode(seed)?;
            for block in &blocks {
                match CommitContent::open(block, commit.begin(), cipher)? {
                    CommitContent::Records(frame) => frames.push(frame),
                    CommitContent::Changes(..) => {}
                }
            }
            copied.push(blocks);
            place = commit.end();
        }

        let (sender, receiver) = mpsc::channel();
        let copied = CopiedCommits {
            commits: copied,
            frames,
            // The send fails only if the caller no longer waits.
            on_settled: Box::new(move || sender.send(()).unwrap_or_default()),
        };
        self.sender()?
            .send(QueuedSubmission::Copied(copied))
            .map_err(|_| JournalClosed)?;
        Ok(receiver.recv().map_err(|_| JournalClosed)?)
    }

    /// Reads up to `bytes_max` bytes of commits from `place` on, and at least one; none at the end. Blocks.
    ///
    /// # Errors
    /// [`JournalReadError`] when a segment cannot be read, or does not go on at `place`.
    pub fn read_commits(
        &self,
        place: LogPlace,
        bytes_max: usize,
    ) -> Result<Vec<LogCommit>, JournalReadError> {
        let mut blocks = LogSnapshot::take(&self.segments)?.blocks_since(place);
        let (mut commits, mut bytes) = (Vec::new(), 0);
        let (mut begin, mut commit) = (place, Vec::new());
        while bytes < bytes_max {
            let Some(stored) = blocks.next_block()? else {
                break;
            };
            let ends_commit = stored.block.ends_commit;
            commit.push(stored.block);
            if ends_commit {
                let encoded = LogCommit::encode(begin, &commit, self.segments.seed());
                commit.clear();
                bytes += encoded.bytes().len();
                begin = encoded.end();
                commits.push(encoded);
            }
        }
        Ok(commits)
    }

    /// Returns `true` if this journal has `commit`: the same records and changes at the same places.
    /// Blocks.
    ///
    /// # Errors
    /// [`CopyError`] when the commit or the journal cannot be read.
    pub fn has_commit(&self, commit: &LogCommit) -> Result<bool, CopyError> {
        if !commit.end().is_reached_by(&self.place()) {
            return Ok(false);
        }
        for block in commit.decode(self.segments.seed())? {
            let is_same = match CommitContent::open(&block, commit.begin(), self.segments.cipher())?
            {
                CommitContent::Records(frame) => read_frame(&self.segments, frame.first)? == frame,
                CommitContent::Changes(number, changes) => {
                    let mut found = None;
                    self.read_changes(number, &mut |at, changes| {
                        if at == number {
                            found = Some(changes);
                        }
                    })?;
                    found == Some(changes)
                }
            };
            if !is_same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes an image of the store up to its durable end, for a backup. The image holds neither the
    /// journal nor the data folder open. Blocks.
    ///
    /// # Errors
    /// [`StoreImageError`] when the newest segment or the base file cannot be read.
    pub fn take_image(&self) -> Result<StoreImage, StoreImageError> {
        // The base file must not become newer than the end of the snapshot in between.
        let _beginning = self.beginning.lock();
        let segments_in_use = Arc::clone(&self.segments_in_use);
        let log = LogSnapshot::take(&self.segments)?;
        let disk = self.segments.disk().as_ref();
        Ok(StoreImage::new(&self.data, log, disk, segments_in_use)?)
    }

    /// Returns `true` if a backup reads the segments, which must stay until it has ended.
    #[must_use]
    pub fn is_being_backed_up(&self) -> bool {
        Arc::strong_count(&self.segments_in_use) > 1
    }

    /// Writes and syncs a group without changes, to prove that the disk accepts writes. Blocks.
    ///
    /// # Errors
    /// [`JournalClosed`] when the disk does not; [`Self::watch_failure`] has the reason.
    pub fn prove_writable(&self) -> Result<(), JournalClosed> {
        let (sender, receiver) = mpsc::channel();
        self.append_changes(TableSubmission {
            changes: Arc::new(TableChanges::empty()),
            // The send fails only if the caller no longer waits.
            settle: Box::new(move |_| sender.send(()).unwrap_or_default()),
        })?;
        receiver.recv().map_err(|_| JournalClosed)
    }

    /// Sets the filter through which records are read from now on, or none.
    pub fn set_filter(&self, filter: Option<Arc<dyn ContentFilter>>) {
        *self.filter.write() = filter;
    }

    /// Returns the numbers of all segments, in order.
    #[must_use]
    pub fn segment_numbers(&self) -> Vec<u64> {
        self.segments.numbers()
    }

    /// Writes segment `number` anew without what `filter` replaces or drops, and encrypted as new
    /// content is; returns `false` if there is nothing to change in it. Blocks.
    ///
    /// A segment that is still being written is ended first, if it has to change.
    ///
    /// # Errors
    /// [`SegmentRewriteError`]; the segment has its old content or its new one then.
    pub fn rewrite_segment(
        &self,
        number: u64,
        filter: &dyn ContentFilter,
    ) -> Result<bool, SegmentRewriteError> {
        let _alone = self.rewriting.lock();
        // The next opening may discard what is behind the mark: up to there, no file may change.
        let is_sealed = number < self.synced_end.lock().mark.segment;
        if !is_sealed {
            if !segment::needs_rewrite(&self.segments, number, filter)? {
                return Ok(false);
            }
            self.begin_segment()
                .map_err(|JournalClosed| SegmentRewriteError::Closed)?;
        }
        let is_rewritten = segment::rewrite_segment(&self.segments, number, filter)?;
        if is_rewritten {
            // Its records may be in the cache as they were.
            self.recent.clear();
        }
        Ok(is_rewritten)
    }

    /// Lets later submissions go to a new segment. Blocks.
    fn begin_segment(&self) -> Result<(), JournalClosed> {
        let (sender, receiver) = mpsc::channel();
        // The send fails only if the caller no longer waits.
        let on_settled = Box::new(move || sender.send(()).unwrap_or_default());
        self.sender()?
            .send(QueuedSubmission::NextSegment(on_settled))
            .map_err(|_| JournalClosed)?;
        receiver.recv().map_err(|_| JournalClosed)
    }

    /// Rejects new submissions, commits the queued ones, and ends the commit thread. Blocks until
    /// the thread has ended.
    pub fn close(&self) {
        self.queue.write().take();
        // The thread itself may drop the last handle, with a submission; it cannot wait for itself.
        let thread = self.thread.lock().take();
        let is_other =
            |thread: &thread::JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = thread.filter(is_other) {
            // The panic hook has logged any panic of the thread, and the submissions that it left
            // behind were never acknowledged.
            let _ = thread.join();
        }
    }

    /// Time at which the last record was received that was there at the opening; 1970 if there was
    /// none.
    #[must_use]
    pub const fn opened_at(&self) -> Timestamp {
        self.received_at
    }

    /// Serves the records in `kept` as if they were still in their segments.
    pub fn serve_kept_records(&self, kept: Weak<dyn KeptRecords>) {
        *self.kept.write() = Some(kept);
    }

    /// Returns all kept segments in order. Blocks.
    ///
    /// # Errors
    /// [`JournalReadError`] when a file cannot be opened.
    pub fn summarize_segments(&self) -> Result<Vec<SegmentSummary>, JournalReadError> {
        self.segments.summarize()
    }

    /// Begins a new base file, with which the journal may begin at `start`, which must not be behind
    /// the durable end. Blocks.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn begin_base(&self, start: &LogStart) -> io::Result<BaseWriter> {
        BaseWriter::create(
            Arc::clone(self.segments.disk()),
            self.data.journal_path(),
            (self.data.incarnation(), self.segments.seed()),
            self.data.cipher().clone(),
            start,
        )
    }

    /// Opens the base file; `None` if there is none. Blocks.
    ///
    /// # Errors
    /// [`BaseReadError`] when the file cannot be read or is corrupt.
    pub fn read_base(&self) -> Result<Option<BaseReader>, BaseReadError> {
        BaseReader::open(
            self.segments.disk().as_ref(),
            &self.data.journal_path(),
            self.segments.seed(),
            self.data.cipher().clone(),
        )
    }

    /// Finishes `base` and lets the journal begin at `start`, which it names. Returns the length of
    /// the base file and the segments that are not used any more; `None` if a backup reads the
    /// journal, which goes on beginning where it did. Blocks.
    ///
    /// # Errors
    /// The error of the operating system; the journal begins where it did then.
    pub fn begin_with_base(
        &self,
        base: BaseWriter,
        start: LogStart,
    ) -> io::Result<Option<(u64, RemovedSegments)>> {
        let _beginning = self.beginning.lock();
        if self.is_being_backed_up() {
            return Ok(None);
        }
        let bytes = base.finish()?;
        Ok(Some((bytes, self.begin_at(start))))
    }

    /// Lets the journal begin at `start`, which the finished base file names. Reads of earlier
    /// records fail from now on; [`SegmentJournal::remove_segments`] removes their files.
    #[must_use = "the segments' files are still there"]
    pub fn begin_at(&self, start: LogStart) -> RemovedSegments {
        RemovedSegments(self.segments.begin_at(start))
    }

    /// Removes the files of `removed`, oldest first. Blocks.
    ///
    /// # Errors
    /// The error of the operating system; the next opening removes what is left then.
    pub fn remove_segments(&self, removed: RemovedSegments) -> io::Result<()> {
        let disk = self.segments.disk();
        for path in removed.0 {
            disk.remove(&path)?;
        }
        disk.sync_folder(&self.data.journal_path())
    }

    /// Reads a record before `start`, if it was kept.
    fn read_kept_record(
        &self,
        position: Position,
        start: LogStart,
    ) -> Result<JournalFrame, JournalReadError> {
        let kept = self.kept.read().as_ref().and_then(Weak::upgrade);
        let found = kept.map_or(Ok(None), |kept| kept.find_kept_record(position));
        found
            .map_err(|source| JournalReadError::Kept { position, source })?
            .ok_or(JournalReadError::Removed { position, start })
    }

    fn sender(&self) -> Result<SyncSender<QueuedSubmission>, JournalClosed> {
        self.queue.read().clone().ok_or(JournalClosed)
    }
}

/// Segments that the journal does not use any more, and whose files are still there.
pub struct RemovedSegments(Vec<PathBuf>);

impl Drop for SegmentJournal {
    /// Ends the commit thread before the data folder is free for another opening.
    fn drop(&mut self) {
        self.close();
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
        if submission.changes.encoded_bytes() > TableChanges::MAX_BYTES {
            error!("group of table changes too large; submission rejected");
            return Err(JournalClosed);
        }
        // Without the lock: a full queue must not keep `close` from closing it.
        self.sender()?
            .send(QueuedSubmission::Changes(submission))
            .map_err(|_| JournalClosed)
    }

    fn durable_end(&self) -> watch::Receiver<Position> {
        self.durable_end.clone()
    }

    fn start(&self) -> LogStart {
        self.segments.start()
    }

    fn read_frame_at(
        &self,
        position: Position,
    ) -> Result<Option<Arc<JournalFrame>>, JournalReadError> {
        if position >= *self.durable_end.borrow() {
            return Ok(None);
        }
        // Taken before the read: a filter goes only after the last segment was rewritten.
        let filter = self.filter.read().clone();
        let start = self.segments.start();
        let frame = if (Position::FIRST..start.position).contains(&position) {
            Arc::new(self.read_kept_record(position, start)?)
        } else if let Some(frame) = self.recent.find_frame(position) {
            frame
        } else {
            Arc::new(read_frame(&self.segments, position)?)
        };
        Ok(Some(apply_filter(frame, filter.as_deref())))
    }

    fn recent_frame_at(&self, position: Position) -> Option<Arc<JournalFrame>> {
        // The cache is filled before the durable end is published.
        let is_durable = position < *self.durable_end.borrow();
        let filter = self.filter.read().clone();
        let frame = self.recent.find_frame(position).filter(|_| is_durable)?;
        Some(apply_filter(frame, filter.as_deref()))
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
                let body = segment.open_body(&stored, self.segments.cipher())?;
                let changes = TableChanges::decode(body.bytes);
                let changes = changes.ok_or_else(|| segment.corrupt_block(&stored))?;
                visit(block.number, changes);
                next = block.next_number();
            }
            Ok(())
        })?;
        Ok(next)
    }

    fn hides_record(&self, position: Position, entity: &EntityKey) -> bool {
        let filter = self.filter.read();
        filter
            .as_ref()
            .is_some_and(|filter| filter.hides_record(position, entity))
    }

    fn incarnations(&self) -> &IncarnationHistory {
        self.data.incarnations()
    }
}

/// Returns `frame` as `filter` lets readers see it.
fn apply_filter(frame: Arc<JournalFrame>, filter: Option<&dyn ContentFilter>) -> Arc<JournalFrame> {
    let filtered = filter.and_then(|filter| filter_frame(&frame, filter));
    filtered.map_or(frame, Arc::new)
}

/// Reads the frame that contains `position`, which must be durable.
fn read_frame(segments: &SegmentSet, position: Position) -> Result<JournalFrame, JournalReadError> {
    let (segment, stored) = segments.read_block_at(position)?;
    let first = Position::new(stored.block.number);
    let body = segment.open_body(&stored, segments.cipher())?;
    JournalFrame::from_body(first, body.bytes)
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
    let start = segments.start();
    if last < start.position {
        return Ok(start.received_at);
    }
    let frame = read_frame(segments, last)?;
    Ok(frame
        .entry(last)
        .map(|entry| entry.received_at)
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    use bytes::Bytes;

    use super::*;
    use crate::clock::ManualClock;
    use crate::event::Kind;
    use crate::journal::{
        ChangeVerdict, ContentCipher, LocalDisk, RecordDraft, TableChange, VerifiedPart,
        await_fence, verify_journal,
    };

    const LIMITS: JournalLimits = JournalLimits {
        queue: 64,
        commit_records: 16,
        commit_bytes: 1 << 20,
        sync_interval: None,
        segment_bytes: 64 * 1024,
    };

    fn try_open(folder: &Path) -> Result<Arc<SegmentJournal>, StoreOpenError> {
        let data = DataFolder::open(folder)?;
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_micros(1)));
        SegmentJournal::open(
            &data,
            Arc::new(LocalDisk),
            LIMITS,
            clock,
            CommitObservers::default(),
            None,
        )
    }

    fn open(folder: &Path) -> Arc<SegmentJournal> {
        try_open(folder).expect("opens")
    }

    /// Incompressible bytes, the same for each `sequence`.
    fn content(sequence: u64, bytes: usize) -> Vec<u8> {
        let mut state = sequence;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn submission(sequence: u64, bytes: usize) -> JournalSubmission {
        let draft = RecordDraft {
            entity: EntityKey::try_new(Kind::Ticket, "S").expect("valid"),
            sequence: Some(sequence),
            received_at: Timestamp::from_micros(5),
            bytes: content(sequence, bytes),
        };
        JournalSubmission {
            drafts: vec![draft],
            settle: Box::new(|_| ()),
        }
    }

    /// Appends the records `first` to `last`, each as a commit of its own.
    async fn append(journal: &SegmentJournal, first: u64, last: u64, bytes: usize) {
        for sequence in first..=last {
            journal.append(submission(sequence, bytes)).expect("open");
            await_fence(journal).await.expect("open");
        }
    }

    fn record(journal: &SegmentJournal, position: u64) -> Vec<u8> {
        let position = Position::new(position);
        let frame = journal.read_frame_at(position).expect("reads");
        let frame = frame.expect("is there");
        frame.entry(position).expect("is in it").bytes.to_vec()
    }

    fn changes(journal: &SegmentJournal, from: u64) -> Vec<(u64, TableChanges)> {
        let mut found = Vec::new();
        journal
            .read_changes(from, &mut |number, changes| found.push((number, changes)))
            .expect("reads");
        found.retain(|(_, changes)| !changes.changes.is_empty());
        found
    }

    fn segment_files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder.join("journal")).expect("a folder");
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        files
    }

    fn flip(file: &Path, offset: u64) {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(file)
            .expect("there");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("reads");
        file.write_all_at(&[byte[0] ^ 1], offset).expect("writes");
    }

    #[tokio::test]
    async fn records_are_read_after_reopening_and_positions_continue() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 9, 30_000).await;
        journal.close();
        assert!(journal.append(submission(10, 1)).is_err());
        drop(journal);

        let journal = open(folder.path());
        for position in 1..=9 {
            assert_eq!(record(&journal, position), content(position, 30_000));
        }
        assert_eq!(await_fence(journal.as_ref()).await, Ok(Position::new(10)));
        assert!(
            journal
                .read_frame_at(Position::new(10))
                .expect("reads")
                .is_none()
        );
        assert!(
            segment_files(folder.path()).len() > 4,
            "two records fill a segment"
        );
        append(&journal, 10, 10, 10).await;
        assert_eq!(record(&journal, 10), content(10, 10));
        journal.close();
    }

    #[tokio::test]
    async fn a_record_larger_than_a_segment_has_a_larger_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 3, 300_000).await;
        journal.close();
        drop(journal);
        let journal = open(folder.path());
        assert_eq!(record(&journal, 2), content(2, 300_000));
        journal.close();
    }

    #[tokio::test]
    async fn table_changes_are_numbered_and_read_from_any_number_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        let group = |key: u8| TableChanges {
            table: 3,
            changes: vec![TableChange::Put {
                key: vec![key],
                value: content(u64::from(key), 30_000),
            }],
        };
        for key in 1..=6 {
            let (settled, wait) = tokio::sync::oneshot::channel();
            journal
                .append_changes(TableSubmission {
                    changes: Arc::new(group(key)),
                    settle: Box::new(move |number| settled.send(number).expect("someone waits")),
                })
                .expect("open");
            assert_eq!(wait.await, Ok(u64::from(key)));
            append(&journal, u64::from(key), u64::from(key), 10).await;
        }
        journal.close();
        drop(journal);

        let journal = open(folder.path());
        for from in 1..=7_u8 {
            let expected: Vec<_> = (from..=6).map(|key| (u64::from(key), group(key))).collect();
            assert_eq!(changes(&journal, u64::from(from)), expected, "from {from}");
        }
        assert_eq!(record(&journal, 6), content(6, 10));
        journal.close();
    }

    #[tokio::test]
    async fn a_record_that_does_not_follow_the_last_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 1, 10).await;
        let (settled, wait) = tokio::sync::oneshot::channel();
        let mut repeated = submission(1, 10);
        repeated.settle = Box::new(move |outcome| settled.send(outcome).expect("someone waits"));
        journal.append(repeated).expect("open");
        let refusal = wait.await.expect("settled").expect_err("refused");
        assert_eq!((refusal.last, refusal.found), (1, 1));
        assert_eq!(await_fence(journal.as_ref()).await, Ok(Position::new(2)));
        journal.close();
    }

    /// A crash can tear the last commit. Nobody was told that it is there.
    #[tokio::test]
    async fn a_torn_commit_at_the_end_is_dropped_and_its_place_is_used_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 2, 1_000).await;
        // A copy of an open journal, as after a crash: `close` would write the block that says what
        // is synced.
        let crashed = tempfile::tempdir().expect("a folder");
        fs::create_dir(crashed.path().join("journal")).expect("a folder");
        fs::copy(folder.path().join("FORMAT"), crashed.path().join("FORMAT")).expect("copies");
        for file in segment_files(folder.path()) {
            let name = file.file_name().expect("a name");
            fs::copy(&file, crashed.path().join("journal").join(name)).expect("copies");
        }
        journal.close();
        drop(journal);
        let (folder, _live) = (crashed, folder);
        let file = &segment_files(folder.path())[0];
        let bytes = fs::read(file).expect("reads");
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("content");
        flip(file, end as u64 - 100);

        let journal = open(folder.path());
        assert_eq!(await_fence(journal.as_ref()).await, Ok(Position::new(2)));
        append(&journal, 2, 2, 10).await;
        assert_eq!(record(&journal, 2), content(2, 10));
        journal.close();
    }

    #[tokio::test]
    async fn a_changed_byte_in_an_acknowledged_block_is_named_and_nothing_is_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 3, 1_000).await;
        journal.close();
        drop(journal);

        let file = segment_files(folder.path()).remove(0);
        for offset in [64, 100, 1_200, 2_500] {
            flip(&file, offset);
            let damaged = fs::read(&file).expect("reads");
            let error = try_open(folder.path()).err().expect("damaged");
            assert!(
                matches!(error, StoreOpenError::Broken { .. }),
                "{offset}: {error}"
            );
            assert_eq!(fs::read(&file).expect("reads"), damaged);
            flip(&file, offset);
        }
        flip(&file, 9);
        let error = try_open(folder.path()).err().expect("damaged");
        assert!(
            matches!(error, StoreOpenError::BrokenHeader { .. }),
            "{error}"
        );
        flip(&file, 9);
        let journal = open(folder.path());
        assert_eq!(record(&journal, 3), content(3, 1_000));
        journal.close();
    }

    #[tokio::test]
    async fn a_damaged_block_in_an_older_segment_is_named_when_it_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 5, 30_000).await;
        journal.close();
        drop(journal);
        flip(&segment_files(folder.path())[0], 40_000);

        let journal = open(folder.path());
        let error = journal
            .read_frame_at(Position::new(2))
            .expect_err("damaged");
        assert!(
            matches!(&error, JournalReadError::Corrupt { position, .. } if position.get() == 2),
            "{error}"
        );
        assert_eq!(record(&journal, 1), content(1, 30_000));
        assert_eq!(record(&journal, 5), content(5, 30_000));
        journal.close();
    }

    #[tokio::test]
    async fn a_missing_or_foreign_segment_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 9, 30_000).await;
        journal.close();
        drop(journal);

        let files = segment_files(folder.path());
        let aside = folder.path().join("aside");
        for file in &files[..3] {
            fs::rename(file, &aside).expect("renames");
            let error = try_open(folder.path()).err().expect("a gap");
            assert!(
                matches!(&error, StoreOpenError::MissingSegment(missing) if missing == file),
                "{error}"
            );
            fs::rename(&aside, file).expect("renames");
        }

        let other = tempfile::tempdir().expect("a folder");
        let journal = open(other.path());
        append(&journal, 1, 1, 10).await;
        journal.close();
        drop(journal);
        fs::copy(&segment_files(other.path())[0], &files[0]).expect("copies");
        let error = try_open(folder.path()).err().expect("another store's");
        assert!(matches!(error, StoreOpenError::Foreign(_)), "{error}");
    }

    fn start_at_segment(journal: &SegmentJournal, number: usize) -> LogStart {
        let segments = journal.summarize_segments().expect("reads");
        let first = segments[number - 1];
        LogStart {
            segment: first.number,
            position: first.first_position,
            change: first.first_change,
            received_at: Timestamp::from_micros(5),
            content_position: Position::FIRST,
        }
    }

    /// Lets the journal begin with its segment `number`; the files before it stay.
    fn begin_with_segment(journal: &SegmentJournal, number: usize) -> RemovedSegments {
        let start = start_at_segment(journal, number);
        let base = journal.begin_base(&start).expect("creates");
        base.finish().expect("writes");
        journal.begin_at(start)
    }

    struct KeptRecord(JournalFrame);

    impl KeptRecords for KeptRecord {
        fn find_kept_record(
            &self,
            position: Position,
        ) -> Result<Option<JournalFrame>, crate::journal::KeptRecordError> {
            Ok((position == self.0.first).then(|| self.0.clone()))
        }
    }

    #[tokio::test]
    async fn removed_records_are_told_from_missing_ones_and_kept_ones_are_served() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 9, 30_000).await;
        let kept = read_frame(&journal.segments, Position::new(1)).expect("reads");
        let removed = begin_with_segment(&journal, 3);
        journal.remove_segments(removed).expect("removes");

        let start = journal.start();
        assert_eq!((start.segment, start.position.get()), (3, 5));
        for position in [1, 4] {
            let error = journal.read_frame_at(Position::new(position));
            assert!(
                matches!(&error, Err(JournalReadError::Removed { .. })),
                "{position}: {error:?}"
            );
        }
        let error = journal.read_changes(start.change - 1, &mut |_, _| ());
        assert!(start.change == 1 || error.is_err());
        assert_eq!(record(&journal, 5), content(5, 30_000));

        let kept = Arc::new(KeptRecord(kept)) as Arc<dyn KeptRecords>;
        journal.serve_kept_records(Arc::downgrade(&kept));
        assert_eq!(record(&journal, 1), content(1, 30_000));
        assert!(journal.read_frame_at(Position::new(2)).is_err());
        append(&journal, 10, 10, 10).await;
        journal.close();
        drop(journal);

        let journal = open(folder.path());
        assert_eq!(journal.start(), start);
        assert_eq!(record(&journal, 10), content(10, 10));
        journal.close();
        drop(journal);
        fs::remove_file(folder.path().join("journal/BASE")).expect("there");
        let error = try_open(folder.path()).err().expect("no base");
        assert!(
            matches!(error, StoreOpenError::MissingSegment(_)),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_interrupted_removal_of_segments_is_finished_by_the_next_opening() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 9, 30_000).await;
        drop(begin_with_segment(&journal, 3));
        let first_file = || segment_files(folder.path()).remove(0);
        assert!(first_file().ends_with("0000000001.segment"));
        journal.close();
        drop(journal);

        let journal = open(folder.path());
        assert!(first_file().ends_with("0000000003.segment"));
        assert_eq!(record(&journal, 5), content(5, 30_000));
        journal.close();
        drop(journal);
        // The third segment is the first one now.
        fs::remove_file(first_file()).expect("there");
        let error = try_open(folder.path()).err().expect("a gap");
        assert!(
            matches!(error, StoreOpenError::MissingSegment(_)),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_journal_that_keeps_only_its_newest_segment_opens() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 3, 50_000).await;
        let last = journal.summarize_segments().expect("reads").len();
        let removed = begin_with_segment(&journal, last);
        journal.remove_segments(removed).expect("removes");
        journal.close();
        drop(journal);
        let journal = open(folder.path());
        assert_eq!(await_fence(journal.as_ref()).await, Ok(Position::new(4)));
        assert_eq!(record(&journal, 3), content(3, 50_000));
        journal.close();
    }

    /// Filter that replaces the records at some positions, and drops the changes of one key.
    struct SampleFilter {
        positions: Vec<u64>,
        key: u8,
    }

    impl ContentFilter for SampleFilter {
        fn replace_record(&self, position: Position, record: &Bytes) -> Option<Bytes> {
            let is_chosen = self.positions.contains(&position.get()) && record != "erased";
            is_chosen.then(|| "erased".into())
        }

        fn hides_record(&self, position: Position, _: &EntityKey) -> bool {
            self.positions.contains(&position.get())
        }

        fn judge_change(&self, _: u8, change: &TableChange) -> ChangeVerdict {
            match change {
                TableChange::Put { key, .. } if key == &[self.key] => ChangeVerdict::Drop,
                TableChange::Put { key, value } if value.len() > 30_000 => {
                    ChangeVerdict::Replace(TableChange::Put {
                        key: key.clone(),
                        value: b"less".to_vec(),
                    })
                }
                _ => ChangeVerdict::Keep,
            }
        }
    }

    async fn change(journal: &SegmentJournal, keys: &[u8], bytes: usize) {
        let put = |key: &u8| TableChange::Put {
            key: vec![*key],
            value: content(u64::from(*key), bytes),
        };
        let (settled, wait) = tokio::sync::oneshot::channel();
        journal
            .append_changes(TableSubmission {
                changes: Arc::new(TableChanges {
                    table: 3,
                    changes: keys.iter().map(put).collect(),
                }),
                settle: Box::new(move |number| settled.send(number).expect("someone waits")),
            })
            .expect("open");
        wait.await.expect("settled");
    }

    fn rewrite_all(journal: &SegmentJournal, filter: &SampleFilter) -> Vec<bool> {
        let numbers = journal.segment_numbers().into_iter();
        let rewritten = numbers.map(|number| journal.rewrite_segment(number, filter));
        rewritten.map(|result| result.expect("rewrites")).collect()
    }

    fn files_hold(folder: &Path, wanted: &[u8]) -> bool {
        segment_files(folder).iter().any(|file| {
            let bytes = fs::read(file).expect("reads");
            bytes.windows(wanted.len()).any(|part| part == wanted)
        })
    }

    #[tokio::test]
    async fn rewritten_segments_lose_what_the_filter_names_and_nothing_else_moves() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 4, 30_000).await;
        change(&journal, &[11, 12], 20_000).await;
        change(&journal, &[11], 20_000).await;
        change(&journal, &[13], 30_001).await;
        append(&journal, 5, 9, 30_000).await;
        let filter = SampleFilter {
            positions: vec![2, 9],
            key: 11,
        };
        // The reader stands in a segment that is about to be replaced.
        assert_eq!(record(&journal, 1), content(1, 30_000));
        journal.recent.clear();
        assert_eq!(record(&journal, 1), content(1, 30_000));

        let before = journal.segment_numbers().len();
        let rewritten = rewrite_all(&journal, &filter);
        assert_eq!(rewritten.iter().filter(|is_done| **is_done).count(), 4);
        // The last one was in use, and another is begun.
        assert_eq!(journal.segment_numbers().len(), before + 1);
        assert!(!rewrite_all(&journal, &filter).contains(&true));
        append(&journal, 10, 10, 10).await;

        let check = |journal: &SegmentJournal| {
            for position in 1..=9 {
                let expected = match position {
                    2 | 9 => b"erased".to_vec(),
                    _ => content(position, 30_000),
                };
                assert_eq!(record(journal, position), expected, "at {position}");
            }
            assert_eq!(record(journal, 10), content(10, 10));
            let put = |key: u8, value: Vec<u8>| TableChange::Put {
                key: vec![key],
                value,
            };
            let groups = [
                (1, vec![put(12, content(12, 20_000))]),
                (3, vec![put(13, b"less".to_vec())]),
            ];
            let groups =
                groups.map(|(number, changes)| (number, TableChanges { table: 3, changes }));
            assert_eq!(changes(journal, 1), groups);
            assert_eq!(changes(journal, 2), groups[1..]);
        };
        check(&journal);
        journal.close();
        drop(journal);

        let leftover = segment_files(folder.path())[0].with_extension("rewrite");
        fs::write(&leftover, "unfinished").expect("writes");
        let journal = open(folder.path());
        check(&journal);
        assert!(!leftover.exists());
        let report = verify_journal(
            folder.path(),
            &ContentCipher::default(),
            VerifiedPart::Everything,
        )
        .expect("reads");
        assert_eq!((report.damage, report.records), (Vec::new(), 10));
        for (gone, bytes) in [(2, 30_000), (9, 30_000), (11, 20_000)] {
            assert!(!files_hold(folder.path(), &content(gone, bytes)[..100]));
        }
        assert!(files_hold(folder.path(), &content(8, 30_000)[..100]));
        journal.close();
    }

    /// A tail that was discarded after a failed sync stays in its file, and no filter sees it.
    #[tokio::test]
    async fn a_discarded_tail_goes_when_a_segment_is_rewritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 5, 30_000).await;
        let first = segment_files(folder.path())[0].clone();
        let length = fs::metadata(&first).expect("is there").len();
        let file = fs::OpenOptions::new().write(true).open(&first);
        let tail = b"Ada's discarded tail";
        std::os::unix::fs::FileExt::write_all_at(&file.expect("opens"), tail, length - 40)
            .expect("writes");
        let filter = SampleFilter {
            positions: Vec::new(),
            key: 1,
        };
        assert!(journal.rewrite_segment(1, &filter).expect("rewrites"));
        assert!(!files_hold(folder.path(), tail));
        assert!(!journal.rewrite_segment(1, &filter).expect("rewrites"));
        assert!(!journal.rewrite_segment(2, &filter).expect("rewrites"));
        assert_eq!(record(&journal, 1), content(1, 30_000));
        journal.close();
    }

    /// Filter during whose work segments are removed.
    struct RemovingFilter {
        journal: Arc<SegmentJournal>,
        start: LogStart,
        removed: Mutex<Option<RemovedSegments>>,
        inner: SampleFilter,
    }

    impl ContentFilter for RemovingFilter {
        fn replace_record(&self, position: Position, record: &Bytes) -> Option<Bytes> {
            let mut removed = self.removed.lock();
            removed.get_or_insert_with(|| self.journal.begin_at(self.start));
            self.inner.replace_record(position, record)
        }

        fn hides_record(&self, position: Position, entity: &EntityKey) -> bool {
            self.inner.hides_record(position, entity)
        }

        fn judge_change(&self, table: u8, change: &TableChange) -> ChangeVerdict {
            self.inner.judge_change(table, change)
        }
    }

    #[tokio::test]
    async fn a_segment_that_is_removed_while_it_is_rewritten_does_not_come_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 9, 30_000).await;
        let start = start_at_segment(&journal, 3);
        let filter = RemovingFilter {
            journal: Arc::clone(&journal),
            start,
            removed: Mutex::default(),
            inner: SampleFilter {
                positions: vec![1, 3],
                key: 1,
            },
        };
        assert!(!journal.rewrite_segment(1, &filter).expect("is gone"));
        assert!(!journal.rewrite_segment(2, &filter).expect("is gone"));
        let removed = filter.removed.lock().take().expect("was called");
        journal.remove_segments(removed).expect("removes");

        assert!(segment_files(folder.path())[0].ends_with("0000000003.segment"));
        let names = fs::read_dir(folder.path().join("journal")).expect("a folder");
        let mut names = names.map(|entry| entry.expect("reads").file_name());
        assert!(!names.any(|name| name.to_string_lossy().ends_with("rewrite")));
        assert_eq!(record(&journal, 5), content(5, 30_000));
        assert!(journal.read_changes(start.change, &mut |_, _| ()).is_ok());
        journal.close();
    }

    /// Rewriting takes a while; nobody may read the old content meanwhile.
    #[tokio::test]
    async fn a_filter_that_is_set_hides_records_from_all_readers_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 3, 30_000).await;
        journal.set_filter(Some(Arc::new(SampleFilter {
            positions: vec![2],
            key: 1,
        })));
        let recent = journal.recent_frame_at(Position::new(2)).expect("is new");
        assert_eq!(recent.entries[0].bytes, "erased");
        assert_eq!(record(&journal, 2), b"erased");
        journal.recent.clear();
        assert_eq!(record(&journal, 2), b"erased");
        let entity = EntityKey::try_new(Kind::Ticket, "S").expect("valid");
        assert!(journal.hides_record(Position::new(2), &entity));
        assert!(!journal.hides_record(Position::new(3), &entity));
        assert_eq!(record(&journal, 3), content(3, 30_000));
        journal.set_filter(None);
        assert_eq!(record(&journal, 2), content(2, 30_000));
        journal.close();
    }

    #[tokio::test]
    async fn a_segment_that_holds_nothing_for_the_filter_stays_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        append(&journal, 1, 1, 10).await;
        let nothing = SampleFilter {
            positions: vec![7],
            key: 1,
        };
        assert_eq!(rewrite_all(&journal, &nothing), [false]);
        assert_eq!(journal.segment_numbers(), [1]);
        journal.close();
        let one = SampleFilter {
            positions: vec![1],
            ..nothing
        };
        let error = journal.rewrite_segment(1, &one).expect_err("it is closed");
        assert!(matches!(error, SegmentRewriteError::Closed), "{error}");
        assert_eq!(record(&journal, 1), content(1, 10));
    }

    #[tokio::test]
    async fn a_journal_without_its_format_file_is_refused_and_an_unfinished_creation_repeated() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        journal.close();
        drop(journal);
        fs::remove_file(folder.path().join("FORMAT")).expect("there");
        let journal = open(folder.path());
        append(&journal, 1, 1, 10).await;
        journal.close();
        drop(journal);
        fs::remove_file(folder.path().join("FORMAT")).expect("there");
        let error = try_open(folder.path()).err().expect("no format");
        assert!(matches!(error, StoreOpenError::NoFormat(_)), "{error}");
    }
}
