//! Contact2Sale contract: handler of `POST /api/v1/webhooks/c2s`, for one event or a list, with its
//! checks in order, and the answers.
//!
//! ```text
//! size ─> address ─> token ─> rate limit ─> JSON ─> each event, as below ─> 200
//!  413      403       401        429       415, 400
//!
//!            fields ─> lead's token bucket ─> duplicate ─> stored
//!             400             429              counted       503
//! ```
//!
//! The events of a list are independent: `errors` names each invalid event, and the valid ones are
//! accepted. Only a list without any valid event is refused as a whole, like a single invalid
//! event. The lead remembers the instants that it has applied, so a duplicate is recognised without
//! a time limit.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use tracing::Span;
use utoipa::ToSchema;

use super::call::IncomingCall;
use super::context::RequestContext;
use super::error::ApiError;
use super::field_error::FieldError;
use super::gate::NodeCore;
use super::proof_headers::RequestOrigin;
use super::state::Edge;
use super::{answer, body, client_address, submit};
use crate::entity::CommandOutcome;
use crate::router::Refusal;
use source::lead_fingerprint;

mod decode;
mod lead_buckets;
pub(super) mod source;
pub(super) mod spec;

pub use crate::entity::c2s_lead::SOURCE;
pub use decode::{BATCH_MAX, C2sEvent, C2sRequest, decode_c2s_request};

/// Answer to one request: how many of its events were applied.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = C2sReceipt)]
struct C2sSummary {
    status: &'static str,
    received: usize,
    processed: usize,
    duplicates: usize,
    failed: usize,
    errors: Vec<IndexedFieldError>,
}

/// Field error of one event of a list.
#[derive(Debug, Serialize, ToSchema)]
struct IndexedFieldError {
    index: usize,
    #[serde(flatten)]
    fault: FieldError,
}

/// Receives one event or a list of events.
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

    // Refuse strangers before reading the body: an unauthenticated request must not cost memory.
    body::check_declared_length(request, edge.body_limits())?;
    if !c2s.is_allowed_address(client) {
        return Err(ApiError::Forbidden);
    }
    c2s.check_token(request.headers())
        .map_err(|error| edge.count_auth_failure(request, error))?;
    edge.note_proof(request);
    let admitted = c2s.client_limiter.admit(
        client_address::client_network(client),
        edge.clock.monotonic(),
    );
    *quota = admitted.map_err(ApiError::RateLimited)?;

    let body = edge.read_body(request, payload, edge.body_limits()).await?;
    let body = body::strip_byte_order_mark(body);
    body::check_json_content_type(request.headers())?;
    edge.check_nesting(&body)?;
    let origin = RequestOrigin::read(request.headers());
    match decode_c2s_request(&body)? {
        C2sRequest::Single(event) => {
            let event = event.map_err(ApiError::InvalidFields)?;
            submit_single_event(event, origin, edge, call.span()).await
        }
        C2sRequest::Batch(events) => submit_batch(events, origin, edge, call).await,
    }
}

async fn submit_single_event(
    event: C2sEvent,
    origin: RequestOrigin,
    edge: &Edge,
    span: &Span,
) -> Result<HttpResponse, ApiError> {
    let (core, c2s) = (edge.core()?, edge.c2s());
    let lead = lead_fingerprint(&event);
    let token = c2s.lead_buckets.take_token(lead, edge.clock.monotonic());
    token.map_err(ApiError::RateLimited)?;

    let command = c2s.receive_command(event, origin, span);
    let outcome = core.router.submit_command(command).await;
    // Only an applied event uses up a token of its lead.
    if outcome.is_err() {
        let now = edge.clock.monotonic();
        c2s.lead_buckets.return_token(lead, now);
    }

    let mut summary = C2sSummary::new(1);
    let accepted = summary.count_outcome(&core, outcome)?;
    Ok(summary.into_response(&core, accepted))
}

async fn submit_batch(
    events: Vec<Result<C2sEvent, Vec<FieldError>>>,
    origin: RequestOrigin,
    edge: &Edge,
    call: &IncomingCall,
) -> Result<HttpResponse, ApiError> {
    if events.iter().all(Result::is_err) {
        return Err(no_valid_event_error(events));
    }

    let (core, c2s) = (edge.core()?, edge.c2s());
    let mut summary = C2sSummary::new(events.len());
    let mut waiting = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        match event {
            Ok(event) => waiting.push((index, event)),
            Err(faults) => summary.add_failure(index, faults),
        }
    }

    let mut accepted = None;
    // Each pass submits the events whose leads have tokens, and duplicates return their tokens. So
    // a list that is longer than a bucket is completed when it is sent again. The loop ends with a
    // pass that submits nothing.
    loop {
        let pass = c2s.take_tokens(waiting, &*edge.clock);
        let commands = pass
            .admitted
            .into_iter()
            .map(|event| c2s.receive_command(event, origin, call.span()))
            .collect();
        let outcomes = core.router.submit_batch(commands).await;

        let applied = outcomes.iter().flatten();
        call.note_events(applied.map(|outcome| submit::public_event_id(&core, outcome.position)));
        for (lead, outcome) in pass.leads.iter().zip(&outcomes) {
            if outcome.is_err() {
                let now = edge.clock.monotonic();
                c2s.lead_buckets.return_token(*lead, now);
            }
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
        summary.add_failure(index, c2s.no_token_error());
    }
    summary.errors.sort_by_key(|error| error.index);
    Ok(summary.into_response(&core, accepted))
}

/// Returns the refusal of a list without any valid event; each field error has the event's index.
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

    /// Counts the outcome of one event, and returns it if the event was applied.
    ///
    /// # Errors
    /// The error of the whole request if the outcome is unknown or the node is overloaded. The
    /// sender repeats the request, and the events that were applied then count as duplicates.
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

    /// Builds the answer; its headers name `accepted` if that is the only applied event.
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
