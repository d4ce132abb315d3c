//! What readers ask, answered from what is written: everything that was durable when they came, and
//! nothing that was not.

use std::sync::Arc;

use tokio::sync::{Semaphore, broadcast, watch};

use super::event_blocks::{BLOCK_EVENTS, EventBlock, EventMark, EventSlot};
use super::page::{PageRequest, ProjectionPage};
use super::row_buffer::{self, CHUNK_RECORDS, NameTable, OTHER_NAME};
use super::signals::ProjectionSignals;
use super::{keys, snapshot};
use crate::event::{
    EntityKey, Kind, Position, Record, StoreIncarnation, Timestamp, fingerprint_key,
};
use crate::journal::{Journal, JournalFrame, JournalReadError, await_fence};

/// A record with where and when it was stored.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    /// Its place in the journal.
    pub position: Position,
    /// When its request was received.
    pub received_at: Timestamp,
    /// When it was written.
    pub committed_at: Timestamp,
    /// The record.
    pub record: Record,
}

/// An entity's ends and what lies between.
#[derive(Clone, Debug)]
pub struct EntityHistory {
    /// The entity's first record.
    pub first: StoredRecord,
    /// The entity's newest record.
    pub last: StoredRecord,
    /// What its state is made of.
    pub snapshot_and_tail: SnapshotAndTail,
}

/// What an entity's state is made of.
#[derive(Clone, Debug, Default)]
pub struct SnapshotAndTail {
    /// The newest stored state, with the sequence of the last record in it.
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// The records after the snapshot, in order.
    pub tail: Vec<StoredRecord>,
}

impl SnapshotAndTail {
    /// Whether there is no such entity.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none() && self.tail.is_empty()
    }
}

/// How far an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStatus {
    /// Applied to its entity; a later event says how it ends.
    Processing,
    /// Applied to its entity.
    Completed,
    /// Accepted, but it could not be applied.
    Failed,
}

/// An event with what became of it.
#[derive(Clone, Debug)]
pub struct EventView {
    /// The event as it was first stored.
    pub event: StoredRecord,
    /// How far it is.
    pub status: EventStatus,
    /// The newest record that tried it again or ended it, if any did.
    pub resolution: Option<StoredRecord>,
    /// How many records tried it again or ended it.
    pub later_records: u32,
}

/// Which events a list holds; what is `None` is not asked for.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// The configured source.
    pub source: Option<String>,
    /// The name in the catalogue.
    pub event_type: Option<String>,
    /// The entity's kind.
    pub kind: Option<Kind>,
    /// The entity's id.
    pub entity: Option<String>,
    /// How far it is.
    pub status: Option<EventStatus>,
    /// Received at this moment or later.
    pub since: Option<Timestamp>,
    /// Received before this moment.
    pub until: Option<Timestamp>,
}

impl EventFilter {
    /// Whether the names that are asked for are those of `record`.
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

/// Consecutive records of one entity.
#[derive(Clone, Debug)]
pub struct TimelinePage {
    /// The records, in order.
    pub records: Vec<StoredRecord>,
    /// Everything of the entity before this position was looked at, if they are its last ones.
    pub end: Option<Position>,
}

/// The store could not be read; it is being opened anew.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionReadError {
    /// The projection ended before it reached what the reader waits for.
    #[error("the projection ended")]
    Ended,
    /// The tree failed or holds something malformed.
    #[error("cannot read the projection")]
    Store(#[from] sled::Error),
    /// The journal failed or holds something malformed.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
    /// The blocking pool is gone: the process is stopping.
    #[error("reading was cancelled")]
    Cancelled,
}

/// Answers readers. Cheap to clone.
#[derive(Clone)]
pub struct ProjectionReader {
    view: ProjectionView,
    signals: Arc<ProjectionSignals>,
    written: watch::Receiver<Position>,
    /// Bounds the lists that are read at once, so that looking up keys and loading entities always
    /// find a thread.
    reader_places: Arc<Semaphore>,
}

/// Lists and states that are read at once.
const READERS_MAX: usize = 3;

impl ProjectionReader {
    pub(super) fn new(
        tree: sled::Tree,
        journal: Arc<dyn Journal>,
        signals: Arc<ProjectionSignals>,
        written: watch::Receiver<Position>,
    ) -> Self {
        Self {
            view: ProjectionView { tree, journal },
            signals,
            written,
            reader_places: Arc::new(Semaphore::new(READERS_MAX)),
        }
    }

    /// The store's incarnation, a part of every event id.
    #[must_use]
    pub fn incarnation(&self) -> StoreIncarnation {
        self.view.journal.incarnation()
    }

    /// Asks for everything that is durable now to be written soon, without waiting for it.
    pub fn request_write(&self) {
        self.signals
            .request_write(*self.view.journal.durable_end().borrow());
    }

    /// Waits until everything that is durable now can be read.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the projection ends first.
    pub async fn await_durable_written(&self) -> Result<(), ProjectionReadError> {
        let end = *self.view.journal.durable_end().borrow();
        self.await_written(end).await
    }

    /// Waits until everything that was answered before can be read. With `store.sync = "interval"`
    /// that is more than what is durable.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the journal or the projection ends first.
    pub async fn await_answered_written(&self) -> Result<(), ProjectionReadError> {
        self.await_written(self.answered_end().await?).await
    }

    /// The position after everything that was answered before.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the journal ends first.
    pub async fn answered_end(&self) -> Result<Position, ProjectionReadError> {
        await_fence(self.view.journal.as_ref())
            .await
            .map_err(|_| ProjectionReadError::Ended)
    }

    /// Waits until everything before `end` can be read.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the projection ends first.
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

    /// Everything from which the state of `entity` is made; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn history(
        &self,
        entity: &EntityKey,
    ) -> Result<Option<EntityHistory>, ProjectionReadError> {
        let entity = entity.clone();
        self.read_caught_up(move |view| view.history(&entity)).await
    }

    /// What the state of `entity` is made of, without waiting: for one whose records are known to
    /// be written. Empty if there is no such entity.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn snapshot_and_tail_as_written(
        &self,
        entity: &EntityKey,
    ) -> Result<SnapshotAndTail, ProjectionReadError> {
        let entity = entity.clone();
        self.read_as_written(move |view| view.snapshot_and_tail(&entity))
            .await
    }

    /// At most `limit` records of `entity`, from number `sequence` on; all that stand before `end`
    /// can be among them.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
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

    /// The first and newest record of `entity`; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn first_and_last(
        &self,
        entity: &EntityKey,
    ) -> Result<Option<(StoredRecord, StoredRecord)>, ProjectionReadError> {
        let entity = entity.clone();
        self.read_caught_up(move |view| view.first_and_last(&entity))
            .await
    }

    /// The entities of `kind`, the one begun last first.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn entities(
        &self,
        kind: Kind,
        page: PageRequest,
    ) -> Result<ProjectionPage<EntityKey>, ProjectionReadError> {
        self.read_caught_up(move |view| view.entities(kind, page))
            .await
    }

    /// The records of `entity`, newest first; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn timeline(
        &self,
        entity: &EntityKey,
        page: PageRequest,
    ) -> Result<Option<ProjectionPage<StoredRecord>>, ProjectionReadError> {
        let entity = entity.clone();
        self.read_caught_up(move |view| view.timeline(&entity, page))
            .await
    }

    /// The events that pass `filter`, newest first.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn events(
        &self,
        filter: EventFilter,
        page: PageRequest,
    ) -> Result<ProjectionPage<EventView>, ProjectionReadError> {
        self.read_caught_up(move |view| view.events(&filter, page))
            .await
    }

    /// The event at `position`; `None` if none was received there.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn event(
        &self,
        position: Position,
    ) -> Result<Option<EventView>, ProjectionReadError> {
        self.read_caught_up(move |view| view.event(position)).await
    }

    /// Where the first record of the entity stands that holds `code` for ever, as far as that is
    /// written.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn position_of_unique_key(
        &self,
        code: &str,
    ) -> Result<Option<Position>, ProjectionReadError> {
        let key = keys::unique_key(code);
        self.read_as_written(move |view| view.position_of_unique_key(&key))
            .await
    }

    /// The entity that holds `code` for ever.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn unique_key_holder(
        &self,
        code: &str,
    ) -> Result<Option<EntityKey>, ProjectionReadError> {
        self.await_answered_written().await?;
        self.unique_key_holder_as_written(code).await
    }

    /// The entity that holds `code` for ever, without waiting: for a code that is known to be
    /// written if it is held.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn unique_key_holder_as_written(
        &self,
        code: &str,
    ) -> Result<Option<EntityKey>, ProjectionReadError> {
        let key = keys::unique_key(code);
        self.read_as_written(move |view| {
            let Some(position) = view.position_of_unique_key(&key)? else {
                return Ok(None);
            };
            view.expect_record(position)
                .map(|stored| Some(stored.record.entity))
        })
        .await
    }

    /// The events from `from` on that are still to be completed or failed, oldest first, at most
    /// `limit`, as far as that is written.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn pending_events(
        &self,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, ProjectionReadError> {
        self.read_as_written(move |view| view.pending_events(from, limit))
            .await
    }

    /// The position before which everything is written, and every change of it.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<Position> {
        self.written.clone()
    }

    /// The events that are owed again although they were completed or failed before, each once that
    /// is written: they stand behind whoever goes through what is owed.
    #[must_use]
    pub fn subscribe_reopened(&self) -> broadcast::Receiver<Position> {
        self.signals.reopened.subscribe()
    }

    /// The record at `position`, which was submitted: as soon as it is durable, whether or not the
    /// projection has passed it.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
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

    async fn read_caught_up<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&ProjectionView) -> Result<T, ProjectionReadError> + Send + 'static,
    ) -> Result<T, ProjectionReadError> {
        self.await_durable_written().await?;
        let _place = self
            .reader_places
            .acquire()
            .await
            .map_err(|_| ProjectionReadError::Cancelled)?;
        self.read_as_written(ask).await
    }

    async fn read_as_written<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&ProjectionView) -> Result<T, ProjectionReadError> + Send + 'static,
    ) -> Result<T, ProjectionReadError> {
        let view = self.view.clone();
        tokio::task::spawn_blocking(move || ask(&view))
            .await
            .map_err(|_| ProjectionReadError::Cancelled)?
    }
}

/// The reading itself, which blocks.
#[derive(Clone)]
struct ProjectionView {
    tree: sled::Tree,
    journal: Arc<dyn Journal>,
}

impl ProjectionView {
    fn find_record(&self, position: Position) -> Result<Option<StoredRecord>, ProjectionReadError> {
        let frame = self.journal.read_frame_at(position)?;
        frame
            .map(|frame| decode_stored(&frame, position))
            .transpose()
    }

    /// A record that an index row names, so that it must be there.
    fn expect_record(&self, position: Position) -> Result<StoredRecord, ProjectionReadError> {
        self.find_record(position)?
            .ok_or(ProjectionReadError::Journal(JournalReadError::Corrupt(
                position,
            )))
    }

    fn position_of_unique_key(&self, key: &[u8]) -> Result<Option<Position>, ProjectionReadError> {
        let Some(row) = self.tree.get(key)? else {
            return Ok(None);
        };
        let position = row
            .as_ref()
            .try_into()
            .map_err(|_| malformed_row("a row of a code"))?;
        Ok(Some(Position::new(u64::from_be_bytes(position))))
    }

    fn pending_events(
        &self,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, ProjectionReadError> {
        let rows = self
            .tree
            .range(keys::pending_event_key(from)..=keys::pending_event_key(Position::new(u64::MAX)))
            .keys()
            .take(limit);
        rows.map(|key| {
            self.expect_record(
                keys::pending_event_position(&key?)
                    .ok_or_else(|| malformed_row("a key of what is owed"))?,
            )
        })
        .collect()
    }

    fn history(&self, entity: &EntityKey) -> Result<Option<EntityHistory>, ProjectionReadError> {
        let past = self.snapshot_and_tail(entity)?;
        let Some((first, newest)) = self.first_and_last(entity)? else {
            return Ok(None);
        };
        // The projection may have gone on between the two: the state's own last record is the one
        // to show with it.
        let last = match (past.tail.last(), &past.snapshot) {
            (Some(last), _) => last.clone(),
            (None, Some((sequence, _))) => match self.position(entity, *sequence)? {
                Some(position) => self.expect_record(position)?,
                None => newest,
            },
            (None, None) => newest,
        };
        Ok(Some(EntityHistory {
            first,
            last,
            snapshot_and_tail: past,
        }))
    }

    fn snapshot_and_tail(
        &self,
        entity: &EntityKey,
    ) -> Result<SnapshotAndTail, ProjectionReadError> {
        let snapshot = snapshot::load_snapshot(&self.tree, entity)?;
        let included = snapshot.as_ref().map_or(0, |(sequence, _)| *sequence);
        let later = self.records_at(self.positions(entity, included + 1, usize::MAX)?)?;
        Ok(SnapshotAndTail {
            snapshot,
            tail: later,
        })
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

    /// The records at `positions`, all of which are there.
    fn records_at(
        &self,
        positions: Vec<Position>,
    ) -> Result<Vec<StoredRecord>, ProjectionReadError> {
        let mut records = Vec::with_capacity(positions.len());
        let mut frame: Option<Arc<JournalFrame>> = None;
        for position in positions {
            // Consecutive records of a busy entity mostly share a frame.
            if frame
                .as_ref()
                .is_none_or(|frame| frame.entry(position).is_none())
            {
                frame = self.journal.read_frame_at(position)?;
            }
            let held =
                frame
                    .as_ref()
                    .ok_or(ProjectionReadError::Journal(JournalReadError::Corrupt(
                        position,
                    )))?;
            records.push(decode_stored(held, position)?);
        }
        Ok(records)
    }

    /// Where the entity's record `sequence` stands.
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

    /// Where the entity's records from `sequence` on stand, at most `limit` of them.
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
        let Some(first) = self.tree.get(keys::timeline_key(entity, 0))? else {
            return Ok(None);
        };
        let Some(first) = row_buffer::decode_positions(&first).first().copied() else {
            return Ok(None);
        };
        let rows = self
            .tree
            .range(keys::timeline_prefix(entity)..=keys::timeline_key(entity, u32::MAX));
        let newest = rows.values().next_back().transpose()?;
        let last = newest
            .and_then(|row| row_buffer::decode_positions(&row).last().copied())
            .unwrap_or(first);
        Ok(Some((
            self.expect_record(Position::new(first))?,
            self.expect_record(Position::new(last))?,
        )))
    }

    fn last_sequence(&self, entity: &EntityKey) -> Result<Option<u64>, ProjectionReadError> {
        let rows = self
            .tree
            .range(keys::timeline_prefix(entity)..=keys::timeline_key(entity, u32::MAX));
        let Some((key, row)) = rows.last_row()? else {
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
        // Rows are written before the cursor row, so births are counted by their rows.
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
        let rows = self
            .tree
            .range(keys::kind_entity_key(kind, 0)..=keys::kind_entity_key(kind, u64::MAX));
        let Some((key, _)) = rows.last_row()? else {
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
    ) -> Result<Option<ProjectionPage<StoredRecord>>, ProjectionReadError> {
        let Some(total) = self.last_sequence(entity)? else {
            return Ok(None);
        };
        let mut items = Vec::new();
        let mut row: Option<(u32, Vec<u64>)> = None;
        for number in page.item_numbers(total) {
            let (chunk, slot) = row_buffer::chunk_place(number + 1);
            if row.as_ref().is_none_or(|(held, _)| *held != chunk) {
                let value = self
                    .tree
                    .get(keys::timeline_key(entity, chunk))?
                    .unwrap_or_default();
                row = Some((chunk, row_buffer::decode_positions(&value)));
            }
            let position = row
                .as_ref()
                .and_then(|(_, positions)| positions.get(slot).copied());
            items.push(self.expect_record(Position::new(position.unwrap_or_default()))?);
        }
        Ok(Some(ProjectionPage { items, total }))
    }

    fn event(&self, position: Position) -> Result<Option<EventView>, ProjectionReadError> {
        let stored = self
            .find_record(position)?
            .filter(|stored| stored.record.reprocesses.is_none());
        stored.map(|event| self.event_view(event)).transpose()
    }

    fn event_view(&self, event: StoredRecord) -> Result<EventView, ProjectionReadError> {
        // What concludes another event has happened; its failure is that event's.
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
        let Record {
            failure,
            pending: owes,
            ..
        } = &resolution.as_ref().unwrap_or(&event).record;
        let status = match (failure, owes) {
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
    ) -> Result<ProjectionPage<EventView>, ProjectionReadError> {
        let places = page.places();
        let (mut total, mut items) = (0, Vec::new());
        let Some(wanted) = SlotFilter::try_new(filter, &NameTable::load(&self.tree)?) else {
            return Ok(ProjectionPage { items, total });
        };
        let unsure = wanted.needs_records();
        for found in self.matching_positions(wanted) {
            let position = found?;
            if unsure && !filter.matches_names(&self.expect_record(position)?.record) {
                continue;
            }
            if places.contains(&total) {
                items.push(self.event_view(self.expect_record(position)?)?);
            }
            total += 1;
        }
        Ok(ProjectionPage { items, total })
    }

    /// The positions of the events that `wanted` admits, newest first.
    fn matching_positions(
        &self,
        wanted: SlotFilter,
    ) -> impl Iterator<Item = Result<Position, ProjectionReadError>> + '_ {
        let rows = self
            .tree
            .range(keys::event_block_key(0)..=keys::event_block_key(u64::MAX))
            .rev();
        let blocks = rows.map_while(move |row| match row {
            Err(error) => Some(Err(ProjectionReadError::Store(error))),
            Ok((key, value)) => {
                let number = key
                    .last_chunk()
                    .map_or(0, |number| u64::from_be_bytes(*number));
                let Some(block) = EventBlock::decode(&value) else {
                    return Some(Err(malformed_row("a block of events")));
                };
                let newest = block
                    .newest_first()
                    .next()
                    .map(|(_, slot)| slot.received_at);
                // Receive times never go backwards: everything before this block is older still.
                let exhausted = wanted
                    .since
                    .zip(newest)
                    .is_some_and(|(since, newest)| newest < since);
                (!exhausted).then(|| Ok(wanted.matching_positions(number, &block)))
            }
        });
        blocks.flat_map(|found| match found {
            Ok(positions) => positions.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    }
}

fn malformed_row(what: &str) -> ProjectionReadError {
    ProjectionReadError::Store(sled::Error::ReportableBug(format!("{what} is malformed")))
}

fn decode_stored(
    frame: &JournalFrame,
    position: Position,
) -> Result<StoredRecord, ProjectionReadError> {
    let corrupt = || ProjectionReadError::Journal(JournalReadError::Corrupt(position));
    let entry = frame.entry(position).ok_or_else(corrupt)?;
    let record = Record::decode(&entry.bytes).map_err(|_| corrupt())?;
    Ok(StoredRecord {
        position,
        received_at: entry.received_at,
        committed_at: frame.committed_at,
        record,
    })
}

/// The last row of a range.
trait LastRow {
    fn last_row(self) -> Result<Option<(sled::IVec, sled::IVec)>, sled::Error>;
}

impl LastRow for sled::Iter {
    fn last_row(mut self) -> Result<Option<(sled::IVec, sled::IVec)>, sled::Error> {
        self.next_back().transpose()
    }
}

/// A filter in the numbers of the event blocks.
struct SlotFilter {
    source: Option<u16>,
    event_type: Option<u16>,
    kind: Option<u16>,
    id: Option<u64>,
    mark: Option<EventMark>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl SlotFilter {
    /// `None` when a name is asked for that no event has.
    fn try_new(filter: &EventFilter, names: &NameTable) -> Option<Self> {
        let number = |name: Option<&str>| {
            name.map(|name| names.number_of(name).ok_or(()))
                .transpose()
                .ok()
        };
        Some(Self {
            source: number(filter.source.as_deref())?,
            event_type: number(filter.event_type.as_deref())?,
            kind: number(filter.kind.map(Kind::as_str))?,
            id: filter.entity.as_deref().map(|id| fingerprint_key("", id)),
            mark: filter.status.map(|status| match status {
                EventStatus::Processing => EventMark::Processing,
                EventStatus::Completed => EventMark::Completed,
                EventStatus::Failed => EventMark::Failed,
            }),
            since: filter.since,
            until: filter.until,
        })
    }

    /// Whether names are asked for that have no number of their own, so that the records have to be
    /// read.
    fn needs_records(&self) -> bool {
        [self.source, self.event_type, self.kind].contains(&Some(OTHER_NAME))
    }

    fn matching_positions(&self, block: u64, slots: &EventBlock) -> Vec<Position> {
        let matching = slots
            .newest_first()
            .filter(|(_, slot)| self.matches_slot(slot));
        matching
            .map(|(place, _)| Position::new(block * BLOCK_EVENTS + place as u64))
            .collect()
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
            && self.since.is_none_or(|since| slot.received_at >= since)
            && self.until.is_none_or(|until| slot.received_at < until)
    }
}
