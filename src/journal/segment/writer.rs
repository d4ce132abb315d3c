//! Writer of the newest segment: appends commits, syncs them, and goes on to the next segment when
//! one is full or its sync has failed.
//!
//! ```text
//!           append          sync
//!  blocks ────────> written ────> synced: readers see them
//!                      │
//!                      └── write or sync failed: the file's content after the last good sync does
//!                          not count any more. The unsynced blocks are still in memory: they are
//!                          written to the next segment, whose header says where this one ends.
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::warn;

use super::DiskFile;
use super::block::{Block, BlockContent};
use super::header::{HEADER_BYTES, SegmentHeader};
use super::segment_set::{Segment, SegmentSet};
use super::spare::{SpareSegment, SpareSegments};
use crate::event::{Position, StoreIncarnation};
use crate::journal::LogMark;
use crate::journal::content_cipher::ContentCipher;
use crate::journal::log_place::LogPlace;

/// Place in the log up to which everything is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogTail {
    /// Offset in the newest segment.
    pub(super) offset: u64,
    /// Checksum of the last block before `offset`, or of the segment's header.
    pub(super) chain: u32,
    /// Position after the last record.
    pub(super) position: Position,
    /// Number after the last group of table changes.
    pub(super) change: u64,
}

impl LogTail {
    /// Returns the place as all copies of the log name it.
    pub(super) const fn place(&self) -> LogPlace {
        LogPlace {
            position: self.position,
            change: self.change,
        }
    }

    /// Returns the number of the next block with this content.
    pub(super) fn next_number(&self, content: BlockContent) -> u64 {
        match content {
            BlockContent::Records => self.position.get(),
            BlockContent::Changes => self.change,
        }
    }

    /// Moves the place behind `block`, which ends at `offset` and has this checksum.
    pub(super) fn advance(&mut self, block: &Block, offset: u64, checksum: u32) {
        match block.content {
            BlockContent::Records => self.position = Position::new(block.next_number()),
            BlockContent::Changes => self.change = block.next_number(),
        }
        (self.offset, self.chain) = (offset, checksum);
    }
}

/// Error that ends the journal until it is opened again.
#[derive(Debug, thiserror::Error)]
pub(in crate::journal) enum SegmentWriterError {
    /// The next segment could not be created.
    #[error("cannot create the next segment of the journal")]
    Create(#[source] io::Error),
    /// A write or sync failed, and so did writing the same blocks to the next segment.
    #[error("cannot write the journal")]
    Write(#[source] io::Error),
    /// A file of the store is not the one at its path any more.
    #[error(
        "{} was removed or replaced while the node was running; put the data folder back, or restart \
         the node to use what is there",
        .0.display()
    )]
    Displaced(PathBuf),
}

impl SegmentWriterError {
    /// Returns the error of the operating system, or this one in its form.
    pub(in crate::journal) fn into_io(self) -> io::Error {
        match self {
            Self::Create(source) | Self::Write(source) => source,
            Self::Displaced(_) => io::Error::other(self),
        }
    }
}

/// Newest segment, and the blocks in it that are not synced.
pub(in crate::journal) struct SegmentWriter {
    segments: Arc<SegmentSet>,
    spares: SpareSegments,
    incarnation: StoreIncarnation,
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Size of a segment; a larger commit extends its file.
    segment_bytes: u64,
    written: LogTail,
    synced: LogTail,
    /// Blocks between `synced` and `written`.
    unsynced: Vec<Block>,
    /// Number of checks of the files' places, which says whose turn it is.
    place_checks: usize,
}

impl SegmentWriter {
    /// Continues `segment` at `tail`, before which everything is synced.
    ///
    /// # Errors
    /// The error of starting the thread that creates segments.
    pub(super) fn start(
        segments: Arc<SegmentSet>,
        folder: PathBuf,
        incarnation: StoreIncarnation,
        segment: Arc<Segment>,
        file: Arc<dyn DiskFile>,
        tail: LogTail,
        segment_bytes: u64,
    ) -> io::Result<Self> {
        let disk = Arc::clone(segments.disk());
        let next_number = segment.header().number + 1;
        Ok(Self {
            spares: SpareSegments::start(disk, folder, next_number, segment_bytes)?,
            segments,
            incarnation,
            segment,
            file,
            segment_bytes,
            written: tail,
            synced: tail,
            unsynced: Vec::new(),
            place_checks: 0,
        })
    }

    /// Returns the keys of the blocks to append.
    pub(in crate::journal) fn cipher(&self) -> &ContentCipher {
        self.segments.cipher()
    }

    /// Returns the place after the last synced block.
    pub(in crate::journal) fn synced_mark(&self) -> LogMark {
        LogMark {
            segment: self.segment.header().number,
            offset: self.synced.offset,
        }
    }

    /// Returns the place in the log after the last synced block.
    pub(in crate::journal) fn synced_place(&self) -> LogPlace {
        self.synced.place()
    }

    /// Returns the place in the log after the last written block.
    pub(in crate::journal) fn written_place(&self) -> LogPlace {
        self.written.place()
    }

    /// Returns the checksum seed of the store.
    pub(in crate::journal) fn seed(&self) -> u32 {
        self.segments.seed()
    }

    /// Returns the position after the last written record, which may not be durable yet.
    pub(in crate::journal) fn end_position(&self) -> Position {
        self.written.position
    }

    /// Returns the number after the last written group of table changes.
    pub(in crate::journal) fn next_change(&self) -> u64 {
        self.written.change
    }

    /// Returns `true` if blocks are written that are not synced.
    pub(in crate::journal) fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Checks that the newest segment is the file at its path: what is written to a removed file, or
    /// to that of a replaced folder, is lost when the process ends. Checks that the base file, and
    /// another segment at each call, are there: a store without them cannot be opened again.
    ///
    /// # Errors
    /// [`SegmentWriterError`]; the writer must be dropped then.
    pub(in crate::journal) fn check_place(&mut self) -> Result<(), SegmentWriterError> {
        let path = self.segment.path();
        match self.file.is_at(path) {
            Ok(true) => {}
            Ok(false) => return Err(SegmentWriterError::Displaced(path.to_owned())),
            Err(error) => return Err(SegmentWriterError::Write(error)),
        }
        self.place_checks = self.place_checks.wrapping_add(1);
        match self.segments.find_missing_file(self.place_checks) {
            None => Ok(()),
            Some(missing) => Err(SegmentWriterError::Displaced(missing)),
        }
    }

    /// Appends `blocks`, which are one commit, without syncing them.
    ///
    /// # Errors
    /// [`SegmentWriterError`]; the writer must be dropped then.
    pub(in crate::journal) fn append_commit(
        &mut self,
        mut blocks: Vec<Block>,
    ) -> Result<(), SegmentWriterError> {
        let Some(last) = blocks.last_mut() else {
            return Ok(());
        };
        last.ends_commit = true;

        // A commit lies in one segment, so that a segment never ends inside a commit.
        let bytes: u64 = blocks.iter().map(|block| block.stored_bytes() as u64).sum();
        let is_full = self.written.offset + bytes > self.segment_bytes;
        if is_full && self.written.offset > HEADER_BYTES {
            self.sync()?;
            self.begin_segment()?;
        }

        let result = self.write_blocks(&blocks);
        self.unsynced.append(&mut blocks);
        match result {
            Ok(()) => Ok(()),
            Err(error) => self.move_unsynced(&error),
        }
    }

    /// Syncs all appended blocks, and lets readers see them.
    ///
    /// # Errors
    /// [`SegmentWriterError`]; the writer must be dropped then.
    pub(in crate::journal) fn sync(&mut self) -> Result<(), SegmentWriterError> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        match self.file.sync_data() {
            Ok(()) => {
                self.mark_synced();
                Ok(())
            }
            Err(error) => self.move_unsynced(&error),
        }
    }

    fn mark_synced(&mut self) {
        self.unsynced.clear();
        self.synced = self.written;
        self.segment.publish_end(self.synced.offset);
    }

    /// Writes `blocks` behind the written ones, with one write.
    fn write_blocks(&mut self, blocks: &[Block]) -> io::Result<()> {
        let size = blocks.iter().map(Block::stored_bytes).sum();
        let mut bytes = Vec::with_capacity(size);
        let mut tail = self.written;
        let seed = self.segments.seed();
        for block in blocks {
            let checksum = block.encode_into(&mut bytes, seed, self.synced.offset, tail.chain);
            let end = self.written.offset + bytes.len() as u64;
            tail.advance(block, end, checksum);
        }

        self.file.write_all_at(&bytes, self.written.offset)?;
        self.written = tail;
        Ok(())
    }

    /// Writes the unsynced blocks to a new segment and syncs it, because `failure` makes their
    /// state in the current one unknown.
    fn move_unsynced(&mut self, failure: &io::Error) -> Result<(), SegmentWriterError> {
        let failed = self.segment.path().to_owned();
        warn!(
            error = failure as &dyn std::error::Error,
            segment = %failed.display(),
            "journal segment failed; its unsynced end is written to a new segment"
        );

        self.begin_segment()?;
        let blocks = std::mem::take(&mut self.unsynced);
        self.write_blocks(&blocks)
            .and_then(|()| self.file.sync_data())
            .map_err(SegmentWriterError::Write)?;
        self.mark_synced();
        Ok(())
    }

    /// Goes on to the next segment, which continues the synced content of the current one.
    ///
    /// # Errors
    /// [`SegmentWriterError`]; the writer must be dropped then.
    pub(in crate::journal) fn begin_segment(&mut self) -> Result<(), SegmentWriterError> {
        let spare = self.spares.take().map_err(SegmentWriterError::Create)?;
        let header = SegmentHeader {
            seed: self.segments.seed(),
            incarnation: self.incarnation,
            number: spare.number,
            first_position: self.synced.position,
            first_change: self.synced.change,
            previous_end: self.synced.offset,
            previous_checksum: self.synced.chain,
            generation: 0,
        };
        // The header is synced before any block is written behind it: whoever finds blocks can rely
        // on the header, and on where it says that the earlier segment ends.
        let segment = use_segment(&spare, header).map_err(SegmentWriterError::Write)?;

        self.segments.push(Arc::clone(&segment));
        self.segment = segment;
        self.file = spare.file;
        self.synced.offset = HEADER_BYTES;
        self.synced.chain = header.checksum();
        self.written = self.synced;
        Ok(())
    }
}

/// Writes and syncs `header` to an unused file.
///
/// # Errors
/// The error of the operating system.
pub(super) fn use_segment(spare: &SpareSegment, header: SegmentHeader) -> io::Result<Arc<Segment>> {
    spare.file.write_all_at(&header.encode(), 0)?;
    spare.file.sync_data()?;
    let path = spare.path.clone();
    Ok(Arc::new(Segment::new(header, path, HEADER_BYTES)))
}
