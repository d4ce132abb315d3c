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

mod base_rows;
mod bloom;
mod claim_archive;
mod erasure;
mod event_blocks;
mod follower;
mod keys;
mod page;
mod reader;
mod removal;
mod row_buffer;
mod signals;
mod snapshot;
mod stored_record;
mod unique_key_row;

pub use base_rows::{ProjectionImage, ProjectionImageLoader, RemovedPart, stored_position};
pub use claim_archive::ClaimArchive;
pub use erasure::ProjectionErasure;
pub use follower::{Projection, ProjectionError, ProjectionLimits};
pub use page::{PageRequest, ProjectionPage, items_at};
pub use reader::{
    EntityHistory, EntityTimeline, EventFilter, EventStatus, EventView, EventsFrom,
    ProjectionReadError, ProjectionReader, SnapshotAndTail, TimelinePage,
};
pub use removal::{OpenEvents, ProjectionRemoval, prepared_position};
pub use snapshot::PendingSnapshots;
pub use stored_record::StoredRecord;

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
