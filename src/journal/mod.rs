//! The journal: an append-only log of every accepted record, the one truth that all else is derived from.
//!
//! ```text
//!  entities ──Submission──> queue ──> commit thread: encode, put, flush, sync ──> settle every submission
//!                                             │
//!                                       durable end ──> followers (projection, subscribers) read up to it
//! ```

mod commit;
mod definitions;
mod frame;
mod log;
mod preflight;
mod recent;
mod seal;
mod store;
mod submission;

use tokio::sync::oneshot;

use crate::event::Position;

pub use definitions::{DEFINITION_MAX_BYTES, Definitions, Unreadable};
pub use frame::{Entry, Frame, VALUE_MAX_BYTES};
pub use log::Log;
pub use recent::Limits;
pub use seal::SealError;
pub use store::{OpenError, Store, WriteError};
pub use submission::{Closed, Draft, Journal, OutOfSequence, ReadError, Settled, Submission};

/// Waits until everything submitted before this call is durable.
///
/// # Errors
/// [`Closed`] when the journal fails or closes first.
pub async fn fence(journal: &dyn Journal) -> Result<Position, Closed> {
    let (passed, wait) = oneshot::channel();
    let settle = Box::new(move |settled: Settled| {
        if let Ok(position) = settled {
            // Nobody waits any more: then nobody needs to know.
            let _ = passed.send(position);
        }
    });
    journal.submit(Submission { drafts: Vec::new(), settle })?;
    wait.await.map_err(|_| Closed)
}
