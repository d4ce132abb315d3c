//! The C2S contract: `POST /api/v1/webhooks/c2s`, one event or a list of them, its checks in their
//! order, and its answers.
//!
//! ```text
//! size ─> address ─> token ─> rate limit ─> JSON ─> each event: fields ─> lead's bucket ─> duplicate ─> stored ─> 200
//!  413      403       401        429       415, 400              400          429          counted       503
//! ```
//!
//! In a list each event stands by itself: what is wrong with one is said in `errors`, and the
//! others are taken. Only a list of which no event is valid is refused as a whole, like a single
//! event. A duplicate is known by its lead, which remembers the instants that it has applied, so it
//! is one for ever.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use tracing::Span;

use super::call::IncomingCall;
use super::context::RequestContext;
use super::error::ApiError;
use super::field_error::FieldError;
use super::gate::NodeCore;
use super::state::Edge;
use super::{answer, body, client_address, submit};
use crate::entity::CommandOutcome;
use crate::router::Refusal;
use callers::lead_fingerprint;

pub(super) mod callers;
mod decode;
mod lead_buckets;
pub(super) mod spec;

pub use crate::entity::c2s_lead::SOURCE;
pub use decode::{BATCH_MAX, C2sEvent, C2sRequest, decode_c2s_request};

/// What became of the events of one request.
#[derive(Debug, Serialize)]
struct C2sSummary {
    status: &'static str,
    received: usize,
    processed: usize,
    duplicates: usize,
    failed: usize,
    errors: Vec<IndexedFieldError>,
}

/// What is wrong with one event of a list.
#[derive(Debug, Serialize)]
struct IndexedFieldError {
    index: usize,
    #[serde(flatten)]
    fault: FieldError,
}

/// Takes events in.
pub(super) async fn receive(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let RequestContext {
        request,
        payload,
        edge,
        call,
        quota,
    } = context;
    let c2s = edge.c2s();
    let client = edge.client_address(request);
    body::check_declared_length(request, edge.body_limits())?;
    if !c2s.is_allowed_address(client) {
        return Err(ApiError::Forbidden);
    }
    if !c2s.has_valid_token(request.headers()) {
        return Err(edge.count_auth_failure(request, ApiError::InvalidToken));
    }
    let admitted = c2s.callers.admit(
        client_address::client_network(client),
        edge.clock.monotonic(),
    );
    *quota = admitted.map_err(ApiError::RateLimited)?;
    let body = body::read_body(request, payload, edge.body_limits()).await?;
    body::check_json_content_type(request.headers())?;
    match decode_c2s_request(&body)? {
        C2sRequest::Single(event) => {
            submit_single_event(event.map_err(ApiError::InvalidFields)?, edge, call.span()).await
        }
        C2sRequest::Batch(events) => submit_batch(events, edge, call).await,
    }
}

async fn submit_single_event(
    event: C2sEvent,
    edge: &Edge,
    span: &Span,
) -> Result<HttpResponse, ApiError> {
    let core = edge.core()?;
    let lead = lead_fingerprint(&event);
    edge.c2s()
        .leads
        .take_token(lead, edge.clock.monotonic())
        .map_err(ApiError::RateLimited)?;
    let outcome = core
        .router
        .submit_command(edge.c2s().receive_command(event, span))
        .await;
    if outcome.is_err() {
        edge.c2s().leads.return_token(lead, edge.clock.monotonic());
    }
    let mut summary = C2sSummary::new(1);
    let accepted = summary.count_outcome(&core, outcome)?;
    Ok(summary.into_response(&core, accepted))
}

async fn submit_batch(
    events: Vec<Result<C2sEvent, Vec<FieldError>>>,
    edge: &Edge,
    call: &IncomingCall,
) -> Result<HttpResponse, ApiError> {
    if events.iter().all(Result::is_err) {
        return Err(no_valid_event_error(events));
    }
    let core = edge.core()?;
    let mut summary = C2sSummary::new(events.len());
    let mut waiting = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        match event {
            Ok(event) => waiting.push((index, event)),
            Err(faults) => summary.add_failure(index, faults),
        }
    }
    let mut accepted = None;
    // Duplicates give their tokens back, so that a list that is longer than a bucket is completed
    // by sending it again: each pass takes what these tokens allow, until one takes nothing.
    loop {
        let pass = edge.c2s().take_tokens(waiting, &*edge.clock);
        let commands = pass
            .taken
            .into_iter()
            .map(|event| edge.c2s().receive_command(event, call.span()))
            .collect();
        let outcomes = core.router.submit_batch(commands).await;
        call.note_events(
            outcomes
                .iter()
                .flatten()
                .map(|outcome| submit::public_event_id(&core, outcome.position)),
        );
        for (lead, _) in pass
            .leads
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| outcome.is_err())
        {
            edge.c2s().leads.return_token(*lead, edge.clock.monotonic());
        }
        for outcome in outcomes {
            accepted = summary.count_outcome(&core, outcome)?.or(accepted);
        }
        waiting = pass.refused;
        if waiting.is_empty() || pass.leads.is_empty() {
            break;
        }
    }
    for (index, _) in waiting {
        summary.add_failure(index, edge.c2s().no_token_error());
    }
    summary.errors.sort_by_key(|fault| fault.index);
    Ok(summary.into_response(&core, accepted))
}

/// The refusal of a list without any valid event, with the place of each fault in it.
fn no_valid_event_error(events: Vec<Result<C2sEvent, Vec<FieldError>>>) -> ApiError {
    let mut faults = super::fields::FieldErrors::default();
    for (index, fault) in events.into_iter().enumerate().flat_map(|(index, event)| {
        let of_event = event.err().unwrap_or_default();
        of_event.into_iter().map(move |fault| (index, fault))
    }) {
        let problem = fault
            .detail
            .strip_prefix(&*fault.field)
            .unwrap_or(&fault.detail)
            .trim_start();
        faults.add(format!("[{index}].{}", fault.field), problem);
    }
    match faults.finish(()) {
        Err(error) => error,
        Ok(()) => ApiError::Internal,
    }
}

impl C2sSummary {
    const fn new(received: usize) -> Self {
        Self {
            status: "success",
            received,
            processed: 0,
            duplicates: 0,
            failed: 0,
            errors: Vec::new(),
        }
    }

    fn add_failure(&mut self, index: usize, faults: Vec<FieldError>) {
        self.failed += 1;
        self.errors.extend(
            faults
                .into_iter()
                .map(|fault| IndexedFieldError { index, fault }),
        );
    }

    /// Counts what became of one event, and gives what was accepted.
    ///
    /// # Errors
    /// When it is not known or not so yet: the whole request is to be repeated, which finds what
    /// was taken as duplicates.
    fn count_outcome(
        &mut self,
        core: &NodeCore,
        outcome: Result<CommandOutcome, Refusal>,
    ) -> Result<Option<CommandOutcome>, ApiError> {
        match outcome {
            Ok(outcome) => {
                self.processed += 1;
                Ok(Some(outcome))
            }
            Err(Refusal::AlreadyApplied { .. }) => {
                self.duplicates += 1;
                Ok(None)
            }
            Err(refusal) => Err(ApiError::from_refusal(refusal, |position| {
                submit::public_event_id(core, position)
            })),
        }
    }

    /// The answer; it names the event if `accepted` is the only one.
    fn into_response(self, core: &Arc<NodeCore>, accepted: Option<CommandOutcome>) -> HttpResponse {
        let mut response = answer::json_response(StatusCode::OK, &self);
        if let Some(CommandOutcome {
            position, sequence, ..
        }) = accepted.filter(|_| self.processed == 1)
        {
            submit::set_event_headers(
                &mut response,
                submit::public_event_id(core, position),
                sequence,
            );
        }
        response
    }
}
