//! The work on one event, from the first step that is not done to its conclusion, or to where it
//! has to wait.

use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::breaker::ServerBreakerDecision;
use super::call_log_entry::LoggedStepCall;
use super::client::ServerCallOutcome;
use super::context::{EnrichmentContext, EnrichmentError};
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

/// What is recorded as the code of an enrichment that failed: the fault lies with a server behind
/// this one.
const BAD_GATEWAY: u16 = 502;

/// How long a conclusion that found no room waits.
const RESUBMIT_INTERVAL: Duration = Duration::from_secs(1);

/// The event at `position`, if it is still owed.
///
/// # Errors
/// [`Unavailable`] when the store fails.
pub(super) async fn find_owed_event(
    reads: &ProjectionReader,
    position: Position,
) -> Result<Option<StoredRecord>, ProjectionReadError> {
    let first = reads.pending_events(position, 1).await?.pop();
    Ok(first.filter(|stored| stored.position == position))
}

/// Works on the event at `position`, whose present step has failed `tries` times.
///
/// # Errors
/// [`Failed`] when the store fails.
pub(super) async fn run_enrichment(
    shared: &EnrichmentContext,
    position: Position,
    tries: StepFailureCount,
) -> Result<EnrichmentOutcome, EnrichmentError> {
    let Some(event) = find_owed_event(&shared.reads, position).await? else {
        return Ok(EnrichmentOutcome::Gone);
    };
    let written = *shared.reads.written().borrow();
    let noted = move |rows: &ProgressTable| {
        Ok((
            rows.record_start(position, written)?,
            rows.load_progress(position)?,
        ))
    };
    let (begun, progress) = shared.with_progress_table(noted).await?;
    let subject = EnrichmentSubject::from_payload(&event.record.payload);
    let work = EnrichmentRun {
        shared,
        event,
        begun,
        subject,
    };
    match work.run_steps(progress, tries).await? {
        EnrichmentRunState::Wait(wait, tries) => Ok(EnrichmentOutcome::Later(wait, tries)),
        EnrichmentRunState::End { progress, failure } => work.conclude(&progress, failure).await,
    }
}

struct EnrichmentRun<'a> {
    shared: &'a EnrichmentContext,
    event: StoredRecord,
    /// What was written when the work began: another attempt at the event begins later.
    begun: Position,
    subject: EnrichmentSubject,
}

/// How far the work got.
enum EnrichmentRunState {
    Wait(Duration, StepFailureCount),
    End {
        progress: EnrichmentProgress,
        failure: Option<(EnrichmentStep, String)>,
    },
}

/// What one step came to.
enum EnrichmentStepOutcome {
    Done(String),
    Wait(Duration, StepFailureCount),
    Failed(String),
}

impl EnrichmentRun<'_> {
    async fn run_steps(
        &self,
        mut progress: EnrichmentProgress,
        mut tries: StepFailureCount,
    ) -> Result<EnrichmentRunState, EnrichmentError> {
        loop {
            let NextEnrichmentStep::Call(call) =
                steps::next_step(&self.subject, &progress, &self.shared.config)
            else {
                return Ok(EnrichmentRunState::End {
                    progress,
                    failure: None,
                });
            };
            let step = call.step;
            match self.run_step(&call, tries).await {
                EnrichmentStepOutcome::Wait(wait, tries) => {
                    return Ok(EnrichmentRunState::Wait(wait, tries));
                }
                EnrichmentStepOutcome::Failed(reason) => {
                    return Ok(EnrichmentRunState::End {
                        progress,
                        failure: Some((step, reason)),
                    });
                }
                EnrichmentStepOutcome::Done(fact) => {
                    progress.record(step, &fact);
                    let position = self.event.position;
                    self.shared
                        .with_progress_table(move |rows| rows.record_step(position, step, &fact))
                        .await?;
                    tries = 0;
                }
            }
        }
    }

    async fn run_step(&self, call: &StepCall, tries: StepFailureCount) -> EnrichmentStepOutcome {
        if self.shared.is_stopping() {
            return EnrichmentStepOutcome::Wait(Duration::ZERO, tries);
        }
        let origin = server_origin(&call.url);
        let pass = match self.shared.acquire_permit(&origin) {
            ServerBreakerDecision::Go(pass) => pass,
            ServerBreakerDecision::Wait(wait) => return EnrichmentStepOutcome::Wait(wait, tries),
        };
        let answer = self.make_call(call, tries).await;
        self.shared.record_outcome(&origin, pass, &answer);
        let read = match answer {
            ServerCallOutcome::Good(body) => steps::parse_answer(call.step, Some(&body)),
            ServerCallOutcome::Missing => steps::parse_answer(call.step, None),
            ServerCallOutcome::Refused { reason } => return EnrichmentStepOutcome::Failed(reason),
            ServerCallOutcome::Transient { reason, after } => {
                return self.retry_step(call.step, reason, after, tries + 1);
            }
        };
        read.map_or_else(
            |reason| EnrichmentStepOutcome::Failed(reason.to_owned()),
            EnrichmentStepOutcome::Done,
        )
    }

    /// Makes `call`, which failed `tries` times before, and tells the call log of it.
    async fn make_call(&self, call: &StepCall, tries: StepFailureCount) -> ServerCallOutcome {
        let clock = &self.shared.clock;
        let (at, began) = (clock.wall(), clock.monotonic());
        let (answer, status) = self
            .shared
            .caller
            .send_call(call, &self.id().to_string(), at)
            .await;
        let duration = clock.monotonic().saturating_sub(began);
        let made = LoggedStepCall {
            call,
            tries,
            answer: &answer,
            status,
            at,
            duration,
        };
        made.append_to_log(
            &self.shared.exchange,
            &self.shared.config,
            &self.event.record,
            self.id(),
        );
        answer
    }

    /// What follows when a step has failed `tries` times in a way that may pass.
    fn retry_step(
        &self,
        step: EnrichmentStep,
        reason: String,
        after: Duration,
        tries: StepFailureCount,
    ) -> EnrichmentStepOutcome {
        let schedule = &self.shared.config.retry_schedule;
        match schedule.get(tries as usize - 1) {
            Some(wait) => {
                debug!(event_id = %self.id(), step = step.name(), reason, tries, "step is tried again later");
                EnrichmentStepOutcome::Wait(after.max(*wait), tries)
            }
            None if tries == 1 => EnrichmentStepOutcome::Failed(reason),
            None => EnrichmentStepOutcome::Failed(format!("{reason}, tried {tries} times")),
        }
    }

    async fn conclude(
        &self,
        progress: &EnrichmentProgress,
        failure: Option<(EnrichmentStep, String)>,
    ) -> Result<EnrichmentOutcome, EnrichmentError> {
        let position = self.event.position;
        let command = self.build_conclusion(progress, failure);
        let mut stopping = self.shared.stopping.clone();
        while !self.shared.is_stopping() {
            match self.shared.router.submit_command(command.clone()).await {
                // Taken before, if that was not known then.
                Ok(CommandOutcome {
                    position: conclusion,
                    ..
                })
                | Err(Refusal::Duplicate {
                    position: conclusion,
                    ..
                }) => {
                    self.shared
                        .with_progress_table(move |rows| rows.remove(position))
                        .await?;
                    return Ok(EnrichmentOutcome::Concluded(conclusion));
                }
                // Only this is tried again: no step that failed is to be made once more for want of
                // room.
                Err(Refusal::Overloaded | Refusal::Quarantined { .. } | Refusal::Unknown) => {
                    tokio::select! {
                        _ = stopping.changed() => {}
                        () = sleep_until(Instant::now() + RESUBMIT_INTERVAL) => {}
                    }
                }
                Err(refusal @ (Refusal::Rejected(_) | Refusal::Known { .. })) => {
                    error!(event_id = %self.id(), %refusal, "conclusion of an enrichment was refused");
                    return Ok(EnrichmentOutcome::Gone);
                }
            }
        }
        Ok(EnrichmentOutcome::Later(RESUBMIT_INTERVAL, 0))
    }

    fn build_conclusion(
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
                info!(event_id = %self.id(), found = person.is_some(), "event enriched");
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
                warn!(event_id = %self.id(), reason = message, "event cannot be enriched");
                let lead_id = self.subject.lead_id();
                let payload = json!({"lead_id": lead_id, "updated_at": of, "step": step, "error_message": message});
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
        Command {
            // Keys with a control character are refused where keys come from outside.
            idempotency_key: Some(format!(
                "\u{1}enrichment:{}:{}",
                self.event.position, self.begun
            )),
            shape: PayloadShape::Bare,
            may_create: false,
            resolves: Some(EventResolution {
                event: self.event.position,
                failure,
            }),
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
        EventId::new(self.shared.reads.incarnation(), self.event.position)
    }
}

/// What is said of an event that was enriched.
#[derive(serde::Serialize)]
struct EnrichedEventBody<'a> {
    lead_id: &'a serde_json::Value,
    updated_at: crate::event::Timestamp,
    enriched: Option<&'a RawValue>,
}

/// The server at `url`, whatever the path.
fn server_origin(url: &str) -> String {
    reqwest::Url::parse(url)
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_default()
}
