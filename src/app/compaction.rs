//! Compaction of the store of a stopped node: writes every file anew that is not encrypted as new
//! content is, so that a key that is no longer configured, or plain content, is in none of them.
//!
//! ```text
//!  definitions encrypted anew ─> segments rewritten, one by one ─> base file ─> copy of the derived
//!                                                                               rows takes their place
//! ```
//!
//! A crash leaves each file in its old or its new form. The next compaction goes on with the rest.

use std::sync::Arc;

use super::error::NodeError;
use super::node_deps::NodeDeps;
use super::store_session::{self, DiscardMark};
use crate::account::AccountRegistry;
use crate::config::Config;
use crate::derived::{self, DerivedStore};
use crate::failpoints::NoFailures;
use crate::retention;
use crate::subscription::SubscriptionRegistry;
use crate::table_store::TableStoreError;
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
    let deps = NodeDeps::default();
    let (folder, journal) = store_session::open_journal(config, &deps, &DiscardMark::default())?;
    let derived = DerivedStore::open(&folder, config.store.cache_bytes, Arc::new(NoFailures))?;
    retention::load_base(&journal, &derived)?;
    let tables = store_session::open_tables(&journal, &derived)?;

    // Opening the definitions encrypts the values of other keys anew.
    AccountRegistry::open(&tables, usize::MAX).map_err(NodeError::Accounts)?;
    SubscriptionRegistry::open(&tables, usize::MAX).map_err(NodeError::Subscriptions)?;
    TokenRegistry::open(&tables, usize::MAX).map_err(NodeError::Tokens)?;

    let numbers = journal.segment_numbers();
    let mut summary = CompactionSummary {
        segments: numbers.len() as u64,
        rewritten: 0,
    };
    for (number, done) in numbers.into_iter().zip(1..) {
        summary.rewritten += u64::from(journal.rewrite_outdated_segment(number)?);
        on_progress(done, summary.segments);
    }

    tables.close().map_err(TableStoreError::from)?;
    store_session::write_clean_files(&folder, &journal, &derived, config.store.cache_bytes)?;
    journal.close();
    // sled's files may be moved only when no handle is left.
    drop((tables, derived, journal));
    derived::adopt_copy(&folder)?;
    Ok(summary)
}
