//! The HTTP clients that all attempts share: bounded in time and in what is read, following
//! nothing, going through no proxy.

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

/// What of an answer is read. A subscriber has nothing to say but its status; this is for whoever
/// looks for the fault.
pub(super) const RESPONSE_READ_MAX_BYTES: usize = 16 * 1024;

/// How long a connection waits for the next delivery: less than the 5 s after which common servers
/// (Node, Apache, Uvicorn) close theirs, which would meet a delivery on its way.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long connecting may take, so that within the usual timeout a second address of a host gets
/// its turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One request.
#[derive(Debug)]
pub(super) struct DeliveryRequest {
    pub(super) url: Url,
    /// Whether it may lead to public addresses only.
    pub(super) is_checked: bool,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) struct DeliveryClients {
    /// For URLs that were given through the API.
    checked: Client,
    /// For those of the configuration.
    trusted: Client,
    allow_targets: Arc<[IpNet]>,
}

impl DeliveryClients {
    /// # Errors
    /// When TLS cannot be set up.
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
                // Many subscribers may share a host: as many connections as attempts, or each would
                // be closed for another's.
                .pool_max_idle_per_host(config.attempts_max)
                .build()
        };
        Ok(Self {
            checked: client(Some(Arc::clone(&allow_targets)))?,
            trusted: client(None)?,
            allow_targets,
        })
    }

    /// Posts `outgoing`, all of which may take `limit`: what was received of an answer, and why not
    /// more of it if that is not all.
    pub(super) async fn post_request(
        &self,
        outgoing: DeliveryRequest,
        limit: Duration,
    ) -> (SubscriberResponse, Option<AttemptError>) {
        let mut received = SubscriberResponse::default();
        if outgoing.is_checked
            && let Err(refused) =
                target_address::check_literal_host(&outgoing.url, &self.allow_targets)
        {
            return (
                received,
                Some(AttemptError {
                    code: REFUSED_ADDRESS,
                    detail: refused.to_string(),
                }),
            );
        }
        let client = if outgoing.is_checked {
            &self.checked
        } else {
            &self.trusted
        };
        let mut request = Request::new(Method::POST, outgoing.url);
        *request.headers_mut() = outgoing.headers;
        *request.body_mut() = Some(Body::from(outgoing.body));
        let mut body = Vec::new();
        let broken = match timeout(
            limit,
            send_and_read(client, request, &mut received, &mut body),
        )
        .await
        {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(to_attempt_error(&error)),
            Err(_) => Some(timeout_error(limit, &received)),
        };
        received.body = body.into();
        (received, broken)
    }
}

/// Sends `request` and reads its answer into `received` and `body`, up to its end or to as much as
/// is read.
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
    let what = if received.status.is_some() {
        "the answer did not end"
    } else {
        "there was no answer"
    };
    AttemptError {
        code: TIMEOUT,
        detail: format!("{what} within {} s", limit.as_secs_f64()),
    }
}

/// What became of an attempt without a whole answer. The error's own words hold the URL, and so
/// whatever secret is in it.
fn to_attempt_error(error: &reqwest::Error) -> AttemptError {
    let code = |code, detail: String| AttemptError { code, detail };
    if error.is_builder() {
        return code(BAD_URL, "the URL cannot be called".into());
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
            format!(
                "there was no connection within {} s",
                CONNECT_TIMEOUT.as_secs()
            ),
        ),
        // What the system says of a connection is never one of these; what a handshake came to is.
        Some(io)
            if matches!(
                io.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            code(TLS, io.to_string())
        }
        Some(io) => code(CONNECT, io.to_string()),
        None => code(CONNECT, "there was no connection".into()),
    }
}

/// What `error` began with. Only the outermost error knows the URL.
fn root_cause_text(error: &reqwest::Error) -> String {
    let mut root = error.source();
    while let Some(inner) = root.and_then(Error::source) {
        root = Some(inner);
    }
    root.map_or_else(
        || "the connection ended before the answer".into(),
        ToString::to_string,
    )
}

/// What a library wrapped once more: an `io::Error` is no source of one that holds it.
fn innermost_io_error(mut error: &io::Error) -> &io::Error {
    while let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        error = inner;
    }
    error
}

/// The first cause of `error` that is an `E`.
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
