//! File operations of the journal, behind a trait so that tests can fail them, and can simulate what
//! a power failure leaves behind.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// File system that holds the journal's files.
pub trait Disk: Send + Sync + 'static {
    /// Creates `folder` for the owner only, with its parents, unless it exists. The new entries are
    /// synced.
    ///
    /// # Errors
    /// The error of the operating system.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Returns the names of the files in `folder`, in any order.
    ///
    /// # Errors
    /// The error of the operating system.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Creates the file `path` with room for `bytes` bytes, which read as zeros.
    ///
    /// # Errors
    /// The error of the operating system, such as a full disk or an existing file.
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens the existing file `path` for reading and writing.
    ///
    /// # Errors
    /// The error of the operating system.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames the file or folder `from`, replacing a file `to`.
    ///
    /// # Errors
    /// The error of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file `path`.
    ///
    /// # Errors
    /// The error of the operating system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Syncs the entries of `folder`, so that created, renamed and removed files survive a power
    /// failure as such.
    ///
    /// # Errors
    /// The error of the operating system.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// Open file of a [`Disk`].
#[expect(
    clippy::len_without_is_empty,
    reason = "an empty file is nothing special here"
)]
pub trait DiskFile: Send + Sync {
    /// Returns the file's length in bytes.
    ///
    /// # Errors
    /// The error of the operating system.
    fn len(&self) -> io::Result<u64>;

    /// Returns true if `path` still leads to this file. A simulated disk has no other files.
    ///
    /// # Errors
    /// The error of the operating system, but for a file that is not there.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let _ = path;
        Ok(true)
    }

    /// Fills `bytes` from `offset` on; returns how many bytes were read, fewer only at the end of
    /// the file.
    ///
    /// # Errors
    /// The error of the operating system.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` from `offset` on. After an error any part of them may be written.
    ///
    /// # Errors
    /// The error of the operating system.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Syncs the file's content to the disk, so that it survives a power failure. After an error
    /// the system may have dropped the unsynced content, and a later sync proves nothing about it.
    ///
    /// # Errors
    /// The error of the operating system.
    fn sync_data(&self) -> io::Result<()>;
}

/// [`Disk`] of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let created: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();

        // Only the owner may read it: events contain messages of customers.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;

        // A power failure must not take the folder away after events were acknowledged.
        created
            .iter()
            .filter_map(|created| created.parent())
            .try_for_each(|parent| {
                let is_working_directory = parent.as_os_str().is_empty();
                self.sync_folder(if is_working_directory {
                    Path::new(".")
                } else {
                    parent
                })
            })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;

        // Room that is allocated now cannot be missing when a commit needs it.
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            // File systems without preallocation get a sparse file.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes)?,
            Err(error) => {
                drop(file);
                // The first error is the one to report.
                let _ = fs::remove_file(path);
                return Err(error.into());
            }
        }
        Ok(Arc::new(LocalFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(LocalFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// [`DiskFile`] of the operating system.
struct LocalFile(File);

impl DiskFile for LocalFile {
    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = self.0.metadata()?;
        match fs::metadata(path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.0.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
