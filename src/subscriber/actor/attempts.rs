//! The attempts of one subscriber: each begins when it has a turn, and what it came to is told to the delivery and to the call log.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tracing::error;

use super::super::attempt::{Call, Outcome, Try};
use super::super::delivery::{Effect, Input, Ticket};
use super::super::inbox::Told;
use super::super::stage::Attempted;
use super::super::turns::Turn;
use super::super::{Failure, Item};
use super::{Subscriber, Task};
use crate::panics;

impl Subscriber {
    pub(super) fn begin_attempts(&mut self) {
        while !self.waiting.is_empty() && !self.stage.is_stopping() {
            let Some(turn) = self.stage.means.turns.take(&self.inbox) else { return };
            let Some((ticket, item, which)) = self.waiting.pop_front() else { return };
            if self.delivery.may_begin(ticket) {
                self.begin_attempt(turn, ticket, item, which);
            } else {
                self.step(Input::Withdrawn { ticket });
            }
        }
        self.inbox.return_turns();
    }

    fn begin_attempt(&mut self, turn: Turn, ticket: Ticket, item: Item, which: Try) {
        let made = (self.stage.means.attempts)(Arc::clone(&self.profile), item, which);
        let inbox = Rc::clone(&self.inbox);
        let task = actix_rt::spawn(async move {
            let (outcome, call) = contained(made).await;
            drop(turn);
            inbox.tell(Told::Attempted(Input::Ended { ticket, outcome }, call));
        });
        self.running.insert(ticket, Task(task));
    }

    pub(super) fn attempted(&mut self, input: Input, call: Option<Box<Call>>) {
        if let Input::Ended { ticket, outcome } = &input {
            self.running.remove(ticket);
            let (now, is_success) = (self.stage.wall(), outcome.failure().is_none());
            self.stage.count(&self.id, |counters| {
                if is_success {
                    counters.delivered += 1;
                    counters.last_success_at = Some(now);
                    counters.failing_since = None;
                } else {
                    counters.failed += 1;
                    counters.failing_since.get_or_insert(now);
                }
            });
        }
        let effects = self.delivery.step(input, self.stage.now());
        if let Some(call) = call {
            let next = effects.iter().find_map(|effect| match effect {
                Effect::Keep(row) => Some(self.stage.wall().saturating_add(row.wait)),
                _ => None,
            });
            call.append(&self.stage.means.exchange, next);
        }
        self.effects.extend(effects);
        while let Some(effect) = self.effects.pop_front() {
            self.perform(effect);
        }
    }
}

/// What `attempt` comes to; a panic in it is a failure of it.
async fn contained(attempt: impl Future<Output = Attempted>) -> Attempted {
    let mut attempt = pin!(attempt);
    poll_fn(move |context| match panics::contain(|| attempt.as_mut().poll(context)) {
        Ok(poll) => poll,
        Err(message) => {
            error!(message, "attempt panicked");
            let detail = "the attempt panicked".to_owned();
            let failure = Failure { status: None, code: "internal", detail, answer: Bytes::new() };
            Poll::Ready((Outcome::Failed { failure, retry_after: None }, None))
        }
    })
    .await
}
