//! Errors that prevent a store from being opened, with advice for the operator.

use std::io;
use std::path::PathBuf;

use super::log_place::LogPlace;

/// Error that prevents a store from being opened. No acknowledged record was changed.
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
    /// A store is to be created in a folder that is in use already.
    #[error(
        "{} is not empty: it holds {name}; restore into an empty or absent folder: \
         move this one away, or set another store.path",
        folder.display()
    )]
    NotEmpty {
        /// Path of the data folder.
        folder: PathBuf,
        /// Name of a file or folder in it.
        name: String,
    },
    /// The store is not the one that this process had opened.
    #[error(
        "{} was removed or replaced while the node was running; put the data folder back, or restart \
         the node to use what is there",
        .0.display()
    )]
    Displaced(PathBuf),
    /// A later version of the program wrote the store.
    #[error(
        "{} says format {found}, and this version reads up to {supported}; \
         start the newer hookyard that wrote it",
        file.display()
    )]
    Newer {
        /// Path of the format file, or of the base file.
        file: PathBuf,
        /// Format version in the file.
        found: u32,
        /// Newest format version that this program reads.
        supported: u32,
    },
    /// The format file is malformed.
    #[error(
        "{} is not a format file of a store; \
         restore it from a backup, or point store.path elsewhere",
        .0.display()
    )]
    BadFormat(PathBuf),
    /// A journal exists without a format file.
    #[error(
        "FORMAT is missing although there are events in {}; restore it from a backup",
        .0.display()
    )]
    NoFormat(PathBuf),
    /// The folder of the journal has no segment.
    #[error(
        "{} holds no journal; restore the data folder from a backup",
        folder.display()
    )]
    NoJournal {
        /// Path of the journal's folder.
        folder: PathBuf,
    },
    /// A segment between others is missing.
    #[error(
        "{} is missing; restore the data folder from a backup",
        .0.display()
    )]
    MissingSegment(PathBuf),
    /// A segment belongs to another store.
    #[error(
        "{} belongs to another store; restore the data folder from a backup",
        .0.display()
    )]
    Foreign(PathBuf),
    /// A segment that was in use has no valid header.
    #[error(
        "{} has a damaged header; restore it from a backup",
        file.display()
    )]
    BrokenHeader {
        /// Path of the segment's file.
        file: PathBuf,
    },
    /// The base file does not fit the segments, or its header is damaged.
    #[error(
        "{} is damaged or does not fit the segments beside it; restore the data folder from a backup",
        file.display()
    )]
    BrokenBase {
        /// Path of the base file.
        file: PathBuf,
    },
    /// Acknowledged content of a segment is damaged.
    #[error(
        "{} is damaged at byte {offset}, position {position}; restore it from a backup",
        file.display()
    )]
    Broken {
        /// Path of the segment's file.
        file: PathBuf,
        /// Offset of the first damaged block.
        offset: u64,
        /// Position of the first record that cannot be read.
        position: u64,
    },
    /// The store of a node of a cluster is another one than the cluster's.
    #[error(
        "{} holds another store than the cluster's; move it away, and this node copies the cluster's log",
        .0.display()
    )]
    Unrelated(PathBuf),
    /// The journal of the node that leads a cluster does not end where the cluster's log does.
    #[error(
        "this node has the log up to position {}, and the cluster's log ends at {}",
        .at.position, .shared.position
    )]
    Diverged {
        /// End of the journal of this node.
        at: LogPlace,
        /// End of the cluster's log.
        shared: LogPlace,
    },
    /// The newest record of the journal cannot be read.
    #[error("the end of the journal cannot be read")]
    Unreadable(#[from] super::submission::JournalReadError),
}
