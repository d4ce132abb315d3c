//! Snapshot of a log: its blocks up to a fixed end, read in order while the log goes on.
//!
//! A segment is opened when its turn comes, so a large log needs one open file. A segment that was
//! rewritten meanwhile is read in its new form: the numbers of its blocks are the same.

use std::sync::Arc;

use bytes::Bytes;

use super::block::{BlockContent, BlockRead, BlockReader, StoredBlock};
use super::header::{HEADER_BYTES, HeaderContent, SegmentHeader};
use super::segment_set::{Segment, SegmentSet};
use super::writer::LogTail;
use crate::event::Position;
use crate::journal::log_place::LogPlace;
use crate::journal::submission::JournalReadError;

/// Blocks of one segment in order, each checked to continue the one before it.
pub(super) struct SegmentWalk {
    segment: Arc<Segment>,
    reader: BlockReader,
    end: u64,
    tail: LogTail,
}

impl SegmentWalk {
    /// Opens the segment with the number of `wanted`, whose file must have the header that is in
    /// memory.
    ///
    /// # Errors
    /// [`JournalReadError`] when the segment is not there any more, or its file cannot be read or
    /// has another header.
    pub(super) fn open(
        segments: &SegmentSet,
        wanted: &SegmentHeader,
    ) -> Result<Self, JournalReadError> {
        let opened = segments.open_segment(wanted.number)?;
        let (segment, file) = opened.ok_or(JournalReadError::Missing(wanted.first_position))?;
        let end = segment.end();
        let header = *segment.header();
        let mut bytes = [0; HEADER_BYTES as usize];
        let count = file.read_at(&mut bytes, 0);
        let count = count.map_err(|error| segment.io_error(error))?;
        let found = SegmentHeader::decode(&bytes[..count], segments.seed());
        if found != HeaderContent::Header(header) {
            return Err(segment.corrupt_at(0, header.first_position));
        }
        Ok(Self {
            segment,
            reader: BlockReader::new(file, segments.seed()),
            end,
            tail: LogTail {
                offset: HEADER_BYTES,
                chain: header.checksum(),
                position: header.first_position,
                change: header.first_change,
            },
        })
    }

    /// Returns the place after the last block that was read.
    pub(super) fn place(&self) -> LogPlace {
        self.tail.place()
    }

    /// Returns the checksum of the last block that was read, or of the header.
    pub(super) fn checksum(&self) -> u32 {
        self.tail.chain
    }

    /// Returns the offset after the last block that was read.
    pub(super) fn offset(&self) -> u64 {
        self.tail.offset
    }

    /// Reads the next block; `None` at the end of the readable content.
    ///
    /// # Errors
    /// [`JournalReadError`] when the file cannot be read, or the block is damaged.
    pub(super) fn next_block(&mut self) -> Result<Option<StoredBlock>, JournalReadError> {
        let LogTail {
            offset,
            chain,
            position,
            ..
        } = self.tail;
        if offset >= self.end {
            return Ok(None);
        }
        let read = self.reader.read_block_before(offset, self.end);
        match read.map_err(|error| self.segment.io_error(error))? {
            BlockRead::Whole(stored)
                if stored.chain == chain
                    && stored.block.number == self.tail.next_number(stored.block.content) =>
            {
                self.tail
                    .advance(&stored.block, stored.end(), stored.checksum);
                Ok(Some(stored))
            }
            _ => Err(self.segment.corrupt_at(offset, position)),
        }
    }
}

/// Log up to the place that was its durable end when the snapshot was taken.
pub(in crate::journal) struct LogSnapshot {
    segments: Arc<SegmentSet>,
    begin: LogPlace,
    end: LogPlace,
}

impl LogSnapshot {
    /// Takes a snapshot of what readers of `segments` see now. Reads the newest segment, so it
    /// blocks.
    ///
    /// # Errors
    /// [`JournalReadError`] when the newest segment cannot be read.
    pub(in crate::journal) fn take(segments: &Arc<SegmentSet>) -> Result<Self, JournalReadError> {
        let all = segments.list();
        let (Some(oldest), Some(newest)) = (all.first(), all.last()) else {
            return Err(JournalReadError::Missing(Position::FIRST));
        };
        let begin = oldest.header().place();
        let mut walk = SegmentWalk::open(segments, newest.header())?;
        while walk.next_block()?.is_some() {}
        Ok(Self {
            segments: Arc::clone(segments),
            begin,
            end: walk.place(),
        })
    }

    /// Returns the place before the oldest block.
    pub(in crate::journal) fn begin(&self) -> LogPlace {
        self.begin
    }

    /// Returns the place after the newest block of the snapshot.
    pub(in crate::journal) fn end(&self) -> LogPlace {
        self.end
    }

    /// Returns the earliest place that the record at `position` and all later ones are behind.
    ///
    /// # Errors
    /// [`JournalReadError`] when the segment before it cannot be read.
    pub(in crate::journal) fn find_place(
        &self,
        position: Position,
    ) -> Result<LogPlace, JournalReadError> {
        let all = self.segments.list();
        let before = all.partition_point(|segment| segment.header().first_position < position);
        let Some(segment) = before.checked_sub(1).and_then(|index| all.get(index)) else {
            return Ok(self.begin);
        };

        let mut walk = SegmentWalk::open(&self.segments, segment.header())?;
        let mut place = walk.place();
        while let Some(stored) = walk.next_block()? {
            let block = &stored.block;
            if block.content == BlockContent::Records {
                if block.next_number() > position.get() {
                    break;
                }
                place = walk.place();
            }
        }
        Ok(place)
    }

    /// Returns the blocks from `since` to the end of the snapshot.
    pub(in crate::journal) fn blocks_since(&self, since: LogPlace) -> LogBlocks {
        let all = self.segments.list();
        let after = all.partition_point(|segment| {
            let header = segment.header();
            header.first_position <= since.position && header.first_change <= since.change
        });
        let first = after.checked_sub(1).and_then(|index| all.get(index));
        let first = first.map_or(self.begin, |segment| segment.header().place());
        LogBlocks {
            next_segment: all
                .get(after.saturating_sub(1))
                .map_or(1, |segment| segment.header().number),
            segments: Arc::clone(&self.segments),
            walk: None,
            since,
            place: first,
            end: self.end,
        }
    }
}

/// Blocks of a snapshot in order.
pub(in crate::journal) struct LogBlocks {
    segments: Arc<SegmentSet>,
    walk: Option<SegmentWalk>,
    /// Number of the segment that is opened next.
    next_segment: u64,
    since: LogPlace,
    place: LogPlace,
    end: LogPlace,
}

impl LogBlocks {
    /// Returns the body of the block that was read last.
    ///
    /// # Errors
    /// [`JournalReadError`] when the body is malformed, or encrypted with another key.
    pub(in crate::journal) fn open_body(
        &self,
        stored: &StoredBlock,
    ) -> Result<Bytes, JournalReadError> {
        let walk = self.walk.as_ref();
        let walk = walk.ok_or(JournalReadError::Missing(self.place.position))?;
        let body = walk.segment.open_body(stored, self.segments.cipher())?;
        Ok(body.bytes)
    }

    /// Reads the next block; `None` at the end of the snapshot.
    ///
    /// # Errors
    /// [`JournalReadError`] when a segment cannot be read or is damaged, or is not there any more.
    pub(in crate::journal) fn next_block(
        &mut self,
    ) -> Result<Option<StoredBlock>, JournalReadError> {
        while self.place != self.end {
            let walk = match &mut self.walk {
                Some(walk) => walk,
                None => self
                    .walk
                    .insert(open_walk(&self.segments, self.next_segment, self.place)?),
            };
            let Some(stored) = walk.next_block()? else {
                self.walk = None;
                self.next_segment += 1;
                continue;
            };
            self.place = walk.place();
            let block = &stored.block;
            if block.next_number() > block.number_at(&self.since) {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }
}

/// Opens segment `number`, which begins at `place`.
fn open_walk(
    segments: &SegmentSet,
    number: u64,
    place: LogPlace,
) -> Result<SegmentWalk, JournalReadError> {
    let segment = segments.find_segment(number);
    let segment = segment.ok_or(JournalReadError::Missing(place.position))?;
    let walk = SegmentWalk::open(segments, segment.header())?;
    if walk.place() != place {
        return Err(walk.segment.corrupt_at(0, place.position));
    }
    Ok(walk)
}
