//! A system clock that jumps while a node runs, and between two runs.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use hookyard::clock::{BootMoment, Clock};
use hookyard::event::Timestamp;
use parking_lot::Mutex;
use serde_json::json;

use crate::commands::send_signal;
use crate::deliveries;
use crate::failures::until_readyz_is;
use crate::receiver::TestReceiver;
use crate::test_node::{TestClient, TestEnv, TestNode, expect_soon, free_port, run_async};

const START: &str = "2026-03-01T09:30:00Z";
const DAY: i64 = 86_400;

/// Clock whose wall time a test can move away from monotonic time.
pub struct JumpingClock {
    started: Instant,
    /// Seconds that the wall time is ahead of its true time.
    ahead: AtomicI64,
    /// Id of the machine's boot; `None` for a clock that does not know it.
    boot_id: Mutex<Option<&'static str>>,
}

impl JumpingClock {
    pub fn install(test_env: &mut TestEnv) -> Arc<Self> {
        #[expect(clippy::disallowed_methods, reason = "a clock for tests")]
        let started = Instant::now();
        let ahead = AtomicI64::new(0);
        let clock = Arc::new(Self {
            started,
            ahead,
            boot_id: Mutex::default(),
        });
        test_env.deps.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        clock
    }

    pub fn jump_to(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn wall(&self) -> Timestamp {
        let start = Timestamp::parse(START).expect("a time").as_micros();
        let ahead = self.ahead.load(Ordering::SeqCst) * 1_000_000;
        Timestamp::from_micros(start + ahead).saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn boot_moment(&self) -> Option<BootMoment> {
        let boot_id = (*self.boot_id.lock())?.to_owned();
        let since = self.started.elapsed();
        Some(BootMoment { boot_id, since })
    }
}

pub async fn wait_for_readiness(node: &TestNode, status: u16) -> serde_json::Value {
    until_readyz_is(node, status).await;
    node.get("/readyz").await.body
}

async fn days_of_events(node: &TestNode) -> Vec<String> {
    let events = node.get("/api/v1/events").await.body;
    let items = events["items"].as_array().expect("items").iter();
    items
        .map(|item| item["received_at"].as_str().expect("a time")[..10].to_owned())
        .collect()
}

/// The clock showed 2036 for two events and then the truth: everything after had that time.
#[test]
fn no_event_gets_the_time_of_a_clock_that_jumped() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = JumpingClock::install(&mut test_env);
        let node = test_env.start().await;
        node.send_message("T-1", "k-1").await;

        clock.jump_to(3_650 * DAY);
        let health = wait_for_readiness(&node, 503).await;
        let reason = health["reason"].as_str().expect("a reason");
        assert!(
            reason.contains("2036") && reason.contains("2026-03-01"),
            "{reason}"
        );
        assert_eq!(node.get("/api/v1/events").await.status, 503);
        let report = node.get("/api/v1/clock").await.body;
        assert_eq!(report["has_jumped"], json!(true));

        clock.jump_to(0);
        wait_for_readiness(&node, 200).await;
        node.send_message("T-1", "k-2").await;
        assert_eq!(days_of_events(&node).await, ["2026-03-01"; 2]);
        node.stop().await;
    });
}

#[test]
fn a_new_time_counts_once_it_is_confirmed() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = JumpingClock::install(&mut test_env);
        let node = test_env.start().await;
        node.send_message("T-1", "k-1").await;
        clock.jump_to(DAY);
        wait_for_readiness(&node, 503).await;
        let confirmed = node.post("/api/v1/clock/confirm").await;
        assert_eq!(
            (confirmed.status, &confirmed.body["has_jumped"]),
            (200, &json!(false))
        );
        node.send_message("T-1", "k-2").await;
        assert_eq!(days_of_events(&node).await, ["2026-03-02", "2026-03-01"]);
        node.stop().await;
    });
}

#[test]
fn a_node_that_starts_with_a_clock_before_its_last_event_takes_none() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = JumpingClock::install(&mut test_env);
        let node = test_env.start().await;
        node.send_message("T-1", "k-1").await;
        node.stop().await;

        clock.jump_to(-20 * 365 * DAY);
        let client = client_of_next_start(&mut test_env);
        let (node, ()) = tokio::join!(test_env.start(), async {
            let reason = until_start_waits(&client).await;
            assert!(
                reason.contains("2006") && reason.contains("2026-03-01"),
                "{reason}"
            );
            clock.jump_to(DAY);
        });
        wait_for_readiness(&node, 200).await;
        node.send_message("T-1", "k-2").await;
        assert_eq!(days_of_events(&node).await, ["2026-03-02", "2026-03-01"]);
        node.stop().await;
    });
}

/// One event with the time 2034 made the next start give up everything that was owed.
#[test]
fn a_start_after_an_event_of_the_future_does_nothing_before_the_clock_is_confirmed() {
    run_async(async {
        let mut test_env = deliveries::test_env(&[("delivery.hold_days", "3650")]);
        let clock = JumpingClock::install(&mut test_env);
        let receiver = TestReceiver::accept_all().await;
        let node = test_env.start().await;
        let webhook = deliveries::subscribe(&node, receiver.url("/"), json!({})).await;
        let path = format!(
            "/api/v1/webhooks/{}",
            webhook["id"].as_u64().expect("an id")
        );
        assert_eq!(node.post(&format!("{path}/pause")).await.status, 200);
        node.send_message("T-1", "k-1").await;
        clock.jump_to(3_000 * DAY);
        wait_for_readiness(&node, 503).await;
        node.post("/api/v1/clock/confirm").await;
        node.send_message("T-2", "k-2").await;
        node.stop().await;

        clock.jump_to(0);
        test_env.set("delivery.hold_days", "7");
        let client = client_of_next_start(&mut test_env);
        let (node, ()) = tokio::join!(test_env.start(), async {
            let reason = until_start_waits(&client).await;
            assert!(reason.contains("2034"), "{reason}");
            let clock = client.get("/api/v1/clock").await;
            assert_eq!(clock.body["has_jumped"], json!(true), "{}", clock.body);
            assert_eq!(client.post("/api/v1/clock/confirm").await.status, 200);
        });
        assert_eq!(node.post(&format!("{path}/resume")).await.status, 200);
        receiver.wait_for_accepted(2).await;
        node.stop().await;
    });
}

/// A clock that was ahead by less than a year at the start was believed in silence.
#[test]
fn a_start_knows_the_time_by_the_boot_and_believes_no_long_downtime_after_another() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = JumpingClock::install(&mut test_env);
        *clock.boot_id.lock() = Some("boot-1");
        let node = test_env.start().await;
        node.stop().await;

        for (boot_id, wrong, right) in [("boot-1", DAY, 0), ("boot-2", 20 * DAY, 6 * DAY)] {
            *clock.boot_id.lock() = Some(boot_id);
            clock.jump_to(wrong);
            let client = client_of_next_start(&mut test_env);
            let (node, ()) = tokio::join!(test_env.start(), async {
                let reason = until_start_waits(&client).await;
                assert!(reason.contains("2026-03-01"), "{reason}");
                clock.jump_to(right);
            });
            wait_for_readiness(&node, 200).await;
            node.stop().await;
        }
    });
}

/// The first process of a container ignored the signal: its handler came after the start.
#[test]
fn a_signal_ends_a_node_at_once_whose_start_waits() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = JumpingClock::install(&mut test_env);
        let node = test_env.start().await;
        clock.jump_to(7_000 * DAY);
        wait_for_readiness(&node, 503).await;
        node.post("/api/v1/clock/confirm").await;
        node.send_message("T-1", "k-1").await;
        node.stop().await;

        let port = free_port();
        let serve = test_env.serve_command(port).stderr(Stdio::null()).spawn();
        let mut serve = serve.expect("it starts");
        let base = format!("http://127.0.0.1:{port}");
        until_start_waits(&TestClient::new(base, clock)).await;
        send_signal(&serve, "TERM");
        let status = serve.wait().expect("a child");
        assert_eq!(status.code(), Some(0), "{status}");
    });
}

/// Sets the address of the next node, and returns a client for it: the start may wait.
fn client_of_next_start(test_env: &mut TestEnv) -> TestClient {
    let address = format!("127.0.0.1:{}", free_port());
    test_env.set("server.bind", &address);
    TestClient::new(
        format!("http://{address}"),
        Arc::clone(&test_env.deps.clock),
    )
}

/// Waits until a start waits for its clock; returns the reason that the node gives.
async fn until_start_waits(client: &TestClient) -> String {
    let mut polls = tokio::time::interval(Duration::from_millis(5));
    let polling = async {
        loop {
            polls.tick().await;
            let Ok(answer) = client
                .client
                .get(format!("{}/readyz", client.base))
                .send()
                .await
            else {
                continue;
            };
            let text = answer.text().await.expect("text");
            if text.contains("doctor --repair-times") {
                return text;
            }
        }
    };
    expect_soon(polling).await
}
