//! Compaction of the store of a stopped node: writes every file anew that is not encrypted as new
//! content is, so that a key that is no longer configured, or plain content, is in none of them. If
//! nothing is ever removed from the journal, table changes that later ones have superseded go too.
//!
//! ```text
//!  definitions encrypted anew ─> segments rewritten, one by one ─> base file ─> copy of the derived
//!                                                                               rows takes their place
//! ```
//!
//! A crash leaves each file in its old or its new form. The next compaction goes on with the rest.

use std::sync::Arc;

use super::error::NodeError;
use super::stopped_store::StoppedStore;
use super::store_session;
use crate::account::AccountRegistry;
use crate::config::Config;
use crate::derived;
use crate::subscription::SubscriptionRegistry;
use crate::table_store::{SupersededChanges, TableStoreError};
use crate::token::TokenRegistry;

/// Number of segments that a compaction found and wrote anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionSummary {
    /// Number of segments that the journal has.
    pub segments: u64,
    /// Number of segments that were written anew.
    pub rewritten: u64,
}

/// Compacts the store of `config`. Calls `on_progress` with the number of segments done and of all.
/// Blocks.
pub(super) fn compact_store(
    config: &Config,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<CompactionSummary, NodeError> {
    let store = StoppedStore::open(config)?;
    let StoppedStore {
        tables,
        derived,
        journal,
        folder,
    } = &store;

    // Opening the definitions encrypts the values of other keys anew.
    AccountRegistry::open(tables, usize::MAX).map_err(NodeError::Accounts)?;
    SubscriptionRegistry::open(tables, usize::MAX).map_err(NodeError::Subscriptions)?;
    TokenRegistry::open(tables, usize::MAX).map_err(NodeError::Tokens)?;

    // The rows on the disk must be those that tell which changes are superseded.
    tables.write_cursor()?;
    let keeps_all = config.store.retention.is_none() && config.store.max_bytes.is_none();
    let filter = SupersededChanges::new(Arc::clone(tables), keeps_all);
    let numbers = journal.segment_numbers();
    let mut summary = CompactionSummary {
        segments: numbers.len() as u64,
        rewritten: 0,
    };
    for (number, done) in numbers.into_iter().zip(1..) {
        summary.rewritten += u64::from(journal.rewrite_segment(number, &filter)?);
        on_progress(done, summary.segments);
    }

    tables.close().map_err(TableStoreError::from)?;
    store_session::write_clean_files(folder, journal, derived, config.store.cache_bytes)?;
    journal.close();
    // sled's files may be moved only when no handle is left.
    let folder = Arc::clone(folder);
    drop((filter, store));
    derived::adopt_copy(&folder)?;
    Ok(summary)
}
