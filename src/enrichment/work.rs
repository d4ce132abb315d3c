//! The work on one event, from the first step that is not done to its conclusion, or to where it has to wait.

use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::breaker::Verdict;
use super::client::Answer;
use super::lanes::{End, Tries};
use super::logged;
use super::progress::Rows;
use super::shared::{Failed, Shared};
use super::steps::{self, Call, Next, Progress, Step, Subject};
use crate::entity::c2s_lead::{self, SOURCE};
use crate::entity::{Action, Command, Conclusion, Outcome};
use crate::event::{EventId, Failure, Position, Shape};
use crate::projection::{Reads, Stored, Unavailable};
use crate::router::Refusal;

/// What is recorded as the code of an enrichment that failed: the fault lies with a server behind this one.
const BAD_GATEWAY: u16 = 502;

/// How long a conclusion that found no room waits.
const RESUBMIT_INTERVAL: Duration = Duration::from_secs(1);

/// The event at `position`, if it is still owed.
///
/// # Errors
/// [`Unavailable`] when the store fails.
pub(super) async fn owed(reads: &Reads, position: Position) -> Result<Option<Stored>, Unavailable> {
    let first = reads.owed(position, 1).await?.pop();
    Ok(first.filter(|stored| stored.position == position))
}

/// Works on the event at `position`, whose present step has failed `tries` times.
///
/// # Errors
/// [`Failed`] when the store fails.
pub(super) async fn on(shared: &Shared, position: Position, tries: Tries) -> Result<End, Failed> {
    let Some(event) = owed(&shared.reads, position).await? else { return Ok(End::Gone) };
    let written = *shared.reads.written().borrow();
    let noted = move |rows: &Rows| Ok((rows.begin(position, written)?, rows.load(position)?));
    let (begun, progress) = shared.with_rows(noted).await?;
    let subject = Subject::read(&event.record.payload);
    let work = Work { shared, event, begun, subject };
    match work.go(progress, tries).await? {
        Reached::Wait(wait, tries) => Ok(End::Later(wait, tries)),
        Reached::End { progress, failure } => work.conclude(&progress, failure).await,
    }
}

struct Work<'a> {
    shared: &'a Shared,
    event: Stored,
    /// What was written when the work began: another attempt at the event begins later.
    begun: Position,
    subject: Subject,
}

/// How far the work got.
enum Reached {
    Wait(Duration, Tries),
    End { progress: Progress, failure: Option<(Step, String)> },
}

/// What one step came to.
enum Stepped {
    Done(String),
    Wait(Duration, Tries),
    Failed(String),
}

impl Work<'_> {
    async fn go(&self, mut progress: Progress, mut tries: Tries) -> Result<Reached, Failed> {
        loop {
            let Next::Call(call) = steps::next(&self.subject, &progress, &self.shared.config) else {
                return Ok(Reached::End { progress, failure: None });
            };
            let step = call.step;
            match self.step(&call, tries).await {
                Stepped::Wait(wait, tries) => return Ok(Reached::Wait(wait, tries)),
                Stepped::Failed(reason) => return Ok(Reached::End { progress, failure: Some((step, reason)) }),
                Stepped::Done(fact) => {
                    progress.add(step, &fact);
                    let position = self.event.position;
                    self.shared.with_rows(move |rows| rows.add(position, step, &fact)).await?;
                    tries = 0;
                }
            }
        }
    }

    async fn step(&self, call: &Call, tries: Tries) -> Stepped {
        if self.shared.is_stopping() {
            return Stepped::Wait(Duration::ZERO, tries);
        }
        let origin = origin(&call.url);
        let pass = match self.shared.ask(&origin) {
            Verdict::Go(pass) => pass,
            Verdict::Wait(wait) => return Stepped::Wait(wait, tries),
        };
        let answer = self.call(call, tries).await;
        self.shared.tell(&origin, pass, &answer);
        let read = match answer {
            Answer::Good(body) => steps::read(call.step, Some(&body)),
            Answer::Missing => steps::read(call.step, None),
            Answer::Refused { reason } => return Stepped::Failed(reason),
            Answer::Transient { reason, after } => return self.again(call.step, reason, after, tries + 1),
        };
        read.map_or_else(|reason| Stepped::Failed(reason.to_owned()), Stepped::Done)
    }

    /// Makes `call`, which failed `tries` times before, and tells the call log of it.
    async fn call(&self, call: &Call, tries: Tries) -> Answer {
        let clock = &self.shared.clock;
        let (at, began) = (clock.wall(), clock.monotonic());
        let (answer, status) = self.shared.caller.make(call, &self.id().to_string(), at).await;
        let duration = clock.monotonic().saturating_sub(began);
        let made = logged::Made { call, tries, answer: &answer, status, at, duration };
        made.append(&self.shared.exchange, &self.shared.config, &self.event.record, self.id());
        answer
    }

    /// What follows when a step has failed `tries` times in a way that may pass.
    fn again(&self, step: Step, reason: String, after: Duration, tries: Tries) -> Stepped {
        let schedule = &self.shared.config.retry_schedule;
        match schedule.get(tries as usize - 1) {
            Some(wait) => {
                debug!(event_id = %self.id(), step = step.name(), reason, tries, "step is tried again later");
                Stepped::Wait(after.max(*wait), tries)
            }
            None if tries == 1 => Stepped::Failed(reason),
            None => Stepped::Failed(format!("{reason}, tried {tries} times")),
        }
    }

    async fn conclude(&self, progress: &Progress, failure: Option<(Step, String)>) -> Result<End, Failed> {
        let position = self.event.position;
        let command = self.conclusion(progress, failure);
        let mut stopping = self.shared.stopping.clone();
        while !self.shared.is_stopping() {
            match self.shared.router.submit(command.clone()).await {
                // Taken before, if that was not known then.
                Ok(Outcome { position: conclusion, .. }) | Err(Refusal::Duplicate { position: conclusion, .. }) => {
                    self.shared.with_rows(move |rows| rows.remove(position)).await?;
                    return Ok(End::Concluded(conclusion));
                }
                // Only this is tried again: no step that failed is to be made once more for want of room.
                Err(Refusal::Overloaded | Refusal::Quarantined { .. } | Refusal::Unknown) => tokio::select! {
                    _ = stopping.changed() => {}
                    () = sleep_until(Instant::now() + RESUBMIT_INTERVAL) => {}
                },
                Err(refusal @ (Refusal::Rejected(_) | Refusal::Known { .. })) => {
                    error!(event_id = %self.id(), %refusal, "conclusion of an enrichment was refused");
                    return Ok(End::Gone);
                }
            }
        }
        Ok(End::Later(RESUBMIT_INTERVAL, 0))
    }

    fn conclusion(&self, progress: &Progress, failure: Option<(Step, String)>) -> Command {
        let record = &self.event.record;
        let person = progress.person();
        let enriched = person.and_then(|person| serde_json::from_str(person).ok());
        let of = record.at;
        let failure = failure.map(|(step, reason)| (step.name(), format!("{}: {reason}", step.name())));
        let (event_type, action, payload) = match &failure {
            None => {
                info!(event_id = %self.id(), found = person.is_some(), "event enriched");
                let person: Option<&RawValue> = person.and_then(|person| serde_json::from_str(person).ok());
                let payload = Enriched { lead_id: self.subject.lead_id(), updated_at: of, enriched: person };
                let payload = serde_json::to_vec(&payload).unwrap_or_default();
                (c2s_lead::ENRICHED, c2s_lead::Action::Enriched { of, enriched }, payload)
            }
            Some((step, message)) => {
                warn!(event_id = %self.id(), reason = message, "event cannot be enriched");
                let lead_id = self.subject.lead_id();
                let payload = json!({"lead_id": lead_id, "updated_at": of, "step": step, "error_message": message});
                let action = c2s_lead::Action::Failed { of, step: (*step).to_owned(), enriched };
                (c2s_lead::FAILED, action, payload.to_string().into_bytes())
            }
        };
        let failure = failure.map(|(_, message)| Failure { code: BAD_GATEWAY, message });
        Command {
            // Keys with a control character are refused where keys come from outside.
            idempotency_key: Some(format!("\u{1}enrichment:{}:{}", self.event.position, self.begun)),
            shape: Shape::Bare,
            may_create: false,
            concludes: Some(Conclusion { event: self.event.position, failure }),
            ..Command::new(SOURCE, record.entity.clone(), Action::C2sLead(action), event_type, payload.into())
        }
    }

    fn id(&self) -> EventId {
        EventId::new(self.shared.reads.incarnation(), self.event.position)
    }
}

/// What is said of an event that was enriched.
#[derive(serde::Serialize)]
struct Enriched<'a> {
    lead_id: &'a serde_json::Value,
    updated_at: crate::event::Timestamp,
    enriched: Option<&'a RawValue>,
}

/// The server at `url`, whatever the path.
fn origin(url: &str) -> String {
    reqwest::Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}
