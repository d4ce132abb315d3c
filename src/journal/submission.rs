//! Interface of the journal for the other stages: they append records, and read frames.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::content_cipher::DecryptionError;
use super::frame::JournalFrame;
use super::kept_records::KeptRecordError;
use super::log_start::LogStart;
use super::table_changes::TableChanges;
use crate::event::{EntityKey, IncarnationHistory, Position, Timestamp};

/// Record that is to be appended to the journal.
#[derive(Clone, Debug)]
pub struct RecordDraft {
    /// Entity that the record belongs to.
    pub entity: EntityKey,
    /// Sequence number among the entity's records; `None` for a failed event.
    pub sequence: Option<u64>,
    /// Receive time of the event's request.
    pub received_at: Timestamp,
    /// Record in its encoded form.
    pub bytes: Vec<u8>,
}

/// Rejection of a submission whose sequence numbers do not continue the entity's last one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {found} of {entity} does not follow record {last}")]
pub struct SequenceError {
    /// Entity whose records would have had a gap or a duplicate number.
    pub entity: EntityKey,
    /// Last sequence number that the journal knows.
    pub last: u64,
    /// Sequence number that was rejected.
    pub found: u64,
}

/// Result of a submission: the position of its first record. For an empty submission, the position
/// of the next record.
pub type SubmissionResult = Result<Position, SequenceError>;

/// Records that are written together or not at all, and a callback for when they are durable.
///
/// An empty submission is a fence: it settles after all earlier submissions.
pub struct JournalSubmission {
    /// Records to append, in order.
    pub drafts: Vec<RecordDraft>,
    /// Callback for the result. It runs on the commit thread, so it must not block. It is dropped
    /// without a call when the store fails.
    pub settle: Box<dyn FnOnce(SubmissionResult) + Send>,
}

/// Error of a journal that accepts no submissions: its store failed or is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed")]
pub struct JournalClosed;

/// Changes to one table of the node's own data, and a callback for when they are durable.
pub struct TableSubmission {
    /// Changes to append as one group; the submitter keeps a handle to apply them.
    pub changes: Arc<TableChanges>,
    /// Callback for the number of the group; groups are numbered 1, 2, 3 … without gaps. It runs
    /// on the commit thread, in the order of the numbers, so it must not block. It is dropped
    /// without a call when the store fails.
    pub settle: Box<dyn FnOnce(u64) + Send>,
}

/// Place in the files of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMark {
    /// Number of the segment, from 1.
    pub segment: u64,
    /// Offset in the segment, in bytes.
    pub offset: u64,
}

/// Error of a read from the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalReadError {
    /// A file of the journal could not be read.
    #[error("cannot read {}", file.display())]
    Io {
        /// Path of the journal's file.
        file: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The bytes at this place are not what was written.
    #[error(
        "{} is corrupt at byte {offset}, position {position}; restore it from a backup",
        file.display()
    )]
    Corrupt {
        /// Path of the damaged segment.
        file: PathBuf,
        /// Offset of the first bytes that cannot be read.
        offset: u64,
        /// Position of the first record that cannot be read.
        position: Position,
    },
    /// The content at this place is encrypted with another key.
    #[error(transparent)]
    Encrypted(#[from] DecryptionError),
    /// The record was removed because it was older than the journal keeps records.
    #[error("the record at position {position} was removed; records are kept from {} on", start.position)]
    Removed {
        /// Position of the removed record.
        position: Position,
        /// First record that is kept.
        start: LogStart,
    },
    /// The group of table changes was removed; its rows are in the base file.
    #[error("table change {number} was removed; changes are kept from {first} on")]
    RemovedChange {
        /// Number of the removed group.
        number: u64,
        /// Number of the first group that is kept.
        first: u64,
    },
    /// The storage of kept records could not be read.
    #[error("cannot read the record that was kept of position {position}")]
    Kept {
        /// Position of the kept record.
        position: Position,
        /// Error of the storage of kept records.
        #[source]
        source: KeptRecordError,
    },
    /// There is no record at this position.
    #[error("the journal has no record at position {0}")]
    Missing(Position),
}

impl JournalReadError {
    /// True if another read of the same position fails as well, and reads of others need not.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Missing(_) => true,
            // The key can still be configured, so nothing is lost.
            Self::Encrypted(_)
            | Self::Io { .. }
            | Self::Removed { .. }
            | Self::RemovedChange { .. }
            | Self::Kept { .. } => false,
        }
    }
}

/// Ordered, durable log that other stages follow.
pub trait Journal: Send + Sync + 'static {
    /// Queues `submission` behind all earlier submissions.
    ///
    /// # Errors
    /// [`JournalClosed`] when the store failed or is being closed; no record of the submission is
    /// written then.
    fn append(&self, submission: JournalSubmission) -> Result<(), JournalClosed>;

    /// Queues changes of the node's own tables behind all earlier submissions. Blocks while the
    /// queue is full.
    ///
    /// # Errors
    /// [`JournalClosed`] when the store failed or is being closed; no change is written then.
    fn append_changes(&self, submission: TableSubmission) -> Result<(), JournalClosed>;

    /// Returns a watch of the position after the last durable record.
    fn durable_end(&self) -> watch::Receiver<Position>;

    /// Returns the place at which the kept part of the journal begins.
    fn start(&self) -> LogStart;

    /// Returns the frame that contains `position`, or `None` at and beyond the durable end. May
    /// block to read the store. A record that was kept from a removed segment has a frame of its
    /// own.
    ///
    /// # Errors
    /// [`JournalReadError`] when the record was removed, the store fails or the stored frame is
    /// corrupt.
    fn read_frame_at(
        &self,
        position: Position,
    ) -> Result<Option<Arc<JournalFrame>>, JournalReadError>;

    /// Returns the frame that contains `position`, if the frame is durable and still in the cache
    /// of newest frames. Never blocks.
    fn recent_frame_at(&self, position: Position) -> Option<Arc<JournalFrame>>;

    /// Calls `visit` with the number of each durable group of table changes from number `from` on,
    /// in order; returns the number of the next group. Blocks to read the store.
    ///
    /// # Errors
    /// [`JournalReadError`] when the store fails or is corrupt.
    fn read_changes(
        &self,
        from: u64,
        visit: &mut dyn FnMut(u64, TableChanges),
    ) -> Result<u64, JournalReadError>;

    /// Returns `true` if the content of the record of `entity` at `position` is hidden from readers:
    /// whoever read it before must not use it any more.
    fn hides_record(&self, position: Position, entity: &EntityKey) -> bool;

    /// Returns the store's incarnations, which give each position its event id.
    fn incarnations(&self) -> &IncarnationHistory;
}
