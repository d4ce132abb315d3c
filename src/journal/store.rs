//! The data folder: our own lock and format file around sled's, and the only way to put something
//! on the disk.
//!
//! ```text
//! LOCK       held while a process uses the folder
//! FORMAT     which format, which incarnation, and whether the log was ever begun
//! log/       sled's own files (db, conf, snap.*; blobs/ stays empty)
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

/// The format that this version writes and the newest that it reads.
const FORMAT: u32 = 1;

/// How often a lock that is taken is tried again, and after which pause: an opening that has just
/// ended, of this process or of the one before it, lets go of its files a moment later, since
/// threads of sled hold them too.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

const INCARNATION_KEY: &[u8] = b"incarnation";
const SET_ASIDE: &str = "set-aside";
const PROOF_KEY: &[u8] = b"proof";

/// A write that the disk or sled refused.
pub type StoreWriteError = sled::Error;

/// Why a store was not opened. Nothing in it was changed, except where a variant says so.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// A file or folder could not be read, made or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another process; stop that one first, or give this one a store.path of its own", .0.display())]
    InUse(PathBuf),
    /// Written by a later version.
    #[error("{} says format {found}, and this version reads up to {FORMAT}; start the newer hookyard that wrote it", file.display())]
    Newer {
        /// The format file.
        file: PathBuf,
        /// The format it names.
        found: u32,
    },
    /// The format file is not one.
    #[error("{} is not a format file of a store; restore it from a backup, or point store.path elsewhere", .0.display())]
    BadFormat(PathBuf),
    /// There is a log, and nothing that says what it is.
    #[error("{} is missing although there is a log beside it; restore it from a backup", .0.display())]
    NoFormat(PathBuf),
    /// Files are damaged. Nothing was touched.
    #[error("the store is damaged, and nothing was changed; restore the data folder from a backup")]
    Damaged(#[from] LogDamage),
    /// sled found damage that reading alone does not show.
    #[error("{} cannot be opened; keep a copy of the folder and restore it from a backup", folder.display())]
    Sled {
        /// sled's folder.
        folder: PathBuf,
        /// What sled said.
        #[source]
        source: sled::Error,
    },
    /// sled panicked on what it found.
    #[error("{} made the store panic: {message}; keep a copy of the folder and restore it from a backup", folder.display())]
    Panicked {
        /// sled's folder.
        folder: PathBuf,
        /// The panic's message.
        message: String,
    },
    /// The log belongs to another store or lost what was in it.
    #[error("{} does not hold the log that FORMAT names; restore the data folder from a backup", .0.display())]
    Foreign(PathBuf),
    /// The log's end is not as any commit leaves it.
    #[error("the journal in {} is broken at position {position}; restore the data folder from a backup", folder.display())]
    Broken {
        /// sled's folder.
        folder: PathBuf,
        /// Where.
        position: u64,
    },
}

/// An open data folder. The last one dropped closes it.
pub struct DataStore {
    db: sled::Db,
    /// Our own handle of sled's file: sled's flush ends in `sync_file_range`, which leaves the
    /// file's metadata and the device's cache unflushed.
    db_file: File,
    folder: PathBuf,
    incarnation: StoreIncarnation,
    failure_injector: Arc<dyn FailureInjector>,
    // Dropped last: the folder is free for the next process only once sled has let go of it.
    _lock: File,
}

impl DataStore {
    /// Opens the data folder at `path`, making it if there is none, with a page cache of
    /// `cache_bytes`.
    ///
    /// # Errors
    /// [`OpenError`], each saying which file is wrong and what to do.
    pub fn open(
        path: &Path,
        cache_bytes: u64,
        faults: Arc<dyn FailureInjector>,
    ) -> Result<Arc<Self>, StoreOpenError> {
        make_folder(path)?;
        let lock = lock_folder(path)?;
        let log = path.join("log");
        let format_file = path.join("FORMAT");
        let format = match FormatFile::read_format(&format_file)? {
            Some(format) => format,
            None if log.exists() => return Err(StoreOpenError::NoFormat(format_file)),
            None => {
                let format = FormatFile {
                    incarnation: random_incarnation(),
                    begun: false,
                };
                format.write_format(path)?;
                format
            }
        };
        if format.begun {
            let end = preflight::inspect_log_folder(&log)?;
            let moved = set_snapshots_aside(path, &log, |name| end.is_passed_by_snapshot(name))?;
            if !moved.is_empty() {
                warn!(
                    "snapshot is ahead of the log and was set aside, reading the whole log instead"
                );
            }
            sync_path(&log.join("db"))?;
            sync_path(&log)?;
        }
        // A folder that was there before us keeps its mode, so sled's own is closed to others in
        // any case.
        make_folder(&log)?;
        close_to_others(&log)?;
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
            failure_injector: faults,
            _lock: lock,
        };
        store.claim_log(&format)?;
        preflight::check_no_blobs(&log)?;
        Ok(Arc::new(store))
    }

    /// The tree `name`, made if there is none.
    ///
    /// # Errors
    /// sled's own.
    pub fn tree(&self, name: &str) -> Result<sled::Tree, sled::Error> {
        self.db.open_tree(name)
    }

    /// Removes the tree `name` and all that is in it.
    ///
    /// # Errors
    /// sled's own.
    pub fn drop_tree(&self, name: &str) -> Result<(), sled::Error> {
        self.db.drop_tree(name).map(|_| ())
    }

    /// Hands all that was put before this call to the operating system: it survives the end of the
    /// process from then on.
    ///
    /// # Errors
    /// As [`Store::sync`].
    pub fn flush(&self) -> Result<(), sled::Error> {
        self.failure_injector.evaluate(Failpoint::Flush)?;
        self.db.flush().map(|_| ())
    }

    /// Returns when all that was put before this call is on the disk.
    ///
    /// # Errors
    /// Any I/O error; the store must be opened anew after one, since sled refuses every later write
    /// but may go on answering that its buffers are flushed.
    pub fn sync(&self) -> Result<(), sled::Error> {
        self.flush()?;
        self.failure_injector.evaluate(Failpoint::Sync)?;
        self.db_file.sync_data()?;
        Ok(())
    }

    /// Writes as much as a value may hold and syncs it, which shows that the disk takes writes
    /// again.
    ///
    /// # Errors
    /// Those of a write or of [`Store::sync`].
    pub fn prove_writable(&self) -> Result<(), StoreWriteError> {
        self.failure_injector.evaluate(Failpoint::Put)?;
        self.tree("meta")?
            .insert(PROOF_KEY, vec![0; VALUE_MAX_BYTES])?;
        self.sync()
    }

    /// The store's incarnation.
    #[must_use]
    pub fn incarnation(&self) -> StoreIncarnation {
        self.incarnation
    }

    /// The data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a test makes fail.
    #[must_use]
    pub fn failure_injector(&self) -> &dyn FailureInjector {
        self.failure_injector.as_ref()
    }

    /// Checks that the log is the one that FORMAT names, or makes it so if it was never begun.
    fn claim_log(&self, format: &FormatFile) -> Result<(), StoreOpenError> {
        let sled = |source| StoreOpenError::Sled {
            folder: self.folder.join("log"),
            source,
        };
        let meta = self.tree("meta").map_err(sled)?;
        let expected = format.incarnation.get().to_be_bytes();
        match meta.get(INCARNATION_KEY).map_err(sled)? {
            Some(found) if found == expected => {}
            None if !format.begun => {
                meta.insert(INCARNATION_KEY, &expected).map_err(sled)?;
                self.sync().map_err(sled)?;
            }
            _ => return Err(StoreOpenError::Foreign(self.folder.join("log"))),
        }
        if !format.begun {
            // sled writes it once and never syncs it, and a damaged one is beyond repair.
            sync_path(&self.folder.join("log/conf"))?;
            sync_path(&self.folder.join("log"))?;
            FormatFile {
                begun: true,
                ..*format
            }
            .write_format(&self.folder)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct FormatFile {
    incarnation: StoreIncarnation,
    /// Whether a log was ever synced: before that, an empty folder is no loss.
    begun: bool,
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
        // Anything else must not count as a log that was never begun: what is in the folder would
        // go unchecked.
        let begun = value("log-begun")?
            .parse()
            .map_err(|_| StoreOpenError::BadFormat(file.to_owned()))?;
        Ok(Some(Self {
            incarnation: StoreIncarnation::new(incarnation),
            begun,
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
            self.begun
        )
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, folder.join("FORMAT")))
        .map_err(io)?;
        sync_path(folder)
    }
}

fn make_folder(path: &Path) -> Result<(), StoreOpenError> {
    let io = |source| StoreOpenError::Io {
        path: path.to_owned(),
        source,
    };
    // Only the owner may look inside: events hold what customers wrote.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io)
}

fn close_to_others(path: &Path) -> Result<(), StoreOpenError> {
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
    let mut tried = lock.try_lock();
    for _ in 1..LOCK_ATTEMPTS {
        if !matches!(tried, Err(fs::TryLockError::WouldBlock)) {
            break;
        }
        thread::sleep(LOCK_PAUSE);
        tried = lock.try_lock();
    }
    match tried {
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

/// Opens sled; if it cannot use its snapshot file (a cache of where pages are, which an abrupt stop
/// can leave ahead of the log), sets that aside and lets sled read the whole log instead.
fn open_sled(path: &Path, log: &Path, cache_bytes: u64) -> Result<sled::Db, StoreOpenError> {
    let mut opened = try_open_sled(log, cache_bytes);
    for _ in 1..LOCK_ATTEMPTS {
        if !opened.as_ref().is_err_and(is_sled_locked) {
            break;
        }
        thread::sleep(LOCK_PAUSE);
        opened = try_open_sled(log, cache_bytes);
    }
    let first = match opened {
        Ok(db) => return Ok(db),
        // Of the disk or the system, not of what the files hold.
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
        return Err(first);
    }
    warn!(
        error = &first as &dyn std::error::Error,
        "snapshot set aside, reading the whole log instead"
    );
    match try_open_sled(log, cache_bytes) {
        Ok(db) => {
            info!(set_aside = %aside.display(), "store opened without its snapshot");
            Ok(db)
        }
        Err(_) => {
            for name in moved {
                // The first error is the one to tell; the files stay in `set-aside` if they cannot
                // be put back.
                let _ = fs::rename(aside.join(&name), log.join(&name));
            }
            Err(first)
        }
    }
}

/// Whether sled's own lock is taken. We hold ours, so it can only be a remainder of the opening
/// before.
fn is_sled_locked(error: &StoreOpenError) -> bool {
    matches!(error, StoreOpenError::Sled { source: sled::Error::Io(source), .. }
        if source.to_string().starts_with("could not acquire lock"))
}

fn try_open_sled(log: &Path, cache_bytes: u64) -> Result<sled::Db, StoreOpenError> {
    let config = sled::Config::new()
        .path(log)
        .cache_capacity(cache_bytes)
        .segment_size(SEGMENT_BYTES)
        // Every sync is ours, so that what is answered and what is on the disk are never decided by
        // a timer.
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

/// Moves the snapshot files with names that are `chosen` out of sled's sight, and says which these
/// are.
fn set_snapshots_aside(
    path: &Path,
    log: &Path,
    chosen: impl Fn(&str) -> bool,
) -> Result<Vec<std::ffi::OsString>, StoreOpenError> {
    let aside = path.join(SET_ASIDE);
    move_snapshots(log, &aside, chosen).map_err(|source| StoreOpenError::Io {
        path: aside,
        source,
    })
}

fn move_snapshots(
    log: &Path,
    aside: &Path,
    chosen: impl Fn(&str) -> bool,
) -> io::Result<Vec<std::ffi::OsString>> {
    let mut moved = Vec::new();
    for entry in fs::read_dir(log)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("snap.") && chosen(&text) {
            fs::create_dir_all(aside)?;
            fs::rename(log.join(&name), aside.join(&name))?;
            moved.push(name);
        }
    }
    Ok(moved)
}
