//! Data folder: a lock file and a format file beside the folders of the journal and of the derived
//! data.
//!
//! ```text
//! LOCK      locked while a process uses the folder
//! FORMAT    format version, incarnation and checksum seed; written once the journal exists
//! journal/  segments of the journal: everything that cannot be derived
//! derived/  what can be derived from the journal; may be deleted while no process uses the folder
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::disk::{Disk, LocalDisk};
use super::open_error::StoreOpenError;
use crate::event::StoreIncarnation;

/// Format version that this program writes, and the newest that it reads.
const FORMAT: u32 = 2;

/// Number of attempts to take the lock. A process that is being stopped can hold it a moment
/// longer.
const LOCK_ATTEMPTS: u32 = 100;
/// Pause between two attempts to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Locked data folder. It is free for other processes once the last handle is dropped.
pub struct DataFolder {
    path: PathBuf,
    format: FormatFile,
    /// `true` if there was no format file: the folder holds no store yet.
    is_new: bool,
    _lock: File,
}

impl DataFolder {
    /// Locks the data folder at `path`, creating it if it does not exist, and reads its format.
    ///
    /// # Errors
    /// [`StoreOpenError`], which names the affected file and tells the operator what to do.
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreOpenError> {
        // Lock before reading anything: another process may be writing.
        LocalDisk
            .create_folder(path)
            .map_err(|source| StoreOpenError::Io {
                path: path.to_owned(),
                source,
            })?;
        let lock = lock_folder(path)?;

        let format = FormatFile::read_format(&path.join("FORMAT"))?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            is_new: format.is_none(),
            format: format.unwrap_or_else(FormatFile::random),
            _lock: lock,
        }))
    }

    /// Returns the path of the data folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the folder with the journal's segments.
    #[must_use]
    pub fn journal_path(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Returns the path of the folder with the derived data.
    #[must_use]
    pub fn derived_path(&self) -> PathBuf {
        self.path.join("derived")
    }

    /// Returns the store's incarnation, a part of every event id.
    #[must_use]
    pub fn incarnation(&self) -> StoreIncarnation {
        self.format.incarnation
    }

    /// Returns the format version of the store, which may be older than the current one.
    #[must_use]
    pub fn format_version(&self) -> u32 {
        self.format.version
    }

    /// Returns the number that all checksums of the journal continue.
    pub(super) fn checksum_seed(&self) -> u32 {
        self.format.checksum_seed
    }

    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Writes the format file, after which the folder holds a store of the current format. The
    /// journal must be durable.
    ///
    /// # Errors
    /// [`StoreOpenError::Io`] when the file cannot be written.
    pub fn mark_initialized(&self) -> Result<(), StoreOpenError> {
        let format = FormatFile {
            version: FORMAT,
            ..self.format
        };
        format.write_format(&self.path)
    }
}

/// Content of the file FORMAT.
#[derive(Clone, Copy)]
struct FormatFile {
    version: u32,
    incarnation: StoreIncarnation,
    checksum_seed: u32,
}

impl FormatFile {
    fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        let number = u64::from_be_bytes(bytes);
        Self {
            version: FORMAT,
            incarnation: StoreIncarnation::new((number >> 32) as u32),
            checksum_seed: number as u32,
        }
    }

    fn read_format(file: &Path) -> Result<Option<Self>, StoreOpenError> {
        let bad_format = || StoreOpenError::BadFormat(file.to_owned());
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(bad_format()),
            Err(source) => {
                return Err(StoreOpenError::Io {
                    path: file.to_owned(),
                    source,
                });
            }
        };
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.ok_or_else(bad_format)
        };
        let hex = |name: &str| u32::from_str_radix(value(name)?, 16).map_err(|_| bad_format());

        let version: u32 = value("hookyard-store-format")?
            .parse()
            .map_err(|_| bad_format())?;
        if version > FORMAT {
            return Err(StoreOpenError::Newer {
                file: file.to_owned(),
                found: version,
                supported: FORMAT,
            });
        }
        let incarnation = StoreIncarnation::new(hex("incarnation")?);
        // Format 1 had no checksums of its own; its migration uses a new seed.
        let checksum_seed = if version == FORMAT {
            hex("checksum-seed")?
        } else {
            Self::random().checksum_seed
        };
        Ok(Some(Self {
            version,
            incarnation,
            checksum_seed,
        }))
    }

    fn write_format(self, folder: &Path) -> Result<(), StoreOpenError> {
        let temporary = folder.join("FORMAT.new");
        let io = |source| StoreOpenError::Io {
            path: temporary.clone(),
            source,
        };
        // The checksum seed is for the owner only: who knows it could forge blocks in a payload.
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(io)?;
        write!(
            file,
            "hookyard-store-format = {}\nincarnation = {:08x}\nchecksum-seed = {:08x}\n",
            self.version,
            self.incarnation.get(),
            self.checksum_seed
        )
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, folder.join("FORMAT")))
        .and_then(|()| LocalDisk.sync_folder(folder))
        .map_err(io)
    }
}

fn lock_folder(path: &Path) -> Result<File, StoreOpenError> {
    let file = path.join("LOCK");
    let io = |source| StoreOpenError::Io {
        path: file.clone(),
        source,
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&file)
        .map_err(io)?;

    let mut result = lock.try_lock();
    for _ in 1..LOCK_ATTEMPTS {
        if !matches!(result, Err(fs::TryLockError::WouldBlock)) {
            break;
        }
        thread::sleep(LOCK_PAUSE);
        result = lock.try_lock();
    }

    match result {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StoreOpenError::InUse(path.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(StoreOpenError::Io { path: file, source }),
    }
}
