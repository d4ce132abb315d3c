//! Stores for the tests of all stages.

use std::path::Path;
use std::sync::Arc;

use super::TableStore;
use crate::clock::{Clock, SystemClock};
use crate::derived::DerivedStore;
use crate::failpoints::NoFailures;
use crate::journal::{DataFolder, Journal, JournalLimits, LocalDisk, SegmentJournal};

const LIMITS: JournalLimits = JournalLimits {
    queue: 4096,
    commit_records: 64,
    commit_bytes: 1 << 20,
    sync_interval: None,
    segment_bytes: 1 << 20,
};

/// Journal, derived store and tables of one data folder.
pub(crate) struct TestStore {
    pub(crate) journal: Arc<SegmentJournal>,
    pub(crate) derived: Arc<DerivedStore>,
    pub(crate) tables: Arc<TableStore>,
}

impl TestStore {
    /// Opens the data folder at `path`. The journal takes its commit times from `clock`.
    pub(crate) fn open(path: &Path, clock: Arc<dyn Clock>) -> Self {
        let folder = DataFolder::open(path).expect("opens");
        let disk = Arc::new(LocalDisk);
        let journal = SegmentJournal::open(&folder, disk, LIMITS, clock, <_>::default(), None)
            .expect("opens");
        let derived = DerivedStore::open(&folder, 1 << 20, Arc::new(NoFailures)).expect("opens");
        let tables = TableStore::open(
            Arc::clone(&journal) as Arc<dyn Journal>,
            Arc::clone(&derived),
        );
        Self {
            journal,
            derived,
            tables: tables.expect("opens"),
        }
    }
}

/// Opens the tables of the data folder at `path`, with a journal of their own.
pub(crate) fn open_test_tables(path: &Path) -> Arc<TableStore> {
    TestStore::open(path, Arc::new(SystemClock::default())).tables
}
