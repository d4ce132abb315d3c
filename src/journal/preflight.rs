//! Looks at a store's files before sled does: sled repairs what it finds by overwriting it, so what
//! is beyond repair must be recognised first, by reading only.
//!
//! sled 0.34 writes its log in segments; each begins with `crc32 u32 | lsn i64 | stable lsn i64`
//! (little-endian, crc over the two numbers, all stored inverted). A segment that was never used is
//! zeros.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of a segment. sled's default of 512 KiB puts page images above 128 KiB into blob files; at
/// 1 MiB that is 256 KiB.
pub(super) const SEGMENT_BYTES: usize = 1024 * 1024;

const HEADER_BYTES: usize = 20;

/// Damage that was found without touching anything.
#[derive(Debug, thiserror::Error)]
pub enum LogDamage {
    /// A file that must be there is not.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// Nothing was ever written to the log, or what was is gone.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// A segment's header is neither empty nor whole.
    #[error("{}: the segment at byte {offset} is not a segment of a store", file.display())]
    Segment {
        /// The log file.
        file: PathBuf,
        /// Where the segment begins.
        offset: u64,
    },
    /// Blob files, which this store never has: sled would delete some of them.
    #[error("{}: a store has no blob files", .0.display())]
    Blob(PathBuf),
    /// A file could not be read.
    #[error("cannot read {}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The log sequence number that no record of a log reaches, by sled's count of all bytes ever
/// logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogEnd(i64);

impl LogEnd {
    /// Whether the snapshot file `name` (`snap.` and the number up to which it covers the log, in
    /// hex) covers more than the log has. sled would believe it, and look for pages where there are
    /// none or others.
    pub(super) fn is_passed_by_snapshot(self, name: &str) -> bool {
        let covered = name
            .strip_prefix("snap.")
            .and_then(|number| i64::from_str_radix(number, 16).ok());
        covered.is_some_and(|covered| covered > self.0)
    }
}

/// Checks the files in `folder`, in which sled keeps its log, by reading only; says where the log
/// ends at the latest.
///
/// # Errors
/// [`Damage`] that opening would make worse.
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

/// Checks that `folder` holds no blob file.
///
/// # Errors
/// [`Damage::Blob`] with the first one.
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
