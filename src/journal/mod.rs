//! Journal: the append-only log of all accepted records, from which all other state is derived.
//!
//! ```text
//!  entities ──JournalSubmission──> queue ──> commit thread: encode, put, flush, sync ──> settle
//!                                                 │                                each submission
//!                                            durable end ──> followers (projection, subscribers)
//!                                                            read up to it
//! ```

mod commit_thread;
mod data_folder;
mod frame;
mod limits;
mod preflight;
mod recent_frames;
mod sled_journal;
mod store;
mod submission;

use tokio::sync::oneshot;

use crate::event::Position;

pub use data_folder::{DataFolder, Disk, LocalDisk};
pub use frame::{FrameEntry, JournalFrame};
pub use limits::JournalLimits;
pub use sled_journal::SegmentJournal;
pub use store::StoreOpenError;
pub use submission::{
    Journal, JournalClosed, JournalReadError, JournalSubmission, RecordDraft, SequenceError,
    SubmissionResult, TableChange, TableChanges, TableSubmission,
};

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
