//! Jobs against a real journal and a real store, with a subscriber that the test plays.

use std::time::Duration;

use super::*;
use crate::event::{EntityKey, Kind as EntityKind, Record};
use crate::journal::{JournalSubmission, RecordDraft, SegmentJournal, await_fence};
use crate::subscriber::dead_letters::DiscardOutcome;
use crate::subscriber::dead_letters::tests::{DeadLetterTestEnv, missed_records, new_letter};
use crate::subscription::FilterExpression;

const ONE: SubscriberId = SubscriberId::Webhook(1);
const OTHER: SubscriberId = SubscriberId::Webhook(2);
/// A journal with records of tickets, received one second apart, with dead letters and jobs.
struct JobFixture {
    env: DeadLetterTestEnv,
    log: Arc<SegmentJournal>,
    dead_letters: Arc<DeadLetterStore>,
    jobs: Arc<JobRegistry>,
}

impl JobFixture {
    async fn new(records: u64) -> Self {
        Self::on(DeadLetterTestEnv::new()).filled(records).await
    }

    async fn filled(self, records: u64) -> Self {
        let fixture = self;
        for number in 1..=records {
            fixture.log.append(submission(number)).expect("open");
        }
        assert_eq!(
            await_fence(fixture.log.as_ref()).await,
            Ok(Position::new(records + 1))
        );
        fixture
    }

    fn on(env: DeadLetterTestEnv) -> Self {
        Self::within(env, 1 << 20)
    }

    /// Creates a fixture whose jobs have at most `bytes_max` bytes in flight.
    fn within(env: DeadLetterTestEnv, bytes_max: usize) -> Self {
        let log = Arc::clone(&env.store.journal);
        let dead_letters = env.open_dead_letters(1_000);
        let journal = Arc::clone(&log) as Arc<dyn Journal>;
        let jobs = JobRegistry::open(
            &env.tables,
            Arc::clone(&dead_letters),
            journal,
            env.recovery_deps(),
            (3, bytes_max),
        )
        .expect("opens");
        Self {
            env,
            log,
            dead_letters,
            jobs,
        }
    }

    /// Ends the process and starts it again.
    async fn restart(self) -> Self {
        let Self {
            env,
            log,
            dead_letters,
            jobs,
        } = self;
        log.close();
        drop((log, dead_letters, jobs));
        Self::on(env.reopened().await)
    }

    async fn take_replays(&self, subscriber: &SubscriberId) -> Vec<ReplayItem> {
        self.take_matching(subscriber, &everything()).await
    }

    /// Takes the next records of all jobs.
    async fn take_matching(
        &self,
        subscriber: &SubscriberId,
        interest: &SubscriberInterest,
    ) -> Vec<ReplayItem> {
        let (mut replays, interest) = (Vec::new(), Arc::new(interest.clone()));
        let expressions = ExpressionShares::new(Arc::clone(&self.env.clock) as _);
        for job in self.jobs.active_jobs_of(subscriber) {
            let taken = self
                .jobs
                .take_replays(job, subscriber, &interest, &expressions)
                .await;
            replays.extend(taken.expect("reads"));
        }
        replays
    }

    /// Delivers all records of the jobs and returns their positions.
    async fn deliver_all(&self, subscriber: &SubscriberId) -> Vec<u64> {
        let mut delivered = Vec::new();
        loop {
            let replays = self.take_replays(subscriber).await;
            if replays.is_empty() {
                return delivered;
            }
            for ReplayItem { tag, item } in replays {
                assert_eq!(tag.position, item.position);
                delivered.push(tag.position.get());
                self.jobs.record_delivered(subscriber, tag);
            }
        }
    }

    /// Registers a job over dead letters with `part` as its only part.
    fn register_retry(&self, part: JobPart) -> Result<u64, JobError> {
        let scope = JobScope::Letters {
            filter: DeadLetterFilter::default(),
            before: self.dead_letters.next_id(),
        };
        let parts = BTreeMap::from([(ONE, part)]);
        self.jobs
            .register_job(JobKind::Retry, Some(ONE), scope, parts)
    }

    fn summary_of(&self, id: u64) -> (&'static str, Option<u64>, JobCounts) {
        let job = self.jobs.get(id).expect("is there");
        (job.state.as_str(), job.total_records(), job.total_counts())
    }
}

fn received_at(number: u64) -> Timestamp {
    Timestamp::from_micros(number.cast_signed() * 1_000_000)
}

/// Returns a submission; every third is a failed event, which has no sequence.
fn submission(number: u64) -> JournalSubmission {
    let entity = EntityKey::try_new(EntityKind::Ticket, &number.to_string()).expect("valid");
    let name = if number.is_multiple_of(2) {
        "status.changed"
    } else {
        "message.received"
    };
    let sequence = (!number.is_multiple_of(3)).then_some(1);
    let record = Record {
        sequence,
        ..Record::new("support", entity.clone(), name, received_at(number))
    };
    let draft = RecordDraft {
        entity,
        sequence,
        received_at: received_at(number),
        bytes: record.encode(),
    };
    JournalSubmission {
        drafts: vec![draft],
        settle: Box::new(|_| ()),
    }
}

fn filtered(filter: &str) -> SubscriberInterest {
    SubscriberInterest {
        filter: Some(FilterExpression::compile(filter).expect("an expression")),
        ..everything()
    }
}

fn everything() -> SubscriberInterest {
    let patterns = [Pattern::from_store("*").expect("a pattern")].into();
    // The subscription is newer than the events that are requested.
    SubscriberInterest {
        patterns,
        filter: None,
        from: Position::new(1_000_000),
    }
}

fn sequenced(numbers: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    numbers.filter(|number| !number.is_multiple_of(3)).collect()
}

fn delivered(delivered: u64) -> JobCounts {
    JobCounts {
        delivered,
        ..JobCounts::default()
    }
}

#[tokio::test]
async fn a_replay_brings_what_is_wanted_of_a_time_in_its_order_and_64_at_once() {
    let fixture = JobFixture::new(300).await;
    let replay = fixture.jobs.replay_events(
        ONE,
        Some(received_at(10)),
        Some(received_at(200)),
        Vec::new(),
    );
    let id = replay.await.expect("taken on").id;
    assert_eq!(
        fixture.summary_of(id),
        ("pending", None, JobCounts::default())
    );
    let first = fixture.take_replays(&ONE).await;
    assert_eq!(first.len(), UNSETTLED_MAX);
    assert!(
        fixture.take_replays(&ONE).await.is_empty(),
        "there is no room"
    );
    assert!(
        fixture.take_replays(&OTHER).await.is_empty(),
        "it is not for others"
    );
    let mut positions: Vec<u64> = first
        .iter()
        .map(|replay| replay.tag.position.get())
        .collect();
    let (one_half, other_half) = first.split_at(UNSETTLED_MAX / 2);
    let is_notified = || {
        fixture
            .env
            .requests
            .take_all()
            .contains(&(ONE, StageRequest::ReplaysAvailable))
    };
    assert!(is_notified(), "of its beginning");
    one_half[1..]
        .iter()
        .for_each(|replay| fixture.jobs.record_delivered(&ONE, replay.tag));
    assert!(!is_notified(), "not for every record");
    fixture.jobs.record_delivered(&ONE, one_half[0].tag);
    assert!(is_notified(), "there is room for a page");
    other_half
        .iter()
        .for_each(|replay| fixture.jobs.record_delivered(&ONE, replay.tag));
    positions.extend(fixture.deliver_all(&ONE).await);
    assert_eq!(positions, sequenced(10..=199));
    let total = positions.len() as u64;
    assert_eq!(
        fixture.summary_of(id),
        ("completed", Some(total), delivered(total))
    );
}

#[tokio::test]
async fn a_replay_is_narrowed_by_patterns_and_by_what_the_subscription_wants() {
    let fixture = JobFixture::new(30).await;
    let named = |text| Pattern::from_store(text).expect("a pattern");
    fixture
        .jobs
        .replay_events(ONE, None, None, vec![named("status.*")])
        .await
        .expect("taken on");
    let even = sequenced(1..=30)
        .into_iter()
        .filter(|number| number.is_multiple_of(2))
        .collect::<Vec<_>>();
    assert_eq!(fixture.deliver_all(&ONE).await, even);
    fixture
        .jobs
        .replay_events(ONE, None, None, vec![named("*")])
        .await
        .expect("taken on");
    let interest = SubscriberInterest {
        patterns: [named("message.received")].into(),
        ..everything()
    };
    let replays = fixture.take_matching(&ONE, &interest).await;
    assert!(
        replays
            .iter()
            .all(|replay| replay.item.record.event_type == "message.received")
    );
    assert_eq!(replays.len(), 10);
}

#[tokio::test]
async fn a_job_goes_on_after_a_restart_with_what_was_not_settled() {
    let fixture = JobFixture::new(300).await;
    let id = fixture
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    let in_flight = fixture.take_replays(&ONE).await;
    // The first record is slow; the records behind it do not wait.
    in_flight[1..]
        .iter()
        .for_each(|replay| fixture.jobs.record_delivered(&ONE, replay.tag));
    fixture.env.checkpoints.flush().await.expect("writes");
    let fixture = fixture.restart().await;
    assert_eq!(
        fixture
            .env
            .requests
            .take_all()
            .into_iter()
            .collect::<Vec<_>>(),
        [(ONE, StageRequest::ReplaysAvailable)]
    );
    assert_eq!(fixture.summary_of(id), ("running", None, delivered(63)));
    let rest = fixture.deliver_all(&ONE).await;
    let all = sequenced(1..=300);
    assert_eq!(rest, [&all[..1], &all[64..]].concat());
    assert_eq!(
        fixture.summary_of(id),
        ("completed", Some(200), delivered(200))
    );
    fixture.env.checkpoints.flush().await.expect("writes");
    let fixture = fixture.restart().await;
    assert_eq!(
        fixture.summary_of(id),
        ("completed", Some(200), delivered(200))
    );
    assert!(fixture.take_replays(&ONE).await.is_empty());
}

/// The job had counted such a record as skipped.
#[tokio::test]
async fn a_record_whose_dead_letter_went_before_the_crash_counts_as_delivered() {
    let fixture = JobFixture::new(10).await;
    for position in [1, 2, 4] {
        fixture.dead_letters.add(&ONE, new_letter(position, "A"));
    }
    let id = fixture
        .jobs
        .retry_dead_letters(JobKind::Retry, DeadLetterFilter::default())
        .await
        .expect("taken on")
        .id;
    let in_flight = fixture.take_replays(&ONE).await;
    assert_eq!(in_flight.len(), 3);
    // The checkpoint came between the removal of the dead letter and the change of the job's row.
    fixture
        .dead_letters
        .remove_delivered(&ONE, in_flight[0].tag.position);
    fixture.env.checkpoints.flush().await.expect("writes");
    let fixture = fixture.restart().await;
    assert_eq!(fixture.deliver_all(&ONE).await, [2, 4]);
    assert_eq!(fixture.summary_of(id), ("completed", Some(3), delivered(3)));
    assert_eq!(fixture.dead_letters.count(&ONE), 0);
}

#[tokio::test]
async fn a_dead_letter_that_is_discarded_before_its_job_reaches_it_is_not_counted() {
    let fixture = JobFixture::new(2).await;
    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    fixture.dead_letters.add(&ONE, new_letter(2, "A"));
    let all = DeadLetterFilter::default();
    let job = fixture.jobs.retry_dead_letters(JobKind::Retry, all).await;
    let job = job.expect("taken on");
    assert_eq!(job.total_records(), Some(2));

    let discarded = fixture.dead_letters.discard(1).await.expect("writes");
    assert_eq!(discarded, DiscardOutcome::Gone);

    assert_eq!(fixture.deliver_all(&ONE).await, [2]);
    assert_eq!(
        fixture.summary_of(job.id),
        ("completed", Some(1), delivered(1))
    );
}

/// The dead letter is renewed with another cause, so it is not gone. The job had kept its claim on
/// it for ever.
#[tokio::test]
async fn a_record_that_failed_again_before_the_crash_does_not_count_as_delivered() {
    let fixture = JobFixture::new(10).await;
    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    let filter = DeadLetterFilter {
        cause: Some(DeadLetterCause::Exhausted),
        ..DeadLetterFilter::default()
    };
    let id = fixture
        .jobs
        .retry_dead_letters(JobKind::Retry, filter)
        .await
        .expect("taken on")
        .id;
    assert_eq!(fixture.take_replays(&ONE).await.len(), 1);
    let refused = NewDeadLetter {
        cause: DeadLetterCause::Refused,
        ..new_letter(1, "A")
    };
    fixture.dead_letters.add(&ONE, refused);
    fixture.env.checkpoints.flush().await.expect("writes");
    let fixture = fixture.restart().await;
    assert!(fixture.take_replays(&ONE).await.is_empty());
    let counts = JobCounts {
        skipped: 1,
        ..JobCounts::default()
    };
    assert_eq!(fixture.summary_of(id), ("completed", Some(1), counts));
    let kept = fixture.dead_letters.get(1).await.expect("reads");
    assert_eq!(kept.expect("stays").job, None, "the job holds it no more");
}

#[tokio::test]
async fn what_an_actor_lost_is_handed_out_again() {
    let fixture = JobFixture::new(10).await;
    let id = fixture
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    assert_eq!(fixture.take_replays(&ONE).await.len(), 7);
    fixture.jobs.requeue_in_flight(&ONE);
    assert_eq!(fixture.deliver_all(&ONE).await, sequenced(1..=10));
    assert_eq!(fixture.summary_of(id), ("completed", Some(7), delivered(7)));
}

/// A late read of a crashed actor had put the records of its successor back, too, and they
/// were delivered twice.
#[tokio::test]
async fn records_that_came_too_late_for_their_actor_are_put_back_alone() {
    let fixture = JobFixture::new(10).await;
    let replay = fixture.jobs.replay_events(ONE, None, None, Vec::new());
    replay.await.expect("taken on");
    let all = fixture.take_replays(&ONE).await;
    fixture.jobs.put_back(&ONE, &all[2..4]);
    let again = fixture.take_replays(&ONE).await;
    let tags = |replays: &[ReplayItem]| replays.iter().map(|replay| replay.tag).collect::<Vec<_>>();
    assert_eq!(tags(&again), tags(&all[2..4]));
}

/// An erased record had counted as delivered.
#[tokio::test]
async fn a_record_that_was_erased_while_it_waited_counts_as_skipped() {
    let fixture = JobFixture::new(2).await;
    let replay = fixture.jobs.replay_events(ONE, None, None, Vec::new());
    let id = replay.await.expect("taken on").id;
    let replays = fixture.take_replays(&ONE).await;
    fixture.jobs.record_dropped(&ONE, replays[0].tag);
    fixture.jobs.record_delivered(&ONE, replays[1].tag);
    let counts = JobCounts {
        delivered: 1,
        failed: 0,
        skipped: 1,
    };
    assert_eq!(fixture.summary_of(id), ("completed", Some(2), counts));
}

#[tokio::test]
async fn jobs_that_have_used_their_bytes_up_go_on_record_by_record_and_lose_none() {
    let fixture = JobFixture::within(DeadLetterTestEnv::new(), 2_000)
        .filled(30)
        .await;
    for position in sequenced(1..=30) {
        fixture.dead_letters.add(&OTHER, new_letter(position, "A"));
    }
    let replay = fixture
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    let retry = fixture
        .jobs
        .retry_dead_letters(JobKind::Retry, DeadLetterFilter::default())
        .await
        .expect("taken on")
        .id;
    while !fixture.take_replays(&ONE).await.is_empty() {}
    assert!(
        (1_000..=2_000).contains(&fixture.jobs.budget.bytes()),
        "all that is there"
    );
    assert_eq!(
        fixture.take_replays(&OTHER).await.len(),
        1,
        "it does not wait for the first"
    );
    assert!(fixture.take_replays(&OTHER).await.is_empty());
    fixture.jobs.requeue_in_flight(&OTHER);
    assert_eq!(fixture.deliver_all(&OTHER).await, sequenced(1..=30));
    fixture.jobs.requeue_in_flight(&ONE);
    assert_eq!(fixture.jobs.budget.bytes(), 0);
    assert_eq!(fixture.deliver_all(&ONE).await, sequenced(1..=30));
    for id in [replay, retry] {
        assert_eq!(
            fixture.summary_of(id),
            ("completed", Some(20), delivered(20))
        );
    }
    let cancelled = fixture
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    assert!(!fixture.take_replays(&ONE).await.is_empty());
    fixture.jobs.cancel(cancelled).await.expect("runs");
    assert_eq!(fixture.jobs.budget.bytes(), 0);
}

#[tokio::test]
async fn a_dead_letter_goes_when_it_is_delivered_and_is_renewed_when_it_fails() {
    let fixture = JobFixture::new(10).await;
    for position in [1, 2, 4] {
        fixture.dead_letters.add(&ONE, new_letter(position, "A"));
    }
    fixture.dead_letters.add(&OTHER, new_letter(5, "A"));
    let filter = DeadLetterFilter {
        subscriber: Some(ONE),
        ..DeadLetterFilter::default()
    };
    let id = fixture
        .jobs
        .retry_dead_letters(JobKind::Retry, filter)
        .await
        .expect("taken on")
        .id;
    assert_eq!(
        fixture.summary_of(id),
        ("pending", Some(3), JobCounts::default())
    );
    let in_flight = fixture.take_replays(&ONE).await;
    assert_eq!(
        in_flight
            .iter()
            .map(|replay| replay.tag.dead_letter)
            .collect::<Vec<_>>(),
        [Some(1), Some(2), Some(3)]
    );
    fixture.jobs.record_delivered(&ONE, in_flight[0].tag);
    fixture.dead_letters.add(&ONE, new_letter(2, "A"));
    fixture.jobs.record_failed(&ONE, in_flight[1].tag);
    fixture.jobs.record_delivered(&ONE, in_flight[2].tag);
    let counts = JobCounts {
        delivered: 2,
        failed: 1,
        skipped: 0,
    };
    assert_eq!(fixture.summary_of(id), ("completed", Some(3), counts));
    assert_eq!(
        (
            fixture.dead_letters.count(&ONE),
            fixture.dead_letters.count(&OTHER)
        ),
        (1, 1)
    );
    let found = fixture
        .dead_letters
        .get(2)
        .await
        .expect("reads")
        .expect("stays");
    assert_eq!(found.job, None, "no job holds it any more");
}

/// The failure of the replay had released the dead letter. It could be discarded, and the retry
/// counted the record as delivered after a restart; or a third job delivered it too.
#[tokio::test]
async fn a_replay_that_fails_leaves_the_dead_letter_to_the_job_that_holds_it() {
    let fixture = JobFixture::new(1).await;
    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    let retry = fixture.jobs.retry_dead_letter(1).await.expect("taken on");
    let replay = fixture.jobs.replay_events(ONE, None, None, Vec::new());
    let replay = replay.await.expect("taken on");
    let in_flight = fixture.take_replays(&ONE).await;
    let holders: Vec<_> = in_flight.iter().map(|replay| replay.tag.job).collect();
    assert_eq!(holders, [retry.id, replay.id]);

    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    fixture.jobs.record_failed(&ONE, in_flight[1].tag);

    let discarded = fixture.dead_letters.discard(1).await.expect("reads");
    assert_eq!(discarded, DiscardOutcome::InJob(retry.id));
    let third = fixture.jobs.retry_dead_letter(1).await.expect("joined");
    assert_eq!(third.id, retry.id);
    let fixture = fixture.restart().await;
    assert_eq!(fixture.deliver_all(&ONE).await, [1]);
    assert_eq!(
        fixture.summary_of(retry.id),
        ("completed", Some(1), delivered(1))
    );
}

#[tokio::test]
async fn a_job_whose_record_failed_again_releases_its_dead_letter() {
    for is_settled_first in [false, true] {
        let fixture = JobFixture::new(2).await;
        fixture.dead_letters.add(&ONE, new_letter(1, "A"));
        fixture.dead_letters.add(&ONE, new_letter(2, "A"));
        let all = DeadLetterFilter::default();
        let job = fixture.jobs.retry_dead_letters(JobKind::Retry, all).await;
        let id = job.expect("taken on").id;
        let in_flight = fixture.take_replays(&ONE).await;

        if is_settled_first {
            fixture.jobs.record_failed(&ONE, in_flight[0].tag);
            fixture.dead_letters.add(&ONE, new_letter(1, "A"));
        } else {
            fixture.dead_letters.add(&ONE, new_letter(1, "A"));
            fixture.jobs.record_failed(&ONE, in_flight[0].tag);
        }

        // The job goes on with the other record.
        let holder_of = async |letter| {
            let found = fixture.dead_letters.get(letter).await.expect("reads");
            found.expect("stays").job
        };
        let holders = (holder_of(1).await, holder_of(2).await);
        assert_eq!(
            holders,
            (None, Some(id)),
            "settled first: {is_settled_first}"
        );
    }
}

#[tokio::test]
async fn one_dead_letter_is_never_delivered_by_two_jobs() {
    let fixture = JobFixture::new(10).await;
    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    fixture.dead_letters.add(&ONE, new_letter(2, "A"));
    let (first, second) = tokio::join!(
        fixture.jobs.retry_dead_letter(1),
        fixture.jobs.retry_dead_letter(1)
    );
    let id = first.expect("taken on").id;
    assert_eq!(second.expect("joined").id, id, "the second joins the first");
    let all = fixture
        .jobs
        .retry_dead_letters(JobKind::Retry, DeadLetterFilter::default())
        .await
        .expect("taken on")
        .id;
    let in_flight = fixture.take_replays(&ONE).await;
    assert_eq!(
        in_flight
            .iter()
            .map(|replay| (replay.tag.job, replay.tag.position.get()))
            .collect::<Vec<_>>(),
        [(id, 1), (all, 2)]
    );
    in_flight
        .iter()
        .for_each(|replay| fixture.jobs.record_delivered(&ONE, replay.tag));
    assert_eq!(fixture.summary_of(id), ("completed", Some(1), delivered(1)));
    assert_eq!(
        fixture.summary_of(all),
        (
            "completed",
            Some(2),
            JobCounts {
                delivered: 1,
                failed: 0,
                skipped: 1
            }
        )
    );
    assert!(matches!(
        fixture.jobs.retry_dead_letter(1).await,
        Err(JobError::NoDeadLetter)
    ));
}

#[tokio::test]
async fn a_retry_that_was_taken_on_is_known_after_a_restart() {
    let fixture = JobFixture::new(10).await;
    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    let id = fixture
        .jobs
        .retry_dead_letter(1)
        .await
        .expect("taken on")
        .id;
    let fixture = fixture.restart().await;
    assert_eq!(
        fixture
            .dead_letters
            .get(1)
            .await
            .expect("reads")
            .expect("is there")
            .job,
        Some(id)
    );
    assert_eq!(
        fixture.jobs.retry_dead_letter(1).await.expect("joined").id,
        id
    );
    assert_eq!(fixture.deliver_all(&ONE).await, [1]);
    assert_eq!(
        (fixture.summary_of(id).0, fixture.dead_letters.count(&ONE)),
        ("completed", 0)
    );
}

#[tokio::test]
async fn a_cancelled_job_leaves_its_dead_letters_to_others() {
    let fixture = JobFixture::new(10).await;
    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    fixture.dead_letters.add(&ONE, new_letter(2, "A"));
    let id = fixture
        .jobs
        .retry_dead_letters(JobKind::Retry, DeadLetterFilter::default())
        .await
        .expect("taken on")
        .id;
    let in_flight = fixture.take_replays(&ONE).await;
    fixture.jobs.record_delivered(&ONE, in_flight[0].tag);
    assert_eq!(
        fixture.jobs.cancel(id).await.expect("runs").state,
        JobState::Cancelled { reason: None }
    );
    assert!(
        fixture
            .env
            .requests
            .take_all()
            .contains(&(ONE, StageRequest::JobCancelled(id)))
    );
    assert!(matches!(
        fixture.jobs.cancel(id).await,
        Err(JobError::Finished)
    ));
    assert_eq!(fixture.summary_of(id), ("cancelled", Some(1), delivered(1)));
    assert!(fixture.take_replays(&ONE).await.is_empty());
    let left = fixture
        .dead_letters
        .get(2)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(left.job, None, "others may have it");
    // The attempt under way succeeds after the cancellation: its dead letter is removed all the same.
    fixture.jobs.record_delivered(&ONE, in_flight[1].tag);
    assert_eq!(
        (fixture.summary_of(id).2, fixture.dead_letters.count(&ONE)),
        (delivered(1), 0)
    );
}

#[tokio::test]
async fn a_filter_that_was_repaired_decides_again_about_what_it_failed_at() {
    let fixture = JobFixture::new(10).await;
    let broken = |position| NewDeadLetter {
        cause: DeadLetterCause::Expression,
        ..new_letter(position, "A")
    };
    fixture.dead_letters.add(&ONE, broken(1));
    fixture.dead_letters.add(&ONE, broken(2));
    fixture.dead_letters.add(&ONE, new_letter(4, "A"));
    let id = fixture
        .jobs
        .retry_dead_letters(JobKind::Retry, DeadLetterFilter::default())
        .await
        .expect("taken on")
        .id;
    let filter = Some(
        FilterExpression::compile("event == 'status.changed' && entity.id == '2'")
            .expect("an expression"),
    );
    let interest = SubscriberInterest {
        filter,
        ..everything()
    };
    let in_flight = fixture.take_matching(&ONE, &interest).await;
    assert_eq!(
        in_flight
            .iter()
            .map(|replay| replay.tag.position.get())
            .collect::<Vec<_>>(),
        [2, 4]
    );
    assert_eq!(
        fixture.summary_of(id).2,
        JobCounts {
            skipped: 1,
            ..JobCounts::default()
        }
    );
    in_flight
        .iter()
        .for_each(|replay| fixture.jobs.record_delivered(&ONE, replay.tag));
    assert_eq!(
        (fixture.summary_of(id).0, fixture.dead_letters.count(&ONE)),
        ("completed", 0)
    );
}

/// A job had renewed the dead letter of a record that another job was delivering.
#[tokio::test]
async fn a_filter_that_fails_renews_no_dead_letter_that_another_job_holds() {
    let fixture = JobFixture::new(2).await;
    let broken = |position| NewDeadLetter {
        cause: DeadLetterCause::Expression,
        ..new_letter(position, "A")
    };
    fixture.dead_letters.add(&ONE, broken(1));
    fixture.dead_letters.add(&ONE, broken(2));
    let holder = fixture.jobs.retry_dead_letter(1).await.expect("taken on");
    let in_flight = fixture.take_replays(&ONE).await;
    assert_eq!(in_flight.len(), 1);
    let all = DeadLetterFilter::default();
    let other = fixture.jobs.retry_dead_letters(JobKind::Retry, all).await;
    let other = other.expect("taken on").id;

    let interest = filtered("data.amount > 1");
    let replays = fixture.take_matching(&ONE, &interest).await;
    assert_eq!(replays.len(), 0);
    let counts = JobCounts {
        delivered: 0,
        failed: 1,
        skipped: 1,
    };
    assert_eq!(fixture.summary_of(other), ("completed", Some(2), counts));
    let mut found = Vec::new();
    for letter in [1, 2] {
        let listed = fixture.dead_letters.get(letter).await.expect("reads");
        let ListedDeadLetter { letter, job } = listed.expect("stays");
        let DeadLetterSubject::Event(delivery) = letter.subject else {
            panic!("a dead letter of one record")
        };
        found.push((job, delivery.code));
    }
    assert_eq!(
        found,
        [
            (Some(holder.id), "status".to_owned()),
            (None, "filter_failed".to_owned())
        ]
    );
}

/// The retry of a single dead letter delivered it although the filter still failed or rejected it.
#[tokio::test]
async fn the_filter_decides_again_about_a_single_dead_letter() {
    for (filter, handed_out, counts, left) in [
        ("data.amount > 1", 0, (0, 1, 0), 1),
        ("entity.id == 'none'", 0, (0, 0, 1), 0),
        ("true", 1, (1, 0, 0), 0),
    ] {
        let fixture = JobFixture::new(2).await;
        let letter = NewDeadLetter {
            cause: DeadLetterCause::Expression,
            ..new_letter(1, "A")
        };
        fixture.dead_letters.add(&ONE, letter);
        let job = fixture.jobs.retry_dead_letter(1).await.expect("taken on");
        let replays = fixture.take_matching(&ONE, &filtered(filter)).await;
        assert_eq!(replays.len(), handed_out, "{filter}");
        for replay in replays {
            fixture.jobs.record_delivered(&ONE, replay.tag);
        }
        let (delivered, failed, skipped) = counts;
        let counts = JobCounts {
            delivered,
            failed,
            skipped,
        };
        assert_eq!(fixture.summary_of(job.id), ("completed", Some(1), counts));
        assert_eq!(fixture.dead_letters.count(&ONE), left, "{filter}");
    }
}

#[tokio::test]
async fn what_was_dropped_can_be_delivered_after_all() {
    let fixture = JobFixture::new(10).await;
    // Three missed events in two gaps brought all the events between them as well.
    let missed = missed_records(&[(4, 5), (8, 8)], 3);
    let id = fixture
        .dead_letters
        .add_missed(&ONE, DeadLetterCause::Expired, missed);
    let job = fixture
        .jobs
        .retry_dead_letter(id)
        .await
        .expect("taken on")
        .id;
    assert_eq!(
        fixture.jobs.retry_dead_letter(id).await.expect("joined").id,
        job
    );
    assert_eq!(
        fixture
            .dead_letters
            .get(id)
            .await
            .expect("reads")
            .expect("is there")
            .job,
        Some(job)
    );
    assert_eq!(fixture.deliver_all(&ONE).await, [4, 5, 8]);
    assert_eq!(
        (fixture.summary_of(job).0, fixture.dead_letters.count(&ONE)),
        ("completed", 0)
    );
}

/// One unreadable record and one job ended all deliveries, after each reopening anew.
#[tokio::test]
async fn a_damaged_record_ends_the_job_that_needs_it_and_nothing_else() {
    let fixture = JobFixture::new(10).await.restart().await;
    let segments = std::fs::read_dir(fixture.env.folder.path().join("journal"));
    for segment in segments.expect("is there").flatten() {
        let mut bytes = std::fs::read(segment.path()).expect("reads");
        // Behind the headers of the segment and of the first block.
        if let Some(byte) = bytes.get_mut(64 + 40) {
            *byte ^= 1;
            std::fs::write(segment.path(), bytes).expect("writes");
        }
    }
    let replay = fixture
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on");
    assert_eq!(fixture.deliver_all(&ONE).await, [0_u64; 0]);
    let state = fixture.jobs.get(replay.id).expect("is there").state;
    assert!(
        matches!(&state, JobState::Cancelled { reason: Some(reason) } if reason.contains("corrupt")),
        "{state:?}"
    );
}

#[tokio::test]
async fn jobs_of_a_subscriber_that_is_gone_end() {
    let fixture = JobFixture::new(10).await;
    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    fixture.dead_letters.add(&OTHER, new_letter(2, "A"));
    let both = fixture
        .jobs
        .retry_dead_letters(JobKind::Retry, DeadLetterFilter::default())
        .await
        .expect("taken on")
        .id;
    let alone = fixture
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    fixture
        .jobs
        .retain_subscribers(|subscriber| *subscriber == OTHER);
    assert_eq!(fixture.summary_of(alone).0, "cancelled");
    assert_eq!(fixture.deliver_all(&OTHER).await, [2]);
    assert_eq!(
        fixture.summary_of(both),
        ("completed", Some(1), delivered(1))
    );
    assert!(fixture.take_replays(&ONE).await.is_empty());
}

#[tokio::test]
async fn there_are_only_so_many_jobs_and_the_oldest_that_are_over_go() {
    let fixture = JobFixture::new(10).await;
    for _ in 0..3 {
        fixture.env.clock.advance(Duration::from_secs(1));
        fixture
            .jobs
            .replay_events(ONE, None, None, Vec::new())
            .await
            .expect("taken on");
    }
    assert!(matches!(
        fixture
            .jobs
            .replay_events(ONE, None, None, Vec::new())
            .await,
        Err(JobError::TooMany(3))
    ));
    fixture.deliver_all(&ONE).await;
    let newest = fixture
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    let numbers = |fixture: &JobFixture| {
        fixture
            .jobs
            .list_jobs(|_| true)
            .iter()
            .map(|job| job.id)
            .collect::<Vec<_>>()
    };
    assert_eq!((newest, numbers(&fixture)), (4, vec![4, 3, 2]));
    let fixture = fixture.restart().await;
    assert_eq!(numbers(&fixture), [4, 3, 2]);
}

/// A request that joined an earlier job, or found no dead letter, had removed the oldest job.
#[tokio::test]
async fn a_job_that_is_not_taken_on_displaces_no_other() {
    let fixture = JobFixture::new(2).await;
    for _ in 0..2 {
        let replay = fixture.jobs.replay_events(ONE, None, None, Vec::new());
        replay.await.expect("taken on");
        fixture.deliver_all(&ONE).await;
    }
    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    let holder = fixture.jobs.retry_dead_letter(1).await.expect("taken on");

    let joined = fixture.jobs.retry_dead_letter(1).await.expect("joined");
    let missing = fixture.register_retry(JobPart::for_record(Position::new(2)));

    assert_eq!(joined.id, holder.id);
    assert!(matches!(missing, Err(JobError::NoDeadLetter)));
    let kept = fixture.jobs.list_jobs(|_| true);
    let kept: Vec<_> = kept.iter().map(|job| job.id).collect();
    assert_eq!(kept, [3, 2, 1]);
}

/// The claims had stayed under an id that the next job was given.
#[tokio::test]
async fn a_job_that_is_not_taken_on_leaves_no_claim() {
    let fixture = JobFixture::new(4).await;
    fixture.dead_letters.add(&ONE, new_letter(1, "A"));
    fixture.dead_letters.add(&ONE, new_letter(2, "A"));
    let holder = fixture.jobs.retry_dead_letter(2).await.expect("taken on");
    let waiting_at = |positions: [u64; 2]| {
        let end = Position::new(5);
        let positions = positions.map(Position::new);
        JobPart::from_store((end, end), positions, JobCounts::default(), Some(2))
    };

    let joined = fixture.register_retry(waiting_at([1, 2]));
    assert_eq!(joined.expect("joined"), holder.id);
    let left = fixture.dead_letters.get(1).await.expect("reads");
    assert_eq!(left.expect("stays").job, None);

    let missing = fixture.register_retry(waiting_at([1, 4]));
    assert!(matches!(missing, Err(JobError::NoDeadLetter)));
    let left = fixture.dead_letters.get(1).await.expect("reads");
    assert_eq!(left.expect("stays").job, None);
}

#[tokio::test]
async fn a_time_is_found_wherever_it_lies() {
    let fixture = JobFixture::new(100).await;
    let end = Position::new(101);
    let first_at = |time| {
        find_position_at(fixture.log.as_ref(), time, end)
            .expect("reads")
            .get()
    };
    for number in 1..=100 {
        assert_eq!(first_at(received_at(number)), number);
        assert_eq!(
            first_at(Timestamp::from_micros(received_at(number).as_micros() + 1)),
            number + 1
        );
    }
    assert_eq!(
        (first_at(Timestamp::default()), first_at(received_at(5_000))),
        (1, 101)
    );
}
