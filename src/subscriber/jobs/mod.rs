//! Jobs: what is delivered again because somebody asked for it, be it dead letters or all events of a time.
//!
//! ```text
//!  API ──> job ── part for each subscriber ──Work──> stage ──next──> 64 records at most ──Replay──> subscriber's delivery
//!            │                                                                                      │
//!            └── progress <── delivered / failed (its dead letter goes or is renewed) <─────────────┘
//! ```
//!
//! What is delivered again keeps its `webhook-id`. A job goes on after a restart with what was not settled.

mod budget;
mod job;
mod part;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::task::spawn_blocking;

pub use job::{Job, Kind, State, Work};
pub use part::{Counts, Settled, UNSETTLED_MAX};

pub(crate) use part::Part;

use super::dead_letters::{Burial, Cause, DeadLetters, Filter, Found, Subject, Unavailable};
use super::delivery::{Reason, Replay, ReplayTag};
use super::ledger::Ledger;
use super::notices::{Notice, Notices};
use super::rows::{Rows, Tag, dead_letters as numbers, jobs as row};
use super::{Failure, Item, Shared, SubscriberId};
use crate::clock::Clock;
use crate::event::{Position, Timestamp};
use crate::journal::{Journal, ReadError, WriteError};
use crate::subscription::{Interest, Pattern};
use budget::{Budget, Page};
use part::Step;
use reading::{Read, Wanted, What};

/// Why a job was not made or not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such dead letter.
    #[error("there is no such dead letter")]
    NoDeadLetter,
    /// There is no such job.
    #[error("there is no such job")]
    NotFound,
    /// It is over.
    #[error("the job is over")]
    Over,
    /// There are too many that are not over.
    #[error("{0} jobs are not over yet; wait for them or cancel some, delivery.jobs_max allows no more")]
    TooMany(usize),
    /// The dead letters or the journal cannot be read, or the job not written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

/// All jobs of one opening of the store.
pub struct Jobs {
    book: Mutex<Book>,
    letters: Arc<DeadLetters>,
    journal: Arc<dyn Journal>,
    ledger: Arc<Ledger>,
    notices: Arc<Notices>,
    clock: Arc<dyn Clock>,
    budget: Budget,
    max: usize,
}

#[derive(Debug, Default)]
struct Book {
    jobs: BTreeMap<u64, Job>,
    /// The number that the next one gets.
    next: u64,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jobs")
    }
}

impl Jobs {
    /// Those in `rows`, of which there are to be `max` at most, with `bytes_max` bytes of records out; those that are not over
    /// go on. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn open(
        rows: &Rows,
        letters: Arc<DeadLetters>,
        journal: Arc<dyn Journal>,
        (ledger, notices, clock): Shared,
        (max, bytes_max): (usize, usize),
    ) -> Result<Arc<Self>, WriteError> {
        let jobs: BTreeMap<u64, Job> = rows.jobs()?.into_iter().map(|job| (job.id, job)).collect();
        for job in jobs.values().filter(|job| !job.state.is_over()) {
            for (subscriber, part) in &job.parts {
                take_letters(&letters, job, subscriber, part);
                notices.post(Notice::Work(subscriber.clone()));
            }
        }
        let next = rows.next_number(Tag::Job)?;
        let book = Mutex::new(Book { jobs, next });
        let budget = Budget::new(bytes_max, Arc::clone(&notices));
        Ok(Arc::new(Self { book, letters, journal, ledger, notices, clock, budget, max }))
    }

    /// Has the dead letter `id` delivered again; gives the job that does so already, if there is one.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn retry(&self, id: u64) -> Result<Job, Refused> {
        let Found { letter, .. } = self.letters.get(id).await?.ok_or(Refused::NoDeadLetter)?;
        let subscriber = letter.subscriber;
        let (work, part) = match letter.subject {
            Subject::One(delivery) => {
                let filter = Filter { subscriber: Some(subscriber.clone()), ..Filter::default() };
                (Work::Letters { filter, before: id + 1 }, Part::of_one(delivery.position))
            }
            Subject::Many { first, last, .. } => {
                let (patterns, resolves) = (Vec::new(), Some(id));
                let work = Work::Records { since: None, until: None, patterns, resolves };
                (work, Part::new(first, last.plus(1), None))
            }
        };
        self.begin(Kind::Retry, Some(subscriber.clone()), work, BTreeMap::from([(subscriber, part)])).await
    }

    /// Has the dead letters that pass `filter` delivered again.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn retry_all(&self, filter: Filter) -> Result<Job, Refused> {
        self.again(Kind::Retry, filter).await
    }

    /// Has what failed at `subscriber` delivered again, of the events that were received from `since` to before `until`.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn recover(
        &self,
        subscriber: SubscriberId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Job, Refused> {
        self.again(Kind::Recover, Filter { subscriber: Some(subscriber), since, until, ..Filter::default() }).await
    }

    async fn again(&self, kind: Kind, filter: Filter) -> Result<Job, Refused> {
        let before = self.letters.next();
        let end = *self.journal.durable_end().borrow();
        let totals = self.letters.totals(filter.clone()).await?;
        let part = |(subscriber, total)| (subscriber, Part::new(Position::FIRST, end, Some(total)));
        let parts = totals.into_iter().map(part).collect();
        self.begin(kind, filter.subscriber.clone(), Work::Letters { filter, before }, parts).await
    }

    /// Has all that `subscriber` wants delivered again, of the events that were received from `since` to before `until` and
    /// that one of `patterns` admits, if there are any.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn replay(
        &self,
        subscriber: SubscriberId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        patterns: Vec<Pattern>,
    ) -> Result<Job, Refused> {
        let journal = Arc::clone(&self.journal);
        let range = spawn_blocking(move || {
            let end = *journal.durable_end().borrow();
            let from = since.map_or(Ok(Position::FIRST), |since| reading::first_at(journal.as_ref(), since, end))?;
            let end = until.map_or(Ok(end), |until| reading::first_at(journal.as_ref(), until, end))?;
            Ok::<_, ReadError>((from, end))
        });
        let (from, end) = range.await.map_err(|_| Unavailable::Cancelled)??;
        let work = Work::Records { since, until, patterns, resolves: None };
        let parts = BTreeMap::from([(subscriber.clone(), Part::new(from, end, None))]);
        self.begin(Kind::Replay, Some(subscriber), work, parts).await
    }

    /// Takes a job on, and returns when it would survive the end of the process.
    async fn begin(
        &self,
        kind: Kind,
        subscriber: Option<SubscriberId>,
        work: Work,
        parts: BTreeMap<SubscriberId, Part>,
    ) -> Result<Job, Refused> {
        let id = self.take_on(kind, subscriber, work, parts)?;
        self.letters.settled().await?;
        self.get(id).ok_or(Refused::NotFound)
    }

    fn take_on(
        &self,
        kind: Kind,
        subscriber: Option<SubscriberId>,
        work: Work,
        parts: BTreeMap<SubscriberId, Part>,
    ) -> Result<u64, Refused> {
        let now = self.clock.wall();
        let mut book = self.lock();
        let not_over = book.jobs.values().filter(|job| !job.state.is_over()).count();
        if not_over >= self.max {
            return Err(Refused::TooMany(not_over));
        }
        self.make_room(&mut book);
        let id = book.next;
        let (state, ended) = (State::Pending, Counts::default());
        let job = Job { id, kind, subscriber, work, state, created_at: now, updated_at: now, ended, parts };
        for (subscriber, part) in &job.parts {
            if let Some(earlier) = take_letters(&self.letters, &job, subscriber, part) {
                return Ok(earlier);
            }
            self.ledger.put(row::part_key(id, subscriber), row::encode_part(part, now));
            self.notices.post(Notice::Work(subscriber.clone()));
        }
        book.next += 1;
        self.ledger.put(numbers::next_key(Tag::Job), numbers::encode_next(book.next));
        self.ledger.put(row::key(id), row::encode(&job));
        book.jobs.insert(id, job);
        self.conclude(&mut book, id);
        Ok(id)
    }

    /// Forgets the oldest jobs that are over, so that there is a place for one more.
    fn make_room(&self, book: &mut Book) {
        while book.jobs.len() >= self.max {
            let Some(id) = book.jobs.values().find(|job| job.state.is_over()).map(|job| job.id) else { return };
            book.jobs.remove(&id);
            self.ledger.remove(row::key(id));
        }
    }

    /// All of them that are `state`, or just all, newest first.
    #[must_use]
    pub fn list(&self, passes: impl Fn(&Job) -> bool) -> Vec<Job> {
        self.lock().jobs.values().rev().filter(|job| passes(job)).cloned().collect()
    }

    /// The job `id`.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Job> {
        self.lock().jobs.get(&id).cloned()
    }

    /// Gives the job `id` up: what of it is not under way is dropped. Returns when that is on the disk.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn cancel(&self, id: u64) -> Result<Job, Refused> {
        let job = {
            let mut book = self.lock();
            let job = book.jobs.get_mut(&id).ok_or(Refused::NotFound)?;
            if job.state.is_over() {
                return Err(Refused::Over);
            }
            for subscriber in job.parts.keys().cloned().collect::<Vec<_>>() {
                self.end_part(job, &subscriber);
                self.notices.post(Notice::Cancel { subscriber, job: id });
            }
            self.end(job, State::Cancelled { reason: None });
            job.clone()
        };
        self.letters.settled().await?;
        Ok(job)
    }

    /// Ends what is done for subscribers that are not `known` any more.
    pub fn retain(&self, known: impl Fn(&SubscriberId) -> bool) {
        let mut book = self.lock();
        for job in book.jobs.values_mut().filter(|job| !job.state.is_over()) {
            let gone: Vec<_> = job.parts.keys().filter(|subscriber| !known(subscriber)).cloned().collect();
            gone.iter().for_each(|subscriber| self.end_part(job, subscriber));
            if !gone.is_empty() && job.parts.is_empty() {
                self.end(job, State::Cancelled { reason: Some("the subscriber is gone".into()) });
            } else if !gone.is_empty() {
                self.ledger.put(row::key(job.id), row::encode(job));
            }
        }
    }

    /// What the jobs of `subscriber`, which is interested in `interest`, have for it now: at most [`UNSETTLED_MAX`] records of
    /// each job are out, and `delivery.jobs_bytes_max` bytes of all jobs, beyond which each has one. To be asked when a [`Notice::Work`] says so and when it is resumed; not while it is paused. Each
    /// record is to be told of with [`Jobs::delivered`] or [`Jobs::failed`], or all of them with [`Jobs::lost`].
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn next(&self, subscriber: &SubscriberId, interest: &Interest) -> Result<Vec<Replay>, ReadError> {
        let mut replays = Vec::new();
        for id in self.working_for(subscriber) {
            let before = replays.len();
            while replays.len() == before {
                let Some((step, what, page)) = self.step(id, subscriber, interest) else { break };
                let bytes_max = page.bytes();
                let (journal, asked) = (Arc::clone(&self.journal), step.clone());
                let read = spawn_blocking(move || reading::read(journal.as_ref(), &asked, &what, bytes_max)).await;
                // The pool is gone only when the process stops; whoever waits for this goes too.
                let Ok(read) = read else { return Ok(replays) };
                replays.extend(self.hand_out(id, subscriber, &step, read?));
                // Only now: what was handed out has taken its own.
                drop(page);
            }
        }
        Ok(replays)
    }

    fn working_for(&self, subscriber: &SubscriberId) -> Vec<u64> {
        let is_at_work = |job: &&Job| !job.state.is_over() && job.parts.contains_key(subscriber);
        self.lock().jobs.values().filter(is_at_work).map(|job| job.id).collect()
    }

    fn step(&self, id: u64, subscriber: &SubscriberId, interest: &Interest) -> Option<(Step, What, Page<'_>)> {
        let book = self.lock();
        let job = book.jobs.get(&id)?;
        let part = job.parts.get(subscriber)?;
        let step = part.next()?;
        let page = self.budget.page(subscriber, part.is_idle())?;
        let what = match &job.work {
            Work::Records { patterns, .. } => What::Records(Wanted::new(interest, patterns.clone())),
            Work::Letters { filter, before } => {
                let (found, read_to) = self.letters_of(&step, subscriber, filter, *before);
                What::Letters { found, read_to, filter: filter.clone(), interest: interest.clone() }
            }
        };
        Some((step, what, page))
    }

    /// The dead letters that `step` is about: where their records stand and why they are dead letters.
    fn letters_of(
        &self,
        step: &Step,
        subscriber: &SubscriberId,
        filter: &Filter,
        before: u64,
    ) -> (Vec<(Position, Cause)>, Position) {
        let (candidates, read_to) = match step {
            Step::Again(positions) => {
                let one =
                    |position: &Position| self.letters.candidates(subscriber, (*position, position.plus(1)), before, 1);
                (positions.iter().flat_map(one).collect::<Vec<_>>(), Position::FIRST)
            }
            Step::On { from, end, room } => {
                let found = self.letters.candidates(subscriber, (*from, *end), before, *room);
                let last = found.last().filter(|_| found.len() == *room).map(|last| last.position.plus(1));
                (found, last.unwrap_or(*end))
            }
        };
        let asked = candidates.into_iter().filter(|found| filter.cause.is_none_or(|cause| cause == found.cause));
        (asked.map(|found| (found.position, found.cause)).collect(), read_to)
    }

    /// Takes what was read for `step`, and gives what of it is to be delivered.
    fn hand_out(&self, id: u64, subscriber: &SubscriberId, step: &Step, read: Read) -> Vec<Replay> {
        let now = self.clock.wall();
        let mut book = self.lock();
        let Some(job) = book.jobs.get_mut(&id) else { return Vec::new() };
        let is_letters = matches!(job.work, Work::Letters { .. });
        let Some(part) = job.parts.get_mut(subscriber) else { return Vec::new() };
        let before = part.bytes_out();
        let Read { wanted, broken, unwanted, read_to, .. } = read;
        let found: Vec<_> = wanted.iter().map(|item| (item.position, item.memory_bytes())).collect();
        let accepted = match step {
            Step::Again(asked) => part.read_again(asked, &found, read_to),
            Step::On { from, .. } if part.read_on(*from, &found, read_to) => {
                found.into_iter().map(|(position, _)| position).collect()
            }
            Step::On { .. } => return Vec::new(),
        };
        let mut replays = Vec::new();
        for item in wanted.into_iter().filter(|item| accepted.contains(&item.position)) {
            let position = item.position;
            match is_letters.then(|| self.letters.take(subscriber, position, id)) {
                // It went meanwhile, or another job has it.
                Some(Err(_)) => drop(part.settle(position, Settled::Skipped)),
                Some(Ok(letter)) => {
                    let tag = ReplayTag { job: id, position, dead_letter: Some(letter) };
                    replays.push(Replay { tag, item });
                }
                None => replays.push(Replay { tag: ReplayTag { job: id, position, dead_letter: None }, item }),
            }
        }
        self.bury_broken(subscriber, part, broken);
        for position in unwanted {
            self.letters.delivered(subscriber, position);
            part.count(Settled::Skipped);
        }
        self.budget.change(before, part.bytes_out());
        self.ledger.put(row::part_key(id, subscriber), row::encode_part(part, now));
        job.updated_at = now;
        if job.state == State::Pending && !replays.is_empty() {
            job.state = State::Running;
            self.ledger.put(row::key(id), row::encode(job));
        }
        self.conclude(&mut book, id);
        replays
    }

    /// Buries what the filter cannot judge: it is not delivered, and nobody may decide in the filter's place.
    fn bury_broken(&self, subscriber: &SubscriberId, part: &mut Part, broken: Vec<(Item, String)>) {
        for (item, detail) in broken {
            let failure = Failure { status: None, code: "filter_failed", detail, answer: bytes::Bytes::new() };
            let burial = Burial { item, attempts: 0, failure, reason: Reason::Expression, is_halting: false };
            self.letters.bury(subscriber, burial);
            part.count(Settled::Failed);
        }
    }

    /// Notes that a record of a job was delivered: a dead letter of it is dealt with.
    pub fn delivered(&self, subscriber: &SubscriberId, tag: ReplayTag) {
        self.letters.delivered(subscriber, tag.position);
        self.settle(subscriber, tag, Settled::Delivered);
    }

    /// Notes that a record of a job failed for good once more, after [`DeadLetters::bury`] was told.
    pub fn failed(&self, subscriber: &SubscriberId, tag: ReplayTag) {
        self.settle(subscriber, tag, Settled::Failed);
    }

    fn settle(&self, subscriber: &SubscriberId, tag: ReplayTag, settled: Settled) {
        let now = self.clock.wall();
        let mut book = self.lock();
        // What comes of a cancelled job's last attempts is counted nowhere.
        let Some(job) = book.jobs.get_mut(&tag.job) else { return };
        let Some(part) = job.parts.get_mut(subscriber) else { return };
        let before = part.bytes_out();
        if !part.settle(tag.position, settled) {
            return;
        }
        self.budget.change(before, part.bytes_out());
        if part.wants_more() {
            self.notices.post(Notice::Work(subscriber.clone()));
        }
        self.ledger.put(row::part_key(tag.job, subscriber), row::encode_part(part, now));
        job.updated_at = now;
        self.conclude(&mut book, tag.job);
    }

    /// Notes that what was handed out to `subscriber` and is not settled is to be handed out again.
    pub fn lost(&self, subscriber: &SubscriberId) {
        let mut book = self.lock();
        let at_work = book.jobs.values_mut().filter(|job| !job.state.is_over());
        for part in at_work.filter_map(|job| job.parts.get_mut(subscriber)) {
            self.budget.change(part.bytes_out(), 0);
            part.lose();
            self.notices.post(Notice::Work(subscriber.clone()));
        }
    }

    /// Ends the job `id` where, or altogether if, there is nothing left to do.
    fn conclude(&self, book: &mut Book, id: u64) {
        let Some(job) = book.jobs.get_mut(&id).filter(|job| !job.state.is_over()) else { return };
        let is_done = |subscriber: &&SubscriberId| job.parts.get(*subscriber).is_some_and(Part::is_done);
        let done: Vec<_> = job.parts.keys().filter(is_done).cloned().collect();
        for subscriber in &done {
            if let Work::Records { resolves: Some(letter), .. } = job.work {
                self.letters.delivered_all(subscriber, letter);
            }
            self.end_part(job, subscriber);
        }
        if job.parts.is_empty() {
            self.end(job, State::Completed);
        } else if !done.is_empty() {
            self.ledger.put(row::key(id), row::encode(job));
        }
    }

    /// Ends what `job` does at `subscriber`; dead letters that it has not settled are free for others.
    fn end_part(&self, job: &mut Job, subscriber: &SubscriberId) {
        self.budget.change(job.parts.get(subscriber).map_or(0, Part::bytes_out), 0);
        let unsettled = job.end_part(subscriber);
        self.letters.leave(subscriber, unsettled, job.id);
        self.ledger.remove(row::part_key(job.id, subscriber));
    }

    fn end(&self, job: &mut Job, state: State) {
        job.state = state;
        job.updated_at = self.clock.wall();
        self.ledger.put(row::key(job.id), row::encode(job));
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }
}

/// Notes that `job` has the dead letters which `part` has met and not settled. Gives the job that has one of them already, if
/// there is one.
fn take_letters(letters: &DeadLetters, job: &Job, subscriber: &SubscriberId, part: &Part) -> Option<u64> {
    match &job.work {
        Work::Letters { .. } => {
            let taken: Vec<_> = part.unsettled().map(|position| letters.take(subscriber, position, job.id)).collect();
            taken.into_iter().find_map(|taken| taken.err()?)
        }
        Work::Records { resolves: Some(letter), .. } => letters.take_all(subscriber, *letter, job.id).err()?,
        Work::Records { resolves: None, .. } => None,
    }
}
