//! Errors of reading an archive and of restoring a store, with advice for the operator.

use std::io;

use crate::event::Position;
use crate::journal::content_cipher::DecryptionError;
use crate::journal::import::ImportError;
use crate::journal::open_error::StoreOpenError;

/// Error of an archive that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive could not be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// The bytes are no archive.
    #[error("is not a backup of a store")]
    NotArchive,
    /// A later version of the program wrote the archive.
    #[error(
        "is a backup of version {found}, and this hookyard reads version {supported}; \
         use the newer hookyard that wrote it"
    )]
    Newer {
        /// Version that the archive has.
        found: u32,
        /// Version that this program reads.
        supported: u32,
    },
    /// The archive ends before its last chunk.
    #[error("ends early: it is cut off in the part that begins at byte {offset}; use another copy")]
    Truncated {
        /// Offset of the chunk that is not whole.
        offset: u64,
    },
    /// A chunk of the archive is not what was written.
    #[error("is damaged in the part that begins at byte {offset}; use another copy")]
    Damaged {
        /// Offset of the damaged chunk.
        offset: u64,
    },
    /// The content is encrypted with another key.
    #[error(transparent)]
    Encrypted(#[from] DecryptionError),
    /// A chunk has a kind that this version does not know.
    #[error(
        "has a part at byte {offset} that this version does not know; \
         use the newer hookyard that wrote it"
    )]
    UnknownChunk {
        /// Offset of the chunk in the archive.
        offset: u64,
    },
}

/// Error that ends a restore. The data folder then holds no store.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// An archive cannot be read.
    #[error("{archive}")]
    Archive {
        /// Name of the archive, as the operator gave it.
        archive: String,
        /// Problem that the archive has.
        #[source]
        source: ArchiveError,
    },
    /// The first archive holds only what came after an earlier one.
    #[error(
        "{archive} is an increment from position {first} on; \
         name the backup before it first"
    )]
    NotFull {
        /// Name of the archive for the operator.
        archive: String,
        /// First position that it holds.
        first: Position,
    },
    /// Between two archives something is missing.
    #[error(
        "{archive} begins at position {found}, and the archives before it end at {expected}; \
         name the increments in order, with none left out"
    )]
    Gap {
        /// Name of the later archive.
        archive: String,
        /// Position after the earlier archives.
        expected: Position,
        /// First position of the later archive.
        found: Position,
    },
    /// An archive is not of the store of the archives before it.
    #[error("{archive} is a backup of another store than the archives before it")]
    OtherStore {
        /// Name of the archive for the operator.
        archive: String,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] StoreOpenError),
    /// The new journal cannot be written.
    #[error(transparent)]
    Write(#[from] ImportError),
}
