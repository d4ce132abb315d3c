//! Projection: all data for readers, derived from the journal by one thread, asynchronously to the
//! requests that appended the records.
//!
//! ```text
//!  journal ──frames──> project each record: rows in memory ──write──> tree ──sync──> cursor row
//!                                                               │
//!                                                          `written` ──> waiting readers
//! ```
//!
//! Each row is complete and addressed by position or sequence, so writing a row twice is harmless.
//! The cursor row is written only after a sync of all rows up to the cursor. After a crash the
//! records behind the stored cursor are projected again.

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
    SnapshotAndTail, StoredRecord, TimelinePage, find_record_positions, remove_unique_keys,
};
pub use snapshot::PendingSnapshots;

use crate::derived::{DerivedStore, DerivedStoreError};
use keys::PROJECTION_TREE;

/// Removes the projection's tree, so that the next start rebuilds it from the journal.
///
/// # Errors
/// [`DerivedStoreError`] when the store fails.
pub fn drop_projection(store: &DerivedStore) -> Result<(), DerivedStoreError> {
    store.drop_tree(PROJECTION_TREE)?;
    store.sync()
}
