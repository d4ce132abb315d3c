//! Context of one request, and the shell around every handler:
//!
//! ```text
//! begin (id, span) ─> check_caller (token, role) ─> handler ─> audit entry
//!                                                              ─> end (log line, call log, headers)
//! ```

use actix_web::dev::Payload;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse, Route};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::call::IncomingCall;
use super::error::ApiError;
use super::query::QueryParameters;
use super::server_stream::TlsConnection;
use super::sliding_window::RateQuota;
use super::source::CallSource;
use super::state::Edge;
use super::{access, audit_trail, body, browser_guard, request_forwarder};
use crate::token::AccessOperation;

/// Request that is being handled, with the state that its handler needs.
pub(super) struct RequestContext {
    pub(super) request: HttpRequest,
    /// Unread rest of the body.
    pub(super) payload: Payload,
    pub(super) edge: Data<Edge>,
    pub(super) call: IncomingCall,
    /// Rest of the caller's limit, once the caller is known.
    pub(super) quota: Option<RateQuota>,
}

/// Check of the caller that a request passes before its handler runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallerCheck {
    /// No check here: the handler knows how callers of this source authenticate.
    ByHandler(CallSource),
    /// Bearer token whose role may do the operation.
    Token(CallSource, AccessOperation),
    /// Declared length of the body, then a bearer token whose role may do the operation.
    TokenWithBody(CallSource, AccessOperation),
}

impl CallerCheck {
    pub(super) const fn source(self) -> CallSource {
        match self {
            Self::ByHandler(source) | Self::Token(source, _) | Self::TokenWithBody(source, _) => {
                source
            }
        }
    }

    /// Operation that the token must permit; `None` if the handler checks the caller.
    pub(super) const fn operation(self) -> Option<AccessOperation> {
        match self {
            Self::ByHandler(_) => None,
            Self::Token(_, operation) | Self::TokenWithBody(_, operation) => Some(operation),
        }
    }
}

/// Builds the route to `handler` behind `caller_check`.
pub(super) fn route<H>(caller_check: CallerCheck, handler: H) -> Route
where
    H: AsyncFn(&mut RequestContext) -> Result<HttpResponse, ApiError> + Clone + 'static,
{
    web::route().to(
        move |request: HttpRequest, payload: web::Payload, edge: Data<Edge>| {
            let handler = handler.clone();
            async move {
                let mut context = RequestContext::begin(
                    request,
                    payload.into_inner(),
                    edge,
                    caller_check.source(),
                );
                let result = match context.check_caller(caller_check) {
                    Ok(()) => handler(&mut context).await,
                    Err(error) => Err(error),
                };
                let RequestContext {
                    request,
                    edge,
                    call,
                    ..
                } = &context;
                let result = audit_trail::record_call(request, edge, call, result).await;
                context.end(result)
            }
        },
    )
}

impl RequestContext {
    fn begin(request: HttpRequest, payload: Payload, edge: Data<Edge>, source: CallSource) -> Self {
        let call = IncomingCall::begin(&request, source);
        if let CallSource::Configured { index, .. } = source {
            // Set before any check, so that a refused call does not log the secret either.
            edge.configured_sources[index]
                .redacted_header
                .iter()
                .for_each(|name| call.redact_header(name.clone()));
        }
        Self {
            request,
            payload,
            edge,
            call,
            quota: None,
        }
    }

    fn check_caller(&self, caller_check: CallerCheck) -> Result<(), ApiError> {
        let server = &self.edge.config.server;
        if server.is_development {
            browser_guard::refuse_foreign_host(&self.request, server.public_url.as_deref())?;
        }
        self.check_client_certificate(caller_check.source())?;
        let Some(operation) = caller_check.operation() else {
            return Ok(());
        };
        self.call.note_operation(operation);
        if matches!(caller_check, CallerCheck::TokenWithBody(..)) {
            body::check_declared_length(&self.request, self.edge.body_limits())?;
        }
        self.authorize(operation)?;
        self.edge.note_proof(&self.request);
        Ok(())
    }

    /// Checks that the connection has shown a certificate if `source` asks for one. The handshake has
    /// verified it.
    fn check_client_certificate(&self, source: CallSource) -> Result<(), ApiError> {
        if !source.is_logged() {
            return Ok(());
        }
        let subject = match request_forwarder::forwarded_origin(&self.request) {
            Some(origin) => origin.certificate,
            None => {
                let tls = self.request.conn_data::<TlsConnection>();
                tls.and_then(|tls| tls.client.clone())
            }
        };
        if let Some(subject) = subject {
            self.call.note_client_certificate(subject);
            return Ok(());
        }
        match self.edge.config.sources.certified.contains(source.as_str()) {
            true => Err(self.count_auth_failure(ApiError::ClientCertificateMissing)),
            false => Ok(()),
        }
    }

    /// Checks that the request carries a token whose role may do `operation`.
    ///
    /// # Errors
    /// As for [`access::authenticate`], and [`ApiError::RoleMissing`].
    pub(super) fn authorize(&self, operation: AccessOperation) -> Result<(), ApiError> {
        let caller = access::authenticate(&self.request, &self.edge)?;
        self.call.note_caller(caller.clone());
        caller.check_role(operation)
    }

    fn end(self, result: Result<HttpResponse, ApiError>) -> HttpResponse {
        let Self {
            request,
            payload,
            edge,
            call,
            quota,
        } = self;
        call.end(&request, payload, &edge, result, quota)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// As for [`body::read_body`].
    pub(super) async fn read_body(&mut self) -> Result<Bytes, ApiError> {
        let limits = self.edge.body_limits();
        let (request, payload) = (&self.request, &mut self.payload);
        self.edge.read_body(request, payload, limits).await
    }

    /// Reads the whole body, which is JSON unless it is empty.
    ///
    /// # Errors
    /// As for [`body::read_body`], and [`ApiError::UnsupportedMediaType`].
    pub(super) async fn read_json(&mut self) -> Result<Bytes, ApiError> {
        let body = self.read_body().await?;
        if !body.is_empty() {
            body::check_json_content_type(self.request.headers())?;
        }
        Ok(body)
    }

    /// Decodes the variable parts of the path: one text, or a tuple of texts in their order.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] if the parts do not fit `T`.
    pub(super) fn parse_path<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.request
            .match_info()
            .load()
            .map_err(|_| ApiError::nothing_here())
    }

    /// Reads the parameters of the query; others than `known` become errors.
    pub(super) fn parameters(&self, known: &[&'static str]) -> QueryParameters {
        QueryParameters::parse(self.request.query_string(), known)
    }

    /// Refuses a query that has any parameter.
    ///
    /// # Errors
    /// [`ApiError::InvalidFields`] with every parameter.
    pub(super) fn refuse_parameters(&self) -> Result<(), ApiError> {
        self.parameters(&[]).finish(())
    }

    /// Counts a failed authentication against the caller. Returns `error`, or
    /// [`ApiError::TooManyFailures`] once the caller has failed too often.
    pub(super) fn count_auth_failure(&self, error: ApiError) -> ApiError {
        self.edge.count_auth_failure(&self.request, error)
    }
}
