//! Services that the retention uses.

use std::sync::Arc;

use crate::audit::AuditLog;
use crate::clock::Clock;
use crate::derived::DerivedStore;
use crate::entity::StateLimits;
use crate::journal::SegmentJournal;
use crate::metrics::NodeMetrics;
use crate::subscriber::OwedRecords;
use crate::table_store::TableStore;

/// Services that the worker uses during one opening of the store.
#[derive(Clone)]
pub struct RetentionDeps {
    /// Journal whose oldest segments are removed.
    pub journal: Arc<SegmentJournal>,
    /// Rows that were derived from the journal.
    pub derived: Arc<DerivedStore>,
    /// Tables, which keep the records that are still needed.
    pub tables: Arc<TableStore>,
    /// Records that the delivery stage still needs.
    pub owed: OwedRecords,
    /// Bounds of the entities' states, for snapshots.
    pub state_limits: StateLimits,
    /// Audit log that gets an entry for each removal.
    pub audit: Arc<AuditLog>,
    /// Metrics that count failed attempts.
    pub metrics: Arc<NodeMetrics>,
    /// Source of wall time, to which ages refer.
    pub clock: Arc<dyn Clock>,
}
