//! File of a backup: written under a temporary name, and renamed once it is whole and synced.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::BackupCommandError;

/// File that is being written; removed if it is dropped before it is published.
pub(super) struct ArchiveFile {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    is_published: bool,
}

impl ArchiveFile {
    /// Creates the temporary file beside `path`, readable by its owner only.
    pub(super) fn create(path: &Path) -> Result<Self, BackupCommandError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".unfinished");
        let temporary = PathBuf::from(temporary);
        // Created anew, so that no earlier file's permissions or links apply.
        let created = match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary),
        };
        match created {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                temporary,
                file: BufWriter::new(file),
                is_published: false,
            }),
            Err(source) => Err(BackupCommandError::File {
                path: temporary,
                source,
            }),
        }
    }

    /// Syncs the file and gives it its name.
    pub(super) fn publish(mut self) -> Result<(), BackupCommandError> {
        let mut sync_and_rename = || {
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            let folder = self
                .path
                .parent()
                .filter(|path| !path.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        sync_and_rename().map_err(|source| BackupCommandError::File {
            path: self.path.clone(),
            source,
        })?;
        self.is_published = true;
        Ok(())
    }
}

impl Write for ArchiveFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for ArchiveFile {
    fn drop(&mut self) {
        if !self.is_published {
            // The error that ended the backup is the one to report.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
