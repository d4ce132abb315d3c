//! Tests of the call log over a real store: visibility of new rows, survival of a crash, and a disk
//! that is slow or fails.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;

use super::row::tests::entry;
use super::*;
use crate::derived::open_failing_store;
use crate::failpoints::{Failpoint, FailureInjector, NoFailures};

const LIMITS: CallLogLimits = CallLogLimits {
    rows_max: 1_000,
    refused_rows_max: 100,
    failed_rows_max: 1_000,
};
const ALL: CallFilter = CallFilter {
    direction: None,
    is_successful: None,
};

fn open_with(
    folder: &Path,
    limits: CallLogLimits,
    failure_injector: Arc<dyn FailureInjector>,
) -> Arc<CallLog> {
    let store = open_failing_store(folder, failure_injector).expect("opens");
    CallLog::open(&store, limits).expect("opens")
}

fn open(folder: &Path) -> Arc<CallLog> {
    open_with(folder, LIMITS, Arc::new(NoFailures))
}

fn append(log: &CallLog, status: u16, source: &str) {
    log.append(
        &CallEntry {
            source,
            ..entry(status)
        },
        [("user-agent", &b"crm/1.0"[..])],
    );
}

async fn list(log: &Arc<CallLog>, filter: CallFilter) -> (Vec<CallRow>, u64) {
    let page = log.list_calls(filter, 0..100).await.expect("readable");
    (page.items, page.total)
}

fn sources(rows: &[CallRow]) -> Vec<&str> {
    rows.iter().map(|row| row.source.as_str()).collect()
}

/// Copies the files of a running store, as `kill -9` would leave them.
fn copy_as_killed(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_all(folder, copy.path());
    copy
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("writable");
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("writable");
        }
    }
}

#[tokio::test]
async fn a_row_is_seen_as_soon_as_it_is_appended() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    for number in 1..=150_u64 {
        let status = if number % 3 == 0 { 401 } else { 202 };
        append(&log, status, &number.to_string());
        let (rows, total) = list(&log, ALL).await;
        assert_eq!(
            (rows[0].id, rows[0].source.as_str(), total),
            (number, number.to_string().as_str(), number)
        );
        assert_eq!(
            log.get_call(number).await.expect("readable").as_ref(),
            Some(&rows[0])
        );
    }
    assert_eq!(log.get_call(0).await.expect("readable"), None);
    assert_eq!(log.get_call(151).await.expect("readable"), None);
    let refused = CallFilter {
        is_successful: Some(false),
        ..ALL
    };
    assert_eq!(list(&log, refused).await.1, 50);
    log.close();
}

#[tokio::test]
async fn the_deliveries_of_one_subscriber_are_found_among_all_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    let name = |number: u64| {
        if number.is_multiple_of(3) {
            "webhook:4"
        } else {
            "webhook:41"
        }
    };
    for number in 1..=300_u64 {
        append(&log, 202, "webhook:4");
        let status = if number % 2 == 0 { 500 } else { 200 };
        let attempt = Some(number as u32);
        let delivery = CallEntry {
            direction: CallDirection::Outgoing,
            source: name(number),
            attempt,
            ..entry(status)
        };
        log.append(&delivery, []);
        if number % 100 == 0 {
            log.flush().await.expect("writes");
        }
    }
    let attempts = async |filter, skipped, count| {
        let page = log
            .list_deliveries("webhook:4".into(), filter, skipped..skipped + count)
            .await
            .expect("readable");
        (
            page.items
                .iter()
                .filter_map(|row| row.attempt)
                .collect::<Vec<_>>(),
            page.total,
        )
    };
    assert_eq!(
        attempts(ALL, 0, 3).await,
        (vec![300, 297, 294], 100),
        "newest first, and no calls of that name"
    );
    assert_eq!(attempts(ALL, 98, 3).await, (vec![6, 3], 100));
    assert_eq!(attempts(ALL, 100, 3).await, (vec![], 100));
    let failed = CallFilter {
        is_successful: Some(false),
        ..ALL
    };
    assert_eq!(attempts(failed, 49, 9).await, (vec![6], 50));
    assert_eq!(
        attempts(ALL, 0, 3).await,
        (vec![300, 297, 294], 100),
        "and again, of what is remembered"
    );
    let long = format!("forward:{}", "x".repeat(64));
    log.append(
        &CallEntry {
            direction: CallDirection::Outgoing,
            source: &long,
            ..entry(200)
        },
        [],
    );
    assert_eq!(
        log.list_deliveries(long, ALL, 0..9)
            .await
            .expect("readable")
            .total,
        1,
        "its name is cut in both"
    );
    log.close();
}

#[tokio::test]
async fn a_page_of_one_subscriber_is_a_page_of_all_deliveries_without_the_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    for number in 0..2_500_u64 {
        let source = format!("webhook:{}", number * number % 7);
        let status = if number % 5 < 2 { 500 } else { 200 };
        log.append(
            &CallEntry {
                direction: CallDirection::Outgoing,
                source: &source,
                ..entry(status)
            },
            [],
        );
        if number % 400 == 0 {
            log.flush().await.expect("writes");
        }
        if number % 500 != 499 {
            continue;
        }
        for is_successful in [None, Some(true), Some(false)] {
            let filter = CallFilter {
                is_successful,
                ..ALL
            };
            let all = log
                .list_calls(filter, 0..2_500)
                .await
                .expect("readable")
                .items;
            for source in ["webhook:0", "webhook:1", "webhook:2", "webhook:3"] {
                let expected: Vec<_> = all
                    .iter()
                    .filter(|row| row.source == source)
                    .cloned()
                    .collect();
                for (skipped, count) in [(0, 10), (7, 1), (60, 30), (0, 1_000), (999, 1)] {
                    let page = log
                        .list_deliveries(source.into(), filter, skipped..skipped + count)
                        .await
                        .expect("readable");
                    let wanted = expected.iter().skip(skipped as usize).take(count as usize);
                    assert!(
                        page.items.iter().eq(wanted),
                        "{source} {skipped} {count} after {number}"
                    );
                    assert_eq!(page.total, expected.len() as u64, "{source} after {number}");
                }
            }
        }
    }
    log.close();
}

#[tokio::test]
async fn refused_calls_never_push_out_others_and_the_oldest_go_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    append(&log, 202, "good");
    log.append(
        &CallEntry {
            direction: CallDirection::Outgoing,
            source: "delivery",
            ..entry(500)
        },
        [],
    );
    for number in 0..5_000 {
        append(&log, 401, &number.to_string());
        if number % 1_000 == 0 {
            log.flush().await.expect("writes");
        }
    }
    let (rows, total) = list(
        &log,
        CallFilter {
            is_successful: Some(false),
            ..ALL
        },
    )
    .await;
    assert!((94..=101).contains(&total), "{total}");
    assert_eq!(rows[0].source, "4999");
    let outgoing = list(
        &log,
        CallFilter {
            direction: Some(CallDirection::Outgoing),
            ..ALL
        },
    )
    .await;
    assert_eq!(sources(&outgoing.0), ["delivery"]);
    assert_eq!(
        sources(
            &list(
                &log,
                CallFilter {
                    is_successful: Some(true),
                    ..ALL
                }
            )
            .await
            .0
        ),
        ["good"]
    );
    assert_eq!(
        log.get_call(3).await.expect("readable"),
        None,
        "the first refused call is gone"
    );
    log.flush().await.expect("writes");
    log.close();
    // Blocks and summaries of what is there, and the mark.
    assert!(
        log.tree.iter().count() <= 2 * (100 / 6 + 2 + 1) + 1,
        "{} rows are left on the disk",
        log.tree.iter().count()
    );
}

#[tokio::test]
async fn every_row_is_there_after_a_restart_and_numbers_go_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut before = Vec::new();
    for life in 0..3 {
        let log = open(folder.path());
        assert_eq!(list(&log, ALL).await.0, before, "life {life}");
        (0..20).for_each(|number| append(&log, if number % 2 == 0 { 202 } else { 400 }, "s"));
        before = list(&log, ALL).await.0;
        assert_eq!(before[0].id, (life + 1) * 20);
        log.close();
        assert_eq!(
            list(&log, ALL).await.0,
            before,
            "a closed log can still be read"
        );
    }
}

#[tokio::test]
async fn after_a_kill_what_was_written_is_there_and_no_number_comes_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    (0..90).for_each(|_| append(&log, 202, "written"));
    log.flush().await.expect("writes");
    let written = list(&log, ALL).await.0;
    append(&log, 202, "seen, and perhaps lost");
    let seen = list(&log, ALL).await.0[0].clone();
    let killed = copy_as_killed(folder.path());
    log.close();

    let log = open(killed.path());
    let (rows, _) = list(&log, ALL).await;
    let later = rows
        .iter()
        .position(|row| *row == written[0])
        .expect("what was written is there");
    assert_eq!(rows[later..], written);
    assert!(rows[..later].iter().all(|row| *row == seen), "{rows:?}");
    append(&log, 202, "new");
    let new = list(&log, ALL).await.0[0].clone();
    assert!(
        new.source == "new" && new.id > seen.id,
        "{new:?} after {seen:?}"
    );
    log.close();
}

/// A fixed bug: with nothing but the mark on the disk, the next opening began with id 1 again.
#[tokio::test]
async fn a_kill_before_anything_was_written_repeats_no_number() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    append(&log, 202, "seen");
    let seen = list(&log, ALL).await.0[0].id;
    let killed = copy_as_killed(folder.path());
    let log_of_the_next = open(killed.path());
    append(&log_of_the_next, 202, "new");
    assert!(list(&log_of_the_next, ALL).await.0[0].id > seen);
    log_of_the_next.close();
    log.close();
}

/// An opening that changes the files makes the next opening rewrite more of them.
#[tokio::test]
async fn an_opening_without_rows_writes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    append(&log, 202, "s");
    log.close();
    drop(log);
    let disk = Arc::new(FaultyDisk::default());
    disk.fails.store(true, Ordering::SeqCst);
    let log = open_with(folder.path(), LIMITS, disk);
    assert_eq!(list(&log, ALL).await.1, 1);
    log.flush().await.expect("there is nothing to write");
    log.close();
    assert_eq!(*log.watch_failure().borrow(), None);
}

#[tokio::test]
async fn a_bound_that_was_lowered_holds_from_the_next_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    (1..=500).for_each(|_| append(&log, 202, "s"));
    log.close();
    drop(log);
    let log = open_with(
        folder.path(),
        CallLogLimits {
            rows_max: 100,
            ..LIMITS
        },
        Arc::new(NoFailures),
    );
    let (rows, total) = list(&log, ALL).await;
    assert!(total <= 100 && rows[0].id == 500, "{total}, {}", rows[0].id);
    log.close();
}

/// A disk that hangs or fails where the log writes.
#[derive(Default)]
struct FaultyDisk {
    hangs: Mutex<bool>,
    moved: Condvar,
    fails: AtomicBool,
}

impl FaultyDisk {
    fn hang(&self, hangs: bool) {
        *self.hangs.lock() = hangs;
        self.moved.notify_all();
    }
}

impl FailureInjector for FaultyDisk {
    fn evaluate(&self, point: Failpoint<'_>) -> io::Result<()> {
        if !matches!(point, Failpoint::CallLogWrite) {
            return Ok(());
        }
        self.moved
            .wait_while(&mut self.hangs.lock(), |hangs| *hangs);
        if self.fails.load(Ordering::SeqCst) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_stuck_disk_blocks_nobody_and_costs_bounded_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(FaultyDisk::default());
    let limits = CallLogLimits {
        rows_max: 1_000_000,
        ..LIMITS
    };
    let log = open_with(
        folder.path(),
        limits,
        Arc::clone(&disk) as Arc<dyn FailureInjector>,
    );
    append(&log, 202, "first");
    log.flush().await.expect("writes");
    disk.hang(true);
    (0..UNWRITTEN_MAX + 500).for_each(|_| append(&log, 202, "s"));
    let full = list(&log, ALL).await.1;
    assert_eq!(full, 1 + UNWRITTEN_MAX, "the rest was dropped");
    disk.hang(false);
    log.flush().await.expect("writes");
    append(&log, 202, "after");
    let (rows, total) = list(&log, ALL).await;
    assert_eq!((rows[0].source.as_str(), total), ("after", full + 1));
    log.close();
}

/// Otherwise the id could be used again after a crash at that moment. The paused time stands still
/// while a read is running.
#[tokio::test(start_paused = true)]
async fn nobody_sees_a_row_before_the_mark_of_this_opening_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(FaultyDisk::default());
    disk.hang(true);
    let log = open_with(
        folder.path(),
        LIMITS,
        Arc::clone(&disk) as Arc<dyn FailureInjector>,
    );
    append(&log, 202, "s");
    let seen = tokio::time::timeout(std::time::Duration::from_secs(1), log.list_calls(ALL, 0..1));
    assert!(seen.await.is_err(), "it was seen");
    disk.hang(false);
    log.flush().await.expect("writes");
    assert_eq!(list(&log, ALL).await.1, 1);
    log.close();
}

/// A fixed bug: a thread that began late took rows that were appended before for written.
#[tokio::test]
async fn rows_from_before_the_thread_began_are_written_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(FaultyDisk::default());
    disk.hang(true);
    let log = open_with(
        folder.path(),
        LIMITS,
        Arc::clone(&disk) as Arc<dyn FailureInjector>,
    );
    append(&log, 202, "early");
    let ended = log.shared.request_flush();
    disk.hang(false);
    log.wait_written_up_to(ended).await.expect("writes");
    let killed = copy_as_killed(folder.path());
    log.close();
    let log = open(killed.path());
    assert_eq!(sources(&list(&log, ALL).await.0), ["early"]);
    log.close();
}

#[tokio::test]
async fn a_failing_disk_is_reported_and_takes_no_more_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(FaultyDisk::default());
    let log = open_with(
        folder.path(),
        LIMITS,
        Arc::clone(&disk) as Arc<dyn FailureInjector>,
    );
    append(&log, 202, "s");
    log.flush().await.expect("writes");
    disk.fails.store(true, Ordering::SeqCst);
    append(&log, 202, "s");
    assert!(matches!(log.flush().await, Err(CallReadError::Ended)));
    let mut failed = log.watch_failure();
    let reason = failed
        .wait_for(Option::is_some)
        .await
        .expect("reported")
        .clone();
    assert!(reason.is_some_and(|reason| reason.contains("call log failed")));
    let total = list(&log, ALL).await.1;
    append(&log, 202, "s");
    assert_eq!(list(&log, ALL).await.1, total);
    log.close();
}

#[tokio::test]
async fn a_log_whose_bytes_were_changed_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    append(&log, 202, "s");
    log.flush().await.expect("writes");
    log.close();
    log.tree
        .insert(block::summary_key(0, 1), b"\x09")
        .expect("writes");
    assert!(matches!(
        CallLog::open(log.tree.store(), LIMITS),
        Err(CallLogOpenError::Corrupt(1))
    ));
    log.tree.remove(block::summary_key(0, 1)).expect("writes");
    log.tree.insert(block::MARK, b"?").expect("writes");
    assert!(matches!(
        CallLog::open(log.tree.store(), LIMITS),
        Err(CallLogOpenError::Corrupt(_))
    ));
}

#[tokio::test]
async fn the_rows_of_erased_events_are_removed_and_no_other_row_changes() {
    use crate::event::{EventId, Position, StoreIncarnation};

    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    let event = |position| EventId::new(StoreIncarnation::new(7), Position::new(position));
    for number in 1..=60_u64 {
        let status = if number % 3 == 0 { 401 } else { 202 };
        let row = CallEntry {
            // All rows of one block go, and some of another.
            event_ids: &[event(if number <= 30 { 1 } else { number % 2 })],
            ..entry(status)
        };
        log.append(&row, []);
        if number % 10 == 0 {
            log.flush().await.expect("writes");
        }
    }
    let (before, _) = list(&log, ALL).await;
    log.close();
    drop(log);

    let store = open_failing_store(folder.path(), Arc::new(NoFailures)).expect("opens");
    erase_calls(&store, &|id| *id == event(1)).expect("erases");
    drop(store);

    let log = open(folder.path());
    let mut expected = before;
    expected.retain(|row| row.event_ids != [event(1)]);
    let count = expected.len() as u64;
    assert_eq!(count, 15);
    assert_eq!(list(&log, ALL).await, (expected, count));
    assert_eq!(log.get_call(1).await.expect("readable"), None);
    append(&log, 202, "next");
    assert_eq!(list(&log, ALL).await.0[0].id, 61);
    log.close();
}

/// The successes of one busy subscriber had pushed out the failures of all others within minutes.
#[tokio::test]
async fn successes_do_not_push_out_failures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = open(folder.path());
    let append_delivery = |status, source: &str| {
        let delivery = CallEntry {
            direction: CallDirection::Outgoing,
            source,
            ..entry(status)
        };
        log.append(&delivery, []);
    };
    append_delivery(503, "failed");
    for number in 0..5_000 {
        append_delivery(200, &number.to_string());
        if number % 1_000 == 0 {
            log.flush().await.expect("writes");
        }
    }
    let failures = CallFilter {
        is_successful: Some(false),
        ..ALL
    };
    assert_eq!(sources(&list(&log, failures).await.0), ["failed"]);
    let (_, successes) = list(
        &log,
        CallFilter {
            is_successful: Some(true),
            ..ALL
        },
    )
    .await;
    assert!(successes <= 1_001, "{successes}");
}
