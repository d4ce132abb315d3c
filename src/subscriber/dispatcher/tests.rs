//! Tests of single steps of a dispatcher that does not run by itself.

use std::future::poll_fn;
use std::task::Poll;

use super::super::attempt::AttemptOutcome;
use super::super::tests::{StageTestEnv, account, run};
use super::*;
use crate::subscription::Subscription;

fn build_dispatcher(env: &StageTestEnv) -> Dispatcher {
    env.build_dispatcher(|_| AttemptOutcome::Accepted).0
}

fn add_inbox(dispatcher: &Dispatcher, id: &SubscriberId) -> Rc<SubscriberInbox> {
    let room = WindowRoom {
        events: 9,
        bytes: 9_999,
    };
    let inbox = SubscriberInbox::new(ReadState::Live, Some(ReadState::Live), room);
    let mut inboxes = dispatcher.stage.inboxes.borrow_mut();
    inboxes.insert(id.clone(), Rc::clone(&inbox));
    inbox
}

/// Checkpoints that were asked for had followed one another without end, and kept the regular ones
/// away: a slow subscriber held the cursor of all others.
#[test]
fn a_regular_checkpoint_asks_the_actors_for_rows_also_while_another_is_written() {
    run(async |env| {
        let id = env.subscribe("*").await;
        let mut dispatcher = build_dispatcher(env);
        let checkpoints = Arc::clone(&dispatcher.stage.deps.checkpoints);
        let inbox = add_inbox(&dispatcher, &id);

        checkpoints.set_cursor(Position::new(1));
        dispatcher.begin_checkpoint();
        assert!(dispatcher.checkpoint_task.is_some(), "it is being written");
        dispatcher.begin_regular_checkpoint();
        assert!(!inbox.is_empty());

        // A flush that comes meanwhile gets one checkpoint, when the dispatcher looks for it.
        checkpoints.set_cursor(Position::new(1));
        let mut flush = std::pin::pin!(checkpoints.flush());
        poll_fn(|context| {
            assert!(flush.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        dispatcher.finish_checkpoint().await.expect("writes");
        assert!(dispatcher.checkpoint_task.is_none());
        assert!(dispatcher.flush_requests.has_changed().expect("open"));
        dispatcher.begin_checkpoint();
        dispatcher.finish_checkpoint().await.expect("writes");
        assert_eq!(flush.await, Ok(()));
    });
}

/// An attempt to the old address of an account had begun after the change was answered.
#[test]
fn no_attempt_begins_between_the_change_of_an_account_and_its_application() {
    run(async |env| {
        let id = env.subscribe("*").await;
        let mut dispatcher = build_dispatcher(env);
        let inbox = add_inbox(&dispatcher, &id);
        assert!(!dispatcher.stage.waits_for_change(&inbox));
        env.accounts.create(account(1)).expect("room");
        assert!(dispatcher.stage.waits_for_change(&inbox));
        dispatcher.refresh_subscribers();
        assert!(!dispatcher.stage.waits_for_change(&inbox));
    });
}

/// A pause or another address that was answered before the subscription was disabled had been lost, and
/// all that it was owed with it.
#[test]
fn only_the_receiver_that_asked_for_it_is_disabled() {
    run(async |env| {
        type Change = fn(&mut Subscription);
        let pause: Change = |found| found.state = SubscriptionState::Paused { reason: None };
        let redirect: Change = |found| found.url = "https://other.example/".into();
        let nothing: Change = |_| ();
        for (change, is_disabled) in [(pause, false), (redirect, false), (nothing, true)] {
            let id = env.subscribe("*").await;
            let SubscriberId::Webhook(number) = id else {
                unreachable!()
            };
            let dispatcher = build_dispatcher(env);
            let entry = dispatcher.stage.subscriber_set().entry(&id);
            let policy = entry.expect("is there").policy;

            let wanted = env.subscriptions.change(number, change).expect("is there");
            let disabled = dispatcher.disable_subscriber(&policy, "gone".to_owned());
            let disabled = disabled.expect("a subscription").await.expect("no panic");
            assert_eq!(disabled, is_disabled);
            let found = env.subscriptions.snapshot();
            let found = &found.get(number).expect("is there").subscription;
            assert_eq!(found.state == wanted.state, !is_disabled);
            assert_eq!(found.url, wanted.url);
        }
    });
}

#[test]
fn the_crashes_of_a_deleted_subscriber_are_forgotten() {
    run(async |env| {
        let id = env.subscribe("*").await;
        let mut dispatcher = build_dispatcher(env);
        dispatcher.crashes.entry(id).or_default();
        env.subscriptions.remove(1).expect("is there");
        dispatcher.refresh_subscribers();
        assert!(dispatcher.crashes.is_empty());
    });
}
