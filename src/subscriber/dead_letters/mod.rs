//! Dead letters: deliveries that failed for good, kept until somebody has them delivered again or
//! discards them.
//!
//! ```text
//!  a delivery fails for good ──bury──> index (memory) + ledger ──round──> rows ──> list, show
//!                                        │    │
//!  a job delivers it again ──delivered───┘    └── counted against delivery.dead_letters_max
//!  somebody discards it ─────discard─────┘
//! ```
//!
//! The record itself stays in the journal; a dead letter knows where. A record that fails again
//! renews its dead letter, so there is never more than one for a record and a subscriber.

mod index;
mod letter;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

pub use letter::{
    ANSWER_MAX_BYTES, DeadLetter, DeadLetterCause, DeadLetterSubject, FailedDelivery, Filter,
    NewDeadLetter,
};

use super::checkpoint::CheckpointBuffer;
use super::delivery::LaneKey;
use super::stage_requests::{StageRequest, StageRequestQueue};
use super::tables::{DeliveryTables, TableTag, dead_letters as row};
use super::{RecoveryDeps, SubscriberId};
use crate::clock::Clock;
use crate::event::{EntityKey, Position};
use crate::journal::StoreWriteError;
use crate::projection::items_at;
use index::{DeadLetterEntry, DeadLetterIndex, DroppedRangeEntry, SubscriberDeadLetters};

/// Lists that are read at once, so that what delivers finds a thread too.
const READERS_MAX: usize = 2;

/// Rows that are read at once when all are looked through.
const ROWS_AT_ONCE: usize = 1024;

/// Why dead letters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterReadError {
    /// What was changed last could not be written.
    #[error("the subscribers ended")]
    Ended,
    /// The store failed, or holds something malformed.
    #[error("cannot read the dead letters")]
    Store(#[from] StoreWriteError),
    /// The process is stopping.
    #[error("reading was cancelled")]
    Cancelled,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct DeadLetterPage {
    /// The part asked for, newest first.
    pub items: Vec<ListedDeadLetter>,
    /// How many the whole list has.
    pub total: u64,
}

/// A dead letter, and what is being done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDeadLetter {
    /// The dead letter.
    pub letter: DeadLetter,
    /// The job that is delivering it again.
    pub job: Option<u64>,
}

/// What became of a wish to discard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardOutcome {
    /// It is gone.
    Gone,
    /// There is none of that number.
    NotFound,
    /// This job is delivering it again.
    InJob(u64),
}

/// A dead letter that a job may deliver again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecoveryCandidate {
    pub(super) id: u64,
    pub(super) position: Position,
    pub(super) cause: DeadLetterCause,
}

/// All dead letters of one opening of the store.
pub struct DeadLetterStore {
    index: Mutex<DeadLetterIndex>,
    tables: DeliveryTables,
    checkpoints: Arc<CheckpointBuffer>,
    requests: Arc<StageRequestQueue>,
    clock: Arc<dyn Clock>,
    reader_permits: Semaphore,
    max: u64,
}

impl std::fmt::Debug for DeadLetterStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeadLetters")
    }
}

impl DeadLetterStore {
    /// Those in `rows`, of which a subscriber is to have no more than `max`. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn open(
        rows: DeliveryTables,
        (ledger, notices, clock): RecoveryDeps,
        max: u64,
    ) -> Result<Arc<Self>, StoreWriteError> {
        let mut index = DeadLetterIndex {
            next_id: rows.next_id(TableTag::DeadLetter)?,
            ..DeadLetterIndex::default()
        };
        for_each_letter(&rows, |letter| index.add(&letter))?;
        let (index, places) = (Mutex::new(index), Semaphore::new(READERS_MAX));
        Ok(Arc::new(Self {
            index,
            tables: rows,
            checkpoints: ledger,
            requests: notices,
            clock,
            reader_permits: places,
            max,
        }))
    }

    /// Keeps a delivery to `subscriber` that failed for good, and gives its number. A record that
    /// has a dead letter already renews that one.
    pub fn add(&self, subscriber: &SubscriberId, burial: NewDeadLetter) -> u64 {
        let now = self.clock.wall();
        let (position, cause) = (burial.item.position, DeadLetterCause::from(burial.reason));
        let mut index = self.lock();
        let earlier = index.subscriber_mut(subscriber).remove(position);
        let (id, at, attempts) = match &earlier {
            Some(entry) => (entry.id, entry.at, entry.attempts),
            None => (self.allocate_id(&mut index), now, 0),
        };
        let mut delivery = burial.into_failed_delivery(attempts, now);
        // A lane goes on standing still for what did not succeed when it was tried again.
        delivery.is_halting |= earlier.is_some_and(|entry| entry.halted_entity.is_some());
        let letter = DeadLetter {
            id,
            subscriber: subscriber.clone(),
            cause,
            at,
            subject: DeadLetterSubject::Event(Box::new(delivery)),
        };
        self.store_row(&mut index, &letter);
        id
    }

    /// Keeps that `count` deliveries to `subscriber` of the records from `first` to `last` are not
    /// made, and gives the number of the dead letter that says so: one for all that is dropped for
    /// the same cause, until it is dealt with.
    pub fn add_range(
        &self,
        subscriber: &SubscriberId,
        cause: DeadLetterCause,
        (first, last): (Position, Position),
        count: u64,
    ) -> u64 {
        let mut index = self.lock();
        let of_one = index.subscriber_mut(subscriber);
        let open = of_one
            .ranges
            .values()
            .find(|span| span.cause == cause && span.job.is_none())
            .cloned();
        let span = match open {
            Some(span) => DroppedRangeEntry {
                first: span.first.min(first),
                last: span.last.max(last),
                count: span.count.saturating_add(count),
                ..span
            },
            None => DroppedRangeEntry {
                id: self.allocate_id(&mut index),
                cause,
                at: self.clock.wall(),
                first,
                last,
                count,
                job: None,
            },
        };
        let DroppedRangeEntry {
            id,
            at,
            first,
            last,
            count,
            ..
        } = span;
        let subject = DeadLetterSubject::Range { first, last, count };
        self.store_row(
            &mut index,
            &DeadLetter {
                id,
                subscriber: subscriber.clone(),
                cause,
                at,
                subject,
            },
        );
        id
    }

    /// How many `subscriber` has.
    #[must_use]
    pub fn count(&self, subscriber: &SubscriberId) -> u64 {
        self.lock()
            .subscriber(subscriber)
            .map_or(0, SubscriberDeadLetters::len)
    }

    /// Whether `subscriber` has as many as it may, so that it has to stand still; a
    /// [`Notice::Room`] tells when it has not.
    #[must_use]
    pub fn is_full(&self, subscriber: &SubscriberId) -> bool {
        self.count(subscriber) >= self.max
    }

    /// Whether a dead letter keeps the lane `key` of `subscriber` from going on. A lane that stands
    /// still without one has to be released: a crash came between the end of the one and of the
    /// other.
    #[must_use]
    pub fn is_lane_halted(&self, subscriber: &SubscriberId, key: &LaneKey) -> bool {
        let LaneKey::Entity(entity) = key else {
            return false;
        };
        self.lock()
            .subscriber(subscriber)
            .is_some_and(|of_one| of_one.is_lane_halted(entity))
    }

    /// Forgets those of all subscribers that are not `known` any more.
    pub fn retain(&self, known: impl Fn(&SubscriberId) -> bool) {
        let mut index = self.lock();
        index.by_subscriber.retain(|subscriber, of_one| {
            let is_known = known(subscriber);
            if !is_known {
                let entries = of_one.entries.values().map(|entry| entry.id);
                entries
                    .chain(of_one.ranges.keys().copied())
                    .for_each(|id| self.checkpoints.remove(row::dead_letter_key(id)));
            }
            is_known
        });
    }

    /// Those that pass `filter`, at `places`, counted from the newest.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn list(
        self: &Arc<Self>,
        filter: Filter,
        places: Range<u64>,
    ) -> Result<DeadLetterPage, DeadLetterReadError> {
        // Before what is in memory is written: whatever is counted can be read then.
        let known = self.lock().matching_ids(&filter);
        self.read_blocking(move |letters| {
            let ids = known.map_or_else(|| letters.read_matching_ids(&filter), Ok)?;
            let mut items = Vec::new();
            for id in items_at(places, ids.iter().rev()) {
                items.extend(letters.read_letter(*id)?);
            }
            Ok(DeadLetterPage {
                items,
                total: ids.len() as u64,
            })
        })
        .await
    }

    /// The dead letter `id`.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn get(
        self: &Arc<Self>,
        id: u64,
    ) -> Result<Option<ListedDeadLetter>, DeadLetterReadError> {
        self.read_blocking(move |letters| letters.read_letter(id))
            .await
    }

    /// Gives the dead letter `id` up; a lane that stood still for it goes on. Returns when that is
    /// on the disk.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails; it may be gone then.
    pub async fn discard(self: &Arc<Self>, id: u64) -> Result<DiscardOutcome, DeadLetterReadError> {
        let Some(ListedDeadLetter { letter, .. }) = self.get(id).await? else {
            return Ok(DiscardOutcome::NotFound);
        };
        let discarded = self.discard_letter(&letter);
        if discarded == DiscardOutcome::Gone {
            self.flush().await?;
        }
        Ok(discarded)
    }

    /// Gives up all that pass `filter` and that no job is delivering again, and says how many.
    /// Returns when that is on the disk.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails; some of them may be gone then.
    pub async fn discard_matching(
        self: &Arc<Self>,
        filter: Filter,
    ) -> Result<u64, DeadLetterReadError> {
        let discarded = self
            .read_blocking(move |letters| {
                let mut discarded = 0;
                for_each_letter(&letters.tables, |letter| {
                    discarded += u64::from(
                        filter.admits(&letter)
                            && letters.discard_letter(&letter) == DiscardOutcome::Gone,
                    );
                })?;
                Ok(discarded)
            })
            .await?;
        self.flush().await?;
        Ok(discarded)
    }

    /// How many pass `filter`, by subscriber. Those about many events are not among them: they are
    /// delivered one by one.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub(super) async fn count_by_subscriber(
        self: &Arc<Self>,
        filter: Filter,
    ) -> Result<BTreeMap<SubscriberId, u64>, DeadLetterReadError> {
        self.read_blocking(move |letters| {
            let mut totals = BTreeMap::new();
            for_each_letter(&letters.tables, |letter| {
                let is_one = matches!(letter.subject, DeadLetterSubject::Event(_));
                if is_one && filter.admits(&letter) && letters.claiming_job(&letter).is_some() {
                    *totals.entry(letter.subscriber).or_default() += 1;
                }
            })?;
            Ok(totals)
        })
        .await
    }

    /// The dead letters of `subscriber` about records from `from` to before `end` that are numbered
    /// before `before`, in the order of their records, at most `limit`.
    pub(super) fn recovery_candidates(
        &self,
        subscriber: &SubscriberId,
        (from, end): (Position, Position),
        before: u64,
        limit: usize,
    ) -> Vec<RecoveryCandidate> {
        let index = self.lock();
        let Some(of_one) = index.subscriber(subscriber).filter(|_| from < end) else {
            return Vec::new();
        };
        let older = of_one
            .entries
            .range(from..end)
            .filter(|(_, entry)| entry.id < before);
        older
            .take(limit)
            .map(
                |(position, DeadLetterEntry { id, cause, .. })| RecoveryCandidate {
                    id: *id,
                    position: *position,
                    cause: *cause,
                },
            )
            .collect()
    }

    /// Notes that `job` delivers the dead letter of the record again, and gives its number.
    ///
    /// # Errors
    /// The other job that does so already; none if there is no such dead letter any more.
    pub(super) fn claim_for_job(
        &self,
        subscriber: &SubscriberId,
        position: Position,
        job: u64,
    ) -> Result<u64, Option<u64>> {
        let mut index = self.lock();
        let of_one = index.by_subscriber.get_mut(subscriber).ok_or(None)?;
        let entry = of_one.entries.get_mut(&position).ok_or(None)?;
        try_claim(&mut entry.job, job).map(|()| entry.id)
    }

    /// The same for the dead letter `id` about many events.
    ///
    /// # Errors
    /// As [`DeadLetters::take`].
    pub(super) fn claim_range_for_job(
        &self,
        subscriber: &SubscriberId,
        id: u64,
        job: u64,
    ) -> Result<(), Option<u64>> {
        let mut index = self.lock();
        let of_one = index.by_subscriber.get_mut(subscriber).ok_or(None)?;
        try_claim(&mut of_one.ranges.get_mut(&id).ok_or(None)?.job, job)
    }

    /// Notes that `job` is over, which leaves these records as they are.
    pub(super) fn release_from_job(
        &self,
        subscriber: &SubscriberId,
        positions: impl IntoIterator<Item = Position>,
        job: u64,
    ) {
        let mut index = self.lock();
        let Some(of_one) = index.by_subscriber.get_mut(subscriber) else {
            return;
        };
        for position in positions {
            if let Some(entry) = of_one
                .entries
                .get_mut(&position)
                .filter(|entry| entry.job == Some(job))
            {
                entry.job = None;
            }
        }
        for span in of_one
            .ranges
            .values_mut()
            .filter(|span| span.job == Some(job))
        {
            span.job = None;
        }
    }

    /// Forgets the dead letter of a record that was delivered after all.
    pub(super) fn remove_delivered(&self, subscriber: &SubscriberId, position: Position) {
        let mut index = self.lock();
        let of_one = index.by_subscriber.get_mut(subscriber);
        if let Some(entry) = of_one.and_then(|of_one| of_one.remove(position)) {
            self.remove_row(&mut index, subscriber, entry.id, entry.halted_entity);
        }
    }

    /// Forgets the dead letter `id` about many events, which were delivered after all or have dead
    /// letters of their own.
    pub(super) fn remove_delivered_range(&self, subscriber: &SubscriberId, id: u64) {
        let mut index = self.lock();
        let of_one = index.by_subscriber.get_mut(subscriber);
        if let Some(span) = of_one.and_then(|of_one| of_one.ranges.remove(&id)) {
            self.remove_row(&mut index, subscriber, span.id, None);
        }
    }

    /// Every one that is numbered at or above it will be made later.
    pub(super) fn next_id(&self) -> u64 {
        self.lock().next_id
    }

    /// Waits until every change that was made before survives the end of the process.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the store fails first.
    pub(super) async fn flush(&self) -> Result<(), DeadLetterReadError> {
        self.checkpoints
            .flush()
            .await
            .map_err(|_| DeadLetterReadError::Ended)
    }

    /// The numbers of those on the disk that pass `filter`, in their order.
    fn read_matching_ids(&self, filter: &Filter) -> Result<Vec<u64>, DeadLetterReadError> {
        let mut ids = Vec::new();
        for_each_letter(&self.tables, |letter| {
            // One that went while the list was being read is not counted.
            if filter.admits(&letter) && self.claiming_job(&letter).is_some() {
                ids.push(letter.id);
            }
        })?;
        Ok(ids)
    }

    fn read_letter(&self, id: u64) -> Result<Option<ListedDeadLetter>, DeadLetterReadError> {
        let letter = self.tables.dead_letter(id)?;
        Ok(letter.and_then(|letter| {
            self.claiming_job(&letter)
                .map(|job| ListedDeadLetter { letter, job })
        }))
    }

    fn discard_letter(&self, letter: &DeadLetter) -> DiscardOutcome {
        let mut index = self.lock();
        let Some(of_one) = index.by_subscriber.get_mut(&letter.subscriber) else {
            return DiscardOutcome::NotFound;
        };
        let (job, halts) = match &letter.subject {
            DeadLetterSubject::Event(delivery) => match of_one.entries.get(&delivery.position) {
                Some(entry) if entry.id == letter.id => (entry.job, entry.halted_entity.clone()),
                Some(_) | None => return DiscardOutcome::NotFound,
            },
            DeadLetterSubject::Range { .. } => match of_one.ranges.get(&letter.id) {
                Some(span) => (span.job, None),
                None => return DiscardOutcome::NotFound,
            },
        };
        if let Some(job) = job {
            return DiscardOutcome::InJob(job);
        }
        match &letter.subject {
            DeadLetterSubject::Event(delivery) => drop(of_one.remove(delivery.position)),
            DeadLetterSubject::Range { .. } => drop(of_one.ranges.remove(&letter.id)),
        }
        self.remove_row(&mut index, &letter.subscriber, letter.id, halts);
        DiscardOutcome::Gone
    }

    /// Removes the row `id` and tells whom it concerns; it is in the index no more.
    fn remove_row(
        &self,
        index: &mut DeadLetterIndex,
        subscriber: &SubscriberId,
        id: u64,
        halts: Option<EntityKey>,
    ) {
        self.checkpoints.remove(row::dead_letter_key(id));
        if let Some(entity) = halts {
            self.requests.post(StageRequest::LaneReleased {
                subscriber: subscriber.clone(),
                key: LaneKey::Entity(entity),
            });
        }
        let left = index.subscriber_mut(subscriber).len();
        if left + 1 == self.max {
            self.requests
                .post(StageRequest::DeadLetterRoom(subscriber.clone()));
        }
        if left == 0 {
            index.by_subscriber.remove(subscriber);
        }
    }

    fn store_row(&self, index: &mut DeadLetterIndex, letter: &DeadLetter) {
        index.add(letter);
        self.checkpoints.put(
            row::dead_letter_key(letter.id),
            row::encode_dead_letter(letter),
        );
    }

    fn allocate_id(&self, index: &mut DeadLetterIndex) -> u64 {
        let id = index.allocate_id();
        self.checkpoints.put(
            row::next_id_key(TableTag::DeadLetter),
            row::encode_next_id(index.next_id),
        );
        id
    }

    /// The job that is delivering `letter` again, if any; `None` if the dead letter itself is gone.
    #[expect(
        clippy::option_option,
        reason = "a dead letter without a job is no dead letter that is gone"
    )]
    fn claiming_job(&self, letter: &DeadLetter) -> Option<Option<u64>> {
        let index = self.lock();
        let of_one = index.subscriber(&letter.subscriber)?;
        match &letter.subject {
            DeadLetterSubject::Event(delivery) => of_one
                .entries
                .get(&delivery.position)
                .filter(|entry| entry.id == letter.id)
                .map(|entry| entry.job),
            DeadLetterSubject::Range { .. } => of_one.ranges.get(&letter.id).map(|span| span.job),
        }
    }

    async fn read_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> Result<T, DeadLetterReadError> + Send + 'static,
    ) -> Result<T, DeadLetterReadError> {
        // What was buried before is to be seen, and no number is shown that could be given out
        // again after a crash.
        self.flush().await?;
        let _place = self
            .reader_permits
            .acquire()
            .await
            .map_err(|_| DeadLetterReadError::Cancelled)?;
        let letters = Arc::clone(self);
        tokio::task::spawn_blocking(move || ask(&letters))
            .await
            .map_err(|_| DeadLetterReadError::Cancelled)?
    }

    fn lock(&self) -> MutexGuard<'_, DeadLetterIndex> {
        self.index.lock()
    }
}

/// Shows `look` every dead letter on the disk, in the order of their numbers.
fn for_each_letter(
    rows: &DeliveryTables,
    mut look: impl FnMut(DeadLetter),
) -> Result<(), StoreWriteError> {
    let mut after = 0;
    loop {
        let some = rows.dead_letters(after, ROWS_AT_ONCE)?;
        let Some(last) = some.last() else {
            return Ok(());
        };
        after = last.id;
        some.into_iter().for_each(&mut look);
    }
}

/// Gives a dead letter to `job`, unless another one has it.
fn try_claim(by: &mut Option<u64>, job: u64) -> Result<(), Option<u64>> {
    match *by {
        Some(other) if other != job => Err(Some(other)),
        Some(_) | None => {
            *by = Some(job);
            Ok(())
        }
    }
}
