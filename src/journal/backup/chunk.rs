//! Chunks: the parts of an archive, each with a checksum that continues the one before it.
//!
//! ```text
//! archive  "HOOKYBAK" | version u32 = 1 | identity | range | blocks … | totals
//! chunk    kind u8 | flags u8 | 0 u16 | body length u32 | CRC-32C u32 | body
//! kind     1 identity: the text of FORMAT
//!          2 range of the archive: see `archive_header`
//!          3 blocks of the log: see `archive_writer`
//!          4 part of the log's base file, as it is; before the blocks of a full archive
//!          9 totals, the last chunk: see `archive_header`
//! flags    1 = body is lz4 (u32 LE size first), 2 = body is encrypted, after compression: only of
//!          kinds 3 and 4, see `content_cipher`
//! CRC-32C  over the 8 bytes before it and the body, continued from the checksum of the chunk
//!          before; that of the first chunk from the checksum of the bytes before the chunk
//! ```
//!
//! Integers are big-endian. A chunk that is changed, lost or moved has a wrong checksum; an archive
//! that was cut off has no totals.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, Bytes};

use super::error::ArchiveError;
use crate::journal::content_cipher::{ContentCipher, DecryptionError};

const MAGIC: &[u8; 8] = b"HOOKYBAK";

/// Version of the archives that this program writes, and the newest that it reads.
const VERSION: u32 = 1;

const CHECKED_BYTES: usize = 8;
const HEADER_BYTES: usize = 12;
const FLAG_LZ4: u8 = 1;
const FLAG_ENCRYPTED: u8 = 2;

/// Largest body, stored or decompressed: a guard against corrupt sizes.
const BODY_MAX_BYTES: usize = 1024 * 1024 * 1024;

/// Kind of a chunk's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkKind {
    Identity = 1,
    Range = 2,
    Blocks = 3,
    Base = 4,
    Totals = 9,
}

impl ChunkKind {
    /// Returns `true` if the body holds content of events, which is encrypted.
    fn holds_content(self) -> bool {
        match self {
            Self::Blocks | Self::Base => true,
            Self::Identity | Self::Range | Self::Totals => false,
        }
    }

    /// Returns the place to which an encrypted body is bound. The checksums bind its order.
    fn place(self) -> Vec<u8> {
        [&b"backup"[..], &[self as u8]].concat()
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Identity),
            2 => Some(Self::Range),
            3 => Some(Self::Blocks),
            4 => Some(Self::Base),
            9 => Some(Self::Totals),
            _ => None,
        }
    }
}

/// Writer of the chunks of one archive.
pub(super) struct ChunkWriter<W> {
    out: W,
    cipher: ContentCipher,
    checksum: u32,
    chunks: u64,
}

impl<W: Write> ChunkWriter<W> {
    /// Begins an archive in `out` with its magic and version. Its content is encrypted with
    /// `cipher`.
    pub(super) fn begin(mut out: W, cipher: ContentCipher) -> io::Result<Self> {
        let preamble = encode_preamble();
        out.write_all(&preamble)?;
        Ok(Self {
            out,
            cipher,
            checksum: crc32c::crc32c(&preamble),
            chunks: 0,
        })
    }

    /// Returns the number of chunks written so far.
    pub(super) fn chunk_count(&self) -> u64 {
        self.chunks
    }

    /// Writes a chunk, compressed if that makes it smaller, with one write.
    pub(super) fn write_chunk(&mut self, kind: ChunkKind, body: &[u8]) -> io::Result<()> {
        let packed = lz4_flex::compress_prepend_size(body);
        let (mut flags, mut stored) = if packed.len() < body.len() {
            (FLAG_LZ4, &packed[..])
        } else {
            (0, body)
        };
        let encrypted = match kind.holds_content() {
            true => self.cipher.encrypt(&kind.place(), stored),
            false => None,
        };
        if let Some(encrypted) = &encrypted {
            flags |= FLAG_ENCRYPTED;
            stored = encrypted;
        }

        let mut chunk = Vec::with_capacity(HEADER_BYTES + stored.len());
        chunk.put_u8(kind as u8);
        chunk.put_u8(flags);
        chunk.put_u16(0);
        chunk.put_u32(u32::try_from(stored.len()).map_err(io::Error::other)?);
        self.checksum = chunk_checksum(self.checksum, &chunk, stored);
        chunk.put_u32(self.checksum);
        chunk.put_slice(stored);
        self.chunks += 1;
        self.out.write_all(&chunk)
    }

    /// Ends the archive, and returns what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Chunk that was read, with its offset in the archive.
pub(super) struct StoredChunk {
    pub(super) kind: ChunkKind,
    pub(super) offset: u64,
    pub(super) body: Bytes,
    /// Reason for which the body could not be decrypted; it is empty then.
    pub(super) encrypted: Option<DecryptionError>,
}

/// Reader of the chunks of one archive.
pub(super) struct ChunkReader<R> {
    input: R,
    cipher: ContentCipher,
    checksum: u32,
    offset: u64,
    chunks: u64,
}

impl<R: Read> ChunkReader<R> {
    /// Begins to read an archive, whose content `cipher` decrypts.
    ///
    /// # Errors
    /// [`ArchiveError`] when `input` is no archive that this program reads.
    pub(super) fn begin(input: R, cipher: ContentCipher) -> Result<Self, ArchiveError> {
        let mut reader = Self {
            input,
            cipher,
            checksum: 0,
            offset: 0,
            chunks: 0,
        };
        let expected = encode_preamble();
        let found = reader.read_bytes(expected.len())?;
        if !found.starts_with(MAGIC) {
            return Err(ArchiveError::NotArchive);
        }
        let version = found
            .get(MAGIC.len()..)
            .and_then(|mut rest| rest.try_get_u32().ok())
            .ok_or(ArchiveError::Truncated { offset: 0 })?;
        if version != VERSION {
            return Err(ArchiveError::Newer {
                found: version,
                supported: VERSION,
            });
        }
        reader.checksum = crc32c::crc32c(&found);
        Ok(reader)
    }

    /// Returns the keys of the archive's content.
    pub(super) fn cipher(&self) -> &ContentCipher {
        &self.cipher
    }

    /// Returns the offset of the next chunk, in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the number of chunks read so far.
    pub(super) fn chunk_count(&self) -> u64 {
        self.chunks
    }

    /// Reads the next chunk.
    ///
    /// # Errors
    /// [`ArchiveError`] when the chunk is damaged or missing.
    pub(super) fn read_chunk(&mut self) -> Result<StoredChunk, ArchiveError> {
        let offset = self.offset;
        let header = self.read_bytes(HEADER_BYTES)?;
        let Some((checked, mut checksum)) = header
            .split_at_checked(CHECKED_BYTES)
            .filter(|_| header.len() == HEADER_BYTES)
        else {
            return Err(ArchiveError::Truncated { offset });
        };
        let mut fields = checked;
        let (kind, flags, _) = (fields.get_u8(), fields.get_u8(), fields.get_u16());
        let stored_bytes = fields.get_u32() as usize;
        if stored_bytes > BODY_MAX_BYTES {
            return Err(ArchiveError::Damaged { offset });
        }

        let stored = self.read_bytes(stored_bytes)?;
        if stored.len() < stored_bytes {
            return Err(ArchiveError::Truncated { offset });
        }
        self.checksum = chunk_checksum(self.checksum, checked, &stored);
        if checksum.get_u32() != self.checksum {
            return Err(ArchiveError::Damaged { offset });
        }

        // The checksum holds, so another kind or flag is of a later version.
        let kind =
            ChunkKind::from_number(kind).filter(|_| flags & !(FLAG_LZ4 | FLAG_ENCRYPTED) == 0);
        let kind = kind.ok_or(ArchiveError::UnknownChunk { offset })?;
        let describe = || "its content".to_owned();
        let decrypted = match flags & FLAG_ENCRYPTED {
            0 => Ok(stored),
            _ => self.cipher.decrypt(&kind.place(), &stored, describe),
        };
        let (body, encrypted) = match decrypted {
            Ok(body) if flags & FLAG_LZ4 == 0 => (body, None),
            Ok(body) => {
                let body = decompress(&body).ok_or(ArchiveError::Damaged { offset })?;
                (body, None)
            }
            Err(error) => (Vec::new(), Some(error)),
        };
        self.chunks += 1;
        Ok(StoredChunk {
            kind,
            offset,
            body: body.into(),
            encrypted,
        })
    }

    /// Checks that nothing follows the last chunk.
    ///
    /// # Errors
    /// [`ArchiveError`] when anything does.
    pub(super) fn expect_end(&mut self) -> Result<(), ArchiveError> {
        let offset = self.offset;
        match self.read_bytes(1)?.is_empty() {
            true => Ok(()),
            false => Err(ArchiveError::Damaged { offset }),
        }
    }

    /// Reads `count` bytes, or fewer at the end of the archive. A corrupt length allocates no more
    /// than there is.
    fn read_bytes(&mut self, count: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        let mut part = self.input.by_ref().take(count as u64);
        part.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }
}

fn encode_preamble() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.put_u32(VERSION);
    bytes
}

fn chunk_checksum(previous: u32, header: &[u8], stored: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(previous, header), stored)
}

fn decompress(stored: &[u8]) -> Option<Vec<u8>> {
    let size = u32::from_le_bytes(*stored.first_chunk()?);
    (size as usize <= BODY_MAX_BYTES)
        .then(|| lz4_flex::decompress_size_prepended(stored).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = ChunkWriter::begin(Vec::new(), ContentCipher::default()).expect("memory");
        writer
            .write_chunk(ChunkKind::Identity, b"text")
            .and_then(|()| writer.write_chunk(ChunkKind::Blocks, &[7; 99]))
            .and_then(|()| writer.write_chunk(ChunkKind::Totals, b""))
            .expect("memory");
        writer.finish().expect("memory")
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<(ChunkKind, Bytes)>, ArchiveError> {
        let mut reader = ChunkReader::begin(bytes, ContentCipher::default())?;
        let mut chunks = Vec::new();
        loop {
            let chunk = reader.read_chunk()?;
            chunks.push((chunk.kind, chunk.body));
            if chunk.kind == ChunkKind::Totals {
                return reader.expect_end().map(|()| chunks);
            }
        }
    }

    #[test]
    fn the_bytes_of_an_archive_never_change() {
        let mut writer = ChunkWriter::begin(Vec::new(), ContentCipher::default()).expect("memory");
        writer
            .write_chunk(ChunkKind::Identity, b"text")
            .and_then(|()| writer.write_chunk(ChunkKind::Totals, b"end"))
            .expect("memory");
        assert_eq!(
            hex::encode(writer.finish().expect("memory")),
            "484f4f4b5942414b000000010100000000000004f624e2da7465787409000000\
             000000039856beac656e64"
        );
    }

    #[test]
    fn a_written_archive_is_read_back() {
        let chunks = read_all(&sample()).expect("whole");
        assert_eq!(
            chunks[0],
            (ChunkKind::Identity, Bytes::from_static(b"text"))
        );
        assert_eq!(chunks[1], (ChunkKind::Blocks, Bytes::from(vec![7; 99])));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let bytes = sample();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read_all(&changed).is_err(), "byte {at}");
            assert!(read_all(&bytes[..at]).is_err(), "cut at {at}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(matches!(
            read_all(&longer),
            Err(ArchiveError::Damaged { .. })
        ));
    }

    #[test]
    fn moved_chunks_are_noticed() {
        let mut writer = ChunkWriter::begin(Vec::new(), ContentCipher::default()).expect("memory");
        for body in [b"a", b"b", b"c"] {
            writer.write_chunk(ChunkKind::Blocks, body).expect("memory");
        }
        let bytes = writer.finish().expect("memory");
        let size = HEADER_BYTES + 1;
        let (head, chunks) = bytes.split_at(bytes.len() - 3 * size);
        let moved = [
            head,
            &chunks[size..2 * size],
            &chunks[..size],
            &chunks[2 * size..],
        ]
        .concat();
        assert!(matches!(
            read_all(&moved),
            Err(ArchiveError::Damaged { .. })
        ));
    }

    #[test]
    fn another_file_and_a_newer_archive_are_told_apart() {
        assert!(matches!(
            read_all(b"PK and more bytes"),
            Err(ArchiveError::NotArchive)
        ));
        assert!(matches!(read_all(b""), Err(ArchiveError::NotArchive)));
        let mut newer = sample();
        newer[11] = 2;
        assert!(matches!(
            read_all(&newer),
            Err(ArchiveError::Newer { found: 2, .. })
        ));
    }
}
