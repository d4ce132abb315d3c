//! Bytes of a segment's file behind its last block: zeros, or what a discarded tail has left.

use std::io;

use super::DiskFile;

/// Bytes that are compared with zeros at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Returns `true` if there is anything but zeros from `begin` on.
pub(super) fn has_content(file: &dyn DiskFile, begin: u64) -> io::Result<bool> {
    let mut found = false;
    visit_content(file, begin, |_, _| {
        found = true;
        Ok(())
    })?;
    Ok(found)
}

/// Zeros everything from `begin` on; returns `true` if there was anything but zeros.
pub(super) fn zero_from(file: &dyn DiskFile, begin: u64) -> io::Result<bool> {
    let zeros = vec![0; CHUNK_BYTES];
    let mut found = false;
    visit_content(file, begin, |offset, count| {
        found = true;
        file.write_all_at(&zeros[..count], offset)
    })?;
    Ok(found)
}

/// Calls `visit` with the offset and length of each chunk from `begin` on that is not all zeros.
fn visit_content(
    file: &dyn DiskFile,
    begin: u64,
    mut visit: impl FnMut(u64, usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES];
    let mut offset = begin;
    loop {
        let count = file.read_at(&mut bytes, offset)?;
        if bytes[..count].iter().any(|byte| *byte != 0) {
            visit(offset, count)?;
        }
        if count < bytes.len() {
            return Ok(());
        }
        offset += count as u64;
    }
}
