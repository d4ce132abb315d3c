//! Bytes that reach a disk, counted by the system for the whole disk (Linux; nothing elsewhere).
//!
//! The count of one process in `/proc/PID/io` is no measure of them: where a file system has large
//! pages, a write of some bytes counts as a whole one, up to megabytes.

use std::fs;
use std::path::Path;

/// Bytes of a sector in the system's counts, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// Returns the bytes written since the start of the system to the disk that holds `folder`, by all
/// processes; `None` if the file system is on no disk of its own.
#[cfg(target_os = "linux")]
pub(super) fn count_written_bytes(folder: &Path) -> Option<u64> {
    use std::os::linux::fs::MetadataExt as _;

    let device = fs::metadata(folder).ok()?.st_dev();
    let (major, minor) = split_device(device);
    parse_written_bytes(&fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn count_written_bytes(_folder: &Path) -> Option<u64> {
    None
}

/// Splits the number of a device into its major and minor parts, as `makedev(3)` joins them.
fn split_device(device: u64) -> (u64, u64) {
    let major = (device >> 8) & 0xfff | (device >> 32) & !0xfff;
    let minor = device & 0xff | (device >> 12) & !0xff;
    (major, minor)
}

/// Reads the seventh field, the number of sectors written (the kernel's `Documentation/block/stat.rst`).
fn parse_written_bytes(stat: &str) -> Option<u64> {
    let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sectors_that_were_written_are_counted() {
        let stat =
            "  417940    16843 36028386  2591256   678307   208790 131799208   690909   0 1 2";
        assert_eq!(parse_written_bytes(stat), Some(131_799_208 * 512));
        assert_eq!(parse_written_bytes("1 2"), None);
    }

    #[test]
    fn a_device_has_its_two_numbers() {
        assert_eq!(split_device(0xfe00), (254, 0));
        assert_eq!(split_device(0x0010_0303), (3, 0x103));
    }
}
