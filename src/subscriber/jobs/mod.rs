//! Jobs: what is delivered again because somebody asked for it, be it dead letters or all events of
//! a time.
//!
//! ```text
//!  API ──> job ── part for each subscriber ──Work──> stage ──next──> 64 records at most ──Replay──> subscriber's delivery
//!            │                                                                                      │
//!            └── progress <── delivered / failed (its dead letter goes or is renewed) <─────────────┘
//! ```
//!
//! What is delivered again keeps its `webhook-id`. A job goes on after a restart with what was not
//! settled.

mod budget;
mod job;
mod part;
mod step_reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::task::spawn_blocking;

pub use job::{JobKind, JobScope, JobState, RecoveryJob};
pub use part::{JobCounts, JobRecordOutcome, UNSETTLED_MAX};

pub(crate) use part::JobPart;

use super::checkpoint::CheckpointBuffer;
use super::dead_letters::{
    DeadLetterCause, DeadLetterReadError, DeadLetterStore, DeadLetterSubject, Filter,
    ListedDeadLetter, NewDeadLetter,
};
use super::delivery::{GiveUpReason, ReplayItem, ReplayTag};
use super::stage_requests::{StageRequest, StageRequestQueue};
use super::tables::{DeliveryTables, TableTag, dead_letters as numbers, jobs as row};
use super::{AttemptFailure, OutboundRecord, RecoveryDeps, SubscriberId};
use crate::clock::Clock;
use crate::event::{Position, Timestamp};
use crate::journal::{Journal, JournalReadError, StoreWriteError};
use crate::subscription::{Pattern, SubscriberInterest};
use budget::{BudgetReservation, ReplayBudget};
use part::JobStep;
use step_reader::{ReplayFilter, StepRecords, StepSource};

/// Why a job was not made or not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is no such dead letter.
    #[error("there is no such dead letter")]
    NoDeadLetter,
    /// There is no such job.
    #[error("there is no such job")]
    NotFound,
    /// It is over.
    #[error("the job is over")]
    Finished,
    /// There are too many that are not over.
    #[error(
        "{0} jobs are not over yet; wait for them or cancel some, delivery.jobs_max allows no more"
    )]
    TooMany(usize),
    /// The dead letters or the journal cannot be read, or the job not written.
    #[error(transparent)]
    Unavailable(#[from] DeadLetterReadError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
}

/// All jobs of one opening of the store.
pub struct JobRegistry {
    book: Mutex<JobTable>,
    letters: Arc<DeadLetterStore>,
    journal: Arc<dyn Journal>,
    ledger: Arc<CheckpointBuffer>,
    notices: Arc<StageRequestQueue>,
    clock: Arc<dyn Clock>,
    budget: ReplayBudget,
    max: usize,
}

#[derive(Debug, Default)]
struct JobTable {
    jobs: BTreeMap<u64, RecoveryJob>,
    /// The number that the next one gets.
    next: u64,
}

impl std::fmt::Debug for JobRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jobs")
    }
}

impl JobRegistry {
    /// Those in `rows`, of which there are to be `max` at most, with `bytes_max` bytes of records
    /// out; those that are not over go on. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn open(
        rows: &DeliveryTables,
        letters: Arc<DeadLetterStore>,
        journal: Arc<dyn Journal>,
        (ledger, notices, clock): RecoveryDeps,
        (max, bytes_max): (usize, usize),
    ) -> Result<Arc<Self>, StoreWriteError> {
        let jobs: BTreeMap<u64, RecoveryJob> =
            rows.jobs()?.into_iter().map(|job| (job.id, job)).collect();
        for job in jobs.values().filter(|job| !job.state.is_finished()) {
            for (subscriber, part) in &job.parts {
                // A dead letter that is gone, or held by another job, is settled when its record is
                // read again.
                let _ = claim_letters(&letters, job, subscriber, part);
                notices.post(StageRequest::ReplaysAvailable(subscriber.clone()));
            }
        }
        let next = rows.next_id(TableTag::Job)?;
        let book = Mutex::new(JobTable { jobs, next });
        let budget = ReplayBudget::new(bytes_max, Arc::clone(&notices));
        Ok(Arc::new(Self {
            book,
            letters,
            journal,
            ledger,
            notices,
            clock,
            budget,
            max,
        }))
    }

    /// Has the dead letter `id` delivered again; gives the job that does so already, if there is
    /// one.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn retry_dead_letter(&self, id: u64) -> Result<RecoveryJob, JobError> {
        let ListedDeadLetter { letter, .. } =
            self.letters.get(id).await?.ok_or(JobError::NoDeadLetter)?;
        let subscriber = letter.subscriber;
        let (work, part) = match letter.subject {
            DeadLetterSubject::Event(delivery) => {
                let filter = Filter {
                    subscriber: Some(subscriber.clone()),
                    ..Filter::default()
                };
                (
                    JobScope::Letters {
                        filter,
                        before: id + 1,
                    },
                    JobPart::for_record(delivery.position),
                )
            }
            DeadLetterSubject::Range { first, last, .. } => {
                let (patterns, resolves) = (Vec::new(), Some(id));
                let work = JobScope::Records {
                    since: None,
                    until: None,
                    patterns,
                    resolves,
                };
                (work, JobPart::new(first, last.plus(1), None))
            }
        };
        self.start_job(
            JobKind::Retry,
            Some(subscriber.clone()),
            work,
            BTreeMap::from([(subscriber, part)]),
        )
        .await
    }

    /// Has the dead letters that pass `filter` delivered again.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn retry_dead_letters(&self, filter: Filter) -> Result<RecoveryJob, JobError> {
        self.retry_matching(JobKind::Retry, filter).await
    }

    /// Has what failed at `subscriber` delivered again, of the events that were received from
    /// `since` to before `until`.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn recover_failed_events(
        &self,
        subscriber: SubscriberId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<RecoveryJob, JobError> {
        self.retry_matching(
            JobKind::Recover,
            Filter {
                subscriber: Some(subscriber),
                since,
                until,
                ..Filter::default()
            },
        )
        .await
    }

    async fn retry_matching(&self, kind: JobKind, filter: Filter) -> Result<RecoveryJob, JobError> {
        let before = self.letters.next_id();
        let end = *self.journal.durable_end().borrow();
        let totals = self.letters.count_by_subscriber(filter.clone()).await?;
        let part =
            |(subscriber, total)| (subscriber, JobPart::new(Position::FIRST, end, Some(total)));
        let parts = totals.into_iter().map(part).collect();
        self.start_job(
            kind,
            filter.subscriber.clone(),
            JobScope::Letters { filter, before },
            parts,
        )
        .await
    }

    /// Has all that `subscriber` wants delivered again, of the events that were received from
    /// `since` to before `until` and that one of `patterns` admits, if there are any.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn replay_events(
        &self,
        subscriber: SubscriberId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        patterns: Vec<Pattern>,
    ) -> Result<RecoveryJob, JobError> {
        let journal = Arc::clone(&self.journal);
        let range = spawn_blocking(move || {
            let end = *journal.durable_end().borrow();
            let from = since.map_or(Ok(Position::FIRST), |since| {
                step_reader::find_position_at(journal.as_ref(), since, end)
            })?;
            let end = until.map_or(Ok(end), |until| {
                step_reader::find_position_at(journal.as_ref(), until, end)
            })?;
            Ok::<_, JournalReadError>((from, end))
        });
        let (from, end) = range.await.map_err(|_| DeadLetterReadError::Cancelled)??;
        let work = JobScope::Records {
            since,
            until,
            patterns,
            resolves: None,
        };
        let parts = BTreeMap::from([(subscriber.clone(), JobPart::new(from, end, None))]);
        self.start_job(JobKind::Replay, Some(subscriber), work, parts)
            .await
    }

    /// Takes a job on, and returns when it would survive the end of the process.
    async fn start_job(
        &self,
        kind: JobKind,
        subscriber: Option<SubscriberId>,
        work: JobScope,
        parts: BTreeMap<SubscriberId, JobPart>,
    ) -> Result<RecoveryJob, JobError> {
        let id = self.register_job(kind, subscriber, work, parts)?;
        self.letters.flush().await?;
        self.get(id).ok_or(JobError::NotFound)
    }

    fn register_job(
        &self,
        kind: JobKind,
        subscriber: Option<SubscriberId>,
        work: JobScope,
        parts: BTreeMap<SubscriberId, JobPart>,
    ) -> Result<u64, JobError> {
        let now = self.clock.wall();
        let mut book = self.lock();
        let not_over = book
            .jobs
            .values()
            .filter(|job| !job.state.is_finished())
            .count();
        if not_over >= self.max {
            return Err(JobError::TooMany(not_over));
        }
        self.evict_finished(&mut book);
        let id = book.next;
        let (state, ended) = (JobState::Pending, JobCounts::default());
        let job = RecoveryJob {
            id,
            kind,
            subscriber,
            scope: work,
            state,
            created_at: now,
            updated_at: now,
            ended,
            parts,
        };
        for (subscriber, part) in &job.parts {
            match claim_letters(&self.letters, &job, subscriber, part) {
                Ok(()) => {}
                Err(Some(earlier)) => return Ok(earlier),
                // Removed since it was looked up. A job that never held it must not wait for it:
                // after a restart the job would take it for delivered.
                Err(None) => return Err(JobError::NoDeadLetter),
            }
            self.ledger.put(
                row::job_part_key(id, subscriber),
                row::encode_job_part(part, now),
            );
            self.notices
                .post(StageRequest::ReplaysAvailable(subscriber.clone()));
        }
        book.next += 1;
        self.ledger.put(
            numbers::next_id_key(TableTag::Job),
            numbers::encode_next_id(book.next),
        );
        self.ledger.put(row::job_key(id), row::encode_job(&job));
        book.jobs.insert(id, job);
        self.finish_done_parts(&mut book, id);
        Ok(id)
    }

    /// Forgets the oldest jobs that are over, so that there is a place for one more.
    fn evict_finished(&self, book: &mut JobTable) {
        while book.jobs.len() >= self.max {
            let Some(id) = book
                .jobs
                .values()
                .find(|job| job.state.is_finished())
                .map(|job| job.id)
            else {
                return;
            };
            book.jobs.remove(&id);
            self.ledger.remove(row::job_key(id));
        }
    }

    /// All of them that are `state`, or just all, newest first.
    #[must_use]
    pub fn list_jobs(&self, passes: impl Fn(&RecoveryJob) -> bool) -> Vec<RecoveryJob> {
        self.lock()
            .jobs
            .values()
            .rev()
            .filter(|job| passes(job))
            .cloned()
            .collect()
    }

    /// The job `id`.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<RecoveryJob> {
        self.lock().jobs.get(&id).cloned()
    }

    /// Gives the job `id` up: what of it is not under way is dropped. Returns when that is on the
    /// disk.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn cancel(&self, id: u64) -> Result<RecoveryJob, JobError> {
        let job = {
            let mut book = self.lock();
            let job = book.jobs.get_mut(&id).ok_or(JobError::NotFound)?;
            if job.state.is_finished() {
                return Err(JobError::Finished);
            }
            for subscriber in job.parts.keys().cloned().collect::<Vec<_>>() {
                self.end_part(job, &subscriber);
                self.notices.post(StageRequest::JobCancelled {
                    subscriber,
                    job: id,
                });
            }
            self.finish_job(job, JobState::Cancelled { reason: None });
            job.clone()
        };
        self.letters.flush().await?;
        Ok(job)
    }

    /// Ends what is done for subscribers that are not `known` any more.
    pub fn retain_subscribers(&self, known: impl Fn(&SubscriberId) -> bool) {
        let mut book = self.lock();
        for job in book
            .jobs
            .values_mut()
            .filter(|job| !job.state.is_finished())
        {
            let gone: Vec<_> = job
                .parts
                .keys()
                .filter(|subscriber| !known(subscriber))
                .cloned()
                .collect();
            gone.iter()
                .for_each(|subscriber| self.end_part(job, subscriber));
            if !gone.is_empty() && job.parts.is_empty() {
                self.finish_job(
                    job,
                    JobState::Cancelled {
                        reason: Some("the subscriber is gone".into()),
                    },
                );
            } else if !gone.is_empty() {
                self.ledger.put(row::job_key(job.id), row::encode_job(job));
            }
        }
    }

    /// What the jobs of `subscriber`, which is interested in `interest`, have for it now: at most
    /// [`UNSETTLED_MAX`] records of each job are out, and `delivery.jobs_bytes_max` bytes of all
    /// jobs, beyond which each has one. To be asked when a [`Notice::Work`] says so and when it is
    /// resumed; not while it is paused. Each record is to be told of with [`Jobs::delivered`] or
    /// [`Jobs::failed`], or all of them with [`Jobs::lost`].
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn take_replays(
        &self,
        subscriber: &SubscriberId,
        interest: &SubscriberInterest,
    ) -> Result<Vec<ReplayItem>, JournalReadError> {
        let mut replays = Vec::new();
        for id in self.active_jobs_of(subscriber) {
            let before = replays.len();
            while replays.len() == before {
                let Some((step, what, page)) = self.plan_step(id, subscriber, interest) else {
                    break;
                };
                let bytes_max = page.bytes();
                let (journal, asked) = (Arc::clone(&self.journal), step.clone());
                let read = spawn_blocking(move || {
                    step_reader::read_step(journal.as_ref(), &asked, &what, bytes_max)
                })
                .await;
                // The pool is gone only when the process stops; whoever waits for this goes too.
                let Ok(read) = read else { return Ok(replays) };
                replays.extend(self.hand_out(id, subscriber, &step, read?));
                // Only now: what was handed out has taken its own.
                drop(page);
            }
        }
        Ok(replays)
    }

    fn active_jobs_of(&self, subscriber: &SubscriberId) -> Vec<u64> {
        let is_at_work =
            |job: &&RecoveryJob| !job.state.is_finished() && job.parts.contains_key(subscriber);
        self.lock()
            .jobs
            .values()
            .filter(is_at_work)
            .map(|job| job.id)
            .collect()
    }

    fn plan_step(
        &self,
        id: u64,
        subscriber: &SubscriberId,
        interest: &SubscriberInterest,
    ) -> Option<(JobStep, StepSource, BudgetReservation<'_>)> {
        let book = self.lock();
        let job = book.jobs.get(&id)?;
        let part = job.parts.get(subscriber)?;
        let step = part.next_step()?;
        let page = self.budget.reserve_page(subscriber, part.is_idle())?;
        let what = match &job.scope {
            JobScope::Records { patterns, .. } => {
                StepSource::Records(ReplayFilter::new(interest, patterns.clone()))
            }
            JobScope::Letters { filter, before } => {
                let (found, read_to) = self.find_step_letters(&step, subscriber, filter, *before);
                StepSource::Letters {
                    found,
                    read_to,
                    filter: filter.clone(),
                    interest: interest.clone(),
                }
            }
        };
        Some((step, what, page))
    }

    /// The dead letters that `step` is about: where their records stand and why they are dead
    /// letters.
    fn find_step_letters(
        &self,
        step: &JobStep,
        subscriber: &SubscriberId,
        filter: &Filter,
        before: u64,
    ) -> (Vec<(Position, DeadLetterCause)>, Position) {
        let (candidates, read_to) = match step {
            JobStep::Reread(positions) => {
                let one = |position: &Position| {
                    self.letters.recovery_candidates(
                        subscriber,
                        (*position, position.plus(1)),
                        before,
                        1,
                    )
                };
                (
                    positions.iter().flat_map(one).collect::<Vec<_>>(),
                    Position::FIRST,
                )
            }
            JobStep::ReadOn { from, end, room } => {
                let found =
                    self.letters
                        .recovery_candidates(subscriber, (*from, *end), before, *room);
                let last = found
                    .last()
                    .filter(|_| found.len() == *room)
                    .map(|last| last.position.plus(1));
                (found, last.unwrap_or(*end))
            }
        };
        let asked = candidates
            .into_iter()
            .filter(|found| filter.cause.is_none_or(|cause| cause == found.cause));
        (
            asked.map(|found| (found.position, found.cause)).collect(),
            read_to,
        )
    }

    /// Takes what was read for `step`, and gives what of it is to be delivered.
    fn hand_out(
        &self,
        id: u64,
        subscriber: &SubscriberId,
        step: &JobStep,
        read: StepRecords,
    ) -> Vec<ReplayItem> {
        let now = self.clock.wall();
        let mut book = self.lock();
        let Some(job) = book.jobs.get_mut(&id) else {
            return Vec::new();
        };
        let is_letters = matches!(job.scope, JobScope::Letters { .. });
        let Some(part) = job.parts.get_mut(subscriber) else {
            return Vec::new();
        };
        let before = part.in_flight_bytes();
        let StepRecords {
            wanted,
            broken,
            unwanted,
            read_to,
            ..
        } = read;
        let found: Vec<_> = wanted
            .iter()
            .map(|item| (item.position, item.memory_bytes()))
            .collect();
        // The job still holds the dead letters of the positions it reads again: discarding such a
        // dead letter is refused. One that is gone was therefore removed by a delivery, and a crash
        // came before the job's row said so.
        let was_delivered = |position: Position| match &job.scope {
            JobScope::Letters { before, .. } => {
                let record = (position, position.plus(1));
                let left = self
                    .letters
                    .recovery_candidates(subscriber, record, *before, 1);
                left.is_empty()
            }
            JobScope::Records { .. } => false,
        };
        let gone = match step {
            JobStep::Reread(_) => JobRecordOutcome::Delivered,
            JobStep::ReadOn { .. } => JobRecordOutcome::Skipped,
        };
        let accepted = match step {
            JobStep::Reread(asked) => part.accept_reread(asked, &found, read_to, was_delivered),
            JobStep::ReadOn { from, .. } if part.accept_read(*from, &found, read_to) => {
                found.into_iter().map(|(position, _)| position).collect()
            }
            JobStep::ReadOn { .. } => return Vec::new(),
        };
        let mut replays = Vec::new();
        for item in wanted
            .into_iter()
            .filter(|item| accepted.contains(&item.position))
        {
            let position = item.position;
            match is_letters.then(|| self.letters.claim_for_job(subscriber, position, id)) {
                Some(Err(holder)) => {
                    // Another job delivers it, or the dead letter was removed while its record was
                    // being read.
                    let outcome = holder.map_or(gone, |_| JobRecordOutcome::Skipped);
                    part.settle_position(position, outcome);
                }
                Some(Ok(letter)) => {
                    let tag = ReplayTag {
                        job: id,
                        position,
                        dead_letter: Some(letter),
                    };
                    replays.push(ReplayItem { tag, item });
                }
                None => replays.push(ReplayItem {
                    tag: ReplayTag {
                        job: id,
                        position,
                        dead_letter: None,
                    },
                    item,
                }),
            }
        }
        self.add_broken_to_dead_letters(subscriber, part, broken);
        for position in unwanted {
            // A dead letter that another job holds is that job's to settle; if it vanished, the
            // other job would take it for delivered.
            if self.letters.claim_for_job(subscriber, position, id).is_ok() {
                self.letters.remove_delivered(subscriber, position);
            }
            part.count_settled(JobRecordOutcome::Skipped);
        }
        self.budget.adjust_usage(before, part.in_flight_bytes());
        self.ledger.put(
            row::job_part_key(id, subscriber),
            row::encode_job_part(part, now),
        );
        job.updated_at = now;
        if job.state == JobState::Pending && !replays.is_empty() {
            job.state = JobState::Running;
            self.ledger.put(row::job_key(id), row::encode_job(job));
        }
        self.finish_done_parts(&mut book, id);
        replays
    }

    /// Buries what the filter cannot judge: it is not delivered, and nobody may decide in the
    /// filter's place.
    fn add_broken_to_dead_letters(
        &self,
        subscriber: &SubscriberId,
        part: &mut JobPart,
        broken: Vec<(OutboundRecord, String)>,
    ) {
        for (item, detail) in broken {
            let failure = AttemptFailure {
                status: None,
                code: "filter_failed",
                detail,
                answer: bytes::Bytes::new(),
            };
            let burial = NewDeadLetter {
                item,
                attempts: 0,
                failure,
                reason: GiveUpReason::Expression,
                is_halting: false,
            };
            self.letters.add(subscriber, burial);
            part.count_settled(JobRecordOutcome::Failed);
        }
    }

    /// Notes that a record of a job was delivered; the record's dead letter is removed.
    pub fn record_delivered(&self, subscriber: &SubscriberId, tag: ReplayTag) {
        // A checkpoint may be taken between the two. This order keeps the position in the job's
        // row, so that the job counts it after a crash; the other order would leave a dead letter
        // that its job has settled.
        self.letters.remove_delivered(subscriber, tag.position);
        self.settle_record(subscriber, tag, JobRecordOutcome::Delivered);
    }

    /// Notes that a record of a job failed for good once more, after [`DeadLetters::bury`] was
    /// told.
    pub fn failed(&self, subscriber: &SubscriberId, tag: ReplayTag) {
        self.settle_record(subscriber, tag, JobRecordOutcome::Failed);
    }

    fn settle_record(&self, subscriber: &SubscriberId, tag: ReplayTag, settled: JobRecordOutcome) {
        let now = self.clock.wall();
        let mut book = self.lock();
        // What comes of a cancelled job's last attempts is counted nowhere.
        let Some(job) = book.jobs.get_mut(&tag.job) else {
            return;
        };
        let Some(part) = job.parts.get_mut(subscriber) else {
            return;
        };
        let before = part.in_flight_bytes();
        if !part.settle_position(tag.position, settled) {
            return;
        }
        self.budget.adjust_usage(before, part.in_flight_bytes());
        if part.needs_reading() {
            self.notices
                .post(StageRequest::ReplaysAvailable(subscriber.clone()));
        }
        self.ledger.put(
            row::job_part_key(tag.job, subscriber),
            row::encode_job_part(part, now),
        );
        job.updated_at = now;
        self.finish_done_parts(&mut book, tag.job);
    }

    /// Notes that what was handed out to `subscriber` and is not settled is to be handed out again.
    pub fn lost(&self, subscriber: &SubscriberId) {
        let mut book = self.lock();
        let at_work = book
            .jobs
            .values_mut()
            .filter(|job| !job.state.is_finished());
        for part in at_work.filter_map(|job| job.parts.get_mut(subscriber)) {
            self.budget.adjust_usage(part.in_flight_bytes(), 0);
            part.requeue_in_flight();
            self.notices
                .post(StageRequest::ReplaysAvailable(subscriber.clone()));
        }
    }

    /// Ends the job `id` where, or altogether if, there is nothing left to do.
    fn finish_done_parts(&self, book: &mut JobTable, id: u64) {
        let Some(job) = book
            .jobs
            .get_mut(&id)
            .filter(|job| !job.state.is_finished())
        else {
            return;
        };
        let is_done =
            |subscriber: &&SubscriberId| job.parts.get(*subscriber).is_some_and(JobPart::is_done);
        let done: Vec<_> = job.parts.keys().filter(is_done).cloned().collect();
        for subscriber in &done {
            if let JobScope::Records {
                resolves: Some(letter),
                ..
            } = job.scope
            {
                self.letters.remove_delivered_range(subscriber, letter);
            }
            self.end_part(job, subscriber);
        }
        if job.parts.is_empty() {
            self.finish_job(job, JobState::Completed);
        } else if !done.is_empty() {
            self.ledger.put(row::job_key(id), row::encode_job(job));
        }
    }

    /// Ends what `job` does at `subscriber`; dead letters that it has not settled are free for
    /// others.
    fn end_part(&self, job: &mut RecoveryJob, subscriber: &SubscriberId) {
        self.budget.adjust_usage(
            job.parts
                .get(subscriber)
                .map_or(0, JobPart::in_flight_bytes),
            0,
        );
        let unsettled = job.end_part(subscriber);
        self.letters.release_from_job(subscriber, unsettled, job.id);
        self.ledger.remove(row::job_part_key(job.id, subscriber));
    }

    fn finish_job(&self, job: &mut RecoveryJob, state: JobState) {
        job.state = state;
        job.updated_at = self.clock.wall();
        self.ledger.put(row::job_key(job.id), row::encode_job(job));
    }

    fn lock(&self) -> MutexGuard<'_, JobTable> {
        self.book.lock()
    }
}

/// Claims for `job` the dead letters of the positions that `part` has not settled.
///
/// # Errors
/// The other job that holds one of them; `None` if one of them is gone. The rest is claimed.
fn claim_letters(
    letters: &DeadLetterStore,
    job: &RecoveryJob,
    subscriber: &SubscriberId,
    part: &JobPart,
) -> Result<(), Option<u64>> {
    match &job.scope {
        JobScope::Letters { .. } => part.unsettled().fold(Ok(()), |claimed, position| {
            let this = letters.claim_for_job(subscriber, position, job.id);
            claimed.and(this.map(drop))
        }),
        JobScope::Records {
            resolves: Some(letter),
            ..
        } => letters.claim_range_for_job(subscriber, *letter, job.id),
        JobScope::Records { resolves: None, .. } => Ok(()),
    }
}
