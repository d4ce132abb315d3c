//! The projection: everything that readers ask for, derived from the journal by one thread, never
//! on the way of an answer.
//!
//! ```text
//!  journal ──frames──> pass each record: rows in memory ──write──> tree ──sync──> cursor row
//!                                                            │
//!                                                       `written` ──> readers that wait
//! ```
//!
//! Rows are whole and addressed by position or sequence, so writing one twice is harmless; the
//! cursor row is written only after a sync that followed the rows it vouches for. A crash repeats
//! what lies behind the cursor.

mod bloom;
mod claim_archive;
mod event_blocks;
mod follower;
mod keys;
mod page;
mod reader;
mod row_buffer;
mod signals;
mod snapshot;

pub use claim_archive::ClaimArchive;
pub use follower::{Projection, ProjectionError, ProjectionLimits};
pub use page::{PageRequest, ProjectionPage, items_at};
pub use reader::{
    EntityHistory, EventFilter, EventStatus, EventView, ProjectionReadError, ProjectionReader,
    SnapshotAndTail, StoredRecord, TimelinePage,
};
pub use snapshot::PendingSnapshots;

use shared::PROJECTION_TREE;

/// Removes everything derived, so that the next start derives it anew.
///
/// # Errors
/// sled's own.
pub fn drop_projection(store: &crate::journal::DataStore) -> Result<(), sled::Error> {
    store.drop_tree(PROJECTION_TREE)?;
    store.sync()
}
