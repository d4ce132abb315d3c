//! Migration of a store of format 1, which kept everything in sled, to format 2, whose truth is the
//! journal's segments.
//!
//! ```text
//!                log/    journal.new/  journal/  FORMAT   after a crash here
//!  copy          whole   grows         –         1        starts over
//!  write FORMAT  whole   whole         –         2        goes on with the next step
//!  rename        whole   –             whole     2        goes on with the next step
//!  clean up      –       –             whole     2
//! ```
//!
//! Derived data is derived again from the journal. The call log starts empty.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::clock::Clock;
use crate::derived::{FormerStore, FormerStoreError, FormerTable};
use crate::journal::{
    DataFolder, Disk, ImportError, JournalImport, StoreOpenError, TableChange, TableChanges,
};
use crate::table_store::JournaledTableId;

/// Format version of the stores that are migrated.
const FORMER_VERSION: u32 = 1;

/// Folder in which the new journal is built.
const NEW_JOURNAL: &str = "journal.new";

/// Time between two log lines about the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Rows and bytes of rows in one group of changes, so that no group becomes large.
const GROUP_ROWS: usize = 1000;
const GROUP_BYTES: usize = 1024 * 1024;

const TABLES: [(FormerTable, JournaledTableId); 4] = [
    (FormerTable::Subscriptions, JournaledTableId::Subscriptions),
    (FormerTable::Accounts, JournaledTableId::Accounts),
    (FormerTable::Deliveries, JournaledTableId::Deliveries),
    (FormerTable::Enrichment, JournaledTableId::Enrichment),
];

/// Error that ends a migration. The next start of a node begins it again.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The former store cannot be read.
    #[error(transparent)]
    Read(#[from] FormerStoreError),
    /// The new journal cannot be written.
    #[error(transparent)]
    Write(#[from] ImportError),
    /// The format file cannot be written.
    #[error(transparent)]
    Format(#[from] StoreOpenError),
    /// A file or folder could not be renamed or removed.
    #[error("cannot use {}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The folder holds the files of both formats.
    #[error(
        "{} is a journal of format 2 although FORMAT says 1; \
         if you restored a backup of format 1, move that folder away",
        .0.display()
    )]
    BothFormats(PathBuf),
    /// The former store has no format file.
    #[error(
        "{} is missing although there is a log beside it; restore it from a backup",
        .0.display()
    )]
    NoFormat(PathBuf),
}

/// Migration of the store in one data folder.
pub(super) struct StoreMigration<'a> {
    pub(super) folder: &'a DataFolder,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: &'a dyn Clock,
    /// Size of sled's page cache while the former store is read.
    pub(super) cache_bytes: u64,
    /// Size of a segment of the new journal.
    pub(super) segment_bytes: u64,
}

impl StoreMigration<'_> {
    /// Migrates the store if it has format 1, and ends a migration that was interrupted. Blocks.
    ///
    /// # Errors
    /// [`MigrationError`]; the former store is whole then.
    pub(super) fn run(&self) -> Result<(), MigrationError> {
        let format = self.path("FORMAT");
        if !exists(&format)? {
            return match exists(&self.path("log"))? {
                true => Err(MigrationError::NoFormat(format)),
                false => Ok(()),
            };
        }

        if self.folder.format_version() == FORMER_VERSION {
            self.build_journal().inspect_err(|_| {
                // An unfinished copy must not fill the disk. The first error is the one to report,
                // and the next attempt removes the copy in any case.
                let _ = remove_folder(&self.path(NEW_JOURNAL));
            })?;
            self.folder.mark_initialized()?;
        }
        self.use_new_journal()
    }

    fn build_journal(&self) -> Result<(), MigrationError> {
        let journal = self.folder.journal_path();
        if exists(&journal)? {
            return Err(MigrationError::BothFormats(journal));
        }
        let new_journal = self.path(NEW_JOURNAL);
        remove_folder(&new_journal)?;

        let (path, incarnation) = (self.folder.path(), self.folder.incarnation());
        let former = FormerStore::open(path, incarnation, self.cache_bytes)?;
        let disk = Arc::clone(&self.disk);
        let mut import = JournalImport::create(self.folder, disk, new_journal, self.segment_bytes)?;
        if let Some(former) = former {
            self.copy_records(&former, &mut import)?;
            for (former_table, id) in TABLES {
                copy_table(&former, former_table, id, &mut import)?;
            }
        }
        import.finish()?;
        self.sync_folder()
    }

    fn copy_records(
        &self,
        former: &FormerStore,
        import: &mut JournalImport,
    ) -> Result<(), MigrationError> {
        let records = former.count_records()?;
        info!(records, "migrating the store to format 2");
        let mut copied = 0;
        let mut told_at = self.clock.monotonic();

        for commit in former.read_commits()? {
            let frames = commit?;
            import.append_frames(&frames)?;
            copied += frames
                .iter()
                .map(|frame| frame.entries.len() as u64)
                .sum::<u64>();

            let now = self.clock.monotonic();
            if now.saturating_sub(told_at) >= PROGRESS_INTERVAL {
                told_at = now;
                info!(copied, records, "store migration in progress");
            }
        }
        Ok(())
    }

    /// Puts the new journal in its place, unless an earlier start has done that.
    fn use_new_journal(&self) -> Result<(), MigrationError> {
        let (new_journal, journal) = (self.path(NEW_JOURNAL), self.folder.journal_path());
        if exists(&journal)? || !exists(&new_journal)? {
            return Ok(());
        }
        // From now on the former files are known to be copied. A log that an operator puts here
        // later is none of them, and stays.
        FormerStore::set_files_aside(self.folder.path())?;
        self.disk
            .rename(&new_journal, &journal)
            .map_err(|source| MigrationError::Io {
                path: new_journal,
                source,
            })?;
        self.sync_folder()?;
        info!("store migrated to format 2");
        Ok(())
    }

    fn sync_folder(&self) -> Result<(), MigrationError> {
        let path = self.folder.path();
        self.disk
            .sync_folder(path)
            .map_err(|source| MigrationError::Io {
                path: path.to_owned(),
                source,
            })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Removes the files of a migrated store from `folder`. Meant to be called when the new store is in
/// use.
pub(super) fn remove_former_files(folder: &DataFolder) {
    if let Err(error) = FormerStore::remove_files(folder.path()) {
        warn!(
            error = &error as &dyn std::error::Error,
            "files of the former store not removed"
        );
    }
}

/// Copies the rows of a table as groups of changes.
fn copy_table(
    former: &FormerStore,
    former_table: FormerTable,
    id: JournaledTableId,
    import: &mut JournalImport,
) -> Result<(), MigrationError> {
    let table = id as u8;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    for row in former.read_rows(former_table)? {
        let (key, value) = row?;
        bytes += key.len() + value.len();
        changes.push(TableChange::Put { key, value });
        if changes.len() >= GROUP_ROWS || bytes >= GROUP_BYTES {
            bytes = 0;
            let changes = std::mem::take(&mut changes);
            import.append_changes(&TableChanges { table, changes })?;
        }
    }
    if !changes.is_empty() {
        import.append_changes(&TableChanges { table, changes })?;
    }
    Ok(())
}

fn exists(path: &Path) -> Result<bool, MigrationError> {
    path.try_exists().map_err(|source| MigrationError::Io {
        path: path.to_owned(),
        source,
    })
}

fn remove_folder(path: &Path) -> Result<(), MigrationError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(MigrationError::Io {
            path: path.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}
