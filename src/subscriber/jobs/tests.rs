//! Jobs against a real journal and a real store, with a subscriber that the test plays.

use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::event::{EntityKey, Kind as EntityKind, Record};
use crate::journal::{JournalLimits, JournalSubmission, RecordDraft, SledJournal, await_fence};
use crate::subscriber::dead_letters::tests::{DeadLetterTestEnv, burial};
use crate::subscription::Filter as Expression;

const ONE: SubscriberId = SubscriberId::Webhook(1);
const OTHER: SubscriberId = SubscriberId::Webhook(2);
const LIMITS: JournalLimits = JournalLimits {
    queue: 4096,
    commit_records: 16,
    commit_bytes: 1 << 20,
    sync_interval: None,
};

/// A journal with records of tickets, each received a second after the one before, and what rests
/// on it.
struct JobFixture {
    ground: DeadLetterTestEnv,
    log: Arc<SledJournal>,
    letters: Arc<DeadLetterStore>,
    jobs: Arc<JobRegistry>,
}

impl JobFixture {
    async fn new(records: u64) -> Self {
        Self::on(DeadLetterTestEnv::new()).filled(records).await
    }

    async fn filled(self, records: u64) -> Self {
        let scene = self;
        for number in 1..=records {
            scene.log.submit(submission(number)).expect("open");
        }
        assert_eq!(
            await_fence(scene.log.as_ref()).await,
            Ok(Position::new(records + 1))
        );
        scene
    }

    fn on(ground: DeadLetterTestEnv) -> Self {
        Self::within(ground, 1 << 20)
    }

    /// With `bytes_max` bytes of records out at once.
    fn within(ground: DeadLetterTestEnv, bytes_max: usize) -> Self {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::default()));
        let log = SledJournal::open(Arc::clone(&ground.store), LIMITS, clock).expect("opens");
        let letters = ground.letters(1_000);
        let journal = Arc::clone(&log) as Arc<dyn Journal>;
        let jobs = JobRegistry::open(
            &ground.rows,
            Arc::clone(&letters),
            journal,
            ground.shared(),
            (3, bytes_max),
        )
        .expect("opens");
        Self {
            ground,
            log,
            letters,
            jobs,
        }
    }

    /// The process ends and begins again.
    async fn restart(self) -> Self {
        let Self {
            ground,
            log,
            letters,
            jobs,
        } = self;
        log.close();
        drop((log, letters, jobs));
        Self::on(ground.reopened().await)
    }

    async fn next(&self, subscriber: &SubscriberId) -> Vec<ReplayItem> {
        self.jobs
            .take_replays(subscriber, &everything())
            .await
            .expect("reads")
    }

    /// Delivers all that comes, and says where it stood.
    async fn deliver_all(&self, subscriber: &SubscriberId) -> Vec<u64> {
        let mut delivered = Vec::new();
        loop {
            let replays = self.next(subscriber).await;
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

    fn shown(&self, id: u64) -> (&'static str, Option<u64>, JobCounts) {
        let job = self.jobs.get(id).expect("is there");
        (job.state.as_str(), job.total(), job.total_counts())
    }
}

fn received_at(number: u64) -> Timestamp {
    Timestamp::from_micros(number.cast_signed() * 1_000_000)
}

/// Every third is of a failed event, which has no sequence.
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

fn everything() -> SubscriberInterest {
    let patterns = [Pattern::from_store("*").expect("a pattern")].into();
    // A subscription that was made only now: what is asked for came before it.
    SubscriberInterest {
        patterns,
        filter: None,
        from: Position::new(1_000_000),
    }
}

fn wanted(numbers: std::ops::RangeInclusive<u64>) -> Vec<u64> {
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
    let scene = JobFixture::new(300).await;
    let replay = scene.jobs.replay_events(
        ONE,
        Some(received_at(10)),
        Some(received_at(200)),
        Vec::new(),
    );
    let id = replay.await.expect("taken on").id;
    assert_eq!(scene.shown(id), ("pending", None, JobCounts::default()));
    let first = scene.next(&ONE).await;
    assert_eq!(first.len(), UNSETTLED_MAX);
    assert!(scene.next(&ONE).await.is_empty(), "there is no room");
    assert!(scene.next(&OTHER).await.is_empty(), "it is not for others");
    let mut positions: Vec<u64> = first
        .iter()
        .map(|replay| replay.tag.position.get())
        .collect();
    let (one_half, other_half) = first.split_at(UNSETTLED_MAX / 2);
    let told = || {
        scene
            .ground
            .notices
            .take_all()
            .contains(&StageRequest::ReplaysAvailable(ONE))
    };
    assert!(told(), "of its beginning");
    one_half[1..]
        .iter()
        .for_each(|replay| scene.jobs.record_delivered(&ONE, replay.tag));
    assert!(!told(), "not for every record");
    scene.jobs.record_delivered(&ONE, one_half[0].tag);
    assert!(told(), "there is room for a page");
    other_half
        .iter()
        .for_each(|replay| scene.jobs.record_delivered(&ONE, replay.tag));
    positions.extend(scene.deliver_all(&ONE).await);
    assert_eq!(positions, wanted(10..=199));
    let total = positions.len() as u64;
    assert_eq!(
        scene.shown(id),
        ("completed", Some(total), delivered(total))
    );
}

#[tokio::test]
async fn a_replay_is_narrowed_by_patterns_and_by_what_the_subscription_wants() {
    let scene = JobFixture::new(30).await;
    let named = |text| Pattern::from_store(text).expect("a pattern");
    scene
        .jobs
        .replay_events(ONE, None, None, vec![named("status.*")])
        .await
        .expect("taken on");
    let even = wanted(1..=30)
        .into_iter()
        .filter(|number| number.is_multiple_of(2))
        .collect::<Vec<_>>();
    assert_eq!(scene.deliver_all(&ONE).await, even);
    scene
        .jobs
        .replay_events(ONE, None, None, vec![named("*")])
        .await
        .expect("taken on");
    let interest = SubscriberInterest {
        patterns: [named("message.received")].into(),
        ..everything()
    };
    let replays = scene
        .jobs
        .take_replays(&ONE, &interest)
        .await
        .expect("reads");
    assert!(
        replays
            .iter()
            .all(|replay| replay.item.record.event_type == "message.received")
    );
    assert_eq!(replays.len(), 10);
}

#[tokio::test]
async fn a_job_goes_on_after_a_restart_with_what_was_not_settled() {
    let scene = JobFixture::new(300).await;
    let id = scene
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    let out = scene.next(&ONE).await;
    // The first takes long, and those behind it don't wait for it.
    out[1..]
        .iter()
        .for_each(|replay| scene.jobs.record_delivered(&ONE, replay.tag));
    scene.ground.ledger.flush().await.expect("writes");
    let scene = scene.restart().await;
    assert_eq!(
        scene
            .ground
            .notices
            .take_all()
            .into_iter()
            .collect::<Vec<_>>(),
        [StageRequest::ReplaysAvailable(ONE)]
    );
    assert_eq!(scene.shown(id), ("running", None, delivered(63)));
    let rest = scene.deliver_all(&ONE).await;
    let all = wanted(1..=300);
    assert_eq!(rest, [&all[..1], &all[64..]].concat());
    assert_eq!(scene.shown(id), ("completed", Some(200), delivered(200)));
    scene.ground.ledger.flush().await.expect("writes");
    let scene = scene.restart().await;
    assert_eq!(scene.shown(id), ("completed", Some(200), delivered(200)));
    assert!(scene.next(&ONE).await.is_empty());
}

#[tokio::test]
async fn what_an_actor_lost_is_handed_out_again() {
    let scene = JobFixture::new(10).await;
    let id = scene
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    assert_eq!(scene.next(&ONE).await.len(), 7);
    scene.jobs.lost(&ONE);
    assert_eq!(scene.deliver_all(&ONE).await, wanted(1..=10));
    assert_eq!(scene.shown(id), ("completed", Some(7), delivered(7)));
}

#[tokio::test]
async fn jobs_that_have_used_their_bytes_up_go_on_record_by_record_and_lose_none() {
    let scene = JobFixture::within(DeadLetterTestEnv::new(), 2_000)
        .filled(30)
        .await;
    for position in wanted(1..=30) {
        scene.letters.add(&OTHER, burial(position, "A"));
    }
    let replay = scene
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    let retry = scene
        .jobs
        .retry_dead_letters(Filter::default())
        .await
        .expect("taken on")
        .id;
    while !scene.next(&ONE).await.is_empty() {}
    assert!(
        (1_000..=2_000).contains(&scene.jobs.budget.bytes()),
        "all that is there"
    );
    assert_eq!(
        scene.next(&OTHER).await.len(),
        1,
        "it does not wait for the first"
    );
    assert!(scene.next(&OTHER).await.is_empty());
    scene.jobs.lost(&OTHER);
    assert_eq!(scene.deliver_all(&OTHER).await, wanted(1..=30));
    scene.jobs.lost(&ONE);
    assert_eq!(scene.jobs.budget.bytes(), 0);
    assert_eq!(scene.deliver_all(&ONE).await, wanted(1..=30));
    for id in [replay, retry] {
        assert_eq!(scene.shown(id), ("completed", Some(20), delivered(20)));
    }
    let cancelled = scene
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    assert!(!scene.next(&ONE).await.is_empty());
    scene.jobs.cancel(cancelled).await.expect("runs");
    assert_eq!(scene.jobs.budget.bytes(), 0);
}

#[tokio::test]
async fn a_dead_letter_goes_when_it_is_delivered_and_is_renewed_when_it_fails() {
    let scene = JobFixture::new(10).await;
    for position in [1, 2, 4] {
        scene.letters.add(&ONE, burial(position, "A"));
    }
    scene.letters.add(&OTHER, burial(5, "A"));
    let filter = Filter {
        subscriber: Some(ONE),
        ..Filter::default()
    };
    let id = scene
        .jobs
        .retry_dead_letters(filter)
        .await
        .expect("taken on")
        .id;
    assert_eq!(scene.shown(id), ("pending", Some(3), JobCounts::default()));
    let out = scene.next(&ONE).await;
    assert_eq!(
        out.iter()
            .map(|replay| replay.tag.dead_letter)
            .collect::<Vec<_>>(),
        [Some(1), Some(2), Some(3)]
    );
    scene.jobs.record_delivered(&ONE, out[0].tag);
    scene.letters.add(&ONE, burial(2, "A"));
    scene.jobs.failed(&ONE, out[1].tag);
    scene.jobs.record_delivered(&ONE, out[2].tag);
    let counts = JobCounts {
        delivered: 2,
        failed: 1,
        skipped: 0,
    };
    assert_eq!(scene.shown(id), ("completed", Some(3), counts));
    assert_eq!(
        (scene.letters.count(&ONE), scene.letters.count(&OTHER)),
        (1, 1)
    );
    let found = scene.letters.get(2).await.expect("reads").expect("stays");
    assert_eq!(found.job, None, "nobody is at it any more");
}

#[tokio::test]
async fn one_dead_letter_is_never_delivered_by_two_jobs() {
    let scene = JobFixture::new(10).await;
    scene.letters.add(&ONE, burial(1, "A"));
    scene.letters.add(&ONE, burial(2, "A"));
    let (first, second) = tokio::join!(
        scene.jobs.retry_dead_letter(1),
        scene.jobs.retry_dead_letter(1)
    );
    let id = first.expect("taken on").id;
    assert_eq!(second.expect("joined").id, id, "the second joins the first");
    let all = scene
        .jobs
        .retry_dead_letters(Filter::default())
        .await
        .expect("taken on")
        .id;
    let out = scene.next(&ONE).await;
    assert_eq!(
        out.iter()
            .map(|replay| (replay.tag.job, replay.tag.position.get()))
            .collect::<Vec<_>>(),
        [(id, 1), (all, 2)]
    );
    out.iter()
        .for_each(|replay| scene.jobs.record_delivered(&ONE, replay.tag));
    assert_eq!(scene.shown(id), ("completed", Some(1), delivered(1)));
    assert_eq!(
        scene.shown(all),
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
        scene.jobs.retry_dead_letter(1).await,
        Err(JobError::NoDeadLetter)
    ));
}

#[tokio::test]
async fn a_retry_that_was_taken_on_is_known_after_a_restart() {
    let scene = JobFixture::new(10).await;
    scene.letters.add(&ONE, burial(1, "A"));
    let id = scene.jobs.retry_dead_letter(1).await.expect("taken on").id;
    let scene = scene.restart().await;
    assert_eq!(
        scene
            .letters
            .get(1)
            .await
            .expect("reads")
            .expect("is there")
            .job,
        Some(id)
    );
    assert_eq!(
        scene.jobs.retry_dead_letter(1).await.expect("joined").id,
        id
    );
    assert_eq!(scene.deliver_all(&ONE).await, [1]);
    assert_eq!(
        (scene.shown(id).0, scene.letters.count(&ONE)),
        ("completed", 0)
    );
}

#[tokio::test]
async fn a_cancelled_job_leaves_its_dead_letters_to_others() {
    let scene = JobFixture::new(10).await;
    scene.letters.add(&ONE, burial(1, "A"));
    scene.letters.add(&ONE, burial(2, "A"));
    let id = scene
        .jobs
        .retry_dead_letters(Filter::default())
        .await
        .expect("taken on")
        .id;
    let out = scene.next(&ONE).await;
    scene.jobs.record_delivered(&ONE, out[0].tag);
    assert_eq!(
        scene.jobs.cancel(id).await.expect("runs").state,
        JobState::Cancelled { reason: None }
    );
    assert!(
        scene
            .ground
            .notices
            .take_all()
            .contains(&StageRequest::JobCancelled {
                subscriber: ONE,
                job: id
            })
    );
    assert!(matches!(
        scene.jobs.cancel(id).await,
        Err(JobError::Finished)
    ));
    assert_eq!(scene.shown(id), ("cancelled", Some(1), delivered(1)));
    assert!(scene.next(&ONE).await.is_empty());
    let left = scene
        .letters
        .get(2)
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(left.job, None, "others may have it");
    // An attempt that was under way came through: its dead letter is dealt with all the same.
    scene.jobs.record_delivered(&ONE, out[1].tag);
    assert_eq!(
        (scene.shown(id).2, scene.letters.count(&ONE)),
        (delivered(1), 0)
    );
}

#[tokio::test]
async fn a_filter_that_was_repaired_decides_again_about_what_it_failed_at() {
    let scene = JobFixture::new(10).await;
    let broken = |position| NewDeadLetter {
        reason: GiveUpReason::Expression,
        ..burial(position, "A")
    };
    scene.letters.add(&ONE, broken(1));
    scene.letters.add(&ONE, broken(2));
    scene.letters.add(&ONE, burial(4, "A"));
    let id = scene
        .jobs
        .retry_dead_letters(Filter::default())
        .await
        .expect("taken on")
        .id;
    let filter = Some(
        Expression::compile("event == 'status.changed' && entity.id == '2'")
            .expect("an expression"),
    );
    let interest = SubscriberInterest {
        filter,
        ..everything()
    };
    let out = scene
        .jobs
        .take_replays(&ONE, &interest)
        .await
        .expect("reads");
    assert_eq!(
        out.iter()
            .map(|replay| replay.tag.position.get())
            .collect::<Vec<_>>(),
        [2, 4]
    );
    assert_eq!(
        scene.shown(id).2,
        JobCounts {
            skipped: 1,
            ..JobCounts::default()
        }
    );
    out.iter()
        .for_each(|replay| scene.jobs.record_delivered(&ONE, replay.tag));
    assert_eq!(
        (scene.shown(id).0, scene.letters.count(&ONE)),
        ("completed", 0)
    );
}

#[tokio::test]
async fn what_was_dropped_can_be_delivered_after_all() {
    let scene = JobFixture::new(10).await;
    let id = scene.letters.add_range(
        &ONE,
        DeadLetterCause::Expired,
        (Position::new(4), Position::new(8)),
        4,
    );
    let job = scene.jobs.retry_dead_letter(id).await.expect("taken on").id;
    assert_eq!(
        scene.jobs.retry_dead_letter(id).await.expect("joined").id,
        job
    );
    assert_eq!(
        scene
            .letters
            .get(id)
            .await
            .expect("reads")
            .expect("is there")
            .job,
        Some(job)
    );
    assert_eq!(scene.deliver_all(&ONE).await, wanted(4..=8));
    assert_eq!(
        (scene.shown(job).0, scene.letters.count(&ONE)),
        ("completed", 0)
    );
}

#[tokio::test]
async fn jobs_of_a_subscriber_that_is_gone_end() {
    let scene = JobFixture::new(10).await;
    scene.letters.add(&ONE, burial(1, "A"));
    scene.letters.add(&OTHER, burial(2, "A"));
    let both = scene
        .jobs
        .retry_dead_letters(Filter::default())
        .await
        .expect("taken on")
        .id;
    let alone = scene
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    scene
        .jobs
        .retain_subscribers(|subscriber| *subscriber == OTHER);
    assert_eq!(scene.shown(alone).0, "cancelled");
    assert_eq!(scene.deliver_all(&OTHER).await, [2]);
    assert_eq!(scene.shown(both), ("completed", Some(1), delivered(1)));
    assert!(scene.next(&ONE).await.is_empty());
}

#[tokio::test]
async fn there_are_only_so_many_jobs_and_the_oldest_that_are_over_go() {
    let scene = JobFixture::new(10).await;
    for _ in 0..3 {
        scene.ground.clock.advance(Duration::from_secs(1));
        scene
            .jobs
            .replay_events(ONE, None, None, Vec::new())
            .await
            .expect("taken on");
    }
    assert!(matches!(
        scene.jobs.replay_events(ONE, None, None, Vec::new()).await,
        Err(JobError::TooMany(3))
    ));
    scene.deliver_all(&ONE).await;
    let newest = scene
        .jobs
        .replay_events(ONE, None, None, Vec::new())
        .await
        .expect("taken on")
        .id;
    let numbers = |scene: &JobFixture| {
        scene
            .jobs
            .list_jobs(|_| true)
            .iter()
            .map(|job| job.id)
            .collect::<Vec<_>>()
    };
    assert_eq!((newest, numbers(&scene)), (4, vec![4, 3, 2]));
    let scene = scene.restart().await;
    assert_eq!(numbers(&scene), [4, 3, 2]);
}

#[tokio::test]
async fn a_time_is_found_wherever_it_lies() {
    let scene = JobFixture::new(100).await;
    let end = Position::new(101);
    let first_at = |time| {
        step_reader::find_position_at(scene.log.as_ref(), time, end)
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
