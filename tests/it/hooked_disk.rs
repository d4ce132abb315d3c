//! Disk of the operating system with hooks before each change, at which a test fails or holds the
//! operation.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hookyard::journal::{Disk, DiskFile, LocalDisk};

/// Hooks of a test; the defaults let every operation pass.
pub trait DiskHooks: Send + Sync + 'static {
    /// Runs before bytes are written to a file of the journal.
    fn before_write(&self) -> io::Result<()> {
        Ok(())
    }

    /// Runs before a file of the journal is synced.
    fn before_sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Runs before a file of the journal is created.
    fn before_create(&self) -> io::Result<()> {
        Ok(())
    }

    /// Runs before a file is renamed or removed, and before a folder is created or synced.
    fn before_entry_change(&self) -> io::Result<()> {
        Ok(())
    }

    /// Returns the number of bytes after which a write fails for lack of room.
    fn room_bytes(&self) -> Option<usize> {
        None
    }
}

/// [`LocalDisk`] that calls the hooks.
pub struct HookedDisk(pub Arc<dyn DiskHooks>);

impl HookedDisk {
    fn hook(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(HookedFile {
            file,
            hooks: Arc::clone(&self.0),
        })
    }
}

impl Disk for HookedDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.before_entry_change()?;
        LocalDisk.create_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        LocalDisk.list(folder)
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.0.before_create()?;
        Ok(self.hook(LocalDisk.create(path, bytes)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.hook(LocalDisk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.before_entry_change()?;
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.before_entry_change()?;
        LocalDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.before_entry_change()?;
        LocalDisk.sync_folder(folder)
    }
}

struct HookedFile {
    file: Arc<dyn DiskFile>,
    hooks: Arc<dyn DiskHooks>,
}

impl DiskFile for HookedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.hooks.before_write()?;
        match self.hooks.room_bytes() {
            Some(room) if room < bytes.len() => {
                self.file.write_all_at(&bytes[..room], offset)?;
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => self.file.write_all_at(bytes, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.hooks.before_sync()?;
        self.file.sync_data()
    }
}
