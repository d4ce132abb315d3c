//! Tests of the state machine of the alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::announcement::announce_change;
use super::board::{ACTIVE_EVENTS, AlertBoard, AlertChange, LATE_MAX, NodeReadings, WatchEnd};
use super::subject::AlertSubject;
use crate::config::AlertsConfig;
use crate::event::{Position, Timestamp};
use crate::subscriber::SubscriberId;

const BOUNDS: AlertsConfig = AlertsConfig {
    check_interval: Duration::from_secs(30),
    backlog_age: Some(Duration::from_secs(900)),
    disk_free_bytes: 1_000,
    projection_lag: 100,
    source_silence: Some(Duration::from_secs(3_600)),
    certificate_life: Some(Duration::from_secs(1_000)),
};

fn board() -> AlertBoard {
    AlertBoard::new(BOUNDS, BTreeSet::from(["shop".to_owned()]))
}

fn second(second: u64) -> Timestamp {
    Timestamp::from_micros(0).saturating_add(Duration::from_secs(second))
}

/// Readings of a node that nothing is wrong with.
fn healthy() -> NodeReadings {
    NodeReadings {
        free_bytes: Some(u64::MAX),
        certificate_life: None,
        projection_lag: 0,
        journal_end: Position::FIRST,
        first_owed: Some(BTreeMap::new()),
        unwatched: BTreeMap::new(),
        accepted_by_source: BTreeMap::new(),
    }
}

/// Checks `readings` at `at`, confirms what is found, and names it: `+` begins, `-` ends.
fn checked(board: &mut AlertBoard, readings: &NodeReadings, at: u64) -> Vec<String> {
    let changes = board.check(readings, second(at));
    changes
        .iter()
        .for_each(|change| board.confirm_change(change));
    changes.iter().map(name).collect()
}

fn name(change: &AlertChange) -> String {
    format!(
        "{}{}",
        if change.is_raised { '+' } else { '-' },
        change.subject
    )
}

#[test]
fn a_certificate_that_ends_soon_is_announced_until_it_is_replaced() {
    let mut board = board();
    let with_life = |seconds| NodeReadings {
        certificate_life: Some(Duration::from_secs(seconds)),
        ..healthy()
    };
    assert!(checked(&mut board, &with_life(999), 0).is_empty());
    let begins = checked(&mut board, &with_life(969), 30);
    assert_eq!(begins, ["+certificate_end"]);
    assert!(checked(&mut board, &with_life(0), 60).is_empty());
    assert!(checked(&mut board, &with_life(90_000), 90).is_empty());
    assert_eq!(
        checked(&mut board, &with_life(89_970), 120),
        ["-certificate_end"]
    );
}

#[test]
fn a_value_that_wavers_at_its_bound_makes_one_alert() {
    let mut board = board();
    let free = |bytes| NodeReadings {
        free_bytes: Some(bytes),
        ..healthy()
    };
    let table: [(u64, &[&str]); 11] = [
        (999, &[]),
        (1_000, &[]),
        (999, &[]),
        (998, &["+disk_space"]),
        (1_001, &[]),
        (999, &[]),
        (1_250, &[]),
        (1_251, &[]),
        (1_200, &[]),
        (1_251, &[]),
        (9_999, &["-disk_space"]),
    ];
    for (step, (bytes, expected)) in table.into_iter().enumerate() {
        let found = checked(&mut board, &free(bytes), step as u64 * 30);
        assert_eq!(found, expected, "step {step}");
    }
    let unknown = NodeReadings {
        free_bytes: None,
        ..healthy()
    };
    assert!(
        checked(&mut board, &unknown, 900).is_empty(),
        "an unread disk changes nothing"
    );
}

#[test]
fn a_change_that_could_not_be_announced_is_found_again_and_one_that_has_passed_is_not() {
    let mut board = board();
    let lagging = NodeReadings {
        projection_lag: 101,
        ..healthy()
    };
    assert!(board.check(&lagging, second(0)).is_empty());
    for at in [30, 60] {
        let changes = board.check(&lagging, second(at));
        assert_eq!(
            changes.iter().map(name).collect::<Vec<_>>(),
            ["+projection_lag"]
        );
    }
    assert!(board.check(&healthy(), second(90)).is_empty());
    assert_eq!(board.raised().count(), 0);
}

#[test]
fn a_backlog_is_late_by_the_time_for_which_it_has_waited() {
    let mut board = board();
    let owed = |first: u64, end| NodeReadings {
        journal_end: Position::new(end),
        first_owed: Some(BTreeMap::from([(
            SubscriberId::Webhook(4),
            Position::new(first),
        )])),
        ..healthy()
    };
    let mut found = Vec::new();
    // A record a second; the subscriber stands still at 30.
    for at in (0..1_200).step_by(30) {
        let changes = checked(&mut board, &owed(30, at), at);
        found.extend(changes.into_iter().map(|change| (at, change)));
    }
    assert_eq!(found, [(990, "+backlog_age:webhook:4".to_owned())]);

    // It goes on, first slowly, then to the end.
    assert!(checked(&mut board, &owed(400, 1_200), 1_200).is_empty());
    assert!(checked(&mut board, &owed(500, 1_230), 1_230).is_empty());
    assert!(checked(&mut board, &owed(1_200, 1_260), 1_260).is_empty());
    assert_eq!(
        checked(&mut board, &owed(1_250, 1_290), 1_290),
        ["-backlog_age:webhook:4"]
    );
}

/// A delivery stage that did not answer had no late subscriber, which ended the alert.
#[test]
fn a_delivery_stage_that_does_not_answer_ends_no_alert_and_hides_no_other() {
    let mut board = board();
    board.restore_raised(AlertSubject::BacklogAge(SubscriberId::Webhook(4)));
    let silent = NodeReadings {
        first_owed: None,
        free_bytes: Some(0),
        ..healthy()
    };
    assert!(checked(&mut board, &silent, 0).is_empty());
    assert_eq!(checked(&mut board, &silent, 30), ["+disk_space"]);
    assert!(checked(&mut board, &silent, 60).is_empty());
}

#[test]
fn a_source_is_silent_only_if_it_was_active_and_speaks_again_with_one_event() {
    let mut board = board();
    let accepted = |count| NodeReadings {
        accepted_by_source: BTreeMap::from([
            ("shop".to_owned(), count),
            ("hookyard".to_owned(), 99),
        ]),
        ..healthy()
    };
    checked(&mut board, &accepted(ACTIVE_EVENTS - 1), 0);
    for at in [3_601, 3_631, 3_661] {
        assert!(checked(&mut board, &accepted(ACTIVE_EVENTS - 1), at).is_empty());
    }

    checked(&mut board, &accepted(2 * ACTIVE_EVENTS), 4_000);
    assert!(checked(&mut board, &accepted(2 * ACTIVE_EVENTS), 7_600).is_empty());
    assert!(checked(&mut board, &accepted(2 * ACTIVE_EVENTS), 7_601).is_empty());
    assert_eq!(
        checked(&mut board, &accepted(2 * ACTIVE_EVENTS), 7_631),
        ["+silent_source:shop"]
    );
    assert!(checked(&mut board, &accepted(2 * ACTIVE_EVENTS + 1), 7_661).is_empty());
    assert_eq!(
        checked(&mut board, &accepted(2 * ACTIVE_EVENTS + 1), 7_691),
        ["-silent_source:shop"]
    );
}

#[test]
fn a_restored_condition_is_not_announced_again_and_ends_when_it_is_over() {
    let mut board = board();
    for text in [
        "disk_space",
        "silent_source:shop",
        "silent_source:gone",
        "backlog_age:webhook:4",
    ] {
        board.restore_raised(AlertSubject::parse(text).expect("a subject"));
    }
    board.restore_source("shop", 0, 99, Some(second(0)));
    let readings = NodeReadings {
        free_bytes: Some(0),
        ..healthy()
    };
    assert!(checked(&mut board, &readings, 9_000).is_empty());
    assert_eq!(
        checked(&mut board, &readings, 9_030),
        ["-backlog_age:webhook:4", "-silent_source:gone"]
    );
    assert!(checked(&mut board, &readings, 9_060).is_empty());
}

/// The counters of a process go on when its store is opened again, and a board without them took all
/// earlier events of a silent source for new ones.
#[test]
fn a_reopened_store_does_not_end_the_silence_of_a_source() {
    let mut board = board();
    let accepted = |count| NodeReadings {
        accepted_by_source: BTreeMap::from([("shop".to_owned(), count)]),
        ..healthy()
    };
    board.restore_raised(AlertSubject::SilentSource("shop".to_owned()));
    board.restore_source("shop", 50, 0, None);
    for at in [100_000, 100_030, 100_060] {
        assert!(checked(&mut board, &accepted(50), at).is_empty());
    }
    assert!(checked(&mut board, &accepted(51), 100_090).is_empty());
    assert_eq!(
        checked(&mut board, &accepted(51), 100_120),
        ["-silent_source:shop"]
    );
}

/// A thousand late subscribers were a thousand messages, and left no room for a full disk.
#[test]
fn many_late_subscribers_are_one_alert_and_hide_no_condition_of_the_node() {
    let mut board = board();
    let late = |count: u64, free| NodeReadings {
        free_bytes: Some(free),
        journal_end: Position::new(5_000),
        first_owed: Some(
            (1..=count)
                .map(|id| (SubscriberId::Webhook(id), Position::new(7)))
                .collect(),
        ),
        ..healthy()
    };
    checked(&mut board, &late(0, u64::MAX), 0);
    checked(&mut board, &late(1_500, 0), 2_000);
    let changes = board.check(&late(1_500, 0), second(2_030));
    changes
        .iter()
        .for_each(|change| board.confirm_change(change));
    let names: Vec<_> = changes.iter().map(name).collect();
    assert_eq!(changes.len(), LATE_MAX + 2, "{names:?}");
    let many = changes
        .iter()
        .find(|change| change.subject == AlertSubject::LateSubscribers)
        .expect("announced");
    assert_eq!((many.value, many.sample.len()), (Some(1_500), 5));
    let message = announce_change(many, second(0)).expect("an event").data["message"].clone();
    assert_eq!(
        message,
        "Deliveries to 1500 subscribers are late, among them webhook:1, webhook:2, webhook:3, \
         webhook:4, webhook:5."
    );
    assert!(names.contains(&"+disk_space".to_owned()), "{names:?}");

    // Fewer are late: the others are announced one by one where there is room again.
    checked(&mut board, &late(9, 0), 2_060);
    let ends = checked(&mut board, &late(9, 0), 2_090);
    assert!(ends.contains(&"-late_subscribers".to_owned()), "{ends:?}");
    assert_eq!(board.raised().count(), 9 + 1);
}

/// Pausing a late webhook announced that its deliveries were no longer late, with a limit of 0.
#[test]
fn a_subscriber_that_is_paused_or_deleted_is_not_said_to_have_caught_up() {
    let message = |reason: Option<WatchEnd>| {
        let mut board = board();
        let late = SubscriberId::Webhook(3);
        board.restore_raised(AlertSubject::BacklogAge(late.clone()));
        let readings = NodeReadings {
            unwatched: reason
                .into_iter()
                .map(|reason| (late.clone(), reason))
                .collect(),
            ..healthy()
        };
        assert!(board.check(&readings, second(0)).is_empty());
        let changes = board.check(&readings, second(30));
        assert_eq!(changes[0].limit, 900);
        let data = announce_change(&changes[0], second(30))
            .expect("an event")
            .data;
        (
            data["message"].as_str().expect("text").to_owned(),
            data["reason"].clone(),
        )
    };
    for (reason, text, name) in [
        (None, "no longer late.", None),
        (
            Some(WatchEnd::Paused),
            "not watched any more: the subscriber is paused.",
            Some("paused"),
        ),
        (
            Some(WatchEnd::Deleted),
            "not watched any more: the subscriber was deleted.",
            Some("deleted"),
        ),
    ] {
        let (message, told) = message(reason);
        assert_eq!(message, format!("Deliveries to webhook:3 are {text}"));
        assert_eq!(told.as_str(), name);
    }
}

proptest! {
    /// Begin and end of each condition alternate, whatever is read and whether it can be announced.
    #[test]
    fn begin_and_end_alternate(
        steps in prop::collection::vec((0..2_000_u64, 0..200_u64, 0..40_u64, any::<bool>()), 1..200),
    ) {
        let mut board = board();
        let mut raised = BTreeSet::new();
        for (step, (free, lag, owed, is_announced)) in steps.into_iter().enumerate() {
            let readings = NodeReadings {
                free_bytes: Some(free),
                projection_lag: lag,
                journal_end: Position::new(step as u64),
                first_owed: Some(BTreeMap::from([(SubscriberId::AutoReply, Position::new(owed))])),
                ..healthy()
            };
            for change in board.check(&readings, second(step as u64 * 100)) {
                prop_assert_eq!(raised.contains(&change.subject), !change.is_raised);
                if is_announced {
                    board.confirm_change(&change);
                    match change.is_raised {
                        true => raised.insert(change.subject),
                        false => raised.remove(&change.subject),
                    };
                }
            }
            let found: BTreeSet<_> = board.raised().cloned().collect();
            prop_assert_eq!(&found, &raised);
        }
    }
}
