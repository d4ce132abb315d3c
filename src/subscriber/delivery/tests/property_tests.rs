//! Random histories: records, failures of all sorts, pauses, edits, jobs and crashes in any order.
//! The model checks the promises at each step. In the end all attempts succeed, and every pending
//! record has to have arrived.

use std::time::Duration;

use proptest::prelude::*;

use super::model::{CONCURRENCY_MAX, DeliveryModel, RecordClass, failed, failure, policy};
use crate::config::ExhaustionPolicy;
use crate::subscriber::attempt::AttemptOutcome;
use crate::subscriber::delivery_policy::DeliveryPolicy;
use crate::subscription::{DeliveryOrdering, SubscriptionState};

#[derive(Clone, Debug)]
enum HistoryStep {
    Append(u64, RecordClass),
    Read(usize),
    CatchUp(usize, bool),
    Accept(usize),
    Fail(usize, Option<u64>),
    Refuse(usize),
    Garble(usize),
    Gone(usize),
    Withdraw(usize),
    Advance(u64),
    Due,
    Checkpoint,
    Crash { down: u64 },
    Pause(bool),
    Probe,
    Edit(bool),
    Halt(bool),
    Ordering(DeliveryOrdering),
    Concurrency(usize),
    Replay(usize, u64),
    Cancel(u64),
    Release,
}

fn any_step() -> impl Strategy<Value = HistoryStep> {
    let class = prop_oneof![
        8 => Just(RecordClass::Wanted), 2 => Just(RecordClass::Sometimes), 2 => Just(RecordClass::Unwanted), 1 => Just(RecordClass::Broken),
    ];
    let which = 0..8_usize;
    prop_oneof![
        20 => (1..4_u64, class).prop_map(|(entity, class)| HistoryStep::Append(entity, class)),
        12 => (1..6_usize).prop_map(HistoryStep::Read),
        12 => (1..4_usize, any::<bool>()).prop_map(|(count, is_fresh)| HistoryStep::CatchUp(count, is_fresh)),
        14 => which.clone().prop_map(HistoryStep::Accept),
        10 => (which.clone(), prop::option::weighted(0.3, 0..90_u64)).prop_map(|(n, pause)| HistoryStep::Fail(n, pause)),
        3 => which.clone().prop_map(HistoryStep::Refuse),
        1 => which.clone().prop_map(HistoryStep::Garble),
        1 => which.clone().prop_map(HistoryStep::Gone),
        1 => which.clone().prop_map(HistoryStep::Withdraw),
        4 => (0..400_u64).prop_map(HistoryStep::Advance),
        8 => Just(HistoryStep::Due),
        8 => Just(HistoryStep::Checkpoint),
        3 => (0..60_u64).prop_map(|down| HistoryStep::Crash { down }),
        2 => any::<bool>().prop_map(HistoryStep::Pause),
        1 => Just(HistoryStep::Probe),
        1 => any::<bool>().prop_map(HistoryStep::Edit),
        1 => any::<bool>().prop_map(HistoryStep::Halt),
        1 => prop::sample::select(DeliveryOrdering::NAMED.map(|(_, ordering)| ordering).to_vec()).prop_map(HistoryStep::Ordering),
        1 => (1..=CONCURRENCY_MAX).prop_map(HistoryStep::Concurrency),
        3 => (any::<usize>(), 0..2_u64).prop_map(|(n, job)| HistoryStep::Replay(n, job)),
        1 => (0..2_u64).prop_map(HistoryStep::Cancel),
        3 => Just(HistoryStep::Release),
    ]
}

fn apply_step(model: &mut DeliveryModel, step: HistoryStep, wants: &mut bool) {
    match step {
        HistoryStep::Append(entity, class) => model.append(entity, class),
        HistoryStep::Read(count) => model.read(count),
        HistoryStep::CatchUp(count, is_fresh) => model.catch_up(count, is_fresh),
        HistoryStep::Accept(n) => model.end(n, AttemptOutcome::Accepted),
        HistoryStep::Fail(n, pause) => model.end(n, failed(pause)),
        HistoryStep::Refuse(n) => model.end(
            n,
            AttemptOutcome::PermanentFailure {
                failure: failure("status"),
            },
        ),
        HistoryStep::Garble(n) => model.end(
            n,
            AttemptOutcome::PermanentFailure {
                failure: failure("transform_failed"),
            },
        ),
        HistoryStep::Gone(n) => model.end(
            n,
            AttemptOutcome::Gone {
                failure: failure("status"),
            },
        ),
        HistoryStep::Withdraw(n) => model.withdraw(n),
        HistoryStep::Advance(by) => model.advance(Duration::from_secs(by)),
        HistoryStep::Due => {
            let due = model.delivery.next_due_at().unwrap_or(model.now);
            model.advance(due.saturating_sub(model.now));
        }
        HistoryStep::Checkpoint => model.checkpoint(),
        HistoryStep::Crash { down } => model.crash(Duration::from_secs(down)),
        HistoryStep::Pause(is_paused) => {
            let state = if is_paused {
                SubscriptionState::Paused { reason: None }
            } else {
                SubscriptionState::Active
            };
            model.edit(|policy| policy.state = state, *wants);
        }
        HistoryStep::Probe => model.probe(),
        HistoryStep::Edit(sometimes) => {
            *wants = sometimes;
            model.edit(|_| (), sometimes);
        }
        HistoryStep::Halt(halts) => {
            let on_exhausted = if halts {
                ExhaustionPolicy::Halt
            } else {
                ExhaustionPolicy::Skip
            };
            model.edit(|policy| policy.on_exhausted = on_exhausted, *wants);
        }
        HistoryStep::Ordering(ordering) => {
            model.edit(|policy| policy.ordering = ordering, *wants);
        }
        HistoryStep::Concurrency(count) => model.edit(|policy| policy.concurrency = count, *wants),
        HistoryStep::Replay(n, job) => model.replay(n, job),
        HistoryStep::Cancel(job) => model.cancel(job),
        HistoryStep::Release => model.release(),
    }
}

fn run(policy: DeliveryPolicy, history: Vec<HistoryStep>) -> DeliveryModel {
    let (mut model, mut wants) = (DeliveryModel::new(policy), true);
    for step in history {
        apply_step(&mut model, step, &mut wants);
    }
    model.come_to_rest();
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn each_entity_gets_all_that_it_is_owed_in_order_whatever_happens(history in prop::collection::vec(any_step(), 1..160)) {
        run(policy(), history);
    }

    #[test]
    fn where_few_lanes_may_stop_the_rest_waits_in_the_log(history in prop::collection::vec(any_step(), 1..160)) {
        let mut policy = policy();
        policy.bounds.stopped_lanes_max = 2;
        policy.bounds.window_events = 8;
        run(policy, history);
    }

    #[test]
    fn one_order_for_everything_holds_whatever_happens(history in prop::collection::vec(any_step(), 1..160)) {
        run(DeliveryPolicy { ordering: DeliveryOrdering::Subscription, ..policy() }, history);
    }

    #[test]
    fn one_order_for_everything_holds_where_few_lanes_may_stop(history in prop::collection::vec(any_step(), 1..160)) {
        let mut policy = DeliveryPolicy { ordering: DeliveryOrdering::Subscription, ..policy() };
        policy.bounds.stopped_lanes_max = 2;
        policy.bounds.window_events = 8;
        run(policy, history);
    }

    #[test]
    fn without_an_order_each_record_arrives_by_itself(history in prop::collection::vec(any_step(), 1..160)) {
        run(DeliveryPolicy { ordering: DeliveryOrdering::None, ..policy() }, history);
    }
}

/// The full lane of an entity had a row, which said that the older records were settled that still
/// had lanes of their own: a crash lost them.
#[test]
fn a_full_lane_that_waits_for_lanes_of_single_records_does_not_vouch_for_them() {
    let mut policy = DeliveryPolicy {
        concurrency: 1,
        ..policy()
    };
    policy.bounds.stopped_lanes_max = 2;
    policy.bounds.window_events = 8;
    let mut model = DeliveryModel::new(policy);
    for entity in [1, 1, 3, 1, 1, 1, 1, 1] {
        model.append(entity, RecordClass::Wanted);
    }
    model.edit(|policy| policy.ordering = DeliveryOrdering::None, true);
    model.read(4);
    model.edit(|policy| policy.ordering = DeliveryOrdering::Entity, true);
    model.read(4);
    model.checkpoint();
    model.crash(Duration::ZERO);
    model.come_to_rest();
}
