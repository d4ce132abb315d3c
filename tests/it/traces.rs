//! Traces: that of a sender goes on to its subscribers, and spans are exported to a collector.

use reqwest::Method;
use serde_json::{Value, json};

use crate::deliveries::{subscribe, test_env};
use crate::receiver::{ReceiverReply, ReceiverRequest, TestReceiver};
use crate::test_node::{TestClient, expect_soon, run_async};

const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Sends a message of SUP-1 with the header lines `traces`, and returns its event id.
pub async fn send_traced(node: &TestClient, key: &str, traces: &[&str]) -> String {
    let data = json!({"message_id": key, "text": key});
    let body = json!({"event": "message.created", "support_uid": "SUP-1", "data": data});
    let mut request = node.signed_request(&body.to_string(), key);
    for trace in traces {
        request = request.header("traceparent", *trace);
    }
    let answer = node.send_request(request).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.event_id()
}

/// A subscriber could not tell which of the sender's requests had led to a delivery.
#[test]
fn the_trace_of_a_request_is_kept_shown_and_passed_on_and_a_bad_one_is_ignored() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(&node, receiver.url("/"), json!({})).await;

        let traced = send_traced(&node, "traced", &[SENT]).await;
        receiver.wait_for_requests(2).await;
        receiver.set_script(|_| ReceiverReply::Status(200));
        for (key, traces) in [
            ("without", &[][..]),
            ("twice", &[SENT, SENT]),
            (
                "capitals",
                &["00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01"],
            ),
            (
                "zeros",
                &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            ),
        ] {
            let id = send_traced(&node, key, traces).await;
            let shown = node.get(&format!("/api/v1/events/{id}")).await.body;
            assert!(shown.get("traceparent").is_none(), "{key}: {shown}");
        }
        receiver.wait_for_accepted(5).await;

        let shown = node.get(&format!("/api/v1/events/{traced}")).await.body;
        assert_eq!(shown["traceparent"], SENT);
        let replay = json!({"since": "2000-01-01T00:00:00Z"});
        let request = node
            .client
            .request(
                Method::POST,
                format!("{}/api/v1/webhooks/1/replay", node.base),
            )
            .bearer_auth(crate::test_node::TOKEN)
            .header("content-type", "application/json")
            .body(replay.to_string());
        let answer = node.send_request(request).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        let is_replay = |arrival: &ReceiverRequest| arrival.header("x-hookyard-replay").is_some();
        receiver
            .wait_until(|seen| {
                seen.arrivals
                    .iter()
                    .filter(|arrival| is_replay(arrival))
                    .count()
                    >= 5
            })
            .await;

        let (mut spans, mut replayed) = (Vec::new(), false);
        for arrival in receiver.arrivals() {
            let trace = arrival.header("traceparent");
            if arrival.id() != traced {
                assert_eq!(trace, None, "{}", arrival.id());
                continue;
            }
            let trace = trace.expect("a trace");
            assert!(
                trace.starts_with(&SENT[..36]) && trace.ends_with("-01"),
                "{trace}"
            );
            spans.push(trace[36..52].to_owned());
            replayed |= arrival.header("x-hookyard-replay").is_some();
        }
        assert!(spans.len() >= 4 && replayed, "{spans:?}");
        spans.push(SENT[36..52].to_owned());
        let count = spans.len();
        spans.sort();
        spans.dedup();
        assert_eq!(spans.len(), count, "each attempt has a span of its own");
        node.stop().await;
    });
}

/// Spans in the exports that a collector got, each checked to be whole.
fn exported_spans(arrivals: &[ReceiverRequest]) -> Vec<Value> {
    let mut spans = Vec::new();
    for arrival in arrivals {
        assert_eq!((&*arrival.method, &*arrival.path), ("POST", "/v1/traces"));
        assert_eq!(arrival.header("content-type"), Some("application/json"));
        for group in arrival.json()["resourceSpans"].as_array().expect("groups") {
            let service = &group["resource"]["attributes"][0];
            assert_eq!(service["value"]["stringValue"], "hookyard", "{group:#}");
            for scope in group["scopeSpans"].as_array().expect("scopes") {
                spans.extend(scope["spans"].as_array().expect("spans").clone());
            }
        }
    }
    let number = |span: &Value, name: &str| -> u64 {
        let text = span[name].as_str().expect("a text");
        text.parse().expect("a number")
    };
    for span in &spans {
        let (began, ended) = (
            number(span, "startTimeUnixNano"),
            number(span, "endTimeUnixNano"),
        );
        assert!(
            began > 1_600_000_000_000_000_000 && began <= ended,
            "{span}"
        );
    }
    spans
}

fn attribute<'s>(span: &'s Value, name: &str) -> &'s str {
    let all = span["attributes"].as_array().expect("attributes");
    let found = all.iter().find(|attribute| attribute["key"] == name);
    let value = &found.unwrap_or_else(|| panic!("no {name} in {span}"))["value"];
    let text = value["stringValue"].as_str().or(value["intValue"].as_str());
    text.unwrap_or_default()
}

#[test]
fn an_event_its_commit_and_its_deliveries_are_spans_of_one_trace() {
    run_async(async {
        let collector = TestReceiver::accept_all().await;
        let test_env = test_env(&[("telemetry.otlp_endpoint", &collector.url("/"))]);
        let node = test_env.start().await;
        let mut failures = 1;
        let receiver = TestReceiver::start(move |_| {
            failures -= 1;
            ReceiverReply::Status(if failures == 0 { 503 } else { 200 })
        })
        .await;
        subscribe(&node, receiver.url("/"), json!({})).await;
        let traced = send_traced(&node, "traced", &[SENT]).await;
        receiver.wait_for_accepted(1).await;
        let own = send_traced(&node, "own", &[]).await;
        receiver.wait_for_accepted(2).await;
        let unsampled = format!("{}00", &SENT[..53]);
        send_traced(&node, "unsampled", &[&unsampled]).await;
        receiver.wait_for_accepted(3).await;
        // What waits is exported before the node has stopped.
        node.stop().await;

        let arrivals = receiver.arrivals();
        assert_eq!(arrivals.len(), 4);
        let spans = exported_spans(&collector.arrivals());
        let of_event = |id: &str| -> Vec<&Value> {
            let accept = spans.iter().find(|span| {
                span["name"] == "accept" && attribute(span, "hookyard.event_id") == id
            });
            let accept = accept.unwrap_or_else(|| panic!("{id}: {spans:#?}"));
            let children = spans.iter().filter(|span| {
                span["traceId"] == accept["traceId"] && span["parentSpanId"] == accept["spanId"]
            });
            [accept].into_iter().chain(children).collect()
        };
        for (id, tries) in [(&traced, 2), (&own, 1)] {
            let found = of_event(id);
            let names: Vec<_> = found[1..].iter().map(|span| &span["name"]).collect();
            let count = |name: &str| names.iter().filter(|found| **found == name).count();
            assert_eq!(
                (count("commit"), count("deliver")),
                (1, tries),
                "{found:#?}"
            );
            assert_eq!(attribute(found[0], "hookyard.source"), "support");

            // The subscriber got the span of each attempt.
            let sent = arrivals.iter().filter(|arrival| arrival.id() == id);
            for arrival in sent {
                let trace = arrival.header("traceparent").expect("a trace");
                let (trace_id, span_id) = (&trace[3..35], &trace[36..52]);
                let deliver = found.iter().find(|span| span["spanId"] == span_id);
                let deliver = deliver.unwrap_or_else(|| panic!("{trace}: {found:#?}"));
                assert_eq!(deliver["traceId"], trace_id);
                assert_eq!(attribute(deliver, "hookyard.subscriber"), "webhook:1");
                let status = attribute(deliver, "http.response.status_code");
                let is_failed = deliver["status"]["code"] == 2;
                assert_eq!(is_failed, status == "503", "{deliver:#}");
            }
        }
        let accept = of_event(&traced)[0];
        assert_eq!(accept["traceId"], SENT[3..35]);
        assert_eq!(accept["parentSpanId"], SENT[36..52]);
        assert!(of_event(&own)[0].get("parentSpanId").is_none());
        let last = arrivals[3].header("traceparent").expect("passed on");
        assert!(last.ends_with("-00"), "{last}");
        assert_eq!(
            spans.len(),
            4 + 3,
            "the sender wants no third trace: {spans:#?}"
        );
    });
}

/// Hosted collectors answered 401, a busy one cost a batch, and two nodes could not be told apart.
#[test]
fn a_collector_gets_the_headers_it_asks_for_and_a_busy_one_the_batch_again() {
    run_async(async {
        let mut answers = [503, 429, 200].into_iter();
        // The second batch is refused once, the first twice: that one is lost.
        let collector =
            TestReceiver::start(move |_| ReceiverReply::Status(answers.next().unwrap_or(200)))
                .await;
        let test_env = test_env(&[
            ("telemetry.otlp_endpoint", &collector.url("")),
            (
                "telemetry.otlp_headers",
                "Authorization: Bearer given,X-Team: crm",
            ),
        ]);
        let node = test_env.start().await;
        send_traced(&node, "first", &[SENT]).await;
        let wait_for = async |count: usize| {
            expect_soon(async {
                while collector.arrivals().len() < count {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        };
        wait_for(2).await;
        send_traced(&node, "second", &[SENT]).await;
        wait_for(3).await;
        node.stop().await;

        let arrivals = collector.arrivals();
        assert_eq!(arrivals[0].body, arrivals[1].body, "tried once more");
        assert_ne!(arrivals[1].body, arrivals[2].body, "and given up then");
        let mut instances = Vec::new();
        for arrival in &arrivals {
            assert_eq!(arrival.header("authorization"), Some("Bearer given"));
            assert_eq!(arrival.header("x-team"), Some("crm"));
            let resource = &arrival.json()["resourceSpans"][0]["resource"];
            instances.push(attribute(resource, "service.instance.id").to_owned());
            assert!(!attribute(resource, "service.version").is_empty());
        }
        assert_eq!(instances[0].len(), 32);
        assert!(instances.iter().all(|instance| *instance == instances[0]));
    });
}

/// The collector must not be able to delay or refuse an event.
#[test]
fn a_collector_that_is_away_costs_spans_one_line_and_nothing_else() {
    run_async(async {
        let collector = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        let test_env = test_env(&[("telemetry.otlp_endpoint", &collector.url(""))]);
        let node = test_env.start_process().await;
        let failed = |text: &str| {
            let name = "hookyard_trace_spans_total{outcome=\"failed\"} ";
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0_u64, |count| count.parse().expect("a number"))
        };
        let mut counts = Vec::new();
        for round in 0..2 {
            send_traced(&node, &format!("key-{round}"), &[SENT]).await;
            let last = counts.last().copied().unwrap_or_default();
            let count = async {
                loop {
                    let count = failed(&node.get("/metrics").await.text);
                    if count > last {
                        return count;
                    }
                }
            };
            counts.push(expect_soon(count).await);
            collector.stop().await;
        }
        assert_eq!(counts, [2, 4]);

        collector.restart().await;
        collector.set_script(|_| ReceiverReply::Status(200));
        send_traced(&node, "again", &[SENT]).await;
        node.wait_for_log("traces are exported again").await;
        let log = node.kill_and_read_log();
        let lines = log
            .iter()
            .filter(|line| line.contains("traces could not be exported"));
        assert_eq!(lines.count(), 1, "{log:#?}");
    });
}
