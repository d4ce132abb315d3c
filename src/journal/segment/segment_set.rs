//! Set of all segments, shared by the writer and the readers: finds the block of a position.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::block::{BlockContent, BlockRead, BlockReader, StoredBlock};
use super::header::{HEADER_BYTES, SegmentHeader};
use super::{Disk, DiskFile};
use crate::event::Position;
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

    /// Error for a block that has a correct checksum and content of an unknown form.
    pub(in crate::journal) fn corrupt_block(&self, stored: &StoredBlock) -> JournalReadError {
        self.corrupt_at(stored.offset, Position::new(stored.block.number))
    }

    fn corrupt_at(&self, offset: u64, position: Position) -> JournalReadError {
        JournalReadError::Corrupt {
            file: self.path.clone(),
            offset,
            position,
        }
    }

    fn open_file(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, JournalReadError> {
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

    fn io_error(&self, source: std::io::Error) -> JournalReadError {
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
pub(in crate::journal) struct SegmentSet {
    disk: Arc<dyn Disk>,
    /// Checksum seed of the store.
    seed: u32,
    segments: RwLock<Vec<Arc<Segment>>>,
    /// First place that is kept; it moves before the files of the segments before it go.
    start: RwLock<LogStart>,
    /// Cursors of the last reads, oldest first: a follower reads block after block, and need not
    /// search each.
    cursors: Mutex<VecDeque<ReadCursor>>,
}

impl SegmentSet {
    pub(super) fn new(disk: Arc<dyn Disk>, seed: u32, segments: Vec<Arc<Segment>>) -> Self {
        Self {
            disk,
            seed,
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
        let segments = self.segments.read().clone();
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
        let segment = {
            let segments = self.segments.read();
            let after =
                segments.partition_point(|segment| segment.header.first_position <= position);
            let before = after.checked_sub(1).and_then(|index| segments.get(index));
            Arc::clone(before.ok_or(JournalReadError::Missing(position))?)
        };

        let mut cursor = match self.take_cursor(&segment, position) {
            Some(cursor) => cursor,
            None => self.open_cursor(segment, position)?,
        };
        let stored = cursor.find_block(position)?;
        cursor.next_position = Position::new(stored.block.next_number());
        let segment = Arc::clone(&cursor.segment);
        self.keep_cursor(cursor);
        Ok((segment, stored))
    }

    /// Takes a cursor that stands just before `position`, which a follower left there.
    fn take_cursor(&self, segment: &Arc<Segment>, position: Position) -> Option<ReadCursor> {
        let mut cursors = self.cursors.lock();
        let is_next = |cursor: &ReadCursor| {
            cursor.next_position == position && Arc::ptr_eq(&cursor.segment, segment)
        };
        let index = cursors.iter().position(is_next)?;
        cursors.remove(index)
    }

    fn open_cursor(
        &self,
        segment: Arc<Segment>,
        position: Position,
    ) -> Result<ReadCursor, JournalReadError> {
        let file = segment.open_file(self.disk.as_ref())?;
        let offset = segment.search_offset(&file, self.seed, position.get())?;
        Ok(ReadCursor {
            reader: BlockReader::new(file, self.seed),
            segment,
            offset,
            next_position: position,
        })
    }

    fn keep_cursor(&self, cursor: ReadCursor) {
        let mut cursors = self.cursors.lock();
        // An open file of a removed segment would keep its place on the disk.
        if cursor.segment.header.number < self.start().segment {
            return;
        }
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
        let segments: Vec<_> = {
            let segments = self.segments.read();
            let first = self.start().change;
            if first_change < first {
                return Err(JournalReadError::RemovedChange {
                    number: first_change,
                    first,
                });
            }
            let after =
                segments.partition_point(|segment| segment.header.first_change <= first_change);
            segments[after.saturating_sub(1)..].to_vec()
        };
        for segment in segments {
            segment.visit_blocks(self.disk.as_ref(), self.seed, visit)?;
        }
        Ok(())
    }
}

impl Segment {
    fn visit_blocks(
        &self,
        disk: &dyn Disk,
        seed: u32,
        visit: &mut dyn FnMut(&Self, StoredBlock) -> Result<(), JournalReadError>,
    ) -> Result<(), JournalReadError> {
        let mut reader = BlockReader::new(self.open_file(disk)?, seed);
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
