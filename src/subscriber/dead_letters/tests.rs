//! Dead letters against a real store, whose checkpoints a task writes.

use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::event::{Kind, Record, Timestamp};
use crate::subscriber::{AttemptFailure, OutboundRecord};
use crate::table_store::{JournaledTableId, TestStore};

/// A store with its tables, a checkpoint buffer that is written on each flush request, and the
/// other shared parts.
pub(in crate::subscriber) struct DeadLetterTestEnv {
    pub(in crate::subscriber) folder: TempDir,
    pub(in crate::subscriber) store: TestStore,
    pub(in crate::subscriber) tables: DeliveryTables,
    pub(in crate::subscriber) checkpoints: Arc<CheckpointBuffer>,
    pub(in crate::subscriber) requests: Arc<StageRequestQueue>,
    pub(in crate::subscriber) clock: Arc<ManualClock>,
    writer: tokio::task::JoinHandle<()>,
}

impl DeadLetterTestEnv {
    pub(in crate::subscriber) fn new() -> Self {
        Self::on(tempfile::tempdir().expect("a temporary folder"))
    }

    fn on(folder: TempDir) -> Self {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_micros(1_000_000)));
        let store = TestStore::open(folder.path(), Arc::clone(&clock) as Arc<dyn Clock>);
        let tables = DeliveryTables::new(store.tables.table(JournaledTableId::Deliveries));
        let checkpoints = Arc::<CheckpointBuffer>::default();
        let writer = tokio::spawn(write_checkpoints(Arc::clone(&checkpoints), tables.clone()));
        Self {
            folder,
            store,
            tables,
            checkpoints,
            requests: Arc::default(),
            clock,
            writer,
        }
    }

    /// Reopens the store from the disk: changes that were not written are lost.
    pub(in crate::subscriber) async fn reopened(self) -> Self {
        self.writer.abort();
        // The task may have ended before the abort.
        let _ = self.writer.await;
        let folder = self.folder;
        drop((self.tables, self.checkpoints, self.requests, self.store));
        Self::on(folder)
    }

    pub(in crate::subscriber) fn recovery_deps(&self) -> RedeliveryDeps {
        (
            Arc::clone(&self.checkpoints),
            Arc::clone(&self.requests),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        )
    }

    pub(in crate::subscriber) fn open_dead_letters(&self, max: u64) -> Arc<DeadLetterStore> {
        let bounds = DeadLetterBounds {
            max,
            total_max: 1_000,
        };
        DeadLetterStore::open(self.tables.clone(), self.recovery_deps(), bounds).expect("opens")
    }
}

async fn write_checkpoints(checkpoints: Arc<CheckpointBuffer>, tables: DeliveryTables) {
    let mut requested = checkpoints.flush_requests();
    loop {
        if let Some(checkpoint) = checkpoints.take_checkpoint() {
            checkpoints.mark_written(checkpoint.write(&tables).expect("writes"));
        }
        if requested.changed().await.is_err() {
            return;
        }
    }
}

pub(in crate::subscriber) fn item(position: u64, id: &str) -> OutboundRecord {
    let entity = EntityKey::try_new(Kind::Ticket, id).expect("valid");
    let at = Timestamp::from_micros(position.cast_signed() * 1_000);
    let record = Record {
        sequence: Some(1),
        ..Record::new("support", entity, "status.changed", at)
    };
    OutboundRecord {
        position: Position::new(position),
        sequence: 1,
        received_at: at,
        record: Arc::new(record),
    }
}

pub(in crate::subscriber) fn new_letter(position: u64, id: &str) -> NewDeadLetter {
    let answer = Bytes::from_static(b"down");
    let failure = AttemptFailure {
        status: Some(503),
        code: "status",
        detail: "the answer was 503".into(),
        answer,
    };
    let (attempts, cause, is_halting) = (8, DeadLetterCause::Exhausted, false);
    NewDeadLetter {
        item: item(position, id),
        attempts,
        failure,
        cause,
        is_halting,
    }
}

const ONE: SubscriberId = SubscriberId::Webhook(1);
const OTHER: SubscriberId = SubscriberId::Webhook(2);

async fn ids(letters: &Arc<DeadLetterStore>, filter: DeadLetterFilter) -> Vec<u64> {
    let page = letters.list(filter, 0..100).await.expect("reads");
    assert_eq!(page.total, page.items.len() as u64);
    page.items.iter().map(|found| found.letter.id).collect()
}

fn delivery(found: &ListedDeadLetter) -> &FailedDelivery {
    let DeadLetterSubject::Event(delivery) = &found.letter.subject else {
        panic!("{found:?}")
    };
    delivery
}

/// Returns `count` missed records in `gaps`, which are pairs of first and last position.
pub(in crate::subscriber) fn missed_records(gaps: &[(u64, u64)], count: u64) -> MissedRecords {
    let position = |(first, last): &(u64, u64)| (Position::new(*first), Position::new(*last));
    let gaps = gaps.iter().map(position).collect();
    MissedRecords::from_stored(gaps, count).expect("ordered gaps")
}

#[tokio::test]
async fn dead_letters_are_listed_newest_first_by_what_is_asked_for() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    letters.add(&ONE, new_letter(1, "A"));
    letters.add(
        &OTHER,
        NewDeadLetter {
            cause: DeadLetterCause::Refused,
            ..new_letter(1, "A")
        },
    );
    letters.add(&ONE, new_letter(5, "B"));
    letters.add_missed(&ONE, DeadLetterCause::Expired, missed_records(&[(6, 9)], 3));
    let all = DeadLetterFilter::default();
    assert_eq!(ids(&letters, all.clone()).await, [4, 3, 2, 1]);
    let page = letters.list(all.clone(), 1..3).await.expect("reads");
    assert_eq!(
        (
            page.total,
            page.items
                .iter()
                .map(|found| found.letter.id)
                .collect::<Vec<_>>()
        ),
        (4, vec![3, 2])
    );
    let requested = [
        (
            DeadLetterFilter {
                subscriber: Some(ONE),
                ..all.clone()
            },
            vec![4, 3, 1],
        ),
        (
            DeadLetterFilter {
                cause: Some(DeadLetterCause::Refused),
                ..all.clone()
            },
            vec![2],
        ),
        (
            DeadLetterFilter {
                entity: Some("A".into()),
                ..all.clone()
            },
            vec![2, 1],
        ),
        (
            DeadLetterFilter {
                entity: Some("A".into()),
                subscriber: Some(OTHER),
                ..all.clone()
            },
            vec![2],
        ),
        (
            DeadLetterFilter {
                event: Some("status.changed".into()),
                ..all.clone()
            },
            vec![3, 2, 1],
        ),
        (
            DeadLetterFilter {
                kind: Some(Kind::Lead),
                ..all.clone()
            },
            vec![],
        ),
        (
            DeadLetterFilter {
                since: Some(Timestamp::from_micros(5_000)),
                ..all.clone()
            },
            vec![4, 3],
        ),
        (
            DeadLetterFilter {
                until: Some(Timestamp::from_micros(5_000)),
                ..all.clone()
            },
            vec![2, 1],
        ),
    ];
    for (filter, expected) in requested {
        assert_eq!(ids(&letters, filter.clone()).await, expected, "{filter:?}");
    }
}

/// A dead letter that was added while the list waited for the disk was counted and not shown.
#[tokio::test]
async fn a_dead_letter_added_while_a_list_is_read_is_counted_only_if_it_is_shown() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    letters.add(&ONE, new_letter(1, "A"));
    let (page, ()) = tokio::join!(letters.list(DeadLetterFilter::default(), 0..100), async {
        letters.add(&ONE, new_letter(2, "A"));
    });
    let page = page.expect("reads");
    assert_eq!(page.total, page.items.len() as u64);
}

#[tokio::test]
async fn a_record_that_fails_again_renews_its_dead_letter() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    assert_eq!(
        letters.add(
            &ONE,
            NewDeadLetter {
                is_halting: true,
                ..new_letter(1, "A")
            }
        ),
        1
    );
    env.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(
        letters.add(
            &ONE,
            NewDeadLetter {
                cause: DeadLetterCause::Refused,
                ..new_letter(1, "A")
            }
        ),
        1
    );
    let found = letters.get(1).await.expect("reads").expect("is there");
    assert_eq!(
        (found.letter.cause, found.letter.at),
        (DeadLetterCause::Refused, Timestamp::from_micros(1_000_000))
    );
    assert_eq!(
        (delivery(&found).attempts, delivery(&found).last_at),
        (16, Timestamp::from_micros(2_000_000))
    );
    assert!(
        delivery(&found).is_halting,
        "the lane stands still as before"
    );
    assert_eq!(letters.count(&ONE), 1);
}

/// The renewal had dropped the claim: the dead letter could be discarded under its job.
#[tokio::test]
async fn a_dead_letter_that_is_renewed_stays_with_the_job_that_holds_it() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    let id = letters.add(&ONE, new_letter(1, "A"));
    let position = Position::new(1);
    letters
        .claim_for_job(&ONE, position, 7)
        .expect("no job holds it");

    letters.add(&ONE, new_letter(1, "A"));

    assert_eq!(letters.claim_for_job(&ONE, position, 8), Err(Some(7)));
    assert_eq!(
        letters.discard(id).await.expect("reads"),
        DiscardOutcome::InJob(7)
    );
    letters.release_claims(&ONE, [position], 7);
    assert_eq!(letters.claim_for_job(&ONE, position, 8), Ok(id));
}

#[tokio::test]
async fn a_number_is_never_used_again_not_even_after_a_restart() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    letters.add(&ONE, new_letter(1, "A"));
    let last = letters.add(&ONE, new_letter(2, "A"));
    assert_eq!(
        letters.discard(last).await.expect("writes"),
        DiscardOutcome::Gone
    );
    assert_eq!(
        letters.discard(last).await.expect("reads"),
        DiscardOutcome::NotFound
    );
    drop(letters);
    let env = env.reopened().await;
    let letters = env.open_dead_letters(100);
    assert_eq!(letters.count(&ONE), 1);
    assert_eq!(letters.add(&ONE, new_letter(3, "A")), 3);
}

/// Both had been discarded with the first: its lane went on although the second halted it.
#[tokio::test]
async fn a_lane_that_two_dead_letters_halt_is_released_with_the_last() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    let halting = |position| NewDeadLetter {
        is_halting: true,
        ..new_letter(position, "A")
    };
    let (first, second) = (letters.add(&ONE, halting(1)), letters.add(&ONE, halting(2)));
    let entity = halting(1).item.record.entity.clone();
    let key = LaneKey::Entity(entity);
    assert_eq!(
        letters.discard(first).await.ok(),
        Some(DiscardOutcome::Gone)
    );
    assert!(letters.is_lane_halted(&ONE, &key));
    assert!(env.requests.take_all().is_empty());
    assert_eq!(
        letters.discard(second).await.ok(),
        Some(DiscardOutcome::Gone)
    );
    assert!(!letters.is_lane_halted(&ONE, &key));
    assert_eq!(env.requests.take_all().len(), 1);
}

#[tokio::test]
async fn a_halted_lane_is_released_by_whatever_ends_its_dead_letter() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    let key = LaneKey::Entity(item(1, "A").record.entity.clone());
    let released = [(ONE, StageRequest::LaneReleased(key.clone()))];
    let halting = || NewDeadLetter {
        is_halting: true,
        ..new_letter(1, "A")
    };
    let id = letters.add(&ONE, halting());
    assert!(letters.is_lane_halted(&ONE, &key) && !letters.is_lane_halted(&OTHER, &key));
    letters.discard(id).await.expect("writes");
    assert!(!letters.is_lane_halted(&ONE, &key));
    assert_eq!(
        env.requests.take_all().into_iter().collect::<Vec<_>>(),
        released
    );
    letters.add(&ONE, halting());
    letters.remove_delivered(&ONE, Position::new(1));
    assert_eq!(
        env.requests.take_all().into_iter().collect::<Vec<_>>(),
        released
    );
    letters.add(&ONE, new_letter(1, "A"));
    letters.remove_delivered(&ONE, Position::new(1));
    assert!(env.requests.take_all().is_empty(), "its lane went on");
}

#[tokio::test]
async fn a_subscriber_with_too_many_is_told_when_there_is_room() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(2);
    letters.add(&ONE, new_letter(1, "A"));
    assert!(!letters.is_full(&ONE));
    letters.add(&ONE, new_letter(2, "A"));
    letters.add(&ONE, new_letter(3, "A"));
    assert!(letters.is_full(&ONE) && !letters.is_full(&OTHER));
    letters.remove_delivered(&ONE, Position::new(1));
    assert!(letters.is_full(&ONE));
    letters.remove_delivered(&ONE, Position::new(2));
    assert!(!letters.is_full(&ONE));
}

#[tokio::test]
async fn what_is_dropped_for_one_cause_is_one_dead_letter() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    let id = letters.add_missed(&ONE, DeadLetterCause::Expired, missed_records(&[(5, 9)], 3));
    assert_eq!(
        letters.add_missed(
            &ONE,
            DeadLetterCause::Expired,
            missed_records(&[(12, 20)], 4)
        ),
        id
    );
    assert_ne!(
        letters.add_missed(
            &ONE,
            DeadLetterCause::Disabled,
            missed_records(&[(21, 22)], 2)
        ),
        id
    );
    let found = letters.get(id).await.expect("reads").expect("is there");
    assert_eq!(
        found.letter.subject,
        DeadLetterSubject::Range(missed_records(&[(5, 9), (12, 20)], 7))
    );
    assert_eq!(
        letters.claim_for_job(&ONE, DeadLetterPlace::Missed(id), 3),
        Ok(id)
    );
    assert_ne!(
        letters.add_missed(
            &ONE,
            DeadLetterCause::Expired,
            missed_records(&[(23, 24)], 2)
        ),
        id,
        "a job is at work on that one"
    );
}

#[tokio::test]
async fn all_that_is_asked_for_is_discarded_but_what_a_job_has() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    for position in 1..=4 {
        letters.add(&ONE, new_letter(position, "A"));
    }
    letters.add(&OTHER, new_letter(1, "A"));
    letters
        .claim_for_job(&ONE, Position::new(2), 7)
        .expect("no job holds it");
    assert_eq!(
        letters.claim_for_job(&ONE, Position::new(2), 8),
        Err(Some(7))
    );
    assert_eq!(letters.claim_for_job(&ONE, Position::new(9), 8), Err(None));
    assert_eq!(
        letters.discard(2).await.expect("reads"),
        DiscardOutcome::InJob(7)
    );
    let filter = DeadLetterFilter {
        subscriber: Some(ONE),
        ..DeadLetterFilter::default()
    };
    assert_eq!(letters.discard_matching(filter).await.expect("writes"), 3);
    assert_eq!(ids(&letters, DeadLetterFilter::default()).await, [5, 2]);
    letters.retain(|subscriber| *subscriber == OTHER);
    assert_eq!(ids(&letters, DeadLetterFilter::default()).await, [5]);
    drop(letters);
    let env = env.reopened().await;
    assert_eq!(
        ids(&env.open_dead_letters(100), DeadLetterFilter::default()).await,
        [5]
    );
}

#[tokio::test]
async fn no_more_than_the_beginning_of_an_answer_is_kept() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    let answer = Bytes::from("\u{1}ö".repeat(2_000));
    let failure = AttemptFailure {
        status: None,
        code: "status",
        detail: "ä".repeat(2_000),
        answer,
    };
    let id = letters.add(
        &ONE,
        NewDeadLetter {
            failure,
            ..new_letter(1, "A")
        },
    );
    let found = letters.get(id).await.expect("reads").expect("is there");
    let FailedDelivery { answer, detail, .. } = delivery(&found);
    assert!(
        answer.len() <= ANSWER_MAX_BYTES && answer.starts_with("öö") && !answer.contains('\u{1}')
    );
    assert!(detail.len() <= 512 && detail.ends_with('ä'));
}

/// There was a bound for each subscriber only, so many of them together filled disk and memory.
#[tokio::test]
async fn when_all_have_too_many_those_with_more_than_their_share_pause() {
    let env = DeadLetterTestEnv::new();
    let bounds = DeadLetterBounds {
        max: 100,
        total_max: 10,
    };
    let letters =
        DeadLetterStore::open(env.tables.clone(), env.recovery_deps(), bounds).expect("opens");
    for position in 1..=8 {
        letters.add(&ONE, new_letter(position, "A"));
    }
    letters.add(&OTHER, new_letter(1, "A"));
    assert!(!letters.is_full(&ONE), "there is room for one more");
    letters.add(&OTHER, new_letter(2, "A"));
    assert_eq!(letters.count_all(), 10);
    assert!(letters.is_full(&ONE) && !letters.is_full(&OTHER));
    assert!(!letters.is_full(&SubscriberId::Webhook(9)));

    letters.remove_delivered(&ONE, Position::new(1));
    assert!(!letters.is_full(&ONE));
}

#[tokio::test]
async fn each_criterion_of_a_filter_is_found_in_memory() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(100);
    for (position, entity) in [(1, "A"), (2, "B"), (3, "A")] {
        letters.add(&ONE, new_letter(position, entity));
    }
    let all = DeadLetterFilter::default();
    let of_a = DeadLetterFilter {
        entity: Some("A".into()),
        ..all.clone()
    };
    let of_nobody = DeadLetterFilter {
        entity: Some("C".into()),
        ..all.clone()
    };
    let of_leads = DeadLetterFilter {
        kind: Some(Kind::Lead),
        ..all.clone()
    };
    let of_other_events = DeadLetterFilter {
        event: Some("no.such".into()),
        ..all.clone()
    };
    for (filter, expected) in [
        (all.clone(), vec![3, 2, 1]),
        (of_a, vec![3, 1]),
        (of_nobody, vec![]),
        (of_leads, vec![]),
        (of_other_events, vec![]),
    ] {
        assert_eq!(ids(&letters, filter).await, expected);
    }
    let page = letters.list(all, 0..2).await.expect("reads");
    let found: Vec<_> = page.items.iter().map(|found| found.letter.id).collect();
    assert_eq!((page.total, found), (3, vec![3, 2]));
}

/// Lists and discards waited for the lock of all dead letters on a worker of HTTP, and held it there.
#[tokio::test]
async fn a_list_and_a_discard_leave_the_thread_of_their_caller() {
    let env = DeadLetterTestEnv::new();
    let letters = env.open_dead_letters(10);
    // This thread holds the lock: a first poll that takes it here would never return.
    let all = DeadLetterFilter::default;
    let held = letters.lock();
    let mut page = Box::pin(letters.list(all(), 0..10));
    let mut discarded = Box::pin(letters.discard_matching(all()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(page.as_mut().poll(&mut context).is_pending());
    assert!(discarded.as_mut().poll(&mut context).is_pending());
    drop(held);
    assert_eq!(page.await.expect("reads").total, 0);
    assert_eq!(discarded.await.expect("writes"), 0);
}
