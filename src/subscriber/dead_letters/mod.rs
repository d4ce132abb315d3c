//! Dead letters: deliveries that failed for good, kept until somebody has them delivered again or discards them.
//!
//! ```text
//!  a delivery fails for good ──bury──> index (memory) + ledger ──round──> rows ──> list, show
//!                                        │    │
//!  a job delivers it again ──delivered───┘    └── counted against delivery.dead_letters_max
//!  somebody discards it ─────discard─────┘
//! ```
//!
//! The record itself stays in the journal; a dead letter knows where. A record that fails again renews its dead letter, so
//! there is never more than one for a record and a subscriber.

mod index;
mod letter;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

pub use letter::{ANSWER_MAX_BYTES, Burial, Cause, DeadLetter, Delivery, Filter, Subject};

use super::delivery::LaneKey;
use super::ledger::Ledger;
use super::notices::{Notice, Notices};
use super::rows::{Rows, Tag, dead_letters as row};
use super::{Shared, SubscriberId};
use crate::clock::Clock;
use crate::event::{EntityKey, Position};
use crate::journal::WriteError;
use crate::projection::items_at;
use index::{Entry, Index, OfOne, Span};

/// Lists that are read at once, so that what delivers finds a thread too.
const READERS_MAX: usize = 2;

/// Rows that are read at once when all are looked through.
const ROWS_AT_ONCE: usize = 1024;

/// Why dead letters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// What was changed last could not be written.
    #[error("the subscribers ended")]
    Ended,
    /// The store failed, or holds something malformed.
    #[error("cannot read the dead letters")]
    Store(#[from] WriteError),
    /// The process is stopping.
    #[error("reading was cancelled")]
    Cancelled,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The part asked for, newest first.
    pub items: Vec<Found>,
    /// How many the whole list has.
    pub total: u64,
}

/// A dead letter, and what is being done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The dead letter.
    pub letter: DeadLetter,
    /// The job that is delivering it again.
    pub job: Option<u64>,
}

/// What became of a wish to discard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// It is gone.
    Gone,
    /// There is none of that number.
    NotFound,
    /// This job is delivering it again.
    InJob(u64),
}

/// A dead letter that a job may deliver again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: u64,
    pub(super) position: Position,
    pub(super) cause: Cause,
}

/// All dead letters of one opening of the store.
pub struct DeadLetters {
    index: Mutex<Index>,
    rows: Rows,
    ledger: Arc<Ledger>,
    notices: Arc<Notices>,
    clock: Arc<dyn Clock>,
    places: Semaphore,
    max: u64,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeadLetters")
    }
}

impl DeadLetters {
    /// Those in `rows`, of which a subscriber is to have no more than `max`. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn open(rows: Rows, (ledger, notices, clock): Shared, max: u64) -> Result<Arc<Self>, WriteError> {
        let mut index = Index { next: rows.next_number(Tag::DeadLetter)?, ..Index::default() };
        each(&rows, |letter| index.add(&letter))?;
        let (index, places) = (Mutex::new(index), Semaphore::new(READERS_MAX));
        Ok(Arc::new(Self { index, rows, ledger, notices, clock, places, max }))
    }

    /// Keeps a delivery to `subscriber` that failed for good, and gives its number. A record that has a dead letter already
    /// renews that one.
    pub fn bury(&self, subscriber: &SubscriberId, burial: Burial) -> u64 {
        let now = self.clock.wall();
        let (position, cause) = (burial.item.position, Cause::from(burial.reason));
        let mut index = self.lock();
        let earlier = index.of(subscriber).remove(position);
        let (id, at, attempts) = match &earlier {
            Some(entry) => (entry.id, entry.at, entry.attempts),
            None => (self.draw(&mut index), now, 0),
        };
        let mut delivery = burial.into_delivery(attempts, now);
        // A lane goes on standing still for what did not succeed when it was tried again.
        delivery.is_halting |= earlier.is_some_and(|entry| entry.halts.is_some());
        let letter =
            DeadLetter { id, subscriber: subscriber.clone(), cause, at, subject: Subject::One(Box::new(delivery)) };
        self.keep(&mut index, &letter);
        id
    }

    /// Keeps that `count` deliveries to `subscriber` of the records from `first` to `last` are not made, and gives the
    /// number of the dead letter that says so: one for all that is dropped for the same cause, until it is dealt with.
    pub fn bury_all(
        &self,
        subscriber: &SubscriberId,
        cause: Cause,
        (first, last): (Position, Position),
        count: u64,
    ) -> u64 {
        let mut index = self.lock();
        let of_one = index.of(subscriber);
        let open = of_one.spans.values().find(|span| span.cause == cause && span.job.is_none()).cloned();
        let span = match open {
            Some(span) => Span {
                first: span.first.min(first),
                last: span.last.max(last),
                count: span.count.saturating_add(count),
                ..span
            },
            None => Span { id: self.draw(&mut index), cause, at: self.clock.wall(), first, last, count, job: None },
        };
        let Span { id, at, first, last, count, .. } = span;
        let subject = Subject::Many { first, last, count };
        self.keep(&mut index, &DeadLetter { id, subscriber: subscriber.clone(), cause, at, subject });
        id
    }

    /// How many `subscriber` has.
    #[must_use]
    pub fn count(&self, subscriber: &SubscriberId) -> u64 {
        self.lock().find(subscriber).map_or(0, OfOne::len)
    }

    /// Whether `subscriber` has as many as it may, so that it has to stand still; a [`Notice::Room`] tells when it has not.
    #[must_use]
    pub fn is_full(&self, subscriber: &SubscriberId) -> bool {
        self.count(subscriber) >= self.max
    }

    /// Whether a dead letter keeps the lane `key` of `subscriber` from going on. A lane that stands still without one has to
    /// be released: a crash came between the end of the one and of the other.
    #[must_use]
    pub fn halts(&self, subscriber: &SubscriberId, key: &LaneKey) -> bool {
        let LaneKey::Entity(entity) = key else { return false };
        self.lock().find(subscriber).is_some_and(|of_one| of_one.halts(entity))
    }

    /// Forgets those of all subscribers that are not `known` any more.
    pub fn retain(&self, known: impl Fn(&SubscriberId) -> bool) {
        let mut index = self.lock();
        index.by_subscriber.retain(|subscriber, of_one| {
            let is_known = known(subscriber);
            if !is_known {
                let entries = of_one.entries.values().map(|entry| entry.id);
                entries.chain(of_one.spans.keys().copied()).for_each(|id| self.ledger.remove(row::key(id)));
            }
            is_known
        });
    }

    /// Those that pass `filter`, at `places`, counted from the newest.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn list(self: &Arc<Self>, filter: Filter, places: Range<u64>) -> Result<Page, Unavailable> {
        // Before what is in memory is written: whatever is counted can be read then.
        let known = self.lock().ids(&filter);
        self.read(move |letters| {
            let ids = known.map_or_else(|| letters.ids(&filter), Ok)?;
            let mut items = Vec::new();
            for id in items_at(places, ids.iter().rev()) {
                items.extend(letters.find(*id)?);
            }
            Ok(Page { items, total: ids.len() as u64 })
        })
        .await
    }

    /// The dead letter `id`.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn get(self: &Arc<Self>, id: u64) -> Result<Option<Found>, Unavailable> {
        self.read(move |letters| letters.find(id)).await
    }

    /// Gives the dead letter `id` up; a lane that stood still for it goes on. Returns when that is on the disk.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails; it may be gone then.
    pub async fn discard(self: &Arc<Self>, id: u64) -> Result<Discarded, Unavailable> {
        let Some(Found { letter, .. }) = self.get(id).await? else { return Ok(Discarded::NotFound) };
        let discarded = self.remove(&letter);
        if discarded == Discarded::Gone {
            self.settled().await?;
        }
        Ok(discarded)
    }

    /// Gives up all that pass `filter` and that no job is delivering again, and says how many. Returns when that is on the
    /// disk.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails; some of them may be gone then.
    pub async fn discard_all(self: &Arc<Self>, filter: Filter) -> Result<u64, Unavailable> {
        let discarded = self
            .read(move |letters| {
                let mut discarded = 0;
                each(&letters.rows, |letter| {
                    discarded += u64::from(filter.admits(&letter) && letters.remove(&letter) == Discarded::Gone);
                })?;
                Ok(discarded)
            })
            .await?;
        self.settled().await?;
        Ok(discarded)
    }

    /// How many pass `filter`, by subscriber. Those about many events are not among them: they are delivered one by one.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub(super) async fn totals(self: &Arc<Self>, filter: Filter) -> Result<BTreeMap<SubscriberId, u64>, Unavailable> {
        self.read(move |letters| {
            let mut totals = BTreeMap::new();
            each(&letters.rows, |letter| {
                let is_one = matches!(letter.subject, Subject::One(_));
                if is_one && filter.admits(&letter) && letters.job_of(&letter).is_some() {
                    *totals.entry(letter.subscriber).or_default() += 1;
                }
            })?;
            Ok(totals)
        })
        .await
    }

    /// The dead letters of `subscriber` about records from `from` to before `end` that are numbered before `before`, in the
    /// order of their records, at most `limit`.
    pub(super) fn candidates(
        &self,
        subscriber: &SubscriberId,
        (from, end): (Position, Position),
        before: u64,
        limit: usize,
    ) -> Vec<Candidate> {
        let index = self.lock();
        let Some(of_one) = index.find(subscriber).filter(|_| from < end) else { return Vec::new() };
        let older = of_one.entries.range(from..end).filter(|(_, entry)| entry.id < before);
        older
            .take(limit)
            .map(|(position, Entry { id, cause, .. })| Candidate { id: *id, position: *position, cause: *cause })
            .collect()
    }

    /// Notes that `job` delivers the dead letter of the record again, and gives its number.
    ///
    /// # Errors
    /// The other job that does so already; none if there is no such dead letter any more.
    pub(super) fn take(&self, subscriber: &SubscriberId, position: Position, job: u64) -> Result<u64, Option<u64>> {
        let mut index = self.lock();
        let of_one = index.by_subscriber.get_mut(subscriber).ok_or(None)?;
        let entry = of_one.entries.get_mut(&position).ok_or(None)?;
        taken(&mut entry.job, job).map(|()| entry.id)
    }

    /// The same for the dead letter `id` about many events.
    ///
    /// # Errors
    /// As [`DeadLetters::take`].
    pub(super) fn take_all(&self, subscriber: &SubscriberId, id: u64, job: u64) -> Result<(), Option<u64>> {
        let mut index = self.lock();
        let of_one = index.by_subscriber.get_mut(subscriber).ok_or(None)?;
        taken(&mut of_one.spans.get_mut(&id).ok_or(None)?.job, job)
    }

    /// Notes that `job` is over, which leaves these records as they are.
    pub(super) fn leave(&self, subscriber: &SubscriberId, positions: impl IntoIterator<Item = Position>, job: u64) {
        let mut index = self.lock();
        let Some(of_one) = index.by_subscriber.get_mut(subscriber) else { return };
        for position in positions {
            if let Some(entry) = of_one.entries.get_mut(&position).filter(|entry| entry.job == Some(job)) {
                entry.job = None;
            }
        }
        for span in of_one.spans.values_mut().filter(|span| span.job == Some(job)) {
            span.job = None;
        }
    }

    /// Forgets the dead letter of a record that was delivered after all.
    pub(super) fn delivered(&self, subscriber: &SubscriberId, position: Position) {
        let mut index = self.lock();
        let of_one = index.by_subscriber.get_mut(subscriber);
        if let Some(entry) = of_one.and_then(|of_one| of_one.remove(position)) {
            self.forget(&mut index, subscriber, entry.id, entry.halts);
        }
    }

    /// Forgets the dead letter `id` about many events, which were delivered after all or have dead letters of their own.
    pub(super) fn delivered_all(&self, subscriber: &SubscriberId, id: u64) {
        let mut index = self.lock();
        let of_one = index.by_subscriber.get_mut(subscriber);
        if let Some(span) = of_one.and_then(|of_one| of_one.spans.remove(&id)) {
            self.forget(&mut index, subscriber, span.id, None);
        }
    }

    /// Every one that is numbered at or above it will be made later.
    pub(super) fn next(&self) -> u64 {
        self.lock().next
    }

    /// Waits until every change that was made before survives the end of the process.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the store fails first.
    pub(super) async fn settled(&self) -> Result<(), Unavailable> {
        self.ledger.settled().await.map_err(|_| Unavailable::Ended)
    }

    /// The numbers of those on the disk that pass `filter`, in their order.
    fn ids(&self, filter: &Filter) -> Result<Vec<u64>, Unavailable> {
        let mut ids = Vec::new();
        each(&self.rows, |letter| {
            // One that went while the list was being read is not counted.
            if filter.admits(&letter) && self.job_of(&letter).is_some() {
                ids.push(letter.id);
            }
        })?;
        Ok(ids)
    }

    fn find(&self, id: u64) -> Result<Option<Found>, Unavailable> {
        let letter = self.rows.dead_letter(id)?;
        Ok(letter.and_then(|letter| self.job_of(&letter).map(|job| Found { letter, job })))
    }

    fn remove(&self, letter: &DeadLetter) -> Discarded {
        let mut index = self.lock();
        let Some(of_one) = index.by_subscriber.get_mut(&letter.subscriber) else { return Discarded::NotFound };
        let (job, halts) = match &letter.subject {
            Subject::One(delivery) => match of_one.entries.get(&delivery.position) {
                Some(entry) if entry.id == letter.id => (entry.job, entry.halts.clone()),
                Some(_) | None => return Discarded::NotFound,
            },
            Subject::Many { .. } => match of_one.spans.get(&letter.id) {
                Some(span) => (span.job, None),
                None => return Discarded::NotFound,
            },
        };
        if let Some(job) = job {
            return Discarded::InJob(job);
        }
        match &letter.subject {
            Subject::One(delivery) => drop(of_one.remove(delivery.position)),
            Subject::Many { .. } => drop(of_one.spans.remove(&letter.id)),
        }
        self.forget(&mut index, &letter.subscriber, letter.id, halts);
        Discarded::Gone
    }

    /// Removes the row `id` and tells whom it concerns; it is in the index no more.
    fn forget(&self, index: &mut Index, subscriber: &SubscriberId, id: u64, halts: Option<EntityKey>) {
        self.ledger.remove(row::key(id));
        if let Some(entity) = halts {
            self.notices.post(Notice::Released { subscriber: subscriber.clone(), key: LaneKey::Entity(entity) });
        }
        let left = index.of(subscriber).len();
        if left + 1 == self.max {
            self.notices.post(Notice::Room(subscriber.clone()));
        }
        if left == 0 {
            index.by_subscriber.remove(subscriber);
        }
    }

    fn keep(&self, index: &mut Index, letter: &DeadLetter) {
        index.add(letter);
        self.ledger.put(row::key(letter.id), row::encode(letter));
    }

    fn draw(&self, index: &mut Index) -> u64 {
        let id = index.draw();
        self.ledger.put(row::next_key(Tag::DeadLetter), row::encode_next(index.next));
        id
    }

    /// The job that is delivering `letter` again, if any; `None` if the dead letter itself is gone.
    #[expect(clippy::option_option, reason = "a dead letter without a job is no dead letter that is gone")]
    fn job_of(&self, letter: &DeadLetter) -> Option<Option<u64>> {
        let index = self.lock();
        let of_one = index.find(&letter.subscriber)?;
        match &letter.subject {
            Subject::One(delivery) => {
                of_one.entries.get(&delivery.position).filter(|entry| entry.id == letter.id).map(|entry| entry.job)
            }
            Subject::Many { .. } => of_one.spans.get(&letter.id).map(|span| span.job),
        }
    }

    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        // What was buried before is to be seen, and no number is shown that could be given out again after a crash.
        self.settled().await?;
        let _place = self.places.acquire().await.map_err(|_| Unavailable::Cancelled)?;
        let letters = Arc::clone(self);
        tokio::task::spawn_blocking(move || ask(&letters)).await.map_err(|_| Unavailable::Cancelled)?
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock()
    }
}

/// Shows `look` every dead letter on the disk, in the order of their numbers.
fn each(rows: &Rows, mut look: impl FnMut(DeadLetter)) -> Result<(), WriteError> {
    let mut after = 0;
    loop {
        let some = rows.dead_letters(after, ROWS_AT_ONCE)?;
        let Some(last) = some.last() else { return Ok(()) };
        after = last.id;
        some.into_iter().for_each(&mut look);
    }
}

/// Gives a dead letter to `job`, unless another one has it.
fn taken(by: &mut Option<u64>, job: u64) -> Result<(), Option<u64>> {
    match *by {
        Some(other) if other != job => Err(Some(other)),
        Some(_) | None => {
            *by = Some(job);
            Ok(())
        }
    }
}
