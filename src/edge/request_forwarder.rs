//! Sender of requests to the node that leads a cluster, and the proof by which that node believes what
//! another one says of the client.
//!
//! ```text
//! X-Hookyard-Origin: 1764536400 198.51.100.7 https 434e3d6372 9f86d081…
//!                    time       client       scheme │         HMAC-SHA256 under cluster.secret over the
//!                                                   │         values before it, method, path and query
//!                                                   subject of the client's certificate in hex, or -
//! ```
//!
//! Without a valid proof the header says nothing, and the client is the peer.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpMessage;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use reqwest::{Client, redirect};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tracing::debug;

use super::chunk_body::ChunkBody;
use super::error::ApiError;
use crate::config::ClusterConfig;
use crate::event::Timestamp;
use crate::provider::HmacKey;

/// Header by which the leader learns of the client.
pub(super) const ORIGIN: &str = "x-hookyard-origin";

/// Headers that belong to one connection (RFC 9110, section 7.6.1).
const HOP_HEADERS: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Longest difference of two nodes' clocks, plus the time that a request is under way.
const ORIGIN_AGE_MAX: Duration = Duration::from_secs(60);

/// Longest wait for a connection to the leader: longer, and the lease is over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait for the next byte of an answer. Streams of events send something every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Chunks of an answer that wait for the client.
const CHUNKS_WAITING: usize = 4;

/// Client of a request, as the node that took it has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForwardedOrigin {
    /// Address of the client, as the other node resolved it.
    pub(super) client: IpAddr,
    /// True if the client had used TLS.
    pub(super) is_tls: bool,
    /// Subject of the client's verified certificate.
    pub(super) certificate: Option<Arc<str>>,
}

/// Sender of requests to the leader, and the check of those that other nodes send.
pub(super) struct RequestForwarder {
    client: Client,
    key: HmacKey,
}

impl RequestForwarder {
    /// Prepares a forwarder of a node of the cluster `config`.
    ///
    /// # Errors
    /// An error of `reqwest` when TLS cannot be set up.
    pub(super) fn new(config: &ClusterConfig) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            key: HmacKey::new(config.secret.expose().as_bytes()),
        })
    }

    /// Returns the origin that another node of the cluster vouches for at `now`; `None` for a request of
    /// a client, and for a header that proves nothing.
    pub(super) fn read_origin(
        &self,
        request: &HttpRequest,
        now: Timestamp,
    ) -> Option<ForwardedOrigin> {
        let header = request.headers().get(ORIGIN)?.to_str().ok()?;
        let (values, tag) = header.rsplit_once(' ')?;
        let tag = hex::decode(tag).ok()?;
        if !bool::from(self.tag(values, request).ct_eq(&tag)) {
            return None;
        }

        let mut values = values.split(' ');
        let sent_at = i64::from_str(values.next()?).ok()?;
        let client = IpAddr::from_str(values.next()?).ok()?;
        let is_tls = values.next()? == "https";
        let certificate = match values.next()? {
            "-" => None,
            subject => Some(String::from_utf8(hex::decode(subject).ok()?).ok()?.into()),
        };
        let age = (now.as_micros() / 1_000_000).abs_diff(sent_at);
        (age <= ORIGIN_AGE_MAX.as_secs()).then_some(ForwardedOrigin {
            client,
            is_tls,
            certificate,
        })
    }

    /// Passes `request` with its `body` on to the node at `leader` at the time `now`, and returns its
    /// answer.
    ///
    /// # Errors
    /// [`ApiError`] when the leader does not answer. It is not known then if it has taken the request.
    pub(super) async fn forward(
        &self,
        leader: &str,
        request: &HttpRequest,
        body: Bytes,
        origin: &ForwardedOrigin,
        now: Timestamp,
    ) -> Result<HttpResponse, ApiError> {
        let path = request.uri().path_and_query();
        let url = format!("{leader}{}", path.map_or("/", |path| path.as_str()));
        let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes());
        let method = method.map_err(|_| ApiError::Internal)?;

        let mut headers = reqwest::header::HeaderMap::new();
        for (name, value) in end_to_end_headers(request.headers()) {
            let name = reqwest::header::HeaderName::from_bytes(name.as_str().as_bytes());
            let value = reqwest::header::HeaderValue::from_bytes(value.as_bytes());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let origin = self.sign_origin(origin, request, now);
        headers.insert(ORIGIN, origin.parse().map_err(|_| ApiError::Internal)?);

        let sending = self.client.request(method, url).headers(headers).body(body);
        let answer = sending.send().await.map_err(|error| {
            debug!(%leader, %error, "request not passed on to the leader of the cluster");
            match error.is_connect() {
                true => ApiError::Unavailable,
                false => ApiError::OutcomeUnknown,
            }
        })?;
        Ok(relay_answer(answer))
    }

    fn sign_origin(
        &self,
        origin: &ForwardedOrigin,
        request: &HttpRequest,
        now: Timestamp,
    ) -> String {
        let certificate = origin.certificate.as_ref();
        let values = format!(
            "{} {} {} {}",
            now.as_micros() / 1_000_000,
            origin.client,
            if origin.is_tls { "https" } else { "http" },
            certificate.map_or_else(|| "-".to_owned(), |subject| hex::encode(&**subject)),
        );
        let tag = self.tag(&values, request);
        format!("{values} {}", hex::encode(tag))
    }

    fn tag(&self, values: &str, request: &HttpRequest) -> Vec<u8> {
        let path = request.uri().path_and_query();
        let pieces = [
            values,
            "\n",
            request.method().as_str(),
            "\n",
            path.map_or("/", |path| path.as_str()),
        ];
        self.key.tag(&pieces).to_vec()
    }
}

/// Returns the origin of a request that another node of the cluster has passed on.
pub(super) fn forwarded_origin(request: &HttpRequest) -> Option<ForwardedOrigin> {
    request.extensions().get::<ForwardedOrigin>().cloned()
}

/// Returns the headers that are not about one connection.
fn end_to_end_headers(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let named = headers
        .get(CONNECTION)
        .and_then(|value| value.to_str().ok());
    let named: Vec<String> = named
        .unwrap_or_default()
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    headers.iter().filter(move |(name, _)| {
        let is_hop = HOP_HEADERS.contains(name) || name.as_str() == "keep-alive";
        // The proof tells the client's address, and nothing else may.
        let is_origin = [ORIGIN, "x-forwarded-for"].contains(&name.as_str());
        !is_hop && !is_origin && !named.iter().any(|hop| hop == name.as_str())
    })
}

/// Returns the leader's answer, whose body follows as it comes.
fn relay_answer(mut answer: reqwest::Response) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status().as_u16());
    let mut response = HttpResponse::new(status.unwrap_or(StatusCode::BAD_GATEWAY));
    let mut headers = HeaderMap::new();
    for (name, value) in answer.headers() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    for (name, value) in end_to_end_headers(&headers) {
        response.headers_mut().append(name.clone(), value.clone());
    }

    let length = answer.content_length();
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    actix_rt::spawn(async move {
        loop {
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => Ok(chunk),
                Ok(None) => return,
                Err(error) => Err(std::io::Error::other(error)),
            };
            // A client that has gone needs no more.
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    response
        .set_body(ChunkBody::new(receiver, length))
        .map_into_boxed_body()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::config::Secret;

    fn forwarder(secret: &str) -> RequestForwarder {
        RequestForwarder::new(&ClusterConfig {
            server: tokio_postgres::Config::new(),
            node_id: "a".into(),
            advertise: "http://127.0.0.1:1".into(),
            secret: Secret::new(secret),
            lease: Duration::from_secs(2),
            allow_asynchronous: false,
            ca_files: Vec::new(),
        })
        .expect("is built")
    }

    const NOW: Timestamp = Timestamp::from_micros(1_764_536_400_000_000);
    const VALUES: &str = "1764536400 198.51.100.7 https 434e3d637264";

    fn request(path: &str, header: &str) -> HttpRequest {
        TestRequest::post()
            .uri(path)
            .insert_header((ORIGIN, header))
            .to_http_request()
    }

    #[test]
    fn only_a_node_with_the_secret_vouches_for_a_client() {
        let nodes = forwarder("one secret of all nodes");
        let unsigned = request("/webhooks/support?x=1", "");
        let header = format!("{VALUES} {}", hex::encode(nodes.tag(VALUES, &unsigned)));
        let read = |forwarder: &RequestForwarder, path: &str, header: &str, now: Timestamp| {
            forwarder.read_origin(&request(path, header), now)
        };

        let path = "/webhooks/support?x=1";
        let expected = ForwardedOrigin {
            client: "198.51.100.7".parse().expect("an address"),
            is_tls: true,
            certificate: Some("CN=crd".into()),
        };
        assert_eq!(read(&nodes, path, &header, NOW), Some(expected));
        assert_eq!(read(&forwarder("another"), path, &header, NOW), None);
        assert_eq!(read(&nodes, "/webhooks/support?x=2", &header, NOW), None);
        let forged = header.replace("198.51.100.7", "127.0.0.1");
        assert_eq!(read(&nodes, path, &forged, NOW), None);
        let late = Timestamp::from_micros(NOW.as_micros() + 61_000_000);
        assert_eq!(read(&nodes, path, &header, late), None);
        for malformed in ["", " ", "x", VALUES] {
            assert_eq!(read(&nodes, path, malformed, NOW), None, "{malformed:?}");
        }
    }

    #[test]
    fn headers_of_one_connection_stay_on_it() {
        let request = TestRequest::default()
            .insert_header(("Connection", "close, X-Own"))
            .insert_header(("X-Own", "1"))
            .insert_header(("Transfer-Encoding", "chunked"))
            .insert_header((ORIGIN, "forged"))
            .insert_header(("X-Forwarded-For", "203.0.113.9"))
            .insert_header(("X-Signature", "kept"))
            .to_http_request();
        let kept: Vec<&str> = end_to_end_headers(request.headers())
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(kept, ["x-signature"]);
    }
}
