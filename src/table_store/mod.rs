//! Table store: the node's own tables, whose changes are records of the journal. The rows are copied
//! into the derived store for reading.
//!
//! ```text
//!  write ──changes──> journal ──durable, in order──> rows in the derived store ──> get, scan
//!                                                        │ at most every 5 s: sync
//!                                                     cursor row: next change to apply
//! ```
//!
//! The changes behind the cursor row are applied again when the store is opened; applying a change
//! twice is harmless. Without the cursor row, all changes of the journal are applied.
//!
//! | table | name | rows |
//! |---|---|---|
//! | 1 | subscriptions | definitions of subscriptions |
//! | 2 | accounts | definitions of accounts |
//! | 3 | deliveries | cursors, lanes, dead letters, jobs, counters |
//! | 4 | enrichment | finished steps of pending enrichments |
//! | 5 | erasures | erasures of entities, with their states |
//! | 6 | kept records | records that are needed although their segments are removed |
//! | 7 | tokens | definitions of named tokens |
//! | 8 | audit | entries of the audit log |
//! | 9 | finished cuts | places up to which removals of content are finished |

mod applied_rows;
mod base_rows;
mod definition_registry;
mod definitions;
mod error;
mod journaled_table;
mod kept_records;
mod superseded_changes;
#[cfg(test)]
mod test_store;
#[cfg(test)]
mod tests;

pub use base_rows::{TableImage, TableImageLoader, stored_change};
pub use definition_registry::{DefinitionOpenError, DefinitionRegistry, DefinitionSort};
pub use definitions::{DEFINITION_MAX_BYTES, DefinitionError, DefinitionTree};
pub use error::{TableStoreError, TableWriteError};
pub use journaled_table::{JournaledTable, JournaledTableId, TableStore};
pub use kept_records::{KeptRecordTable, replace_kept_record};
pub use superseded_changes::SupersededChanges;

#[cfg(test)]
pub(crate) use test_store::{TestStore, open_test_tables};
