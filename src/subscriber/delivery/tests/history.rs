//! Random histories: records, failures of all sorts, pauses, edits, jobs and crashes in any order. The world checks the
//! promises at each step; in the end everything is let through, and all that is owed has to have arrived.

use proptest::prelude::*;

use super::super::*;
use super::world::{CONCURRENCY_MAX, Class, World, failed, failure, profile};
use crate::config::OnExhausted;
use crate::subscriber::attempt::Outcome;

#[derive(Clone, Debug)]
enum Op {
    Append(u64, Class),
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
    Round,
    Crash { stage: u8, down: u64 },
    Pause(bool),
    Probe,
    Edit(bool),
    Halt(bool),
    Concurrency(usize),
    Replay(usize, u64),
    Cancel(u64),
    Release,
}

fn op() -> impl Strategy<Value = Op> {
    let class = prop_oneof![
        8 => Just(Class::Wanted), 2 => Just(Class::Sometimes), 2 => Just(Class::Unwanted), 1 => Just(Class::Broken),
    ];
    let which = 0..8_usize;
    prop_oneof![
        20 => (1..4_u64, class).prop_map(|(entity, class)| Op::Append(entity, class)),
        12 => (1..6_usize).prop_map(Op::Read),
        12 => (1..4_usize, any::<bool>()).prop_map(|(count, is_fresh)| Op::CatchUp(count, is_fresh)),
        14 => which.clone().prop_map(Op::Accept),
        10 => (which.clone(), prop::option::weighted(0.3, 0..90_u64)).prop_map(|(n, pause)| Op::Fail(n, pause)),
        3 => which.clone().prop_map(Op::Refuse),
        1 => which.clone().prop_map(Op::Garble),
        1 => which.clone().prop_map(Op::Gone),
        1 => which.clone().prop_map(Op::Withdraw),
        4 => (0..400_u64).prop_map(Op::Advance),
        8 => Just(Op::Due),
        8 => Just(Op::Round),
        3 => (0..4_u8, 0..60_u64).prop_map(|(stage, down)| Op::Crash { stage, down }),
        2 => any::<bool>().prop_map(Op::Pause),
        1 => Just(Op::Probe),
        1 => any::<bool>().prop_map(Op::Edit),
        1 => any::<bool>().prop_map(Op::Halt),
        1 => (1..=CONCURRENCY_MAX).prop_map(Op::Concurrency),
        3 => (any::<usize>(), 0..2_u64).prop_map(|(n, job)| Op::Replay(n, job)),
        1 => (0..2_u64).prop_map(Op::Cancel),
        3 => Just(Op::Release),
    ]
}

fn live(world: &mut World, op: Op, wants: &mut bool) {
    match op {
        Op::Append(entity, class) => world.append(entity, class),
        Op::Read(count) => world.read(count),
        Op::CatchUp(count, is_fresh) => world.catch_up(count, is_fresh),
        Op::Accept(n) => world.end(n, Outcome::Accepted),
        Op::Fail(n, pause) => world.end(n, failed(pause)),
        Op::Refuse(n) => world.end(n, Outcome::Refused { failure: failure("status") }),
        Op::Garble(n) => world.end(n, Outcome::Refused { failure: failure("transform_failed") }),
        Op::Gone(n) => world.end(n, Outcome::Gone { failure: failure("status") }),
        Op::Withdraw(n) => world.withdraw(n),
        Op::Advance(by) => world.advance(Duration::from_secs(by)),
        Op::Due => {
            let due = world.delivery.next_due().unwrap_or(world.now);
            world.advance(due.saturating_sub(world.now));
        }
        Op::Round => world.round(3),
        Op::Crash { stage, down } => {
            if stage > 0 {
                world.round(stage - 1);
            }
            world.crash(Duration::from_secs(down));
        }
        Op::Pause(is_paused) => {
            let state = if is_paused { State::Paused { reason: None } } else { State::Active };
            world.edit(|profile| profile.state = state, *wants);
        }
        Op::Probe => world.probe(),
        Op::Edit(sometimes) => {
            *wants = sometimes;
            world.edit(|_| (), sometimes);
        }
        Op::Halt(halts) => {
            let on_exhausted = if halts { OnExhausted::Halt } else { OnExhausted::Skip };
            world.edit(|profile| profile.on_exhausted = on_exhausted, *wants);
        }
        Op::Concurrency(count) => world.edit(|profile| profile.concurrency = count, *wants),
        Op::Replay(n, job) => world.replay(n, job),
        Op::Cancel(job) => world.cancel(job),
        Op::Release => world.release(),
    }
}

fn run(profile: Profile, history: Vec<Op>) -> World {
    let (mut world, mut wants) = (World::new(profile), true);
    for op in history {
        live(&mut world, op, &mut wants);
    }
    world.come_to_rest();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn each_entity_gets_all_that_it_is_owed_in_order_whatever_happens(history in prop::collection::vec(op(), 1..160)) {
        run(profile(), history);
    }

    #[test]
    fn where_few_lanes_may_stop_the_rest_waits_in_the_log(history in prop::collection::vec(op(), 1..160)) {
        let mut profile = profile();
        profile.bounds.stopped_lanes_max = 2;
        profile.bounds.window_events = 3;
        run(profile, history);
    }

    #[test]
    fn without_an_order_each_record_arrives_by_itself(history in prop::collection::vec(op(), 1..160)) {
        run(Profile { ordering: Ordering::None, ..profile() }, history);
    }
}
