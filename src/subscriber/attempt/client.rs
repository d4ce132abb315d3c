//! HTTP clients that all attempts share: they limit time and bytes read, follow no redirect and use
//! no proxy.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Body, Client, Method, Request, Url, redirect};
use tokio::time::timeout;

use super::classify::{
    AttemptError, BAD_URL, BROKEN_OFF, CONNECT, DNS, REFUSED_ADDRESS, SubscriberResponse, TIMEOUT,
    TLS,
};
use super::resolver::{GuardedResolver, NameLookup, ResolveError};
use super::target_address;
use crate::config;
use crate::error_chain;

/// Bytes of a response that are read at most. Only the status matters to the delivery; the body
/// helps an operator to find the fault.
pub(super) const RESPONSE_READ_MAX_BYTES: usize = 16 * 1024;

/// Time after which an idle connection is closed: less than the 5 s after which common servers
/// (Node, Apache, Uvicorn) close theirs and would cut off a delivery under way.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Limit for connecting to one address. The default timeout of an attempt (10 s) leaves time for a
/// second address of the host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A signed request, ready to be posted.
#[derive(Debug)]
pub(super) struct DeliveryRequest {
    pub(super) url: Url,
    /// True if only public addresses may be called, as for a URL given by the API.
    pub(super) is_checked: bool,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) struct DeliveryClients {
    /// Client for URLs given by the API: its resolver drops addresses that are not public.
    checked: Client,
    /// Client for URLs of the configuration, which may lead anywhere.
    trusted: Client,
    allow_targets: Arc<[IpNet]>,
}

impl DeliveryClients {
    /// # Errors
    /// TLS cannot be set up.
    pub(super) fn try_new(
        config: &config::DeliveryConfig,
        lookup: &Arc<dyn NameLookup>,
    ) -> Result<Self, reqwest::Error> {
        let allow_targets: Arc<[IpNet]> = config.allow_targets.as_slice().into();
        let client = |allowed: Option<Arc<[IpNet]>>| {
            Client::builder()
                .dns_resolver(Arc::new(GuardedResolver::new(Arc::clone(lookup), allowed)))
                .redirect(redirect::Policy::none())
                .no_proxy()
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                // Many subscribers may share a host. With fewer idle connections than attempts,
                // each attempt would close the connection of another.
                .pool_max_idle_per_host(config.attempts_max)
                .build()
        };
        Ok(Self {
            checked: client(Some(Arc::clone(&allow_targets)))?,
            trusted: client(None)?,
            allow_targets,
        })
    }

    /// Posts `request` within `limit`, which covers connecting, sending and reading. Returns the
    /// part of the response that arrived, with an error if it is not complete.
    pub(super) async fn post_request(
        &self,
        delivery: DeliveryRequest,
        limit: Duration,
    ) -> (SubscriberResponse, Option<AttemptError>) {
        let mut response = SubscriberResponse::default();
        // An address in the URL itself is never resolved, so the resolver cannot check it.
        if delivery.is_checked
            && let Err(blocked) =
                target_address::check_literal_host(&delivery.url, &self.allow_targets)
        {
            let error = AttemptError {
                code: REFUSED_ADDRESS,
                detail: blocked.to_string(),
            };
            return (response, Some(error));
        }

        let client = if delivery.is_checked {
            &self.checked
        } else {
            &self.trusted
        };
        let mut request = Request::new(Method::POST, delivery.url);
        *request.headers_mut() = delivery.headers;
        *request.body_mut() = Some(Body::from(delivery.body));

        let mut body = Vec::new();
        let exchange = send_and_read(client, request, &mut response, &mut body);
        let error = match timeout(limit, exchange).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(to_attempt_error(&error)),
            Err(_) => Some(timeout_error(limit, &response)),
        };
        response.body = body.into();
        (response, error)
    }
}

/// Sends `request` and reads the response into `received` and `body`, at most
/// [`RESPONSE_READ_MAX_BYTES`] of the body. After an error both hold the part that arrived.
async fn send_and_read(
    client: &Client,
    request: Request,
    received: &mut SubscriberResponse,
    body: &mut Vec<u8>,
) -> Result<(), reqwest::Error> {
    let mut response = client.execute(request).await?;
    received.status = Some(response.status().as_u16());
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    received.retry_after = retry_after.map(ToOwned::to_owned);

    while let Some(piece) = response.chunk().await? {
        let room = RESPONSE_READ_MAX_BYTES - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if body.len() == RESPONSE_READ_MAX_BYTES {
            break;
        }
    }
    Ok(())
}

fn timeout_error(limit: Duration, received: &SubscriberResponse) -> AttemptError {
    let problem = if received.status.is_some() {
        "response not complete"
    } else {
        "no response"
    };
    AttemptError {
        code: TIMEOUT,
        detail: format!("{problem} within {} s", limit.as_secs_f64()),
    }
}

/// Describes the error of an attempt without a complete response. The text of the outermost error
/// is not used: it holds the URL, and the URL may hold a secret.
fn to_attempt_error(error: &reqwest::Error) -> AttemptError {
    let code = |code, detail: String| AttemptError { code, detail };
    if error.is_builder() {
        return code(BAD_URL, "invalid URL".into());
    }
    if let Some(unresolved) = find_cause::<ResolveError>(error) {
        return match unresolved {
            ResolveError::Blocked(_) => code(REFUSED_ADDRESS, unresolved.to_string()),
            ResolveError::LookupFailed(_) | ResolveError::NoAddress => {
                code(DNS, error_chain::format_error_chain(unresolved))
            }
        };
    }

    let io = find_cause::<io::Error>(error).map(innermost_io_error);
    match io {
        _ if !error.is_connect() => code(BROKEN_OFF, root_cause_text(error)),
        _ if error.is_timeout() => code(
            TIMEOUT,
            format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        ),
        // The operating system reports no connection with these kinds; a failed TLS handshake does.
        Some(io)
            if matches!(
                io.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            code(TLS, io.to_string())
        }
        Some(io) => code(CONNECT, io.to_string()),
        None => code(CONNECT, "no connection".into()),
    }
}

/// Returns the text of the innermost cause of `error`. Only the outermost error holds the URL.
fn root_cause_text(error: &reqwest::Error) -> String {
    let mut root = error.source();
    while let Some(inner) = root.and_then(Error::source) {
        root = Some(inner);
    }
    root.map_or_else(
        || "connection closed before the response".into(),
        ToString::to_string,
    )
}

/// Unwraps an `io::Error` inside an `io::Error`: the inner one is not in the chain of sources.
fn innermost_io_error(mut error: &io::Error) -> &io::Error {
    while let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        error = inner;
    }
    error
}

/// Returns the first error in the chain of `error` that is an `E`.
fn find_cause<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
