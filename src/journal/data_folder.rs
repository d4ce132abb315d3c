//! Data folder: a lock file and a format file beside the folders of the journal and of the derived
//! data.
//!
//! ```text
//! LOCK      locked while a process uses the folder
//! FORMAT    format version, incarnations and checksum seed; written once the journal exists
//! journal/  segments of the journal: everything that cannot be derived
//! derived/  what can be derived from the journal; may be deleted while no process uses the folder
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::content_cipher::ContentCipher;
use super::disk::{Disk, LocalDisk};
use super::open_error::StoreOpenError;
use super::store_identity::{FORMAT, StoreIdentity};
use crate::event::{IncarnationHistory, StoreIncarnation};

/// Names in a data folder that are no part of a store: the lock, what a file system keeps in its
/// root, and the secrets of `--dev`.
const HARMLESS_NAMES: [&str; 4] = ["CLOCK", "LOCK", "lost+found", "dev-secrets.toml"];

/// Number of attempts to take the lock. A process that is being stopped can hold it a moment
/// longer.
const LOCK_ATTEMPTS: u32 = 100;
/// Pause between two attempts to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Locked data folder. It is free for other processes once the last handle is dropped.
pub struct DataFolder {
    path: PathBuf,
    identity: StoreIdentity,
    /// Keys of the content of all files.
    cipher: ContentCipher,
    /// `true` if there was no format file: the folder holds no store yet.
    is_new: bool,
    lock: File,
}

impl DataFolder {
    /// Locks the data folder at `path`, creating it if it does not exist, and reads its format. Its
    /// content is not encrypted.
    ///
    /// # Errors
    /// The errors of [`DataFolder::open_encrypted`].
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreOpenError> {
        Self::open_encrypted(path, ContentCipher::default())
    }

    /// Locks the data folder at `path`, creating it if it does not exist, and reads its format. Its
    /// content is encrypted with `cipher`.
    ///
    /// # Errors
    /// [`StoreOpenError`], which names the affected file and tells the operator what to do.
    pub fn open_encrypted(path: &Path, cipher: ContentCipher) -> Result<Arc<Self>, StoreOpenError> {
        // Lock before reading anything: another process may be writing.
        LocalDisk
            .create_folder(path)
            .map_err(|source| StoreOpenError::Io {
                path: path.to_owned(),
                source,
            })?;
        let lock = lock_folder(path)?;

        let identity = StoreIdentity::read(path)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            is_new: identity.is_none(),
            identity: identity.unwrap_or_else(StoreIdentity::random),
            cipher,
            lock,
        }))
    }

    /// Locks the data folder at `path` as [`DataFolder::open_encrypted`] does, as a copy of the store with
    /// the identity `shared`, a text of [`DataFolder::identity_text`]. A new folder gets this identity.
    ///
    /// # Errors
    /// As for [`DataFolder::open_encrypted`]; [`StoreOpenError::Unrelated`] if the folder holds another
    /// store, or the text is no identity that this version reads.
    pub fn open_copy(
        path: &Path,
        cipher: ContentCipher,
        shared: &str,
    ) -> Result<Arc<Self>, StoreOpenError> {
        let unrelated = || StoreOpenError::Unrelated(path.to_owned());
        let shared = StoreIdentity::parse(shared).map_err(|_| unrelated())?;
        let opened = Self::open_encrypted(path, cipher)?;
        if opened.is_new {
            // Nobody else has a handle yet.
            let mut folder = Arc::into_inner(opened).ok_or_else(unrelated)?;
            folder.identity = shared;
            return Ok(Arc::new(folder));
        }
        let is_same = opened.identity == shared;
        is_same.then_some(opened).ok_or_else(unrelated)
    }

    /// Returns the identity of the store as a text, which is the content of its file FORMAT. It is as
    /// secret as the file: whoever knows it could forge blocks in a payload.
    #[must_use]
    pub fn identity_text(&self) -> String {
        let current = StoreIdentity {
            version: FORMAT,
            ..self.identity.clone()
        };
        current.to_string()
    }

    /// Returns `true` if the store has a former format, and is migrated at its next opening.
    #[must_use]
    pub fn is_of_former_format(&self) -> bool {
        self.identity.version < FORMAT
    }

    /// Checks that the folder at `path` holds the store of this incarnation, without writing
    /// anything.
    ///
    /// # Errors
    /// [`StoreOpenError::Displaced`] if it holds another store or none.
    pub fn check_incarnation(
        path: &Path,
        incarnation: StoreIncarnation,
    ) -> Result<(), StoreOpenError> {
        let found = StoreIdentity::read(path)?;
        let is_same = found.is_some_and(|found| found.incarnations.newest() == incarnation);
        is_same
            .then_some(())
            .ok_or_else(|| StoreOpenError::Displaced(path.to_owned()))
    }

    /// Locks the folder at `path`, creating it if it does not exist, for a new store with this
    /// identity.
    ///
    /// # Errors
    /// [`StoreOpenError::NotEmpty`] if the folder holds anything that may belong to a store.
    pub(super) fn create(
        path: &Path,
        identity: StoreIdentity,
        cipher: ContentCipher,
    ) -> Result<Arc<Self>, StoreOpenError> {
        let io = |source| StoreOpenError::Io {
            path: path.to_owned(),
            source,
        };
        let refuse_content = || {
            let names = LocalDisk.list(path).map_err(io)?;
            let used = names
                .into_iter()
                .find(|name| !HARMLESS_NAMES.contains(&name.as_str()));
            used.map_or(Ok(()), |name| {
                Err(StoreOpenError::NotEmpty {
                    folder: path.to_owned(),
                    name,
                })
            })
        };

        LocalDisk.create_folder(path).map_err(io)?;
        // Before the lock as well: a folder that is refused stays as it is.
        refuse_content()?;
        let lock = lock_folder(path)?;
        refuse_content()?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            is_new: true,
            identity,
            cipher,
            lock,
        }))
    }

    /// Returns the file of the folder that is missing, or is not the one that this process locked: what
    /// is written from now on belongs to no store, or another process may write it too.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn find_displaced_file(&self) -> io::Result<Option<PathBuf>> {
        let own = self.lock.metadata()?;
        for name in ["LOCK", "FORMAT"] {
            let file = self.path.join(name);
            let is_there = match fs::metadata(&file) {
                Ok(found) => name != "LOCK" || (found.dev(), found.ino()) == (own.dev(), own.ino()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            if !is_there {
                return Ok(Some(file));
            }
        }
        Ok(None)
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

    /// Returns the newest incarnation of the store, a part of the ids of events to come.
    #[must_use]
    pub fn incarnation(&self) -> StoreIncarnation {
        self.identity.incarnations.newest()
    }

    /// Returns all incarnations of the store, which give each position its event id.
    #[must_use]
    pub fn incarnations(&self) -> &IncarnationHistory {
        &self.identity.incarnations
    }

    /// Returns the keys of the content of all files.
    #[must_use]
    pub fn cipher(&self) -> &ContentCipher {
        &self.cipher
    }

    pub(super) fn identity(&self) -> &StoreIdentity {
        &self.identity
    }

    /// Returns the format version of the store, which may be older than the current one.
    #[must_use]
    pub fn format_version(&self) -> u32 {
        self.identity.version
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
        let identity = StoreIdentity {
            version: FORMAT,
            ..self.identity.clone()
        };
        identity.write(&self.path)
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
