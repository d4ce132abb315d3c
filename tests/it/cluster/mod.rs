//! Several nodes over one PostgreSQL: the lead, its change, and the promises across it.
//!
//! Ignored by default, because the tests start PostgreSQL servers: `cargo test --test it cluster --
//! --ignored`.

mod cut_proxy;
mod postgres;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use self::cut_proxy::CutProxy;
use self::postgres::Postgres;
use crate::receiver::TestReceiver;
use crate::test_node::{
    NodeProcess, TestAnswer, TestClient, TestEnv, expect_soon, free_port, run_async,
};
use crate::webhooks;

const CLUSTER_SECRET: &str = "test-cluster-secret-long-enough-for-any-node";

/// Node of a cluster, with the port at which the others reach it.
struct ClusterNode {
    test_env: TestEnv,
    port: u16,
}

impl ClusterNode {
    /// Prepares the node `id` of the cluster at the database's `port`.
    fn new(id: &str, database: &str) -> Self {
        let port = free_port();
        let test_env = TestEnv::new(&[
            ("cluster.postgres_url", database),
            ("cluster.node_id", id),
            ("cluster.advertise", &format!("http://127.0.0.1:{port}")),
            ("cluster.secret", CLUSTER_SECRET),
            ("cluster.allow_asynchronous", "true"),
        ]);
        Self { test_env, port }
    }

    fn start(&self) -> NodeProcess {
        let command = self.test_env.serve_command(self.port);
        self.test_env.wait_for_process(command, self.port)
    }
}

fn database_url(port: u16) -> String {
    format!("postgresql://user_of_a_test@127.0.0.1:{port}/postgres")
}

/// Waits until this node itself leads.
async fn wait_until_leading(node: &NodeProcess) {
    node.wait_for_log("lease of the cluster taken").await;
    expect_soon(async { while send(&node.api, "PROBE", "probe").await.is_none() {} }).await;
}

/// Sends a message; `None` if it was not accepted. A repeated key counts as accepted.
async fn send(client: &TestClient, ticket: &str, key: &str) -> Option<TestAnswer> {
    let data = json!({"message_id": key, "text": key});
    let sent = client.try_send(ticket, key, "message.created", data).await;
    let answer = sent.ok()?;
    if answer.status != 202 {
        eprintln!(
            "{key} at {}: {} {}",
            client.base, answer.status, answer.text
        );
    }
    matches!(answer.status, 202 | 409).then_some(answer)
}

/// Sends a message until one of `clients` accepts it, and returns the time that it took.
async fn send_until_accepted(clients: &[&TestClient], ticket: &str, key: &str) -> Duration {
    let began = tokio::time::Instant::now();
    expect_soon(async {
        loop {
            for client in clients {
                if send(client, ticket, key).await.is_some() {
                    return;
                }
            }
        }
    })
    .await;
    began.elapsed()
}

/// Checks that the timeline of `ticket` has each of `keys` once, with numbers without gaps.
async fn check_history(client: &TestClient, ticket: &str, keys: &BTreeSet<String>) {
    let timeline = client.fetch_timeline(ticket).await;
    let numbers: Vec<u64> = timeline
        .iter()
        .map(|item| item["sequence"].as_u64().expect("a number"))
        .collect();
    let dense: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, dense);
    let mut found: Vec<&str> = timeline
        .iter()
        .filter_map(|item| item["data"]["message_id"].as_str())
        .collect();
    found.sort_unstable();
    let expected: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(found, expected);
}

#[test]
#[ignore = "starts PostgreSQL"]
fn a_follower_takes_over_from_a_killed_leader_and_nothing_is_lost_or_doubled() {
    run_async(async {
        let database = Postgres::start("");
        let url = database_url(database.port);
        let (first, second) = (ClusterNode::new("a", &url), ClusterNode::new("b", &url));
        let mut leader = first.start();
        wait_until_leading(&leader).await;
        let mut follower = second.start();

        // Both take events; the follower passes them on.
        let mut keys = BTreeSet::new();
        for number in 0..40 {
            let key = format!("k-{number}");
            let client = if number % 2 == 0 {
                &leader.api
            } else {
                &follower.api
            };
            assert!(send(client, "SUP-1", &key).await.is_some(), "{key}");
            keys.insert(key);
        }
        check_history(&follower.api, "SUP-1", &keys).await;
        for (client, leads) in [(&leader.api, "1"), (&follower.api, "0")] {
            assert_eq!(client.get("/readyz").await.status, 200);
            let metrics = client.get("/metrics").await.text;
            let line = format!("hookyard_cluster_leader {leads}");
            assert!(metrics.contains(&line), "{metrics}");
        }
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_hookyard"))
            .args(["cluster", "status"])
            .envs(first.test_env.variables())
            .output();
        let status = String::from_utf8(status.expect("it runs").stdout).expect("text");
        assert!(status.contains("leader    a at http://"), "{status}");
        assert!(
            status.contains("synchronous_standby_names is empty"),
            "{status}"
        );

        leader.kill();
        let gap = send_until_accepted(&[&follower.api], "SUP-1", "k-after").await;
        eprintln!("taken over after {gap:?}");
        keys.insert("k-after".into());
        let repeated = follower.send_message("SUP-1", "k-7").await;
        assert_eq!(repeated.status, 409, "{repeated:?}");
        check_history(&follower.api, "SUP-1", &keys).await;

        // The former leader comes back and follows; then it takes over in its turn.
        let former = first.start();
        assert!(send(&former.api, "SUP-1", "k-back").await.is_some());
        keys.insert("k-back".into());
        follower.kill();
        send_until_accepted(&[&former.api], "SUP-1", "k-again").await;
        keys.insert("k-again".into());
        check_history(&former.api, "SUP-1", &keys).await;
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn a_leader_that_stops_in_order_gives_the_lead_away() {
    run_async(async {
        let database = Postgres::start("");
        let url = database_url(database.port);
        let (first, second) = (ClusterNode::new("a", &url), ClusterNode::new("b", &url));
        let mut leader = first.start();
        wait_until_leading(&leader).await;
        let follower = second.start();
        assert!(send(&follower.api, "SUP-1", "k-1").await.is_some());

        signal(&leader, "TERM");
        assert!(leader.child.wait().expect("a child").success());
        let lease = "SELECT lease_until FROM hookyard.cluster WHERE leader = 'a'";
        let released = database.query(lease).await;
        // Unless the other node has taken it already.
        assert!(
            released.iter().all(|end| end == "-infinity"),
            "{released:?}"
        );
        let gap = send_until_accepted(&[&follower.api], "SUP-1", "k-2").await;
        eprintln!("taken over after {gap:?}");
        let keys = BTreeSet::from(["k-1".to_owned(), "k-2".to_owned()]);
        check_history(&follower.api, "SUP-1", &keys).await;
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn a_leader_that_was_paused_beyond_its_lease_writes_nothing_more() {
    run_async(async {
        let database = Postgres::start("");
        let url = database_url(database.port);
        let (first, second) = (ClusterNode::new("a", &url), ClusterNode::new("b", &url));
        let paused = first.start();
        wait_until_leading(&paused).await;
        let follower = second.start();
        let mut keys = BTreeSet::from(["k-0".to_owned()]);
        assert!(send(&paused.api, "SUP-1", "k-0").await.is_some());

        signal(&paused, "STOP");
        send_until_accepted(&[&follower.api], "SUP-1", "k-1").await;
        keys.insert("k-1".into());
        signal(&paused, "CONT");

        // Whatever the former leader answers, what it accepts is in the one history.
        for number in 2..30 {
            let key = format!("k-{number}");
            if send(&paused.api, "SUP-1", &key).await.is_some() {
                keys.insert(key);
            }
        }
        send_until_accepted(&[&paused.api], "SUP-1", "k-last").await;
        keys.insert("k-last".into());
        check_history(&follower.api, "SUP-1", &keys).await;
        check_history(&paused.api, "SUP-1", &keys).await;
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn a_connection_cut_in_the_middle_of_a_commit_neither_loses_nor_doubles_the_event() {
    run_async(async {
        let database = Postgres::start("");
        let proxy = CutProxy::start(database.port);
        let node = ClusterNode::new("a", &database_url(proxy.port));
        let leader = node.start();
        wait_until_leading(&leader).await;

        let mut keys = BTreeSet::new();
        for number in 0..60 {
            // The statement arrives, its answer does not.
            if number % 3 == 0 {
                proxy.cut_next_answer();
            }
            let key = format!("k-{number}");
            send_until_accepted(&[&leader.api], "SUP-1", &key).await;
            keys.insert(key);
        }
        assert!(proxy.cuts() >= 10, "{}", proxy.cuts());
        check_history(&leader.api, "SUP-1", &keys).await;
        let commits = database
            .query("SELECT count(*) FROM hookyard.commits")
            .await;
        eprintln!("{commits:?} commits, {} cuts", proxy.cuts());
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn a_database_that_is_killed_and_started_again_has_all_that_was_accepted() {
    run_async(async {
        let mut database = Postgres::start("");
        let node = ClusterNode::new("a", &database_url(database.port));
        let leader = node.start();
        wait_until_leading(&leader).await;
        let mut keys = BTreeSet::new();
        for round in 0..3 {
            for number in 0..10 {
                let key = format!("k-{round}-{number}");
                send_until_accepted(&[&leader.api], "SUP-1", &key).await;
                keys.insert(key);
            }
            database.kill();
            let refused = leader.send_message("SUP-1", "k-refused").await;
            assert_eq!(refused.status, 503, "{refused:?}");
            database.restart();
        }
        send_until_accepted(&[&leader.api], "SUP-1", "k-refused").await;
        keys.insert("k-refused".into());
        check_history(&leader.api, "SUP-1", &keys).await;
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn the_promotion_of_a_synchronous_standby_loses_nothing() {
    run_async(async {
        let mut primary = Postgres::start("*");
        let standby = primary.start_standby("second");
        let url = format!(
            "postgresql://user_of_a_test@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write",
            primary.port, standby.port
        );
        let (first, second) = (ClusterNode::new("a", &url), ClusterNode::new("b", &url));
        let leader = first.start();
        wait_until_leading(&leader).await;
        let follower = second.start();
        let mut keys = BTreeSet::new();
        for number in 0..20 {
            let key = format!("k-{number}");
            assert!(send(&follower.api, "SUP-1", &key).await.is_some(), "{key}");
            keys.insert(key);
        }

        primary.kill();
        standby.promote();
        let gap = send_until_accepted(&[&leader.api, &follower.api], "SUP-1", "k-after").await;
        eprintln!("went on after {gap:?}");
        keys.insert("k-after".into());
        check_history(&follower.api, "SUP-1", &keys).await;
    });
}

/// A database that comes back without its last commits made a node lead with another history.
#[test]
#[ignore = "starts PostgreSQL"]
fn a_node_whose_copy_differs_from_the_log_neither_follows_nor_leads() {
    run_async(async {
        let database = Postgres::start("");
        let url = database_url(database.port);
        let (mut first, mut second) = (ClusterNode::new("a", &url), ClusterNode::new("b", &url));
        // Long enough for the test to change the log before anybody leads.
        first.test_env.set("cluster.lease_s", "15");
        second.test_env.set("cluster.lease_s", "15");
        let mut leader = first.start();
        wait_until_leading(&leader).await;
        let follower = second.start();
        for number in 0..5 {
            let key = format!("k-{number}");
            assert!(send(&follower.api, "SUP-1", &key).await.is_some());
        }

        // As if another leader had written the last commit, after this one was lost.
        leader.kill();
        let copied = "SELECT id FROM hookyard.nodes AS node, hookyard.cluster AS cluster \
                      WHERE node.id = 'b' AND node.position = cluster.position \
                      AND node.change = cluster.change";
        expect_soon(async { while database.query(copied).await.is_empty() {} }).await;
        let rewritten = "UPDATE hookyard.commits SET epoch = epoch + 1 WHERE (position, change) = \
                         (SELECT position, change FROM hookyard.commits \
                          ORDER BY position DESC, change DESC LIMIT 1)";
        database.query(rewritten).await;
        follower.wait_for_log("differ before position").await;
        assert_eq!(follower.get("/readyz").await.status, 503);
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn no_node_leads_while_an_import_is_not_finished() {
    run_async(async {
        let database = Postgres::start("");
        let url = database_url(database.port);
        let alone = TestEnv::new(&[]);
        let node = alone.start().await;
        assert_eq!(node.send_message("SUP-1", "k-1").await.status, 202);
        node.stop().await;
        let mut first = ClusterNode::new("a", &url);
        let path = alone.store_path();
        first
            .test_env
            .set("store.path", path.to_str().expect("a readable path"));
        let import = || {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_hookyard"))
                .args(["cluster", "import"])
                .envs(first.test_env.variables())
                .output();
            String::from_utf8(output.expect("it runs").stdout).expect("text")
        };
        assert!(import().contains("imported 1 record"));

        // As if the import had been killed before its last commits.
        let unfinished = "UPDATE hookyard.cluster SET leader = 'hookyard cluster import', \
                          advertise = '', lease_until = 'infinity', position = 1, change = 1; \
                          DELETE FROM hookyard.commits";
        database.query(unfinished).await;
        let second = ClusterNode::new("b", &url);
        let waiting = second.start();
        assert_eq!(waiting.get("/readyz").await.status, 503);
        let refused = first.test_env.serve_command(first.port).output();
        let said = String::from_utf8(refused.expect("it ends").stderr).expect("text");
        assert!(said.contains("hookyard cluster import"), "{said}");

        assert!(import().contains("imported 1 record"));
        wait_until_leading(&waiting).await;
        let keys = BTreeSet::from(["k-1".to_owned()]);
        check_history(&waiting.api, "SUP-1", &keys).await;
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn a_host_that_answers_nothing_does_not_hide_the_next_one() {
    run_async(async {
        let database = Postgres::start("");
        // It takes connections and says nothing, as a machine that hangs.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = silent.local_addr().expect("bound").port();
        let url = format!(
            "postgresql://user_of_a_test@127.0.0.1:{port},127.0.0.1:{}/postgres",
            database.port
        );
        let node = ClusterNode::new("a", &url);
        let leader = node.start();
        wait_until_leading(&leader).await;
        assert!(send(&leader.api, "SUP-1", "k-1").await.is_some());
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn a_leader_steps_down_when_the_database_gives_its_standbys_up() {
    run_async(async {
        let primary = Postgres::start("*");
        let _standby = primary.start_standby("second");
        let mut node = ClusterNode::new("a", &database_url(primary.port));
        node.test_env.set("cluster.allow_asynchronous", "false");
        let leader = node.start();
        wait_until_leading(&leader).await;
        assert!(send(&leader.api, "SUP-1", "k-1").await.is_some());

        primary
            .query("ALTER SYSTEM SET synchronous_standby_names = ''")
            .await;
        primary.query("SELECT pg_reload_conf()").await;
        leader
            .wait_for_log("synchronous_standby_names is empty")
            .await;
        expect_soon(async { while leader.get("/readyz").await.status == 200 {} }).await;
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn deliveries_go_on_in_order_after_a_take_over() {
    run_async(async {
        let database = Postgres::start("");
        let url = database_url(database.port);
        let (mut first, mut second) = (ClusterNode::new("a", &url), ClusterNode::new("b", &url));
        for node in [&mut first, &mut second] {
            node.test_env.set("delivery.allow_targets", "127.0.0.0/8");
        }
        let receiver = TestReceiver::accept_all().await;
        let mut leader = first.start();
        wait_until_leading(&leader).await;
        let follower = second.start();
        let subscription = json!({"url": receiver.url("/hook"), "events": ["message.created"]});
        let created = webhooks::create(&follower.api, &subscription).await;
        assert_eq!(created.status, 200);

        for number in 0..20 {
            send_until_accepted(&[&follower.api], "SUP-1", &format!("k-{number}")).await;
        }
        leader.kill();
        for number in 20..40 {
            send_until_accepted(&[&follower.api], "SUP-1", &format!("k-{number}")).await;
        }

        // A take-over repeats some deliveries; all are there, and the first of each are in order.
        let all: BTreeSet<u64> = (1..=40).collect();
        receiver
            .wait_until(|log| {
                let accepted = log.accepted_sequences();
                let of_ticket = accepted.get("ticket/SUP-1").into_iter().flatten();
                of_ticket.copied().collect::<BTreeSet<u64>>() == all
            })
            .await;
        let mut firsts: Vec<u64> = Vec::new();
        for request in receiver.arrivals() {
            if request.entity() == "ticket/SUP-1" && !firsts.contains(&request.sequence()) {
                firsts.push(request.sequence());
            }
        }
        assert_eq!(firsts, (1..=40).collect::<Vec<u64>>());
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn a_store_with_events_is_brought_into_a_cluster_and_out_of_it() {
    run_async(async {
        let database = Postgres::start("");
        let mut member = ClusterNode::new("a", &database_url(database.port));
        let alone = TestEnv::new(&[]);
        let path = alone.store_path();
        let node = alone.start().await;
        let mut keys = BTreeSet::new();
        for number in 0..30 {
            let key = format!("k-{number}");
            assert_eq!(node.send_message("SUP-1", &key).await.status, 202);
            keys.insert(key);
        }
        node.stop().await;

        // Without the import the node refuses to start; nothing is lost by trying.
        member
            .test_env
            .set("store.path", path.to_str().expect("a readable path"));
        let refused = member.test_env.serve_command(member.port).output();
        let said = String::from_utf8(refused.expect("it ends").stderr).expect("text");
        assert!(said.contains("hookyard cluster import"), "{said}");
        for imported in ["imported 30 records", "imported 0 records"] {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_hookyard"))
                .args(["cluster", "import"])
                .envs(member.test_env.variables())
                .output()
                .expect("it runs");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains(imported), "{said} {output:?}");
        }

        let leader = member.start();
        wait_until_leading(&leader).await;
        let second = ClusterNode::new("b", &database_url(database.port));
        let other = second.start();
        check_history(&other.api, "SUP-1", &keys).await;
        assert!(send(&other.api, "SUP-1", "k-more").await.is_some());
        keys.insert("k-more".into());
        assert_eq!(other.send_message("SUP-1", "k-3").await.status, 409);
        drop((leader, other));

        // Its folder has everything.
        let node = alone.start().await;
        check_history(&node.api, "SUP-1", &keys).await;
        node.stop().await;
    });
}

#[test]
#[ignore = "starts PostgreSQL"]
fn a_server_that_may_lose_commits_and_a_store_of_another_cluster_are_refused() {
    run_async(async {
        let database = Postgres::start("");
        let url = database_url(database.port);
        let mut careful = ClusterNode::new("a", &url);
        careful.test_env.set("cluster.allow_asynchronous", "false");
        let refused = careful.test_env.serve_command(careful.port).output();
        let said = String::from_utf8(refused.expect("it ends").stderr).expect("text");
        assert!(
            said.contains("synchronous_standby_names is empty"),
            "{said}"
        );

        // A node on its own has events already.
        let alone = TestEnv::new(&[]);
        let node = alone.start().await;
        assert_eq!(node.send_message("SUP-9", "k").await.status, 202);
        node.stop().await;
        let member = ClusterNode::new("a", &url);
        let leader = member.start();
        wait_until_leading(&leader).await;
        let mut other = ClusterNode::new("b", &url);
        let path = alone.store_path();
        other
            .test_env
            .set("store.path", path.to_str().expect("a readable path"));
        let refused = other.test_env.serve_command(other.port).output();
        let said = String::from_utf8(refused.expect("it ends").stderr).expect("text");
        assert!(said.contains("another store than the cluster's"), "{said}");
    });
}

/// Sends a signal to the process of `node`.
fn signal(node: &NodeProcess, name: &str) {
    let status = std::process::Command::new("kill")
        .args([&format!("-{name}"), &node.child.id().to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}
