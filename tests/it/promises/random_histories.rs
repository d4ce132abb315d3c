//! Random histories of publishing, failing, crashing and recovering, against a simple model of the
//! required deliveries.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{PUBLISHER, TestSubscription, draw_number, subscribe, test_env};
use crate::commands::send_signal;
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{NodeProcess, TestClient, TestEnv, expect_soon, run_async};
use crate::webhooks;

const ENTITIES: u64 = 6;

/// Longer than any step here takes, and shorter than the general limit of a test, so the missing
/// deliveries are reported.
const PATIENCE: Duration = Duration::from_secs(30);

/// Published events: the event names of each entity, in order.
type PublishedModel = BTreeMap<String, Vec<&'static str>>;

/// Subscriber and its state in the model.
struct ModelledSubscriber {
    receiver: TestReceiver,
    /// Name of the only event that it wants; `None` if it wants all.
    wanted: Option<&'static str>,
    /// Number of events of each entity at the time of its subscription.
    since: BTreeMap<String, usize>,
    is_up: bool,
    /// True if it was ever down, which may cut off a 2xx answer.
    was_down: bool,
    subscription: TestSubscription,
    is_paused: bool,
}

struct RandomHistory {
    seed: u64,
    test_env: TestEnv,
    process: NodeProcess,
    model: PublishedModel,
    followers: Vec<ModelledSubscriber>,
    steps: usize,
    kills: usize,
}

impl RandomHistory {
    async fn start(seed: u64) -> Self {
        // Short pauses at first, then more than any downtime: no delivery may be exhausted.
        let schedule = [&["0.05"; 5][..], &["1"; 45]].concat().join(",");
        let test_env = test_env(&[
            ("server.workers", "1"),
            ("delivery.retry_schedule_s", &schedule),
            ("delivery.dead_letter_after_h", "24"),
            ("delivery.window_events", "16"),
            ("delivery.breaker.consecutive", "4"),
            ("delivery.breaker.open_s", "0.1"),
            ("delivery.breaker.open_max_s", "0.2"),
        ]);
        let process = test_env.start_process().await;
        Self {
            seed,
            test_env,
            process,
            model: PublishedModel::new(),
            followers: Vec::new(),
            steps: 0,
            kills: 0,
        }
    }

    fn draw(&self, what: &str, below: u64) -> u64 {
        draw_number(self.seed, what, self.steps, below)
    }

    async fn step(&mut self) {
        self.steps += 1;
        match self.draw("step", 14) {
            0..5 => self.publish().await,
            5 => self.catch_up().await,
            6 | 7 => self.publish_and_kill().await,
            8 | 9 => self.toggle().await,
            10 | 11 => self.pause_or_resume().await,
            12 => self.terminate().await,
            _ if self.followers.len() < 4 => self.follow().await,
            _ => self.restart().await,
        }
    }

    /// Subscribes a new follower, which fails by the seed.
    async fn follow(&mut self) {
        let (seed, share) = (
            self.seed + self.followers.len() as u64,
            self.draw("share", 3),
        );
        let receiver = TestReceiver::start(move |arrival| {
            match draw_number(seed, arrival.id(), arrival.before, 10) {
                draw if draw < share => ReceiverReply::Status(503),
                9 if arrival.before == 0 => ReceiverReply::Close,
                _ => ReceiverReply::Status(200),
            }
        })
        .await;
        let wanted = [None, Some("task.completed")][self.draw("wanted", 2) as usize];
        let events = json!({"events": [wanted.unwrap_or("*")]});
        let subscription = subscribe(&self.process, &receiver.url("/"), events).await;
        let since = self
            .model
            .iter()
            .map(|(entity, events)| (entity.clone(), events.len()))
            .collect();
        self.followers.push(ModelledSubscriber {
            receiver,
            wanted,
            since,
            is_up: true,
            was_down: false,
            subscription,
            is_paused: false,
        });
    }

    /// Returns the next list of events, each with a key of its own.
    fn list(&mut self) -> Vec<Value> {
        let mut list = Vec::new();
        for number in 0..=self.draw("length", 60) as usize {
            let draw = |what: &str, below| {
                draw_number(self.seed, &format!("{what} {number}"), self.steps, below)
            };
            let (entity, name) = (
                draw("entity", ENTITIES),
                ["task.created", "task.completed"][draw("name", 2) as usize],
            );
            self.model
                .entry(format!("task/{entity}"))
                .or_default()
                .push(name);
            let key = format!("{}-{number}", self.steps);
            list.push(json!({"event": name, "data": {"task_id": entity}, "idempotency_key": key}));
        }
        list
    }

    async fn publish(&mut self) {
        let list = self.list();
        send(&self.process, &list).await.expect("an answer");
    }

    /// Kills the node while it receives a list, and sends the list again.
    async fn publish_and_kill(&mut self) {
        let list = self.list();
        let (client, sent) = (self.process.api.clone(), list.clone());
        let sending = actix_rt::spawn(async move { send(&client, &sent).await });
        for _ in 0..self.draw("moment", 200) {
            tokio::task::yield_now().await;
        }
        self.restart().await;
        // Ignored: accepted events are not accepted twice.
        let _ = sending.await.expect("no panic");
        send(&self.process, &list).await.expect("an answer");
    }

    async fn restart(&mut self) {
        self.process.kill();
        self.kills += 1;
        self.process = self.test_env.start_process().await;
    }

    /// Stops the node in order, and starts it again.
    async fn terminate(&mut self) {
        send_signal(&self.process.child, "TERM");
        self.process.child.wait().expect("a child");
        self.process = self.test_env.start_process().await;
    }

    async fn pause_or_resume(&mut self) {
        let which = self.draw("who", self.followers.len() as u64) as usize;
        let ModelledSubscriber {
            subscription,
            is_paused,
            ..
        } = &mut self.followers[which];
        subscription
            .run_action(&self.process, if *is_paused { "resume" } else { "pause" })
            .await;
        *is_paused = !*is_paused;
    }

    /// Stops a receiver that is up, or restarts one that is down.
    async fn toggle(&mut self) {
        let which = self.draw("who", self.followers.len() as u64) as usize;
        let follower = &mut self.followers[which];
        if follower.is_up {
            follower.receiver.stop().await
        } else {
            follower.receiver.restart().await
        }
        follower.is_up = !follower.is_up;
        follower.was_down = true;
    }

    /// Waits until the receivers that are up have caught up, so the next step starts at rest.
    async fn catch_up(&self) {
        let is_served = |follower: &ModelledSubscriber| follower.is_up && !follower.is_paused;
        for number in (0..self.followers.len()).filter(|number| is_served(&self.followers[*number]))
        {
            self.has_all(number).await;
        }
    }

    /// Waits until a follower has got all required deliveries; panics with the missing ones.
    async fn has_all(&self, number: usize) -> BTreeMap<String, Vec<u64>> {
        let ModelledSubscriber { receiver, .. } = &self.followers[number];
        let expected = self.followers[number].expected(&self.model);
        let total = expected.values().map(Vec::len).sum();
        if tokio::time::timeout(PATIENCE, receiver.wait_for_accepted(total))
            .await
            .is_err()
        {
            let got = receiver.log().accepted_sequences();
            let state = webhooks::show(&self.process, "").await.text;
            let letters = self.process.get("/api/v1/dead-letters").await.text;
            panic!(
                "follower {number} of seed {}: {expected:?} but {got:?}\n{state}\n{letters}",
                self.seed
            );
        }
        expected
    }

    /// Restarts all receivers and checks the deliveries of each.
    async fn end(self) {
        for follower in &self.followers {
            if !follower.is_up {
                follower.receiver.restart().await;
            }
            if follower.is_paused {
                follower
                    .subscription
                    .run_action(&self.process, "resume")
                    .await;
            }
        }
        for (number, follower) in self.followers.iter().enumerate() {
            let expected = self.has_all(number).await;
            let seen = follower.receiver.log();
            let repeats = seen.check_order(&Default::default());
            assert_eq!(
                seen.accepted_sequences(),
                expected,
                "follower {number} of seed {}",
                self.seed
            );
            assert!(
                repeats == 0 || self.kills > 0 || follower.was_down,
                "{repeats} repeats without a crash, seed {}",
                self.seed
            );
        }
    }
}

impl ModelledSubscriber {
    /// Returns the sequences of each entity that it must have got.
    fn expected(&self, model: &PublishedModel) -> BTreeMap<String, Vec<u64>> {
        let mut expected = BTreeMap::new();
        for (entity, events) in model {
            let since = self.since.get(entity).copied().unwrap_or_default();
            let wanted = (1..)
                .zip(events)
                .skip(since)
                .filter(|(_, name)| self.wanted.is_none_or(|wanted| wanted == **name));
            let sequences: Vec<u64> = wanted.map(|(sequence, _)| sequence).collect();
            if !sequences.is_empty() {
                expected.insert(entity.clone(), sequences);
            }
        }
        expected
    }
}

/// Publishes a list that may have been published before, in whole or in part.
async fn send(client: &TestClient, list: &[Value]) -> reqwest::Result<()> {
    let request = client
        .client
        .post(format!("{}/api/v1/events", client.base))
        .bearer_auth(PUBLISHER);
    let request = request
        .header("content-type", "application/json")
        .body(json!(list).to_string());
    let text = expect_soon(request.send()).await?.text().await?;
    let body: Value = serde_json::from_str(&text).expect("JSON");
    let taken = body["accepted"]
        .as_u64()
        .zip(body["duplicates"].as_u64())
        .map(|(new, known)| new + known);
    assert_eq!(taken, Some(list.len() as u64), "{text}");
    Ok(())
}

#[test]
fn every_subscriber_gets_the_modelled_events_through_crashes_failures_and_outages() {
    run_async(async {
        for seed in [1, 2, 8] {
            let mut history = RandomHistory::start(seed).await;
            history.follow().await;
            for _ in 0..25 {
                history.step().await;
            }
            history.end().await;
        }
    });
}
