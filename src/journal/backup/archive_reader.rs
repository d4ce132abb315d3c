//! Reader of an archive: checks each chunk, and gives the base file and the blocks in order.

use std::io::Read;

use bytes::{Buf, Bytes};

use super::archive_header::{ArchiveHeader, ArchiveSummary};
use super::archive_writer::{CHANGES, RECORDS};
use super::chunk::{ChunkKind, ChunkReader};
use super::error::ArchiveError;
use crate::journal::content_cipher::ContentCipher;
use crate::journal::log_place::LogPlace;
use crate::journal::segment::{Block, BlockContent};
use crate::journal::store_identity::{FORMAT, IdentityError, StoreIdentity};

/// Archive that is being read, one chunk in memory at a time.
pub struct ArchiveReader<R> {
    chunks: ChunkReader<R>,
    header: ArchiveHeader,
    /// Rest of the blocks of the last chunk, which begins at `chunk_offset`.
    blocks: Bytes,
    chunk_offset: u64,
    /// Place after the last block that was read.
    place: LogPlace,
    summary: ArchiveSummary,
    is_complete: bool,
    /// `true` if content that cannot be decrypted is no error.
    skips_encrypted: bool,
    has_skipped: bool,
}

impl<R: Read> ArchiveReader<R> {
    /// Begins to read an archive, whose content `cipher` decrypts.
    ///
    /// # Errors
    /// [`ArchiveError`] when `input` is no archive, or its beginning is damaged.
    pub fn open(input: R, cipher: &ContentCipher) -> Result<Self, ArchiveError> {
        let mut chunks = ChunkReader::begin(input, cipher.clone())?;
        let identity = parse_identity(&read_kind(&mut chunks, ChunkKind::Identity)?)?;
        let offset = chunks.offset();
        let range = read_kind(&mut chunks, ChunkKind::Range)?;
        let header = ArchiveHeader::decode(identity, range);
        let header = header.ok_or(ArchiveError::Damaged { offset })?;
        Ok(Self {
            chunks,
            place: header.first,
            header,
            blocks: Bytes::new(),
            chunk_offset: 0,
            summary: ArchiveSummary::default(),
            is_complete: false,
            skips_encrypted: false,
            has_skipped: false,
        })
    }

    /// Returns the beginning of the archive: its store and its range.
    #[must_use]
    pub fn header(&self) -> &ArchiveHeader {
        &self.header
    }

    /// Returns the place after the last block that was read.
    #[must_use]
    pub fn place(&self) -> LogPlace {
        self.place
    }

    /// Reads the rest of the archive, which checks it. Of content that cannot be decrypted, only the
    /// checksums are checked.
    ///
    /// # Errors
    /// [`ArchiveError`] when the archive is damaged or not whole.
    pub fn check_to_end(
        &mut self,
        on_progress: &mut dyn FnMut(u64),
    ) -> Result<ArchiveSummary, ArchiveError> {
        self.skips_encrypted = true;
        while self.next_block()?.is_some() {
            if self.blocks.is_empty() {
                on_progress(self.place.position.get());
            }
        }
        Ok(self.summary)
    }

    /// Returns `true` if content was skipped because it could not be decrypted.
    #[must_use]
    pub fn has_skipped(&self) -> bool {
        self.has_skipped
    }

    /// Reads the next block; `None` at the end of a whole archive.
    ///
    /// # Errors
    /// [`ArchiveError`] when the archive is damaged or not whole.
    pub(in crate::journal) fn next_block(&mut self) -> Result<Option<Block>, ArchiveError> {
        while self.blocks.is_empty() {
            if self.is_complete {
                return Ok(None);
            }
            // A part of the base file that nobody asked for is checked all the same.
            self.next_chunk()?;
        }

        let offset = self.chunk_offset;
        let block = take_block(&mut self.blocks, self.chunks.cipher())
            .ok_or(ArchiveError::Damaged { offset })?;
        // Only the first block can begin before the archive's range.
        let expected = block.number_at(&self.place);
        if block.number > expected || block.next_number() <= expected {
            return Err(ArchiveError::Damaged { offset });
        }
        match block.content {
            BlockContent::Records => self.summary.records += u64::from(block.count),
            BlockContent::Changes => self.summary.changes += u64::from(block.count),
        }
        block.advance_place(&mut self.place);
        Ok(Some(block))
    }

    /// Reads the next part of the base file; `None` once the blocks begin.
    ///
    /// # Errors
    /// [`ArchiveError`] when the archive is damaged or not whole.
    pub(super) fn next_base_part(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        match self.blocks.is_empty() && !self.is_complete {
            true => self.next_chunk(),
            false => Ok(None),
        }
    }

    /// Reads the next chunk, and returns it if it is a part of the base file.
    fn next_chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        let earlier = self.chunks.chunk_count();
        let chunk = self.chunks.read_chunk()?;
        let offset = chunk.offset;
        self.chunk_offset = offset;
        if let Some(error) = chunk.encrypted {
            if !self.skips_encrypted {
                return Err(error.into());
            }
            self.has_skipped = true;
            return Ok(None);
        }
        match chunk.kind {
            ChunkKind::Base if self.header.is_full && self.place == self.header.first => {
                return Ok(Some(chunk.body));
            }
            ChunkKind::Blocks => self.blocks = chunk.body,
            ChunkKind::Totals => {
                let totals = ArchiveSummary::decode(earlier, chunk.body);
                let totals = totals.ok_or(ArchiveError::Damaged { offset })?;
                if self.has_skipped {
                    // Only the totals tell how much that was.
                    self.summary = totals;
                } else if totals != self.summary || self.place != self.header.end {
                    return Err(ArchiveError::Damaged { offset });
                }
                self.chunks.expect_end()?;
                self.is_complete = true;
            }
            ChunkKind::Identity | ChunkKind::Range | ChunkKind::Base => {
                return Err(ArchiveError::Damaged { offset });
            }
        }
        Ok(None)
    }
}

fn read_kind<R: Read>(chunks: &mut ChunkReader<R>, kind: ChunkKind) -> Result<Bytes, ArchiveError> {
    let chunk = chunks.read_chunk()?;
    if chunk.kind != kind {
        return Err(ArchiveError::Damaged {
            offset: chunk.offset,
        });
    }
    Ok(chunk.body)
}

fn parse_identity(text: &[u8]) -> Result<StoreIdentity, ArchiveError> {
    let damaged = ArchiveError::Damaged { offset: 0 };
    let text = std::str::from_utf8(text).map_err(|_| ArchiveError::Damaged { offset: 0 })?;
    StoreIdentity::parse(text).map_err(|error| match error {
        IdentityError::Malformed => damaged,
        IdentityError::Newer(found) => ArchiveError::Newer {
            found,
            supported: FORMAT,
        },
    })
}

/// Takes a block from the front of `blocks`, to be encrypted with `cipher`; `None` if it is malformed.
fn take_block(blocks: &mut Bytes, cipher: &ContentCipher) -> Option<Block> {
    let content = match blocks.try_get_u8().ok()? {
        RECORDS => BlockContent::Records,
        CHANGES => BlockContent::Changes,
        _ => return None,
    };
    let ends_commit = blocks.try_get_u8().ok()? == 1;
    let number = blocks.try_get_u64().ok()?;
    let count = blocks.try_get_u32().ok()?;
    let length = blocks.try_get_u32().ok()? as usize;
    if length > blocks.len() {
        return None;
    }
    let body = blocks.split_to(length).to_vec();
    let mut block = Block::new(content, number, count, body, cipher);
    block.ends_commit = ends_commit;
    Some(block)
}
