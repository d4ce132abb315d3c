//! Store that no stage uses: of a node that does not run, opened by a command that works on its files, or
//! of a cluster's node that does not lead.

use std::sync::Arc;

use super::clock_file;
use super::error::NodeError;
use super::latest_times::LatestTimes;
use super::node_deps::NodeDeps;
use super::store_session::{self, DiscardMark};
use crate::config::Config;
use crate::derived::DerivedStore;
use crate::event::Timestamp;
use crate::failpoints::NoFailures;
use crate::journal::{DataFolder, Journal, LogStart, SegmentJournal};
use crate::projection::{self, Projection};
use crate::retention;
use crate::table_store::{TableStore, TableStoreError};

/// Size of a projection that [`super::rebuild_store`] derived again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildSummary {
    /// Number of records read from the journal.
    pub records: u64,
    /// Number of entities to which these records belong.
    pub entities: u64,
}

/// Files of a store, and what is derived from them. No stage uses it.
pub(super) struct StoppedStore {
    pub(super) tables: Arc<TableStore>,
    pub(super) derived: Arc<DerivedStore>,
    pub(super) journal: Arc<SegmentJournal>,
    // Dropped last: another process may use the folder then.
    pub(super) folder: Arc<DataFolder>,
}

impl StoppedStore {
    /// Opens the store of `config`; migrates one of the former format before. Blocks.
    pub(super) fn open(config: &Config) -> Result<Self, NodeError> {
        Self::open_after(config, |_, _| Ok(()))
    }

    /// Opens the store after `prepare` has changed the derived rows.
    fn open_after(
        config: &Config,
        prepare: impl FnOnce(&SegmentJournal, &Arc<DerivedStore>) -> Result<(), NodeError>,
    ) -> Result<Self, NodeError> {
        let deps = NodeDeps::default();
        let (folder, journal) =
            store_session::open_journal(config, &deps, &DiscardMark::default())?;
        Self::from_journal(config, folder, journal, prepare)
    }

    /// Opens what is derived from `journal`, after `prepare` has changed the derived rows.
    pub(super) fn from_journal(
        config: &Config,
        folder: Arc<DataFolder>,
        journal: Arc<SegmentJournal>,
        prepare: impl FnOnce(&SegmentJournal, &Arc<DerivedStore>) -> Result<(), NodeError>,
    ) -> Result<Self, NodeError> {
        let derived = DerivedStore::open(&folder, config.store.cache_bytes, Arc::new(NoFailures))?;
        prepare(&journal, &derived)?;
        retention::load_base(&journal, &derived)?;
        let tables = store_session::open_tables(&journal, &derived)?;
        Ok(Self {
            tables,
            derived,
            journal,
            folder,
        })
    }

    /// Starts the projection, which catches up with the journal. Blocks.
    pub(super) fn start_projection(&self, config: &Config) -> Result<Arc<Projection>, NodeError> {
        let deps = NodeDeps::default();
        Ok(Projection::start(
            Arc::clone(&self.derived),
            Arc::clone(&self.journal) as Arc<dyn Journal>,
            store_session::projection_limits(config),
            deps.clock,
            deps.fingerprint,
        )?)
    }

    /// Ends the threads of the store and of its `projection`. Blocks.
    pub(super) fn close(&self, projection: &Projection) -> Result<(), NodeError> {
        self.journal.close();
        projection.close();
        Ok(self.tables.close().map_err(TableStoreError::from)?)
    }
}

/// Opens the store of `config` once, with everything that is derived from it, and closes it.
pub(super) fn open_once(config: &Config) -> Result<(), NodeError> {
    let store = StoppedStore::open(config)?;
    let projection = store.start_projection(config)?;
    store.close(&projection)
}

/// Derives the projection of the store of `config` again.
pub(super) fn rebuild_projection(config: &Config) -> Result<RebuildSummary, NodeError> {
    rebuild_after(config, |_| Ok(()))
}

/// Gives every event of a later time the time `latest`, and derives the projection again. Returns the
/// number of segments that were written anew.
pub(super) fn repair_times(config: &Config, latest: Timestamp) -> Result<u64, NodeError> {
    let (filter, mut rewritten) = (LatestTimes::new(latest), 0);
    // The projection is dropped before: one with the former times must not be left after a crash. From
    // the oldest segment on, so that times never go backwards along the journal at any moment.
    rebuild_after(config, |store| {
        for number in store.journal.segment_numbers() {
            rewritten += u64::from(store.journal.rewrite_segment(number, &filter)?);
        }
        Ok(())
    })?;

    // The base file holds the time of the first event.
    let store = StoppedStore::open(config)?;
    let start = store.journal.start();
    let start = LogStart {
        received_at: start.received_at.min(latest),
        ..start
    };
    retention::write_base_again(&store.journal, &store.derived, start)?;
    store.journal.close();
    store.tables.close().map_err(TableStoreError::from)?;
    clock_file::remove_last_time(&config.store.path).map_err(NodeError::Setup)?;
    Ok(rewritten)
}

/// Drops the projection, lets `change` change the journal, and derives the projection again.
fn rebuild_after(
    config: &Config,
    change: impl FnOnce(&StoppedStore) -> Result<(), NodeError>,
) -> Result<RebuildSummary, NodeError> {
    // The start reads the whole journal when it finds no projection, or what is behind the base. The
    // tables come after that: pending events may be kept records, which are in a table.
    let store = StoppedStore::open_after(config, |journal, derived| {
        projection::drop_projection(derived).map_err(projection::ProjectionError::from)?;
        Ok(retention::load_projection_base(journal, derived)?)
    })?;
    change(&store)?;
    let first = projection::stored_position(&store.derived)?;
    let projection = store.start_projection(config)?;

    let records = store.journal.durable_end().borrow().get() - first.get();
    let entities = projection.entity_count();
    store.close(&projection)?;
    Ok(RebuildSummary { records, entities })
}
