//! Derived store: rows in sled that can be derived again from the journal, so that losing all of
//! them loses nothing.
//!
//! ```text
//!  journal ──┬──> projection ──────────┐
//!            └──> table_store ─────────┼──> trees of the derived store: sled's files in `derived/`
//!  HTTP calls ──> call_log ────────────┘
//! ```
//!
//! The call log alone is not in the journal: it is a record for people, and starts empty again.
//! No other folder names sled.

mod copy;
mod derived_store;
mod derived_tree;
mod error;
mod file_inspection;
mod folder;
mod format_1;
#[cfg(test)]
mod tests;

pub use copy::adopt_copy;
pub use derived_store::DerivedStore;
pub use derived_tree::{DerivedBatch, DerivedRow, DerivedRows, DerivedTree, VALUE_MAX_BYTES};
pub use error::DerivedStoreError;
pub use file_inspection::inspect_derived_data;
pub use format_1::{FormerRow, FormerStore, FormerStoreError, FormerTable};

#[cfg(test)]
pub(crate) use tests::{open_failing_store, open_test_store};
