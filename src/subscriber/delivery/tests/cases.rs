//! Single cases, each for one rule.

use std::sync::Arc;
use std::time::Duration;

use super::super::running_attempt::AttemptSource;
use super::super::*;
use super::model::{failed, failure, item, policy, seconds};
use crate::config::{ExhaustionPolicy, Secret};
use crate::event::Position;
use crate::subscriber::AttemptFailure;
use crate::subscriber::attempt::AttemptOutcome;
use crate::subscriber::delivery_policy::{DeliveryPolicy, DeliveryTarget};
use crate::subscriber::new_dead_letter::{DeadLetterCause, NewDeadLetter};
use crate::subscription::{
    DeliveryOrdering, SigningSecrets, SubscriptionState, sample_subscription,
};

fn delivery(policy: DeliveryPolicy) -> SubscriberDelivery {
    SubscriberDelivery::new(
        Arc::new(policy),
        Position::FIRST,
        vec![],
        Duration::ZERO,
        7,
        Duration::ZERO,
    )
}

/// Returns an input of matched records, given as pairs of entity and sequence. The first is at the
/// position that the reader has reached.
fn matched(delivery: &SubscriberDelivery, records: &[(u64, u64)]) -> DeliveryInput {
    let first = delivery.read_to();
    let position = |n: usize| first.get() + n as u64;
    let matched = |(n, (entity, sequence)): (usize, &(u64, u64))| MatchedRecord {
        item: item(position(n), *entity, *sequence),
        filter_error: None,
    };
    DeliveryInput::RecordsMatched {
        items: records.iter().enumerate().map(matched).collect(),
        end: first.plus(records.len() as u64),
    }
}

/// Returns ids, positions and numbers of the attempts among `effects`.
fn attempts(effects: &[DeliveryEffect]) -> Vec<(AttemptId, u64, u32)> {
    let attempt = |effect: &DeliveryEffect| match effect {
        DeliveryEffect::Attempt {
            attempt_id,
            item,
            attempt,
            ..
        } => Some((*attempt_id, item.position.get(), *attempt)),
        _ => None,
    };
    effects.iter().filter_map(attempt).collect()
}

fn ended(attempt_id: AttemptId, outcome: AttemptOutcome) -> DeliveryInput {
    DeliveryInput::AttemptEnded {
        attempt_id,
        outcome,
    }
}

fn caught_up(entity: u64, items: Vec<(u64, u64)>, end: Option<u64>) -> DeliveryInput {
    let lane = LaneKey::Entity(super::model::entity(entity));
    let through = items.last().map_or(0, |(_, sequence)| *sequence);
    let matched = |(position, sequence)| MatchedRecord {
        item: item(position, entity, sequence),
        filter_error: None,
    };
    DeliveryInput::LaneCaughtUp {
        lane,
        items: items.into_iter().map(matched).collect(),
        through,
        end: end.map(Position::new),
    }
}

fn kept(effects: &[DeliveryEffect]) -> Vec<(u64, u64, u32, Duration)> {
    let row = |effect: &DeliveryEffect| match effect {
        DeliveryEffect::StoreRow(row) => {
            Some((row.position.get(), row.sequence, row.attempts, row.wait))
        }
        _ => None,
    };
    effects.iter().filter_map(row).collect()
}

fn calm() -> DeliveryPolicy {
    let mut policy = policy();
    (
        policy.breaker.consecutive,
        policy.breaker.failure_rate,
        policy.retries.jitter,
    ) = (0, 0.0, 0.0);
    policy
}

#[test]
fn it_begins_with_two_attempts_and_dares_one_more_with_each_success() {
    let mut delivery = delivery(calm());
    let records: Vec<_> = (1..=10).map(|entity| (entity, 1)).collect();
    let first = attempts(&delivery.step(matched(&delivery, &records), seconds(0)));
    assert_eq!(
        first
            .iter()
            .map(|(_, position, _)| *position)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(
        attempts(&delivery.step(ended(first[0].0, AttemptOutcome::Accepted), seconds(1))).len(),
        2
    );
    assert_eq!(delivery.status().running, 3);
    assert_eq!(
        attempts(&delivery.step(ended(first[1].0, failed(None)), seconds(1))).len(),
        0,
        "two are under way, of one"
    );
}

#[test]
fn an_entity_that_has_much_does_not_keep_others_waiting() {
    let mut delivery = delivery(DeliveryPolicy {
        concurrency: 1,
        ..calm()
    });
    let mut order = Vec::new();
    let mut next = attempts(&delivery.step(
        matched(&delivery, &[(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]),
        seconds(0),
    ));
    while let Some((attempt_id, position, _)) = next.pop() {
        order.push(position);
        next = attempts(&delivery.step(ended(attempt_id, AttemptOutcome::Accepted), seconds(1)));
    }
    assert_eq!(order, [1, 4, 5, 2, 3]);
    assert!(delivery.is_idle());
}

#[test]
fn while_paused_nothing_begins_but_what_is_under_way_ends() {
    let mut delivery = delivery(calm());
    let first = attempts(&delivery.step(
        matched(&delivery, &[(1, 1), (1, 2), (2, 1), (3, 1)]),
        seconds(0),
    ));
    let paused = DeliveryPolicy {
        state: SubscriptionState::Paused { reason: None },
        ..calm()
    };
    delivery.step(DeliveryInput::PolicyChanged(Arc::new(paused)), seconds(1));
    assert!(
        !delivery.can_begin(first[0].0) && !delivery.can_read() && delivery.next_due_at().is_none()
    );
    assert!(
        delivery
            .step(ended(first[0].0, AttemptOutcome::Accepted), seconds(2))
            .is_empty()
    );
    assert_eq!(
        kept(&delivery.step(ended(first[1].0, failed(None)), seconds(2))),
        [(3, 1, 1, seconds(5))]
    );
    assert!(delivery.step(DeliveryInput::Tick, seconds(500)).is_empty());
    assert_eq!(delivery.oldest_unsettled(), Some(Position::new(2)));
    let resumed = delivery.step(DeliveryInput::PolicyChanged(Arc::new(calm())), seconds(500));
    assert_eq!(
        attempts(&resumed).len(),
        2,
        "as many at once as in the beginning"
    );
}

/// Returns a delivery whose breaker is open since second 1, with more to deliver, and its policy.
fn interrupted() -> (SubscriberDelivery, DeliveryPolicy) {
    let mut policy = calm();
    policy.breaker.consecutive = 1;
    let mut delivery = delivery(policy.clone());
    let first = attempts(&delivery.step(
        matched(&delivery, &[(1, 1), (2, 1), (3, 1), (4, 1)]),
        seconds(0),
    ));
    let opened = delivery.step(ended(first[0].0, failed(None)), seconds(1));
    assert!(
        opened
            .iter()
            .any(|effect| matches!(effect, DeliveryEffect::BreakerOpened { .. })),
        "{opened:?}"
    );
    delivery.step(ended(first[1].0, failed(None)), seconds(1));
    assert!(delivery.step(DeliveryInput::Tick, seconds(2)).is_empty());
    (delivery, policy)
}

#[test]
fn one_that_is_resumed_begins_anew_whatever_its_breaker_was_at() {
    for is_probing in [false, true] {
        let (mut delivery, policy) = interrupted();
        let probe = if is_probing {
            attempts(&delivery.step(DeliveryInput::RepairNoticed, seconds(3)))
        } else {
            Vec::new()
        };
        assert_eq!(probe.len(), usize::from(is_probing));
        let paused = DeliveryPolicy {
            state: SubscriptionState::Paused { reason: None },
            ..policy.clone()
        };
        assert!(
            delivery
                .step(DeliveryInput::PolicyChanged(Arc::new(paused)), seconds(4))
                .is_empty()
        );
        let resumed = delivery.step(DeliveryInput::PolicyChanged(Arc::new(policy)), seconds(4));
        assert!(
            matches!(resumed[0], DeliveryEffect::BreakerClosed),
            "{resumed:?}"
        );
        assert_eq!(
            (attempts(&resumed).len(), delivery.status().running),
            (2 - probe.len(), 2)
        );
        assert_eq!(
            (delivery.status().breaker, delivery.status().failing_for),
            (DeliveryBreakerState::Closed, Duration::ZERO)
        );
    }
}

#[test]
fn the_probe_of_before_a_pause_decides_nothing_for_the_one_after_it() {
    let (mut delivery, policy) = interrupted();
    let probe = attempts(&delivery.step(DeliveryInput::RepairNoticed, seconds(3)));
    let paused = DeliveryPolicy {
        state: SubscriptionState::Paused { reason: None },
        ..policy.clone()
    };
    delivery.step(DeliveryInput::PolicyChanged(Arc::new(paused)), seconds(4));
    let resumed =
        attempts(&delivery.step(DeliveryInput::PolicyChanged(Arc::new(policy)), seconds(4)));
    delivery.step(ended(resumed[0].0, failed(None)), seconds(5));
    let page = delivery.step(DeliveryInput::RepairNoticed, seconds(20));
    assert_eq!(
        (delivery.status().running, delivery.status().breaker),
        (1, DeliveryBreakerState::Open),
        "a page is read first"
    );
    let DeliveryEffect::CatchUp { lane, .. } = &page[0] else {
        panic!("{page:?}")
    };
    let number = (1..=4).find(|n| *lane == LaneKey::Entity(super::model::entity(*n)));
    let number = number.expect("one of the four entities");
    delivery.step(caught_up(number, vec![(number, 1)], Some(5)), seconds(20));
    assert_eq!(
        (delivery.status().running, delivery.status().breaker),
        (2, DeliveryBreakerState::HalfOpen)
    );
    delivery.step(ended(probe[0].0, AttemptOutcome::Accepted), seconds(21));
    assert_eq!(delivery.status().breaker, DeliveryBreakerState::HalfOpen);
}

#[test]
fn one_that_is_said_to_answer_again_is_tried_at_once() {
    let (mut delivery, _) = interrupted();
    let probe = attempts(&delivery.step(DeliveryInput::RepairNoticed, seconds(3)));
    assert_eq!(
        (probe.len(), delivery.status().breaker),
        (1, DeliveryBreakerState::HalfOpen)
    );
    assert!(
        delivery
            .step(DeliveryInput::RepairNoticed, seconds(3))
            .is_empty(),
        "one only"
    );
    let closed = delivery.step(ended(probe[0].0, AttemptOutcome::Accepted), seconds(3));
    assert!(
        matches!(closed[0], DeliveryEffect::BreakerClosed),
        "{closed:?}"
    );
    assert_eq!(attempts(&closed).len(), 1);
}

#[test]
fn what_the_filter_fails_on_is_dead_letter_in_its_turn_and_says_nothing_of_the_subscriber() {
    let mut policy = policy();
    policy.breaker.consecutive = 1;
    let mut delivery = delivery(policy);
    let broken = MatchedRecord {
        item: item(2, 1, 2),
        filter_error: Some("no such member".to_owned()),
    };
    let items = vec![
        MatchedRecord {
            item: item(1, 1, 1),
            filter_error: None,
        },
        broken,
        MatchedRecord {
            item: item(3, 1, 3),
            filter_error: None,
        },
    ];
    let first = attempts(&delivery.step(
        DeliveryInput::RecordsMatched {
            items,
            end: Position::new(4),
        },
        seconds(0),
    ));
    let effects = delivery.step(ended(first[0].0, AttemptOutcome::Accepted), seconds(1));
    let is_dead_letter = |effect: &DeliveryEffect| {
        matches!(effect, DeliveryEffect::DeadLetter { letter: NewDeadLetter { item, attempts: 0, failure, cause: DeadLetterCause::Expression, is_halting: false }, replay: None }
        if item.sequence == 2 && failure.code == "filter_failed" && failure.detail == "no such member")
    };
    assert!(is_dead_letter(&effects[0]), "{effects:?}");
    assert_eq!(attempts(&effects)[0].1, 3);
    assert_eq!(delivery.status().breaker, DeliveryBreakerState::Closed);
}

#[test]
fn a_lane_that_stopped_goes_on_from_the_timeline_until_it_has_reached_the_reader() {
    let mut delivery = delivery(calm());
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1), (2, 1), (1, 2)]), seconds(0)));
    assert_eq!(
        kept(&delivery.step(ended(first[0].0, failed(None)), seconds(1))),
        [(1, 1, 1, seconds(5))]
    );
    delivery.step(ended(first[1].0, AttemptOutcome::Accepted), seconds(1));
    assert_eq!(
        delivery.window_room().0,
        policy().bounds.window_events,
        "nothing of it stays in memory"
    );
    assert!(
        delivery
            .step(matched(&delivery, &[(1, 3)]), seconds(2))
            .is_empty(),
        "only noted"
    );
    assert_eq!(
        (delivery.next_due_at(), delivery.oldest_unsettled()),
        (Some(seconds(6)), None)
    );
    let due = delivery.step(DeliveryInput::Tick, seconds(6));
    assert!(
        matches!(
            &due[..],
            [DeliveryEffect::CatchUp {
                from_sequence: 1,
                ..
            }]
        ),
        "{due:?}"
    );
    let again = delivery.step(caught_up(1, vec![(1, 1), (3, 2)], None), seconds(6));
    assert_eq!(
        attempts(&again)
            .iter()
            .map(|(_, position, n)| (*position, *n))
            .collect::<Vec<_>>(),
        [(1, 2)]
    );
    let second = delivery.step(
        ended(attempts(&again)[0].0, AttemptOutcome::Accepted),
        seconds(7),
    );
    let page = delivery.step(
        ended(attempts(&second)[0].0, AttemptOutcome::Accepted),
        seconds(8),
    );
    assert!(
        matches!(
            &page[..],
            [DeliveryEffect::CatchUp {
                from_sequence: 3,
                ..
            }]
        ),
        "{page:?}"
    );
    // The timeline has a fifth record, which the reader has not reached.
    let third = delivery.step(caught_up(1, vec![(4, 3), (5, 4)], Some(6)), seconds(8));
    let last = delivery.step(
        ended(attempts(&third)[0].0, AttemptOutcome::Accepted),
        seconds(9),
    );
    assert!(
        matches!(&last[..], [DeliveryEffect::RemoveRow(_)]),
        "{last:?}"
    );
    assert!(delivery.is_idle());
    assert_eq!(
        attempts(&delivery.step(matched(&delivery, &[(1, 4)]), seconds(9))).len(),
        1,
        "an ordinary lane again"
    );
}

#[test]
fn what_is_under_way_for_a_whole_round_gets_a_row_and_holds_the_cursor_no_more() {
    let mut delivery = delivery(calm());
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1), (1, 2), (2, 1)]), seconds(0)));
    assert!(
        delivery
            .step(DeliveryInput::CheckpointStarted, seconds(1))
            .is_empty(),
        "it may be done by the next"
    );
    assert_eq!(delivery.oldest_unsettled(), Some(Position::new(1)));
    delivery.step(ended(first[1].0, AttemptOutcome::Accepted), seconds(1));
    assert_eq!(
        kept(&delivery.step(DeliveryInput::CheckpointStarted, seconds(2))),
        [(1, 1, 0, Duration::ZERO)]
    );
    assert_eq!(delivery.oldest_unsettled(), None);
    let second = attempts(&delivery.step(ended(first[0].0, AttemptOutcome::Accepted), seconds(3)));
    assert_eq!(
        kept(&delivery.step(DeliveryInput::CheckpointStarted, seconds(4))),
        [(2, 2, 0, Duration::ZERO)],
        "out of date"
    );
    assert!(
        delivery
            .step(DeliveryInput::CheckpointStarted, seconds(5))
            .is_empty()
    );
    let last = delivery.step(ended(second[0].0, AttemptOutcome::Accepted), seconds(6));
    assert!(
        matches!(&last[..], [DeliveryEffect::RemoveRow(_)]),
        "{last:?}"
    );
}

#[test]
fn while_the_breaker_is_open_nothing_is_attempted_and_then_one_probe_decides() {
    let mut policy = calm();
    (policy.breaker.consecutive, policy.concurrency) = (2, 2);
    let mut delivery = delivery(policy);
    let first = attempts(&delivery.step(
        matched(&delivery, &[(1, 1), (2, 1), (3, 1), (4, 1)]),
        seconds(0),
    ));
    delivery.step(ended(first[0].0, failed(None)), seconds(0));
    let opened = delivery.step(ended(first[1].0, failed(None)), seconds(0));
    assert!(
        opened
            .iter()
            .any(|effect| matches!(effect, DeliveryEffect::BreakerOpened { failure_rate: 1.0 }))
    );
    assert!(
        delivery.step(DeliveryInput::Tick, seconds(29)).is_empty(),
        "the retries are due, and wait"
    );
    assert_eq!(
        (delivery.next_due_at(), delivery.can_read()),
        (Some(seconds(30)), false)
    );
    let probe = attempts(&delivery.step(DeliveryInput::Tick, seconds(30)));
    assert_eq!(
        (probe.len(), delivery.status().breaker),
        (1, DeliveryBreakerState::HalfOpen)
    );
    assert!(delivery.can_begin(probe[0].0) && delivery.next_due_at().is_none());
    // It got no permit in time, so another attempt is the probe.
    delivery.step(
        DeliveryInput::AttemptWithdrawn {
            attempt_id: probe[0].0,
        },
        seconds(31),
    );
    assert!(!delivery.can_begin(probe[0].0));
    let probe: Vec<_> = delivery.running.keys().copied().collect();
    let closed = delivery.step(ended(probe[0], AttemptOutcome::Accepted), seconds(32));
    assert!(
        matches!(closed[0], DeliveryEffect::BreakerClosed),
        "{closed:?}"
    );
}

#[test]
fn when_only_far_retries_are_left_the_reader_finds_a_record_to_probe_with() {
    let mut policy = calm();
    policy.breaker.consecutive = 1;
    policy.retries.schedule = [seconds(3_600)].into();
    let mut delivery = delivery(policy);
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1)]), seconds(0)));
    delivery.step(ended(first[0].0, failed(None)), seconds(0));
    delivery.step(DeliveryInput::Tick, seconds(30));
    assert!(delivery.can_read());
    assert_eq!(
        attempts(&delivery.step(matched(&delivery, &[(2, 1), (3, 1)]), seconds(31))).len(),
        1
    );
}

#[test]
fn an_answer_that_it_is_gone_buries_and_disables() {
    let mut delivery = delivery(calm());
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1), (2, 1), (3, 1)]), seconds(0)));
    let effects = delivery.step(
        ended(
            first[0].0,
            AttemptOutcome::Gone {
                failure: failure("status"),
            },
        ),
        seconds(1),
    );
    let is_right = matches!(
        &effects[..],
        [
            DeliveryEffect::DeadLetter {
                letter: NewDeadLetter {
                    attempts: 1,
                    cause: DeadLetterCause::Refused,
                    ..
                },
                ..
            },
            DeliveryEffect::Disable { .. }
        ]
    );
    assert!(is_right, "{effects:?}");
    assert!(
        delivery
            .step(ended(first[1].0, AttemptOutcome::Accepted), seconds(2))
            .is_empty(),
        "nothing begins any more"
    );
}

#[test]
fn who_fails_for_too_long_without_one_success_is_disabled() {
    let policy = DeliveryPolicy {
        disable_after: seconds(100),
        ..calm()
    };
    let mut delivery = SubscriberDelivery::new(
        Arc::new(policy),
        Position::FIRST,
        vec![],
        seconds(75),
        7,
        seconds(1_000),
    );
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1), (2, 1)]), seconds(1_000)));
    let early = delivery.step(ended(first[0].0, failed(None)), seconds(1_000));
    assert!(
        !early
            .iter()
            .any(|effect| matches!(effect, DeliveryEffect::Disable { .. }))
    );
    let late = delivery.step(ended(first[1].0, failed(None)), seconds(1_025));
    assert!(
        matches!(late.last(), Some(DeliveryEffect::Disable { .. })),
        "{late:?}"
    );
    assert_eq!(delivery.status().failing_for, seconds(100));
}

fn scheduled_retries(effects: &[DeliveryEffect]) -> Vec<Duration> {
    let pause = |effect: &DeliveryEffect| match effect {
        DeliveryEffect::RetryScheduled(pause) => Some(*pause),
        _ => None,
    };
    effects.iter().filter_map(pause).collect()
}

/// The log had shown a next attempt after the last one of a halted lane, and none of a job.
#[test]
fn the_next_attempt_is_told_exactly_if_there_is_one() {
    let mut delivery = delivery(DeliveryPolicy {
        on_exhausted: ExhaustionPolicy::Halt,
        ..calm()
    });
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1), (1, 2)]), seconds(0)));
    let effects = delivery.step(ended(first[0].0, failed(None)), seconds(1));
    assert_eq!(
        scheduled_retries(&effects),
        [delivery.policy.retries.schedule[0]]
    );
    let due = delivery.next_due_at().expect("a retry");
    delivery.step(DeliveryInput::Tick, due);
    let records = vec![(1, 1), (2, 2)];
    let second = attempts(&delivery.step(caught_up(1, records, None), due));
    let refusal = AttemptOutcome::PermanentFailure {
        failure: failure("status"),
    };
    let effects = delivery.step(ended(second[0].0, refusal), due);
    assert!(!kept(&effects).is_empty(), "the lane is halted");
    assert!(scheduled_retries(&effects).is_empty());

    let item = item(9, 5, 1);
    let tag = ReplayTag {
        job: 1,
        position: item.position,
        dead_letter: None,
    };
    let replays = DeliveryInput::ReplaysAdded(vec![ReplayItem { tag, item }]);
    let begun = attempts(&delivery.step(replays, due));
    let effects = delivery.step(ended(begun[0].0, failed(None)), due);
    assert_eq!(
        scheduled_retries(&effects),
        [delivery.policy.retries.schedule[0]]
    );
}

/// Its job had counted the record as delivered.
#[test]
fn an_erased_record_of_a_job_is_not_reported_as_delivered() {
    let mut delivery = delivery(calm());
    let item = item(9, 5, 1);
    let tag = ReplayTag {
        job: 1,
        position: item.position,
        dead_letter: None,
    };
    let replays = DeliveryInput::ReplaysAdded(vec![ReplayItem { tag, item }]);
    let begun = attempts(&delivery.step(replays, seconds(0)));
    let effects = delivery.step(ended(begun[0].0, AttemptOutcome::Dropped), seconds(1));
    assert!(
        matches!(&effects[..], [DeliveryEffect::ReplayDropped(of)] if *of == tag),
        "{effects:?}"
    );
}

#[test]
fn a_dead_letter_lets_its_entity_go_on_or_halts_it_as_is_wanted() {
    for (on_exhausted, halts) in [
        (ExhaustionPolicy::Skip, false),
        (ExhaustionPolicy::Halt, true),
    ] {
        let mut delivery = delivery(DeliveryPolicy {
            on_exhausted,
            ..calm()
        });
        let first = attempts(&delivery.step(matched(&delivery, &[(1, 1), (1, 2)]), seconds(0)));
        let refused = ended(
            first[0].0,
            AttemptOutcome::PermanentFailure {
                failure: failure("status"),
            },
        );
        let effects = delivery.step(refused, seconds(1));
        let is_dead_letter = matches!(effects[0], DeliveryEffect::DeadLetter { letter: NewDeadLetter { attempts: 1, cause: DeadLetterCause::Refused, is_halting, .. }, .. } if is_halting == halts);
        assert!(is_dead_letter, "{effects:?}");
        assert_eq!(attempts(&effects).len(), usize::from(!halts));
        if halts {
            assert!(
                matches!(&effects[1], DeliveryEffect::StoreRow(row) if row.is_halted && row.sequence == 2),
                "{effects:?}"
            );
            let key = LaneKey::Entity(super::model::entity(1));
            let released = delivery.step(DeliveryInput::LaneReleased { key }, seconds(9));
            assert!(
                matches!(
                    &released[..],
                    [DeliveryEffect::CatchUp {
                        from_sequence: 2,
                        ..
                    }]
                ),
                "{released:?}"
            );
        }
    }
}

#[test]
fn a_record_of_a_job_takes_its_turn_between_two_of_its_entity() {
    let mut delivery = delivery(calm());
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1), (1, 2)]), seconds(0)));
    let tag = ReplayTag {
        job: 4,
        position: Position::new(90),
        dead_letter: Some(2),
    };
    let replay = ReplayItem {
        tag,
        item: item(90, 1, 90),
    };
    assert!(
        delivery
            .step(DeliveryInput::ReplaysAdded(vec![replay]), seconds(0))
            .is_empty(),
        "there is one under way"
    );
    let job = attempts(&delivery.step(ended(first[0].0, AttemptOutcome::Accepted), seconds(1)));
    assert_eq!(
        job.iter()
            .map(|(_, position, _)| *position)
            .collect::<Vec<_>>(),
        [90]
    );
    let second = attempts(&delivery.step(ended(job[0].0, failed(None)), seconds(1)));
    assert_eq!(second[0].1, 2, "between its attempts the lane goes on");
    delivery.step(ended(second[0].0, AttemptOutcome::Accepted), seconds(2));
    let mut last = Vec::new();
    for now in [6, 36, 336] {
        let again = attempts(&delivery.step(DeliveryInput::Tick, seconds(now)));
        last = delivery.step(ended(again[0].0, failed(None)), seconds(now));
    }
    let is_dead_letter = |effect: &DeliveryEffect| matches!(effect, DeliveryEffect::DeadLetter { letter: NewDeadLetter { attempts: 4, cause: DeadLetterCause::Exhausted, is_halting: false, .. }, replay: Some(of) } if *of == tag);
    assert!(is_dead_letter(&last[0]) && last.len() == 1, "{last:?}");
    assert!(delivery.is_idle());
}

#[test]
fn a_cancelled_job_drops_what_is_not_under_way() {
    let mut delivery = delivery(DeliveryPolicy {
        concurrency: 1,
        ..calm()
    });
    let replay = |n| ReplayItem {
        tag: ReplayTag {
            job: 4,
            position: Position::new(n),
            dead_letter: None,
        },
        item: item(n, n, 1),
    };
    let first = attempts(&delivery.step(
        DeliveryInput::ReplaysAdded(vec![replay(5), replay(6)]),
        seconds(0),
    ));
    delivery.step(DeliveryInput::JobCancelled { job: 4 }, seconds(0));
    assert!(
        delivery
            .step(ended(first[0].0, failed(None)), seconds(1))
            .is_empty()
    );
    assert!(delivery.is_idle());
}

#[test]
fn attempts_begin_no_faster_than_the_limit() {
    let mut delivery = delivery(DeliveryPolicy {
        rate_limit: std::num::NonZeroU32::new(2),
        ..calm()
    });
    let records: Vec<_> = (1..=5).map(|entity| (entity, 1)).collect();
    assert_eq!(
        attempts(&delivery.step(matched(&delivery, &records), seconds(10))).len(),
        1
    );
    assert_eq!(delivery.next_due_at(), Some(Duration::from_millis(10_500)));
    assert_eq!(
        attempts(&delivery.step(DeliveryInput::Tick, Duration::from_millis(10_499))).len(),
        0
    );
    assert_eq!(
        attempts(&delivery.step(DeliveryInput::Tick, Duration::from_millis(10_500))).len(),
        1
    );
}

#[test]
fn a_stopped_lane_takes_a_few_hundred_bytes() {
    let bytes = size_of::<(LaneKey, super::super::lane::DeliveryLane)>()
        + size_of::<((Duration, u64), AttemptSource)>();
    assert!(bytes <= 448, "{bytes}");
}

/// Records behind a stopped lane were in no figure, so its subscriber was shown as one that has
/// everything.
#[test]
fn events_behind_a_stopped_lane_are_counted_until_they_are_in_memory_again() {
    let mut delivery = delivery(calm());
    let figures = |delivery: &SubscriberDelivery| {
        let status = delivery.status();
        let oldest = status.oldest_stored.map(Position::get);
        (status.queued, status.deferred, oldest)
    };
    let begun = delivery.step(matched(&delivery, &[(1, 1), (1, 2)]), Duration::ZERO);
    let (attempt_id, ..) = attempts(&begun)[0];
    let first = Position::FIRST.get();
    assert_eq!(figures(&delivery), (2, 0, None));

    delivery.step(ended(attempt_id, failed(None)), Duration::ZERO);
    assert_eq!(figures(&delivery), (0, 2, Some(first)));
    delivery.step(matched(&delivery, &[(1, 3), (1, 4)]), Duration::ZERO);
    assert_eq!(figures(&delivery), (0, 4, Some(first)));

    // The retry is due, and reads a page of the timeline.
    delivery.step(DeliveryInput::Tick, seconds(100_000));
    let page = vec![(first, 1), (first + 1, 2)];
    delivery.step(caught_up(1, page, Some(first + 1)), seconds(100_000));
    assert_eq!(figures(&delivery), (2, 2, Some(first)));
}

/// Returns positions and numbers of the attempts among `effects`.
fn attempted(effects: &[DeliveryEffect]) -> Vec<(u64, u32)> {
    let begun = attempts(effects).into_iter();
    begun
        .map(|(_, position, attempt)| (position, attempt))
        .collect()
}

/// Ends all running attempts as `outcome` says, one after another, until nothing is left to do at
/// `now`; pages of the timeline come from `journal`, pairs of entity and sequence by position.
/// Returns the positions in the order of their attempts.
fn run_out(
    delivery: &mut SubscriberDelivery,
    mut effects: Vec<DeliveryEffect>,
    journal: &[(u64, u64)],
    outcome: impl Fn(u64) -> AttemptOutcome,
    now: Duration,
) -> Vec<u64> {
    let mut order = Vec::new();
    while !effects.is_empty() {
        let mut inputs = Vec::new();
        for effect in &effects {
            match effect {
                DeliveryEffect::Attempt {
                    attempt_id, item, ..
                } => {
                    order.push(item.position.get());
                    inputs.push(ended(*attempt_id, outcome(item.position.get())));
                }
                DeliveryEffect::CatchUp {
                    lane,
                    from_sequence,
                } => {
                    let positioned = (1..).zip(journal);
                    let of_lane = |(position, (number, sequence)): (u64, &(u64, u64))| {
                        let is_wanted = match lane {
                            LaneKey::Entity(key) => *key == super::model::entity(*number),
                            LaneKey::Record(at) => at.get() == position,
                        };
                        (is_wanted && sequence >= from_sequence)
                            .then(|| item(position, *number, *sequence))
                    };
                    let page: Vec<_> = positioned.filter_map(of_lane).take(32).collect();
                    let is_last = page.len() < 32;
                    let through = page.last().map_or(0, |item| item.sequence);
                    let matched = |item| MatchedRecord {
                        item,
                        filter_error: None,
                    };
                    inputs.push(DeliveryInput::LaneCaughtUp {
                        lane: lane.clone(),
                        items: page.into_iter().map(matched).collect(),
                        through,
                        end: is_last.then(|| Position::new(journal.len() as u64 + 1)),
                    });
                }
                _ => {}
            }
        }
        effects = inputs
            .into_iter()
            .flat_map(|input| delivery.step(input, now))
            .collect();
    }
    order
}

/// Two thousand events of one ticket kept an event of another waiting for 79 seconds.
#[test]
fn a_hot_entity_keeps_neither_the_reader_nor_its_neighbours() {
    let mut delivery = delivery(DeliveryPolicy {
        concurrency: 1,
        ..calm()
    });
    let mut journal: Vec<_> = (1..=2_000).map(|sequence| (1, sequence)).collect();
    journal.push((2, 1));
    let effects = delivery.step(matched(&delivery, &journal), seconds(0));
    assert!(
        delivery.can_read(),
        "the window is {:?}",
        delivery.window_room()
    );
    assert_eq!(delivery.oldest_unsettled(), Some(Position::new(2_001)));

    let accepted = |_| AttemptOutcome::Accepted;
    let order = run_out(&mut delivery, effects, &journal, accepted, seconds(1));
    assert_eq!(order[..2], [1, 2_001], "the neighbour is second");
    let rest: Vec<_> = (2..=2_000).collect();
    assert_eq!(order[2..], rest, "in order, and nothing twice");
    assert!(delivery.is_idle());
}

#[test]
fn after_a_change_from_no_order_to_the_order_of_the_entity_later_records_wait() {
    let mut policy = DeliveryPolicy {
        ordering: DeliveryOrdering::None,
        ..calm()
    };
    let mut delivery = delivery(policy.clone());
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1)]), seconds(0)));
    delivery.step(ended(first[0].0, failed(None)), seconds(0));

    policy.ordering = DeliveryOrdering::Entity;
    delivery.step(DeliveryInput::PolicyChanged(Arc::new(policy)), seconds(1));
    let later = delivery.step(matched(&delivery, &[(1, 2), (1, 3)]), seconds(2));
    assert_eq!(attempted(&later), [], "[2, 3, 1] was delivered");

    let due = delivery.step(DeliveryInput::Tick, seconds(9));
    let journal = [(1, 1), (1, 2), (1, 3)];
    let accepted = |_| AttemptOutcome::Accepted;
    let order = run_out(&mut delivery, due, &journal, accepted, seconds(9));
    assert_eq!(order, [1, 2, 3]);
    assert!(delivery.is_idle());
}

#[test]
fn lanes_that_were_halted_go_on_once_dead_letters_are_to_be_skipped() {
    let mut delivery = delivery(DeliveryPolicy {
        on_exhausted: ExhaustionPolicy::Halt,
        ..calm()
    });
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1), (1, 2)]), seconds(0)));
    let refusal = AttemptOutcome::PermanentFailure {
        failure: failure("status"),
    };
    delivery.step(ended(first[0].0, refusal), seconds(1));
    assert_eq!(delivery.status().stopped, 1);

    let skips = delivery.step(DeliveryInput::PolicyChanged(Arc::new(calm())), seconds(2));
    let accepted = |_| AttemptOutcome::Accepted;
    let order = run_out(
        &mut delivery,
        skips,
        &[(1, 1), (1, 2)],
        accepted,
        seconds(2),
    );
    assert_eq!(order, [2]);
    assert!(delivery.is_idle());
}

/// Returns a delivery of which one lane waits for an hour.
fn waiting_for_an_hour(policy: &DeliveryPolicy) -> SubscriberDelivery {
    let mut delivery = delivery(policy.clone());
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1)]), seconds(0)));
    delivery.step(ended(first[0].0, failed(None)), seconds(0));
    assert_eq!(delivery.next_due_at(), Some(seconds(3_600)));
    delivery
}

#[test]
fn once_a_repair_is_noticed_waiting_retries_are_due_within_seconds_and_stay_counted() {
    let webhook = |secret| {
        let mut subscription = sample_subscription(4, &["*"]);
        subscription.secrets = SigningSecrets::new(Some(Secret::new(secret)));
        DeliveryTarget::Webhook(Arc::new(subscription))
    };
    let mut policy = calm();
    policy.retries.schedule = [seconds(3_600); 3].into();
    policy.target = webhook("the first secret");
    let with_new_secret = DeliveryPolicy {
        target: webhook("the second secret"),
        ..policy.clone()
    };
    let paused = DeliveryPolicy {
        state: SubscriptionState::Paused { reason: None },
        ..policy.clone()
    };
    for inputs in [
        vec![DeliveryInput::RepairNoticed],
        vec![DeliveryInput::PolicyChanged(Arc::new(with_new_secret))],
        vec![
            DeliveryInput::PolicyChanged(Arc::new(paused)),
            DeliveryInput::PolicyChanged(Arc::new(policy.clone())),
        ],
    ] {
        let mut delivery = waiting_for_an_hour(&policy);
        for input in inputs {
            delivery.step(input, seconds(10));
        }
        delivery.step(DeliveryInput::Tick, seconds(15));
        let again = delivery.step(caught_up(1, vec![(1, 1)], Some(2)), seconds(15));
        assert_eq!(attempted(&again), [(1, 2)]);
    }

    let mut delivery = waiting_for_an_hour(&policy);
    delivery.step(DeliveryInput::PolicyChanged(Arc::new(policy)), seconds(10));
    assert_eq!(delivery.next_due_at(), Some(seconds(3_600)), "nothing new");
}

#[test]
fn a_breaker_that_closes_lets_the_waiting_lanes_go_on() {
    let mut policy = calm();
    (policy.breaker.consecutive, policy.retries.schedule) = (1, [seconds(3_600)].into());
    let mut delivery = delivery(policy);
    let first = attempts(&delivery.step(matched(&delivery, &[(1, 1)]), seconds(0)));
    delivery.step(ended(first[0].0, failed(None)), seconds(0));
    delivery.step(DeliveryInput::Tick, seconds(30));
    let probe = attempts(&delivery.step(matched(&delivery, &[(2, 1)]), seconds(30)));
    delivery.step(ended(probe[0].0, AttemptOutcome::Accepted), seconds(31));
    assert!(delivery.next_due_at() <= Some(seconds(36)));
}

#[test]
fn refusals_of_single_records_do_not_slow_a_subscriber_that_works() {
    let mut policy = policy();
    policy.concurrency = 100;
    policy.breaker.failure_rate = 0.9;
    let mut delivery = delivery(policy);
    let refusal = |status| AttemptOutcome::PermanentFailure {
        failure: AttemptFailure {
            status: Some(status),
            ..failure("status")
        },
    };
    let mut at = 0;
    for round in 1..=20 {
        let records: Vec<_> = (1..=2).map(|n| (round * 10 + n, 1)).collect();
        let begun = attempts(&delivery.step(matched(&delivery, &records), seconds(at)));
        assert_eq!(begun.len(), 2);
        at += 1;
        delivery.step(ended(begun[0].0, AttemptOutcome::Accepted), seconds(at));
        delivery.step(ended(begun[1].0, refusal(400)), seconds(at));
    }
    assert_eq!(delivery.slow_start.limit(), 22);
    let begun = attempts(&delivery.step(matched(&delivery, &[(500, 1)]), seconds(at)));
    delivery.step(ended(begun[0].0, failed(None)), seconds(at));
    assert_eq!(delivery.slow_start.limit(), 11);
    assert_eq!(delivery.status().breaker, DeliveryBreakerState::Closed);
}

#[test]
fn a_subscriber_that_asks_for_a_pause_gets_it_for_all_its_lanes() {
    let mut policy = calm();
    policy.breaker.consecutive = 1;
    let mut delivery = delivery(policy);
    let records = [(1, 1), (2, 1), (3, 1)];
    let first = attempts(&delivery.step(matched(&delivery, &records), seconds(0)));
    let held = delivery.step(ended(first[0].0, failed(Some(600))), seconds(1));
    assert_eq!(attempted(&held), []);
    let other = delivery.step(ended(first[1].0, AttemptOutcome::Accepted), seconds(2));
    assert_eq!(attempted(&other), [], "the third lane waits as well");
    assert_eq!(delivery.status().breaker, DeliveryBreakerState::Closed);
    assert_eq!(delivery.next_due_at(), Some(seconds(601)));

    let over = delivery.step(DeliveryInput::Tick, seconds(601));
    assert_eq!(attempted(&over), [(3, 1)]);
}

/// A row written while the clock showed 2036 parked its lane for ten years.
#[test]
fn a_wrong_clock_parks_no_lane_for_longer_than_the_longest_pause() {
    let row = LaneRow {
        key: LaneKey::Entity(super::model::entity(1)),
        entity: None,
        position: Position::FIRST,
        sequence: 1,
        attempts: 1,
        counted_time: Duration::ZERO,
        wait: seconds(315_000_000),
        is_halted: false,
        last_failure: None,
    };
    let start = Position::new(2);
    let policy = Arc::new(calm());
    let delivery = SubscriberDelivery::new(policy, start, vec![row], Duration::ZERO, 7, seconds(0));
    assert_eq!(delivery.next_due_at(), Some(seconds(24 * 3_600)));
}

/// One 400, days of silence, and one 503 disabled a subscriber.
#[test]
fn silence_in_which_nothing_is_owed_is_no_failing_time() {
    let mut delivery = delivery(DeliveryPolicy {
        disable_after: seconds(100),
        ..calm()
    });
    let mut now = 0;
    for round in 1..=9 {
        let begun = attempts(&delivery.step(matched(&delivery, &[(round, 1)]), seconds(now)));
        let refusal = AttemptOutcome::PermanentFailure {
            failure: failure("status"),
        };
        let effects = delivery.step(ended(begun[0].0, refusal), seconds(now));
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, DeliveryEffect::Disable { .. }))
        );
        assert!(delivery.is_empty());
        delivery.step(DeliveryInput::NothingOwed, seconds(now));
        now += 50;
    }
    assert_eq!(delivery.status().failing_for, Duration::ZERO);
}
