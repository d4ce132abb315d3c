//! `hookyard demo`: run as a person would run it; what it claims is checked.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::commands::{folder, hookyard, output_of, send_signal};
use crate::test_node::run_async;

fn summary_of(output: &str) -> Value {
    let last = output.lines().last().expect("a summary");
    let last: Value = serde_json::from_str(last).expect("JSON");
    last["summary"].clone()
}

#[test]
fn the_demo_shows_what_the_node_promises_and_leaves_nothing_behind() {
    let folder = folder();
    let mut command = hookyard(folder.path(), &["demo", "--seconds", "1", "--json"]);
    let (code, output, error) = output_of(command.env("TMPDIR", folder.path()));
    assert_eq!((code, error.as_str()), (Some(0), ""), "{output}");
    let left = fs::read_dir(folder.path()).expect("it is there").count();
    assert_eq!(left, 0, "the temporary folder is removed");

    let start: Value = serde_json::from_str(output.lines().next().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {output}"));
    let url = start["start"]["url"].as_str().unwrap_or_default();
    assert!(url.starts_with("http://127.0.0.1:"), "{start}");

    let summary = summary_of(&output);
    let number = |name: &str| {
        summary[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{summary}"))
    };
    assert!(number("accepted") >= 50, "{summary}");
    assert_eq!(
        number("entities"),
        20,
        "four of each of five CRMs: {summary}"
    );
    assert_eq!(number("subscribers"), 3, "{summary}");
    assert_eq!(number("delivered"), 3 * number("accepted"), "{summary}");
    for never in ["swaps", "lost", "wrongly_signed"] {
        assert_eq!(number(never), 0, "{never}: {summary}");
    }
    for once in [
        "duplicates",
        "breakers_opened",
        "breakers_closed",
        "dead_letters",
        "dead_letters_delivered",
    ] {
        assert_eq!(number(once), 1, "{once}: {summary}");
    }
    assert!(number("failed_attempts") >= 5, "{summary}");
}

#[test]
fn ctrl_c_ends_the_demo_with_all_delivered() {
    let folder = folder();
    let mut child = hookyard(folder.path(), &["demo", "--json"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    // In the middle of the outage, so that there is something to deliver at the end.
    while !line.contains("flaky breaks") {
        line.clear();
        assert!(output.read_line(&mut line).expect("text") > 0, "it ended");
    }
    send_signal(&child, "INT");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert!(child.wait().expect("it ends").success(), "{rest}");
    let summary = summary_of(&rest);
    assert_eq!(summary["lost"], 0, "{summary}");
    assert_eq!(
        summary["delivered"].as_u64(),
        summary["accepted"].as_u64().map(|accepted| 3 * accepted),
        "{summary}"
    );
}

/// One event by hand, or a pause in the dashboard, made the demo wait in vain: it ended after a minute
/// with a broken promise, and everything was removed.
#[test]
fn a_visitor_who_tries_things_out_breaks_no_promise() {
    let folder = folder();
    let mut child = hookyard(folder.path(), &["demo", "--json", "--stay"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut read_until = |wanted: &str| {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            let length = output.read_line(&mut line).expect("text");
            assert!(length > 0, "it ended before {wanted}");
        }
        line
    };
    let start: Value = serde_json::from_str(&read_until("start")).expect("JSON");
    read_until("Each of the three has all");
    let ask = async |path: &str, body: Value| {
        let url = start["start"]["url"].as_str().expect("a url");
        let client = reqwest::Client::builder().no_proxy().build();
        let request = client.expect("a client").post(format!("{url}{path}"));
        let token = start["start"]["token"].as_str().expect("a token");
        let request = request.header("content-type", "application/json");
        let request = request.bearer_auth(token).body(body.to_string());
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
    };
    run_async(async {
        let event =
            json!({"event": "organisation.updated", "data": {"organisation_id": 1, "n": 1}});
        ask("/api/v1/events", event).await;
        ask("/api/v1/webhooks/1/pause", json!({})).await;
    });
    read_until("You changed webhook 1 (webhooks.pause)");
    read_until("this link logs in once");

    send_signal(&child, "INT");
    let summary: Value = serde_json::from_str(&read_until("summary")).expect("JSON");
    let summary = &summary["summary"];
    let counts = ["subscribers", "not_judged", "lost", "swaps"].map(|name| &summary[name]);
    assert_eq!(
        counts,
        [&json!(2), &json!(1), &json!(0), &json!(0)],
        "{summary}"
    );
    let accepted = summary["accepted"].as_u64().expect("a number");
    assert_eq!(summary["delivered"], 2 * accepted, "{summary}");

    read_until("The node stays");
    run_async(ask("/api/v1/webhooks/1/resume", json!({})));
    send_signal(&child, "INT");
    assert!(child.wait().expect("it ends").success(), "{summary}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let mut command = hookyard(folder.path(), &["demo", "--port", &port]);
    let (code, _, error) = output_of(command.env("TMPDIR", folder.path()));
    assert_eq!(code, Some(1));
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    let left = fs::read_dir(folder.path()).expect("it is there").count();
    assert_eq!(left, 0, "the temporary folder is removed");
}
