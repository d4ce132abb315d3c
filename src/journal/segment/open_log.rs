//! Opening of a journal's segments: finds the end of the log, refuses damage, and proves the last
//! commits durable before anybody reads them.
//!
//! ```text
//!  last segment   … acknowledged blocks │ whole commits, │ torn commit │ zeros
//!                                       │ sync unknown   │             │
//!                 kept as they are      │ written again  │ zeroed      │      then one sync
//! ```
//!
//! A process can die between a write and its sync, or after a failed sync. The page cache still
//! shows such blocks, and a power failure would lose them. Hence they are written and synced again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use super::block::{BlockRead, BlockReader};
use super::header::{HEADER_BYTES, HeaderContent, SegmentHeader};
use super::rewrite::REWRITE_EXTENSION;
use super::segment_set::{Segment, SegmentSet};
use super::spare::{SpareSegment, segment_number, segment_path};
use super::unused_bytes::{has_content, zero_from};
use super::writer::{LogTail, SegmentWriter, use_segment};
use super::{Disk, DiskFile};
use crate::event::{Position, StoreIncarnation};
use crate::journal::base_file::{base_path, read_start, remove_unfinished};
use crate::journal::content_cipher::ContentCipher;
use crate::journal::log_start::LogStart;
use crate::journal::store_identity::StoreIdentity;
use crate::journal::{DataFolder, LogMark, StoreOpenError};

/// Segments of an open journal, with the writer at their end.
pub(in crate::journal) struct OpenedLog {
    pub(in crate::journal) segments: Arc<SegmentSet>,
    pub(in crate::journal) writer: SegmentWriter,
}

/// Opens the journal of `data`; creates it if the data folder is new.
///
/// Nothing behind `discard_after` is kept: a process that saw a write fail has told its callers
/// that those records are not there.
///
/// # Errors
/// [`StoreOpenError`], which names the file and tells the operator what to do.
pub(in crate::journal) fn open_log(
    data: &DataFolder,
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    discard_after: Option<LogMark>,
) -> Result<OpenedLog, StoreOpenError> {
    let log = LogFolder::new(
        data.identity(),
        data.cipher().clone(),
        disk,
        data.journal_path(),
    );
    if data.is_new() {
        log.create(segment_bytes)?;
        data.mark_initialized()?;
    }
    log.open(segment_bytes, discard_after)
}

/// Creates an empty journal with the identity of `data` in `folder`, which must not hold events.
///
/// # Errors
/// [`StoreOpenError`], which names the file and tells the operator what to do.
pub(in crate::journal) fn create_log(
    data: &DataFolder,
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segment_bytes: u64,
) -> Result<OpenedLog, StoreOpenError> {
    let log = LogFolder::new(data.identity(), data.cipher().clone(), disk, folder);
    log.create(segment_bytes)?;
    log.open(segment_bytes, None)
}

/// Folder of segment files that is being opened.
pub(in crate::journal) struct LogFolder {
    pub(super) disk: Arc<dyn Disk>,
    incarnation: StoreIncarnation,
    pub(super) seed: u32,
    pub(super) cipher: ContentCipher,
    folder: PathBuf,
}

impl LogFolder {
    pub(in crate::journal) fn new(
        identity: &StoreIdentity,
        cipher: ContentCipher,
        disk: Arc<dyn Disk>,
        folder: PathBuf,
    ) -> Self {
        Self {
            disk,
            incarnation: identity.incarnations.newest(),
            seed: identity.checksum_seed,
            cipher,
            folder,
        }
    }

    fn open(
        &self,
        segment_bytes: u64,
        discard_after: Option<LogMark>,
    ) -> Result<OpenedLog, StoreOpenError> {
        let start = self.read_start()?;
        let (mut headers, unused) = self.read_headers(discard_after, start)?;
        let last = headers.pop().ok_or_else(|| self.no_journal())?;
        let tail = self.repair_tail(&last, discard_after)?;
        remove_unfinished(self.disk.as_ref(), &self.folder)
            .map_err(|source| self.io_error(&self.folder, source))?;

        // Nothing is removed before all checks have passed. The newest file goes first, or a crash
        // could leave a gap.
        for number in unused.into_iter().rev() {
            let path = segment_path(&self.folder, number);
            self.disk
                .remove(&path)
                .and_then(|()| self.disk.sync_folder(&self.folder))
                .map_err(|source| self.io_error(&path, source))?;
        }

        self.remove_segments_before(start)?;
        self.remove_unfinished_rewrites()?;

        // Each earlier segment ends where the next one says.
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        let mut following = headers.iter().skip(1).chain([&last]);
        for header in &headers {
            let end = following
                .next()
                .map_or(HEADER_BYTES, |next| next.previous_end);
            let end = self.segment_end(header, end)?;
            segments.push(self.segment(*header, end));
        }
        let newest = self.segment(last, tail.offset);
        segments.push(Arc::clone(&newest));

        let segments = Arc::new(SegmentSet::new(
            Arc::clone(&self.disk),
            self.seed,
            self.cipher.clone(),
            segments,
        ));
        segments.begin_at(start);
        let file = self.open_file(last.number)?;
        let io = |source| self.io_error(&self.folder, source);
        let mut writer = SegmentWriter::start(
            Arc::clone(&segments),
            self.folder.clone(),
            self.incarnation,
            newest,
            file,
            tail,
            segment_bytes,
        )
        .map_err(io)?;

        // The failed process left its file as it is, also behind the mark. The header of the next
        // segment says that this does not count.
        if discard_after.is_some() {
            let begun = writer.begin_segment();
            begun.map_err(|error| io(error.into_io()))?;
        }
        Ok(OpenedLog { segments, writer })
    }

    /// Creates the journal of a new store, in place of what an interrupted creation left.
    fn create(&self, segment_bytes: u64) -> Result<(), StoreOpenError> {
        let io = |source| self.io_error(&self.folder, source);
        self.disk.create_folder(&self.folder).map_err(io)?;

        // Creation writes no block before FORMAT, so a segment with blocks has lost its FORMAT.
        for number in self.segment_numbers()? {
            let file = self.open_file(number)?;
            if has_content(file.as_ref(), HEADER_BYTES).map_err(io)? {
                return Err(StoreOpenError::NoFormat(self.folder.clone()));
            }
        }

        // A restored log may begin with a base file.
        let start = self.read_start()?;
        let header = SegmentHeader {
            seed: self.seed,
            incarnation: self.incarnation,
            number: start.segment,
            first_position: start.position,
            first_change: start.change,
            previous_end: 0,
            previous_checksum: 0,
            generation: 0,
        };
        SpareSegment::create(
            self.disk.as_ref(),
            &self.folder,
            header.number,
            segment_bytes,
        )
        .and_then(|spare| use_segment(&spare, header))
        .map_err(io)?;
        match self.folder.parent() {
            Some(data_folder) => self.disk.sync_folder(data_folder).map_err(io),
            None => Ok(()),
        }
    }

    fn segment_numbers(&self) -> Result<Vec<u64>, StoreOpenError> {
        let names = self.disk.list(&self.folder).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                self.no_journal()
            } else {
                self.io_error(&self.folder, source)
            }
        })?;
        let mut numbers: Vec<u64> = names
            .iter()
            .filter_map(|name| segment_number(name))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads the place at which the log begins.
    pub(super) fn read_start(&self) -> Result<LogStart, StoreOpenError> {
        read_start(
            self.disk.as_ref(),
            &self.folder,
            self.incarnation,
            self.seed,
        )
    }

    /// Removes the files that an interrupted removal left before `start`.
    fn remove_segments_before(&self, start: LogStart) -> Result<(), StoreOpenError> {
        let mut left = self.segment_numbers()?;
        left.retain(|number| *number < start.segment);
        if left.is_empty() {
            return Ok(());
        }
        for number in left {
            let path = segment_path(&self.folder, number);
            let removed = self.disk.remove(&path);
            removed.map_err(|source| self.io_error(&path, source))?;
        }
        self.disk
            .sync_folder(&self.folder)
            .map_err(|source| self.io_error(&self.folder, source))
    }

    /// Removes what interrupted rewritings have left.
    fn remove_unfinished_rewrites(&self) -> Result<(), StoreOpenError> {
        let io = |source| self.io_error(&self.folder, source);
        let names = self.disk.list(&self.folder).map_err(io)?;
        let paths = names.iter().map(|name| self.folder.join(name));
        for path in paths.filter(|path| path.extension() == Some(REWRITE_EXTENSION.as_ref())) {
            self.disk.remove(&path).map_err(io)?;
        }
        Ok(())
    }

    /// Returns the end of a segment that is not the newest. `original_end` is in the header of the
    /// next one, which speaks of the segment before a rewriting.
    pub(super) fn segment_end(
        &self,
        header: &SegmentHeader,
        original_end: u64,
    ) -> Result<u64, StoreOpenError> {
        if header.generation == 0 {
            return Ok(original_end);
        }
        let length = self.open_file(header.number)?.len();
        length.map_err(|source| self.io_error(&segment_path(&self.folder, header.number), source))
    }

    /// Returns the headers of all segments in use from `start` on, in order, and the numbers of the
    /// other files.
    pub(super) fn read_headers(
        &self,
        discard_after: Option<LogMark>,
        start: LogStart,
    ) -> Result<(Vec<SegmentHeader>, Vec<u64>), StoreOpenError> {
        let is_discarded = |number| discard_after.is_some_and(|mark| number > mark.segment);
        let mut headers: Vec<SegmentHeader> = Vec::new();
        let mut unused = Vec::new();
        let mut numbers = self.segment_numbers()?;
        numbers.retain(|number| *number >= start.segment);
        for number in numbers {
            let header = if is_discarded(number) {
                None
            } else {
                self.read_header(number)?
            };
            match (header, unused.first()) {
                (None, _) => unused.push(number),
                (Some(header), None) => headers.push(header),
                // Segments are used in order, so the unused one has lost its header.
                (Some(_), Some(lost)) => return Err(self.broken_header(*lost)),
            }
        }

        // The first segment is the one that the base names; each later one has the next number.
        for (header, expected) in headers.iter().zip(start.segment..) {
            if header.number != expected {
                return Err(StoreOpenError::MissingSegment(segment_path(
                    &self.folder,
                    expected,
                )));
            }
        }
        let first = headers.first();
        let fits = |first: &SegmentHeader| {
            (first.first_position, first.first_change) == (start.position, start.change)
        };
        if start.segment > 1 && !first.is_none_or(fits) {
            return Err(StoreOpenError::BrokenBase {
                file: base_path(&self.folder),
            });
        }
        Ok((headers, unused))
    }

    /// Reads the header of segment `number`; `None` if the segment was never in use.
    fn read_header(&self, number: u64) -> Result<Option<SegmentHeader>, StoreOpenError> {
        let path = segment_path(&self.folder, number);
        let file = self.open_file(number)?;
        let mut bytes = vec![0; HEADER_BYTES as usize];
        let count = file
            .read_at(&mut bytes, 0)
            .map_err(|source| self.io_error(&path, source))?;
        bytes.truncate(count);

        match SegmentHeader::decode(&bytes, self.seed) {
            HeaderContent::Header(header) if header.incarnation != self.incarnation => {
                Err(StoreOpenError::Foreign(path))
            }
            HeaderContent::Header(header) if header.number == number => Ok(Some(header)),
            HeaderContent::Header(_) => Err(self.broken_header(number)),
            other => {
                // No block is written before the header is synced.
                let is_used = has_content(file.as_ref(), HEADER_BYTES)
                    .map_err(|source| self.io_error(&path, source))?;
                match other {
                    _ if !is_used => Ok(None),
                    HeaderContent::Foreign(incarnation) if incarnation != self.incarnation => {
                        Err(StoreOpenError::Foreign(path))
                    }
                    _ => Err(self.broken_header(number)),
                }
            }
        }
    }

    /// Finds the end of the log in the last segment, and makes sure that everything before it is on
    /// the disk, and that nothing is behind it.
    fn repair_tail(
        &self,
        header: &SegmentHeader,
        discard_after: Option<LogMark>,
    ) -> Result<LogTail, StoreOpenError> {
        let path = segment_path(&self.folder, header.number);
        let io = |source| self.io_error(&path, source);
        let file = self.open_file(header.number)?;
        let limit = discard_after
            .filter(|mark| mark.segment == header.number)
            .map(|mark| mark.offset);

        let scan = self.scan_tail(&file, header, limit).map_err(io)?;
        let mut reader = BlockReader::new(Arc::clone(&file), self.seed);
        let is_damaged = match limit {
            // The process that set the limit had synced everything before it.
            Some(limit) => scan.end.offset != limit,
            None => reader.has_later_synced_block(scan.torn_at).map_err(io)?,
        };
        if is_damaged {
            return Err(StoreOpenError::Broken {
                file: path,
                offset: scan.torn_at,
                position: scan.torn_position.get(),
            });
        }
        if limit.is_some() {
            return Ok(scan.end);
        }

        let zeroed = zero_from(file.as_ref(), scan.end.offset).map_err(io)?;
        if zeroed {
            warn!(
                segment = %path.display(),
                offset = scan.end.offset,
                "incomplete commit at the end of the journal dropped"
            );
        }
        // Without a block that proves a sync, the header is in doubt too.
        let proven = if scan.synced_end > HEADER_BYTES {
            scan.synced_end
        } else {
            0
        };
        rewrite(file.as_ref(), proven, scan.end.offset)
            .and_then(|()| file.sync_data())
            .map_err(io)?;
        Ok(scan.end)
    }

    /// Reads the blocks of the last segment up to `limit`.
    pub(super) fn scan_tail(
        &self,
        file: &Arc<dyn DiskFile>,
        header: &SegmentHeader,
        limit: Option<u64>,
    ) -> io::Result<TailScan> {
        let mut at = LogTail {
            offset: HEADER_BYTES,
            chain: header.checksum(),
            position: header.first_position,
            change: header.first_change,
        };
        let mut scan = TailScan {
            end: at,
            synced_end: HEADER_BYTES,
            torn_at: HEADER_BYTES,
            torn_position: at.position,
        };

        let mut reader = BlockReader::new(Arc::clone(file), self.seed);
        while limit.is_none_or(|limit| at.offset < limit) {
            let BlockRead::Whole(stored) = reader.read_block(at.offset)? else {
                break;
            };
            let block = &stored.block;
            if stored.chain != at.chain || block.number != at.next_number(block.content) {
                break;
            }
            at.advance(block, stored.end(), stored.checksum);
            (scan.torn_at, scan.torn_position) = (at.offset, at.position);
            scan.synced_end = stored.synced.max(HEADER_BYTES);
            if block.ends_commit {
                scan.end = at;
            }
        }
        Ok(scan)
    }

    pub(super) fn segment(&self, header: SegmentHeader, end: u64) -> Arc<Segment> {
        let path = segment_path(&self.folder, header.number);
        Arc::new(Segment::new(header, path, end))
    }

    pub(super) fn open_file(&self, number: u64) -> Result<Arc<dyn DiskFile>, StoreOpenError> {
        let path = segment_path(&self.folder, number);
        self.disk
            .open(&path)
            .map_err(|source| self.io_error(&path, source))
    }

    pub(super) fn io_error(&self, path: &Path, source: io::Error) -> StoreOpenError {
        StoreOpenError::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn no_journal(&self) -> StoreOpenError {
        StoreOpenError::NoJournal {
            folder: self.folder.clone(),
        }
    }

    fn broken_header(&self, number: u64) -> StoreOpenError {
        StoreOpenError::BrokenHeader {
            file: segment_path(&self.folder, number),
        }
    }
}

/// Result of reading the last segment.
pub(super) struct TailScan {
    /// Place after the last whole commit.
    pub(super) end: LogTail,
    /// Offset up to which the blocks say that everything was synced.
    synced_end: u64,
    /// Offset of the first bytes that continue nothing.
    pub(super) torn_at: u64,
    /// Position of the record that would have been there.
    pub(super) torn_position: Position,
}

/// Writes the bytes from `begin` to `end` again.
fn rewrite(file: &dyn DiskFile, begin: u64, end: u64) -> io::Result<()> {
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(begin)).map_err(io::Error::other)?];
    let count = file.read_at(&mut bytes, begin)?;
    file.write_all_at(&bytes[..count], begin)
}
