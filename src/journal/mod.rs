//! The journal: an append-only log of every accepted record, the one truth that all else is derived
//! from.
//!
//! ```text
//!  entities ──Submission──> queue ──> commit thread: encode, put, flush, sync ──> settle every submission
//!                                             │
//!                                       durable end ──> followers (projection, subscribers) read up to it
//! ```

mod commit_thread;
mod definitions;
mod frame;
mod preflight;
mod recent_frames;
mod seal;
mod sled_journal;
mod store;
mod submission;

use tokio::sync::oneshot;

use crate::event::Position;

pub use definitions::{DEFINITION_MAX_BYTES, DefinitionError, DefinitionTree};
pub use frame::{FrameEntry, JournalFrame, VALUE_MAX_BYTES};
pub use recent_frames::JournalLimits;
pub use seal::SealError;
pub use sled_journal::SledJournal;
pub use store::{DataStore, StoreOpenError, StoreWriteError};
pub use submission::{
    Journal, JournalClosed, JournalReadError, JournalSubmission, RecordDraft, SequenceError,
    SubmissionResult,
};

/// Waits until everything submitted before this call is durable.
///
/// # Errors
/// [`Closed`] when the journal fails or closes first.
pub async fn await_fence(journal: &dyn Journal) -> Result<Position, JournalClosed> {
    let (passed, wait) = oneshot::channel();
    let on_settled = Box::new(move |settled: SubmissionResult| {
        if let Ok(position) = settled {
            // Nobody waits any more: then nobody needs to know.
            let _ = passed.send(position);
        }
    });
    journal.append(JournalSubmission {
        drafts: Vec::new(),
        settle: on_settled,
    })?;
    wait.await.map_err(|_| JournalClosed)
}
