//! Inspection of sled's files before sled opens them. sled repairs damage by dropping rows without
//! a word, so damage must be detected first, by reading only.
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
use std::path::Path;

use super::folder::UNUSABLE_MARK;

/// Size of a segment, in bytes. sled puts page images larger than a quarter of a segment into blob
/// files; 1 MiB instead of its default of 512 KiB raises that limit to 256 KiB.
pub(super) const SEGMENT_BYTES: usize = 1024 * 1024;

const HEADER_BYTES: usize = 20;

/// Upper bound of the log sequence numbers (LSNs) in a log. sled's LSN counts all bytes ever
/// logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogEnd(i64);

impl LogEnd {
    /// End of a log without a byte, which every snapshot is ahead of.
    pub(super) const START: Self = Self(-1);
}

/// Reads the files in `folder`, which is sled's. Returns the upper bound of the LSNs in the log, or
/// the damage that makes the files unusable.
///
/// # Errors
/// The error of the operating system.
pub(super) fn inspect_files(folder: &Path) -> io::Result<Result<LogEnd, String>> {
    if folder.join(UNUSABLE_MARK).exists() {
        return Ok(Err("it was found damaged while it was used".into()));
    }
    for name in ["conf", "db"] {
        if !folder.join(name).is_file() {
            return Ok(Err(format!("{name} is missing")));
        }
    }
    if has_blobs(folder)? {
        return Ok(Err("it has blob files, which sled never syncs".into()));
    }

    let mut db = File::open(folder.join("db"))?;
    let length = db.metadata()?.len();
    let mut header = [0; HEADER_BYTES];
    let mut newest = None;
    for offset in (0..length).step_by(SEGMENT_BYTES) {
        if offset + HEADER_BYTES as u64 > length {
            break;
        }
        db.seek(SeekFrom::Start(offset))?;
        db.read_exact(&mut header)?;
        if !is_segment_header(&header) {
            let damage = format!("db has no segment of a store at byte {offset}");
            return Ok(Err(damage));
        }
        if !is_unused(&header) {
            newest = newest.max(Some(segment_lsn(&header)));
        }
    }
    let end = newest.map(|lsn| LogEnd(lsn.saturating_add(SEGMENT_BYTES as i64)));
    Ok(end.ok_or_else(|| "db is empty".into()))
}

/// Reads the files of the derived store in `folder`, which no process uses. Returns the reason for
/// which the next opening derives it again, if there is one.
///
/// # Errors
/// The error of the operating system.
pub fn inspect_derived_data(folder: &Path) -> io::Result<Option<String>> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(false) => Ok(inspect_files(folder)?.err()),
        Ok(true) => Ok(Some("it is empty".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some("it is missing".into())),
        Err(error) => Err(error),
    }
}

/// Removes the snapshot files that cover more than the log contains, which an abrupt stop can leave.
/// A snapshot is a cache of page locations; sled would trust this one and look for pages in the
/// wrong places.
///
/// # Errors
/// The error of the operating system.
pub(super) fn remove_snapshots_past(end: LogEnd, folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // The name is `snap.` and the LSN up to which it covers the log, in hex.
        let name = entry.file_name();
        let covered = name
            .to_str()
            .and_then(|name| i64::from_str_radix(name.strip_prefix("snap.")?, 16).ok());
        if covered.is_some_and(|covered| covered > end.0) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn has_blobs(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder.join("blobs")) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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
