//! Base file of the journal: an image of the rows that were derived from removed segments, and the
//! place at which the journal begins since their removal.
//!
//! ```text
//! file    header | chunk … | end
//! header  magic "HOOKBASE" | format u32 = 1 | incarnation u32 | first segment u64 | first position u64
//!         | first change number u64 | received_at i64 µs | CRC-32C u32
//!         in format 2, before the CRC-32C: content position u64, once content was removed from records
//! chunk   body length u32 | count of rows u32 | CRC-32C u32 | body: lz4 (u32 LE size first) of rows,
//!         encrypted if the highest bit of the count is set: see `content_cipher`
//! row     section u8 | key length u32 | value length u32 | key | value
//! end     0 u32 | 0 u32 | CRC-32C u32, then zeros
//! ```
//!
//! Integers are big-endian. The header's checksum continues the store's seed, and that of each chunk
//! continues the one before it. So a chunk of another base, or in another place, is noticed. The file
//! is written under a temporary name, synced and renamed before any segment is removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};

use super::content_cipher::{ContentCipher, DecryptionError};
use super::disk::{Disk, DiskFile};
use super::log_start::LogStart;
use super::open_error::StoreOpenError;
use crate::event::{Position, StoreIncarnation, Timestamp};

/// Bit of a chunk's count of rows that says that its body is encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// Place of all chunks, to which their encrypted bodies are bound. The checksums bind their order.
const CHUNK_PLACE: &[u8] = b"base";

const FILE_NAME: &str = "BASE";
const TEMPORARY_NAME: &str = "BASE.new";

const MAGIC: &[u8; 8] = b"HOOKBASE";
const FORMAT: u32 = 1;
/// Format of a header with a content position, which former versions must not overlook.
const CONTENT_FORMAT: u32 = 2;
/// Header bytes before their checksum, in each format.
const CHECKED_BYTES: usize = 48;
const CONTENT_CHECKED_BYTES: usize = CHECKED_BYTES + 8;
const HEADER_MAX_BYTES: usize = CONTENT_CHECKED_BYTES + 4;
const CHUNK_HEADER_BYTES: usize = 12;
const ROW_HEADER_BYTES: usize = 9;

/// Size of the rows in one chunk, before compression.
const CHUNK_TARGET_BYTES: usize = 256 * 1024;
/// Largest body, stored or decompressed: a guard against corrupt sizes.
const BODY_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Row of a base file. The stages that derive rows give each section its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRow {
    /// Number of the section that the row belongs to; never changes.
    pub section: u8,
    /// Key of the row in its section.
    pub key: Vec<u8>,
    /// Value of the row in its stored form.
    pub value: Vec<u8>,
}

/// Error of reading a base file.
#[derive(Debug, thiserror::Error)]
pub enum BaseReadError {
    /// The file could not be read.
    #[error("cannot read {}", file.display())]
    Io {
        /// Path of the base file.
        file: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The bytes at this place are not what was written.
    #[error("{} is corrupt at byte {offset}; restore it from a backup", file.display())]
    Corrupt {
        /// Path of the base file.
        file: PathBuf,
        /// Offset of the first bytes that cannot be read.
        offset: u64,
    },
    /// The rows are encrypted with another key.
    #[error(transparent)]
    Encrypted(#[from] DecryptionError),
}

/// Removes what an interrupted writing of a base file left in `folder`.
///
/// # Errors
/// The error of the operating system.
pub(super) fn remove_unfinished(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    match disk.remove(&folder.join(TEMPORARY_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Returns the path of the base file in `folder`.
pub(super) fn base_path(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

/// Reads the place at which the journal in `folder` begins, from the header of its base file.
/// Without a base file nothing was removed.
///
/// # Errors
/// [`StoreOpenError`], which names the file.
pub(super) fn read_start(
    disk: &dyn Disk,
    folder: &Path,
    incarnation: StoreIncarnation,
    seed: u32,
) -> Result<LogStart, StoreOpenError> {
    let base = open_base_file(disk, folder, (incarnation, seed))?;
    Ok(base.map_or(LogStart::BEGINNING, |base| base.start))
}

/// Base file that is open, with the start in its header.
pub(super) struct BaseFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    pub(super) start: LogStart,
}

impl BaseFile {
    /// Reads the whole file, whose checksums continue `seed`.
    pub(super) fn check(&self, seed: u32, cipher: &ContentCipher) -> Result<(), BaseReadError> {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let mut reader = BaseReader::new(file, path, seed, cipher.clone())?;
        while reader.read_rows()?.is_some() {}
        Ok(())
    }

    /// Fills `bytes` from `offset` on; returns the number of bytes that were read.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, BaseReadError> {
        let read = self.file.read_at(bytes, offset);
        read.map_err(|source| BaseReadError::Io {
            file: self.path.clone(),
            source,
        })
    }
}

/// Opens the base file in `folder`; `None` if there is none.
///
/// # Errors
/// [`StoreOpenError`], which names the file.
pub(super) fn open_base_file(
    disk: &dyn Disk,
    folder: &Path,
    (incarnation, seed): (StoreIncarnation, u32),
) -> Result<Option<BaseFile>, StoreOpenError> {
    let path = base_path(folder);
    let io = |source| StoreOpenError::Io {
        path: path.clone(),
        source,
    };
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };

    let mut bytes = [0; HEADER_MAX_BYTES];
    file.read_at(&mut bytes, 0).map_err(io)?;
    if let Some(found) = header_format(&bytes).filter(|found| *found > CONTENT_FORMAT) {
        return Err(StoreOpenError::Newer {
            file: path,
            found,
            supported: CONTENT_FORMAT,
        });
    }
    match DecodedHeader::decode(&bytes, seed) {
        Ok(DecodedHeader { start, .. }) => Ok(Some(BaseFile { file, path, start })),
        Err(Some(found)) if found != incarnation => Err(StoreOpenError::Foreign(path)),
        Err(_) => Err(StoreOpenError::BrokenBase { file: path }),
    }
}

fn encode_header(start: &LogStart, incarnation: StoreIncarnation) -> Vec<u8> {
    let has_content_position = start.content_position > Position::FIRST;
    let mut bytes = Vec::with_capacity(HEADER_MAX_BYTES);
    bytes.put_slice(MAGIC);
    bytes.put_u32(if has_content_position {
        CONTENT_FORMAT
    } else {
        FORMAT
    });
    bytes.put_u32(incarnation.get());
    bytes.put_u64(start.segment);
    bytes.put_u64(start.position.get());
    bytes.put_u64(start.change);
    bytes.put_i64(start.received_at.as_micros());
    debug_assert_eq!(bytes.len(), CHECKED_BYTES);
    if has_content_position {
        bytes.put_u64(start.content_position.get());
        debug_assert_eq!(bytes.len(), CONTENT_CHECKED_BYTES);
    }
    bytes
}

/// Returns the format in the first bytes of a file; `None` if it is no base file.
fn header_format(bytes: &[u8]) -> Option<u32> {
    let format = bytes.strip_prefix(MAGIC)?.first_chunk()?;
    Some(u32::from_be_bytes(*format))
}

/// Header of a base file, as it was read.
struct DecodedHeader {
    start: LogStart,
    /// Checksum that the first chunk continues.
    checksum: u32,
    /// Offset of the first chunk.
    length: u64,
}

impl DecodedHeader {
    /// Decodes the first bytes of a file, of which few may be there. The error has the incarnation in a
    /// header whose checksum is wrong.
    fn decode(bytes: &[u8], seed: u32) -> Result<Self, Option<StoreIncarnation>> {
        let checked_bytes = match header_format(bytes) {
            Some(FORMAT) => CHECKED_BYTES,
            Some(CONTENT_FORMAT) => CONTENT_CHECKED_BYTES,
            _ => return Err(None),
        };
        let (checked, mut found) = bytes.split_at_checked(checked_bytes).ok_or(None)?;
        let mut fields = &checked[MAGIC.len() + 4..];
        let incarnation = StoreIncarnation::new(fields.get_u32());
        let checksum = crc32c::crc32c_append(seed, checked);
        if found.try_get_u32() != Ok(checksum) {
            return Err(Some(incarnation));
        }
        let (segment, position) = (fields.get_u64(), Position::new(fields.get_u64()));
        Ok(Self {
            start: LogStart {
                segment,
                position,
                change: fields.get_u64(),
                received_at: Timestamp::from_micros(fields.get_i64()),
                content_position: fields.try_get_u64().map_or(Position::FIRST, Position::new),
            },
            checksum,
            length: (checked_bytes + 4) as u64,
        })
    }
}

/// Copy of a base file that comes in parts.
pub(super) struct BaseFileCopy<'d> {
    disk: &'d dyn Disk,
    folder: PathBuf,
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

impl<'d> BaseFileCopy<'d> {
    /// Creates the copy in `folder` under the temporary name.
    pub(super) fn create(disk: &'d dyn Disk, folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: disk.create(&folder.join(TEMPORARY_NAME), HEADER_MAX_BYTES as u64)?,
            disk,
            folder: folder.to_owned(),
            bytes: 0,
        })
    }

    /// Appends the next part of the file.
    pub(super) fn append(&mut self, part: &[u8]) -> io::Result<()> {
        self.file.write_all_at(part, self.bytes)?;
        self.bytes += part.len() as u64;
        Ok(())
    }

    /// Syncs the copy, and gives it its name.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_data()?;
        let temporary = self.folder.join(TEMPORARY_NAME);
        self.disk.rename(&temporary, &base_path(&self.folder))?;
        self.disk.sync_folder(&self.folder)
    }
}

/// Writer of a new base file, which takes the place of the present one when it is finished.
pub struct BaseWriter {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    file: Arc<dyn DiskFile>,
    cipher: ContentCipher,
    offset: u64,
    chain: u32,
    body: Vec<u8>,
    count: u32,
    is_finished: bool,
}

impl BaseWriter {
    /// Creates the file under its temporary name, in place of an unfinished one.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        (incarnation, seed): (StoreIncarnation, u32),
        cipher: ContentCipher,
        start: &LogStart,
    ) -> io::Result<Self> {
        let path = folder.join(TEMPORARY_NAME);
        remove_unfinished(disk.as_ref(), &folder)?;
        let file = disk.create(&path, HEADER_MAX_BYTES as u64)?;
        let mut header = encode_header(start, incarnation);
        let chain = crc32c::crc32c_append(seed, &header);
        header.put_u32(chain);
        let mut writer = Self {
            disk,
            folder,
            file,
            cipher,
            offset: 0,
            chain,
            body: Vec::new(),
            count: 0,
            is_finished: false,
        };
        writer.write(&header)?;
        Ok(writer)
    }

    /// Adds a row behind the earlier ones.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn push_row(&mut self, row: &BaseRow) -> io::Result<()> {
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len()).map_err(|_| io::Error::other("a row is too large"))
        };
        self.body.put_u8(row.section);
        self.body.put_u32(length(&row.key)?);
        self.body.put_u32(length(&row.value)?);
        self.body.put_slice(&row.key);
        self.body.put_slice(&row.value);
        self.count += 1;
        if self.body.len() >= CHUNK_TARGET_BYTES {
            self.write_chunk()?;
        }
        Ok(())
    }

    /// Returns the number of bytes that are written so far.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.offset
    }

    /// Ends the file, syncs it, and gives it its name. Returns its length in bytes.
    ///
    /// # Errors
    /// The error of the operating system; the earlier base file stays then.
    pub fn finish(mut self) -> io::Result<u64> {
        self.write_chunk()?;
        let end = self.encode_chunk(&[], 0);
        self.write(&end)?;
        self.file.sync_data()?;
        let (from, to) = (self.folder.join(TEMPORARY_NAME), base_path(&self.folder));
        self.disk.rename(&from, &to)?;
        self.is_finished = true;
        self.disk.sync_folder(&self.folder)?;
        Ok(self.offset)
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let body = lz4_flex::compress_prepend_size(&self.body);
        let chunk = match self.cipher.encrypt(CHUNK_PLACE, &body) {
            Some(encrypted) => self.encode_chunk(&encrypted, self.count | ENCRYPTED),
            None => self.encode_chunk(&body, self.count),
        };
        self.body.clear();
        self.count = 0;
        self.write(&chunk)
    }

    fn encode_chunk(&mut self, body: &[u8], count: u32) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(CHUNK_HEADER_BYTES + body.len());
        chunk.put_u32(u32::try_from(body.len()).expect("a chunk is bounded by its rows"));
        chunk.put_u32(count);
        self.chain = chunk_checksum(self.chain, &chunk, body);
        chunk.put_u32(self.chain);
        chunk.put_slice(body);
        chunk
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for BaseWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // The next writer removes a file that stays here.
            let _ = self.disk.remove(&self.folder.join(TEMPORARY_NAME));
        }
    }
}

fn chunk_checksum(chain: u32, header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(chain, header), body)
}

/// Reader of the rows of a base file, in their order.
pub struct BaseReader {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    cipher: ContentCipher,
    offset: u64,
    chain: u32,
}

impl BaseReader {
    /// Opens the base file in `folder`; `None` if there is none.
    pub(super) fn open(
        disk: &dyn Disk,
        folder: &Path,
        seed: u32,
        cipher: ContentCipher,
    ) -> Result<Option<Self>, BaseReadError> {
        let path = base_path(folder);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BaseReadError::Io { file: path, source }),
        };
        Self::new(file, path, seed, cipher).map(Some)
    }

    fn new(
        file: Arc<dyn DiskFile>,
        path: PathBuf,
        seed: u32,
        cipher: ContentCipher,
    ) -> Result<Self, BaseReadError> {
        let mut reader = Self {
            file,
            path,
            cipher,
            offset: 0,
            chain: 0,
        };
        let header = reader.read_bytes(0, HEADER_MAX_BYTES)?;
        let header = DecodedHeader::decode(&header, seed).map_err(|_| reader.corrupt())?;
        (reader.offset, reader.chain) = (header.length, header.checksum);
        Ok(reader)
    }

    /// Reads the rows of the next chunk; `None` behind the last one.
    ///
    /// # Errors
    /// [`BaseReadError`] when the file cannot be read or is corrupt.
    pub fn read_rows(&mut self) -> Result<Option<Vec<BaseRow>>, BaseReadError> {
        let header = self.read_bytes(self.offset, CHUNK_HEADER_BYTES)?;
        let Some((mut fields, mut checksum)) = header.split_at_checked(CHUNK_HEADER_BYTES - 4)
        else {
            return Err(self.corrupt());
        };
        let checked = fields;
        let (length, count) = (fields.get_u32() as usize, fields.get_u32());
        if length > BODY_MAX_BYTES {
            return Err(self.corrupt());
        }
        let body = self.read_bytes(self.offset + CHUNK_HEADER_BYTES as u64, length)?;
        let expected = chunk_checksum(self.chain, checked, &body);
        if body.len() != length || checksum.try_get_u32() != Ok(expected) {
            return Err(self.corrupt());
        }
        if length == 0 {
            return Ok(None);
        }

        let body = match count & ENCRYPTED {
            0 => body,
            _ => {
                let describe = || self.path.display().to_string();
                self.cipher.decrypt(CHUNK_PLACE, &body, describe)?
            }
        };
        let rows = decode_rows(&body, count & !ENCRYPTED).ok_or_else(|| self.corrupt())?;
        self.chain = expected;
        self.offset += (CHUNK_HEADER_BYTES + length) as u64;
        Ok(Some(rows))
    }

    fn read_bytes(&self, offset: u64, count: usize) -> Result<Vec<u8>, BaseReadError> {
        let io = |source| BaseReadError::Io {
            file: self.path.clone(),
            source,
        };
        // A corrupt length must not make the reader allocate more than the file holds.
        let rest = self.file.len().map_err(io)?.saturating_sub(offset);
        let count = count.min(usize::try_from(rest).unwrap_or(usize::MAX));
        let mut bytes = vec![0; count];
        let filled = self.file.read_at(&mut bytes, offset).map_err(io)?;
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn corrupt(&self) -> BaseReadError {
        BaseReadError::Corrupt {
            file: self.path.clone(),
            offset: self.offset,
        }
    }
}

fn decode_rows(body: &[u8], count: u32) -> Option<Vec<BaseRow>> {
    let size = u32::from_le_bytes(*body.first_chunk()?);
    if usize::try_from(size).ok()? > BODY_MAX_BYTES {
        return None;
    }
    let unpacked = lz4_flex::decompress_size_prepended(body).ok()?;
    let mut rest = unpacked.as_slice();
    let mut rows = Vec::new();
    for _ in 0..count {
        let (mut header, after) = rest.split_at_checked(ROW_HEADER_BYTES)?;
        let section = header.get_u8();
        let (key_bytes, value_bytes) = (header.get_u32() as usize, header.get_u32() as usize);
        let (key, after) = after.split_at_checked(key_bytes)?;
        let (value, after) = after.split_at_checked(value_bytes)?;
        rest = after;
        rows.push(BaseRow {
            section,
            key: key.to_vec(),
            value: value.to_vec(),
        });
    }
    rest.is_empty().then_some(rows)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::journal::disk::LocalDisk;

    const SEED: u32 = 8;

    fn start() -> LogStart {
        LogStart {
            segment: 2,
            position: Position::new(3),
            change: 4,
            received_at: Timestamp::from_micros(5),
            content_position: Position::FIRST,
        }
    }

    fn incarnation() -> StoreIncarnation {
        StoreIncarnation::new(0x3f9a_2c41)
    }

    fn write(folder: &Path, rows: &[BaseRow]) -> u64 {
        let identity = (incarnation(), SEED);
        let disk = Arc::new(LocalDisk);
        let mut writer = BaseWriter::create(
            disk,
            folder.to_owned(),
            identity,
            ContentCipher::default(),
            &start(),
        )
        .expect("creates");
        for row in rows {
            writer.push_row(row).expect("writes");
        }
        writer.finish().expect("finishes")
    }

    fn read(folder: &Path) -> Result<Vec<BaseRow>, BaseReadError> {
        let mut reader = BaseReader::open(&LocalDisk, folder, SEED, ContentCipher::default())?
            .expect("is there");
        let mut all = Vec::new();
        while let Some(rows) = reader.read_rows()? {
            all.extend(rows);
        }
        Ok(all)
    }

    fn row(number: u32, bytes: usize) -> BaseRow {
        BaseRow {
            section: number as u8 % 3,
            key: number.to_be_bytes().to_vec(),
            value: (0..bytes).map(|at| (at as u32 * number) as u8).collect(),
        }
    }

    #[test]
    fn the_bytes_of_a_header_never_change() {
        assert_eq!(
            hex::encode(encode_header(&start(), incarnation())),
            "484f4f4b42415345000000013f9a2c41000000000000000200000000000000030000000000000004\
             0000000000000005"
        );
        let without_content = LogStart {
            content_position: Position::new(9),
            ..start()
        };
        assert_eq!(
            hex::encode(encode_header(&without_content, incarnation())),
            "484f4f4b42415345000000023f9a2c41000000000000000200000000000000030000000000000004\
             00000000000000050000000000000009"
        );
    }

    #[test]
    fn a_header_says_that_content_was_removed_also_when_the_journal_begins_behind_that() {
        let start = LogStart {
            content_position: Position::new(2),
            ..start()
        };
        let mut header = encode_header(&start, incarnation());
        let checksum = crc32c::crc32c_append(SEED, &header);
        header.put_u32(checksum);
        let decoded = DecodedHeader::decode(&header, SEED).ok();
        assert_eq!(decoded.map(|decoded| decoded.start), Some(start));
        assert_eq!(header_format(&header), Some(CONTENT_FORMAT));
    }

    #[test]
    fn a_base_of_a_newer_version_is_told_from_a_damaged_one() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &[]);
        let file = folder.path().join(FILE_NAME);
        let mut bytes = fs::read(&file).expect("reads");
        bytes[MAGIC.len() + 3] = 3;
        fs::write(&file, &bytes).expect("writes");
        let error = read_start(&LocalDisk, folder.path(), incarnation(), SEED);
        assert!(matches!(
            error,
            Err(StoreOpenError::Newer {
                found: 3,
                supported: 2,
                ..
            })
        ));
    }

    #[test]
    fn all_rows_are_read_back_in_their_order_with_the_start_of_the_journal() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows: Vec<_> = (0..2_000).map(|number| row(number, 500)).collect();
        write(folder.path(), &[row(1, 9)]);
        write(folder.path(), &rows);
        assert_eq!(read(folder.path()).expect("reads"), rows);
        let found = read_start(&LocalDisk, folder.path(), incarnation(), SEED);
        assert_eq!(found.expect("reads"), start());
        assert!(!folder.path().join(TEMPORARY_NAME).exists());
    }

    #[test]
    fn an_unfinished_file_changes_nothing_and_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &[row(1, 9)]);
        let identity = (incarnation(), SEED);
        let path = folder.path().to_owned();
        let writer = BaseWriter::create(
            Arc::new(LocalDisk),
            path,
            identity,
            ContentCipher::default(),
            &LogStart::BEGINNING,
        );
        drop(writer.expect("creates"));
        assert_eq!(read(folder.path()).expect("reads"), [row(1, 9)]);
        assert!(!folder.path().join(TEMPORARY_NAME).exists());
    }

    #[test]
    fn each_changed_or_missing_byte_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let length = write(folder.path(), &[row(1, 30), row(2, 40)]) as usize;
        let file = folder.path().join(FILE_NAME);
        let whole = fs::read(&file).expect("reads");
        for at in 0..length {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&file, &changed).expect("writes");
            assert!(read(folder.path()).is_err(), "byte {at}");
            fs::write(&file, &whole[..at]).expect("writes");
            assert!(read(folder.path()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_base_of_another_store_is_told_from_a_damaged_one() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &[]);
        let of_another = StoreIncarnation::new(1);
        let error = read_start(&LocalDisk, folder.path(), of_another, SEED + 1);
        assert!(matches!(error, Err(StoreOpenError::Foreign(_))));
        let error = read_start(&LocalDisk, folder.path(), incarnation(), SEED + 1);
        assert!(matches!(error, Err(StoreOpenError::BrokenBase { .. })));
    }
}
