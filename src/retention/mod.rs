//! Retention: removes the oldest segments of the journal once they are older than the configured
//! time, or the journal is larger than the configured size.
//!
//! ```text
//!  plan: segments that are old enough, and that nobody is owed
//!    └─> keep what is needed of their records: outlines, snapshots, kept records
//!          └─> base file: image of the derived rows, and the new start of the journal
//!                └─> the journal begins there ─> obsolete rows are removed ─> files are removed
//! ```
//!
//! A crash at any moment leaves the former start or the new one: the base file decides, and the next
//! opening removes the files before its start. When the derived data is lost, it is loaded from the
//! base file, and only the records behind that are read.

mod base_loading;
mod base_writing;
mod content_copies;
mod content_cuts;
mod content_removal;
mod cut;
mod deps;
mod error;
mod expired_content;
mod finished_cuts;
mod plan;
mod record_keeping;
mod worker;

pub use base_loading::{load_base, load_projection_base};
pub use base_writing::{renew_base, write_base_again};
pub use deps::RetentionDeps;
pub use error::{BaseLoadError, RetentionError};
pub use plan::{RetentionPolicy, SourceRetention};
pub use worker::RetentionWorker;
