//! Interface of the journal for the other stages: they append records, and read frames.

use std::sync::Arc;

use tokio::sync::watch;

use super::frame::JournalFrame;
use crate::event::{EntityKey, Position, StoreIncarnation, Timestamp};

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

/// Changes of one of the node's own tables, which are made in order, all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChanges {
    /// Number of the table.
    pub table: u8,
    /// Changes in order.
    pub changes: Vec<TableChange>,
}

/// Change of a table's rows. Keys and values have any length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// Puts a row, or replaces its value.
    Put {
        /// Key of the row.
        key: Vec<u8>,
        /// New value.
        value: Vec<u8>,
    },
    /// Removes a row, if there is one.
    Remove {
        /// Key of the row.
        key: Vec<u8>,
    },
    /// Removes all rows whose keys begin with the prefix.
    RemovePrefix {
        /// Prefix of the keys.
        prefix: Vec<u8>,
    },
}

/// Changes of a table, and a callback for when they are durable.
pub struct TableSubmission {
    /// Changes to append.
    pub changes: TableChanges,
    /// Callback with the number of the changes: 1, 2, 3 … in the order of the journal. It runs on
    /// the commit thread, so it must not block. It is dropped without a call when the store fails.
    pub settle: Box<dyn FnOnce(u64) + Send>,
}

/// Error of a journal that accepts no submissions: its store failed or is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed")]
pub struct JournalClosed;

/// Error of a read from the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalReadError {
    /// sled could not read the store.
    #[error("cannot read the journal")]
    Store(#[from] sled::Error),
    /// The bytes at this position are not a valid frame.
    #[error("the frame at position {0} is corrupt")]
    Corrupt(Position),
}

/// Ordered, durable log that other stages follow.
pub trait Journal: Send + Sync + 'static {
    /// Queues `submission` behind all earlier submissions.
    ///
    /// # Errors
    /// [`JournalClosed`] when the store failed or is being closed; no record of the submission is
    /// written then.
    fn append(&self, submission: JournalSubmission) -> Result<(), JournalClosed>;

    /// Queues changes of own tables behind all earlier submissions. Blocks while the queue is full.
    ///
    /// # Errors
    /// [`JournalClosed`] when the store failed or is being closed; nothing is written then.
    fn append_changes(&self, submission: TableSubmission) -> Result<(), JournalClosed>;

    /// Calls `visit` for each durable group of table changes from number `from` on, in order.
    /// Returns the next number.
    ///
    /// # Errors
    /// [`JournalReadError`] when the store fails or the stored changes are corrupt.
    fn read_changes(
        &self,
        from: u64,
        visit: &mut dyn FnMut(u64, TableChanges),
    ) -> Result<u64, JournalReadError>;

    /// Returns a watch of the position after the last durable record.
    fn durable_end(&self) -> watch::Receiver<Position>;

    /// Returns the frame that contains `position`, or `None` at and beyond the durable end. May
    /// block to read the store.
    ///
    /// # Errors
    /// [`JournalReadError`] when the store fails or the stored frame is corrupt.
    fn read_frame_at(
        &self,
        position: Position,
    ) -> Result<Option<Arc<JournalFrame>>, JournalReadError>;

    /// Returns the frame that contains `position`, if the frame is durable and still in the cache
    /// of newest frames. Never blocks.
    fn recent_frame_at(&self, position: Position) -> Option<Arc<JournalFrame>>;

    /// Returns the store's incarnation, a part of every event id.
    fn incarnation(&self) -> StoreIncarnation;
}
