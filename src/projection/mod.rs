//! The projection: everything that readers ask for, derived from the journal by one thread, never on the way of an answer.
//!
//! ```text
//!  journal ──frames──> pass each record: rows in memory ──write──> tree ──sync──> cursor row
//!                                                            │
//!                                                       `written` ──> readers that wait
//! ```
//!
//! Rows are whole and addressed by position or sequence, so writing one twice is harmless; the cursor row is written only
//! after a sync that followed the rows it vouches for. A crash repeats what lies behind the cursor.

mod bloom;
mod claims;
mod events;
mod follow;
mod index;
mod keys;
mod page;
mod reads;
mod shared;
mod snapshot;

pub use claims::Archive;
pub use follow::{Failed, Limits, Projection};
pub use page::{Page, PageRequest, items_at};
pub use reads::{EventFilter, EventView, History, Past, Reads, Status, Stored, Stretch, Unavailable};
pub use snapshot::Offers;

use shared::TREE;

/// Removes everything derived, so that the next start derives it anew.
///
/// # Errors
/// sled's own.
pub fn clear(store: &crate::journal::Store) -> Result<(), sled::Error> {
    store.drop_tree(TREE)?;
    store.sync()
}
