//! The proxy of `delivery.proxy_url`, by which `https` targets are called: a tunnel that it opens at
//! `CONNECT` (RFC 9110, section 9.3.6).
//!
//! ```text
//!  node ──TCP──> proxy ──TCP──> subscriber
//!       CONNECT crm.example:443
//!       <── 200
//!       ──TLS with crm.example, through the proxy──>
//! ```

use std::fmt;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::classify::{AttemptError, CONNECT, PROXY};
use super::delivery_origin::DeliveryOrigin;

/// Bytes of the proxy's answer at most.
const ANSWER_MAX_BYTES: usize = 8 * 1024;

/// Status with which a proxy asks for another password, which is this node's failure.
const PROXY_AUTHENTICATION_REQUIRED: u16 = 407;

/// Proxy that opens tunnels to subscribers.
pub(super) struct DeliveryProxy {
    pub(super) origin: DeliveryOrigin,
    /// Value of the header `Proxy-Authorization`, if the URL has a user name.
    authorization: Option<Zeroizing<String>>,
}

impl fmt::Debug for DeliveryProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeliveryProxy")
    }
}

impl DeliveryProxy {
    /// Returns the proxy at `url`; `None` unless it is an http URL.
    pub(super) fn from_url(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let origin = DeliveryOrigin::from_url(&url, false).filter(|origin| !origin.is_tls)?;
        let password = url.password().unwrap_or_default();
        let login = Zeroizing::new(format!(
            "{}:{}",
            decode_percent(url.username()),
            decode_percent(password)
        ));
        let has_login = login.len() > 1;
        Some(Self {
            origin,
            authorization: has_login
                .then(|| Zeroizing::new(format!("Basic {}", STANDARD.encode(&*login)))),
        })
    }

    /// Opens a tunnel to `target` on `stream`, which is connected to the proxy.
    ///
    /// # Errors
    /// [`PROXY`] if the proxy fails or does not let this node in, [`CONNECT`] if it reports that it
    /// cannot reach the target.
    pub(super) async fn open_tunnel(
        &self,
        stream: &mut TcpStream,
        target: &DeliveryOrigin,
    ) -> Result<(), AttemptError> {
        let status = self.request_tunnel(stream, target).await;
        match status.map_err(|error| proxy_error(&error))? {
            200..300 => Ok(()),
            PROXY_AUTHENTICATION_REQUIRED => Err(AttemptError::new(
                PROXY,
                "proxy answered 407: it does not accept the password of delivery.proxy_url",
            )),
            status => Err(AttemptError::new(
                CONNECT,
                format!("proxy answered {status}, so it has no connection to the host"),
            )),
        }
    }

    /// Asks the proxy for a tunnel and returns the status of its answer.
    async fn request_tunnel(
        &self,
        stream: &mut TcpStream,
        target: &DeliveryOrigin,
    ) -> io::Result<u16> {
        let authority = format!("{}:{}", target.host, target.port);
        let mut request = Zeroizing::new(format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        ));
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;

        // The target does not speak before TLS begins, so nothing follows the answer's head.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() > ANSWER_MAX_BYTES || stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = answer
            .strip_prefix(b"HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        status.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Describes a failure of the proxy itself, which is nobody's but this node's.
pub(super) fn proxy_error(error: &io::Error) -> AttemptError {
    AttemptError::new(PROXY, format!("proxy cannot be used: {error}"))
}

fn decode_percent(text: &str) -> String {
    // A query would have another meaning for these two.
    let query = text.replace('+', "%2B").replace('&', "%26");
    form_urlencoded::parse(query.as_bytes())
        .next()
        .map_or_else(String::new, |(name, _)| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_the_url_becomes_a_header() {
        let authorization = |url: &str| {
            let proxy = DeliveryProxy::from_url(url).expect("a proxy");
            proxy.authorization.map(|value| {
                let encoded = value.strip_prefix("Basic ").expect("the scheme");
                String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("text")
            })
        };
        assert_eq!(authorization("http://proxy.example:3128"), None);
        for (login, expected) in [
            ("u:p", "u:p"),
            ("u", "u:"),
            ("u:a%3Ab%40+%26", "u:a:b@+&"),
            ("u:a=b", "u:a=b"),
        ] {
            let url = format!("http://{login}@proxy.example:3128");
            assert_eq!(authorization(&url).as_deref(), Some(expected), "{login}");
        }
        assert!(DeliveryProxy::from_url("https://proxy.example").is_none());
    }
}
