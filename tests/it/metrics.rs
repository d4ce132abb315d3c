//! `/metrics` counts what happens, shows no content, and is the text that monitoring systems read.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::deliveries::{send, subscribe, test_env};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{SUPPORT, TOKEN, TestClient, expect_soon, run_async};

/// Reads `/metrics`, with `token` if it is not empty.
async fn fetch_text(client: &TestClient, token: &str) -> Result<String, u16> {
    let request = client.client.get(format!("{}/metrics", client.base));
    let request = match token {
        "" => request,
        token => request.bearer_auth(token),
    };
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    if status != 200 {
        return Err(status);
    }

    let media_type = response.headers()["content-type"].to_str().expect("text");
    assert!(
        media_type.starts_with("application/openmetrics-text; version=1.0.0"),
        "{media_type}"
    );
    Ok(response.text().await.expect("a text"))
}

/// Returns the samples of `text` by their names and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name, value.parse().expect("a number"))
        })
        .collect()
}

/// Returns the names of metrics in `text`, without the endings of single samples.
fn metric_names(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !is_part(character))
        .filter(|word| word.starts_with("hookyard_") || word.starts_with("process_"))
        .map(|word| {
            let endings = ["_total", "_bucket", "_count", "_sum"];
            let base = endings.iter().find_map(|ending| word.strip_suffix(ending));
            base.unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn events_deliveries_and_refusals_are_counted() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|arrival| {
            ReceiverReply::Status(if arrival.before < 1 { 500 } else { 200 })
        })
        .await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        send(&node, &["A", "B"], 1, 3).await;
        // Repeated and refused calls are no accepted events.
        assert_eq!(node.send_message("A", "A-1").await.status, 409);
        let unsigned = node
            .client
            .post(format!("{}{SUPPORT}", node.base))
            .body("{}");
        assert_eq!(node.send_request(unsigned).await.status, 401);
        receiver.wait_for_accepted(6).await;

        // The attempt is counted after the receiver's answer has arrived.
        let accepted = "hookyard_deliveries_total{outcome=\"accepted\"}";
        let counted = async {
            loop {
                let text = fetch_text(&node, "").await.expect("open to anyone");
                if samples(&text).get(accepted) == Some(&6.0) {
                    break text;
                }
            }
        };
        let text = expect_soon(counted).await;
        let samples = samples(&text);
        for (name, value) in [
            ("hookyard_events_accepted_total{source=\"support\"}", 6.0),
            (
                "hookyard_calls_refused_total{source=\"support\",code=\"duplicate_event\"}",
                1.0,
            ),
            (
                "hookyard_calls_refused_total{source=\"support\",code=\"invalid_api_key\"}",
                1.0,
            ),
            ("hookyard_deliveries_total{outcome=\"failed\"}", 6.0),
            ("hookyard_delivery_seconds_count", 12.0),
            ("hookyard_accept_seconds_count", 6.0),
            ("hookyard_ready", 1.0),
            ("hookyard_live_entities", 2.0),
            ("hookyard_breakers_open", 0.0),
            ("hookyard_dead_letters", 0.0),
            (
                "hookyard_deliveries_given_up_total{reason=\"exhausted\"}",
                0.0,
            ),
            ("hookyard_log_lines_lost_total", 0.0),
            (
                concat!(
                    "hookyard_build_info{version=\"",
                    env!("CARGO_PKG_VERSION"),
                    "\"}"
                ),
                1.0,
            ),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name} in\n{text}");
        }
        // The records of the events, and no fewer commits than one for each of three rounds.
        assert!(samples["hookyard_commit_records_sum"] >= 6.0, "{text}");
        assert!(samples["hookyard_commit_seconds_count"] >= 3.0, "{text}");
        for positive in [
            "hookyard_store_bytes{part=\"journal\"}",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_cpu_seconds_total",
        ] {
            assert!(samples[positive] > 0.0, "{positive} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        node.stop().await;
    });
}

#[test]
fn the_largest_backlogs_have_rows_of_their_own() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        let subscription = subscribe(&node, receiver.url("/hook"), json!({})).await;
        let pause = format!("/api/v1/webhooks/{}/pause", subscription["id"]);
        assert_eq!(node.post(&pause).await.status, 200);
        send(&node, &["A"], 1, 5).await;

        let name = format!(
            "hookyard_subscriber_backlog{{subscriber=\"webhook:{}\"}}",
            subscription["id"]
        );
        // All readers share the figures of one second.
        let counted = async {
            loop {
                let text = fetch_text(&node, "").await.expect("open to anyone");
                if samples(&text).get(name.as_str()) == Some(&5.0) {
                    return text;
                }
            }
        };
        let text = expect_soon(counted).await;
        assert_eq!(samples(&text)["hookyard_backlog"], 5.0, "{text}");
        node.stop().await;
    });
}

/// Events behind a stopped lane were in no metric, so no alert could fire.
#[test]
fn events_behind_a_stopped_lane_are_in_the_metrics_with_their_age() {
    run_async(async {
        let mut test_env = test_env(&[("delivery.retry_schedule_s", "3600")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        send(&node, &["A"], 1, 1).await;
        receiver.wait_for_requests(1).await;
        send(&node, &["A"], 2, 3).await;
        clock.advance(Duration::from_secs(300));

        let shown = async {
            loop {
                let text = fetch_text(&node, "").await.expect("open to anyone");
                let samples = samples(&text);
                let figures = [
                    "hookyard_backlog",
                    "hookyard_subscriber_backlog{subscriber=\"webhook:1\"}",
                    "hookyard_oldest_owed_seconds",
                    "hookyard_lanes_stopped",
                    "hookyard_stage_answers{stage=\"delivery\"}",
                    "hookyard_stage_answers{stage=\"router\"}",
                ];
                let figures = figures.map(|name| samples.get(name).copied().unwrap_or(-1.0));
                if figures == [4.0, 4.0, 300.0, 1.0, 1.0, 1.0] {
                    return;
                }
            }
        };
        expect_soon(shown).await;
        node.stop().await;
    });
}

#[test]
fn a_token_closes_the_metrics_to_strangers() {
    run_async(async {
        let node = test_env(&[("telemetry.metrics_token", "read-only-metrics-token")])
            .start()
            .await;
        assert_eq!(fetch_text(&node, "").await, Err(401));
        assert_eq!(fetch_text(&node, "another").await, Err(401));
        assert!(fetch_text(&node, "read-only-metrics-token").await.is_ok());
        assert!(fetch_text(&node, TOKEN).await.is_ok());
        node.stop().await;
    });
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_exist() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        // A metric with labels is only there once one of its rows is.
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        let paused = subscribe(&node, receiver.url("/paused"), json!({})).await;
        let pause = format!("/api/v1/webhooks/{}/pause", paused["id"]);
        assert_eq!(node.post(&pause).await.status, 200);
        send(&node, &["A"], 1, 1).await;
        assert_eq!(node.send_message("A", "A-1").await.status, 409);
        let counted = async {
            loop {
                let text = fetch_text(&node, "").await.expect("open to anyone");
                let rows = ["deliveries_total{", "subscriber_backlog{"];
                if rows
                    .iter()
                    .all(|row| text.contains(&format!("hookyard_{row}")))
                {
                    break text;
                }
            }
        };
        let mut known = metric_names(&expect_soon(counted).await);
        // Only there for a node with a certificate.
        known.insert("hookyard_certificate_expiry_seconds".to_owned());
        // Only there for a node of a cluster: its own test reads it.
        known.insert("hookyard_cluster_leader".to_owned());

        for path in [
            "config/grafana-dashboard.json",
            "config/prometheus-alerts.yml",
        ] {
            let file = std::fs::read_to_string(path).expect("reads");
            let used = metric_names(&file);
            assert!(used.len() > 5, "{path} uses {used:?}");
            let unknown: Vec<_> = used.difference(&known).collect();
            assert!(
                unknown.is_empty(),
                "{path} uses {unknown:?}, not in {known:?}"
            );
        }
        node.stop().await;
    });
}

/// The rules named the job `hookyard`, which no scraper has that finds pods by their annotations: a node
/// that was down was never reported.
#[test]
fn the_rules_and_the_dashboard_work_whatever_the_job_is_called() {
    let rules = std::fs::read_to_string("config/prometheus-alerts.yml").expect("reads");
    let expressions = rules.lines().filter(|line| line.contains("expr:"));
    let named: Vec<_> = expressions
        .clone()
        .filter(|line| line.contains("job=") || line.contains("instance="))
        .collect();
    assert!(named.is_empty(), "{named:?}");
    let mut down = expressions.filter(|line| line.contains("absent(hookyard_ready)"));
    let down = down.next().expect("nothing notices that a node is gone");
    // A pod that got another address was reported as a node that is down, for a day.
    assert!(
        down.contains("up == 0 and on (job, instance)"),
        "a target that went away is no node that is down: {down}"
    );
    // The file said that the guide tells what to do about each; the guide had none of their names.
    let guide = std::fs::read_to_string("src/edge/docs/guide/operate.md").expect("reads");
    for name in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        assert!(guide.contains(&format!("| `{name}` |")), "{name}");
    }

    let dashboard = std::fs::read_to_string("config/grafana-dashboard.json").expect("reads");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    for name in ["job", "instance"] {
        assert!(
            variables.iter().any(|known| known["name"] == name),
            "{name}"
        );
    }
    for panel in dashboard["panels"].as_array().expect("a list") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = target["expr"].as_str().expect("an expression");
            let metrics = text.matches("hookyard_").count() + text.matches("process_").count();
            let chosen = text
                .matches("{job=~\"$job\",instance=~\"$instance\"}")
                .count();
            assert_eq!(metrics, chosen, "{text}");
        }
    }
}

/// The Python client's parser is the reference of the format. `.ci/run` installs it.
#[test]
#[ignore = "needs Python with the package prometheus_client"]
fn the_reference_parser_reads_the_metrics() {
    const PARSE: &str = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
        print(len(list(parse(sys.stdin.read()))))";
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        subscribe(&node, receiver.url("/hook"), json!({})).await;
        send(&node, &["A"], 1, 2).await;
        receiver.wait_for_accepted(2).await;
        let text = fetch_text(&node, "").await.expect("open to anyone");
        node.stop().await;

        let python = std::env::var("HOOKYARD_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &text).expect("written");
        let output = Command::new(python)
            .args(["-c", PARSE])
            .stdin(Stdio::from(file.reopen().expect("opens")))
            .output()
            .expect("python runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}\n{text}");
        let families = String::from_utf8_lossy(&output.stdout);
        assert!(
            families.trim().parse::<u32>().expect("a number") > 15,
            "{families}"
        );
    });
}
