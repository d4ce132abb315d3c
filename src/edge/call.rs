//! One incoming call from begin to end: its request id, its span, its log line, and its row in the
//! call log.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use tracing::Span;

use super::answer::{self, EVENT_ID, REQUEST_ID};
use super::caller::CallerIdentity;
use super::client_address::client_network;
use super::error::ApiError;
use super::proof_headers::RequestOrigin;
use super::sliding_window::RateQuota;
use super::source::CallSource;
use super::state::Edge;
use super::{body, undrained};
use crate::call_log::{CallDirection, CallEntry, EVENT_IDS_MAX, REDACTED};
use crate::event::EventId;
use crate::token::AccessOperation;
use crate::traces::AcceptedCall;

/// Longest `X-Request-Id` that is taken over from a sender.
const REQUEST_ID_MAX_BYTES: usize = 128;

/// Length from which a row of the call log takes no further warning.
const WARNING_BYTES_MAX: usize = 1_024;

/// A request that is being handled.
#[derive(Debug)]
pub(super) struct IncomingCall {
    id: HeaderValue,
    span: Span,
    source: CallSource,
    /// Start of the call on the edge's monotonic clock.
    began: Option<Duration>,
    event_ids: RefCell<Vec<EventId>>,
    warning: RefCell<Option<String>>,
    is_unproven: Cell<bool>,
    is_left_out: Cell<bool>,
    has_empty_refusals: Cell<bool>,
    redacted_headers: RefCell<Vec<HeaderName>>,
    operation: Cell<Option<AccessOperation>>,
    caller: RefCell<Option<CallerIdentity>>,
    /// Subject of the verified certificate of the client.
    client_certificate: RefCell<Option<Arc<str>>>,
    object: RefCell<Option<String>>,
    outcome: Cell<Option<&'static str>>,
}

impl IncomingCall {
    /// Begins the call for `source`, under the sender's `X-Request-Id` if that is valid, otherwise
    /// under a new id.
    #[must_use]
    pub(super) fn begin(request: &HttpRequest, source: CallSource) -> Self {
        let sent_id = request
            .headers()
            .get(REQUEST_ID)
            .filter(|id| is_valid_request_id(id.as_bytes()));
        let id = sent_id.cloned().unwrap_or_else(new_request_id);
        // At the level of every operator a span would cost each event more than its lines are worth: the
        // one line of a refusal has the same fields.
        let span = tracing::debug_span!(
            "request",
            request_id = id.to_str().unwrap_or_default(),
            source = source.as_str(),
            token = tracing::field::Empty
        );
        let began = request
            .app_data::<Data<Edge>>()
            .map(|edge| edge.clock.monotonic());
        Self {
            id,
            span,
            source,
            began,
            event_ids: RefCell::default(),
            warning: RefCell::default(),
            is_unproven: Cell::default(),
            is_left_out: Cell::default(),
            has_empty_refusals: Cell::default(),
            redacted_headers: RefCell::default(),
            operation: Cell::default(),
            caller: RefCell::default(),
            client_certificate: RefCell::default(),
            object: RefCell::default(),
            outcome: Cell::default(),
        }
    }

    /// Records the events made of this call for the call log. The event in the answer's
    /// `X-Event-Id` is recorded by [`IncomingCall::end`].
    pub(super) fn note_events(&self, events: impl IntoIterator<Item = EventId>) {
        let mut recorded = self.event_ids.borrow_mut();
        for event in events {
            if recorded.len() == EVENT_IDS_MAX {
                break;
            }
            if !recorded.contains(&event) {
                recorded.push(event);
            }
        }
    }

    /// Records what was missing in an accepted event, or the cause of a refusal, for the call log. Those
    /// of the first event are kept, and each new sentence up to a bound: an event shows all of its own.
    pub(super) fn note_warnings(&self, warnings: &[String]) {
        let mut recorded = self.warning.borrow_mut();
        for warning in warnings {
            match recorded.as_mut() {
                None => *recorded = Some(warning.clone()),
                Some(text) if text.len() < WARNING_BYTES_MAX && !text.contains(warning) => {
                    text.push_str(". ");
                    text.push_str(warning);
                }
                Some(_) => {}
            }
        }
    }

    /// Records that the call is answered without any proof of its sender, so that its row does not
    /// push out those of proven calls.
    pub(super) fn note_unproven(&self) {
        self.is_unproven.set(true);
    }

    /// Leaves the call out of the call log, so that strangers do not fill it by asking what an address
    /// is.
    pub(super) fn leave_out(&self) {
        self.is_left_out.set(true);
    }

    /// Answers a refusal without a body, for a sender that takes none. The call log has its code.
    pub(super) fn empty_refusals(&self) {
        self.has_empty_refusals.set(true);
    }

    /// Keeps the value of the header `name` out of the call log, for a secret that the log would
    /// not recognise by the header's name.
    pub(super) fn redact_header(&self, name: HeaderName) {
        self.redacted_headers.borrow_mut().push(name);
    }

    /// Records the operation that the call asks for, for the audit log.
    pub(super) fn note_operation(&self, operation: AccessOperation) {
        self.operation.set(Some(operation));
    }

    /// Records the caller, whose token was valid, for all logs.
    pub(super) fn note_caller(&self, caller: CallerIdentity) {
        self.span.record("token", &*caller.name);
        *self.caller.borrow_mut() = Some(caller);
    }

    /// Records the `subject` of the client's certificate, which was verified, for all logs.
    pub(super) fn note_client_certificate(&self, subject: Arc<str>) {
        self.span.record("token", &*subject);
        *self.client_certificate.borrow_mut() = Some(subject);
    }

    /// Records the id of an object that the path does not name, such as a new one, for the audit log.
    pub(super) fn note_object(&self, object: impl ToString) {
        *self.object.borrow_mut() = Some(object.to_string());
    }

    /// Records the outcome of a call whose answer does not tell it, such as a page that shows an error,
    /// for the audit log.
    pub(super) fn note_outcome(&self, outcome: &'static str) {
        self.outcome.set(Some(outcome));
    }

    pub(super) fn operation(&self) -> Option<AccessOperation> {
        self.operation.get()
    }

    pub(super) fn caller(&self) -> Option<CallerIdentity> {
        self.caller.borrow().clone()
    }

    pub(super) fn object(&self) -> Option<String> {
        self.object.borrow().clone()
    }

    pub(super) fn outcome(&self) -> Option<&'static str> {
        self.outcome.get()
    }

    pub(super) const fn source(&self) -> CallSource {
        self.source
    }

    pub(super) fn request_id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    #[must_use]
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Ends the call: writes its log line and its row in the call log, and sets the headers of the
    /// answer. `payload` is the unread rest of the body. `quota` is the rest of the caller's limit;
    /// an answer 429 carries its own.
    #[must_use]
    pub(super) fn end(
        self,
        request: &HttpRequest,
        payload: Payload,
        edge: &Edge,
        result: Result<HttpResponse, ApiError>,
        quota: Option<RateQuota>,
    ) -> HttpResponse {
        let is_limited = matches!(
            result,
            Err(ApiError::RateLimited(_) | ApiError::TooManyFailures(_))
        );
        let quota = quota.filter(|_| !is_limited);
        let code = result.as_ref().err().map(ApiError::code);
        self.count_call(edge, code);

        let mut response = match result {
            Ok(response) => {
                tracing::debug!(parent: &self.span, status = response.status().as_u16(), "request answered");
                response
            }
            Err(error) => {
                self.log_refusal(request, edge, error.code());
                let response = HttpResponse::from_error(error);
                match self.has_empty_refusals.get() {
                    true => remove_body(response),
                    false => response,
                }
            }
        };

        if self.is_logged() {
            self.note_events(answered_event_id(&response));
            if code.is_none() && edge.traces.is_on() {
                self.report_span(request, edge, response.status().as_u16());
            }
            response = self.append_to_call_log(request, edge, code, response);
        }

        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, self.id);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(quota) = quota {
            answer::set_quota_headers(headers, &quota);
        }
        undrained::hold_undrained(request, payload, response)
    }

    /// Writes the line of a refused call, unless its cause has had enough lines.
    fn log_refusal(&self, request: &HttpRequest, edge: &Edge, code: &'static str) {
        let client = edge.client_address(request);
        let (network, now) = (client_network(client), edge.clock.monotonic());
        let Some(left_out) = edge.refusal_lines.admit(code, network, now) else {
            return;
        };
        let (cause, caller) = (self.warning.borrow(), self.caller.borrow());
        let certificate = self.client_certificate.borrow();
        tracing::info!(
            parent: None,
            request_id = self.request_id(),
            source = self.source.as_str(),
            token = logged_caller(caller.as_ref(), certificate.as_deref()),
            code,
            cause = cause.as_deref(),
            %client,
            left_out,
            "request refused"
        );
    }

    /// Counts the call of a sender, and the time of an accepted one.
    fn count_call(&self, edge: &Edge, code: Option<&'static str>) {
        match code {
            _ if !self.is_logged() => {}
            Some(code) => edge.metrics.count_refused_call(self.source.as_str(), code),
            None => edge
                .metrics
                .accept_seconds()
                .observe(self.duration(edge).as_secs_f64()),
        }
    }

    /// Reports the span of an accepted call, without waiting for anybody.
    fn report_span(&self, request: &HttpRequest, edge: &Edge, status: u16) {
        let duration = self.duration(edge);
        edge.traces.record_accept(&AcceptedCall {
            source: self.source.as_str(),
            events: &self.event_ids.borrow(),
            sent: RequestOrigin::read(request.headers()).trace,
            status,
            began_at: edge.clock.wall().saturating_sub(duration),
            duration,
        });
    }

    fn is_logged(&self) -> bool {
        self.source.is_logged() && !self.is_left_out.get()
    }

    fn duration(&self, edge: &Edge) -> Duration {
        self.began.map_or(Duration::ZERO, |began| {
            edge.clock.monotonic().saturating_sub(began)
        })
    }

    /// Adds the row of this call to the call log, unless no store is open.
    fn append_to_call_log(
        &self,
        request: &HttpRequest,
        edge: &Edge,
        code: Option<&'static str>,
        response: HttpResponse,
    ) -> HttpResponse {
        let Some(core) = edge.gate.current() else {
            return response;
        };

        let mut answer = None;
        let answer_bytes = match response.body().size() {
            BodySize::None => Some(0),
            BodySize::Sized(size) => Some(size),
            BodySize::Stream => None,
        };
        let response = response.map_body(|_, body| match body.try_into_bytes() {
            Ok(bytes) => {
                answer = Some(bytes.clone());
                BoxBody::new(bytes)
            }
            Err(body) => body,
        });

        let duration = self.duration(edge);
        let warning = self.warning.borrow();
        let caller = self.caller.borrow();
        let client_certificate = self.client_certificate.borrow();
        let entry = CallEntry {
            at: edge.clock.wall().saturating_sub(duration),
            direction: CallDirection::Incoming,
            source: self.source.as_str(),
            method: request.method().as_str(),
            path: request.path(),
            status: Some(response.status().as_u16()),
            code,
            duration,
            client: Some(edge.client_address(request)),
            event_ids: &self.event_ids.borrow(),
            body_bytes: body::declared_length(request),
            answer: answer
                .as_ref()
                .filter(|_| is_json(&response))
                .map(Bytes::as_ref),
            answer_bytes,
            attempt: None,
            event_type: None,
            next_attempt_at: None,
            warning: warning.as_deref(),
            token: logged_caller(caller.as_ref(), client_certificate.as_deref()),
        };

        let redacted = self.redacted_headers.borrow();
        let headers = logged_headers(request, &redacted);
        match self.is_unproven.get() {
            true => core.call_log.append_unproven(&entry, headers),
            false => core.call_log.append(&entry, headers),
        }
        response
    }
}

/// Name under which the logs have a proven caller.
fn logged_caller<'c>(
    caller: Option<&'c CallerIdentity>,
    certificate: Option<&'c str>,
) -> Option<&'c str> {
    caller.map(|caller| &*caller.name).or(certificate)
}

/// Returns `response` with its status and headers, and without a body.
fn remove_body(response: HttpResponse) -> HttpResponse {
    let mut empty = response.map_body(|_, _| BoxBody::new(()));
    empty.headers_mut().remove(CONTENT_TYPE);
    empty
}

/// Headers of `request` for the call log, with the values of the `redacted` headers masked.
fn logged_headers<'r>(
    request: &'r HttpRequest,
    redacted: &'r [HeaderName],
) -> impl Iterator<Item = (&'r str, &'r [u8])> {
    request.headers().iter().map(|(name, value)| {
        let value = if redacted.contains(name) {
            REDACTED.as_bytes()
        } else {
            value.as_bytes()
        };
        (name.as_str(), value)
    })
}

/// Returns the event that `response` names in `X-Event-Id`.
fn answered_event_id(response: &HttpResponse) -> Option<EventId> {
    EventId::parse(response.headers().get(EVENT_ID)?.to_str().ok()?)
}

fn is_json(response: &HttpResponse) -> bool {
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    content_type.is_some_and(|name| name.starts_with(b"application/json"))
}

/// Returns true for a printable id without quotes, spaces or separators, which stays one word in
/// any log.
fn is_valid_request_id(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=REQUEST_ID_MAX_BYTES).contains(&id.len()) && id.iter().all(plain)
}

fn new_request_id() -> HeaderValue {
    let mut text = [0; 16];
    hex::encode_to_slice(next_random().to_be_bytes(), &mut text).expect("8 bytes are 16 digits");
    HeaderValue::from_bytes(&text).expect("hex digits may stand in a header")
}

thread_local! {
    static RANDOM: Cell<u64> = Cell::new(random_seed());
}

fn random_seed() -> u64 {
    let mut seed = [0; 8];
    // Request ids only tell requests apart; without randomness they still differ within a thread.
    let _ = getrandom::fill(&mut seed);
    u64::from_ne_bytes(seed)
}

/// Returns the next number of a SplitMix64 generator (Steele, Lea, Flood 2014): distinct for 2^64
/// calls, without a system call.
fn next_random() -> u64 {
    const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let state = RANDOM.get().wrapping_add(GOLDEN_GAMMA);
    RANDOM.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::edge::source::SUPPORT;
    use crate::event::{Position, StoreIncarnation};

    #[test]
    fn a_sane_id_is_taken_over_and_any_other_replaced() {
        for (sent, taken) in [
            ("req-42.a:b/c", true),
            ("with space", false),
            ("quote\"", false),
            ("", false),
        ] {
            let request = TestRequest::default()
                .insert_header((REQUEST_ID, sent))
                .to_http_request();
            let call = IncomingCall::begin(&request, CallSource::Contract(SUPPORT));
            assert_eq!(call.id == sent, taken, "{sent}");
        }
        let long = "x".repeat(REQUEST_ID_MAX_BYTES + 1);
        let request = TestRequest::default()
            .insert_header((REQUEST_ID, long))
            .to_http_request();
        assert_eq!(
            IncomingCall::begin(&request, CallSource::Contract(SUPPORT))
                .id
                .len(),
            16
        );
    }

    #[test]
    fn a_concealed_header_is_masked_for_the_log() {
        let request = TestRequest::default()
            .insert_header(("x-opens", "s3cret"))
            .insert_header(("x-else", "a"));
        let request = request.to_http_request();
        let call = IncomingCall::begin(&request, CallSource::Contract(SUPPORT));
        call.redact_header(HeaderName::from_static("x-opens"));
        let redacted = call.redacted_headers.borrow();
        let mut logged: Vec<_> = logged_headers(&request, &redacted).collect();
        logged.sort_unstable();
        assert_eq!(
            logged,
            [("x-else", &b"a"[..]), ("x-opens", REDACTED.as_bytes())]
        );
    }

    #[test]
    fn an_event_is_noted_once_and_only_so_many_are() {
        let id = |number| EventId::new(StoreIncarnation::new(7), Position::new(number));
        let call = IncomingCall::begin(
            &TestRequest::default().to_http_request(),
            CallSource::Contract(SUPPORT),
        );
        call.note_events([id(1), id(2), id(1)]);
        assert_eq!(*call.event_ids.borrow(), [id(1), id(2)]);
        call.note_events((3..5_000).map(id));
        call.note_events([id(1), id(9_999)]);
        assert_eq!(call.event_ids.borrow().len(), EVENT_IDS_MAX);
    }

    #[test]
    fn new_ids_differ() {
        assert_ne!(new_request_id(), new_request_id());
    }
}
