//! The C2S contract: `POST /api/v1/webhooks/c2s`, one event or a list of them, its checks in their order, and its answers.
//!
//! ```text
//! size ─> address ─> token ─> rate limit ─> JSON ─> each event: fields ─> lead's bucket ─> duplicate ─> stored ─> 200
//!  413      403       401        429       415, 400              400          429          counted       503
//! ```
//!
//! In a list each event stands by itself: what is wrong with one is said in `errors`, and the others are taken. Only a list
//! of which no event is valid is refused as a whole, like a single event. A duplicate is known by its lead, which remembers
//! the instants that it has applied, so it is one for ever.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use tracing::Span;

use super::call::Call;
use super::context::RequestContext;
use super::error::Error;
use super::fault::Fault;
use super::gate::Core;
use super::state::Edge;
use super::{address, answer, body, intake};
use crate::entity::Outcome;
use crate::router::Refusal;
use callers::lead;

mod bucket;
pub(super) mod callers;
mod decode;
pub(super) mod spec;

pub use crate::entity::c2s_lead::SOURCE;
pub use decode::{BATCH_MAX, Event, Request, decode};

/// What became of the events of one request.
#[derive(Debug, Serialize)]
struct Summary {
    status: &'static str,
    received: usize,
    processed: usize,
    duplicates: usize,
    failed: usize,
    errors: Vec<MemberFault>,
}

/// What is wrong with one event of a list.
#[derive(Debug, Serialize)]
struct MemberFault {
    index: usize,
    #[serde(flatten)]
    fault: Fault,
}

/// Takes events in.
pub(super) async fn receive(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let RequestContext { request, payload, edge, call, quota } = context;
    let c2s = edge.c2s();
    let client = edge.client(request);
    body::check_declared(request, edge.bounds())?;
    if !c2s.may_call(client) {
        return Err(Error::Forbidden);
    }
    if !c2s.is_authentic(request.headers()) {
        return Err(edge.count_failure(request, Error::InvalidToken));
    }
    let admitted = c2s.callers.admit(address::network(client), edge.clock.monotonic());
    *quota = admitted.map_err(Error::RateLimited)?;
    let body = body::read(request, payload, edge.bounds()).await?;
    body::check_is_json(request.headers())?;
    match decode(&body)? {
        Request::Single(event) => single(event.map_err(Error::Invalid)?, edge, call.span()).await,
        Request::Batch(events) => batch(events, edge, call).await,
    }
}

async fn single(event: Event, edge: &Edge, span: &Span) -> Result<HttpResponse, Error> {
    let core = edge.core()?;
    let lead = lead(&event);
    edge.c2s().leads.take(lead, edge.clock.monotonic()).map_err(Error::RateLimited)?;
    let outcome = core.router.submit(edge.c2s().command(event, span)).await;
    if outcome.is_err() {
        edge.c2s().leads.give_back(lead, edge.clock.monotonic());
    }
    let mut summary = Summary::of(1);
    let accepted = summary.count(&core, outcome)?;
    Ok(summary.answer(&core, accepted))
}

async fn batch(events: Vec<Result<Event, Vec<Fault>>>, edge: &Edge, call: &Call) -> Result<HttpResponse, Error> {
    if events.iter().all(Result::is_err) {
        return Err(none_valid(events));
    }
    let core = edge.core()?;
    let mut summary = Summary::of(events.len());
    let mut waiting = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        match event {
            Ok(event) => waiting.push((index, event)),
            Err(faults) => summary.fail(index, faults),
        }
    }
    let mut accepted = None;
    // Duplicates give their tokens back, so that a list that is longer than a bucket is completed by sending it again: each
    // pass takes what these tokens allow, until one takes nothing.
    loop {
        let pass = edge.c2s().take_tokens(waiting, &*edge.clock);
        let commands = pass.taken.into_iter().map(|event| edge.c2s().command(event, call.span())).collect();
        let outcomes = core.router.submit_all(commands).await;
        call.note_events(outcomes.iter().flatten().map(|outcome| intake::event_id(&core, outcome.position)));
        for (lead, _) in pass.leads.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_err()) {
            edge.c2s().leads.give_back(*lead, edge.clock.monotonic());
        }
        for outcome in outcomes {
            accepted = summary.count(&core, outcome)?.or(accepted);
        }
        waiting = pass.refused;
        if waiting.is_empty() || pass.leads.is_empty() {
            break;
        }
    }
    for (index, _) in waiting {
        summary.fail(index, edge.c2s().no_token());
    }
    summary.errors.sort_by_key(|fault| fault.index);
    Ok(summary.answer(&core, accepted))
}

/// The refusal of a list without any valid event, with the place of each fault in it.
fn none_valid(events: Vec<Result<Event, Vec<Fault>>>) -> Error {
    let mut faults = super::fields::Faults::default();
    for (index, fault) in events.into_iter().enumerate().flat_map(|(index, event)| {
        let of_event = event.err().unwrap_or_default();
        of_event.into_iter().map(move |fault| (index, fault))
    }) {
        let problem = fault.detail.strip_prefix(&*fault.field).unwrap_or(&fault.detail).trim_start();
        faults.add(format!("[{index}].{}", fault.field), problem);
    }
    match faults.finish(()) {
        Err(error) => error,
        Ok(()) => Error::Internal,
    }
}

impl Summary {
    const fn of(received: usize) -> Self {
        Self { status: "success", received, processed: 0, duplicates: 0, failed: 0, errors: Vec::new() }
    }

    fn fail(&mut self, index: usize, faults: Vec<Fault>) {
        self.failed += 1;
        self.errors.extend(faults.into_iter().map(|fault| MemberFault { index, fault }));
    }

    /// Counts what became of one event, and gives what was accepted.
    ///
    /// # Errors
    /// When it is not known or not so yet: the whole request is to be repeated, which finds what was taken as duplicates.
    fn count(&mut self, core: &Core, outcome: Result<Outcome, Refusal>) -> Result<Option<Outcome>, Error> {
        match outcome {
            Ok(outcome) => {
                self.processed += 1;
                Ok(Some(outcome))
            }
            Err(Refusal::Known { .. }) => {
                self.duplicates += 1;
                Ok(None)
            }
            Err(refusal) => Err(Error::from_refusal(refusal, |position| intake::event_id(core, position))),
        }
    }

    /// The answer; it names the event if `accepted` is the only one.
    fn answer(self, core: &Arc<Core>, accepted: Option<Outcome>) -> HttpResponse {
        let mut response = answer::json(StatusCode::OK, &self);
        if let Some(Outcome { position, sequence, .. }) = accepted.filter(|_| self.processed == 1) {
            intake::write_event(&mut response, intake::event_id(core, position), sequence);
        }
        response
    }
}
