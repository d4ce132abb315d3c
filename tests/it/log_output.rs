//! No reader of the log, and no full volume, stops a node or makes it wait.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::commands::send_signal;
use crate::test_node::{TestClient, TestEnv, expect_soon, free_port, run_async, run_together};

/// Node of the real binary, of whose log the test decides what becomes.
struct LoggingNode {
    client: TestClient,
    child: Child,
}

impl Drop for LoggingNode {
    fn drop(&mut self) {
        // Ignored: the process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl LoggingNode {
    async fn start(test_env: &TestEnv, stderr: Stdio) -> Self {
        let port = free_port();
        let mut command = test_env.serve_command(port);
        command.env("HOOKYARD_TELEMETRY__LEVEL", "debug");
        let child = command.stderr(stderr).spawn().expect("the binary starts");
        let base = format!("http://127.0.0.1:{port}");
        let client = TestClient::new(base, Arc::clone(&test_env.deps.clock));
        Self { client, child }
    }

    /// Starts a node and reads its log until it is ready; the caller gets the rest of the pipe.
    async fn start_with_pipe(test_env: &TestEnv) -> (Self, BufReader<ChildStderr>) {
        let mut node = Self::start(test_env, Stdio::piped()).await;
        let mut log = BufReader::new(node.child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("node ready") {
            line.clear();
            let bytes = log.read_line(&mut line).expect("text");
            assert!(bytes > 0, "the node ended before it was ready");
        }
        (node, log)
    }

    async fn wait_until_ready(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        expect_soon(async {
            loop {
                ticks.tick().await;
                let url = format!("{}/readyz", self.client.base);
                let answer = self.client.client.get(url).send().await;
                if answer.is_ok_and(|answer| answer.status() == 200) {
                    return;
                }
            }
        })
        .await;
    }

    /// Makes the node write far more than a pipe holds, and asserts that it goes on.
    async fn make_noise(&self) {
        for round in 0..10 {
            let send = |number: u32| {
                let client = self.client.clone();
                async move {
                    client
                        .send_message("S", &format!("k-{round}-{number}"))
                        .await
                }
            };
            let answers = expect_soon(run_together((0..60).map(send))).await;
            assert!(
                answers.iter().all(|answer| answer.status == 202),
                "{answers:?}"
            );
        }
        let url = format!("{}/nothing", self.client.base);
        let refused = self.client.client.get(url);
        assert_eq!(
            expect_soon(self.client.send_request(refused)).await.status,
            404
        );
    }

    /// Stops the node by SIGTERM and returns its exit status.
    async fn terminate(mut self) -> Option<i32> {
        send_signal(&self.child, "TERM");
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        expect_soon(async {
            loop {
                ticks.tick().await;
                if let Some(status) = self.child.try_wait().expect("a child") {
                    return status.code();
                }
            }
        })
        .await
    }
}

/// The next line, which any refused request of a stranger writes, ended the process with SIGABRT.
#[test]
fn a_reader_of_the_log_that_ends_leaves_the_node_running() {
    run_async(async {
        let test_env = TestEnv::new(&[("sources.support.rate_per_minute", "0")]);
        let (node, log) = LoggingNode::start_with_pipe(&test_env).await;
        drop(log);
        node.make_noise().await;
        assert_eq!(node.terminate().await, Some(0));
    });
}

/// All requests hung, `/healthz` said 200, and SIGTERM was ignored.
#[test]
fn a_reader_of_the_log_that_stalls_holds_nobody_up() {
    run_async(async {
        let test_env = TestEnv::new(&[("sources.support.rate_per_minute", "0")]);
        let (node, _log) = LoggingNode::start_with_pipe(&test_env).await;
        node.make_noise().await;
        assert_eq!(node.terminate().await, Some(0));
    });
}

#[test]
fn a_full_volume_costs_log_lines_only_and_the_metrics_count_them() {
    run_async(async {
        let test_env = TestEnv::new(&[("sources.support.rate_per_minute", "0")]);
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("Linux has it");
        let node = LoggingNode::start(&test_env, full.into()).await;
        node.wait_until_ready().await;
        node.make_noise().await;
        let metrics = node
            .client
            .client
            .get(format!("{}/metrics", node.client.base));
        let text = metrics
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text");
        let lost = text
            .lines()
            .find_map(|line| line.strip_prefix("hookyard_log_lines_lost_total "));
        let lost: f64 = lost.expect("a sample").parse().expect("a number");
        assert!(lost > 100.0, "{lost}");
        assert_eq!(node.terminate().await, Some(0));
    });
}
