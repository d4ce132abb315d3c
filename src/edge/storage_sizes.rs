//! Sizes of the data folder and of its disk, which the overview and the metrics share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use crate::alerts::read_disk_space;
use crate::shared_reading::{DiskReader, SharedReading};

/// Time for which all readers share the sizes. A reading looks at each file of the folder.
const SIZES_LIFE: Duration = Duration::from_secs(5);

/// Longest wait for the sizes. A disk that hangs must not hide the rest of the node; one that is slow
/// may take a while for thousands of files.
const READ_LIMIT: Duration = Duration::from_secs(3);

/// Sizes of the data folder and of its disk, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StorageSizes {
    /// Bytes of the journal, of the data derived from it, and of all else, with their names.
    pub(super) parts: [(&'static str, u64); 3],
    /// Free and whole space of the disk.
    pub(super) disk: Option<(u64, u64)>,
}

/// Reader of the sizes. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct StorageReader(Arc<StorageReading>);

/// Sizes that were read, and the reader of the disk.
#[derive(Debug)]
struct StorageReading {
    sizes: SharedReading<Option<StorageSizes>>,
    disk: DiskReader,
}

impl Default for StorageReader {
    fn default() -> Self {
        Self(Arc::new(StorageReading {
            sizes: SharedReading::new(SIZES_LIFE),
            disk: DiskReader::new(READ_LIMIT),
        }))
    }
}

impl StorageReader {
    /// Reads the sizes of the data `folder`, or shares those that were read a few seconds ago; `None`
    /// if the folder cannot be read in time.
    pub(super) async fn read_sizes(&self, folder: &Path) -> Option<StorageSizes> {
        let folder = folder.to_owned();
        let read = move || {
            let parts = read_folder_sizes(&folder).ok()?;
            let disk = read_disk_space(&folder);
            Some(StorageSizes { parts, disk })
        };
        let read = async { self.0.disk.run(read).await.flatten() };
        self.0.sizes.get_or_read(read).await
    }
}

/// Sums the sizes of the files below `folder`, by part.
fn read_folder_sizes(folder: &Path) -> io::Result<[(&'static str, u64); 3]> {
    let mut sizes = [("journal", 0), ("derived", 0), ("other", 0)];
    let (mut folders, mut is_top) = (vec![(folder.to_owned(), 2)], true);
    while let Some((folder, part)) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // A file may go between the two calls, as segments and sled's files do.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                let known = |(name, _): &(&str, u64)| is_top && entry.file_name() == *name;
                let part = sizes.iter().position(known).unwrap_or(part);
                folders.push((entry.path(), part));
            } else {
                sizes[part].1 += metadata.len();
            }
        }
        is_top = false;
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_summed_by_the_folder_at_the_top() {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, bytes) in [
            ("journal/1", 3),
            ("derived/blobs/journal/1", 5),
            ("LOCK", 7),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, vec![0; bytes]).expect("written");
        }
        let sizes = read_folder_sizes(folder.path()).expect("reads");
        assert_eq!(sizes, [("journal", 3), ("derived", 5), ("other", 7)]);
    }
}
