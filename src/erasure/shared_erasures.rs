//! State that the handle and the thread of the erasure stage share, and the steps that both take.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::copy_room::CopyRoom;
use super::erased_entity::{ErasedEntity, ErasureFilter};
use super::erasure_error::ErasureError;
use super::erasure_table::{Erasure, ErasureState, ErasureTable};
use crate::clock::Clock;
use crate::entity::{Command, EntityAction, RejectionPolicy};
use crate::event::{EntityKey, FingerprintFn, InternedName, Position};
use crate::journal::{ContentFilter, Journal, SegmentJournal};
use crate::metrics::NodeMetrics;
use crate::projection::ProjectionReader;
use crate::router::{Refusal, Router};
use crate::subscriber::dead_letters::{DeadLetterFilter, DeadLetterStore};
use crate::table_store::{TableStore, TableWriteError};

/// Name of the source of erasures: they come from the admin.
const SOURCE: InternedName = InternedName::from_static("admin");

/// Services that the stage uses during one opening of the store.
pub struct ErasureDeps {
    /// Tables, of which one holds the erasures.
    pub tables: Arc<TableStore>,
    /// Journal whose segments are rewritten.
    pub journal: Arc<SegmentJournal>,
    /// Router that takes the entity's own record.
    pub router: Arc<Router>,
    /// Reader that finds the records of an entity.
    pub reads: ProjectionReader,
    /// Dead letters, which are discarded with their events.
    pub dead_letters: Arc<DeadLetterStore>,
    /// Clock for the times of an erasure.
    pub clock: Arc<dyn Clock>,
    /// Hash function of the claims.
    pub fingerprint: FingerprintFn,
    /// Room that the copy of the derived store needs.
    pub copy_room: CopyRoom,
    /// Metrics that count failed attempts.
    pub metrics: Arc<NodeMetrics>,
}

/// Number of segments that are rewritten or need no change, and of all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErasureProgress {
    /// Segments that need no more work.
    pub done: u64,
    /// All segments of the journal.
    pub total: u64,
}

/// State that the handle and the thread share.
pub(super) struct SharedErasures {
    pub(super) deps: ErasureDeps,
    /// `true` if the store was opened without the copy that was due.
    pub(super) has_copy_failed: bool,
    pub(super) table: ErasureTable,
    /// Entities whose content is hidden and not yet gone.
    pub(super) erased: Mutex<Vec<ErasedEntity>>,
    pub(super) progress: Mutex<ErasureProgress>,
    /// Locked while a request takes its number, so that no two take the same one.
    numbering: Mutex<()>,
    pub(super) work_added: Notify,
    /// Becomes true when the store has to be opened again, to copy the derived store.
    pub(super) copy_due: watch::Sender<bool>,
    pub(super) stopping: watch::Sender<bool>,
}

impl SharedErasures {
    pub(super) fn new(deps: ErasureDeps, has_copy_failed: bool) -> Self {
        Self {
            has_copy_failed,
            table: ErasureTable::open(&deps.tables),
            deps,
            erased: Mutex::default(),
            progress: Mutex::default(),
            numbering: Mutex::default(),
            work_added: Notify::new(),
            copy_due: watch::Sender::new(false),
            stopping: watch::Sender::new(false),
        }
    }

    /// Erases the content of all events of `entity` so far, as far as readers see.
    pub(super) async fn erase_entity(
        self: &Arc<Self>,
        entity: &EntityKey,
    ) -> Result<Erasure, ErasureError> {
        if !self.is_known(entity).await? {
            return Err(ErasureError::NotFound);
        }
        // The row comes first: once the record is there, a crash must not lose the rest.
        let erasure = self.add(entity).await?;
        let id = erasure.id;
        match self.record(erasure).await {
            Ok(erasure) => {
                info!(erasure = id, "erasure of an entity begun");
                self.work_added.notify_one();
                Ok(erasure)
            }
            Err(ErasureError::Refused(refusal)) => {
                // Only after this refusal can the record be there nevertheless.
                if !matches!(refusal, Refusal::Unknown) {
                    self.remove(id).await?;
                }
                Err(refusal.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns `true` if `entity` has records that can be erased.
    async fn is_known(&self, entity: &EntityKey) -> Result<bool, ErasureError> {
        let reads = &self.deps.reads;
        if reads.first_and_last(entity).await?.is_some() {
            return Ok(true);
        }
        // Of a kind whose ids the node draws, an entity must not take one of them.
        if entity.kind().has_allocated_ids() {
            return Ok(false);
        }
        // A failed event leaves nothing but itself.
        let end = *self.deps.journal.durable_end().borrow();
        let positions = self.deps.reads.record_positions(entity, end).await?;
        Ok(!positions.is_empty())
    }

    /// Runs `work` on the table, on a thread that may block.
    pub(super) async fn with_table<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ErasureTable) -> Result<T, TableWriteError> + Send + 'static,
    ) -> Result<T, ErasureError> {
        let table = self.table.clone();
        let result = tokio::task::spawn_blocking(move || work(&table)).await;
        Ok(result.map_err(|_| ErasureError::Ended)??)
    }

    pub(super) async fn list(&self) -> Result<Vec<Erasure>, ErasureError> {
        self.with_table(|table| Ok(table.list()?)).await
    }

    pub(super) async fn add(self: &Arc<Self>, entity: &EntityKey) -> Result<Erasure, ErasureError> {
        let (shared, entity) = (Arc::clone(self), entity.clone());
        let now = self.deps.clock.wall();
        self.with_table(move |table| {
            let _alone = shared.numbering.lock();
            table.add(&entity, now)
        })
        .await
    }

    pub(super) async fn remove(&self, id: u64) -> Result<(), ErasureError> {
        self.with_table(move |table| table.remove(id)).await
    }

    pub(super) async fn store(&self, erasures: Vec<Erasure>) -> Result<(), ErasureError> {
        self.with_table(move |table| table.store(&erasures)).await
    }

    /// Lets the entity record the erasure, hides the content, and stores the position.
    pub(super) async fn record(&self, erasure: Erasure) -> Result<Erasure, ErasureError> {
        let entity = &erasure.entity;
        let command = Command {
            // An entity that only failed events name has no record yet.
            may_create: !entity.kind().has_allocated_ids(),
            on_rejection: RejectionPolicy::Answer,
            ..Command::new(
                SOURCE,
                entity.clone(),
                EntityAction::Erase,
                erased_event_type(entity),
                Bytes::from(json!({"data": {"erasure_id": erasure.id}}).to_string()),
            )
        };
        let before = self.deps.router.submit_command(command).await?.position;
        self.hide(&erasure, before).await?;

        let filter = DeadLetterFilter {
            kind: Some(entity.kind()),
            entity: Some(entity.id().to_owned()),
            ..DeadLetterFilter::default()
        };
        self.deps.dead_letters.discard_matching(filter).await?;

        let recorded = Erasure {
            state: ErasureState::Rewriting,
            position: Some(before),
            ..erasure
        };
        self.store(vec![recorded.clone()]).await?;
        Ok(recorded)
    }

    /// Hides the content of the records before `before` from all readers.
    pub(super) async fn hide(
        &self,
        erasure: &Erasure,
        before: Position,
    ) -> Result<(), ErasureError> {
        // First by the name of the entity: to find its records takes a moment.
        self.hide_by_name(erasure, before);
        let entity = &erasure.entity;
        let positions = self.deps.reads.record_positions(entity, before).await;
        match positions.map_err(ErasureError::from) {
            // One damaged block must not end the stage: the name hides the content, and only the rows
            // that go with it are not found.
            Err(error) if error.is_of_content() => {
                warn!(
                    erasure = erasure.id,
                    error = &error as &dyn std::error::Error,
                    "records of an erased entity cannot be found; it is hidden by its name"
                );
                self.deps.metrics.count_erasure_failure();
            }
            positions => self.hide_records(erasure, before, positions?.into_iter().collect()),
        }
        Ok(())
    }

    /// Hides the content of the records before `before`, without the rows that go with them.
    pub(super) fn hide_by_name(&self, erasure: &Erasure, before: Position) {
        self.hide_records(erasure, before, BTreeSet::new());
    }

    fn hide_records(&self, erasure: &Erasure, before: Position, positions: BTreeSet<Position>) {
        let mut erased = self.erased.lock();
        erased.retain(|erased| erased.id != erasure.id);
        erased.push(ErasedEntity {
            id: erasure.id,
            entity: erasure.entity.clone(),
            before,
            positions: Arc::new(positions),
        });
        self.set_filter(&erased);
    }

    fn set_filter(&self, erased: &[ErasedEntity]) {
        let filter = (!erased.is_empty()).then(|| self.filter_of(erased.to_vec()));
        let filter = filter.map(|filter| Arc::new(filter) as Arc<dyn ContentFilter>);
        self.deps.journal.set_filter(filter);
    }

    pub(super) fn filter_of(&self, erased: Vec<ErasedEntity>) -> ErasureFilter {
        ErasureFilter {
            erased,
            fingerprint: self.deps.fingerprint,
        }
    }

    /// Marks `erasures` as done: their content is in no file.
    pub(super) async fn finish(&self, erasures: Vec<Erasure>) -> Result<(), ErasureError> {
        if erasures.is_empty() {
            return Ok(());
        }
        let finished_at = Some(self.deps.clock.wall());
        let done = erasures.into_iter().map(|erasure| Erasure {
            state: ErasureState::Done,
            finished_at,
            ..erasure
        });
        let done: Vec<_> = done.collect();
        let count = done.len();
        self.store(done).await?;
        info!(
            count,
            "erasures done; their content is in no file of the store"
        );
        Ok(())
    }
}

/// Returns the name of the event that an erasure is for subscribers.
fn erased_event_type(entity: &EntityKey) -> String {
    let kind = entity.kind().as_str();
    let name = kind.strip_prefix("custom:").unwrap_or(kind);
    format!("{name}.erased")
}
