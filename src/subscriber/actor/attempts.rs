//! The attempts of one subscriber: each begins when it has a turn, and what it came to is told to
//! the delivery and to the call log.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tracing::error;

use super::super::attempt::{AttemptLogEntry, AttemptNumber, AttemptOutcome};
use super::super::attempt_permits::AttemptPermit;
use super::super::delivery::{AttemptId, DeliveryEffect, DeliveryInput};
use super::super::inbox::ActorMessage;
use super::super::stage::LoggedOutcome;
use super::super::{AttemptFailure, OutboundRecord};
use super::{AbortOnDropTask, SubscriberActor};
use crate::panics;

impl SubscriberActor {
    pub(super) fn begin_attempts(&mut self) {
        while !self.queued_attempts.is_empty() && !self.stage.is_stopping() {
            let Some(turn) = self.stage.deps.permits.try_acquire(&self.inbox) else {
                return;
            };
            let Some((attempt_id, item, which)) = self.queued_attempts.pop_front() else {
                return;
            };
            if self.delivery.can_begin(attempt_id) {
                self.begin_attempt(turn, attempt_id, item, which);
            } else {
                self.step_delivery(DeliveryInput::AttemptWithdrawn { attempt_id });
            }
        }
        self.inbox.return_permits();
    }

    fn begin_attempt(
        &mut self,
        turn: AttemptPermit,
        attempt_id: AttemptId,
        item: OutboundRecord,
        which: AttemptNumber,
    ) {
        let made = (self.stage.deps.attempt_fn)(Arc::clone(&self.policy), item, which);
        let inbox = Rc::clone(&self.inbox);
        let task = actix_rt::spawn(async move {
            let (outcome, call) = contain_attempt_panic(made).await;
            drop(turn);
            inbox.push_message(ActorMessage::AttemptFinished(
                DeliveryInput::AttemptEnded {
                    attempt_id,
                    outcome,
                },
                call,
            ));
        });
        self.running.insert(attempt_id, AbortOnDropTask(task));
    }

    pub(super) fn finish_attempt(
        &mut self,
        input: DeliveryInput,
        call: Option<Box<AttemptLogEntry>>,
    ) {
        if let DeliveryInput::AttemptEnded {
            attempt_id,
            outcome,
        } = &input
        {
            self.running.remove(attempt_id);
            let (now, is_success) = (self.stage.wall(), outcome.failure().is_none());
            self.stage.update_counters(&self.id, |counters| {
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
                DeliveryEffect::StoreRow(row) => Some(self.stage.wall().saturating_add(row.wait)),
                _ => None,
            });
            call.append_to_log(&self.stage.deps.call_log, next);
        }
        self.effects.extend(effects);
        while let Some(effect) = self.effects.pop_front() {
            self.perform_effect(effect);
        }
    }
}

/// What `attempt` comes to; a panic in it is a failure of it.
async fn contain_attempt_panic(attempt: impl Future<Output = LoggedOutcome>) -> LoggedOutcome {
    let mut attempt = pin!(attempt);
    poll_fn(
        move |context| match panics::contain_panic(|| attempt.as_mut().poll(context)) {
            Ok(poll) => poll,
            Err(message) => {
                error!(message, "attempt panicked");
                let detail = "the attempt panicked".to_owned();
                let failure = AttemptFailure {
                    status: None,
                    code: "internal",
                    detail,
                    answer: Bytes::new(),
                };
                Poll::Ready((
                    AttemptOutcome::TransientFailure {
                        failure,
                        retry_after: None,
                    },
                    None,
                ))
            }
        },
    )
    .await
}
