//! Preflight check of a store's files before sled opens them. sled repairs damage by overwriting
//! it, so damage that is beyond repair must be detected first, by reading only.
//!
//! sled 0.34 writes its log in segments. Each segment begins with a header:
//!
//! ```text
//! crc32 u32 LE | lsn i64 LE | stable lsn i64 LE    crc over both numbers; all stored inverted
//! ```
//!
//! A segment that was never used begins with zeros.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Size of a segment, in bytes. sled puts page images larger than a quarter of a segment into blob
/// files; 1 MiB instead of its default of 512 KiB raises that limit to 256 KiB.
pub(super) const SEGMENT_BYTES: usize = 1024 * 1024;

const HEADER_BYTES: usize = 20;

/// Damage found in sled's files by reading only.
#[derive(Debug, thiserror::Error)]
pub enum LogDamage {
    /// A required file does not exist.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// The log contains no segment in use.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// A segment's header is neither unused nor valid.
    #[error("{}: the segment at byte {offset} is not a segment of a store", file.display())]
    Segment {
        /// Path of the log file.
        file: PathBuf,
        /// Offset of the segment, in bytes.
        offset: u64,
    },
    /// A blob file exists, although this store never creates any; sled would delete some of them.
    #[error("{}: a store has no blob files", .0.display())]
    Blob(PathBuf),
    /// A file could not be read.
    #[error("cannot read {}", file.display())]
    Io {
        /// Path of the file or folder.
        file: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
}

/// Upper bound of the log sequence numbers (LSNs) in a log. sled's LSN counts all bytes ever
/// logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogEnd(i64);

impl LogEnd {
    /// Returns `true` if the snapshot file `name` covers more than the log contains. Its name is
    /// `snap.` and the LSN up to which it covers the log, in hex.
    ///
    /// sled would trust such a snapshot and look for pages in the wrong places.
    pub(super) fn is_passed_by_snapshot(self, name: &str) -> bool {
        let covered = name
            .strip_prefix("snap.")
            .and_then(|number| i64::from_str_radix(number, 16).ok());
        covered.is_some_and(|covered| covered > self.0)
    }
}

/// Checks the files in `folder`, which is sled's, by reading only, and returns the upper bound of
/// the LSNs in the log.
///
/// # Errors
/// [`LogDamage`] that would become worse if sled opened the folder.
pub(super) fn inspect_log_folder(folder: &Path) -> Result<LogEnd, LogDamage> {
    for name in ["conf", "db"] {
        let file = folder.join(name);
        if !file.is_file() {
            return Err(LogDamage::Missing(file));
        }
    }
    check_no_blobs(folder)?;

    let file = folder.join("db");
    let io = |source| LogDamage::Io {
        file: file.clone(),
        source,
    };
    let mut db = File::open(&file).map_err(io)?;
    let length = db.metadata().map_err(io)?.len();
    let mut header = [0; HEADER_BYTES];
    let mut newest = None;

    for offset in (0..length).step_by(SEGMENT_BYTES) {
        if offset + HEADER_BYTES as u64 > length {
            break;
        }
        db.seek(SeekFrom::Start(offset))
            .and_then(|_| db.read_exact(&mut header))
            .map_err(io)?;
        if !is_segment_header(&header) {
            return Err(LogDamage::Segment { file, offset });
        }
        if !is_unused(&header) {
            newest = newest.max(Some(segment_lsn(&header)));
        }
    }
    newest
        .map(|lsn| LogEnd(lsn.saturating_add(SEGMENT_BYTES as i64)))
        .ok_or(LogDamage::Empty(file))
}

/// Checks that `folder` contains no blob file.
///
/// # Errors
/// [`LogDamage::Blob`] with the path of the first blob file.
pub(super) fn check_no_blobs(folder: &Path) -> Result<(), LogDamage> {
    let blobs = folder.join("blobs");
    let Ok(mut entries) = fs::read_dir(&blobs) else {
        return Ok(());
    };
    match entries.next() {
        Some(Ok(entry)) => Err(LogDamage::Blob(entry.path())),
        Some(Err(source)) => Err(LogDamage::Io {
            file: blobs,
            source,
        }),
        None => Ok(()),
    }
}

fn is_segment_header(header: &[u8; HEADER_BYTES]) -> bool {
    let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) ^ u32::MAX;
    is_unused(header) || crc32fast::hash(&header[4..]) == stored
}

fn segment_lsn(header: &[u8; HEADER_BYTES]) -> i64 {
    let stored = *header[4..].first_chunk().expect("a header has 20 bytes");
    i64::from_le_bytes(stored) ^ i64::MAX
}

fn is_unused(header: &[u8; HEADER_BYTES]) -> bool {
    header.iter().all(|byte| *byte == 0)
}
