//! The journal as the other stages see it: they submit records, and read them.

use std::sync::Arc;

use tokio::sync::watch;

use super::frame::JournalFrame;
use crate::event::{EntityKey, Position, StoreIncarnation, Timestamp};

/// One record on its way into the log.
#[derive(Clone, Debug)]
pub struct RecordDraft {
    /// Whose record it is.
    pub entity: EntityKey,
    /// Its number among the entity's records; `None` for a failed event.
    pub sequence: Option<u64>,
    /// When its request was received.
    pub received_at: Timestamp,
    /// The encoded record.
    pub bytes: Vec<u8>,
}

/// Why a submission was not written although the journal is healthy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {found} of {entity} does not follow record {last}")]
pub struct SequenceError {
    /// The entity whose records would have had a gap or a double.
    pub entity: EntityKey,
    /// The newest number that the journal knows of.
    pub last: u64,
    /// The number that was refused.
    pub found: u64,
}

/// What became of a submission: the position of its first record (of the next one, for an empty
/// submission).
pub type SubmissionResult = Result<Position, SequenceError>;

/// Records that are written together or not at all, and what to do once they are durable.
///
/// An empty submission is a fence: it settles after all that was submitted before it.
pub struct JournalSubmission {
    /// The records, in order.
    pub drafts: Vec<RecordDraft>,
    /// Called on the commit thread, so it must not wait for anything. Dropped uncalled when the
    /// store fails.
    pub settle: Box<dyn FnOnce(SubmissionResult) + Send>,
}

/// The journal takes nothing any more: its store failed or is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed")]
pub struct JournalClosed;

/// A read that the store could not serve.
#[derive(Debug, thiserror::Error)]
pub enum JournalReadError {
    /// The store itself failed.
    #[error("cannot read the journal")]
    Store(#[from] sled::Error),
    /// The bytes at this position are no frame.
    #[error("the frame at position {0} is corrupt")]
    Corrupt(Position),
}

/// An ordered, durable log that others follow.
pub trait Journal: Send + Sync + 'static {
    /// Queues `submission` behind all earlier ones.
    ///
    /// # Errors
    /// [`Closed`] when the store failed or is being closed; nothing of the submission is written
    /// then.
    fn append(&self, submission: JournalSubmission) -> Result<(), JournalClosed>;

    /// The position after the newest durable record, and every change of it.
    fn durable_end(&self) -> watch::Receiver<Position>;

    /// The frame that holds `position`, or `None` at and beyond the durable end.
    ///
    /// # Errors
    /// [`ReadError`] when the store fails or holds something that is no frame.
    fn read_frame_at(
        &self,
        position: Position,
    ) -> Result<Option<Arc<JournalFrame>>, JournalReadError>;

    /// The frame that holds `position`, if it is among the newest, which are in memory: for those
    /// who must not wait.
    fn recent_frame_at(&self, position: Position) -> Option<Arc<JournalFrame>>;

    /// The store's incarnation, a part of every event id.
    fn incarnation(&self) -> StoreIncarnation;
}
