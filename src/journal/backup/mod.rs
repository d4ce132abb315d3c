//! Backups: archives of a store up to one place in its log, and restores from them.
//!
//! ```text
//!  store ──image──> archive writer ──> file or HTTP ──> archive reader ──> restoration ──> new store
//!          up to a place in the log                       checks each chunk     a new incarnation
//! ```
//!
//! An archive holds the base file of the log, and its blocks without their places in files. A restored log is written
//! anew, so that its files and checksums are those of a new store. Derived data is in no archive.

mod archive_header;
mod archive_reader;
mod archive_writer;
mod chunk;
mod error;
mod restoration;
mod store_image;

#[cfg(test)]
mod property_tests;

pub use archive_header::{ArchiveHeader, ArchiveSummary};
pub use archive_reader::ArchiveReader;
pub use archive_writer::ArchiveWriteError;
pub use error::{ArchiveError, RestoreError};
pub use restoration::{ArchiveInput, RestoreSummary, restore_store};
pub use store_image::{BackupStart, StoreImage, StoreImageError};
