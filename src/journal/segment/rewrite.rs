//! Rewriting of a segment: a new file with filtered content takes the place of the old one.
//!
//! ```text
//!  0000000007.segment ──read, filter──> 0000000007.rewrite ──sync──> renamed over the old file,
//!                                                                    then the folder is synced
//! ```
//!
//! Blocks keep their numbers and counts, so positions and the numbers of change groups stay as they
//! are. A crash leaves the old file or the new one; opening removes an unfinished file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{Block, BlockContent, OpenedBody, StoredBlock};
use super::header::{HEADER_BYTES, SegmentHeader};
use super::segment_set::{Segment, SegmentSet};
use super::unused_bytes::has_content;
use super::{Disk, DiskFile};
use crate::event::Position;
use crate::journal::content_cipher::ContentCipher;
use crate::journal::content_filter::{ContentFilter, filter_changes, filter_frame};
use crate::journal::frame::JournalFrame;
use crate::journal::submission::JournalReadError;
use crate::journal::table_changes::TableChanges;

/// Extension of a file that is to replace the segment with the same number.
pub(super) const REWRITE_EXTENSION: &str = "rewrite";

/// Bytes that are collected for one write.
const WRITE_BYTES: usize = 256 * 1024;

/// Error of rewriting a segment, which then has its old content or its new one.
#[derive(Debug, thiserror::Error)]
pub enum SegmentRewriteError {
    /// The segment could not be read.
    #[error(transparent)]
    Read(#[from] JournalReadError),
    /// The new file could not be written, synced or renamed.
    #[error("cannot write {}", file.display())]
    Write {
        /// Path of the new file.
        file: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The segment is in use by the writer, and the journal is closed.
    #[error("the journal is closed")]
    Closed,
}

/// Returns `true` if `filter` replaces or drops something in segment `number`.
///
/// # Errors
/// [`SegmentRewriteError::Read`] when the segment cannot be read.
pub(in crate::journal) fn needs_rewrite(
    segments: &SegmentSet,
    number: u64,
    filter: &dyn ContentFilter,
) -> Result<bool, SegmentRewriteError> {
    Ok(!find_changed_blocks(segments, number, filter)?.is_empty())
}

/// Writes segment `number` anew if `filter` replaces or drops something in it, or if something is left
/// behind its end, which no filter sees; returns `true` then. A segment that is removed meanwhile needs no rewriting.
///
/// The segment must be sealed: the writer is in a later one, whose header is synced, and no two
/// calls may run at once.
///
/// # Errors
/// [`SegmentRewriteError`] when the segment cannot be read, or the new file not be written.
pub(in crate::journal) fn rewrite_segment(
    segments: &SegmentSet,
    number: u64,
    filter: &dyn ContentFilter,
) -> Result<bool, SegmentRewriteError> {
    // Most segments hold nothing that the filter is for. They are read, and nothing is written.
    let changed = find_changed_blocks(segments, number, filter)?;
    let Some(old) = segments.find_segment(number) else {
        return Ok(false);
    };
    // A discarded tail stays in the file; one that was rewritten ends with its content.
    let is_original = old.header().generation == 0;
    if changed.is_empty() && !(is_original && has_content_behind_end(segments, number)?) {
        // An earlier call may have failed after its rename.
        if !is_original {
            segments.sync_folder_of(&old).map_err(|source| {
                let file = old.path().to_owned();
                SegmentRewriteError::Write { file, source }
            })?;
        }
        return Ok(false);
    }

    let path = old.path().with_extension(REWRITE_EXTENSION);
    let header = SegmentHeader {
        generation: old.header().generation + 1,
        ..*old.header()
    };
    let end = write_file(segments, &path, header, &changed)?;
    segments
        .replace(Segment::new(header, old.path().to_owned(), end), &path)
        .map_err(|source| SegmentRewriteError::Write { file: path, source })
}

/// Returns `true` if there is anything but zeros behind the last block of segment `number`.
fn has_content_behind_end(segments: &SegmentSet, number: u64) -> Result<bool, JournalReadError> {
    let Some((segment, file)) = segments.open_segment(number)? else {
        return Ok(false);
    };
    let found = has_content(file.as_ref(), segment.end());
    found.map_err(|source| JournalReadError::Io {
        file: segment.path().to_owned(),
        source,
    })
}

/// Returns the new content of all blocks of segment `number` that `filter` changes, by their
/// offsets. They are fewer bytes than the segment has.
fn find_changed_blocks(
    segments: &SegmentSet,
    number: u64,
    filter: &dyn ContentFilter,
) -> Result<BTreeMap<u64, Block>, JournalReadError> {
    let mut changed = BTreeMap::new();
    segments.visit_segment(number, &mut |segment, stored| {
        let body = segment.open_body(&stored, segments.cipher())?;
        let filtered = filter_block(&stored, body, filter, segments.cipher())
            .ok_or_else(|| segment.corrupt_block(&stored))?;
        if let Some(block) = filtered {
            changed.insert(stored.offset, block);
        }
        Ok(())
    })?;
    Ok(changed)
}

/// Filters one block with its opened body: `Some(None)` if it stays as it is, `None` if its content
/// is malformed. A block that `cipher` would store in another form changes too.
fn filter_block(
    stored: &StoredBlock,
    OpenedBody { bytes, is_current }: OpenedBody,
    filter: &dyn ContentFilter,
    cipher: &ContentCipher,
) -> Option<Option<Block>> {
    let block = &stored.block;
    let unchanged = (!is_current).then(|| bytes.to_vec());
    let filtered = match block.content {
        BlockContent::Records => {
            let frame = JournalFrame::from_body(Position::new(block.number), bytes)?;
            filter_frame(&frame, filter).map(|frame| frame.encode_body())
        }
        BlockContent::Changes => {
            let group = TableChanges::decode(bytes)?;
            filter_changes(&group, filter).map(|group| group.encode())
        }
    };
    let body = filtered.or(unchanged);
    Some(body.map(|body| block.with_body(body, cipher)))
}

/// Writes and syncs the file `path` with the content of a segment, in which the blocks at some
/// offsets are `changed`. Returns its length.
fn write_file(
    segments: &SegmentSet,
    path: &Path,
    header: SegmentHeader,
    changed: &BTreeMap<u64, Block>,
) -> Result<u64, SegmentRewriteError> {
    let io = |source| SegmentRewriteError::Write {
        file: path.to_owned(),
        source,
    };
    let disk = segments.disk().as_ref();
    let mut length = HEADER_BYTES;
    segments.visit_segment(header.number, &mut |_, stored| {
        let block = changed.get(&stored.offset).unwrap_or(&stored.block);
        length += block.stored_bytes() as u64;
        Ok(())
    })?;

    remove_if_present(disk, path).map_err(io)?;
    let file = disk.create(path, length).map_err(io)?;
    let mut writer = FileWriter {
        file,
        buffer: header.encode(),
        offset: 0,
    };
    let mut chain = header.checksum();
    let mut result = Ok(());
    segments.visit_segment(header.number, &mut |_, stored| {
        // No error of the disk is one of the segment that is read.
        if result.is_ok() {
            let block = changed.get(&stored.offset).unwrap_or(&stored.block);
            // Only the end of the last segment is ever searched for what was synced.
            chain = block.encode_into(&mut writer.buffer, header.seed, 0, chain);
            result = writer.write_if_full();
        }
        Ok(())
    })?;
    result
        .and_then(|()| writer.write())
        .and_then(|()| writer.file.sync_data())
        .map_err(io)?;
    Ok(length)
}

/// Removes the file `path`, if it exists.
///
/// # Errors
/// The error of the operating system.
pub(super) fn remove_if_present(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// File that is written from its beginning to its end.
struct FileWriter {
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    offset: u64,
}

impl FileWriter {
    fn write_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < WRITE_BYTES {
            return Ok(());
        }
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
