//! Block: the unit of a segment file, one frame of records or one group of table changes.
//!
//! ```text
//! body length u32 | flags u8 | 0 u8 ×3 | number u64 | count u32 | synced u32 | chain u32 | CRC-32C u32
//! | body | zeros up to a multiple of 8
//! flags    1 = body is lz4 (u32 LE size first), 2 = last block of its commit, 4 = table changes,
//!          8 = body is encrypted, after compression: see `content_cipher`
//! number   first position, or number of the group of table changes
//! count    records in the body; 1 for table changes
//! synced   length of this segment that was synced when the block was written
//! chain    checksum of the block before it in the segment, or of the segment's header
//! CRC-32C  over the 28 bytes before it and the body, continued from the store's checksum seed
//! ```
//!
//! `synced` tells a torn tail from damage: if a later block says that the bytes of a broken one
//! were synced, they were acknowledged, and have changed since. Checksums continue a value that
//! senders of events do not know, so no payload can hold bytes that pass for a block.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::DiskFile;
use crate::event::Position;
use crate::journal::content_cipher::{ContentCipher, DecryptionError};
use crate::journal::log_place::LogPlace;

/// Length of a block's header.
pub(in crate::journal) const BLOCK_HEADER_BYTES: usize = 32;
/// Blocks begin at multiples of this.
const ALIGNMENT: usize = 8;
/// Header bytes that the checksum covers.
const CHECKED_BYTES: usize = 28;

/// Largest body, stored or decompressed: a guard against corrupt sizes. Frames and groups of changes
/// are bounded far below it: see [`TableChanges::MAX_BYTES`](crate::journal::TableChanges).
const BODY_MAX_BYTES: usize = 1024 * 1024 * 1024;

/// Bytes that a reader of consecutive blocks reads at once.
const READ_BYTES: usize = 128 * 1024;

/// Bytes that are compared with zeros at once.
const ZERO_BYTES: usize = 4096;

mod flag {
    pub(super) const LZ4: u8 = 1;
    pub(super) const COMMIT_END: u8 = 2;
    pub(super) const CHANGES: u8 = 4;
    pub(super) const ENCRYPTED: u8 = 8;
    pub(super) const ALL: u8 = 15;
}

/// Kind of content in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum BlockContent {
    /// Frame of records of one commit.
    Records,
    /// Group of changes to one table.
    Changes,
}

/// Error of a block whose checksum is right, and whose body cannot be read.
#[derive(Debug)]
pub(in crate::journal) enum BlockBodyError {
    /// No version of this program writes a body like it.
    Malformed,
    /// The body is encrypted with another key.
    Encrypted(DecryptionError),
}

/// Body of a block as it was before compression and encryption.
#[derive(Clone, Debug)]
pub(in crate::journal) struct OpenedBody {
    pub(in crate::journal) bytes: Bytes,
    /// `true` if the body is stored as it would be today: with the key that encrypts, or plain if
    /// there is none.
    pub(in crate::journal) is_current: bool,
}

/// Block in memory, with its body in stored form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Block {
    pub(in crate::journal) content: BlockContent,
    /// First position, or number of the group of table changes.
    pub(in crate::journal) number: u64,
    /// Number of records; 1 for table changes.
    pub(in crate::journal) count: u32,
    /// `true` if a commit ends with this block.
    pub(in crate::journal) ends_commit: bool,
    is_compressed: bool,
    is_encrypted: bool,
    body: Bytes,
}

impl Block {
    /// Creates a block, with `body` compressed if that makes it smaller, and encrypted if `cipher`
    /// has a key.
    pub(in crate::journal) fn new(
        content: BlockContent,
        number: u64,
        count: u32,
        body: Vec<u8>,
        cipher: &ContentCipher,
    ) -> Self {
        let packed = lz4_flex::compress_prepend_size(&body);
        let is_compressed = packed.len() < body.len();
        let body = if is_compressed { packed } else { body };
        let encrypted = cipher.encrypt(&block_place(content, number), &body);
        Self {
            content,
            number,
            count,
            ends_commit: false,
            is_compressed,
            is_encrypted: encrypted.is_some(),
            body: encrypted.unwrap_or(body).into(),
        }
    }

    /// Creates a block with another body in the place of this one.
    pub(in crate::journal) fn with_body(&self, body: Vec<u8>, cipher: &ContentCipher) -> Self {
        Self {
            ends_commit: self.ends_commit,
            ..Self::new(self.content, self.number, self.count, body, cipher)
        }
    }

    /// Returns the number of bytes that the block takes in a segment.
    pub(in crate::journal) fn stored_bytes(&self) -> usize {
        stored_bytes(self.body.len())
    }

    /// Appends the stored form to `out`, and returns the block's checksum.
    pub(in crate::journal) fn encode_into(
        &self,
        out: &mut Vec<u8>,
        seed: u32,
        synced: u64,
        chain: u32,
    ) -> u32 {
        let begin = out.len();
        let flags = [
            (self.is_compressed, flag::LZ4),
            (self.ends_commit, flag::COMMIT_END),
            (self.content == BlockContent::Changes, flag::CHANGES),
            (self.is_encrypted, flag::ENCRYPTED),
        ];
        let flags = flags
            .iter()
            .filter(|(is_set, _)| *is_set)
            .fold(0, |all, (_, flag)| all | flag);
        out.put_u32(u32::try_from(self.body.len()).expect("a body is bounded by its records"));
        out.put_u32(u32::from(flags) << 24);
        out.put_u64(self.number);
        out.put_u32(self.count);
        out.put_u32(u32::try_from(synced).expect("a segment is far smaller than 4 GiB"));
        out.put_u32(chain);

        let checksum = block_checksum(seed, &out[begin..], &self.body);
        out.put_u32(checksum);
        out.put_slice(&self.body);
        out.resize(begin + self.stored_bytes(), 0);
        checksum
    }

    /// Returns the body as it was before compression and encryption. `describe` names its place in
    /// errors.
    ///
    /// # Errors
    /// [`BlockBodyError`] when the body is malformed, or `cipher` does not have its key.
    pub(in crate::journal) fn open_body(
        &self,
        cipher: &ContentCipher,
        describe: impl FnOnce() -> String,
    ) -> Result<OpenedBody, BlockBodyError> {
        let decrypted = self.is_encrypted.then(|| {
            let place = block_place(self.content, self.number);
            cipher.decrypt_and_judge(&place, &self.body, describe)
        });
        let decrypted = decrypted.transpose().map_err(BlockBodyError::Encrypted)?;
        let (body, is_current) = match &decrypted {
            Some(decrypted) => (decrypted.content.as_slice(), decrypted.is_current),
            None => (&self.body[..], !cipher.is_encrypting()),
        };
        let bytes = match self.is_compressed {
            true => decompress(body).ok_or(BlockBodyError::Malformed)?,
            // A copy, or one small record would keep the reader's whole buffer in memory.
            false => Bytes::copy_from_slice(body),
        };
        Ok(OpenedBody { bytes, is_current })
    }

    /// Returns the number of the next block at `place` with content like this one's.
    pub(in crate::journal) fn number_at(&self, place: &LogPlace) -> u64 {
        match self.content {
            BlockContent::Records => place.position.get(),
            BlockContent::Changes => place.change,
        }
    }

    /// Moves `place` behind this block.
    pub(in crate::journal) fn advance_place(&self, place: &mut LogPlace) {
        match self.content {
            BlockContent::Records => place.position = Position::new(self.next_number()),
            BlockContent::Changes => place.change = self.next_number(),
        }
    }

    /// Returns the number after the block's last record or change group.
    pub(in crate::journal) fn next_number(&self) -> u64 {
        self.number + u64::from(self.count)
    }
}

/// Returns the place of a block, to which its encrypted body is bound.
fn block_place(content: BlockContent, number: u64) -> Vec<u8> {
    let mut place = b"block".to_vec();
    place.put_u8(match content {
        BlockContent::Records => 0,
        BlockContent::Changes => flag::CHANGES,
    });
    place.put_u64(number);
    place
}

fn decompress(body: &[u8]) -> Option<Bytes> {
    let size = u32::from_le_bytes(*body.first_chunk()?);
    if usize::try_from(size).ok()? > BODY_MAX_BYTES {
        return None;
    }
    let body = lz4_flex::decompress_size_prepended(body).ok()?;
    Some(body.into())
}

fn block_checksum(seed: u32, header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, header), body)
}

fn stored_bytes(body: usize) -> usize {
    (BLOCK_HEADER_BYTES + body).next_multiple_of(ALIGNMENT)
}

/// Block that was read from a segment, with its place in the chain.
#[derive(Clone, Debug)]
pub(in crate::journal) struct StoredBlock {
    pub(in crate::journal) block: Block,
    pub(in crate::journal) offset: u64,
    pub(in crate::journal) synced: u64,
    pub(in crate::journal) chain: u32,
    pub(in crate::journal) checksum: u32,
}

impl StoredBlock {
    /// Decodes the block at the beginning of `stored`, which is at `offset` of its segment; `None` if
    /// the bytes are no block with a correct checksum.
    pub(in crate::journal) fn decode(stored: &Bytes, offset: u64, seed: u32) -> Option<Self> {
        let header = stored.first_chunk::<BLOCK_HEADER_BYTES>()?;
        let fields = HeaderFields::decode(header)?;
        let body_end = BLOCK_HEADER_BYTES + fields.body_bytes;
        let body = stored.get(BLOCK_HEADER_BYTES..body_end)?;
        let checksum = block_checksum(seed, &header[..CHECKED_BYTES], body);
        if checksum != fields.checksum {
            return None;
        }

        let block = Block {
            content: fields.content,
            number: fields.number,
            count: fields.count,
            ends_commit: fields.ends_commit,
            is_compressed: fields.is_compressed,
            is_encrypted: fields.is_encrypted,
            body: stored.slice(BLOCK_HEADER_BYTES..body_end),
        };
        Some(Self {
            block,
            offset,
            synced: fields.synced,
            chain: fields.chain,
            checksum,
        })
    }

    /// Returns the offset after the block.
    pub(in crate::journal) fn end(&self) -> u64 {
        self.offset + self.block.stored_bytes() as u64
    }
}

/// Result of reading a block.
#[derive(Debug)]
pub(in crate::journal) enum BlockRead {
    /// A block with a correct checksum.
    Whole(StoredBlock),
    /// Zeros, or the end of the file: nothing was written here.
    Nothing,
    /// Bytes that are no block.
    Broken,
}

/// Reader of the blocks of one segment file, with a buffer for consecutive reads.
pub(in crate::journal) struct BlockReader {
    file: Arc<dyn DiskFile>,
    /// Checksum seed of the store.
    seed: u32,
    buffer: Bytes,
    buffer_offset: u64,
    /// Offset behind which nothing is read.
    limit: u64,
}

impl BlockReader {
    /// Creates a reader of the blocks of `file`, in a store with the checksum seed `seed`.
    pub(in crate::journal) fn new(file: Arc<dyn DiskFile>, seed: u32) -> Self {
        Self {
            file,
            seed,
            buffer: Bytes::new(),
            buffer_offset: 0,
            limit: u64::MAX,
        }
    }

    /// Reads the block at `offset`, and nothing behind `end`: bytes there may still change.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(in crate::journal) fn read_block_before(
        &mut self,
        offset: u64,
        end: u64,
    ) -> std::io::Result<BlockRead> {
        self.limit = end;
        self.read_block(offset)
    }

    /// Reads the block at `offset`.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(in crate::journal) fn read_block(&mut self, offset: u64) -> std::io::Result<BlockRead> {
        let header = self.bytes_at(offset, BLOCK_HEADER_BYTES)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(BlockRead::Nothing);
        }
        let Some(header) = header.first_chunk::<BLOCK_HEADER_BYTES>() else {
            return Ok(BlockRead::Broken);
        };
        let Some(fields) = HeaderFields::decode(header) else {
            return Ok(BlockRead::Broken);
        };

        let stored = self.bytes_at(offset, BLOCK_HEADER_BYTES + fields.body_bytes)?;
        Ok(StoredBlock::decode(&stored, offset, self.seed)
            .map_or(BlockRead::Broken, BlockRead::Whole))
    }

    /// Returns `true` if any block behind `offset` says that the bytes at `offset` were synced.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(in crate::journal) fn has_later_synced_block(
        &mut self,
        offset: u64,
    ) -> std::io::Result<bool> {
        let end = self.file.len()?;
        let mut at = offset.next_multiple_of(ALIGNMENT as u64);
        while at + (BLOCK_HEADER_BYTES as u64) <= end {
            // Most of the file is zeros.
            let zeros = self.bytes_at(at, ZERO_BYTES)?;
            if zeros.iter().all(|byte| *byte == 0) {
                at += zeros.len().next_multiple_of(ALIGNMENT) as u64;
                continue;
            }

            // Inside of blocks, the bytes at the place of a header rule out nearly every offset.
            let skipped_end = at + ZERO_BYTES as u64;
            while at < skipped_end {
                let header = self.bytes_at(at, BLOCK_HEADER_BYTES)?;
                let is_candidate = header
                    .first_chunk()
                    .and_then(HeaderFields::decode)
                    .is_some_and(|fields| fields.synced > offset && fields.synced <= at);
                if is_candidate && let BlockRead::Whole(_) = self.read_block(at)? {
                    return Ok(true);
                }
                at += ALIGNMENT as u64;
            }
        }
        Ok(false)
    }

    /// Returns `count` bytes from `offset` on, or fewer at the end of the file.
    fn bytes_at(&mut self, offset: u64, count: usize) -> std::io::Result<Bytes> {
        let buffer_end = self.buffer_offset + self.buffer.len() as u64;
        if offset < self.buffer_offset || offset + count as u64 > buffer_end {
            // A corrupt length must not make the reader allocate more than the file holds.
            let end = self.file.len()?.min(self.limit);
            let rest = end.saturating_sub(offset);
            let wanted = count
                .max(READ_BYTES)
                .min(usize::try_from(rest).unwrap_or(usize::MAX));
            let mut bytes = vec![0; wanted];
            let filled = self.file.read_at(&mut bytes, offset)?;
            bytes.truncate(filled);
            (self.buffer, self.buffer_offset) = (bytes.into(), offset);
        }

        let begin = usize::try_from(offset - self.buffer_offset).unwrap_or(usize::MAX);
        let end = begin.saturating_add(count).min(self.buffer.len());
        Ok(self.buffer.slice(begin.min(end)..end))
    }
}

/// Fields of a block's header.
struct HeaderFields {
    body_bytes: usize,
    content: BlockContent,
    is_compressed: bool,
    is_encrypted: bool,
    ends_commit: bool,
    number: u64,
    count: u32,
    synced: u64,
    chain: u32,
    checksum: u32,
}

impl HeaderFields {
    /// Decodes a header; `None` if no version of this program writes one like it.
    fn decode(header: &[u8; BLOCK_HEADER_BYTES]) -> Option<Self> {
        let mut fields = &header[..];
        let body_bytes = usize::try_from(fields.get_u32()).ok()?;
        let flags = fields.get_u32();
        let flags_byte = (flags >> 24) as u8;
        let is_valid = body_bytes > 0
            && body_bytes <= BODY_MAX_BYTES
            && flags & 0x00ff_ffff == 0
            && flags_byte & !flag::ALL == 0;
        is_valid.then(|| Self {
            body_bytes,
            content: if flags_byte & flag::CHANGES == 0 {
                BlockContent::Records
            } else {
                BlockContent::Changes
            },
            is_compressed: flags_byte & flag::LZ4 != 0,
            is_encrypted: flags_byte & flag::ENCRYPTED != 0,
            ends_commit: flags_byte & flag::COMMIT_END != 0,
            number: fields.get_u64(),
            count: fields.get_u32(),
            synced: u64::from(fields.get_u32()),
            chain: fields.get_u32(),
            checksum: fields.get_u32(),
        })
    }
}
