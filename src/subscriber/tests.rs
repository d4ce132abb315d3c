//! Tests of the whole stage over a real journal, with scripted attempts.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use tokio::sync::watch;

use super::*;
use crate::audit::{AuditLimits, AuditLog};
use crate::clock::{ManualClock, SystemClock};
use crate::config::{LiveConfig, Secret, load_config};
use crate::event::{
    EntityKey, IncarnationHistory, Kind, Record, StoreIncarnation, Timestamp, fingerprint_key,
};
use crate::journal::{JournalSubmission, RecordDraft, SegmentJournal, await_fence};
use crate::projection::{self, Projection};
use crate::subscription::{
    DeliveryMode, DeliveryOrdering, FilterExpression, Pattern, SigningSecrets, SigningStyle,
    Subscription, SubscriptionState,
};
use crate::table_store::TestStore;
use attempt::AttemptOutcome;
use dead_letters::tests::missed_records;
use dead_letters::{DeadLetterFilter, DeadLetterSubject};

const SHORT: Duration = Duration::from_secs(30);

const AUDIT_LIMITS: AuditLimits = AuditLimits {
    entries_max: 10,
    refused_entries_max: 10,
    keep_for: Duration::from_secs(3_600),
};

/// Subscriber, position of the record, and number of the attempt.
pub(super) type DeliveredAttempt = (SubscriberId, u64, u32);

type DeliveredAttempts = Rc<watch::Sender<Vec<DeliveredAttempt>>>;

type StopSender = watch::Sender<Option<Duration>>;

/// Decides the outcome of each attempt; a panic in it is a panic of the actor.
type AttemptScript = Box<dyn FnMut(&DeliveredAttempt) -> AttemptOutcome>;

/// Store and services that the stage needs.
pub(super) struct StageTestEnv {
    log: Arc<SegmentJournal>,
    projection: Arc<Projection>,
    call_log: Arc<CallLog>,
    pub(super) subscriptions: Arc<SubscriptionRegistry>,
    pub(super) accounts: Arc<AccountRegistry>,
    tables: Arc<TableStore>,
    live_config: Arc<LiveConfig>,
    clock: Arc<dyn Clock>,
    /// Number of records of each entity.
    sequences: RefCell<HashMap<String, u64>>,
}

/// Stage that runs on the test's own thread.
struct RunningStage {
    stage: Rc<DeliveryStage>,
    delivered: DeliveredAttempts,
    stop: StopSender,
    run: actix_rt::task::JoinHandle<Result<(), DeliveryStageError>>,
}

fn delivery_tables(env: &StageTestEnv) -> DeliveryTables {
    DeliveryTables::new(env.tables.table(JournaledTableId::Deliveries))
}

impl StageTestEnv {
    fn open(folder: &Path, clock: Arc<dyn Clock>) -> Self {
        let store = TestStore::open(folder, Arc::clone(&clock));
        let limits = projection::ProjectionLimits {
            claim_window: SHORT,
        };
        let journal = Arc::clone(&store.journal) as Arc<dyn Journal>;
        let projection = Projection::start(
            Arc::clone(&store.derived),
            journal,
            limits,
            Arc::clone(&clock),
            fingerprint_key,
        );
        let bounds = crate::call_log::CallLogLimits {
            rows_max: 1_000,
            refused_rows_max: 10,
            failed_rows_max: 10,
        };
        let keys = [("HOOKYARD_ADMIN__TOKEN".to_owned(), "token".to_owned())];
        Self {
            projection: projection.expect("starts"),
            call_log: CallLog::open(&store.derived, bounds).expect("opens"),
            subscriptions: Arc::new(
                SubscriptionRegistry::open(&store.tables, 20_000).expect("opens"),
            ),
            accounts: Arc::new(AccountRegistry::open(&store.tables, 10).expect("opens")),
            live_config: LiveConfig::fixed(load_config(None, keys).expect("a valid configuration")),
            sequences: RefCell::default(),
            log: store.journal,
            tables: store.tables,
            clock,
        }
    }

    /// Subscribes to `pattern`, from the journal's end on.
    pub(super) async fn subscribe(&self, pattern: &str) -> SubscriberId {
        let from = await_fence(self.log.as_ref()).await.expect("open");
        self.subscribe_from(pattern, from)
    }

    fn subscribe_from(&self, pattern: &str, from: Position) -> SubscriberId {
        let make = |id| Subscription {
            delivery: DeliveryMode::Push,
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
            signature_header: None,
            uid: None,
            metadata: Default::default(),
            creation: None,
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

    /// Builds a dispatcher whose attempts end as `script` decides, with its accepted deliveries and
    /// the channel that stops it.
    pub(super) fn build_dispatcher(
        &self,
        mut script: impl FnMut(&DeliveredAttempt) -> AttemptOutcome + 'static,
    ) -> (Dispatcher, DeliveredAttempts, StopSender) {
        let journal = Arc::clone(&self.log) as Arc<dyn Journal>;
        let stored = StoredDeliveryState::load(
            &self.live_config.current(),
            &self.tables,
            &journal,
            &self.clock,
        )
        .expect("opens");
        let delivered = Rc::new(watch::Sender::new(Vec::new()));
        let script: RefCell<AttemptScript> =
            RefCell::new(Box::new(move |delivery| script(delivery)));
        let seen = Rc::clone(&delivered);
        let attempt_fn: AttemptFn = Box::new(move |policy, item, number| {
            let delivery = (policy.id.clone(), item.position.get(), number.attempt);
            let outcome = (script.borrow_mut())(&delivery);
            let seen = Rc::clone(&seen);
            Box::pin(async move {
                if outcome == AttemptOutcome::Accepted {
                    seen.send_modify(|seen| seen.push(delivery));
                }
                // Stands for an attempt that this node could not make.
                (outcome != AttemptOutcome::Dropped).then_some((outcome, None))
            })
        });
        let stage_deps = DeliveryStageDeps {
            reads: self.projection.reader(),
            tables: stored.tables.clone(),
            checkpoints: Arc::clone(&stored.checkpoints),
            recovery: stored.recovery.clone(),
            call_log: Arc::clone(&self.call_log),
            clock: Arc::clone(&self.clock),
            metrics: Arc::default(),
            permits: AttemptPermits::new(8),
            expressions: ExpressionShares::new(Arc::clone(&self.clock)),
            memory: DeliveryMemory::new(self.live_config.current().delivery.memory_bytes),
            forget_client: Box::new(|_| ()),
            announcer: SubscriberAnnouncer::new(
                None,
                Arc::clone(&self.clock),
                IncarnationHistory::new(StoreIncarnation::new(1)),
            ),
            attempt_fn,
            journal,
        };
        let (queries, (stop, stopping)) = (mpsc::channel(1).1, watch::channel(None));
        let (subscriptions, accounts) =
            (Arc::clone(&self.subscriptions), Arc::clone(&self.accounts));
        let dispatcher_deps = DispatcherDeps {
            live_config: Arc::clone(&self.live_config),
            subscriptions,
            accounts,
            audit: Arc::new(AuditLog::open(&self.tables, AUDIT_LIMITS).expect("opens")),
            queries,
            stopping,
        };
        let dispatcher = build_dispatcher(stage_deps, stored, dispatcher_deps);
        (dispatcher, delivered, stop)
    }

    /// Starts a stage whose attempts end as `script` decides.
    fn start(
        &self,
        script: impl FnMut(&DeliveredAttempt) -> AttemptOutcome + 'static,
    ) -> RunningStage {
        let (dispatcher, delivered, stop) = self.build_dispatcher(script);
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
    /// Waits for `count` accepted deliveries and returns all of them.
    async fn delivered(&self, count: usize) -> Vec<DeliveredAttempt> {
        let mut seen = self.delivered.subscribe();
        let wait = seen.wait_for(|seen| seen.len() >= count);
        tokio::time::timeout(SHORT, wait)
            .await
            .expect("timed out")
            .expect("open")
            .clone()
    }

    /// Polls the stage until `condition` holds.
    async fn until(&self, condition: impl Fn(&DeliveryStage) -> bool) {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        let wait = async {
            while !condition(&self.stage) {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(SHORT, wait).await.expect("timed out");
    }

    /// Waits for a dead letter of `id` and returns the newest.
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

pub(super) fn run(test: impl AsyncFnOnce(&StageTestEnv)) {
    run_by(Arc::new(SystemClock::default()), test);
}

fn run_by(clock: Arc<dyn Clock>, test: impl AsyncFnOnce(&StageTestEnv)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    actix_rt::System::new().block_on(async {
        let env = StageTestEnv::open(folder.path(), clock);
        test(&env).await;
        env.log.close();
        env.projection.close();
        env.call_log.close();
    });
}

fn positions(delivered: &[DeliveredAttempt]) -> Vec<u64> {
    let mut positions: Vec<_> = delivered.iter().map(|(_, position, _)| *position).collect();
    positions.sort_unstable();
    positions
}

#[test]
fn an_actor_that_panics_is_restarted_and_loses_nothing() {
    run(async |env| {
        let crashes = Rc::new(Cell::new(0));
        let count = Rc::clone(&crashes);
        let id = env.subscribe("*").await;
        let running = env.start(move |(_, position, _)| {
            if *position == 6 && count.replace(count.get() + 1) < 2 {
                panic!("scripted panic");
            }
            AttemptOutcome::Accepted
        });
        for number in 1..=10 {
            env.write(&format!("T{}", number % 3), "message.created")
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
                .expect("timed out")
                .expect("open")
                .clone(),
        );
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
        assert_eq!(crashes.get(), 3);
        assert!(running.stage.counters(&id).delivered >= 10);
        running.stop().await;
    });
}

/// A node without descriptors had counted failed attempts, opened breakers and disabled subscribers.
#[test]
fn an_attempt_that_this_node_could_not_make_counts_nothing_and_is_made_again() {
    run(async |env| {
        let id = env.subscribe("*").await;
        let mut tries = 0;
        let running = env.start(move |_| {
            tries += 1;
            match tries {
                1..=50 => AttemptOutcome::Dropped,
                _ => AttemptOutcome::Accepted,
            }
        });
        for ticket in ["A", "B", "A"] {
            env.write(ticket, "message.created").await;
        }
        let delivered = running.delivered(3).await;
        assert!(delivered.iter().all(|(_, _, attempt)| *attempt == 1));
        let counters = running.stage.counters(&id);
        assert_eq!((counters.failed, counters.dropped), (0, 0));
        running.stop().await;
    });
}

#[test]
fn a_subscriber_whose_actor_panics_repeatedly_is_paused() {
    run(async |env| {
        let SubscriberId::Webhook(number) = env.subscribe("*").await else {
            unreachable!()
        };
        let other = env.subscribe("*").await;
        let mut changes = env.subscriptions.watch_changes();
        changes.borrow_and_update();
        let running = env.start(move |(id, _, _)| {
            assert!(*id != SubscriberId::Webhook(number), "scripted panic");
            AttemptOutcome::Accepted
        });
        env.write("T", "message.created").await;
        tokio::time::timeout(SHORT, changes.changed())
            .await
            .expect("timed out")
            .expect("open");
        let known = env.subscriptions.snapshot();
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
fn of_many_subscriptions_only_the_one_with_a_matching_record_gets_an_actor() {
    run(async |env| {
        for _ in 0..100 {
            env.subscribe_from("status.changed", Position::FIRST);
        }
        let one = env.subscribe("message.created").await;
        let running = env.start(|_| AttemptOutcome::Accepted);
        env.write("T", "message.created").await;
        env.write("T", "tags.updated").await;
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
fn a_subscription_whose_first_record_was_already_dispatched_reads_from_there() {
    run(async |env| {
        let first = env.subscribe("*").await;
        let running = env.start(|_| AttemptOutcome::Accepted);
        for _ in 0..5 {
            env.write("T", "message.created").await;
        }
        running.delivered(5).await;
        let late = env.subscribe_from("*", Position::new(3));
        env.write("T", "message.created").await;
        let delivered = running.delivered(10).await;
        let positions_of = |id: &SubscriberId| {
            delivered
                .iter()
                .filter(|(to, ..)| to == id)
                .map(|(_, at, _)| *at)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (positions_of(&first), positions_of(&late)),
            (vec![1, 2, 3, 4, 5, 6], vec![3, 4, 5, 6])
        );
        running.stop().await;
    });
}

#[test]
fn after_a_stop_only_unsettled_records_are_delivered() {
    run(async |env| {
        let id = env.subscribe("*").await;
        let running = env.start(|(_, position, _)| match position {
            2 => AttemptOutcome::TransientFailure {
                failure: failure(),
                retry_after: Some(Duration::from_secs(3_600)),
            },
            _ => AttemptOutcome::Accepted,
        });
        for ticket in ["A", "B", "A", "B"] {
            env.write(ticket, "message.created").await;
        }
        assert_eq!(positions(&running.delivered(2).await), [1, 3]);
        running.stop().await;
        let rows = delivery_tables(env)
            .lane_rows(&id, env.clock.wall())
            .expect("reads");
        assert_eq!(
            rows.iter()
                .map(|row| (row.sequence, row.attempts))
                .collect::<Vec<_>>(),
            [(1, 1)]
        );
        env.write("A", "message.created").await;
        let running = env.start(|_| AttemptOutcome::Accepted);
        assert_eq!(positions(&running.delivered(1).await), [5]);
        running.stop().await;
    });
}

#[test]
fn a_cursor_beyond_the_journals_end_is_refused() {
    run(async |env| {
        let rows = delivery_tables(env);
        let checkpoints = CheckpointBuffer::default();
        checkpoints.set_cursor(Position::new(9));
        checkpoints
            .take_checkpoint()
            .expect("something")
            .write(&rows)
            .expect("writes");
        let journal = Arc::clone(&env.log) as Arc<dyn Journal>;
        let stored = StoredDeliveryState::load(
            &env.live_config.current(),
            &env.tables,
            &journal,
            &env.clock,
        );
        assert!(
            matches!(stored, Err(DeliveryStageError::CursorPastJournalEnd { cursor, .. }) if cursor == Position::new(9))
        );
    });
}

/// An upgrade must not deliver what happened before it.
#[test]
fn a_store_that_never_delivered_anything_starts_at_its_end() {
    run(async |env| {
        env.write("T", "message.created").await;
        env.subscribe_from("*", Position::new(2));
        let running = env.start(|_| AttemptOutcome::Accepted);
        assert_eq!(running.stage.position.get(), Position::new(2));
        env.write("T", "message.created").await;
        assert_eq!(positions(&running.delivered(1).await), [2]);
        running.stop().await;
    });
}

/// The backlog consists of records that wait for a retry, records after them in their lanes, and
/// records that were not yet matched.
#[test]
fn the_backlog_of_a_disabled_subscriber_is_one_dead_letter_with_its_size() {
    run(async |env| {
        let id = env.subscribe("message.created").await;
        let tries = Rc::new(watch::Sender::new(0));
        let tried = Rc::clone(&tries);
        let running = env.start(move |(_, position, _)| {
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
            env.write(ticket, event).await;
        }
        env.write("A", "message.created").await;
        let mut tries = tries.subscribe();
        tokio::time::timeout(SHORT, tries.wait_for(|tries| *tries == 3))
            .await
            .expect("timed out")
            .expect("open");
        let SubscriberId::Webhook(number) = id else {
            unreachable!()
        };
        let disable = |subscription: &mut Subscription| {
            subscription.state = SubscriptionState::Disabled {
                reason: "gone".into(),
            }
        };
        env.subscriptions.change(number, disable).expect("there");
        let expected = DeadLetterSubject::Range(missed_records(&[(2, 5)], 3));
        assert_eq!(running.dead_letter(&id).await, expected);
        assert_eq!(running.stage.counters(&id).dropped, 3);
        env.write("A", "message.created").await;
        running.stage.deps.checkpoints.flush().await.expect("open");
        running.stop().await;
        let rows = delivery_tables(env);
        assert_eq!(rows.lane_rows(&id, env.clock.wall()).expect("reads"), []);
        assert!(
            rows.read_states()
                .expect("reads")
                .iter()
                .all(|(owner, _)| *owner != id)
        );
    });
}

#[test]
fn expired_records_are_one_dead_letter_and_later_ones_are_delivered() {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_micros(1_000_000)));
    run_by(Arc::clone(&clock) as _, async |env| {
        let id = env.subscribe("*").await;
        let SubscriberId::Webhook(number) = id else {
            unreachable!()
        };
        let pause = |subscription: &mut Subscription| {
            subscription.state = SubscriptionState::Paused { reason: None }
        };
        env.subscriptions.change(number, pause).expect("there");
        let running = env.start(|_| AttemptOutcome::Accepted);
        for ticket in ["A", "B", "A"] {
            env.write(ticket, "message.created").await;
        }
        clock.advance(env.live_config.current().delivery.hold + Duration::from_secs(1));
        env.write("A", "message.created").await;
        env.subscriptions
            .change(number, |subscription| {
                subscription.state = SubscriptionState::Active
            })
            .expect("there");
        assert_eq!(running.delivered(1).await, [(id.clone(), 4, 1)]);
        let expected = DeadLetterSubject::Range(missed_records(&[(1, 3)], 3));
        assert_eq!(running.dead_letter(&id).await, expected);
        running.stop().await;
    });
}

/// The subscriber had stayed live in its row: no dead letter told of the lost records, and after it
/// was enabled again it continued at the dispatcher's cursor.
#[test]
fn the_backlog_is_dropped_after_a_restart_if_the_node_stopped_right_after_disabling() {
    run(async |env| {
        let id = env.subscribe("*").await;
        let SubscriberId::Webhook(number) = id else {
            unreachable!()
        };
        let running = env.start(|_| AttemptOutcome::Accepted);
        env.write("A", "message.created").await;
        running.delivered(1).await;
        running.stop().await;
        env.write("A", "message.created").await;
        let disable = |subscription: &mut Subscription| {
            subscription.state = SubscriptionState::Disabled {
                reason: "gone".into(),
            }
        };
        env.subscriptions.change(number, disable).expect("there");
        let running = env.start(|_| AttemptOutcome::Accepted);
        assert_eq!(
            running.dead_letter(&id).await,
            DeadLetterSubject::Range(missed_records(&[(2, 2)], 1))
        );
        running.stage.deps.checkpoints.flush().await.expect("open");
        assert!(
            running
                .stage
                .deps
                .tables
                .read_states()
                .expect("reads")
                .iter()
                .all(|(owner, _)| *owner != id)
        );
        running.stop().await;
    });
}

/// The job had waited for ever for the end of its subscriber, and counted as unfinished.
#[test]
fn a_job_for_a_subscriber_that_was_just_deleted_ends() {
    run(async |env| {
        let id = env.subscribe("*").await;
        let running = env.start(|_| AttemptOutcome::Accepted);
        env.write("T-1", "status.changed").await;
        running.delivered(1).await;
        env.subscriptions.remove(1).expect("there");
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

/// The new account had inherited the dead letters and the pending deliveries of the deleted one.
#[test]
fn an_account_that_is_created_again_under_its_name_inherits_nothing() {
    run(async |env| {
        env.accounts.create(account(1)).expect("room");
        let running = env.start(|_| AttemptOutcome::Accepted);
        let (id, dead_letters) = (
            SubscriberId::Replies("a".into()),
            Arc::clone(&running.stage.deps.recovery.dead_letters),
        );
        env.write("T-1", "status.changed").await;
        dead_letters.add(&id, super::dead_letters::tests::new_letter(1, "T-1"));
        env.accounts.remove("a").expect("there");
        env.accounts.create(account(2)).expect("room");
        running.until(|_| dead_letters.count(&id) == 0).await;
        running.stop().await;
    });
}

/// Returns the account `a`, created in `second`.
pub(super) fn account(second: i64) -> crate::account::Account {
    crate::account::Account {
        id: "a".into(),
        instagram_account_id: "1".into(),
        crm_webhook_url: None,
        webhook_secret: Secret::new("hush"),
        access_token: None,
        auto_reply: None,
        created_at: Timestamp::from_micros(second * 1_000_000),
        updated_at: Timestamp::from_micros(second * 1_000_000),
        from: Position::FIRST,
    }
}

/// Events that the filter rejects had been counted as missed, and their retry brought none of them.
#[test]
fn only_events_that_the_filter_selects_are_missed() {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_micros(1_000_000)));
    run_by(Arc::clone(&clock) as _, async |env| {
        let id = env.subscribe("*").await;
        let SubscriberId::Webhook(number) = id else {
            unreachable!()
        };
        let pause = |subscription: &mut Subscription| {
            let filter = "entity.id == 'A'";
            subscription.filter = Some(FilterExpression::compile(filter).expect("an expression"));
            subscription.state = SubscriptionState::Paused { reason: None };
        };
        env.subscriptions.change(number, pause).expect("there");
        let running = env.start(|_| AttemptOutcome::Accepted);
        for ticket in ["A", "B", "A", "B", "B"] {
            env.write(ticket, "message.created").await;
        }
        clock.advance(env.live_config.current().delivery.hold + Duration::from_secs(1));
        env.write("A", "message.created").await;
        let set_state = |state: SubscriptionState| {
            let change = |subscription: &mut Subscription| subscription.state = state;
            env.subscriptions.change(number, change).expect("there");
        };
        set_state(SubscriptionState::Active);
        running.delivered(1).await;
        let expected = DeadLetterSubject::Range(missed_records(&[(1, 1), (3, 3)], 2));
        assert_eq!(running.dead_letter(&id).await, expected, "expired");
        assert_eq!(running.stage.counters(&id).dropped, 2);

        set_state(SubscriptionState::Paused { reason: None });
        for ticket in ["B", "A", "B"] {
            env.write(ticket, "message.created").await;
        }
        let reason = "gone".to_owned();
        set_state(SubscriptionState::Disabled { reason });
        running
            .until(|stage| stage.counters(&id).dropped == 3)
            .await;
        let expected = DeadLetterSubject::Range(missed_records(&[(8, 8)], 1));
        assert_eq!(running.dead_letter(&id).await, expected, "disabled");
        running.stop().await;
    });
}

fn failure() -> AttemptFailure {
    AttemptFailure {
        status: Some(500),
        code: "status",
        detail: String::new(),
        answer: Bytes::new(),
    }
}
