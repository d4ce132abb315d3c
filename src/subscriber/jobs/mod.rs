//! Jobs: deliver dead letters, or all events of a time, again at an operator's request.
//!
//! ```text
//!  API ──> job ──> part for each subscriber ──ReplaysAvailable──> stage
//!                    ^                                             │ take_replays, at most 64
//!                    │                                             v
//!                    └── record_delivered, record_failed ── subscriber's delivery
//!                        (dead letter removed or renewed)
//! ```
//!
//! A record that is delivered again keeps its `webhook-id`. After a restart a job goes on with the
//! records that were not settled.

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
use tracing::error;

pub use job::{JobKind, JobScope, JobState, RedeliveryJob};
pub use part::{JobCounts, JobRecordOutcome, UNSETTLED_MAX};

pub(crate) use part::JobPart;

use super::checkpoint::CheckpointBuffer;
use super::dead_letters::{
    DeadLetterCause, DeadLetterFilter, DeadLetterPlace, DeadLetterReadError, DeadLetterStore,
    DeadLetterSubject, ListedDeadLetter, NewDeadLetter,
};
use super::delivery::{ReplayItem, ReplayTag};
use super::expression_shares::ExpressionShares;
use super::stage_error::DeliveryStageError;
use super::stage_requests::{StageRequest, StageRequestQueue};
use super::subscriber_set::SubscriberMatcher;
use super::tables::dead_letters::{encode_next_id, next_id_key};
use super::tables::jobs::{encode_job, encode_job_part, job_key, job_part_key};
use super::tables::{DeliveryTables, TableTag};
use super::{AttemptFailure, OutboundRecord, RedeliveryDeps, SubscriberId};
use crate::clock::Clock;
use crate::derived::DerivedStoreError;
use crate::event::{Position, Record, Timestamp};
use crate::journal::{Journal, JournalReadError, find_position_at};
use crate::projection::ProjectionReadError;
use crate::subscription::{Pattern, SubscriberInterest};
use budget::{BudgetReservation, ReplayBudget};
use part::JobStep;
use step_reader::{StepRecords, StepSource};

/// Error for which a job is not created or not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// No dead letter has the given id.
    #[error("there is no such dead letter")]
    NoDeadLetter,
    /// No job has the given id.
    #[error("there is no such job")]
    NotFound,
    /// The job is completed or cancelled already.
    #[error("the job is over")]
    Finished,
    /// As many jobs as `delivery.jobs_max` allows are pending or running.
    #[error(
        "{0} jobs are not over yet; wait for them or cancel some, delivery.jobs_max allows no more"
    )]
    TooMany(usize),
    /// The event of the dead letter has lost its content by retention, at this time.
    #[error("the content of this event was removed at {0} by the retention of its source")]
    ContentRemoved(Timestamp),
    /// Dead letters cannot be read, or the job cannot be written.
    #[error(transparent)]
    Unavailable(#[from] DeadLetterReadError),
    /// The journal cannot be read for the job.
    #[error(transparent)]
    Journal(#[from] JournalReadError),
}

/// All jobs of an open store.
pub struct JobRegistry {
    table: Mutex<JobTable>,
    dead_letters: Arc<DeadLetterStore>,
    journal: Arc<dyn Journal>,
    checkpoints: Arc<CheckpointBuffer>,
    requests: Arc<StageRequestQueue>,
    clock: Arc<dyn Clock>,
    budget: ReplayBudget,
    max: usize,
}

#[derive(Debug, Default)]
struct JobTable {
    jobs: BTreeMap<u64, RedeliveryJob>,
    /// Id that the next job gets.
    next_id: u64,
}

impl std::fmt::Debug for JobRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobRegistry")
    }
}

impl JobRegistry {
    /// Loads the jobs from `tables` and resumes those that have not ended. At most `max` jobs are
    /// kept, with at most `bytes_max` bytes of records in flight. Blocks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(
        tables: &DeliveryTables,
        dead_letters: Arc<DeadLetterStore>,
        journal: Arc<dyn Journal>,
        (checkpoints, requests, clock): RedeliveryDeps,
        (max, bytes_max): (usize, usize),
    ) -> Result<Arc<Self>, DerivedStoreError> {
        let jobs: BTreeMap<u64, RedeliveryJob> = tables
            .jobs()?
            .into_iter()
            .map(|job| (job.id, job))
            .collect();
        for job in jobs.values().filter(|job| !job.state.is_finished()) {
            for (subscriber, part) in &job.parts {
                // A dead letter that is gone or held by another job is settled by the next read.
                let _ = claim_letters(&dead_letters, job, subscriber, part);
                requests.post(subscriber, StageRequest::ReplaysAvailable);
            }
        }

        let next_id = tables.next_id(TableTag::Job)?;
        let table = Mutex::new(JobTable { jobs, next_id });
        let budget = ReplayBudget::new(bytes_max, Arc::clone(&requests));
        Ok(Arc::new(Self {
            table,
            dead_letters,
            journal,
            checkpoints,
            requests,
            clock,
            budget,
            max,
        }))
    }

    /// Starts a job that delivers the dead letter `id` again. If a job holds it already, that job
    /// is returned.
    ///
    /// # Errors
    /// There is no such dead letter, there are too many jobs, or the store fails.
    pub async fn retry_dead_letter(&self, id: u64) -> Result<RedeliveryJob, JobError> {
        let ListedDeadLetter { letter, .. } = self
            .dead_letters
            .get(id)
            .await?
            .ok_or(JobError::NoDeadLetter)?;
        let subscriber = letter.subscriber;
        let (scope, part) = match letter.subject {
            DeadLetterSubject::Event(delivery) => {
                self.check_content(delivery.position).await?;
                let filter = DeadLetterFilter {
                    subscriber: Some(subscriber.clone()),
                    ..DeadLetterFilter::default()
                };
                let before = id + 1;
                let part = JobPart::for_record(delivery.position);
                (JobScope::Letters { filter, before }, part)
            }
            DeadLetterSubject::Range(missed) => {
                // Only records that retention has left are delivered.
                let start = self.journal.start();
                let (first, last) = missed.bounds().ok_or(JobError::NoDeadLetter)?;
                if last < start.position {
                    let removed = JournalReadError::Removed {
                        position: last,
                        start,
                    };
                    return Err(removed.into());
                }
                let first = first.max(start.position);
                let scope = JobScope::Records {
                    patterns: Vec::new(),
                    resolves: Some(id),
                };
                // Records may be added to the dead letter until the job holds it.
                let end = *self.journal.durable_end().borrow();
                (scope, JobPart::new(first, end.max(last.plus(1)), None))
            }
        };

        let parts = BTreeMap::from([(subscriber.clone(), part)]);
        self.start_job(JobKind::Retry, Some(subscriber), scope, parts)
            .await
    }

    /// Refuses to deliver the record at `position` if retention has removed its content.
    async fn check_content(&self, position: Position) -> Result<(), JobError> {
        let journal = Arc::clone(&self.journal);
        let read = spawn_blocking(move || {
            let frame = journal.read_frame_at(position)?;
            let entry = frame.as_ref().and_then(|frame| frame.entry(position));
            let record = entry.and_then(|entry| Record::decode(&entry.bytes).ok());
            Ok::<_, JournalReadError>(record.and_then(|record| record.content_expired_at()))
        });
        let removed_at = read.await.map_err(|_| DeadLetterReadError::Cancelled)??;
        removed_at.map_or(Ok(()), |at| Err(JobError::ContentRemoved(at)))
    }

    /// Starts a job of `kind` that delivers the dead letters which pass `filter` again.
    ///
    /// # Errors
    /// There are too many jobs, or the store fails.
    pub async fn retry_dead_letters(
        &self,
        kind: JobKind,
        mut filter: DeadLetterFilter,
    ) -> Result<RedeliveryJob, JobError> {
        // Dead letters that are added from now on are not part of the request.
        let before = self.dead_letters.next_id();
        let before = filter.before_id.map_or(before, |wanted| before.min(wanted));
        let end = *self.journal.durable_end().borrow();
        let totals = self.dead_letters.count_by_subscriber(&filter);

        let part =
            |(subscriber, total)| (subscriber, JobPart::new(Position::FIRST, end, Some(total)));
        let parts = totals.into_iter().map(part).collect();
        // The scope has the bound itself.
        filter.before_id = None;
        let subscriber = filter.subscriber.clone();
        self.start_job(
            kind,
            subscriber,
            JobScope::Letters { filter, before },
            parts,
        )
        .await
    }

    /// Starts a job that delivers all events again which match the interest of `subscriber`, were
    /// received from `since` to before `until`, and match one of `patterns` (all events if empty).
    ///
    /// # Errors
    /// There are too many jobs, or the journal or store fails.
    pub async fn replay_events(
        &self,
        subscriber: SubscriberId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        patterns: Vec<Pattern>,
    ) -> Result<RedeliveryJob, JobError> {
        let journal = Arc::clone(&self.journal);
        let range = spawn_blocking(move || {
            let (start, end) = (journal.start(), *journal.durable_end().borrow());
            let from = since.map_or(Ok(start.position), |since| {
                find_position_at(journal.as_ref(), since, end)
            })?;
            let end = until.map_or(Ok(end), |until| {
                find_position_at(journal.as_ref(), until, end)
            })?;
            // A time that ended before the first kept record has nothing to replay.
            let is_removed = until.is_some_and(|until| until <= start.received_at);
            if start.has_removed() && is_removed {
                let position = Position::new(start.position.get() - 1);
                return Err(JournalReadError::Removed { position, start });
            }
            Ok((from, end))
        });
        let (from, end) = range.await.map_err(|_| DeadLetterReadError::Cancelled)??;

        let scope = JobScope::Records {
            patterns,
            resolves: None,
        };
        let parts = BTreeMap::from([(subscriber.clone(), JobPart::new(from, end, None))]);
        self.start_job(JobKind::Replay, Some(subscriber), scope, parts)
            .await
    }

    /// Registers a job and returns it once it is on the disk.
    async fn start_job(
        &self,
        kind: JobKind,
        subscriber: Option<SubscriberId>,
        scope: JobScope,
        parts: BTreeMap<SubscriberId, JobPart>,
    ) -> Result<RedeliveryJob, JobError> {
        let id = self.register_job(kind, subscriber, scope, parts)?;
        self.dead_letters.flush().await?;
        self.get(id).ok_or(JobError::NotFound)
    }

    fn register_job(
        &self,
        kind: JobKind,
        subscriber: Option<SubscriberId>,
        scope: JobScope,
        parts: BTreeMap<SubscriberId, JobPart>,
    ) -> Result<u64, JobError> {
        let now = self.clock.wall();
        let mut table = self.lock();
        let unfinished = table
            .jobs
            .values()
            .filter(|job| !job.state.is_finished())
            .count();
        if unfinished >= self.max {
            return Err(JobError::TooMany(unfinished));
        }

        let id = table.next_id;
        let job = RedeliveryJob {
            id,
            kind,
            subscriber,
            scope,
            state: JobState::Pending,
            created_at: now,
            updated_at: now,
            ended: JobCounts::default(),
            parts,
        };
        let mut claims = job
            .parts
            .iter()
            .map(|(subscriber, part)| claim_letters(&self.dead_letters, &job, subscriber, part));
        if let Err(holder) = claims.try_for_each(std::convert::identity) {
            // The next job gets the same id and must not inherit these claims.
            for (subscriber, part) in &job.parts {
                self.release_letters(&job, subscriber, part.unsettled());
            }
            // A dead letter without a holder was removed since it was read. A job that never held
            // it must not wait for it: after a restart the job would count it as delivered.
            return holder.ok_or(JobError::NoDeadLetter);
        }

        // Only a job that is taken on displaces an earlier one.
        self.evict_finished(&mut table);
        for (subscriber, part) in &job.parts {
            self.checkpoints
                .put(job_part_key(id, subscriber), encode_job_part(part, now));
            self.requests
                .post(subscriber, StageRequest::ReplaysAvailable);
        }

        table.next_id += 1;
        self.checkpoints
            .put(next_id_key(TableTag::Job), encode_next_id(table.next_id));
        self.checkpoints.put(job_key(id), encode_job(&job));
        table.jobs.insert(id, job);
        // A part without a record is done at once.
        self.finish_done_parts(&mut table, id);
        Ok(id)
    }

    /// Removes the oldest ended jobs until there is room for one more job.
    fn evict_finished(&self, table: &mut JobTable) {
        while table.jobs.len() >= self.max {
            let Some(id) = table
                .jobs
                .values()
                .find(|job| job.state.is_finished())
                .map(|job| job.id)
            else {
                return;
            };
            table.jobs.remove(&id);
            self.checkpoints.remove(job_key(id));
        }
    }

    /// Returns the jobs for which `passes` is true, newest first.
    #[must_use]
    pub fn list_jobs(&self, passes: impl Fn(&RedeliveryJob) -> bool) -> Vec<RedeliveryJob> {
        self.lock()
            .jobs
            .values()
            .rev()
            .filter(|job| passes(job))
            .cloned()
            .collect()
    }

    /// Returns the first position that an unfinished job reads or has not settled, of those jobs
    /// that replay events and were created at `since` or later.
    pub(super) fn first_unsettled(&self, since: Timestamp) -> Option<Position> {
        let table = self.lock();
        let jobs = table.jobs.values().filter(|job| {
            let replays = matches!(job.scope, JobScope::Records { .. });
            replays && !job.state.is_finished() && job.created_at >= since
        });
        let parts = jobs.flat_map(|job| job.parts.values());
        parts.filter_map(JobPart::first_unsettled).min()
    }

    /// Returns the job `id`, if there is one.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<RedeliveryJob> {
        self.lock().jobs.get(&id).cloned()
    }

    /// Cancels the job `id`. Attempts under way go on; all other records of the job are dropped.
    /// Returns once that is on the disk.
    ///
    /// # Errors
    /// There is no such job, it has ended, or the store fails.
    pub async fn cancel(&self, id: u64) -> Result<RedeliveryJob, JobError> {
        let job = {
            let mut table = self.lock();
            let job = table.jobs.get_mut(&id).ok_or(JobError::NotFound)?;
            if job.state.is_finished() {
                return Err(JobError::Finished);
            }
            self.end_job(job, None);
            job.clone()
        };
        self.dead_letters.flush().await?;
        Ok(job)
    }

    /// Ends the job `id`, which needs a record that cannot be read.
    fn end_damaged_job(&self, id: u64, error: &JournalReadError) {
        let mut table = self.lock();
        let unfinished = table
            .jobs
            .get_mut(&id)
            .filter(|job| !job.state.is_finished());
        let Some(job) = unfinished else { return };
        error!(
            job = id,
            error = error as &dyn std::error::Error,
            "job ended, it needs a record that is damaged"
        );
        self.end_job(job, Some(error.to_string()));
    }

    /// Ends `job` with all its parts, for `reason` if nobody cancelled it.
    fn end_job(&self, job: &mut RedeliveryJob, reason: Option<String>) {
        for subscriber in job.parts.keys().cloned().collect::<Vec<_>>() {
            self.end_part(job, &subscriber);
            self.requests
                .post(&subscriber, StageRequest::JobCancelled(job.id));
        }
        self.finish_job(job, JobState::Cancelled { reason });
    }

    /// Ends the parts of all subscribers for which `known` is false.
    pub(crate) fn retain_subscribers(&self, known: impl Fn(&SubscriberId) -> bool) {
        let mut table = self.lock();
        for job in table
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
                        reason: Some("the subscriber was deleted".into()),
                    },
                );
            } else if !gone.is_empty() {
                self.checkpoints.put(job_key(job.id), encode_job(job));
            }
        }
    }

    /// Hands out the next records of the job `id` to `subscriber`, whose current interest is
    /// `interest`. At most [`UNSETTLED_MAX`] records of a job are in flight, and at most
    /// `delivery.jobs_bytes_max` bytes of all jobs; beyond that each job has one record.
    ///
    /// Called after [`StageRequest::ReplaysAvailable`] and when the subscriber resumes, but not
    /// while it is paused. The caller reports each record by [`Self::record_delivered`] or
    /// [`Self::record_failed`], or gives records back by [`Self::put_back`].
    ///
    /// A job that needs a damaged record ends, and says so. Filters are evaluated in `expressions`.
    ///
    /// # Errors
    /// The journal cannot be read, although it is not damaged, or the filter panicked.
    pub(in crate::subscriber) async fn take_replays(
        &self,
        id: u64,
        subscriber: &SubscriberId,
        interest: &Arc<SubscriberInterest>,
        expressions: &Arc<ExpressionShares>,
    ) -> Result<Vec<ReplayItem>, DeliveryStageError> {
        let mut replays = Vec::new();
        while replays.is_empty() {
            let Some((step, source, page)) = self.plan_step(id, subscriber, interest) else {
                break;
            };
            let (journal, bytes_max) = (Arc::clone(&self.journal), page.bytes());
            let read = spawn_blocking(move || {
                step_reader::read_step(journal.as_ref(), &source, bytes_max)
            });
            // The thread pool ends only with the process, and so does the caller.
            let Ok(read) = read.await else { break };
            match read {
                Ok(read) => {
                    let filter = interest.filter.as_ref();
                    let read = read.decide(expressions, subscriber, filter).await?;
                    // No wait follows: until the caller has the records, nobody else can take them.
                    replays = self.hand_out(id, subscriber, &step, read);
                }
                // The record stays unreadable, and must not stop the deliveries of all others.
                Err(error) if error.is_damage() => self.end_damaged_job(id, &error),
                Err(error) => return Err(ProjectionReadError::from(error).into()),
            }
            // Released only now: the records handed out have reserved their own bytes.
            drop(page);
        }
        Ok(replays)
    }

    /// Returns the ids of the unfinished jobs with records for `subscriber`.
    pub(in crate::subscriber) fn active_jobs_of(&self, subscriber: &SubscriberId) -> Vec<u64> {
        let is_active =
            |job: &&RedeliveryJob| !job.state.is_finished() && job.parts.contains_key(subscriber);
        self.lock()
            .jobs
            .values()
            .filter(is_active)
            .map(|job| job.id)
            .collect()
    }

    fn plan_step(
        &self,
        id: u64,
        subscriber: &SubscriberId,
        interest: &Arc<SubscriberInterest>,
    ) -> Option<(JobStep, StepSource, BudgetReservation<'_>)> {
        let table = self.lock();
        let job = table.jobs.get(&id)?;
        let part = job.parts.get(subscriber)?;
        let step = part.next_step()?;
        let page = self.budget.reserve_page(subscriber, part.is_idle())?;

        let source = match (&step, &job.scope) {
            (JobStep::ReadOn { from, end, room }, JobScope::Records { patterns, resolves }) => {
                // One gap at a time. A dead letter that is gone has nothing left to deliver.
                let range = match resolves {
                    Some(letter) => self
                        .dead_letters
                        .missed_records(subscriber, *letter)
                        .and_then(|missed| missed.next_gap(*from))
                        .map_or((*end, *end), |(first, behind)| (first, behind.min(*end))),
                    None => (*from, *end),
                };
                // The start of the subscription is ignored: earlier events were asked for.
                let interest = SubscriberInterest {
                    from: Position::FIRST,
                    ..interest.as_ref().clone()
                };
                StepSource::Range {
                    range,
                    matcher: SubscriberMatcher::Subscription(Arc::new(interest)),
                    patterns: patterns.clone(),
                    room: *room,
                }
            }
            // The records matched when they were first read. As for a delivery under way, they are
            // not matched again.
            (JobStep::Reread(positions), JobScope::Records { .. }) => StepSource::Positions {
                positions: positions
                    .iter()
                    .map(|position| (*position, false))
                    .collect(),
                filter: DeadLetterFilter::default(),
                read_to: Position::new(u64::MAX),
            },
            (step, JobScope::Letters { filter, before }) => {
                let (found, read_to) = self.find_step_letters(step, subscriber, *before);
                let is_asked =
                    |(_, cause): &(_, _)| filter.cause.is_none_or(|asked| asked == *cause);
                // If the filter had failed on the record, it decides again: it was perhaps repaired
                // before the job.
                let with_decision =
                    |(position, cause)| (position, cause == DeadLetterCause::Expression);
                let positions = found.into_iter().filter(is_asked).map(with_decision);
                StepSource::Positions {
                    positions: positions.collect(),
                    filter: filter.clone(),
                    read_to,
                }
            }
        };
        Some((step, source, page))
    }

    /// Finds the dead letters of `step`: the positions of their records with their causes, and the
    /// position up to which all of them were found.
    fn find_step_letters(
        &self,
        step: &JobStep,
        subscriber: &SubscriberId,
        before: u64,
    ) -> (Vec<(Position, DeadLetterCause)>, Position) {
        let find = |range, limit| {
            self.dead_letters
                .recovery_candidates(subscriber, range, before, limit)
        };
        match step {
            JobStep::Reread(positions) => {
                let find_one = |position: &Position| find((*position, position.plus(1)), 1);
                let found = positions.iter().flat_map(find_one).collect();
                (found, Position::new(u64::MAX))
            }
            JobStep::ReadOn { from, end, room } => {
                let found = find((*from, *end), *room);
                let last = found.last().filter(|_| found.len() == *room);
                let read_to = last.map_or(*end, |(position, _)| position.plus(1));
                (found, read_to)
            }
        }
    }

    /// Accepts the records `read` for `step` and returns those that are to be delivered now.
    fn hand_out(
        &self,
        id: u64,
        subscriber: &SubscriberId,
        step: &JobStep,
        read: StepRecords,
    ) -> Vec<ReplayItem> {
        let now = self.clock.wall();
        let mut table = self.lock();
        let Some(job) = table.jobs.get_mut(&id) else {
            return Vec::new();
        };
        let is_letters = matches!(job.scope, JobScope::Letters { .. });
        let Some(part) = job.parts.get_mut(subscriber) else {
            return Vec::new();
        };
        let before = part.in_flight_bytes();
        let StepRecords {
            deliverable,
            broken,
            mut unwanted,
            read_to,
            ..
        } = read;
        if !is_letters {
            // An event that the filter rejects is not part of a replay.
            unwanted.clear();
        }
        let deliveries = deliverable
            .iter()
            .map(|item| (item.position, item.memory_bytes()));
        // The others are in flight until they are settled below.
        let broken_positions = broken.iter().map(|(item, _)| item.position);
        let others = broken_positions.chain(unwanted.iter().copied());
        let found: Vec<_> = deliveries
            .chain(others.map(|position| (position, 0)))
            .collect();

        // The job holds the dead letters of the positions that it reads again, so nobody may
        // discard them. A dead letter that is gone was removed by a delivery, and a crash came
        // before the job's row counted it.
        let was_delivered = |position: Position| match &job.scope {
            JobScope::Letters { before, .. } => {
                let record = (position, position.plus(1));
                let left = self
                    .dead_letters
                    .recovery_candidates(subscriber, record, *before, 1);
                left.is_empty()
            }
            JobScope::Records { .. } => false,
        };
        let outcome_if_gone = match step {
            JobStep::Reread(_) => JobRecordOutcome::Delivered,
            JobStep::ReadOn { .. } => JobRecordOutcome::Skipped,
        };
        let accepted = match step {
            JobStep::Reread(asked) => {
                let accepted = part.accept_reread(asked, &found, read_to, was_delivered);
                // A dead letter that the job skips is free to be discarded or retried again.
                let is_skipped =
                    |position: &&Position| is_letters && !part.is_unsettled(**position);
                let skipped = asked.iter().filter(is_skipped).copied();
                self.dead_letters.release_claims(subscriber, skipped, id);
                accepted
            }
            JobStep::ReadOn { from, .. } if part.accept_read(*from, &found, read_to) => {
                found.into_iter().map(|(position, _)| position).collect()
            }
            JobStep::ReadOn { .. } => return Vec::new(),
        };

        // Each record is handed out only if this job gets its dead letter.
        let mut replays = Vec::new();
        for item in deliverable
            .into_iter()
            .filter(|item| accepted.contains(&item.position))
        {
            let position = item.position;
            let claim = match job.scope {
                JobScope::Letters { .. } => self
                    .dead_letters
                    .claim_for_job(subscriber, position, id)
                    .map(Some),
                JobScope::Records { .. } => Ok(None),
            };
            match claim {
                Ok(dead_letter) => {
                    let tag = ReplayTag {
                        job: id,
                        position,
                        dead_letter,
                    };
                    replays.push(ReplayItem { tag, item });
                }
                // Another job delivers the record, or the dead letter was removed during the read.
                Err(holder) => {
                    let outcome = holder.map_or(outcome_if_gone, |_| JobRecordOutcome::Skipped);
                    part.settle_position(position, outcome);
                }
            }
        }

        self.add_broken_to_dead_letters(subscriber, (id, is_letters), part, broken);
        for position in unwanted {
            // A dead letter that another job holds is settled by that job: if it vanished, the
            // other job would count it as delivered.
            if self
                .dead_letters
                .claim_for_job(subscriber, position, id)
                .is_ok()
            {
                self.dead_letters.remove_delivered(subscriber, position);
            }
            part.settle_position(position, JobRecordOutcome::Skipped);
        }

        // The row holds all positions that were handed out, before one of them can be settled.
        self.budget.adjust_usage(before, part.in_flight_bytes());
        self.checkpoints
            .put(job_part_key(id, subscriber), encode_job_part(part, now));
        job.updated_at = now;
        if job.state == JobState::Pending && !replays.is_empty() {
            job.state = JobState::Running;
            self.checkpoints.put(job_key(id), encode_job(job));
        }
        self.finish_done_parts(&mut table, id);
        replays
    }

    /// Renews the dead letters of records on which the subscription's filter fails: without its
    /// decision they must neither be delivered nor dropped. A job over dead letters (`is_letters`)
    /// skips those that another job holds and those that were removed during the read.
    fn add_broken_to_dead_letters(
        &self,
        subscriber: &SubscriberId,
        (job, is_letters): (u64, bool),
        part: &mut JobPart,
        broken: Vec<(OutboundRecord, String)>,
    ) {
        for (item, detail) in broken {
            let position = item.position;
            let claim = || self.dead_letters.claim_for_job(subscriber, position, job);
            if is_letters && claim().is_err() {
                part.settle_position(position, JobRecordOutcome::Skipped);
                continue;
            }

            let failure = AttemptFailure {
                status: None,
                code: "filter_failed",
                detail,
                answer: bytes::Bytes::new(),
            };
            let new_letter = NewDeadLetter {
                item,
                attempts: 0,
                failure,
                cause: DeadLetterCause::Expression,
                is_halting: false,
            };
            self.dead_letters.add(subscriber, new_letter);
            self.dead_letters
                .release_claims(subscriber, [position], job);
            part.settle_position(position, JobRecordOutcome::Failed);
        }
    }

    /// Notes that a record of a job was delivered; the record's dead letter is removed.
    pub(crate) fn record_delivered(&self, subscriber: &SubscriberId, tag: ReplayTag) {
        // A checkpoint may be taken between the two. This order keeps the position in the job's
        // row, so that the job counts it after a crash; the other order would leave a dead letter
        // that its job has settled.
        self.dead_letters.remove_delivered(subscriber, tag.position);
        self.settle_record(subscriber, tag, JobRecordOutcome::Delivered);
    }

    /// Notes that a record of a job was erased while it waited, and with it its dead letter.
    pub(crate) fn record_dropped(&self, subscriber: &SubscriberId, tag: ReplayTag) {
        self.dead_letters.remove_delivered(subscriber, tag.position);
        self.settle_record(subscriber, tag, JobRecordOutcome::Skipped);
    }

    /// Notes that a record of a job failed for good once more. The caller has renewed its dead
    /// letter by [`DeadLetterStore::add`] before; the job's claim on it is released here.
    pub(crate) fn record_failed(&self, subscriber: &SubscriberId, tag: ReplayTag) {
        self.settle_record(subscriber, tag, JobRecordOutcome::Failed);
    }

    fn settle_record(&self, subscriber: &SubscriberId, tag: ReplayTag, outcome: JobRecordOutcome) {
        let now = self.clock.wall();
        let mut table = self.lock();
        // Outcomes of the last attempts of a cancelled job are not counted.
        let Some(job) = table.jobs.get_mut(&tag.job) else {
            return;
        };
        let Some(part) = job.parts.get_mut(subscriber) else {
            return;
        };
        let before = part.in_flight_bytes();
        // A record that was put back stays with the job, which hands it out again.
        if !part.settle_position(tag.position, outcome) {
            return;
        }
        self.dead_letters
            .release_claims(subscriber, [tag.position], tag.job);
        self.budget.adjust_usage(before, part.in_flight_bytes());
        if part.needs_reading() {
            self.requests
                .post(subscriber, StageRequest::ReplaysAvailable);
        }
        self.checkpoints.put(
            job_part_key(tag.job, subscriber),
            encode_job_part(part, now),
        );
        job.updated_at = now;
        self.finish_done_parts(&mut table, tag.job);
    }

    /// Puts all records in flight to `subscriber` back, so that they are handed out again: its
    /// actor has ended.
    pub(crate) fn requeue_in_flight(&self, subscriber: &SubscriberId) {
        self.requeue(subscriber, |_, _| true);
    }

    /// Puts `replays` back, which were handed out to `subscriber` and reached no actor.
    pub(crate) fn put_back(&self, subscriber: &SubscriberId, replays: &[ReplayItem]) {
        let is_among = |job, position| {
            let is_it =
                |replay: &ReplayItem| (replay.tag.job, replay.tag.position) == (job, position);
            replays.iter().any(is_it)
        };
        if !replays.is_empty() {
            self.requeue(subscriber, is_among);
        }
    }

    fn requeue(&self, subscriber: &SubscriberId, is_back: impl Fn(u64, Position) -> bool) {
        let mut table = self.lock();
        let unfinished = table
            .jobs
            .values_mut()
            .filter(|job| !job.state.is_finished());
        for job in unfinished {
            let Some(part) = job.parts.get_mut(subscriber) else {
                continue;
            };
            let before = part.in_flight_bytes();
            part.requeue(|position| is_back(job.id, position));
            self.budget.adjust_usage(before, part.in_flight_bytes());
            self.requests
                .post(subscriber, StageRequest::ReplaysAvailable);
        }
    }

    /// Ends the parts of the job `id` that are done, and the job itself with its last part.
    fn finish_done_parts(&self, table: &mut JobTable, id: u64) {
        let Some(job) = table
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
                let place = DeadLetterPlace::Missed(letter);
                self.dead_letters.remove_delivered(subscriber, place);
            }
            self.end_part(job, subscriber);
        }
        if job.parts.is_empty() {
            self.finish_job(job, JobState::Completed);
        } else if !done.is_empty() {
            self.checkpoints.put(job_key(id), encode_job(job));
        }
    }

    /// Ends the part of `job` for `subscriber` and releases the dead letters it has not settled.
    fn end_part(&self, job: &mut RedeliveryJob, subscriber: &SubscriberId) {
        self.budget.adjust_usage(
            job.parts
                .get(subscriber)
                .map_or(0, JobPart::in_flight_bytes),
            0,
        );
        let unsettled = job.end_part(subscriber);
        self.release_letters(job, subscriber, unsettled);
        self.checkpoints.remove(job_part_key(job.id, subscriber));
    }

    /// Releases the dead letters that `job` holds at `subscriber`, of which `unsettled` are left.
    fn release_letters(
        &self,
        job: &RedeliveryJob,
        subscriber: &SubscriberId,
        unsettled: impl IntoIterator<Item = Position>,
    ) {
        match job.scope {
            JobScope::Letters { .. } => self
                .dead_letters
                .release_claims(subscriber, unsettled, job.id),
            JobScope::Records { resolves, .. } => {
                let places = resolves.map(DeadLetterPlace::Missed);
                self.dead_letters.release_claims(subscriber, places, job.id)
            }
        }
    }

    fn finish_job(&self, job: &mut RedeliveryJob, state: JobState) {
        job.state = state;
        job.updated_at = self.clock.wall();
        self.checkpoints.put(job_key(job.id), encode_job(job));
    }

    fn lock(&self) -> MutexGuard<'_, JobTable> {
        self.table.lock()
    }
}

/// Claims for `job` the dead letters of the positions that `part` has not settled.
///
/// # Errors
/// The other job that holds one of them; `None` if one of them is gone. The rest is claimed.
fn claim_letters(
    dead_letters: &DeadLetterStore,
    job: &RedeliveryJob,
    subscriber: &SubscriberId,
    part: &JobPart,
) -> Result<(), Option<u64>> {
    match &job.scope {
        JobScope::Letters { .. } => {
            // All of them are claimed, even if one cannot be.
            let mut claimed = Ok(());
            for position in part.unsettled() {
                let claim = dead_letters.claim_for_job(subscriber, position, job.id);
                claimed = claimed.and(claim.map(drop));
            }
            claimed
        }
        JobScope::Records {
            resolves: Some(letter),
            ..
        } => dead_letters
            .claim_for_job(subscriber, DeadLetterPlace::Missed(*letter), job.id)
            .map(drop),
        JobScope::Records { resolves: None, .. } => Ok(()),
    }
}
