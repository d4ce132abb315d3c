//! Journal: the append-only log of all accepted records and of all changes to the node's own tables,
//! from which everything else is derived.
//!
//! ```text
//!  entities ──records──> queue ──> commit thread: encode, write, sync ──> settle each submission
//!  tables ───changes──────┘               │                  │
//!                                     segments          durable end ──> followers (projection,
//!                                                                       subscribers) read up to it
//! ```

mod backup;
mod base_file;
mod commit_thread;
mod content_cipher;
mod content_filter;
mod data_folder;
mod disk;
mod frame;
mod import;
mod kept_records;
mod limits;
mod log_place;
mod log_start;
mod open_error;
mod recent_frames;
mod segment;
mod segment_journal;
mod shared_log;
mod store_identity;
mod submission;
mod table_changes;
mod time_search;
mod verification;

use tokio::sync::oneshot;

use crate::event::Position;

pub use backup::{
    ArchiveError, ArchiveHeader, ArchiveInput, ArchiveReader, ArchiveSummary, ArchiveWriteError,
    BackupStart, RestoreError, RestoreSummary, StoreImage, StoreImageError, restore_store,
};
pub use base_file::{BaseReadError, BaseReader, BaseRow, BaseWriter};
pub use commit_thread::CommitObservers;
pub use content_cipher::{ContentCipher, DecryptionError, VALUE_OVERHEAD_BYTES};
pub use content_filter::{ChangeVerdict, ContentFilter};
pub use data_folder::DataFolder;
pub use disk::{Disk, DiskFile, LocalDisk};
pub use frame::{FrameEntry, JournalFrame};
pub use import::{ImportError, JournalImport};
pub use kept_records::{KeptRecordError, KeptRecords};
pub use limits::JournalLimits;
pub use log_place::LogPlace;
pub use log_start::LogStart;
pub use open_error::StoreOpenError;
pub use segment::{LogDamage, SegmentRewriteError, SegmentSummary};
pub use segment_journal::{RemovedSegments, SegmentJournal};
pub use shared_log::{CopyError, LogCommit, LogRole, MalformedCommit, SharedLog, SharedLogError};
pub use submission::{
    Journal, JournalClosed, JournalReadError, JournalSubmission, LogMark, RecordDraft,
    SequenceError, SubmissionResult, TableSubmission,
};
pub use table_changes::{TableChange, TableChanges};
pub use time_search::find_position_at;
pub use verification::{JournalReport, VerifiedPart, verify_journal};

/// Waits until all submissions made before this call are durable, and returns the position after
/// them.
///
/// # Errors
/// [`JournalClosed`] when the journal fails or closes first.
pub async fn await_fence(journal: &dyn Journal) -> Result<Position, JournalClosed> {
    let (sender, receiver) = oneshot::channel();
    let on_settled = Box::new(move |result: SubmissionResult| {
        if let Ok(position) = result {
            // The send fails only if the caller no longer waits.
            let _ = sender.send(position);
        }
    });

    journal.append(JournalSubmission {
        drafts: Vec::new(),
        settle: on_settled,
    })?;
    receiver.await.map_err(|_| JournalClosed)
}
