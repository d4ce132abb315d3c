//! Run of one event: from its first step that is not done until the event is resolved, or until the
//! run has to wait.

use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::breaker::ServerBreakerDecision;
use super::call_log_entry::LoggedStepCall;
use super::client::ServerCallOutcome;
use super::context::EnrichmentContext;
use super::error::EnrichmentError;
use super::lanes::{EnrichmentOutcome, StepFailureCount};
use super::progress_table::ProgressTable;
use super::steps::{
    self, EnrichmentProgress, EnrichmentStep, EnrichmentSubject, NextEnrichmentStep, StepCall,
};
use crate::entity::c2s_lead::{self, SOURCE};
use crate::entity::{Command, CommandOutcome, EntityAction, EventResolution};
use crate::event::{EventFailure, EventId, PayloadShape, Position};
use crate::projection::{ProjectionReadError, ProjectionReader, StoredRecord};
use crate::router::Refusal;

/// Failure code of an event that could not be enriched: the fault is that of an upstream server.
const BAD_GATEWAY: u16 = 502;

/// Reason of an event that was pending for longer than its source keeps content.
const CONTENT_REMOVED: &str = "the content of the event was removed by retention";

/// Time after which a resolution that the router refused for lack of room is submitted again.
const RESUBMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the event at `position`, if it is still pending.
///
/// # Errors
/// [`ProjectionReadError`] when the store fails.
pub(super) async fn find_pending_event(
    reads: &ProjectionReader,
    position: Position,
) -> Result<Option<StoredRecord>, ProjectionReadError> {
    let first = reads.pending_events(position, 1).await?.pop();
    Ok(first.filter(|stored| stored.position == position))
}

/// Runs the enrichment of the event at `position`, whose current step has failed `failures` times.
///
/// # Errors
/// [`EnrichmentError`] when the store fails.
pub(super) async fn run_enrichment(
    context: &EnrichmentContext,
    position: Position,
    failures: StepFailureCount,
) -> Result<EnrichmentOutcome, EnrichmentError> {
    let event = find_pending_event(&context.reads, position).await?;
    let Some(event) = event.filter(|event| !event.record.is_erased()) else {
        return Ok(EnrichmentOutcome::Gone);
    };

    // The start goes to the disk before the first call: the idempotency key of the resolution
    // contains it, and must be the same after a crash.
    let written = *context.reads.written().borrow();
    let load = move |table: &ProgressTable| {
        let started_at = table.record_start(position, written)?;
        Ok((started_at, table.load_progress(position)?))
    };
    let (started_at, progress) = context.with_progress_table(load).await?;

    // Without its content, the event must not be resolved as if it named nobody.
    let has_content = event.record.has_content();
    let subject = match has_content {
        true => EnrichmentSubject::from_payload(&event.record.payload),
        false => EnrichmentSubject::of_lead(event.record.entity.id()),
    };
    let run = EnrichmentRun {
        context,
        event,
        started_at,
        subject,
    };
    if !has_content {
        let failure = (EnrichmentStep::Person, CONTENT_REMOVED.to_owned());
        return run.submit_resolution(&progress, Some(failure)).await;
    }
    match run.run_steps(progress, failures).await? {
        EnrichmentRunState::Wait(wait, failures) => Ok(EnrichmentOutcome::Later(wait, failures)),
        EnrichmentRunState::End { progress, failure } => {
            run.submit_resolution(&progress, failure).await
        }
    }
}

struct EnrichmentRun<'a> {
    context: &'a EnrichmentContext,
    event: StoredRecord,
    /// End of the written records when the work on the event started. It tells attempts at the same
    /// event apart: a later attempt starts at a later position.
    started_at: Position,
    subject: EnrichmentSubject,
}

/// State of a run when it stops.
enum EnrichmentRunState {
    Wait(Duration, StepFailureCount),
    End {
        progress: EnrichmentProgress,
        failure: Option<(EnrichmentStep, String)>,
    },
}

/// Outcome of one step of the run.
enum EnrichmentStepOutcome {
    /// The step is done, with this result.
    Done(String),
    Wait(Duration, StepFailureCount),
    Failed(String),
}

impl EnrichmentRun<'_> {
    async fn run_steps(
        &self,
        mut progress: EnrichmentProgress,
        mut failures: StepFailureCount,
    ) -> Result<EnrichmentRunState, EnrichmentError> {
        loop {
            let NextEnrichmentStep::Call(call) =
                steps::next_step(&self.subject, &progress, &self.context.config)
            else {
                return Ok(EnrichmentRunState::End {
                    progress,
                    failure: None,
                });
            };
            let step = call.step;
            match self.run_step(&call, failures).await {
                EnrichmentStepOutcome::Wait(wait, failures) => {
                    return Ok(EnrichmentRunState::Wait(wait, failures));
                }
                EnrichmentStepOutcome::Failed(reason) => {
                    return Ok(EnrichmentRunState::End {
                        progress,
                        failure: Some((step, reason)),
                    });
                }
                EnrichmentStepOutcome::Done(result) => {
                    progress.record(step, &result);
                    // On the disk before the next step, so that a crash repeats no finished step.
                    let position = self.event.position;
                    let record =
                        move |table: &ProgressTable| table.record_step(position, step, &result);
                    self.context.with_progress_table(record).await?;
                    failures = 0;
                }
            }
        }
    }

    async fn run_step(&self, call: &StepCall, failures: StepFailureCount) -> EnrichmentStepOutcome {
        if self.context.is_stopping() {
            return EnrichmentStepOutcome::Wait(Duration::ZERO, failures);
        }

        let origin = server_origin(&call.url);
        let permit = match self.context.acquire_permit(&origin) {
            ServerBreakerDecision::Go(permit) => permit,
            ServerBreakerDecision::Wait(wait) => {
                return EnrichmentStepOutcome::Wait(wait, failures);
            }
        };

        let outcome = self.make_call(call, failures).await;
        self.context.record_outcome(&origin, permit, &outcome);

        let parsed = match outcome {
            ServerCallOutcome::Good(body) => steps::parse_answer(call.step, Some(&body)),
            ServerCallOutcome::Missing => steps::parse_answer(call.step, None),
            ServerCallOutcome::Refused { reason } => return EnrichmentStepOutcome::Failed(reason),
            ServerCallOutcome::Transient { reason, after } => {
                return self.retry_step(call.step, reason, after, failures + 1);
            }
        };
        parsed.map_or_else(
            |reason| EnrichmentStepOutcome::Failed(reason.to_owned()),
            EnrichmentStepOutcome::Done,
        )
    }

    /// Makes `call`, whose step has failed `failures` times before, and appends it to the call log.
    async fn make_call(&self, call: &StepCall, failures: StepFailureCount) -> ServerCallOutcome {
        let clock = &self.context.clock;
        let (at, started) = (clock.wall(), clock.monotonic());
        let event_id = self.id().to_string();
        let (outcome, status) = self.context.client.send_call(call, &event_id, at).await;
        let duration = clock.monotonic().saturating_sub(started);

        let logged_call = LoggedStepCall {
            call,
            failures,
            outcome: &outcome,
            status,
            at,
            duration,
        };
        logged_call.append_to_log(
            &self.context.call_log,
            &self.context.config,
            &self.event.record,
            self.id(),
        );
        outcome
    }

    /// Decides what follows after a step has failed `failures` times with a transient error: a
    /// retry if the retry schedule has one left, otherwise the step's failure.
    fn retry_step(
        &self,
        step: EnrichmentStep,
        reason: String,
        after: Duration,
        failures: StepFailureCount,
    ) -> EnrichmentStepOutcome {
        let schedule = &self.context.config.retry_schedule;
        match schedule.get(failures as usize - 1) {
            Some(wait) => {
                debug!(
                    event_id = %self.id(),
                    step = step.name(),
                    error = reason,
                    attempt = failures,
                    "enrichment step failed; retrying later",
                );
                EnrichmentStepOutcome::Wait(after.max(*wait), failures)
            }
            None if failures == 1 => EnrichmentStepOutcome::Failed(reason),
            None => EnrichmentStepOutcome::Failed(format!("{reason}, tried {failures} times")),
        }
    }

    /// Submits the event's resolution to the router, until the router accepts it or the stage
    /// stops.
    async fn submit_resolution(
        &self,
        progress: &EnrichmentProgress,
        failure: Option<(EnrichmentStep, String)>,
    ) -> Result<EnrichmentOutcome, EnrichmentError> {
        let position = self.event.position;
        let command = self.build_resolution(progress, failure);
        let mut stopping = self.context.stopping.clone();

        while !self.context.is_stopping() {
            match self.context.router.submit_command(command.clone()).await {
                // A duplicate means that an earlier run submitted the resolution and crashed before
                // it could remove its progress.
                Ok(CommandOutcome {
                    position: resolution,
                    ..
                })
                | Err(Refusal::Duplicate {
                    position: resolution,
                    ..
                }) => {
                    self.context
                        .with_progress_table(move |table| table.remove(position))
                        .await?;
                    return Ok(EnrichmentOutcome::Resolved(resolution));
                }
                // Only the submission is repeated: a lack of room must not repeat any step.
                Err(Refusal::Overloaded | Refusal::Quarantined { .. } | Refusal::Unknown) => {
                    tokio::select! {
                        _ = stopping.changed() => {}
                        () = sleep_until(Instant::now() + RESUBMIT_INTERVAL) => {}
                    }
                }
                // The event was erased meanwhile, and is not pending any more.
                Err(Refusal::Rejected(rejection)) if rejection.is_of_erased_event() => {
                    self.context
                        .with_progress_table(move |table| table.remove(position))
                        .await?;
                    return Ok(EnrichmentOutcome::Gone);
                }
                Err(
                    refusal @ (Refusal::Rejected(_)
                    | Refusal::KeyReused { .. }
                    | Refusal::OtherReading
                    | Refusal::AlreadyApplied { .. }),
                ) => {
                    error!(
                        event_id = %self.id(),
                        error = &refusal as &dyn std::error::Error,
                        "router rejected the resolution of an enriched event",
                    );
                    return Ok(EnrichmentOutcome::Gone);
                }
            }
        }
        Ok(EnrichmentOutcome::Later(RESUBMIT_INTERVAL, 0))
    }

    /// Builds the command that completes or fails the event.
    fn build_resolution(
        &self,
        progress: &EnrichmentProgress,
        failure: Option<(EnrichmentStep, String)>,
    ) -> Command {
        let record = &self.event.record;
        let person = progress.person();
        let enriched = person.and_then(|person| serde_json::from_str(person).ok());
        let of = record.at;

        let failure =
            failure.map(|(step, reason)| (step.name(), format!("{}: {reason}", step.name())));
        let (event_type, action, payload) = match &failure {
            None => {
                let person_found = person.is_some();
                info!(event_id = %self.id(), person_found, "event enriched");
                let person: Option<&RawValue> =
                    person.and_then(|person| serde_json::from_str(person).ok());
                let payload = EnrichedEventBody {
                    lead_id: self.subject.lead_id(),
                    updated_at: of,
                    enriched: person,
                };
                let payload = serde_json::to_vec(&payload).unwrap_or_default();
                (
                    c2s_lead::ENRICHED_EVENT,
                    c2s_lead::C2sLeadAction::Enriched { of, enriched },
                    payload,
                )
            }
            Some((step, message)) => {
                warn!(event_id = %self.id(), error = message, "enrichment of an event failed");
                let payload = json!({
                    "lead_id": self.subject.lead_id(),
                    "updated_at": of,
                    "step": step,
                    "error_message": message,
                });
                let action = c2s_lead::C2sLeadAction::Failed {
                    of,
                    step: (*step).to_owned(),
                    enriched,
                };
                (
                    c2s_lead::FAILED_EVENT,
                    action,
                    payload.to_string().into_bytes(),
                )
            }
        };
        let failure = failure.map(|(_, message)| EventFailure {
            code: BAD_GATEWAY,
            message,
        });

        // No sender can use such a key: keys from outside must not contain control characters.
        let idempotency_key = format!(
            "\u{1}enrichment:{}:{}",
            self.event.position, self.started_at
        );
        Command {
            idempotency_key: Some(idempotency_key),
            shape: PayloadShape::Bare,
            may_create: false,
            resolves: Some(EventResolution {
                event: self.event.position,
                failure,
            }),
            hops: record.hops,
            trace: record.trace,
            ..Command::new(
                SOURCE,
                record.entity.clone(),
                EntityAction::C2sLead(action),
                event_type,
                payload.into(),
            )
        }
    }

    fn id(&self) -> EventId {
        self.context
            .reads
            .incarnations()
            .event_id(self.event.position)
    }
}

/// Payload of the event `c2s_lead.enriched`.
#[derive(serde::Serialize)]
struct EnrichedEventBody<'a> {
    lead_id: &'a serde_json::Value,
    updated_at: crate::event::Timestamp,
    enriched: Option<&'a RawValue>,
}

/// Returns the origin of `url`: scheme, host and port.
fn server_origin(url: &str) -> String {
    reqwest::Url::parse(url)
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_default()
}
