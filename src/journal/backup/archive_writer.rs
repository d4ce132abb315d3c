//! Writer of an archive: the base file and the blocks of a store's image, gathered in chunks.
//!
//! ```text
//! blocks  block …
//! block   content u8: 1 records, 2 table changes | 1 if a commit ends here u8 | number u64
//!         | count u32 | length u32 | body, not compressed
//! ```
//!
//! Bodies are not compressed one by one: many small commits in one chunk become smaller together.

use std::io::{self, Write};

use bytes::BufMut;

use super::archive_header::{ArchiveHeader, ArchiveSummary};
use super::chunk::{ChunkKind, ChunkWriter};
use crate::journal::base_file::{BaseFile, BaseReadError};
use crate::journal::content_cipher::ContentCipher;
use crate::journal::segment::{Block, BlockContent, LogBlocks};
use crate::journal::submission::JournalReadError;

pub(super) const RECORDS: u8 = 1;
pub(super) const CHANGES: u8 = 2;

/// Bytes of blocks at which a chunk is full: it compresses well, and little is held in memory.
const CHUNK_BYTES: usize = 256 * 1024;

/// Error that ends a backup.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveWriteError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
    /// The base file of the journal cannot be read, or is damaged.
    #[error(transparent)]
    Base(#[from] BaseReadError),
    /// The archive cannot be written.
    #[error("cannot write the backup")]
    Write(#[from] io::Error),
}

/// Writes an archive with `header`, the file `base` and `blocks` to `out`, encrypted with `cipher`. Calls `on_progress` with
/// the position after each written chunk.
///
/// # Errors
/// [`ArchiveWriteError`]; what was written has no totals then, so it is no whole archive.
pub(super) fn write_archive(
    header: &ArchiveHeader,
    base: Option<&BaseFile>,
    blocks: &mut LogBlocks,
    cipher: &ContentCipher,
    out: impl Write,
    on_progress: &mut dyn FnMut(u64),
) -> Result<ArchiveSummary, ArchiveWriteError> {
    let mut chunks = ChunkWriter::begin(out, cipher.clone())?;
    chunks.write_chunk(ChunkKind::Identity, header.identity.to_string().as_bytes())?;
    chunks.write_chunk(ChunkKind::Range, &header.encode_range())?;
    if let Some(base) = base {
        write_base(&mut chunks, base)?;
    }

    let mut summary = ArchiveSummary::default();
    let mut gathered = Vec::new();
    while let Some(stored) = blocks.next_block()? {
        let block = &stored.block;
        let body = blocks.open_body(&stored)?;
        append_block(&mut gathered, block, &body);
        match block.content {
            BlockContent::Records => summary.records += u64::from(block.count),
            BlockContent::Changes => summary.changes += u64::from(block.count),
        }
        if gathered.len() >= CHUNK_BYTES {
            chunks.write_chunk(ChunkKind::Blocks, &gathered)?;
            gathered.clear();
            on_progress(header.first.position.get() + summary.records);
        }
    }
    if !gathered.is_empty() {
        chunks.write_chunk(ChunkKind::Blocks, &gathered)?;
    }

    let totals = summary.encode(chunks.chunk_count());
    chunks.write_chunk(ChunkKind::Totals, &totals)?;
    chunks.finish()?;
    Ok(summary)
}

fn write_base<W: Write>(
    chunks: &mut ChunkWriter<W>,
    base: &BaseFile,
) -> Result<(), ArchiveWriteError> {
    let mut part = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let count = base.read_at(&mut part, offset)?;
        if count == 0 {
            return Ok(());
        }
        chunks.write_chunk(ChunkKind::Base, &part[..count])?;
        offset += count as u64;
    }
}

fn append_block(out: &mut Vec<u8>, block: &Block, body: &[u8]) {
    out.put_u8(match block.content {
        BlockContent::Records => RECORDS,
        BlockContent::Changes => CHANGES,
    });
    out.put_u8(u8::from(block.ends_commit));
    out.put_u64(block.number);
    out.put_u32(block.count);
    out.put_u32(u32::try_from(body.len()).expect("a body is bounded far below 4 GiB"));
    out.put_slice(body);
}
