//! Image of a store up to one place in its log, which goes on being the same while the store
//! changes.

use std::io::Write;
use std::sync::Arc;

use super::archive_header::{ArchiveHeader, ArchiveSummary};
use super::archive_writer::{self, ArchiveWriteError};
use crate::event::{Position, Timestamp};
use crate::journal::data_folder::DataFolder;
use crate::journal::disk::LocalDisk;
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
    log: LogSnapshot,
}

impl StoreImage {
    pub(in crate::journal) fn new(identity: StoreIdentity, log: LogSnapshot) -> Self {
        Self { identity, log }
    }

    /// Takes the image of the store in `folder`, which no node uses. Changes nothing in it.
    ///
    /// # Errors
    /// [`StoreImageError`] when the store is damaged or cannot be read.
    pub fn of_stopped_store(folder: &DataFolder) -> Result<Self, StoreImageError> {
        let identity = folder.identity().clone();
        if identity.version < FORMAT {
            return Err(StoreImageError::Former(identity.version));
        }
        let log = LogFolder::new(&identity, Arc::new(LocalDisk), folder.journal_path());
        let check = log.check(false, &mut |_| None)?;
        if let Some(damage) = check.damage.into_iter().next() {
            return Err(StoreOpenError::Broken {
                file: damage.file,
                offset: damage.offset,
                position: damage.position.get(),
            }
            .into());
        }
        Ok(Self::new(identity, LogSnapshot::take(&check.segments)?))
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
        let end = self.log.end();
        let first = match start {
            BackupStart::Everything => self.log.begin(),
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
        archive_writer::write_archive(header, &mut blocks, out, on_progress)
    }
}
