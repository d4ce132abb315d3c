//! `hookyard doctor`: each finding, its advice, the exit code, and the repair.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use hookyard::clock::SystemClock;
use serde_json::{Value, json};

use crate::clock_jumps::{JumpingClock, wait_for_readiness};
use crate::deliveries;
use crate::store_opening::run_tool;
use crate::test_node::{TOKEN, TestEnv, run_async};

/// Runs `doctor` with these options; returns the exit code and the findings by their checks.
fn examine(test_env: &TestEnv, options: &[&str]) -> (Option<i32>, Vec<(String, String, String)>) {
    let words: Vec<_> = ["doctor", "--json"]
        .iter()
        .chain(options)
        .copied()
        .collect();
    let output = run_tool(test_env, &words);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"));
    let text = |finding: &Value, member: &str| finding[member].as_str().unwrap_or("").to_owned();
    let findings = report["findings"].as_array().expect("a list").iter();
    let findings = findings.map(|finding| {
        let told = format!("{} {}", text(finding, "detail"), text(finding, "advice"));
        (text(finding, "check"), text(finding, "state"), told)
    });
    (output.status.code(), findings.collect())
}

/// Returns the state and the words of the finding of `check` that is not ok, or of any.
fn found<'f>(findings: &'f [(String, String, String)], check: &str) -> (&'f str, &'f str) {
    let of_check = || findings.iter().filter(|(name, ..)| name == check);
    let worst = of_check().find(|(_, state, _)| state != "ok");
    let (_, state, told) = worst
        .or_else(|| of_check().next())
        .unwrap_or_else(|| panic!("no {check} in {findings:?}"));
    (state, told)
}

fn filled_env() -> TestEnv {
    let test_env = TestEnv::new(&[]);
    run_async(async {
        let node = test_env.start().await;
        deliveries::send(&node, &["SUP-1"], 1, 20).await;
        node.stop().await;
    });
    test_env
}

#[test]
fn a_good_store_has_no_problem_and_is_not_changed() {
    let test_env = filled_env();
    let (code, findings) = examine(&test_env, &[]);
    assert_eq!(code, Some(0), "{findings:?}");
    for check in [
        "store",
        "journal",
        "clock",
        "derived data",
        "free space",
        "permissions",
    ] {
        assert_eq!(found(&findings, check).0, "ok", "{findings:?}");
    }
    // The tool's environment enables no source.
    let (state, told) = found(&findings, "configuration");
    assert!(
        state == "warning" && told.contains("sources.support.enabled"),
        "{told}"
    );
    let plain = run_tool(&test_env, &["doctor"]);
    let plain = String::from_utf8_lossy(&plain.stdout);
    assert!(
        plain.contains("ok       journal: all segments are there"),
        "{plain}"
    );

    let empty = TestEnv::new(&[]);
    let (code, findings) = examine(&empty, &[]);
    assert_eq!((code, found(&findings, "store").0), (Some(0), "warning"));
    assert!(!empty.store_path().exists());
}

#[test]
fn a_torn_end_and_lost_read_tables_are_reported_and_repaired() {
    let test_env = filled_env();
    let segment = test_env.store_path().join("journal/0000000001.segment");
    let bytes = fs::read(&segment).expect("readable");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("content") + 1;
    let end = end.next_multiple_of(8);
    let mut torn = bytes.clone();
    torn[end..end + 40].copy_from_slice(&[9; 40]);
    fs::write(&segment, torn).expect("writable");
    fs::remove_dir_all(test_env.store_path().join("derived")).expect("there");

    let (code, findings) = examine(&test_env, &[]);
    assert_eq!(code, Some(0), "{findings:?}");
    let (state, told) = found(&findings, "journal");
    assert!(
        state == "warning" && told.contains("incomplete commit"),
        "{told}"
    );
    let (state, told) = found(&findings, "derived data");
    assert!(
        state == "warning" && told.contains("it is missing"),
        "{told}"
    );
    assert!(!test_env.store_path().join("derived").exists());

    let (code, findings) = examine(&test_env, &["--repair"]);
    assert_eq!(
        (code, found(&findings, "repair").0),
        (Some(0), "ok"),
        "{findings:?}"
    );
    let (code, findings) = examine(&test_env, &[]);
    assert_eq!(code, Some(0));
    for check in ["journal", "derived data"] {
        assert_eq!(found(&findings, check).0, "ok", "{findings:?}");
    }
    run_async(async {
        let node = test_env.start().await;
        assert_eq!(node.fetch_timeline("SUP-1").await.len(), 20);
        node.stop().await;
    });
}

/// Nothing mended a store whose last event had the time 2036: every later one got that time.
#[test]
fn events_of_the_future_get_the_present_time_and_nothing_is_lost() {
    const TEN_YEARS: i64 = 3_650 * 86_400;
    let mut test_env = TestEnv::new(&[]);
    let clock = JumpingClock::install(&mut test_env);
    run_async(async {
        let node = test_env.start().await;
        deliveries::send(&node, &["SUP-1"], 1, 3).await;
        clock.jump_to(TEN_YEARS);
        wait_for_readiness(&node, 503).await;
        assert_eq!(node.post("/api/v1/clock/confirm").await.status, 200);
        let status = json!({"status": "pending"});
        node.send("SUP-1", "future", "status.changed", status).await;
        deliveries::send(&node, &["SUP-1"], 5, 3).await;
        node.stop().await;
    });
    let (code, findings) = examine(&test_env, &[]);
    let (state, told) = found(&findings, "clock");
    assert_eq!((code, state), (Some(1), "problem"), "{told}");
    assert!(told.contains("doctor --repair-times"), "{told}");

    let (code, findings) = examine(&test_env, &["--repair-times"]);
    assert_eq!(code, Some(0), "{findings:?}");
    let (state, told) = found(&findings, "repair of times");
    assert!(state == "ok" && told.contains("1 segments"), "{told}");
    assert_eq!(found(&findings, "clock").0, "ok");
    let (_, findings) = examine(&test_env, &["--repair-times"]);
    let (_, told) = found(&findings, "repair of times");
    assert!(told.contains("no event"), "{told}");

    test_env.deps.clock = Arc::new(SystemClock::default());
    run_async(async {
        let node = test_env.start().await;
        wait_for_readiness(&node, 200).await;
        let repeated = node.send_message("SUP-1", "SUP-1-7").await;
        assert_eq!(repeated.status, 409, "{repeated:?}");
        // The entity takes a true time for the latest.
        let status = json!({"status": "resolved"});
        let sent = node
            .send("SUP-1", "present", "status.changed", status)
            .await;
        assert_eq!(sent.status, 202, "{sent:?}");
        let ticket = node.get("/api/v1/entities/ticket/SUP-1").await.body;
        assert_eq!(ticket["state"]["status"], json!("resolved"), "{ticket}");
        assert_eq!(node.fetch_timeline("SUP-1").await.len(), 8);
        let events = node.get("/api/v1/events?page_size=100").await.body;
        let times = events["items"].as_array().expect("a list").iter();
        let times: Vec<_> = times
            .map(|event| event["received_at"].as_str().expect("a time").to_owned())
            .collect();
        assert_eq!(times.len(), 8);
        assert!(
            times.is_sorted_by(|later, earlier| later >= earlier),
            "{times:?}"
        );
        assert!(
            times[0].as_str() < "2036" && times[7].starts_with("2026-03-01"),
            "{times:?}"
        );
        node.stop().await;
    });
}

#[test]
fn damage_a_newer_format_and_a_wrong_configuration_are_problems() {
    let test_env = filled_env();
    let segment = test_env.store_path().join("journal/0000000001.segment");
    let whole = fs::read(&segment).expect("readable");
    let mut damaged = whole.clone();
    damaged[64 + 40] ^= 1;
    fs::write(&segment, damaged).expect("writable");
    let (code, findings) = examine(&test_env, &["--repair"]);
    assert_eq!(code, Some(1), "{findings:?}");
    let (state, told) = found(&findings, "journal");
    assert!(
        state == "problem" && told.contains("at byte 64, position 1"),
        "{told}"
    );
    assert_eq!(found(&findings, "repair").0, "problem");
    fs::write(&segment, whole).expect("writable");

    let format = test_env.store_path().join("FORMAT");
    fs::write(&format, "hookyard-store-format = 9\n").expect("writable");
    let (code, findings) = examine(&test_env, &[]);
    assert_eq!(code, Some(1));
    assert!(
        found(&findings, "store")
            .1
            .contains("start the newer hookyard")
    );

    let config = test_env.folder.path().join("node.toml");
    fs::write(
        &config,
        "[admin]\ntoken = \"\"\n[sources.crm]\nenabled = true\n",
    )
    .expect("writable");
    let words = ["--config", config.to_str().expect("text")];
    let (_, findings) = examine(&TestEnv::new(&[]), &words);
    let (state, told) = found(&findings, "configuration");
    assert!(
        state == "problem" && told.contains("sources.crm.tokens"),
        "{told}"
    );
}

#[test]
fn files_that_others_can_read_are_reported_with_the_command_that_closes_them() {
    let test_env = filled_env();
    let config = test_env.folder.path().join("node.toml");
    let mut file = fs::File::create(&config).expect("writable");
    writeln!(
        file,
        "[sources.crm]\nenabled = true\ntokens = [\"a-token-that-is-long-enough\"]"
    )
    .expect("writable");
    let set_mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its owner's");
    };
    set_mode(&config, 0o644);
    set_mode(&test_env.store_path(), 0o755);
    let words = ["--config", config.to_str().expect("text")];
    let (code, findings) = examine(&test_env, &words);
    assert_eq!(code, Some(0), "{findings:?}");
    let told = format!("{findings:?}");
    assert!(
        told.contains("chmod 700") && told.contains("chmod 600"),
        "{told}"
    );
    assert!(!told.contains("a-token-that"), "{told}");
    set_mode(&config, 0o600);
    set_mode(&test_env.store_path(), 0o700);
    let (_, findings) = examine(&test_env, &words);
    assert_eq!(found(&findings, "permissions").0, "ok", "{findings:?}");
}

#[test]
fn the_targets_of_a_running_node_are_looked_at() {
    run_async(async {
        let test_env = TestEnv::new(&[("delivery.allow_targets", "127.0.0.0/8")]);
        let node = test_env.start_process().await;
        let url = "http://127.0.0.1:9/hook?key=s3cret".to_owned();
        deliveries::subscribe(&node.api, url, json!({})).await;
        let bind = node.api.base.trim_start_matches("http://").to_owned();
        let examine = |allowed: &str| {
            let output = Command::new(env!("CARGO_BIN_EXE_hookyard"))
                .args(["doctor", "--repair"])
                .env("HOOKYARD_STORE__PATH", test_env.store_path())
                .env("HOOKYARD_SERVER__BIND", &bind)
                .env("HOOKYARD_ADMIN__TOKEN", TOKEN)
                .env("HOOKYARD_DELIVERY__ALLOW_TARGETS", allowed)
                .output()
                .expect("it starts");
            (
                output.status.code(),
                String::from_utf8(output.stdout).expect("text"),
            )
        };
        let (code, told) = examine("127.0.0.0/8");
        assert_eq!(code, Some(0), "{told}");
        assert!(
            told.contains("ok       targets: the hosts of 1 subscriptions"),
            "{told}"
        );
        assert!(
            told.contains("warning  repair: not done: a node uses the store"),
            "{told}"
        );
        let (code, told) = examine("");
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("problem  targets: 127.0.0.1: "), "{told}");
        assert!(
            told.contains("delivery.allow_targets") && !told.contains("s3cret"),
            "{told}"
        );
    });
}
