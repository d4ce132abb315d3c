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

/// Reads the files in `folder`, which is sled's. Returns the damage that makes them unusable.
///
/// # Errors
/// The error of the operating system.
pub(super) fn inspect_files(folder: &Path) -> io::Result<Option<String>> {
    if folder.join(UNUSABLE_MARK).exists() {
        return Ok(Some("it was found damaged while it was used".into()));
    }
    for name in ["conf", "db"] {
        if !folder.join(name).is_file() {
            return Ok(Some(format!("{name} is missing")));
        }
    }
    if has_blobs(folder)? {
        return Ok(Some("it has blob files, which sled never syncs".into()));
    }

    let mut db = File::open(folder.join("db"))?;
    let length = db.metadata()?.len();
    let mut header = [0; HEADER_BYTES];
    let mut is_empty = true;
    for offset in (0..length).step_by(SEGMENT_BYTES) {
        if offset + HEADER_BYTES as u64 > length {
            break;
        }
        db.seek(SeekFrom::Start(offset))?;
        db.read_exact(&mut header)?;
        if !is_segment_header(&header) {
            let damage = format!("db has no segment of a store at byte {offset}");
            return Ok(Some(damage));
        }
        is_empty &= is_unused(&header);
    }
    Ok(is_empty.then(|| "db is empty".into()))
}

/// Removes sled's snapshot files, which cache the locations of pages, so that sled reads the whole
/// log and checks it. With a snapshot it would search for ever for a page that is damaged.
///
/// # Errors
/// The error of the operating system.
pub(super) fn remove_snapshots(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"snap.") {
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

fn is_unused(header: &[u8; HEADER_BYTES]) -> bool {
    header.iter().all(|byte| *byte == 0)
}
