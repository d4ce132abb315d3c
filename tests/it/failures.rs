//! A failing store: waiting requests are answered, the node reopens the store by itself, and
//! acknowledged events are there.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookyard::failpoints::{Failpoint, FailureInjector};
use parking_lot::{Condvar, Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::hooked_disk::{DiskHooks, HookedDisk};
use crate::test_node::{TestAnswer, TestClient, TestEnv, run_async};

/// Long enough for everything on a busy machine; a longer wait means that the node hangs.
const STUCK: Duration = Duration::from_secs(60);

/// Operation of the store that is made to fail. The journal survives one failed write or sync, and
/// fails at the second in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePlace {
    /// Write to a file of the journal.
    Write,
    /// Sync of a file of the journal.
    Sync,
    /// Sync of the derived data.
    DerivedSync,
}

/// Failures that a test injects while the node runs.
#[derive(Default)]
pub struct DiskFailure {
    script: Mutex<FailureScript>,
    released: Condvar,
    /// Number of events of each ticket that were about to be decided.
    decided: watch::Sender<HashMap<String, u64>>,
    /// Number of threads that wait at a held sync.
    held: watch::Sender<usize>,
    /// Number of injected failures.
    played: watch::Sender<u32>,
}

#[derive(Default)]
struct FailureScript {
    /// Operations that succeed before the failures begin.
    spared: u32,
    failing: Option<(FailurePlace, u32)>,
    crashes: HashMap<String, u32>,
    hold_syncs: bool,
    /// Ticket at whose next decision all syncs are held.
    hold_syncs_at: Option<String>,
}

impl DiskFailure {
    /// Installs an injector without failures in the nodes of `test_env`.
    pub fn install(test_env: &mut TestEnv) -> Arc<Self> {
        let disk_failure = Arc::new(Self::default());
        test_env.deps.failure_injector = Arc::clone(&disk_failure) as Arc<dyn FailureInjector>;
        test_env.deps.disk = Arc::new(HookedDisk(Arc::clone(&disk_failure) as Arc<dyn DiskHooks>));
        disk_failure
    }

    /// Fails the next `times` operations at `place`.
    pub fn fail(&self, place: FailurePlace, times: u32) {
        self.fail_after(place, 0, times);
    }

    /// Lets the next `spared` operations at `place` succeed, then fails `times` operations.
    pub fn fail_after(&self, place: FailurePlace, spared: u32, times: u32) {
        let mut script = self.script();
        (script.failing, script.spared) = (Some((place, times)), spared);
    }

    /// Ends all failures.
    pub fn heal(&self) {
        self.script().failing = None;
    }

    /// Returns the number of injected failures.
    pub fn played_count(&self) -> u32 {
        *self.played.borrow()
    }

    /// Waits until `times` failures were injected.
    pub async fn until_played(&self, times: u32) {
        let mut played = self.played.subscribe();
        expect_in_time(played.wait_for(|played| *played >= times))
            .await
            .expect("the sender lives as long as this");
    }

    /// Crashes the entity of `ticket` at its next `times` events.
    pub fn crash_entity(&self, ticket: &str, times: u32) {
        self.script().crashes.insert(ticket.to_owned(), times);
    }

    /// Blocks every sync from now on, until [`DiskFailure::release_syncs`].
    pub fn hold_syncs(&self) {
        self.script().hold_syncs = true;
    }

    /// Blocks every sync from the next decision of `ticket` on, until
    /// [`DiskFailure::release_syncs`]. A restarted entity is loaded behind a fence of the journal, so
    /// an earlier hold could keep it from deciding, if a record of the node itself is on its way.
    pub fn hold_syncs_at_decision(&self, ticket: &str) {
        self.script().hold_syncs_at = Some(ticket.to_owned());
    }

    pub fn release_syncs(&self) {
        self.script().hold_syncs = false;
        self.released.notify_all();
    }

    /// Waits until `events` events of `ticket` reached its entity, over all its incarnations.
    pub async fn wait_until_decided(&self, ticket: &str, events: u64) {
        let mut decided = self.decided.subscribe();
        let reached =
            decided.wait_for(|decided| decided.get(ticket).is_some_and(|count| *count >= events));
        expect_in_time(reached)
            .await
            .expect("the sender lives as long as this");
    }

    /// Waits until a thread is blocked at a held sync.
    pub async fn wait_for_held_sync(&self) {
        let mut held = self.held.subscribe();
        expect_in_time(held.wait_for(|held| *held > 0))
            .await
            .expect("the sender lives as long as this");
    }

    fn script(&self) -> MutexGuard<'_, FailureScript> {
        self.script.lock()
    }

    fn pass(&self, place: FailurePlace) -> io::Result<()> {
        let mut script = self.script();
        let Some((failing, times)) = script
            .failing
            .filter(|(failing, times)| *failing == place && *times > 0)
        else {
            return Ok(());
        };
        if script.spared > 0 {
            script.spared -= 1;
            return Ok(());
        }
        script.failing = Some((failing, times - 1));
        drop(script);
        self.played.send_modify(|played| *played += 1);
        Err(io::Error::other("the disk is on strike"))
    }

    fn wait_while_held(&self) {
        self.held.send_modify(|held| *held += 1);
        // Bounded, so that a failed test still ends.
        self.released
            .wait_while_for(&mut self.script(), |script| script.hold_syncs, STUCK);
        self.held.send_modify(|held| *held -= 1);
    }

    fn decide(&self, ticket: &str) {
        let mut script = self.script();
        if script.hold_syncs_at.as_deref() == Some(ticket) {
            script.hold_syncs_at = None;
            script.hold_syncs = true;
        }
        let crashes = match script.crashes.get_mut(ticket) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            Some(_) | None => false,
        };
        drop(script);
        self.decided
            .send_modify(|decided| *decided.entry(ticket.to_owned()).or_default() += 1);
        assert!(!crashes, "the test crashes {ticket}");
    }
}

impl FailureInjector for DiskFailure {
    fn evaluate(&self, point: Failpoint<'_>) -> io::Result<()> {
        match point {
            Failpoint::DerivedSync => self.pass(FailurePlace::DerivedSync),
            Failpoint::CallLogWrite => Ok(()),
            Failpoint::Decide(entity) => {
                self.decide(entity.id());
                Ok(())
            }
        }
    }
}

impl DiskHooks for DiskFailure {
    fn before_write(&self) -> io::Result<()> {
        self.pass(FailurePlace::Write)
    }

    fn before_sync(&self) -> io::Result<()> {
        self.wait_while_held();
        self.pass(FailurePlace::Sync)
    }
}

/// Returns the output of `future`; panics after [`STUCK`].
pub async fn expect_in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(STUCK, future)
        .await
        .expect("it is stuck")
}

/// Runs `futures` at the same time and returns their outputs in the same order.
pub async fn run_all<F>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    join_all(spawn_all(futures)).await
}

/// Spawns all `futures`; [`join_all`] waits for them.
pub fn spawn_all<F>(futures: impl IntoIterator<Item = F>) -> Vec<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    futures.into_iter().map(tokio::spawn).collect()
}

/// Waits for spawned tasks and returns their outputs.
pub async fn join_all<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut outputs = Vec::with_capacity(tasks.len());
    for task in tasks {
        outputs.push(expect_in_time(task).await.expect("no panic in it"));
    }
    outputs
}

/// Polls `/readyz` until it answers `status`.
pub async fn until_readyz_is(client: &TestClient, status: u16) -> TestAnswer {
    let mut polls = tokio::time::interval(Duration::from_millis(2));
    let mut last = None;
    let polling = async {
        loop {
            polls.tick().await;
            let answer = client.get("/readyz").await;
            if answer.status == status {
                return answer;
            }
            last = Some(answer);
        }
    };
    let polled = tokio::time::timeout(STUCK, polling).await;
    polled.unwrap_or_else(|_| panic!("/readyz never answered {status}, at last {last:?}"))
}

/// Sends the message `key` until it is known to be stored, as [`repeat_until_known`] does.
pub async fn send_until_known(client: &TestClient, ticket: &str, key: &str) -> Option<TestAnswer> {
    repeat_until_known(client, || client.send_message(ticket, key)).await
}

/// Calls `send` until its event is known to be stored. Returns the answer that accepted it, or
/// `None` if a request answered with 503 had stored it.
pub async fn repeat_until_known<F>(client: &TestClient, send: impl Fn() -> F) -> Option<TestAnswer>
where
    F: Future<Output = TestAnswer>,
{
    loop {
        let answer = expect_in_time(send()).await;
        match answer.status {
            202 => return Some(answer),
            409 => return None,
            503 => assert!(answer.header("retry-after").is_some(), "{answer:?}"),
            _ => panic!("{answer:?}"),
        }
        until_readyz_is(client, 200).await;
    }
}

/// Checks that the ticket contains exactly the messages `keys`, numbered without a gap, each at the
/// position of its 202.
pub async fn check_timeline<'a>(
    client: &TestClient,
    ticket: &str,
    keys: &[String],
    accepted: impl IntoIterator<Item = &'a TestAnswer>,
) {
    let timeline = client.fetch_timeline(ticket).await;
    let sequences: Vec<_> = timeline
        .iter()
        .map(|item| item["sequence"].as_u64().expect("a number"))
        .collect();
    assert_eq!(
        sequences,
        (1..=keys.len() as u64).collect::<Vec<_>>(),
        "of {ticket}"
    );
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    let id = |item: &Value, member: &str| item[member].as_str().expect("text").to_owned();
    let stored = timeline
        .iter()
        .map(|item| id(&item["data"], "message_id"))
        .collect();
    assert_eq!(sorted(stored), sorted(keys.to_vec()), "of {ticket}");
    for answer in accepted {
        let item = &timeline[answer.sequence() as usize - 1];
        assert_eq!(item["event_id"], answer.body["event_id"], "of {ticket}");
    }
    let state = client
        .get(&format!("/api/v1/entities/ticket/{ticket}"))
        .await;
    assert_eq!(state.body["sequence"], keys.len(), "{state:?}");
    let in_state = state.body["state"]["messages"]
        .as_array()
        .expect("a list")
        .iter();
    let in_timeline = timeline.iter().map(|item| id(&item["data"], "message_id"));
    assert_eq!(
        in_state
            .map(|item| id(item, "message_id"))
            .collect::<Vec<_>>(),
        in_timeline.collect::<Vec<_>>()
    );
}

#[test]
fn after_two_failures_in_a_row_the_node_opens_its_store_again_and_state_journal_and_answers_agree()
{
    for place in [FailurePlace::Write, FailurePlace::Sync] {
        run_async(async {
            let mut test_env = TestEnv::new(&[]);
            let disk_failure = DiskFailure::install(&mut test_env);
            let node = test_env.start().await;
            let mut accepted = vec![
                node.send_message("SUP-1", "k-1").await,
                node.send_message("SUP-1", "k-2").await,
            ];
            disk_failure.fail(place, 2);
            let failed = expect_in_time(node.send_message("SUP-1", "k-3")).await;
            assert_eq!(
                (failed.status, &failed.body["code"]),
                (503, &json!("unavailable")),
                "{place:?}: {failed:?}"
            );
            assert_eq!(failed.header("retry-after"), Some("1"));
            assert_eq!(disk_failure.played_count(), 2, "{place:?}");

            accepted.extend(send_until_known(&node, "SUP-1", "k-3").await);
            accepted.push(
                send_until_known(&node, "SUP-1", "k-4")
                    .await
                    .expect("it was sent once"),
            );
            assert_eq!(
                node.send_message("SUP-1", "k-2").await.status,
                409,
                "keys are remembered over the failure"
            );
            let keys = ["k-1", "k-2", "k-3", "k-4"].map(String::from);
            check_timeline(&node, "SUP-1", &keys, &accepted).await;
            node.stop().await;

            let node = test_env.start().await;
            check_timeline(&node, "SUP-1", &keys, &accepted).await;
            node.stop().await;
        });
    }
}

#[test]
fn one_failed_write_or_sync_costs_no_request() {
    for place in [FailurePlace::Write, FailurePlace::Sync] {
        run_async(async {
            let mut test_env = TestEnv::new(&[]);
            let disk_failure = DiskFailure::install(&mut test_env);
            let node = test_env.start().await;
            let mut accepted = vec![node.send_message("SUP-1", "k-1").await];
            disk_failure.fail(place, 1);
            accepted.push(node.send_message("SUP-1", "k-2").await);
            assert_eq!(disk_failure.played_count(), 1, "{place:?}");
            accepted.push(node.send_message("SUP-1", "k-3").await);
            let keys = ["k-1", "k-2", "k-3"].map(String::from);
            assert!(accepted.iter().all(|answer| answer.status == 202));
            node.stop().await;

            let node = test_env.start().await;
            check_timeline(&node, "SUP-1", &keys, &accepted).await;
            node.stop().await;
        });
    }
}

/// Regression: the node called itself ready between two failures, because a store that accepts no
/// write can still be opened.
#[test]
fn while_the_store_keeps_failing_the_node_says_why_it_is_not_ready_and_once_it_heals_the_node_is_ready_by_itself()
 {
    for place in [FailurePlace::Write, FailurePlace::Sync] {
        run_async(async {
            let mut test_env = TestEnv::new(&[]);
            let disk_failure = DiskFailure::install(&mut test_env);
            let node = test_env.start().await;
            let accepted = node.send_message("SUP-1", "k-1").await;
            disk_failure.fail(place, u32::MAX);
            assert_eq!(
                expect_in_time(node.send_message("SUP-1", "k-2"))
                    .await
                    .status,
                503
            );
            until_readyz_is(&node, 503).await;
            while disk_failure.played_count() < 4 {
                let not_ready = node.get("/readyz").await;
                assert_eq!(
                    (not_ready.status, &not_ready.body["status"]),
                    (503, &json!("not_ready")),
                    "{place:?}"
                );
                let reason = not_ready.body["reason"].as_str().expect("a reason");
                assert!(reason.contains("the disk is on strike"), "{reason}");
                assert!(not_ready.header("retry-after").is_some());
                let refused = expect_in_time(node.send_message("SUP-1", "k-2")).await;
                assert_eq!(
                    (refused.status, &refused.body["code"]),
                    (503, &json!("unavailable")),
                    "{place:?}"
                );
                assert!(refused.header("retry-after").is_some());
                assert_eq!(node.get("/api/v1/events").await.status, 503);
                assert_eq!(
                    node.get("/healthz").await.status,
                    200,
                    "the process is well"
                );
            }
            disk_failure.heal();
            let stored = send_until_known(&node, "SUP-1", "k-2").await;
            check_timeline(
                &node,
                "SUP-1",
                &["k-1", "k-2"].map(String::from),
                stored.iter().chain([&accepted]),
            )
            .await;
            node.stop().await;
        });
    }
}

/// The node went on answering 202 and called itself ready, and all of it was lost.
#[test]
fn a_data_folder_that_is_removed_or_replaced_is_a_failure_of_the_store() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let (store, away) = (
            test_env.store_path(),
            test_env.store_path().with_extension("away"),
        );
        let node = test_env.start().await;
        let first = node.send_message("SUP-1", "k-1").await;
        for is_replaced in [false, true] {
            std::fs::rename(&store, &away).expect("renamed");
            if is_replaced {
                std::fs::create_dir(&store).expect("created");
            }
            let not_ready = until_readyz_is(&node, 503).await;
            let reason = not_ready.body["reason"].as_str().expect("a reason");
            assert!(reason.contains("removed or replaced"), "{reason}");
            // Everybody may ask.
            let folder = store.display().to_string();
            assert!(
                !reason.contains(&folder) && reason.contains("store.path"),
                "{reason}"
            );
            let refused = expect_in_time(node.send_message("SUP-1", "k-2")).await;
            assert_eq!(refused.status, 503);
            // No new store begins in its place.
            match is_replaced {
                true => std::fs::remove_dir(&store).expect("it is still empty"),
                false => assert!(!store.exists()),
            }

            std::fs::rename(&away, &store).expect("renamed");
            until_readyz_is(&node, 200).await;
        }
        let stored = send_until_known(&node, "SUP-1", "k-2").await;
        let keys = ["k-1", "k-2"].map(String::from);
        check_timeline(&node, "SUP-1", &keys, stored.iter().chain([&first])).await;
        node.stop().await;
    });
}

/// Only the newest segment was looked at: without another file the node went on until its next start,
/// which failed.
#[test]
fn a_file_of_the_store_that_is_removed_is_a_failure_of_the_store() {
    run_async(async {
        let test_env = TestEnv::new(&[("store.segment_bytes", "1048576")]);
        let node = test_env.start().await;
        for number in 0..3 {
            let key = format!("k-{number}");
            let data = json!({"message_id": key, "text": incompressible_text(800_000)});
            let sent = node.send("SUP-1", &key, "message.created", data).await;
            assert_eq!(sent.status, 202, "{sent:?}");
        }
        for name in ["FORMAT", "journal/0000000001.segment"] {
            let file = test_env.store_path().join(name);
            let away = test_env.folder.path().join("away");
            std::fs::rename(&file, &away).expect("renamed");
            let not_ready = until_readyz_is(&node, 503).await;
            let reason = not_ready.body["reason"].as_str().expect("a reason");
            assert!(reason.contains("removed or replaced"), "{name}: {reason}");
            std::fs::rename(&away, &file).expect("renamed");
            until_readyz_is(&node, 200).await;
        }

        // Without its lock, another process could use the store too.
        let lock = test_env.store_path().join("LOCK");
        std::fs::remove_file(&lock).expect("removed");
        let mut polls = tokio::time::interval(Duration::from_millis(5));
        expect_in_time(async {
            while !lock.exists() {
                polls.tick().await;
            }
        })
        .await;
        until_readyz_is(&node, 200).await;
        assert_eq!(node.fetch_timeline("SUP-1").await.len(), 3);
        node.stop().await;
    });
}

/// An event of several values in the store is there with all of them or not at all.
#[test]
fn a_partly_written_event_is_not_there() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let mut accepted = vec![node.send_message("SUP-1", "k-1").await];
        let data = json!({"message_id": "k-2", "text": incompressible_text(50_000)});
        disk_failure.fail(FailurePlace::Write, 2);
        assert_eq!(
            expect_in_time(node.send("SUP-1", "k-2", "message.created", data.clone()))
                .await
                .status,
            503
        );
        assert_eq!(disk_failure.played_count(), 2);
        let retried = loop {
            let answer =
                expect_in_time(node.send("SUP-1", "k-2", "message.created", data.clone())).await;
            if answer.status != 503 {
                break answer;
            }
            until_readyz_is(&node, 200).await;
        };
        assert_eq!((retried.status, retried.sequence()), (202, 2));
        accepted.push(retried);
        check_timeline(&node, "SUP-1", &["k-1", "k-2"].map(String::from), &accepted).await;
        node.stop().await;
    });
}

/// Regression: `/readyz` reported that a projection table could not be written, but not the cause.
#[test]
fn a_failure_of_the_projection_alone_is_reported_with_its_cause_and_survived() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let mut accepted = vec![node.send_message("SUP-1", "k-1").await];
        disk_failure.fail(FailurePlace::DerivedSync, u32::MAX);
        let not_ready = until_readyz_is(&node, 503).await;
        let reason = not_ready.body["reason"].as_str().expect("a reason");
        assert!(reason.contains("the disk is on strike"), "{reason}");
        // A stranger saw the error too, which names paths.
        let stranger = node.client.get(format!("{}/readyz", node.base));
        let shown = node.send_request(stranger).await;
        assert_eq!(
            shown.body["reason"],
            "the store has failed and is being opened again"
        );
        disk_failure.heal();
        accepted.push(
            send_until_known(&node, "SUP-1", "k-2")
                .await
                .expect("it was sent once"),
        );
        check_timeline(&node, "SUP-1", &["k-1", "k-2"].map(String::from), &accepted).await;
        node.stop().await;
    });
}

#[test]
fn all_that_wait_at_a_failure_are_answered_also_those_that_wait_for_the_outcome_of_their_duplicate()
{
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        assert_eq!(node.send_message("SUP-1", "k-1").await.status, 202);
        disk_failure.hold_syncs();
        let requests = (0..60).map(|n| {
            let client = node.api.clone();
            async move {
                client
                    .send_message(&format!("SUP-{}", n % 3), &format!("d-{}", n % 20))
                    .await
            }
        });
        let requests = spawn_all(requests);
        for ticket in ["SUP-0", "SUP-1", "SUP-2"] {
            disk_failure.wait_until_decided(ticket, 2).await;
        }
        disk_failure.fail(FailurePlace::Sync, 2);
        disk_failure.release_syncs();
        let answers = join_all(requests).await;
        assert_eq!(disk_failure.played_count(), 2);
        // Requests that arrived after the store was reopened were accepted.
        assert!(
            answers
                .iter()
                .all(|answer| [503, 202, 409].contains(&answer.status)),
            "{answers:?}"
        );
        assert!(
            answers.iter().filter(|answer| answer.status == 503).count() >= 6,
            "{answers:?}"
        );
        for n in 0..20 {
            send_until_known(&node, "SUP-9", &format!("d-{n}")).await;
        }
        let listed = node.get("/api/v1/events").await;
        assert_eq!(listed.body["total"], 21, "each key once: {listed:?}");
        node.stop().await;
    });
}

#[test]
fn several_failures_in_a_row_under_load_lose_and_repeat_nothing() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("entity.items_max", "100000")]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let tickets = ["SUP-1", "SUP-2", "SUP-3"];
        let enough = Arc::new(AtomicBool::new(false));
        let senders = tickets
            .into_iter()
            .flat_map(|ticket| (0..4).map(move |sender| (ticket, sender)));
        let work = spawn_all(senders.map(|(ticket, sender)| {
            let (client, enough) = (node.api.clone(), Arc::clone(&enough));
            async move {
                let (mut keys, mut accepted) = (Vec::new(), Vec::new());
                while !enough.load(Ordering::Relaxed) {
                    keys.push(format!("{ticket}-{sender}-{}", keys.len()));
                    accepted.extend(
                        send_until_known(&client, ticket, keys.last().expect("just pushed")).await,
                    );
                }
                (keys, accepted)
            }
        }));
        let mut failures = 0;
        // One failure is survived; three in a row include one of the store that was just reopened.
        for (place, times) in [
            (FailurePlace::Write, 1),
            (FailurePlace::Sync, 3),
            (FailurePlace::DerivedSync, 1),
            (FailurePlace::Sync, 2),
            (FailurePlace::Write, 3),
            (FailurePlace::Sync, 1),
        ] {
            failures += times;
            disk_failure.fail_after(place, 5, times);
            disk_failure.until_played(failures).await;
            until_readyz_is(&node, 200).await;
        }
        enough.store(true, Ordering::Relaxed);
        let done = join_all(work).await;
        for (ticket, done) in tickets.into_iter().zip(done.chunks(4)) {
            let keys: Vec<_> = done.iter().flat_map(|(keys, _)| keys.clone()).collect();
            check_timeline(
                &node,
                ticket,
                &keys,
                done.iter().flat_map(|(_, accepted)| accepted),
            )
            .await;
        }
        node.stop().await;
    });
}

#[test]
fn a_node_stops_while_its_store_fails_and_acknowledged_events_are_there_at_the_next_start() {
    for wait_for_readyz in [None, Some(503)] {
        run_async(async {
            let mut test_env = TestEnv::new(&[]);
            let disk_failure = DiskFailure::install(&mut test_env);
            let node = test_env.start().await;
            let accepted = node.send_message("SUP-1", "k-1").await;
            disk_failure.fail(FailurePlace::Sync, u32::MAX);
            assert_eq!(
                expect_in_time(node.send_message("SUP-1", "k-2"))
                    .await
                    .status,
                503
            );
            if let Some(status) = wait_for_readyz {
                until_readyz_is(&node, status).await;
            }
            // Ignored: stopping may report the failure, but must end.
            let _ = expect_in_time(node.inner.stop()).await;

            disk_failure.heal();
            let node = test_env.start().await;
            let stored = send_until_known(&node, "SUP-1", "k-2").await;
            check_timeline(
                &node,
                "SUP-1",
                &["k-1", "k-2"].map(String::from),
                stored.iter().chain([&accepted]),
            )
            .await;
            node.stop().await;
        });
    }
}

/// Regression: a store that was being reopened when the stop came was never closed, and its folder
/// stayed in use.
#[test]
fn a_node_that_is_stopped_while_it_opens_its_store_again_leaves_the_folder_free() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let accepted = node.send_message("SUP-1", "k-1").await;
        // Opening syncs the end of the journal, and that sync is held.
        let data = json!({"message_id": "k-2", "text": incompressible_text(50_000)});
        disk_failure.fail(FailurePlace::Write, 2);
        disk_failure.hold_syncs();
        assert_eq!(
            expect_in_time(node.send("SUP-1", "k-2", "message.created", data))
                .await
                .status,
            503
        );
        disk_failure.wait_for_held_sync().await;
        let stop = actix_rt::spawn(node.inner.stop());
        // The server is gone when connections are refused; then the stop has reached the store.
        let gone = expect_in_time(async {
            while node.api.client.get(&node.api.base).send().await.is_ok() {}
        });
        gone.await;
        disk_failure.release_syncs();
        expect_in_time(stop)
            .await
            .expect("no panic in it")
            .expect("it stops in order");

        let node = test_env.start().await;
        check_timeline(&node, "SUP-1", &["k-1".to_owned()], [&accepted]).await;
        node.stop().await;
    });
}

/// Set for the process that may mount.
const MAY_MOUNT: &str = "HOOKYARD_TEST_MAY_MOUNT";

/// Real file system without room. Mounting requires privileges, so the test runs itself again in a
/// mount namespace of its own, which leaves nothing behind. Where the system permits no such
/// namespace (some containers), the test is skipped with a message.
#[test]
fn a_full_disk_is_reported_and_survived_and_all_acknowledged_events_are_there() {
    if std::env::var_os(MAY_MOUNT).is_some() {
        return run_async(fill_a_disk());
    }
    let unshare = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--map-root-user"]).args(command);
        unshare
    };
    let probe = unshare(&["mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
        return eprintln!("left out: no file system can be mounted here: {probe:?}");
    }
    let this = std::env::current_exe().expect("this test's binary");
    let name =
        "failures::a_full_disk_is_reported_and_survived_and_all_acknowledged_events_are_there";
    let again = unshare(&[
        this.to_str().expect("a readable path"),
        "--exact",
        name,
        "--nocapture",
    ])
    .env(MAY_MOUNT, "yes")
    .output()
    .expect("it could be started a moment ago");
    let told = [again.stdout, again.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat();
    assert!(
        again.status.success() && told.contains("1 passed"),
        "{told}"
    );
}

async fn fill_a_disk() {
    let mut test_env = TestEnv::new(&[("store.segment_bytes", "1048576")]);
    let disk = test_env.folder.path().join("disk");
    std::fs::create_dir(&disk).expect("a folder");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m", "none"])
        .arg(&disk)
        .status();
    assert!(
        mounted.is_ok_and(|status| status.success()),
        "it could be done a moment ago"
    );
    // The derived data of what fills the rest of the disk is larger than its journal, and may be
    // written only when there is room again.
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![0; 40 << 20]).expect("there is room");
    test_env.set(
        "store.path",
        disk.join("store").to_str().expect("a readable path"),
    );
    let node = test_env.start().await;

    let mut accepted = Vec::new();
    let refused = loop {
        let number = accepted.len();
        assert!(number < 500, "8 MB do not hold 500 events of 40 KB");
        let key = format!("k-{number}");
        let data = json!({"message_id": key, "text": incompressible_text(40_000)});
        let answer =
            expect_in_time(node.send(&format!("SUP-{number}"), &key, "message.created", data))
                .await;
        if answer.status != 202 {
            break answer;
        }
        accepted.push(answer);
    };
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (503, &json!("unavailable"))
    );
    assert!(
        accepted.len() > 20,
        "it was full after {} events",
        accepted.len()
    );
    let reason = until_readyz_is(&node, 503).await.body["reason"].to_string();
    assert!(reason.contains("No space left on device"), "{reason}");
    for attempt in 0..5 {
        let data = json!({"message_id": "later", "text": incompressible_text(40_000)});
        let answer = expect_in_time(node.send(
            "SUP-later",
            &format!("later-{attempt}"),
            "message.created",
            data,
        ))
        .await;
        assert_eq!(answer.status, 503, "there is no room for {attempt}");
    }

    std::fs::remove_file(&ballast).expect("it is there");
    until_readyz_is(&node, 200).await;
    send_until_known(&node, "SUP-last", "last").await;
    all_are_there(&node, &accepted).await;
    node.stop().await;

    let node = test_env.start().await;
    all_are_there(&node, &accepted).await;
    node.stop().await;
}

/// Checks that the first event of the ticket `SUP-n` is the event of the n-th answer.
async fn all_are_there(client: &TestClient, accepted: &[TestAnswer]) {
    for (number, answer) in accepted.iter().enumerate() {
        let timeline = client.fetch_timeline(&format!("SUP-{number}")).await;
        assert_eq!(timeline.len(), 1, "of SUP-{number}");
        assert_eq!(timeline[0]["event_id"], answer.body["event_id"]);
        assert_eq!(
            timeline[0]["data"]["text"].as_str().map(str::len),
            Some(40_000)
        );
    }
}

/// Text that does not compress.
pub fn incompressible_text(bytes: usize) -> String {
    let mut state = 7_u64;
    let letters = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + ((state >> 33) % 75) as u8)
    });
    letters
        .filter(|letter| *letter != '\\')
        .take(bytes)
        .collect()
}
