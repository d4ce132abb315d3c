//! Reader of the projection. A read sees all records that were durable when it started, and no
//! record that is not durable.

use std::sync::Arc;

use tokio::sync::{Semaphore, broadcast, watch};

use super::event_blocks::{self, BLOCK_EVENTS, EventBlock, EventMark, EventSlot};
use super::page::{ContentRoom, PageRequest, ProjectionPage};
use super::row_buffer::{self, CHUNK_RECORDS, NameTable, OTHER_NAME};
use super::signals::ProjectionSignals;
use super::stored_record::StoredRecord;
use super::unique_key_row::decode_unique_key_row;
use super::{keys, snapshot};
use crate::derived::{DerivedRow, DerivedStoreError, DerivedTree};
use crate::event::{
    EntityKey, IncarnationHistory, Kind, Position, Record, Timestamp, fingerprint_key,
};
use crate::journal::{Journal, JournalFrame, JournalReadError, await_fence};

/// First and last record of an entity, and the parts of its state.
#[derive(Clone, Debug)]
pub struct EntityHistory {
    /// First record of the entity.
    pub first: StoredRecord,
    /// Newest record of the entity.
    pub last: StoredRecord,
    /// Parts from which the entity's state is built.
    pub snapshot_and_tail: SnapshotAndTail,
}

/// Parts from which an entity's state is built: its newest snapshot, and the records after it.
#[derive(Clone, Debug, Default)]
pub struct SnapshotAndTail {
    /// Newest stored state, after the sequence of its last record.
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// Records after the snapshot, in order.
    pub tail: Vec<StoredRecord>,
}

impl SnapshotAndTail {
    /// Returns `true` if the entity does not exist.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none() && self.tail.is_empty()
    }
}

/// Processing status of an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStatus {
    /// Applied to its entity and pending: a later record completes or fails it.
    Processing,
    /// Applied to its entity, with no work left.
    Completed,
    /// Accepted, but not applied to its entity.
    Failed,
}

/// Event with its status and the records that reprocessed or resolved it.
#[derive(Clone, Debug)]
pub struct EventView {
    /// Record of the event as it was first stored.
    pub event: StoredRecord,
    /// Status after all records that reprocessed or resolved the event.
    pub status: EventStatus,
    /// Newest record that reprocessed or resolved the event, if there is one.
    pub resolution: Option<StoredRecord>,
    /// Number of records that reprocessed or resolved the event.
    pub later_records: u32,
}

impl EventView {
    /// Leaves out the content that has no `room` on a page.
    fn admit_to(self, room: &mut ContentRoom) -> Self {
        Self {
            event: room.admit(self.event),
            resolution: self.resolution.map(|stored| room.admit(stored)),
            ..self
        }
    }
}

/// Filter of a list of events; a criterion that is `None` matches all events.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Name of the configured source.
    pub source: Option<String>,
    /// Name of the event in the catalogue.
    pub event_type: Option<String>,
    /// Kind of the event's entity.
    pub kind: Option<Kind>,
    /// Id of the event's entity.
    pub entity: Option<String>,
    /// Status that the event must have.
    pub status: Option<EventStatus>,
    /// Presence of a warning about a field that was missing or odd.
    pub has_warnings: Option<bool>,
    /// Earliest receive time, itself included.
    pub since: Option<Timestamp>,
    /// Latest receive time, itself excluded.
    pub until: Option<Timestamp>,
}

/// Events from a position on, oldest first, as far as one call searches.
#[derive(Clone, Debug)]
pub struct EventsFrom {
    /// Events that match the filter.
    pub items: Vec<EventView>,
    /// First position that was not searched: the next call begins there.
    pub next: Position,
    /// True if there are events from that position on.
    pub has_more: bool,
}

impl EventsFrom {
    /// Result of a search from `next` on that found no event.
    #[must_use]
    pub const fn nothing(next: Position) -> Self {
        Self {
            items: Vec::new(),
            next,
            has_more: false,
        }
    }
}

impl EventFilter {
    /// Returns `true` if `record` has the names that the filter requires.
    fn matches_names(&self, record: &Record) -> bool {
        self.source
            .as_ref()
            .is_none_or(|source| *source == record.source)
            && self
                .event_type
                .as_ref()
                .is_none_or(|event_type| *event_type == record.event_type)
            && self.kind.is_none_or(|kind| kind == record.entity.kind())
    }
}

/// Page of the records of an entity that are not removed.
#[derive(Clone, Debug)]
pub struct EntityTimeline {
    /// Records of the page, newest first.
    pub page: ProjectionPage<StoredRecord>,
    /// Number of the entity's first record that is not removed.
    pub first_sequence: u64,
}

/// Page of an entity's timeline: consecutive records of the entity.
#[derive(Clone, Debug)]
pub struct TimelinePage {
    /// Records in order of their sequence.
    pub records: Vec<StoredRecord>,
    /// Set on the entity's last page: the position before which all its records were seen.
    pub end: Option<Position>,
}

/// Error of a read from the projection; the node is stopping or opening its store again.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionReadError {
    /// The projection stopped before it reached the requested position.
    #[error("the projection stopped")]
    Ended,
    /// The tree could not be read, or contains a malformed row.
    #[error("cannot read the projection")]
    Store(#[from] DerivedStoreError),
    /// The journal could not be read, or contains a corrupt frame.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
    /// The blocking thread pool has ended, because the process is stopping.
    #[error("reading was cancelled")]
    Cancelled,
}

impl ProjectionReadError {
    /// Returns `true` for a record that was removed because it is older than records are kept.
    #[must_use]
    pub const fn is_removed(&self) -> bool {
        matches!(self, Self::Journal(JournalReadError::Removed { .. }))
    }
}

/// Reader of the projection. Cheap to clone.
#[derive(Clone)]
pub struct ProjectionReader {
    view: ProjectionView,
    signals: Arc<ProjectionSignals>,
    written: watch::Receiver<Position>,
    /// Permits for reads of lists and states, so that key look-ups and loads of entities always
    /// find a free thread.
    read_permits: Arc<Semaphore>,
}

/// Number of lists and states that may be read at once.
const READERS_MAX: usize = 3;

/// Event blocks that one call searches, at most: 131,072 events.
const BLOCKS_AT_ONCE: usize = 256;

impl ProjectionReader {
    pub(super) fn new(
        tree: DerivedTree,
        journal: Arc<dyn Journal>,
        signals: Arc<ProjectionSignals>,
        written: watch::Receiver<Position>,
    ) -> Self {
        Self {
            view: ProjectionView::new(tree, journal),
            signals,
            written,
            read_permits: Arc::new(Semaphore::new(READERS_MAX)),
        }
    }

    /// Returns the store's incarnations, which give each position its event id.
    #[must_use]
    pub fn incarnations(&self) -> &IncarnationHistory {
        self.view.journal.incarnations()
    }

    /// Requests that all records that are durable now are written soon, without waiting for that.
    pub fn request_write(&self) {
        self.signals
            .request_write(*self.view.journal.durable_end().borrow());
    }

    /// Waits until all records that are durable now can be read.
    ///
    /// # Errors
    /// [`ProjectionReadError::Ended`] when the projection ends first.
    pub async fn await_durable_written(&self) -> Result<(), ProjectionReadError> {
        let end = *self.view.journal.durable_end().borrow();
        self.await_written(end).await
    }

    /// Waits until all records of earlier answers can be read. With `store.sync = "interval"` these
    /// include records that are not durable yet.
    ///
    /// # Errors
    /// [`ProjectionReadError::Ended`] when the journal or the projection ends first.
    pub async fn await_answered_written(&self) -> Result<(), ProjectionReadError> {
        self.await_written(self.answered_end().await?).await
    }

    /// Returns the position after all records of earlier answers.
    ///
    /// # Errors
    /// [`ProjectionReadError::Ended`] when the journal ends first.
    pub async fn answered_end(&self) -> Result<Position, ProjectionReadError> {
        await_fence(self.view.journal.as_ref())
            .await
            .map_err(|_| ProjectionReadError::Ended)
    }

    /// Waits until all records before `end` can be read.
    ///
    /// # Errors
    /// [`ProjectionReadError::Ended`] when the projection ends first.
    pub async fn await_written(&self, end: Position) -> Result<(), ProjectionReadError> {
        let mut written = self.written.clone();
        if *written.borrow() < end {
            self.signals.request_write(end);
            written
                .wait_for(|written| *written >= end)
                .await
                .map_err(|_| ProjectionReadError::Ended)?;
        }
        Ok(())
    }

    /// Returns the history of `entity`; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn history(
        &self,
        entity: &EntityKey,
    ) -> Result<Option<EntityHistory>, ProjectionReadError> {
        let entity = entity.clone();
        self.read_caught_up(move |view| view.history(&entity)).await
    }

    /// Returns the parts of the state of `entity`, without waiting: for an entity whose records are
    /// known to be written. Empty if there is no such entity.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn snapshot_and_tail_as_written(
        &self,
        entity: &EntityKey,
    ) -> Result<SnapshotAndTail, ProjectionReadError> {
        let entity = entity.clone();
        self.read_as_written(move |view| view.snapshot_and_tail(&entity))
            .await
    }

    /// Returns at most `limit` records of `entity`, from number `sequence` on. Waits until all
    /// records before `end` can be read.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn timeline_page(
        &self,
        entity: &EntityKey,
        sequence: u64,
        limit: usize,
        end: Position,
    ) -> Result<TimelinePage, ProjectionReadError> {
        self.await_written(end).await?;
        let written = *self.written.borrow();
        let entity = entity.clone();
        self.read_as_written(move |view| view.timeline_page(&entity, sequence, limit, written))
            .await
    }

    /// Returns the first and the newest record of `entity`; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn first_and_last(
        &self,
        entity: &EntityKey,
    ) -> Result<Option<(StoredRecord, StoredRecord)>, ProjectionReadError> {
        let entity = entity.clone();
        self.read_caught_up(move |view| view.first_and_last(&entity))
            .await
    }

    /// Returns the number of the entity's first record at or behind `from`, with its position. If
    /// there is none yet, returns the number that the entity's next record gets.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn first_record_from(
        &self,
        entity: &EntityKey,
        from: Position,
    ) -> Result<(u64, Option<Position>), ProjectionReadError> {
        self.await_durable_written().await?;
        let entity = entity.clone();
        self.read_as_written(move |view| view.first_record_from(&entity, from))
            .await
    }

    /// Returns a page of the entities of `kind`, the newest first.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn entities(
        &self,
        kind: Kind,
        page: PageRequest,
    ) -> Result<ProjectionPage<EntityKey>, ProjectionReadError> {
        self.read_caught_up(move |view| view.entities(kind, page))
            .await
    }

    /// Returns a page of the kept records of `entity`, newest first; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn timeline(
        &self,
        entity: &EntityKey,
        page: PageRequest,
    ) -> Result<Option<EntityTimeline>, ProjectionReadError> {
        let entity = entity.clone();
        self.read_caught_up(move |view| view.timeline(&entity, page))
            .await
    }

    /// Returns a page of the events that match `filter`, newest first.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn events(
        &self,
        filter: EventFilter,
        page: PageRequest,
    ) -> Result<ProjectionPage<EventView>, ProjectionReadError> {
        self.read_caught_up(move |view| view.events(&filter, page, u64::MAX))
            .await
    }

    /// Returns a page of the events that match `filter`, newest first, and counts at most `ahead`
    /// events behind it. The cost is that of the page, however many events there are.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn newest_events(
        &self,
        filter: EventFilter,
        page: PageRequest,
        ahead: u64,
    ) -> Result<ProjectionPage<EventView>, ProjectionReadError> {
        self.read_caught_up(move |view| view.events(&filter, page, ahead))
            .await
    }

    /// Returns at most `limit` events from the position `from` on that match `filter`, oldest first;
    /// without a position, from the first one that retention left. The cost is that of the new events,
    /// and bounded; a next call goes on where this one ended.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails, or when retention removed records from `from` on.
    pub async fn events_from(
        &self,
        filter: EventFilter,
        from: Option<Position>,
        limit: usize,
    ) -> Result<EventsFrom, ProjectionReadError> {
        self.await_durable_written().await?;
        let written = *self.written.borrow();
        self.read_caught_up(move |view| view.events_from(&filter, from, limit, written))
            .await
    }

    /// Returns true if an event of this name, or of a source of this name, may be stored.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn may_have_name(&self, name: String) -> Result<bool, ProjectionReadError> {
        self.read_caught_up(move |view| {
            let names = NameTable::load(&view.tree)?;
            Ok(names.number_of(&name).is_some())
        })
        .await
    }

    /// Returns the event at `position`; `None` if there is no record, or one that reprocesses
    /// another event.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn event(
        &self,
        position: Position,
    ) -> Result<Option<EventView>, ProjectionReadError> {
        self.read_caught_up(move |view| view.event(position)).await
    }

    /// Returns the position of the first record of the entity that holds `unique_key`, as far as
    /// the records are written.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn position_of_unique_key(
        &self,
        unique_key: &str,
    ) -> Result<Option<Position>, ProjectionReadError> {
        let key = keys::unique_key(unique_key);
        let holder = move |view: &ProjectionView| view.unique_key_row(&key);
        let row = self.read_as_written(holder).await?;
        Ok(row.map(|(position, _)| position))
    }

    /// Returns the entity that holds `unique_key`.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn unique_key_holder(
        &self,
        unique_key: &str,
    ) -> Result<Option<EntityKey>, ProjectionReadError> {
        self.await_answered_written().await?;
        self.unique_key_holder_as_written(unique_key).await
    }

    /// Returns the entity that holds `unique_key`, without waiting: for a key whose holder, if any,
    /// is known to be written.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn unique_key_holder_as_written(
        &self,
        unique_key: &str,
    ) -> Result<Option<EntityKey>, ProjectionReadError> {
        let key = keys::unique_key(unique_key);
        self.read_as_written(move |view| match view.unique_key_row(&key)? {
            Some((_, Some(entity))) => Ok(Some(entity)),
            Some((position, None)) => view
                .expect_record(position)
                .map(|stored| Some(stored.record.entity)),
            None => Ok(None),
        })
        .await
    }

    /// Returns the positions of all records of `entity` before `end`, the failed events included,
    /// without those that are removed. Waits until all of them can be read.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn record_positions(
        &self,
        entity: &EntityKey,
        end: Position,
    ) -> Result<Vec<Position>, ProjectionReadError> {
        self.await_written(end).await?;
        let entity = entity.clone();
        self.read_as_written(move |view| view.record_positions(&entity, end))
            .await
    }

    /// Returns the first of the records at `positions`, as many as one page has room for, without those
    /// that are removed; and the number of positions that were read.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn first_kept_records(
        &self,
        positions: Vec<Position>,
    ) -> Result<(Vec<StoredRecord>, usize), ProjectionReadError> {
        self.read_as_written(move |view| {
            let (mut records, mut room, mut read) = (Vec::new(), ContentRoom::new(), 0);
            for position in positions {
                if room.is_full() {
                    break;
                }
                let stored = view.find_unless_removed(position)?;
                records.extend(stored.map(|stored| room.admit(stored)));
                read += 1;
            }
            Ok((records, read))
        })
        .await
    }

    /// Returns at most `limit` pending events from position `from` on, oldest first, as far as the
    /// records are written.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn pending_events(
        &self,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, ProjectionReadError> {
        self.read_as_written(move |view| view.pending_events(from, limit))
            .await
    }

    /// Returns a watch of the position before which all records can be read.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<Position> {
        self.written.clone()
    }

    /// Subscribes to the events that become pending again after they were completed or failed. Each
    /// is sent after its row is written. A task that has iterated past such an event must go back
    /// to it.
    #[must_use]
    pub fn subscribe_reopened(&self) -> broadcast::Receiver<Position> {
        self.signals.reopened.subscribe()
    }

    /// Waits until the appended record at `position` is durable, and returns it, even if the
    /// projection has not reached it yet.
    ///
    /// # Errors
    /// [`ProjectionReadError`] when the store fails.
    pub async fn await_record(
        &self,
        position: Position,
    ) -> Result<Option<StoredRecord>, ProjectionReadError> {
        let mut durable_end = self.view.journal.durable_end();
        durable_end
            .wait_for(|end| *end > position)
            .await
            .map_err(|_| ProjectionReadError::Ended)?;
        self.read_as_written(move |view| view.find_record(position))
            .await
    }

    /// Runs `read` on a blocking thread, after all records that are durable now can be read.
    async fn read_caught_up<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ProjectionView) -> Result<T, ProjectionReadError> + Send + 'static,
    ) -> Result<T, ProjectionReadError> {
        self.await_durable_written().await?;
        let _permit = self
            .read_permits
            .acquire()
            .await
            .map_err(|_| ProjectionReadError::Cancelled)?;
        self.read_as_written(read).await
    }

    /// Runs `read` on a blocking thread at once, with the rows that are written now.
    async fn read_as_written<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ProjectionView) -> Result<T, ProjectionReadError> + Send + 'static,
    ) -> Result<T, ProjectionReadError> {
        let view = self.view.clone();
        tokio::task::spawn_blocking(move || read(&view))
            .await
            .map_err(|_| ProjectionReadError::Cancelled)?
    }
}

/// Blocking part of the reader.
#[derive(Clone)]
pub(super) struct ProjectionView {
    tree: DerivedTree,
    journal: Arc<dyn Journal>,
}

impl ProjectionView {
    pub(super) fn new(tree: DerivedTree, journal: Arc<dyn Journal>) -> Self {
        Self { tree, journal }
    }

    fn find_record(&self, position: Position) -> Result<Option<StoredRecord>, ProjectionReadError> {
        let frame = self.journal.read_frame_at(position)?;
        frame
            .map(|frame| StoredRecord::from_frame(&frame, position))
            .transpose()
            .map_err(ProjectionReadError::from)
    }

    /// Returns a record whose position is in a row, so that the record must exist.
    fn expect_record(&self, position: Position) -> Result<StoredRecord, ProjectionReadError> {
        self.find_record(position)?
            .ok_or(ProjectionReadError::Journal(JournalReadError::Missing(
                position,
            )))
    }

    /// Returns a record of `entity`, or its outline if the record is removed and was the first or
    /// the last one.
    fn record_or_outline(
        &self,
        entity: &EntityKey,
        position: Position,
    ) -> Result<StoredRecord, ProjectionReadError> {
        let removed = match self.expect_record(position) {
            Err(error) if error.is_removed() => error,
            found => return found,
        };
        for key in [
            keys::first_outline_key(entity),
            keys::last_outline_key(entity),
        ] {
            let outline = self.outline(&key)?;
            if let Some(outline) = outline.filter(|outline| outline.position == position) {
                return Ok(outline);
            }
        }
        Err(removed)
    }

    fn outline(&self, key: &[u8]) -> Result<Option<StoredRecord>, ProjectionReadError> {
        let row = self.tree.get(key)?;
        let outline = row.map(|row| StoredRecord::from_outline(row.into()));
        outline
            .map(|outline| outline.ok_or_else(|| malformed_row("an outline of a record")))
            .transpose()
    }

    fn unique_key_row(
        &self,
        key: &[u8],
    ) -> Result<Option<(Position, Option<EntityKey>)>, ProjectionReadError> {
        let row = self.tree.get(key)?;
        row.map(|row| {
            decode_unique_key_row(&row).ok_or_else(|| malformed_row("a row of a unique key"))
        })
        .transpose()
    }

    fn pending_events(
        &self,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, ProjectionReadError> {
        let rows = self
            .tree
            .range(keys::pending_event_key(from)..=keys::pending_event_key(Position::new(u64::MAX)))
            .keys();
        let found = rows.map(|key| {
            let position = keys::pending_event_position(&key?);
            // A failed event may be removed before it is reprocessed, which makes it pending.
            self.find_unless_removed(
                position.ok_or_else(|| malformed_row("a key of a pending event"))?,
            )
        });
        found.filter_map(Result::transpose).take(limit).collect()
    }

    fn history(&self, entity: &EntityKey) -> Result<Option<EntityHistory>, ProjectionReadError> {
        let snapshot_and_tail = self.snapshot_and_tail(entity)?;
        let Some((first, newest)) = self.first_and_last(entity)? else {
            return Ok(None);
        };

        // The projection may have advanced between these two reads. The last record that is shown
        // must be the last record in the state.
        let last = match (snapshot_and_tail.tail.last(), &snapshot_and_tail.snapshot) {
            (Some(last), _) => last.clone(),
            (None, Some((sequence, _))) => match self.position(entity, *sequence)? {
                Some(position) => match self.record_or_outline(entity, position) {
                    // It is not the last one any more.
                    Err(error) if error.is_removed() => newest,
                    found => found?,
                },
                None => newest,
            },
            (None, None) => newest,
        };
        Ok(Some(EntityHistory {
            first,
            last,
            snapshot_and_tail,
        }))
    }

    pub(super) fn snapshot_and_tail(
        &self,
        entity: &EntityKey,
    ) -> Result<SnapshotAndTail, ProjectionReadError> {
        let read = self.read_snapshot_and_tail(entity)?;
        let mut tail = read.tail.iter();
        if tail.all(|item| item.record.content_expired_at().is_none()) {
            return Ok(read);
        }
        // The content went after the snapshot was read. The snapshot that includes it came before.
        self.read_snapshot_and_tail(entity)
    }

    fn read_snapshot_and_tail(
        &self,
        entity: &EntityKey,
    ) -> Result<SnapshotAndTail, ProjectionReadError> {
        let snapshot = snapshot::load_snapshot(&self.tree, entity)?;
        let included = snapshot.as_ref().map_or(0, |(sequence, _)| *sequence);
        let tail = self.records_at(self.positions(entity, included + 1, usize::MAX)?)?;
        Ok(SnapshotAndTail { snapshot, tail })
    }

    fn timeline_page(
        &self,
        entity: &EntityKey,
        sequence: u64,
        limit: usize,
        written: Position,
    ) -> Result<TimelinePage, ProjectionReadError> {
        let positions = self.positions(entity, sequence, limit)?;
        let end = (positions.len() < limit).then_some(written);
        Ok(TimelinePage {
            records: self.records_at(positions)?,
            end,
        })
    }

    /// Returns the records at `positions`, all of which must exist.
    fn records_at(
        &self,
        positions: Vec<Position>,
    ) -> Result<Vec<StoredRecord>, ProjectionReadError> {
        let mut records = Vec::with_capacity(positions.len());
        let mut frame: Option<Arc<JournalFrame>> = None;
        for position in positions {
            // Consecutive records of a busy entity are mostly in the same frame.
            if frame
                .as_ref()
                .is_none_or(|frame| frame.entry(position).is_none())
            {
                frame = self.journal.read_frame_at(position)?;
            }
            let corrupt = || ProjectionReadError::Journal(JournalReadError::Missing(position));
            let containing = frame.as_ref().ok_or_else(corrupt)?;
            records.push(StoredRecord::from_frame(containing, position)?);
        }
        Ok(records)
    }

    /// Returns the records at `positions`, without those that are removed.
    fn kept_records_at(
        &self,
        positions: Vec<Position>,
    ) -> Result<Vec<StoredRecord>, ProjectionReadError> {
        match self.records_at(positions.clone()) {
            Err(error) if error.is_removed() => {
                let records = positions.into_iter();
                records
                    .filter_map(|position| self.find_unless_removed(position).transpose())
                    .collect()
            }
            found => found,
        }
    }

    /// Returns the positions of all records of `entity` before `end` that are not removed.
    pub(super) fn record_positions(
        &self,
        entity: &EntityKey,
        end: Position,
    ) -> Result<Vec<Position>, ProjectionReadError> {
        let id = fingerprint_key("", entity.id());
        let (last_block, _) = event_blocks::block_place(end);
        let keys = keys::event_block_key(0)..=keys::event_block_key(last_block);
        let mut positions = Vec::new();
        for row in self.tree.range(keys) {
            let (key, value) = row?;
            let number = keys::event_block_number(&key).unwrap_or_default();
            let block =
                EventBlock::decode(&value).ok_or_else(|| malformed_row("an event block"))?;
            let mut candidates: Vec<_> = block
                .newest_first()
                .filter(|(_, slot)| slot.id == id)
                .map(|(place, _)| Position::new(number * BLOCK_EVENTS + place as u64))
                .filter(|position| *position < end)
                .collect();
            candidates.reverse();
            // Another kind can have the same id, and another id the same fingerprint.
            let records = self.kept_records_at(candidates)?.into_iter();
            let own = records.filter(|stored| stored.record.entity == *entity);
            positions.extend(own.map(|stored| stored.position));
        }
        Ok(positions)
    }

    /// Returns the position of the entity's record `sequence`.
    fn position(
        &self,
        entity: &EntityKey,
        sequence: u64,
    ) -> Result<Option<Position>, ProjectionReadError> {
        let (chunk, slot) = row_buffer::chunk_place(sequence);
        let row = self
            .tree
            .get(keys::timeline_key(entity, chunk))?
            .unwrap_or_default();
        Ok(row_buffer::decode_positions(&row)
            .get(slot)
            .copied()
            .map(Position::new))
    }

    /// Returns the positions of at most `limit` records of the entity, from number `sequence` on.
    fn positions(
        &self,
        entity: &EntityKey,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Position>, ProjectionReadError> {
        let (chunk, mut slot) = row_buffer::chunk_place(sequence);
        let mut positions = Vec::new();
        for row in self
            .tree
            .range(keys::timeline_key(entity, chunk)..=keys::timeline_key(entity, u32::MAX))
            .values()
        {
            let row = row_buffer::decode_positions(&row?);
            positions.extend(
                row.into_iter()
                    .skip(slot)
                    .take(limit - positions.len())
                    .map(Position::new),
            );
            if positions.len() == limit {
                break;
            }
            slot = 0;
        }
        Ok(positions)
    }

    fn first_and_last(
        &self,
        entity: &EntityKey,
    ) -> Result<Option<(StoredRecord, StoredRecord)>, ProjectionReadError> {
        let rows = self
            .tree
            .range(keys::timeline_prefix(entity)..=keys::timeline_key(entity, u32::MAX));
        let newest = rows.values().next_back().transpose()?;
        let last = newest.and_then(|row| row_buffer::decode_positions(&row).last().copied());
        let Some(last) = last else {
            return Ok(None);
        };

        // The first row of a timeline goes when its records are removed.
        let oldest = self.tree.get(keys::timeline_key(entity, 0))?;
        let first = oldest.and_then(|row| row_buffer::decode_positions(&row).first().copied());
        let first = match first {
            Some(first) => self.record_or_outline(entity, Position::new(first))?,
            None => self
                .outline(&keys::first_outline_key(entity))?
                .ok_or_else(|| malformed_row("a timeline without its first record"))?,
        };
        let last = self.record_or_outline(entity, Position::new(last))?;
        Ok(Some((first, last)))
    }

    /// Returns the number of the entity's first record that is not removed; one more than `last`,
    /// its last one, if there is none.
    fn first_kept_sequence(
        &self,
        entity: &EntityKey,
        last: u64,
    ) -> Result<u64, ProjectionReadError> {
        let start = self.journal.start();
        if !start.has_removed() {
            return Ok(1);
        }
        let (sequence, found) = self.first_record_from(entity, start.position)?;
        Ok(found.map_or(last + 1, |_| sequence))
    }

    fn first_record_from(
        &self,
        entity: &EntityKey,
        from: Position,
    ) -> Result<(u64, Option<Position>), ProjectionReadError> {
        let mut next = 1;
        for row in self
            .tree
            .range(keys::timeline_prefix(entity)..=keys::timeline_key(entity, u32::MAX))
        {
            let (key, row) = row?;
            let chunk = u64::from(keys::timeline_chunk(&key).unwrap_or_default());
            let positions = row_buffer::decode_positions(&row);
            let slot = positions.partition_point(|position| *position < from.get());
            next = chunk * CHUNK_RECORDS + slot as u64 + 1;
            if let Some(found) = positions.get(slot) {
                return Ok((next, Some(Position::new(*found))));
            }
        }
        Ok((next, None))
    }

    pub(super) fn last_sequence(
        &self,
        entity: &EntityKey,
    ) -> Result<Option<u64>, ProjectionReadError> {
        let mut rows = self
            .tree
            .range(keys::timeline_prefix(entity)..=keys::timeline_key(entity, u32::MAX));
        let Some((key, row)) = rows.next_back().transpose()? else {
            return Ok(None);
        };
        let chunk = u64::from(keys::timeline_chunk(&key).unwrap_or_default());
        Ok(Some(
            chunk * CHUNK_RECORDS + row_buffer::decode_positions(&row).len() as u64,
        ))
    }

    fn entities(
        &self,
        kind: Kind,
        page: PageRequest,
    ) -> Result<ProjectionPage<EntityKey>, ProjectionReadError> {
        // Rows are written before the cursor row, so the count in the cursor row can be too low.
        let total = self.entity_count(kind)?;
        let mut items = Vec::new();
        for number in page.item_numbers(total) {
            let Some(id) = self.tree.get(keys::kind_entity_key(kind, number))? else {
                continue;
            };
            items.extend(
                std::str::from_utf8(&id)
                    .ok()
                    .and_then(|id| EntityKey::try_new(kind, id).ok()),
            );
        }
        Ok(ProjectionPage { items, total })
    }

    fn entity_count(&self, kind: Kind) -> Result<u64, ProjectionReadError> {
        let mut rows = self
            .tree
            .range(keys::kind_entity_key(kind, 0)..=keys::kind_entity_key(kind, u64::MAX));
        let Some((key, _)) = rows.next_back().transpose()? else {
            return Ok(0);
        };
        Ok(key
            .last_chunk()
            .map_or(0, |number| u64::from_be_bytes(*number) + 1))
    }

    fn timeline(
        &self,
        entity: &EntityKey,
        page: PageRequest,
    ) -> Result<Option<EntityTimeline>, ProjectionReadError> {
        let Some(last) = self.last_sequence(entity)? else {
            return Ok(None);
        };
        let first_sequence = self.first_kept_sequence(entity, last)?;
        let total = (last + 1).saturating_sub(first_sequence);
        let (mut items, mut room) = (Vec::new(), ContentRoom::new());
        let mut row: Option<(u32, Vec<u64>)> = None;
        for number in page.item_numbers(total) {
            let (chunk, slot) = row_buffer::chunk_place(first_sequence + number);
            if row.as_ref().is_none_or(|(loaded, _)| *loaded != chunk) {
                let value = self
                    .tree
                    .get(keys::timeline_key(entity, chunk))?
                    .unwrap_or_default();
                row = Some((chunk, row_buffer::decode_positions(&value)));
            }
            let position = row
                .as_ref()
                .and_then(|(_, positions)| positions.get(slot).copied());
            let stored = self.expect_record(Position::new(position.unwrap_or_default()))?;
            items.push(room.admit(stored));
        }
        Ok(Some(EntityTimeline {
            page: ProjectionPage { items, total },
            first_sequence,
        }))
    }

    fn event(&self, position: Position) -> Result<Option<EventView>, ProjectionReadError> {
        let stored = self
            .find_record(position)?
            .filter(|stored| stored.record.reprocesses.is_none());
        stored.map(|event| self.event_view(event)).transpose()
    }

    fn event_view(&self, event: StoredRecord) -> Result<EventView, ProjectionReadError> {
        // A resolution is completed itself; its failure is the failure of the event it resolves.
        let has_failed = event.record.failure.is_some() && event.record.resolves.is_none();
        if !has_failed && !event.record.pending {
            return Ok(EventView {
                event,
                status: EventStatus::Completed,
                resolution: None,
                later_records: 0,
            });
        }

        let row = self.tree.get(keys::attempts_key(event.position))?;
        let attempts = row
            .map(|row| row_buffer::decode_positions(&row))
            .unwrap_or_default();
        let newest = attempts.last().copied().map(Position::new);
        let resolution = newest
            .map(|position| self.expect_record(position))
            .transpose()?;

        // The newest record decides.
        let decisive = &resolution.as_ref().unwrap_or(&event).record;
        // Nobody works on a pending event whose content is gone.
        let is_pending = decisive.pending && decisive.has_content();
        let status = match (&decisive.failure, is_pending) {
            (Some(_), _) => EventStatus::Failed,
            (None, true) => EventStatus::Processing,
            (None, false) => EventStatus::Completed,
        };
        let later_records = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        Ok(EventView {
            event,
            status,
            resolution,
            later_records,
        })
    }

    fn events(
        &self,
        filter: &EventFilter,
        page: PageRequest,
        ahead: u64,
    ) -> Result<ProjectionPage<EventView>, ProjectionReadError> {
        let places = page.places();
        let counted_max = places.end.saturating_add(ahead);
        let (mut total, mut items, mut room) = (0, Vec::new(), ContentRoom::new());
        let names = NameTable::load(&self.tree)?;
        let start = self.journal.start().position;
        let Some(slot_filter) = SlotFilter::try_new(filter, &names, start) else {
            return Ok(ProjectionPage { items, total });
        };

        // The matches behind the page are counted too, because the page tells the length of the list.
        let needs_records = slot_filter.needs_records();
        for position in self.matching_positions(slot_filter) {
            if total >= counted_max {
                break;
            }
            let position = position?;
            if needs_records {
                let stored = self.find_unless_removed(position)?;
                if stored.is_none_or(|stored| !filter.matches_names(&stored.record)) {
                    continue;
                }
            }
            if places.contains(&total) {
                // A failed event may be removed although it is open, if there are too many.
                let Some(stored) = self.find_unless_removed(position)? else {
                    continue;
                };
                items.push(self.event_view(stored)?.admit_to(&mut room));
            }
            total += 1;
        }
        Ok(ProjectionPage { items, total })
    }

    fn events_from(
        &self,
        filter: &EventFilter,
        from: Option<Position>,
        limit: usize,
        written: Position,
    ) -> Result<EventsFrom, ProjectionReadError> {
        let first = from.unwrap_or_else(|| self.journal.start().position);
        let found = self.search_events_from(filter, first, limit, written)?;

        // After the search, which passes over what retention removes meanwhile.
        let start = self.journal.start();
        match from {
            Some(position) if position < start.position => {
                Err(JournalReadError::Removed { position, start }.into())
            }
            Some(_) | None => Ok(found),
        }
    }

    fn search_events_from(
        &self,
        filter: &EventFilter,
        from: Position,
        limit: usize,
        written: Position,
    ) -> Result<EventsFrom, ProjectionReadError> {
        let (mut found, mut room) = (EventsFrom::nothing(from), ContentRoom::new());
        let names = NameTable::load(&self.tree)?;
        // A name that no event has yet matches none of these.
        let slot_filter = SlotFilter::try_new(filter, &names, self.journal.start().position);
        let needs_records = slot_filter.as_ref().is_some_and(SlotFilter::needs_records);
        let first_block = keys::event_block_key(from.get() / BLOCK_EVENTS);
        let rows = self
            .tree
            .range(first_block..=keys::event_block_key(u64::MAX));
        for (searched, row) in rows.enumerate() {
            if searched == BLOCKS_AT_ONCE {
                found.has_more = true;
                return Ok(found);
            }
            let (number, block) = decode_event_block(row)?;
            let mut slots: Vec<_> = block.newest_first().collect();
            slots.reverse();
            for (place, slot) in slots {
                let position = Position::new(number * BLOCK_EVENTS + place as u64);
                if position < from {
                    continue;
                }
                let matches = |slots: &SlotFilter| slots.admits(position, slot);
                if slot_filter.as_ref().is_some_and(matches) {
                    if found.items.len() == limit || room.is_full() {
                        found.has_more = true;
                        return Ok(found);
                    }
                    let stored = self.find_unless_removed(position)?;
                    let stored = stored
                        .filter(|stored| !needs_records || filter.matches_names(&stored.record));
                    if let Some(stored) = stored {
                        found
                            .items
                            .push(self.event_view(stored)?.admit_to(&mut room));
                    }
                }
                found.next = position.plus(1);
            }
        }
        // Records that are no events are passed too: a cursor before them would fall behind retention.
        found.next = found.next.max(written);
        Ok(found)
    }

    /// Returns a record whose position is in a row, or `None` if it was removed.
    fn find_unless_removed(
        &self,
        position: Position,
    ) -> Result<Option<StoredRecord>, ProjectionReadError> {
        match self.expect_record(position) {
            Err(error) if error.is_removed() => Ok(None),
            found => found.map(Some),
        }
    }

    /// Returns the positions of the events that match `slot_filter`, newest first.
    fn matching_positions(
        &self,
        slot_filter: SlotFilter,
    ) -> impl Iterator<Item = Result<Position, ProjectionReadError>> + '_ {
        let rows = self
            .tree
            .range(keys::event_block_key(0)..=keys::event_block_key(u64::MAX))
            .rev();
        let blocks = rows.map_while(move |row| match decode_event_block(row) {
            Err(error) => Some(Err(error)),
            Ok((number, block)) => {
                let newest = block
                    .newest_first()
                    .next()
                    .map(|(_, slot)| slot.received_at);
                // Receive times never go backwards, so all earlier blocks are older than `since`
                // too.
                let is_too_old = slot_filter
                    .since
                    .zip(newest)
                    .is_some_and(|(since, newest)| newest < since);
                (!is_too_old).then(|| Ok(slot_filter.matching_positions(number, &block)))
            }
        });
        blocks.flat_map(|matches| match matches {
            Ok(positions) => positions.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    }
}

/// Decodes the row of an event block, and returns the block with its number.
fn decode_event_block(
    row: Result<DerivedRow, DerivedStoreError>,
) -> Result<(u64, EventBlock), ProjectionReadError> {
    let (key, value) = row?;
    let number = key.last_chunk();
    let number = number.map_or(0, |number| u64::from_be_bytes(*number));
    let block = EventBlock::decode(&value).ok_or_else(|| malformed_row("an event block"))?;
    Ok((number, block))
}

fn malformed_row(row: &'static str) -> ProjectionReadError {
    DerivedStoreError::malformed_row(row).into()
}

/// Filter of events in the form of the event blocks: names as numbers, the id as a fingerprint.
struct SlotFilter {
    /// First position that is not removed. Of the earlier ones, open events are kept.
    start: Position,
    source: Option<u16>,
    event_type: Option<u16>,
    kind: Option<u16>,
    id: Option<u64>,
    mark: Option<EventMark>,
    has_warnings: Option<bool>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl SlotFilter {
    /// Converts `filter`; returns `None` if it requires a name that no event has.
    fn try_new(filter: &EventFilter, names: &NameTable, start: Position) -> Option<Self> {
        let number = |name: Option<&str>| {
            name.map(|name| names.number_of(name).ok_or(()))
                .transpose()
                .ok()
        };
        Some(Self {
            start,
            source: number(filter.source.as_deref())?,
            event_type: number(filter.event_type.as_deref())?,
            kind: number(filter.kind.map(Kind::as_str))?,
            id: filter.entity.as_deref().map(|id| fingerprint_key("", id)),
            mark: filter.status.map(|status| match status {
                EventStatus::Processing => EventMark::Processing,
                EventStatus::Completed => EventMark::Completed,
                EventStatus::Failed => EventMark::Failed,
            }),
            has_warnings: filter.has_warnings,
            since: filter.since,
            until: filter.until,
        })
    }

    /// Returns `true` if the filter requires a name without a number of its own, so that the
    /// records must be read.
    fn needs_records(&self) -> bool {
        [self.source, self.event_type, self.kind].contains(&Some(OTHER_NAME))
    }

    fn matching_positions(&self, block: u64, slots: &EventBlock) -> Vec<Position> {
        let positions = slots
            .newest_first()
            .map(|(place, slot)| (Position::new(block * BLOCK_EVENTS + place as u64), slot));
        positions
            .filter(|(position, slot)| self.admits(*position, slot))
            .map(|(position, _)| position)
            .collect()
    }

    fn admits(&self, position: Position, slot: &EventSlot) -> bool {
        (position >= self.start || slot.mark.is_open()) && self.matches_slot(slot)
    }

    fn matches_slot(&self, slot: &EventSlot) -> bool {
        slot.mark != EventMark::Attempt
            && self.source.is_none_or(|source| source == slot.source)
            && self
                .event_type
                .is_none_or(|event_type| event_type == slot.event_type)
            && self.kind.is_none_or(|kind| kind == slot.kind)
            && self.id.is_none_or(|id| id == slot.id)
            && self.mark.is_none_or(|mark| mark == slot.mark)
            && self
                .has_warnings
                .is_none_or(|is_there| is_there == slot.has_warnings)
            && self.since.is_none_or(|since| slot.received_at >= since)
            && self.until.is_none_or(|until| slot.received_at < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::journal::{JournalSubmission, LogStart, RecordDraft, await_fence};
    use crate::table_store::TestStore;

    /// Such an event ended the enrichment stage, and the node opened its store again and again.
    #[tokio::test]
    async fn a_pending_event_whose_record_is_removed_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = TestStore::open(folder.path(), Arc::new(SystemClock::default()));
        let entity = EntityKey::try_new(Kind::C2sLead, "7").expect("valid");
        for _ in 1..=3 {
            let record = Record::new("c2s", entity.clone(), "c2s.e", Timestamp::from_micros(1));
            let draft = RecordDraft {
                entity: entity.clone(),
                sequence: None,
                received_at: Timestamp::from_micros(1),
                bytes: record.encode(),
            };
            let submission = JournalSubmission {
                drafts: vec![draft],
                settle: Box::new(|_| ()),
            };
            store.journal.append(submission).expect("open");
        }
        await_fence(store.journal.as_ref()).await.expect("open");
        let start = LogStart {
            position: Position::new(3),
            ..LogStart::BEGINNING
        };
        let base = store.journal.begin_base(&start).expect("creates");
        let begun = store.journal.begin_with_base(base, start).expect("writes");
        assert!(begun.is_some());

        let tree = store.derived.tree(keys::PROJECTION_TREE).expect("opens");
        for position in 1..=3 {
            let key = keys::pending_event_key(Position::new(position));
            tree.insert(key, b"").expect("writes");
        }
        let view = ProjectionView::new(tree, Arc::clone(&store.journal) as Arc<dyn Journal>);
        let found = view.pending_events(Position::FIRST, 1).expect("reads");
        let positions: Vec<_> = found.iter().map(|stored| stored.position.get()).collect();
        assert_eq!(positions, [3]);
    }
}
