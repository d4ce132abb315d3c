//! Reader of stores of format 1, which kept everything in sled's files. The migration to format 2
//! reads such a store once, from its begin to its end.
//!
//! ```text
//! FORMAT      format version, incarnation, and if the log was ever initialized
//! log/        sled's files, with the trees journal, subscriptions, accounts, deliveries and
//!             enrichment; the other trees are derived, or a record for people (the call log)
//! set-aside/  snapshot files that sled could not use
//! ```

mod error;
mod former_store;
mod frames;
mod joined_rows;

pub use error::FormerStoreError;
pub use former_store::{FormerStore, FormerTable};
pub use joined_rows::FormerRow;
