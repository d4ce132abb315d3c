//! Image of a store up to one place in its log, which goes on being the same while the store
//! changes.

use std::io::Write;
use std::sync::Arc;

use super::archive_header::{ArchiveHeader, ArchiveSummary};
use super::archive_writer::{self, ArchiveWriteError};
use crate::event::{Position, Timestamp};
use crate::journal::base_file::{self, BaseFile};
use crate::journal::content_cipher::ContentCipher;
use crate::journal::data_folder::DataFolder;
use crate::journal::disk::{Disk, LocalDisk};
use crate::journal::log_place::LogPlace;
use crate::journal::open_error::StoreOpenError;
use crate::journal::segment::{LogFolder, LogSnapshot};
use crate::journal::store_identity::{FORMAT, StoreIdentity};
use crate::journal::submission::JournalReadError;

/// Beginning of the range that a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupStart {
    /// Everything: the backup needs no other.
    Everything,
    /// The record at a position, and everything after the record before it.
    Position(Position),
    /// Place at which an earlier backup ends.
    Place(LogPlace),
}

/// Error of an image that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum StoreImageError {
    /// The store cannot be opened, or is damaged.
    #[error(transparent)]
    Open(#[from] StoreOpenError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
    /// The store has an older format, which has no journal of segments.
    #[error("the store has format {0}; start this hookyard's node once, which migrates it")]
    Former(u32),
    /// A backup is to begin before the first event that is kept.
    #[error(
        "what came before position {begin} was removed by retention, and the backup is to begin at {start}; \
         make a full backup"
    )]
    Removed {
        /// Position at which the backup is to begin.
        start: Position,
        /// Position of the first record that is kept.
        begin: Position,
    },
    /// A backup is to begin behind the end of the journal.
    #[error("the journal ends at position {end}, and the backup is to begin at {start}")]
    StartAfterEnd {
        /// Position at which the backup is to begin.
        start: Position,
        /// Position after the last record.
        end: Position,
    },
}

/// Store up to one place in its log.
pub struct StoreImage {
    identity: StoreIdentity,
    cipher: ContentCipher,
    log: LogSnapshot,
    /// Base file that goes with the snapshot; `None` if nothing was removed from the log.
    base: Option<BaseFile>,
    /// Held as long as segments of the snapshot must not be removed.
    _segments_in_use: Arc<()>,
}

impl StoreImage {
    /// Joins `log`, a snapshot of the store in `data` on `disk`, with the base file that is there
    /// now. It may be newer than the snapshot, never older: the image begins where it says.
    pub(in crate::journal) fn new(
        data: &DataFolder,
        log: LogSnapshot,
        disk: &dyn Disk,
        segments_in_use: Arc<()>,
    ) -> Result<Self, StoreOpenError> {
        let identity = data.identity().clone();
        let log_identity = (identity.incarnations.newest(), identity.checksum_seed);
        let base = base_file::open_base_file(disk, &data.journal_path(), log_identity)?;
        Ok(Self {
            identity,
            cipher: data.cipher().clone(),
            log,
            base,
            _segments_in_use: segments_in_use,
        })
    }

    /// Returns the place in the log at which the image begins.
    fn begin(&self) -> LogPlace {
        self.base
            .as_ref()
            .map_or(self.log.begin(), |base| base.start.place())
    }

    /// Takes the image of the store in `folder`, which no node uses. Changes nothing in it.
    ///
    /// # Errors
    /// [`StoreImageError`] when the store is damaged or cannot be read.
    pub fn of_stopped_store(folder: &DataFolder) -> Result<Self, StoreImageError> {
        let identity = folder.identity();
        if identity.version < FORMAT {
            return Err(StoreImageError::Former(identity.version));
        }
        let cipher = folder.cipher().clone();
        let log = LogFolder::new(identity, cipher, Arc::new(LocalDisk), folder.journal_path());
        let check = log.check(false, &mut |_| None)?;
        if let Some(damage) = check.damage.into_iter().next() {
            return Err(StoreOpenError::Broken {
                file: damage.file,
                offset: damage.offset,
                position: damage.position.get(),
            }
            .into());
        }
        let log = LogSnapshot::take(&check.segments)?;
        Ok(Self::new(folder, log, &LocalDisk, Arc::default())?)
    }

    /// Returns the first position at which an increment may begin: what was derived from records
    /// before it is in the base file alone, which an increment does not hold.
    fn first_increment(&self) -> Position {
        let begin = self.log.begin().position;
        let base = self.base.as_ref();
        base.map_or(begin, |base| {
            base.start.position.max(base.start.content_position)
        })
    }

    /// Returns the header of an archive that begins at `start`.
    ///
    /// # Errors
    /// [`StoreImageError`] when there is no such place, or the journal cannot be read.
    pub fn header_from(
        &self,
        start: BackupStart,
        created_at: Timestamp,
    ) -> Result<ArchiveHeader, StoreImageError> {
        let (begin, end) = (self.begin(), self.log.end());
        let removed = |start| StoreImageError::Removed {
            start,
            begin: self.first_increment(),
        };
        let first = match start {
            BackupStart::Everything => begin,
            BackupStart::Position(position) if position < self.first_increment() => {
                return Err(removed(position));
            }
            // Changes of tables may have been removed although no record was.
            BackupStart::Place(place)
                if !begin.is_reached_by(&place) || place.position < self.first_increment() =>
            {
                return Err(removed(place.position));
            }
            BackupStart::Position(position) if position <= end.position => {
                self.log.find_place(position)?
            }
            BackupStart::Position(position) => {
                return Err(StoreImageError::StartAfterEnd {
                    start: position,
                    end: end.position,
                });
            }
            BackupStart::Place(place) => place,
        };
        if !first.is_reached_by(&end) {
            return Err(StoreImageError::StartAfterEnd {
                start: first.position,
                end: end.position,
            });
        }
        Ok(ArchiveHeader {
            identity: self.identity.clone(),
            is_full: start == BackupStart::Everything,
            created_at,
            first,
            end,
        })
    }

    /// Writes the archive with `header` to `out`. Calls `on_progress` with the position after each
    /// written chunk. Blocks.
    ///
    /// # Errors
    /// [`ArchiveWriteError`] when the journal cannot be read, or `out` cannot be written.
    pub fn write_archive(
        &self,
        header: &ArchiveHeader,
        out: impl Write,
        on_progress: &mut dyn FnMut(u64),
    ) -> Result<ArchiveSummary, ArchiveWriteError> {
        let mut blocks = self.log.blocks_since(header.first);
        let base = self.base.as_ref().filter(|_| header.is_full);
        // A damaged base file would make a backup that no node can start from.
        base.map_or(Ok(()), |base| {
            base.check(self.identity.checksum_seed, &self.cipher)
        })?;
        archive_writer::write_archive(header, base, &mut blocks, &self.cipher, out, on_progress)
    }
}
