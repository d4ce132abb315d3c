//! Data folder: sled's files with a lock file and a format file beside them, and the sync that
//! makes writes durable.
//!
//! ```text
//! LOCK       locked while a process uses the folder
//! FORMAT     format version, incarnation, and if the log was ever initialized
//! log/       sled's files (db, conf, snap.*; blobs/ stays empty)
//! set-aside/ snapshot files that sled could not use
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use super::frame::VALUE_MAX_BYTES;
use super::preflight::{self, LogDamage, SEGMENT_BYTES};
use crate::event::StoreIncarnation;
use crate::failpoints::{Failpoint, FailureInjector};

/// Format version that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// Number of attempts to take a lock. When a store has just been closed, by this process or by the
/// one before it, threads of sled can hold its files a moment longer.
const LOCK_ATTEMPTS: u32 = 100;
/// Pause between two attempts to take a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

const INCARNATION_KEY: &[u8] = b"incarnation";
const SET_ASIDE: &str = "set-aside";
const PROOF_KEY: &[u8] = b"proof";

/// Error of a write to the store.
pub type StoreWriteError = sled::Error;

/// Error that prevents a store from being opened, with advice for the operator. sled can have
/// changed the files in the variants `Sled` and `Panicked`; in the others nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// A file or folder could not be read, created or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// Another process has locked the folder.
    #[error(
        "{} is in use by another process; stop that process, or set another store.path",
        .0.display()
    )]
    InUse(PathBuf),
    /// A later version of the program wrote the store.
    #[error(
        "{} says format {found}, and this version reads up to {FORMAT}; \
         start the newer hookyard that wrote it",
        file.display()
    )]
    Newer {
        /// Path of the format file.
        file: PathBuf,
        /// Format version in the file.
        found: u32,
    },
    /// The format file is malformed.
    #[error(
        "{} is not a format file of a store; \
         restore it from a backup, or point store.path elsewhere",
        .0.display()
    )]
    BadFormat(PathBuf),
    /// A log exists without a format file.
    #[error(
        "{} is missing although there is a log beside it; restore it from a backup",
        .0.display()
    )]
    NoFormat(PathBuf),
    /// The preflight check found damaged files.
    #[error("the store is damaged, and nothing was changed; restore the data folder from a backup")]
    Damaged(#[from] LogDamage),
    /// sled could not open its files.
    #[error(
        "{} cannot be opened; keep a copy of the folder and restore it from a backup",
        folder.display()
    )]
    Sled {
        /// Path of the folder with sled's files.
        folder: PathBuf,
        /// Error that sled returned while opening.
        #[source]
        source: sled::Error,
    },
    /// sled panicked while opening its files.
    #[error(
        "{} made the store panic: {message}; \
         keep a copy of the folder and restore it from a backup",
        folder.display()
    )]
    Panicked {
        /// Path of the folder with sled's files.
        folder: PathBuf,
        /// Text of the panic in sled.
        message: String,
    },
    /// The log belongs to another store, or lost its content.
    #[error(
        "{} does not hold the log that FORMAT names; restore the data folder from a backup",
        .0.display()
    )]
    Foreign(PathBuf),
    /// The last frames of the journal are corrupt or not consecutive.
    #[error(
        "the journal in {} is broken at position {position}; \
         restore the data folder from a backup",
        folder.display()
    )]
    Broken {
        /// Path of the folder with sled's files.
        folder: PathBuf,
        /// Position of the first bad frame.
        position: u64,
    },
}

/// Open data folder. Dropping the last handle closes it.
pub struct DataStore {
    db: sled::Db,
    /// Separate handle of sled's file, for `fdatasync`: sled's own flush ends in `sync_file_range`,
    /// which flushes neither the file's metadata nor the device's cache.
    db_file: File,
    folder: PathBuf,
    incarnation: StoreIncarnation,
    failure_injector: parking_lot::RwLock<Arc<dyn FailureInjector>>,
    // Dropped last: another process may use the folder only after sled has released it.
    _lock: File,
}

impl DataStore {
    /// Opens the data folder at `path`, creating it if it does not exist, with a page cache of
    /// `cache_bytes`.
    ///
    /// # Errors
    /// [`StoreOpenError`], which names the affected file and tells the operator what to do.
    pub fn open(
        path: &Path,
        cache_bytes: u64,
        failure_injector: Arc<dyn FailureInjector>,
    ) -> Result<Arc<Self>, StoreOpenError> {
        // Lock before reading anything: another process may be writing.
        create_private_folder(path)?;
        let lock = lock_folder(path)?;

        let log = path.join("log");
        let format_file = path.join("FORMAT");
        let format = match FormatFile::read_format(&format_file)? {
            Some(format) => format,
            None if log.exists() => return Err(StoreOpenError::NoFormat(format_file)),
            None => {
                let format = FormatFile {
                    incarnation: random_incarnation(),
                    is_log_begun: false,
                };
                format.write_format(path)?;
                format
            }
        };

        // Check an existing log before sled opens it, because sled repairs by overwriting.
        if format.is_log_begun {
            let end = preflight::inspect_log_folder(&log)?;
            let moved = set_snapshots_aside(path, &log, |name| end.is_passed_by_snapshot(name))?;
            if !moved.is_empty() {
                warn!("snapshot ahead of the log; set aside, reading the whole log instead");
            }
            sync_path(&log.join("db"))?;
            sync_path(&log)?;
        }

        // A data folder that existed before keeps its mode, so restrict sled's folder in any case.
        create_private_folder(&log)?;
        restrict_to_owner(&log)?;
        let db = open_sled(path, &log, cache_bytes)?;
        let db_path = log.join("db");
        let db_file = File::open(&db_path).map_err(|source| StoreOpenError::Io {
            path: db_path,
            source,
        })?;

        let store = Self {
            db,
            db_file,
            folder: path.to_owned(),
            incarnation: format.incarnation,
            failure_injector: parking_lot::RwLock::new(failure_injector),
            _lock: lock,
        };
        store.check_log_incarnation(&format)?;
        preflight::check_no_blobs(&log)?;
        Ok(Arc::new(store))
    }

    /// Opens the tree `name`, creating it if it does not exist.
    ///
    /// # Errors
    /// The error of sled.
    pub fn tree(&self, name: &str) -> Result<sled::Tree, sled::Error> {
        self.db.open_tree(name)
    }

    /// Removes the tree `name` with all its rows.
    ///
    /// # Errors
    /// The error of sled.
    pub fn drop_tree(&self, name: &str) -> Result<(), sled::Error> {
        self.db.drop_tree(name).map(|_| ())
    }

    /// Hands all earlier writes to the operating system, so that they survive a crash of the
    /// process, but not a power failure.
    ///
    /// # Errors
    /// The errors of [`DataStore::sync`].
    pub fn flush(&self) -> Result<(), sled::Error> {
        self.failure_injector().evaluate(Failpoint::Flush)?;
        self.db.flush().map(|_| ())
    }

    /// Syncs all earlier writes to the disk, so that they survive a power failure.
    ///
    /// # Errors
    /// Any I/O error. The store must then be opened again: sled rejects every later write, but can
    /// report success for a later flush.
    pub fn sync(&self) -> Result<(), sled::Error> {
        self.flush()?;
        self.failure_injector().evaluate(Failpoint::Sync)?;
        self.db_file.sync_data()?;
        Ok(())
    }

    /// Writes and syncs a value of the largest size, to prove that the disk accepts writes again.
    ///
    /// # Errors
    /// The errors of a write or of [`DataStore::sync`].
    pub fn prove_writable(&self) -> Result<(), StoreWriteError> {
        self.failure_injector().evaluate(Failpoint::Put)?;
        self.tree("meta")?
            .insert(PROOF_KEY, vec![0; VALUE_MAX_BYTES])?;
        self.sync()
    }

    /// Returns the incarnation from the file FORMAT.
    #[must_use]
    pub fn incarnation(&self) -> StoreIncarnation {
        self.incarnation
    }

    /// Returns the path of the data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the injector that tests use to make operations fail.
    #[must_use]
    pub fn failure_injector(&self) -> Arc<dyn FailureInjector> {
        Arc::clone(&self.failure_injector.read())
    }

    pub(super) fn set_failure_injector(&self, injector: Arc<dyn FailureInjector>) {
        *self.failure_injector.write() = injector;
    }

    /// Checks that the log has the incarnation from FORMAT. A log that was never begun gets that
    /// incarnation.
    fn check_log_incarnation(&self, format: &FormatFile) -> Result<(), StoreOpenError> {
        let sled = |source| StoreOpenError::Sled {
            folder: self.folder.join("log"),
            source,
        };
        let meta = self.tree("meta").map_err(sled)?;
        let expected = format.incarnation.get().to_be_bytes();
        match meta.get(INCARNATION_KEY).map_err(sled)? {
            Some(found) if found == expected => {}
            None if !format.is_log_begun => {
                meta.insert(INCARNATION_KEY, &expected).map_err(sled)?;
                self.sync().map_err(sled)?;
            }
            _ => return Err(StoreOpenError::Foreign(self.folder.join("log"))),
        }

        if !format.is_log_begun {
            // sled writes `conf` once and never syncs it, and cannot repair it.
            sync_path(&self.folder.join("log/conf"))?;
            sync_path(&self.folder.join("log"))?;
            FormatFile {
                is_log_begun: true,
                ..*format
            }
            .write_format(&self.folder)?;
        }
        Ok(())
    }
}

/// Content of the file FORMAT.
#[derive(Clone, Copy)]
struct FormatFile {
    incarnation: StoreIncarnation,
    /// `true` once the log has been initialized and synced. Before that, a missing log is no loss.
    is_log_begun: bool,
}

impl FormatFile {
    fn read_format(file: &Path) -> Result<Option<Self>, StoreOpenError> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(StoreOpenError::BadFormat(file.to_owned()));
            }
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
            line.ok_or_else(|| StoreOpenError::BadFormat(file.to_owned()))
        };
        let found: u32 = value("hookyard-store-format")?
            .parse()
            .map_err(|_| StoreOpenError::BadFormat(file.to_owned()))?;
        if found > FORMAT {
            return Err(StoreOpenError::Newer {
                file: file.to_owned(),
                found,
            });
        }
        let incarnation = u32::from_str_radix(value("incarnation")?, 16)
            .map_err(|_| StoreOpenError::BadFormat(file.to_owned()))?;
        // A malformed value must not count as `false`, or the log would not be checked.
        let is_log_begun = value("log-begun")?
            .parse()
            .map_err(|_| StoreOpenError::BadFormat(file.to_owned()))?;
        Ok(Some(Self {
            incarnation: StoreIncarnation::new(incarnation),
            is_log_begun,
        }))
    }

    fn write_format(self, folder: &Path) -> Result<(), StoreOpenError> {
        let temporary = folder.join("FORMAT.new");
        let io = |source| StoreOpenError::Io {
            path: temporary.clone(),
            source,
        };
        let mut file = File::create(&temporary).map_err(io)?;
        write!(
            file,
            "hookyard-store-format = {FORMAT}\nincarnation = {:08x}\nlog-begun = {}\n",
            self.incarnation.get(),
            self.is_log_begun
        )
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, folder.join("FORMAT")))
        .map_err(io)?;
        sync_path(folder)
    }
}

fn create_private_folder(path: &Path) -> Result<(), StoreOpenError> {
    let io = |source| StoreOpenError::Io {
        path: path.to_owned(),
        source,
    };
    // Only the owner may read the folder: events contain messages of customers.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io)
}

fn restrict_to_owner(path: &Path) -> Result<(), StoreOpenError> {
    let io = |source| StoreOpenError::Io {
        path: path.to_owned(),
        source,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io)
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

fn random_incarnation() -> StoreIncarnation {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    StoreIncarnation::new(u32::from_be_bytes(bytes))
}

fn sync_path(path: &Path) -> Result<(), StoreOpenError> {
    let io = |source| StoreOpenError::Io {
        path: path.to_owned(),
        source,
    };
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(io)
}

/// Opens sled. If sled cannot use its snapshot file, moves the file to `set-aside` and opens sled
/// without it, so that sled reads the whole log.
///
/// The snapshot is a cache of page locations, which an abrupt stop can leave ahead of the log.
fn open_sled(path: &Path, log: &Path, cache_bytes: u64) -> Result<sled::Db, StoreOpenError> {
    let mut opened = try_open_sled(log, cache_bytes);
    for _ in 1..LOCK_ATTEMPTS {
        if !opened.as_ref().is_err_and(is_sled_locked) {
            break;
        }
        thread::sleep(LOCK_PAUSE);
        opened = try_open_sled(log, cache_bytes);
    }

    let first_error = match opened {
        Ok(db) => return Ok(db),
        // An I/O error comes from the disk or the system, not from the content of the files.
        Err(
            error @ StoreOpenError::Sled {
                source: sled::Error::Io(_),
                ..
            },
        ) => return Err(error),
        Err(error) => error,
    };

    let aside = path.join(SET_ASIDE);
    let moved = set_snapshots_aside(path, log, |_| true)?;
    if moved.is_empty() {
        return Err(first_error);
    }

    warn!(
        error = &first_error as &dyn std::error::Error,
        "snapshot unusable; set aside, reading the whole log instead"
    );
    match try_open_sled(log, cache_bytes) {
        Ok(db) => {
            info!(folder = %aside.display(), "store opened without its snapshot");
            Ok(db)
        }
        Err(_) => {
            for name in moved {
                // The first error is the one to report. A file that cannot be moved back stays in
                // `set-aside`.
                let _ = fs::rename(aside.join(&name), log.join(&name));
            }
            Err(first_error)
        }
    }
}

/// Returns `true` if sled's own lock is taken. This process holds LOCK, so the holder can only be a
/// remaining thread of the last opening.
fn is_sled_locked(error: &StoreOpenError) -> bool {
    matches!(error, StoreOpenError::Sled { source: sled::Error::Io(source), .. }
        if source.to_string().starts_with("could not acquire lock"))
}

fn try_open_sled(log: &Path, cache_bytes: u64) -> Result<sled::Db, StoreOpenError> {
    let config = sled::Config::new()
        .path(log)
        .cache_capacity(cache_bytes)
        .segment_size(SEGMENT_BYTES)
        // No timer: this program decides when to sync, because answers depend on it.
        .flush_every_ms(None);
    match crate::panics::contain_panic(|| config.open()) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(source)) => Err(StoreOpenError::Sled {
            folder: log.to_owned(),
            source,
        }),
        Err(message) => Err(StoreOpenError::Panicked {
            folder: log.to_owned(),
            message,
        }),
    }
}

/// Moves the snapshot files whose names satisfy `is_selected` to `set-aside`, and returns their
/// names.
fn set_snapshots_aside(
    path: &Path,
    log: &Path,
    is_selected: impl Fn(&str) -> bool,
) -> Result<Vec<std::ffi::OsString>, StoreOpenError> {
    let aside = path.join(SET_ASIDE);
    move_snapshots(log, &aside, is_selected).map_err(|source| StoreOpenError::Io {
        path: aside,
        source,
    })
}

fn move_snapshots(
    log: &Path,
    aside: &Path,
    is_selected: impl Fn(&str) -> bool,
) -> io::Result<Vec<std::ffi::OsString>> {
    let mut moved = Vec::new();
    for entry in fs::read_dir(log)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("snap.") && is_selected(&text) {
            fs::create_dir_all(aside)?;
            fs::rename(log.join(&name), aside.join(&name))?;
            moved.push(name);
        }
    }
    Ok(moved)
}
