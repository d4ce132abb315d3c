//! File that a command writes: under a temporary name of its own, and renamed once it is whole and
//! synced. A file that is broken off never passes for a whole one, and no other file is touched.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::random_secret::random_bytes;

/// File that is being written, readable by its owner only; removed if it is dropped before it is
/// published.
pub(super) struct UnfinishedFile {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    is_published: bool,
}

impl UnfinishedFile {
    /// Creates the temporary file beside `path`, where no file and no link had its name.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let unique = random_bytes().map_err(io::Error::other)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.unfinished", hex::encode(&unique[..6])));
        let temporary = PathBuf::from(temporary);
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600);
        Ok(Self {
            file: BufWriter::new(file.open(&temporary)?),
            path: path.to_owned(),
            temporary,
            is_published: false,
        })
    }

    /// Syncs the file and gives it its name.
    pub(super) fn publish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        self.is_published = true;

        let folder = self.path.parent();
        let folder = folder.filter(|path| !path.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for UnfinishedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if !self.is_published {
            // The error that ended the writing is the one to report.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
