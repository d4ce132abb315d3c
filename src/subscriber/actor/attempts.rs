//! Attempts of one subscriber: each starts as soon as it has a permit, and its outcome goes to the
//! delivery and to the call log.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tracing::{error, info};

use super::super::attempt::{AttemptLogEntry, AttemptNumber, AttemptOutcome};
use super::super::attempt_failure::AttemptFailure;
use super::super::attempt_permits::AttemptPermit;
use super::super::delivery::{AttemptId, DeliveryEffect, DeliveryInput};
use super::super::inbox::ActorMessage;
use super::super::outbound_record::OutboundRecord;
use super::super::stage::LoggedOutcome;
use super::{AbortOnDropTask, SubscriberActor};
use crate::panics;

impl SubscriberActor {
    /// Starts queued attempts as long as there are permits.
    pub(super) fn begin_attempts(&mut self) {
        while !self.queued_attempts.is_empty() && !self.stage.is_stopping() {
            if self.stage.waits_for_change(&self.inbox) {
                break;
            }
            let permits = &self.stage.deps.permits;
            let Some(permit) = permits.try_acquire(self.inbox.permits()) else {
                return;
            };
            let Some((attempt_id, item, number)) = self.queued_attempts.pop_front() else {
                return;
            };

            // While the attempt waited for a permit, the subscriber may have been paused, or its breaker
            // opened.
            if self.delivery.can_begin(attempt_id) {
                self.begin_attempt(permit, attempt_id, item, number);
            } else {
                self.step_delivery(DeliveryInput::AttemptWithdrawn { attempt_id });
            }
        }
        self.inbox.permits().return_unused();
    }

    fn begin_attempt(
        &mut self,
        permit: AttemptPermit,
        attempt_id: AttemptId,
        item: OutboundRecord,
        number: AttemptNumber,
    ) {
        let is_erased = self
            .stage
            .deps
            .journal
            .hides_record(item.position, &item.record.entity);
        if is_erased {
            info!(subscriber = %self.id, position = %item.position, "delivery of an erased event dropped");
            let outcome = AttemptOutcome::Dropped;
            let input = DeliveryInput::AttemptEnded {
                attempt_id,
                outcome,
            };
            drop(permit);
            return self.finish_attempt(input, None);
        }

        let attempt = (self.stage.deps.attempt_fn)(Arc::clone(&self.policy), item, number);
        let inbox = Rc::clone(&self.inbox);
        let task = actix_rt::spawn(async move {
            let made = contain_attempt_panic(attempt).await;
            drop(permit);
            inbox.push_message(match made {
                Some((outcome, log_entry)) => ActorMessage::AttemptFinished(
                    DeliveryInput::AttemptEnded {
                        attempt_id,
                        outcome,
                    },
                    log_entry,
                ),
                // It begins anew, with the definition of then.
                None => ActorMessage::AttemptFinished(
                    DeliveryInput::AttemptWithdrawn { attempt_id },
                    None,
                ),
            });
        });
        self.running.insert(attempt_id, AbortOnDropTask(task));
    }

    /// Counts the outcome, steps the delivery, and logs the attempt together with the time of the
    /// next one.
    pub(super) fn finish_attempt(
        &mut self,
        input: DeliveryInput,
        log_entry: Option<Box<AttemptLogEntry>>,
    ) {
        if let DeliveryInput::AttemptWithdrawn { attempt_id } = &input {
            self.running.remove(attempt_id);
        }
        if let DeliveryInput::AttemptEnded {
            attempt_id,
            outcome,
        } = &input
        {
            self.running.remove(attempt_id);
            let metrics = &self.stage.deps.metrics;
            metrics.count_delivery(outcome.as_metric_label());
            if let Some(log_entry) = &log_entry {
                let seconds = log_entry.duration().as_secs_f64();
                metrics.delivery_seconds().observe(seconds);
            }

            let now = self.stage.wall();
            self.stage
                .update_counters(&self.id, |counters| match outcome {
                    AttemptOutcome::Accepted => {
                        counters.delivered += 1;
                        counters.last_success_at = Some(now);
                        counters.failing_since = None;
                    }
                    AttemptOutcome::Dropped => counters.dropped += 1,
                    AttemptOutcome::TransientFailure { .. }
                    | AttemptOutcome::PermanentFailure { .. }
                    | AttemptOutcome::Gone { .. } => {
                        counters.failed += 1;
                        counters.failing_since.get_or_insert(now);
                    }
                });
        }

        let effects = self.delivery.step(input, self.stage.now());
        self.store_failing_time();
        if let Some(log_entry) = log_entry {
            let next_attempt_at = effects.iter().find_map(|effect| match effect {
                DeliveryEffect::RetryScheduled(pause) => {
                    Some(self.stage.wall().saturating_add(*pause))
                }
                _ => None,
            });
            log_entry.append_to_log(&self.stage.deps.call_log, next_attempt_at);
        }

        self.perform_effects(effects);
    }
}

/// Awaits `attempt` and turns a panic in it into a failed attempt.
async fn contain_attempt_panic(
    attempt: impl Future<Output = Option<LoggedOutcome>>,
) -> Option<LoggedOutcome> {
    let mut attempt = pin!(attempt);
    poll_fn(
        move |context| match panics::contain_panic(|| attempt.as_mut().poll(context)) {
            Ok(poll) => poll,
            Err(message) => {
                error!(panic = message, "delivery attempt panicked");
                let failure = AttemptFailure {
                    status: None,
                    code: "internal",
                    detail: "the attempt panicked".to_owned(),
                    answer: Bytes::new(),
                };
                let outcome = AttemptOutcome::TransientFailure {
                    failure,
                    retry_after: None,
                };
                Poll::Ready(Some((outcome, None)))
            }
        },
    )
    .await
}
