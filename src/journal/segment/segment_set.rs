//! Set of all segments, shared by the writer and the readers: finds the block of a position.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::block::{BlockBodyError, BlockContent, BlockRead, BlockReader, OpenedBody, StoredBlock};
use super::header::{HEADER_BYTES, SegmentHeader};
use super::{Disk, DiskFile};
use crate::event::Position;
use crate::journal::base_file::base_path;
use crate::journal::content_cipher::ContentCipher;
use crate::journal::log_start::LogStart;
use crate::journal::submission::JournalReadError;

/// Distance between two entries of a segment's index: one read of this size finds a record.
const INDEX_STRIDE_BYTES: u64 = 64 * 1024;

/// Cursors that are kept: for the projection, the dispatcher, and some subscribers that are behind.
/// Each has a buffer.
const CURSORS_MAX: usize = 16;

/// One segment file and its readable part.
pub(in crate::journal) struct Segment {
    header: SegmentHeader,
    path: PathBuf,
    /// Length of the content that readers may see: synced blocks of whole commits.
    end: AtomicU64,
    /// Length of the file, once it was asked for when the segment was full.
    file_bytes: OnceLock<u64>,
    /// Positions with the offsets of their blocks, every [`INDEX_STRIDE_BYTES`] or so; `None` until
    /// the segment is read for the first time.
    index: Mutex<Option<SparseIndex>>,
}

impl Segment {
    pub(super) fn new(header: SegmentHeader, path: PathBuf, end: u64) -> Self {
        Self {
            header,
            path,
            end: AtomicU64::new(end),
            file_bytes: OnceLock::new(),
            index: Mutex::new(None),
        }
    }

    pub(super) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets readers see the content before `end`.
    pub(super) fn publish_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Returns the body of a block of this segment, as it was before compression and encryption.
    ///
    /// # Errors
    /// [`JournalReadError`] when the body is malformed, or `cipher` does not have its key.
    pub(in crate::journal) fn open_body(
        &self,
        stored: &StoredBlock,
        cipher: &ContentCipher,
    ) -> Result<OpenedBody, JournalReadError> {
        let describe = || self.path.display().to_string();
        let body = stored.block.open_body(cipher, describe);
        body.map_err(|error| match error {
            BlockBodyError::Malformed => self.corrupt_block(stored),
            BlockBodyError::Encrypted(error) => error.into(),
        })
    }

    /// Error for a block that has a correct checksum and content of an unknown form.
    pub(in crate::journal) fn corrupt_block(&self, stored: &StoredBlock) -> JournalReadError {
        self.corrupt_at(stored.offset, Position::new(stored.block.number))
    }

    pub(super) fn corrupt_at(&self, offset: u64, position: Position) -> JournalReadError {
        JournalReadError::Corrupt {
            file: self.path.clone(),
            offset,
            position,
        }
    }

    pub(super) fn open_file(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, JournalReadError> {
        disk.open(&self.path).map_err(|error| self.io_error(error))
    }

    /// Returns the length of the file, which does not change once the segment is full.
    fn file_bytes(&self, disk: &dyn Disk, is_full: bool) -> Result<u64, JournalReadError> {
        if let Some(bytes) = self.file_bytes.get() {
            return Ok(*bytes);
        }
        let file = self.open_file(disk)?;
        let bytes = file.len().map_err(|error| self.io_error(error))?;
        if is_full {
            // Another reader has found the same.
            let _ = self.file_bytes.set(bytes);
        }
        Ok(bytes)
    }

    pub(super) fn io_error(&self, source: std::io::Error) -> JournalReadError {
        JournalReadError::Io {
            file: self.path.clone(),
            source,
        }
    }

    /// Returns the offset at which a search for `position` begins.
    fn search_offset(
        &self,
        file: &Arc<dyn DiskFile>,
        seed: u32,
        position: u64,
    ) -> Result<u64, JournalReadError> {
        if position == self.header.first_position.get() {
            return Ok(HEADER_BYTES);
        }
        let mut index = self.index.lock();
        let index = index.get_or_insert_with(SparseIndex::default);
        let end = self.end();

        // The index grows with the searches, up to the block that is searched for.
        if index.scanned_position <= position && index.scanned_end < end {
            let mut reader = BlockReader::new(Arc::clone(file), seed);
            while index.scanned_position <= position && index.scanned_end < end {
                let offset = index.scanned_end;
                match reader
                    .read_block(offset)
                    .map_err(|error| self.io_error(error))?
                {
                    BlockRead::Whole(stored) => index.add_block(&stored),
                    // A search behind this offset ends here too, and names the position.
                    BlockRead::Nothing | BlockRead::Broken => break,
                }
            }
        }
        Ok(index.search_offset(position))
    }
}

/// Offsets of some blocks of records, in order.
struct SparseIndex {
    entries: Vec<(u64, u64)>,
    scanned_end: u64,
    /// Position after the last record before `scanned_end`.
    scanned_position: u64,
}

impl Default for SparseIndex {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            scanned_end: HEADER_BYTES,
            scanned_position: 0,
        }
    }
}

impl SparseIndex {
    fn add_block(&mut self, stored: &StoredBlock) {
        let is_due = self
            .entries
            .last()
            .is_none_or(|(_, offset)| stored.offset >= offset + INDEX_STRIDE_BYTES);
        if is_due && stored.block.content == BlockContent::Records {
            self.entries.push((stored.block.number, stored.offset));
        }
        if stored.block.content == BlockContent::Records {
            self.scanned_position = stored.block.next_number();
        }
        self.scanned_end = stored.end();
    }

    fn search_offset(&self, position: u64) -> u64 {
        let after = self
            .entries
            .partition_point(|(first, _)| *first <= position);
        after
            .checked_sub(1)
            .map_or(HEADER_BYTES, |index| self.entries[index].1)
    }
}

/// Place in a segment at which a follower goes on reading.
struct ReadCursor {
    segment: Arc<Segment>,
    reader: BlockReader,
    offset: u64,
    next_position: Position,
}

impl ReadCursor {
    /// Reads on to the block of records that contains `position`.
    fn find_block(&mut self, position: Position) -> Result<StoredBlock, JournalReadError> {
        let end = self.segment.end();
        while self.offset < end {
            let read = self.reader.read_block_before(self.offset, end);
            let read = read.map_err(|error| self.segment.io_error(error))?;
            let BlockRead::Whole(stored) = read else {
                return Err(self.segment.corrupt_at(self.offset, position));
            };
            self.offset = stored.end();
            let block = &stored.block;
            let is_found = block.content == BlockContent::Records
                && (block.number..block.next_number()).contains(&position.get());
            if is_found {
                return Ok(stored);
            }
        }
        Err(self.segment.corrupt_at(end, position))
    }
}

/// Place and size of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Number of the segment, counted from 1.
    pub number: u64,
    /// Position of the first record in or after the segment.
    pub first_position: Position,
    /// Number of the first group of table changes in or after the segment.
    pub first_change: u64,
    /// Length of the segment's file in bytes.
    pub file_bytes: u64,
}

/// All segments of a journal, in order.
///
/// The lock of the list keeps the list and the files the same: a segment is opened, replaced and
/// taken off the list under it, and its file is removed only when it is off the list.
pub(in crate::journal) struct SegmentSet {
    disk: Arc<dyn Disk>,
    /// Checksum seed of the store.
    seed: u32,
    /// Keys of the bodies of blocks.
    cipher: ContentCipher,
    segments: RwLock<Vec<Arc<Segment>>>,
    /// First place that is kept; it moves before the files of the segments before it go.
    start: RwLock<LogStart>,
    /// Cursors of the last reads, oldest first: a follower reads block after block, and need not
    /// search each.
    cursors: Mutex<VecDeque<ReadCursor>>,
}

impl SegmentSet {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        seed: u32,
        cipher: ContentCipher,
        segments: Vec<Arc<Segment>>,
    ) -> Self {
        Self {
            disk,
            seed,
            cipher,
            segments: RwLock::new(segments),
            start: RwLock::new(LogStart::BEGINNING),
            cursors: Mutex::default(),
        }
    }

    pub(in crate::journal) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(in crate::journal) fn seed(&self) -> u32 {
        self.seed
    }

    pub(in crate::journal) fn cipher(&self) -> &ContentCipher {
        &self.cipher
    }

    /// Returns all segments, oldest first.
    pub(super) fn list(&self) -> Vec<Arc<Segment>> {
        self.segments.read().clone()
    }

    /// Returns the base file, or one segment, if it is missing. The segment is another one at each
    /// `turn`.
    pub(super) fn find_missing_file(&self, turn: usize) -> Option<PathBuf> {
        // Under the lock: a segment is taken out of the set before its file is removed.
        let segments = self.segments.read();
        let segment = segments.get(turn % segments.len().max(1))?.path();
        let base = segment.parent().map(base_path);
        let base = base.filter(|_| self.start.read().needs_base());
        let mut files = base.into_iter().chain([segment.to_owned()]);
        // Another error is no proof that the file is gone.
        let is_missing = |file: &PathBuf| {
            let opened = self.disk.open(file);
            opened.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        files.find(is_missing)
    }

    pub(super) fn find_segment(&self, number: u64) -> Option<Arc<Segment>> {
        find_number(&self.segments.read(), number).map(Arc::clone)
    }

    /// Opens segment `number`; `None` if it is not there, or not any more.
    ///
    /// # Errors
    /// [`JournalReadError`] when the file cannot be opened.
    pub(super) fn open_segment(
        &self,
        number: u64,
    ) -> Result<Option<OpenSegment>, JournalReadError> {
        // Under the lock, so that the file is neither replaced nor removed before it is open.
        let segments = self.segments.read();
        let Some(segment) = find_number(&segments, number) else {
            return Ok(None);
        };
        let file = segment.open_file(self.disk.as_ref())?;
        Ok(Some((Arc::clone(segment), file)))
    }

    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.segments.write().push(segment);
    }

    /// Returns the place at which the kept segments begin.
    pub(in crate::journal) fn start(&self) -> LogStart {
        *self.start.read()
    }

    /// Lets the kept part begin at `start`, without removing any file. Returns the paths of the
    /// segments before it, oldest first.
    pub(in crate::journal) fn begin_at(&self, start: LogStart) -> Vec<PathBuf> {
        let mut segments = self.segments.write();
        *self.start.write() = start;
        let is_removed = |segment: &Segment| segment.header.number < start.segment;
        let count = segments.partition_point(|segment| is_removed(segment));
        let removed = segments.drain(..count);
        let paths = removed.map(|segment| segment.path.clone()).collect();
        self.cursors
            .lock()
            .retain(|cursor| !is_removed(&cursor.segment));
        paths
    }

    /// Returns all segments in order, with the sizes of their files.
    ///
    /// # Errors
    /// [`JournalReadError`] when a file cannot be opened.
    pub(in crate::journal) fn summarize(&self) -> Result<Vec<SegmentSummary>, JournalReadError> {
        // Under the lock, so that no file is removed before it is open.
        let segments = self.segments.read();
        let newest = segments.last().map_or(0, |newest| newest.header.number);
        let summaries = segments.iter().map(|segment| {
            let is_full = segment.header.number < newest;
            Ok(SegmentSummary {
                number: segment.header.number,
                first_position: segment.header.first_position,
                first_change: segment.header.first_change,
                file_bytes: segment.file_bytes(self.disk.as_ref(), is_full)?,
            })
        });
        summaries.collect()
    }

    /// Returns the block of records that contains `position`, which must be durable.
    ///
    /// # Errors
    /// [`JournalReadError`] when the record was removed, a file cannot be read, or the block is
    /// corrupt.
    pub(in crate::journal) fn read_block_at(
        &self,
        position: Position,
    ) -> Result<(Arc<Segment>, StoredBlock), JournalReadError> {
        let found = self.find_block_at(position);
        // The segment may have been removed while it was read.
        found.map_err(|error| match self.start() {
            start if position < start.position => JournalReadError::Removed { position, start },
            _ => error,
        })
    }

    fn find_block_at(
        &self,
        position: Position,
    ) -> Result<(Arc<Segment>, StoredBlock), JournalReadError> {
        let mut cursor = match self.take_cursor(position) {
            Some(cursor) => cursor,
            None => self.open_cursor(position)?,
        };
        let stored = cursor.find_block(position)?;
        cursor.next_position = Position::new(stored.block.next_number());
        let segment = Arc::clone(&cursor.segment);
        self.keep_cursor(cursor);
        Ok((segment, stored))
    }

    /// Takes a cursor that stands just before `position`, which a follower left there.
    fn take_cursor(&self, position: Position) -> Option<ReadCursor> {
        let segments = self.segments.read();
        let segment = find_segment(&segments, position)?;
        let mut cursors = self.cursors.lock();
        let is_next = |cursor: &ReadCursor| {
            cursor.next_position == position && Arc::ptr_eq(&cursor.segment, segment)
        };
        let index = cursors.iter().position(is_next)?;
        cursors.remove(index)
    }

    fn open_cursor(&self, position: Position) -> Result<ReadCursor, JournalReadError> {
        let (segment, file) = {
            // Under the lock, so that the file is not replaced before it is open.
            let segments = self.segments.read();
            let found = find_segment(&segments, position);
            let segment = found.ok_or(JournalReadError::Missing(position))?;
            (Arc::clone(segment), segment.open_file(self.disk.as_ref())?)
        };
        let offset = segment.search_offset(&file, self.seed, position.get())?;
        Ok(ReadCursor {
            reader: BlockReader::new(file, self.seed),
            segment,
            offset,
            next_position: position,
        })
    }

    fn keep_cursor(&self, cursor: ReadCursor) {
        let segments = self.segments.read();
        let found = find_number(&segments, cursor.segment.header.number);
        let is_current = found.is_some_and(|segment| Arc::ptr_eq(segment, &cursor.segment));
        // An open file of a removed or replaced segment would keep its place on the disk.
        if !is_current {
            return;
        }
        let mut cursors = self.cursors.lock();
        if cursors.len() == CURSORS_MAX {
            cursors.pop_front();
        }
        cursors.push_back(cursor);
    }

    /// Calls `visit` with each readable block from the first segment that can hold the change group
    /// `first_change`, in order.
    ///
    /// # Errors
    /// [`JournalReadError`] when a file cannot be read, or a block is corrupt; or an error of
    /// `visit`.
    pub(in crate::journal) fn visit_blocks(
        &self,
        first_change: u64,
        visit: &mut dyn FnMut(&Segment, StoredBlock) -> Result<(), JournalReadError>,
    ) -> Result<(), JournalReadError> {
        let mut number = {
            let segments = self.segments.read();
            let after =
                segments.partition_point(|segment| segment.header.first_change <= first_change);
            let first = segments.get(after.saturating_sub(1));
            first.map_or(0, |segment| segment.header.number)
        };
        loop {
            let start = self.start();
            // Segments may be removed while the ones before them are read.
            if first_change < start.change || number < start.segment {
                return Err(JournalReadError::RemovedChange {
                    number: first_change,
                    first: start.change,
                });
            }
            let Some((segment, file)) = self.open_segment(number)? else {
                return Ok(());
            };
            segment.visit_blocks(file, self.seed, visit)?;
            number += 1;
        }
    }

    /// Calls `visit` with each readable block of segment `number`, in order.
    ///
    /// # Errors
    /// [`JournalReadError`] when the file cannot be read, or a block is corrupt; or an error of
    /// `visit`.
    pub(super) fn visit_segment(
        &self,
        number: u64,
        visit: &mut dyn FnMut(&Segment, StoredBlock) -> Result<(), JournalReadError>,
    ) -> Result<(), JournalReadError> {
        match self.open_segment(number)? {
            Some((segment, file)) => segment.visit_blocks(file, self.seed, visit),
            None => Ok(()),
        }
    }

    /// Returns the numbers of all segments, in order.
    pub(in crate::journal) fn numbers(&self) -> Vec<u64> {
        let segments = self.segments.read();
        segments
            .iter()
            .map(|segment| segment.header.number)
            .collect()
    }

    /// Renames the file `path` over the one of the segment with the same number, and lets readers
    /// see `replacement` from then on. Returns `false` if there is no such segment any more; the
    /// file `path` is removed then.
    ///
    /// # Errors
    /// The error of the operating system. If only the sync of the folder failed, readers see the
    /// new file, and a power failure may bring back the old one.
    pub(super) fn replace(&self, replacement: Segment, path: &Path) -> io::Result<bool> {
        let replacement = Arc::new(replacement);
        let number = replacement.header.number;
        {
            let mut segments = self.segments.write();
            let index = segments.binary_search_by_key(&number, |segment| segment.header.number);
            let Ok(index) = index else {
                self.disk.remove(path)?;
                return Ok(false);
            };
            self.disk.rename(path, &replacement.path)?;
            // A cursor holds an offset in the old file, and keeps its blocks on the disk.
            let is_other = |cursor: &ReadCursor| cursor.segment.header.number != number;
            self.cursors.lock().retain(is_other);
            segments[index] = Arc::clone(&replacement);
        }
        self.sync_folder_of(&replacement)?;
        Ok(true)
    }

    /// Syncs the name of the file of `segment`.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn sync_folder_of(&self, segment: &Segment) -> io::Result<()> {
        let folder = segment.path.parent();
        folder.map_or(Ok(()), |folder| self.disk.sync_folder(folder))
    }
}

/// Segment with its open file.
pub(super) type OpenSegment = (Arc<Segment>, Arc<dyn DiskFile>);

fn find_number(segments: &[Arc<Segment>], number: u64) -> Option<&Arc<Segment>> {
    let index = segments.binary_search_by_key(&number, |segment| segment.header.number);
    index.ok().map(|index| &segments[index])
}

/// Returns the segment that holds `position`, if it is durable.
fn find_segment(segments: &[Arc<Segment>], position: Position) -> Option<&Arc<Segment>> {
    let after = segments.partition_point(|segment| segment.header.first_position <= position);
    segments.get(after.checked_sub(1)?)
}

impl Segment {
    fn visit_blocks(
        &self,
        file: Arc<dyn DiskFile>,
        seed: u32,
        visit: &mut dyn FnMut(&Self, StoredBlock) -> Result<(), JournalReadError>,
    ) -> Result<(), JournalReadError> {
        let mut reader = BlockReader::new(file, seed);
        let mut next_position = self.header.first_position;
        let (mut offset, mut chain) = (HEADER_BYTES, self.header.checksum());
        let end = self.end();
        while offset < end {
            let read = reader.read_block(offset);
            let stored = match read.map_err(|error| self.io_error(error))? {
                BlockRead::Whole(stored) if stored.chain == chain => stored,
                _ => return Err(self.corrupt_at(offset, next_position)),
            };
            (offset, chain) = (stored.end(), stored.checksum);
            if stored.block.content == BlockContent::Records {
                next_position = Position::new(stored.block.next_number());
            }
            visit(self, stored)?;
        }
        Ok(())
    }
}
