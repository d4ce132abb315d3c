//! The stage as a whole, over a real journal, with attempts that a test makes up.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;

use tokio::sync::watch;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::config::{Secret, load_config};
use crate::event::{EntityKey, Kind, StoreIncarnation, fingerprint_key};
use crate::failpoints::NoFailures;
use crate::journal::{JournalLimits, JournalSubmission, RecordDraft, SledJournal, await_fence};
use crate::projection::{self, Projection};
use crate::subscription::{
    DeliveryOrdering, Pattern, SigningSecrets, SigningStyle, Subscription, SubscriptionState,
};
use attempt::AttemptOutcome;
use dead_letters::{DeadLetterFilter, DeadLetterSubject};

const SHORT: Duration = Duration::from_secs(30);

/// What a delivery was: to whom, which record, which attempt.
type DeliveredAttempt = (SubscriberId, u64, u32);

/// What comes of an attempt; a panic in it is one of the actor.
type AttemptScript = Box<dyn FnMut(&DeliveredAttempt) -> AttemptOutcome>;

/// A store with all that the stage rests on.
struct StageTestEnv {
    log: Arc<SledJournal>,
    projection: Arc<Projection>,
    exchange: Arc<CallLog>,
    subscriptions: Arc<SubscriptionRegistry>,
    accounts: Arc<AccountRegistry>,
    store: Arc<DataStore>,
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    /// How many records each entity has.
    sequences: RefCell<HashMap<String, u64>>,
}

/// A stage that is running on the test's own thread.
struct RunningStage {
    stage: Rc<DeliveryStage>,
    delivered: Rc<watch::Sender<Vec<DeliveredAttempt>>>,
    stop: watch::Sender<Option<Duration>>,
    run: actix_rt::task::JoinHandle<Result<(), DeliveryStageError>>,
}

impl StageTestEnv {
    fn open(folder: &Path, clock: Arc<dyn Clock>) -> Self {
        let store = DataStore::open(folder, 1 << 20, Arc::new(NoFailures)).expect("opens");
        let limits = JournalLimits {
            queue: 1024,
            commit_records: 64,
            commit_bytes: 1 << 20,
            sync_interval: None,
        };
        let log = SledJournal::open(Arc::clone(&store), limits, Arc::clone(&clock)).expect("opens");
        let limits = projection::ProjectionLimits {
            claim_window: SHORT,
        };
        let journal = Arc::clone(&log) as Arc<dyn Journal>;
        let projection = Projection::start(
            Arc::clone(&store),
            journal,
            limits,
            Arc::clone(&clock),
            fingerprint_key,
        );
        let bounds = crate::call_log::CallLogLimits {
            rows_max: 1_000,
            refused_rows_max: 10,
        };
        let keys = [("HOOKYARD_ADMIN__TOKEN".to_owned(), "token".to_owned())];
        Self {
            projection: projection.expect("starts"),
            exchange: CallLog::open(Arc::clone(&store), bounds).expect("opens"),
            subscriptions: Arc::new(
                SubscriptionRegistry::open(Arc::clone(&store), 20_000, None).expect("opens"),
            ),
            accounts: Arc::new(AccountRegistry::open(Arc::clone(&store), 10, None).expect("opens")),
            config: Arc::new(load_config(None, keys).expect("a valid configuration")),
            sequences: RefCell::default(),
            log,
            store,
            clock,
        }
    }

    /// A subscription to what `pattern` admits, from here on.
    async fn subscribe(&self, pattern: &str) -> SubscriberId {
        let from = await_fence(self.log.as_ref()).await.expect("open");
        self.subscribe_from(pattern, from)
    }

    fn subscribe_from(&self, pattern: &str, from: Position) -> SubscriberId {
        let make = |id| Subscription {
            id,
            url: "https://example.com/".into(),
            events: vec![Pattern::from_store(pattern).expect("a pattern")],
            secrets: SigningSecrets {
                current: Secret::new("hush"),
                previous: None,
                signing_key: None,
            },
            state: SubscriptionState::Active,
            description: None,
            filter: None,
            transform: None,
            ordering: DeliveryOrdering::Entity,
            concurrency: None,
            signing: vec![SigningStyle::Standard],
            headers: Vec::new(),
            rate_limit: None,
            timeout: None,
            retry_schedule: Some(vec![Duration::from_millis(1); 5]),
            on_exhausted: None,
            from,
            created_at: Timestamp::from_micros(1),
            updated_at: Timestamp::from_micros(1),
        };
        SubscriberId::Webhook(self.subscriptions.create(make).expect("room").id)
    }

    /// Writes the next event of a ticket.
    async fn write(&self, ticket: &str, event: &str) {
        let sequence = *self
            .sequences
            .borrow_mut()
            .entry(ticket.into())
            .and_modify(|last| *last += 1)
            .or_insert(1);
        let entity = EntityKey::try_new(Kind::Ticket, ticket).expect("an id");
        let at = self.clock.wall();
        let record = Record {
            sequence: Some(sequence),
            ..Record::new("support", entity.clone(), event, at)
        };
        let draft = RecordDraft {
            entity,
            sequence: Some(sequence),
            received_at: at,
            bytes: record.encode(),
        };
        self.log
            .append(JournalSubmission {
                drafts: vec![draft],
                settle: Box::new(|_| ()),
            })
            .expect("open");
        await_fence(self.log.as_ref()).await.expect("open");
    }

    /// Starts a stage whose attempts come to what `script` says.
    fn start(
        &self,
        mut script: impl FnMut(&DeliveredAttempt) -> AttemptOutcome + 'static,
    ) -> RunningStage {
        let journal = Arc::clone(&self.log) as Arc<dyn Journal>;
        let opened = StoredDeliveryState::load(&self.config, &self.store, &journal, &self.clock)
            .expect("opens");
        let delivered = Rc::new(watch::Sender::new(Vec::new()));
        let script: RefCell<AttemptScript> =
            RefCell::new(Box::new(move |delivery| script(delivery)));
        let seen = Rc::clone(&delivered);
        let attempts: AttemptFn = Box::new(move |profile, item, which| {
            let delivery = (profile.id.clone(), item.position.get(), which.attempt);
            let outcome = (script.borrow_mut())(&delivery);
            let seen = Rc::clone(&seen);
            Box::pin(async move {
                if outcome == AttemptOutcome::Accepted {
                    seen.send_modify(|seen| seen.push(delivery));
                }
                (outcome, None)
            })
        });
        let means = DeliveryStageDeps {
            reads: self.projection.reader(),
            tables: opened.tables.clone(),
            checkpoints: Arc::clone(&opened.checkpoints),
            recovery: opened.recovery.clone(),
            call_log: Arc::clone(&self.exchange),
            clock: Arc::clone(&self.clock),
            permits: AttemptPermits::new(8),
            memory: DeliveryMemory::new(self.config.delivery.memory_bytes),
            forget_client: Box::new(|_| ()),
            announcer: SubscriberAnnouncer::new(
                None,
                Arc::clone(&self.clock),
                StoreIncarnation::new(1),
            ),
            attempt_fn: attempts,
            journal,
        };
        let (commands, (stop, stopping)) = (mpsc::channel(1).1, watch::channel(None));
        let (subscriptions, accounts) =
            (Arc::clone(&self.subscriptions), Arc::clone(&self.accounts));
        let sources = DispatcherDeps {
            config: Arc::clone(&self.config),
            subscriptions,
            accounts,
            commands,
            stopping,
        };
        let dispatcher = build_dispatcher(means, opened, sources);
        let stage = Rc::clone(dispatcher.stage());
        RunningStage {
            stage,
            delivered,
            stop,
            run: actix_rt::spawn(dispatcher.run()),
        }
    }
}

impl RunningStage {
    /// Waits until so many deliveries were accepted, and gives them.
    async fn delivered(&self, count: usize) -> Vec<DeliveredAttempt> {
        let mut seen = self.delivered.subscribe();
        let wait = seen.wait_for(|seen| seen.len() >= count);
        tokio::time::timeout(SHORT, wait)
            .await
            .expect("it never came")
            .expect("open")
            .clone()
    }

    /// Waits until `what` is so.
    async fn until(&self, what: impl Fn(&DeliveryStage) -> bool) {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        let wait = async {
            while !what(&self.stage) {
                looks.tick().await;
            }
        };
        tokio::time::timeout(SHORT, wait)
            .await
            .expect("it never came");
    }

    /// Waits until `id` has a dead letter, and gives the newest.
    async fn dead_letter(&self, id: &SubscriberId) -> DeadLetterSubject {
        let dead_letters = &self.stage.deps.recovery.dead_letters;
        self.until(|_| dead_letters.count(id) > 0).await;
        let filter = DeadLetterFilter {
            subscriber: Some(id.clone()),
            ..DeadLetterFilter::default()
        };
        dead_letters
            .list(filter, 0..1)
            .await
            .expect("reads")
            .items
            .remove(0)
            .letter
            .subject
    }

    async fn stop(self) {
        self.stop.send_replace(Some(SHORT));
        self.run
            .await
            .expect("no panic")
            .expect("the store is well");
    }
}

fn run(test: impl AsyncFnOnce(&StageTestEnv)) {
    run_by(Arc::new(SystemClock::default()), test);
}

fn run_by(clock: Arc<dyn Clock>, test: impl AsyncFnOnce(&StageTestEnv)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    actix_rt::System::new().block_on(async {
        let ground = StageTestEnv::open(folder.path(), clock);
        test(&ground).await;
        ground.log.close();
        ground.projection.close();
        ground.exchange.close();
    });
}

fn positions(delivered: &[DeliveredAttempt]) -> Vec<u64> {
    let mut positions: Vec<_> = delivered.iter().map(|(_, position, _)| *position).collect();
    positions.sort_unstable();
    positions
}

#[test]
fn an_actor_that_panics_is_begun_anew_and_loses_nothing() {
    run(async |ground| {
        let crashes = Rc::new(Cell::new(0));
        let count = Rc::clone(&crashes);
        let id = ground.subscribe("*").await;
        let running = ground.start(move |(_, position, _)| {
            if *position == 6 && count.replace(count.get() + 1) < 2 {
                panic!("as the test wants it");
            }
            AttemptOutcome::Accepted
        });
        for number in 1..=10 {
            ground
                .write(&format!("T{}", number % 3), "message.created")
                .await;
        }
        let distinct = |seen: &Vec<DeliveredAttempt>| {
            let mut seen = positions(seen);
            seen.dedup();
            seen
        };
        let mut seen = running.delivered.subscribe();
        let all = seen.wait_for(|seen| distinct(seen).len() == 10);
        let seen = distinct(
            &tokio::time::timeout(SHORT, all)
                .await
                .expect("it never came")
                .expect("open")
                .clone(),
        );
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
        assert_eq!(crashes.get(), 3);
        assert!(running.stage.counters(&id).delivered >= 10);
        running.stop().await;
    });
}

#[test]
fn an_actor_that_panics_again_and_again_is_left_alone_and_its_subscriber_paused() {
    run(async |ground| {
        let SubscriberId::Webhook(number) = ground.subscribe("*").await else {
            unreachable!()
        };
        let other = ground.subscribe("*").await;
        let mut changes = ground.subscriptions.watch_changes();
        changes.borrow_and_update();
        let running = ground.start(move |(id, _, _)| {
            assert!(*id != SubscriberId::Webhook(number), "as the test wants it");
            AttemptOutcome::Accepted
        });
        ground.write("T", "message.created").await;
        tokio::time::timeout(SHORT, changes.changed())
            .await
            .expect("it never came")
            .expect("open");
        let known = ground.subscriptions.snapshot();
        let state = &known.get(number).expect("there").subscription.state;
        assert!(
            matches!(state, SubscriptionState::Paused { reason: Some(_) }),
            "{state:?}"
        );
        assert_eq!(running.delivered(1).await, [(other, 1, 1)]);
        running.stop().await;
    });
}

#[test]
fn of_many_subscriptions_only_the_one_that_is_owed_something_costs_anything() {
    run(async |ground| {
        for _ in 0..100 {
            ground.subscribe_from("status.changed", Position::FIRST);
        }
        let one = ground.subscribe("message.created").await;
        let running = ground.start(|_| AttemptOutcome::Accepted);
        ground.write("T", "message.created").await;
        ground.write("T", "tags.updated").await;
        assert_eq!(running.delivered(1).await, [(one.clone(), 1, 1)]);
        assert_eq!(
            running
                .stage
                .inboxes
                .borrow()
                .keys()
                .cloned()
                .collect::<Vec<_>>(),
            [one]
        );
        running.stop().await;
    });
}

#[test]
fn a_subscription_whose_first_record_was_passed_already_reads_from_there() {
    run(async |ground| {
        let first = ground.subscribe("*").await;
        let running = ground.start(|_| AttemptOutcome::Accepted);
        for _ in 0..5 {
            ground.write("T", "message.created").await;
        }
        running.delivered(5).await;
        let late = ground.subscribe_from("*", Position::new(3));
        ground.write("T", "message.created").await;
        let delivered = running.delivered(10).await;
        let of = |id: &SubscriberId| {
            delivered
                .iter()
                .filter(|(to, ..)| to == id)
                .map(|(_, at, _)| *at)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (of(&first), of(&late)),
            (vec![1, 2, 3, 4, 5, 6], vec![3, 4, 5, 6])
        );
        running.stop().await;
    });
}

#[test]
fn what_was_settled_before_a_stop_is_not_delivered_again_and_the_rest_is() {
    run(async |ground| {
        let id = ground.subscribe("*").await;
        let running = ground.start(|(_, position, _)| match position {
            2 => AttemptOutcome::TransientFailure {
                failure: failure(),
                retry_after: Some(Duration::from_secs(3_600)),
            },
            _ => AttemptOutcome::Accepted,
        });
        for ticket in ["A", "B", "A", "B"] {
            ground.write(ticket, "message.created").await;
        }
        assert_eq!(positions(&running.delivered(2).await), [1, 3]);
        running.stop().await;
        let rows = DeliveryTables::open(Arc::clone(&ground.store))
            .expect("opens")
            .lane_rows(&id, ground.clock.wall())
            .expect("reads");
        assert_eq!(
            rows.iter()
                .map(|row| (row.sequence, row.attempts))
                .collect::<Vec<_>>(),
            [(1, 1)]
        );
        ground.write("A", "message.created").await;
        let running = ground.start(|_| AttemptOutcome::Accepted);
        assert_eq!(positions(&running.delivered(1).await), [5]);
        running.stop().await;
    });
}

#[test]
fn a_cursor_beyond_the_journals_end_is_refused() {
    run(async |ground| {
        let rows = DeliveryTables::open(Arc::clone(&ground.store)).expect("opens");
        let ledger = CheckpointBuffer::default();
        ledger.set_cursor(Position::new(9));
        ledger
            .take_checkpoint()
            .expect("something")
            .write(&rows)
            .expect("writes");
        let journal = Arc::clone(&ground.log) as Arc<dyn Journal>;
        let opened =
            StoredDeliveryState::load(&ground.config, &ground.store, &journal, &ground.clock);
        assert!(
            matches!(opened, Err(DeliveryStageError::CursorPastJournalEnd { cursor, .. }) if cursor == Position::new(9))
        );
    });
}

/// An upgrade must not deliver what happened before it.
#[test]
fn a_store_that_never_delivered_anything_begins_at_its_end() {
    run(async |ground| {
        ground.write("T", "message.created").await;
        ground.subscribe_from("*", Position::new(2));
        let running = ground.start(|_| AttemptOutcome::Accepted);
        assert_eq!(running.stage.position.get(), Position::new(2));
        ground.write("T", "message.created").await;
        assert_eq!(positions(&running.delivered(1).await), [2]);
        running.stop().await;
    });
}

/// What is owed when a subscriber is disabled: what waits to be tried again, what follows it, and
/// what was not looked at yet.
#[test]
fn what_a_disabled_subscriber_was_owed_is_one_dead_letter_that_says_how_much() {
    run(async |ground| {
        let id = ground.subscribe("message.created").await;
        let tries = Rc::new(watch::Sender::new(0));
        let tried = Rc::clone(&tries);
        let running = ground.start(move |(_, position, _)| {
            tried.send_modify(|tried| *tried += 1);
            match position {
                1 => AttemptOutcome::Accepted,
                _ => AttemptOutcome::TransientFailure {
                    failure: failure(),
                    retry_after: Some(Duration::from_secs(3_600)),
                },
            }
        });
        for (ticket, event) in [
            ("A", "message.created"),
            ("A", "message.created"),
            ("B", "message.created"),
            ("A", "tags.updated"),
        ] {
            ground.write(ticket, event).await;
        }
        ground.write("A", "message.created").await;
        let mut tries = tries.subscribe();
        tokio::time::timeout(SHORT, tries.wait_for(|tries| *tries == 3))
            .await
            .expect("it never came")
            .expect("open");
        let SubscriberId::Webhook(number) = id else {
            unreachable!()
        };
        let disable = |subscription: &mut Subscription| {
            subscription.state = SubscriptionState::Disabled {
                reason: "gone".into(),
            }
        };
        ground.subscriptions.change(number, disable).expect("there");
        let expected = DeadLetterSubject::Range {
            first: Position::new(2),
            last: Position::new(5),
            count: 3,
        };
        assert_eq!(running.dead_letter(&id).await, expected);
        assert_eq!(running.stage.counters(&id).dropped, 3);
        ground.write("A", "message.created").await;
        running
            .stage
            .deps
            .checkpoints
            .settled()
            .await
            .expect("open");
        running.stop().await;
        let rows = DeliveryTables::open(Arc::clone(&ground.store)).expect("opens");
        assert_eq!(rows.lane_rows(&id, ground.clock.wall()).expect("reads"), []);
        assert!(
            rows.read_states()
                .expect("reads")
                .iter()
                .all(|(of, _)| *of != id)
        );
    });
}

#[test]
fn what_was_owed_for_longer_than_it_is_held_is_one_dead_letter_and_the_rest_is_delivered() {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_micros(1_000_000)));
    run_by(Arc::clone(&clock) as _, async |ground| {
        let id = ground.subscribe("*").await;
        let SubscriberId::Webhook(number) = id else {
            unreachable!()
        };
        let pause = |subscription: &mut Subscription| {
            subscription.state = SubscriptionState::Paused { reason: None }
        };
        ground.subscriptions.change(number, pause).expect("there");
        let running = ground.start(|_| AttemptOutcome::Accepted);
        for ticket in ["A", "B", "A"] {
            ground.write(ticket, "message.created").await;
        }
        clock.advance(ground.config.delivery.hold + Duration::from_secs(1));
        ground.write("A", "message.created").await;
        ground
            .subscriptions
            .change(number, |subscription| {
                subscription.state = SubscriptionState::Active
            })
            .expect("there");
        assert_eq!(running.delivered(1).await, [(id.clone(), 4, 1)]);
        let expected = DeadLetterSubject::Range {
            first: Position::new(1),
            last: Position::new(3),
            count: 3,
        };
        assert_eq!(running.dead_letter(&id).await, expected);
        running.stop().await;
    });
}

/// It stayed live in the rows: nothing said what it had lost, and once it was enabled again it
/// began wherever the others were.
#[test]
fn what_is_owed_to_a_live_subscriber_is_given_up_too_when_the_node_ends_before_it_notes_that_it_is_disabled()
 {
    run(async |ground| {
        let id = ground.subscribe("*").await;
        let SubscriberId::Webhook(number) = id else {
            unreachable!()
        };
        let running = ground.start(|_| AttemptOutcome::Accepted);
        ground.write("A", "message.created").await;
        running.delivered(1).await;
        running.stop().await;
        ground.write("A", "message.created").await;
        let disable = |subscription: &mut Subscription| {
            subscription.state = SubscriptionState::Disabled {
                reason: "gone".into(),
            }
        };
        ground.subscriptions.change(number, disable).expect("there");
        let running = ground.start(|_| AttemptOutcome::Accepted);
        let at = Position::new(2);
        assert_eq!(
            running.dead_letter(&id).await,
            DeadLetterSubject::Range {
                first: at,
                last: at,
                count: 1
            }
        );
        running
            .stage
            .deps
            .checkpoints
            .settled()
            .await
            .expect("open");
        assert!(
            running
                .stage
                .deps
                .tables
                .read_states()
                .expect("reads")
                .iter()
                .all(|(whose, _)| *whose != id)
        );
        running.stop().await;
    });
}

/// The job waited for ever for somebody to tell it that its subscriber was gone, and counted as one
/// that is not over.
#[test]
fn a_job_for_a_subscriber_that_has_just_gone_ends() {
    run(async |ground| {
        let id = ground.subscribe("*").await;
        let running = ground.start(|_| AttemptOutcome::Accepted);
        ground.write("T-1", "status.changed").await;
        running.delivered(1).await;
        ground.subscriptions.remove(1).expect("there");
        running
            .until(|stage| stage.subscriber_set().subscription_state(&id).is_none())
            .await;
        let jobs = Arc::clone(&running.stage.deps.recovery.jobs);
        let job = jobs
            .replay_events(id.clone(), None, None, Vec::new())
            .await
            .expect("taken on")
            .id;
        running
            .until(|_| {
                jobs.get(job)
                    .is_some_and(|job| job.state.as_str() == "cancelled")
            })
            .await;
        running.stop().await;
    });
}

/// It had the dead letters, and the owed, of the one that was removed.
#[test]
fn an_account_that_is_made_again_under_its_name_begins_with_nothing() {
    run(async |ground| {
        let account = |second: i64| crate::account::Account {
            id: "a".into(),
            instagram_account_id: "1".into(),
            crm_webhook_url: None,
            webhook_secret: Secret::new("hush"),
            access_token: None,
            auto_reply: None,
            created_at: Timestamp::from_micros(second * 1_000_000),
            from: Position::FIRST,
        };
        ground.accounts.create(account(1)).expect("room");
        let running = ground.start(|_| AttemptOutcome::Accepted);
        let (id, letters) = (
            SubscriberId::Replies("a".into()),
            Arc::clone(&running.stage.deps.recovery.dead_letters),
        );
        ground.write("T-1", "status.changed").await;
        letters.add(&id, dead_letters::tests::new_letter(1, "T-1"));
        ground.accounts.remove("a").expect("there");
        ground.accounts.create(account(2)).expect("room");
        running.until(|_| letters.count(&id) == 0).await;
        running.stop().await;
    });
}

fn failure() -> AttemptFailure {
    AttemptFailure {
        status: Some(503),
        code: "status",
        detail: String::new(),
        answer: Bytes::new(),
    }
}
