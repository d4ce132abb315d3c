//! One request with all that a handler needs, and the shell around every handler:
//!
//! ```text
//! begin (id, span) ─> admit (the admin's token) ─> handler ─> end (log line, call log, limit, id)
//! ```

use actix_web::dev::Payload;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse, Route};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::call::IncomingCall;
use super::error::Error;
use super::query::QueryParameters;
use super::sliding_window::RateQuota;
use super::source::CallSource;
use super::state::Edge;
use super::{admin, body};

/// A request that is being handled.
pub(super) struct RequestContext {
    pub(super) request: HttpRequest,
    /// The part of the body that was not read yet.
    pub(super) payload: Payload,
    pub(super) edge: Data<Edge>,
    pub(super) call: IncomingCall,
    /// Rest of the caller's limit, once the caller is known.
    pub(super) quota: Option<RateQuota>,
}

/// Checks that a request passes before its handler runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admission {
    /// None: the handler knows how callers of this source prove who they are.
    ByHandler(CallSource),
    /// The admin's token.
    Admin,
    /// The declared size of the body, then the admin's token.
    AdminWithBody,
}

impl Admission {
    pub(super) const fn source(self) -> CallSource {
        match self {
            Self::ByHandler(source) => source,
            Self::Admin | Self::AdminWithBody => CallSource::Admin,
        }
    }
}

/// The route to `handler` behind `admission`.
pub(super) fn route<H>(admission: Admission, handler: H) -> Route
where
    H: AsyncFn(&mut RequestContext) -> Result<HttpResponse, Error> + Clone + 'static,
{
    web::route().to(
        move |request: HttpRequest, payload: web::Payload, edge: Data<Edge>| {
            let handler = handler.clone();
            async move {
                let mut context =
                    RequestContext::begin(request, payload.into_inner(), edge, admission.source());
                let result = match context.admit(admission) {
                    Ok(()) => handler(&mut context).await,
                    Err(error) => Err(error),
                };
                context.end(result)
            }
        },
    )
}

impl RequestContext {
    fn begin(request: HttpRequest, payload: Payload, edge: Data<Edge>, source: CallSource) -> Self {
        let call = IncomingCall::begin(&request, source);
        if let CallSource::Configured { index, .. } = source {
            // Whatever comes of the call, a header that may hold a secret stays out of the log.
            edge.configured[index]
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

    fn admit(&self, admission: Admission) -> Result<(), Error> {
        match admission {
            Admission::ByHandler(_) => Ok(()),
            Admission::Admin => admin::authorize(&self.request, &self.edge),
            Admission::AdminWithBody => {
                body::check_declared_length(&self.request, self.edge.body_limits())?;
                admin::authorize(&self.request, &self.edge)
            }
        }
    }

    fn end(self, result: Result<HttpResponse, Error>) -> HttpResponse {
        let Self {
            request,
            payload,
            edge,
            call,
            quota,
        } = self;
        call.end(&request, payload, &edge, result, quota)
    }

    /// The whole body.
    ///
    /// # Errors
    /// Those of [`body::read`].
    pub(super) async fn read_body(&mut self) -> Result<Bytes, Error> {
        body::read_body(&self.request, &mut self.payload, self.edge.body_limits()).await
    }

    /// The whole body, which is JSON unless it is empty.
    ///
    /// # Errors
    /// Those of [`body::read`], or [`Error::UnsupportedMediaType`].
    pub(super) async fn read_json(&mut self) -> Result<Bytes, Error> {
        let body = self.read_body().await?;
        if !body.is_empty() {
            body::check_json_content_type(self.request.headers())?;
        }
        Ok(body)
    }

    /// The variable parts of the path, decoded: one text, or a tuple of texts in their order.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the path has other parts than `T`.
    pub(super) fn parse_path<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.request
            .match_info()
            .load()
            .map_err(|_| Error::nothing_here())
    }

    /// The query's parameters, which may be `known`.
    pub(super) fn parameters(&self, known: &[&'static str]) -> QueryParameters {
        QueryParameters::parse(self.request.query_string(), known)
    }

    /// Refuses a query that has any parameter.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming each of them.
    pub(super) fn refuse_parameters(&self) -> Result<(), Error> {
        self.parameters(&[]).finish(())
    }

    /// Counts a failed authentication of the caller: gives `error`, unless the caller failed too
    /// often.
    pub(super) fn count_failure(&self, error: Error) -> Error {
        self.edge.count_failure(&self.request, error)
    }
}
