//! Room on the disk that a copy of the derived store needs.

use std::fs;
use std::path::PathBuf;

use crate::alerts;
use crate::journal::DataFolder;

/// Files that an erasure writes anew, and the disk that holds them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CopyRoom {
    folder: PathBuf,
    /// Files of which there are two during the copy.
    copied: [PathBuf; 2],
    segment_bytes: u64,
}

impl CopyRoom {
    /// Creates the room for a copy in `folder`, beside one segment of `segment_bytes`, into which events
    /// go on.
    #[must_use]
    pub fn new(folder: &DataFolder, segment_bytes: u64) -> Self {
        Self {
            folder: folder.path().to_owned(),
            copied: [
                folder.derived_path().join("db"),
                folder.journal_path().join("BASE"),
            ],
            segment_bytes,
        }
    }

    /// Returns the bytes that must become free before a copy can succeed. Blocks.
    pub(super) fn lacking_bytes(&self) -> u64 {
        // A disk that does not tell its room may have enough.
        let free = alerts::read_disk_space(&self.folder).map_or(u64::MAX, |(free, _)| free);
        self.needed_bytes().saturating_sub(free)
    }

    fn needed_bytes(&self) -> u64 {
        let sizes = self.copied.iter().map(fs::metadata);
        let present = sizes.filter_map(Result::ok).map(|file| file.len());
        present.sum::<u64>().saturating_add(self.segment_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_needs_as_much_as_the_files_that_it_replaces_and_a_segment() {
        let path = tempfile::tempdir().expect("a folder");
        let folder = DataFolder::open(path.path()).expect("opens");
        let room = |segment_bytes| CopyRoom::new(&folder, segment_bytes);
        assert_eq!(room(7).needed_bytes(), 7, "nothing is to be copied");
        fs::create_dir_all(folder.derived_path()).expect("creates");
        fs::create_dir_all(folder.journal_path()).expect("creates");
        fs::write(folder.derived_path().join("db"), [0; 1_000]).expect("writes");
        fs::write(folder.journal_path().join("BASE"), [0; 200]).expect("writes");
        assert_eq!(room(7).needed_bytes(), 1_207);
        assert_eq!(room(7).lacking_bytes(), 0);
        assert!(room(u64::MAX).lacking_bytes() > 0);
    }
}
