//! Access tokens of one OAuth2 client: asked for when an attempt needs one, kept until shortly before
//! their end.
//!
//! ```text
//!  attempt ──current_token──> kept and valid ─────────────────────────────> request
//!                       └──> none: a task asks the authorization server ──> kept for all who wait
//!  401 ──forget_refused──> an older token is dropped, and the attempt repeated once with a new one
//! ```
//!
//! The task belongs to no attempt: one that ends by its time limit must not take the answer with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use parking_lot::Mutex;
use reqwest::{Client, Proxy, RequestBuilder, Response, redirect};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_rustls::rustls::ClientConfig;

use super::classify::{AUTHORIZATION, AttemptError};
use super::tls::TlsSetupError;
use crate::clock::Clock;
use crate::config::{ClientAuthentication, OAuth2Client, Secret};

/// Limit of one request for a token: half of the time that an attempt has by default, so that the
/// attempt can still tell why it failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes. Tokens of large companies take some kilobytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// Life of a token whose server tells none (RFC 6749, section 5.1, only recommends it).
const DEFAULT_LIFE: Duration = Duration::from_secs(300);
/// Longest rest of a life in which a token is not used any more: a request takes time, too.
const MARGIN_MAX: Duration = Duration::from_secs(30);
/// Longest life of a token, whatever its server tells.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Shortest life of a token: who asked for it must get it, and not ask again without a pause.
const LIFE_MIN: Duration = Duration::from_secs(1);
/// Age below which a refused token is not replaced. A new one would be refused, too, and a subscription
/// whose path answers 401 must not spend the tokens of all others at its server.
const REPLACEMENT_AGE: Duration = Duration::from_secs(30);
/// Time for which a refusal holds for all attempts, so that a wrong secret does not call the
/// authorization server once for each waiting event.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Source of the access tokens of one client.
pub(super) struct AccessTokens {
    client: OAuth2Client,
    http: Client,
    clock: Arc<dyn Clock>,
    state: Mutex<TokenState>,
}

#[derive(Debug, Default)]
enum TokenState {
    #[default]
    Unknown,
    /// A task asks for a token; the channel closes when it has the answer.
    Requested(watch::Receiver<()>),
    Issued {
        token: AccessToken,
        issued_at: Duration,
        ends_at: Duration,
    },
    Refused {
        detail: String,
        until: Duration,
    },
}

/// Token in the form of a header.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AccessToken(HeaderValue);

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken")
    }
}

impl AccessToken {
    pub(super) fn to_header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Answer of an authorization server (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<TokenLife>,
}

/// Seconds until the end of a token. The standard has a number; some servers send it as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenLife {
    Number(f64),
    Text(String),
}

/// Refusal of an authorization server (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct TokenRefusal {
    error: String,
}

impl AccessTokens {
    /// # Errors
    /// The HTTP client cannot be set up.
    pub(super) fn try_new(
        client: &OAuth2Client,
        tls: ClientConfig,
        proxy_url: Option<&Secret>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsSetupError> {
        let http = Client::builder()
            .use_preconfigured_tls(tls)
            .redirect(redirect::Policy::none())
            .timeout(REQUEST_LIMIT)
            // Only the configured proxy, never one of the environment.
            .no_proxy()
            .user_agent(concat!("Hookyard/", env!("CARGO_PKG_VERSION")));
        let http = match proxy_url {
            Some(url) => http.proxy(Proxy::https(url.expose())?),
            None => http,
        };
        Ok(Self {
            client: client.clone(),
            http: http.build()?,
            clock,
            state: Mutex::default(),
        })
    }

    /// Returns the kept token, or asks for one. Attempts that need one at the same time share it.
    ///
    /// # Errors
    /// The authorization server issued none, now or within the last second.
    pub(super) async fn current_token(self: &Arc<Self>) -> Result<AccessToken, AttemptError> {
        loop {
            let mut answered = {
                let mut state = self.state.lock();
                let now = self.clock.monotonic();
                match &*state {
                    TokenState::Issued { token, ends_at, .. } if now < *ends_at => {
                        return Ok(token.clone());
                    }
                    TokenState::Refused { detail, until } if now < *until => {
                        return Err(AttemptError::new(AUTHORIZATION, detail.clone()));
                    }
                    // A channel that is closed although nothing was stored: the task was lost.
                    TokenState::Requested(answered) if answered.has_changed().is_ok() => {
                        answered.clone()
                    }
                    TokenState::Unknown
                    | TokenState::Requested(_)
                    | TokenState::Issued { .. }
                    | TokenState::Refused { .. } => {
                        let (asked, answered) = watch::channel(());
                        *state = TokenState::Requested(answered.clone());
                        tokio::spawn(Arc::clone(self).store_answer(asked));
                        answered
                    }
                }
            };
            // Never changes: the wait ends when the task drops its side.
            let _ = answered.changed().await;
        }
    }

    async fn store_answer(self: Arc<Self>, asked: watch::Sender<()>) {
        let answer = self.request_token().await;
        let now = self.clock.monotonic();
        *self.state.lock() = match answer {
            Ok((token, life)) => TokenState::Issued {
                token,
                issued_at: now,
                ends_at: now + (life - MARGIN_MAX.min(life / 4)),
            },
            Err(detail) => TokenState::Refused {
                detail,
                until: now + REFUSAL_TIME,
            },
        };
        drop(asked);
    }

    /// Drops `refused`, which a subscriber's server did not take, and returns `true` if another token
    /// may help: if this one is not new, or is not the kept one any more.
    pub(super) fn forget_refused(&self, refused: &AccessToken) -> bool {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        match &*state {
            TokenState::Issued {
                token, issued_at, ..
            } if token == refused => {
                let is_old = now.saturating_sub(*issued_at) >= REPLACEMENT_AGE;
                if is_old {
                    *state = TokenState::Unknown;
                }
                is_old
            }
            TokenState::Unknown
            | TokenState::Requested(_)
            | TokenState::Issued { .. }
            | TokenState::Refused { .. } => true,
        }
    }

    async fn request_token(&self) -> Result<(AccessToken, Duration), String> {
        let sent = self.build_request().send().await;
        let answer = sent.map_err(|error| {
            let problem = match error {
                error if error.is_timeout() => "did not answer in time",
                error if error.is_connect() => "cannot be reached",
                _ => "broke off",
            };
            format!("the authorization server {problem}")
        })?;
        let status = answer.status();
        let body = read_answer(answer)
            .await
            .ok_or("the answer of the authorization server broke off or is too long")?;
        if !status.is_success() {
            // The code is one of the standard's words; a description could quote what was sent.
            let refusal = serde_json::from_slice(&body).ok();
            let code = refusal.map(|TokenRefusal { error }| error);
            let code = code.filter(|code| is_error_code(code));
            let code = code.map_or_else(String::new, |code| format!(": {code}"));
            let status = status.as_u16();
            return Err(format!("the authorization server answered {status}{code}"));
        }
        parse_answer(&body)
    }

    fn build_request(&self) -> RequestBuilder {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let OAuth2Client {
            token_url,
            client_id,
            client_secret,
            client_authentication,
            parameters,
        } = &self.client;
        for (name, value) in parameters {
            form.append_pair(name, value);
        }
        let request = self.http.post(token_url.clone());
        let request = match client_authentication {
            ClientAuthentication::Basic => {
                let encode = |text: &str| {
                    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
                };
                request.basic_auth(encode(client_id), Some(encode(client_secret.expose())))
            }
            ClientAuthentication::Body => {
                form.append_pair("client_id", client_id);
                form.append_pair("client_secret", client_secret.expose());
                request
            }
        };
        request
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish())
    }
}

/// Reads the body; `None` if it broke off or is longer than [`ANSWER_MAX_BYTES`].
async fn read_answer(mut answer: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        if body.len() + chunk.len() > ANSWER_MAX_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// True for a code in the form of the standard's, such as `invalid_client`.
fn is_error_code(code: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    (1..=64).contains(&code.len()) && code.bytes().all(is_letter)
}

/// Reads the token of an answer, and its life.
fn parse_answer(body: &[u8]) -> Result<(AccessToken, Duration), String> {
    let answer: TokenAnswer = serde_json::from_slice(body)
        .map_err(|_| "the authorization server answered without an access_token".to_owned())?;
    let kind = answer.token_type.unwrap_or_else(|| "Bearer".to_owned());
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err("the authorization server issues no Bearer tokens".to_owned());
    }
    let value = HeaderValue::try_from(format!("Bearer {}", answer.access_token));
    let mut value =
        value.map_err(|_| "the access_token has characters that no header has".to_owned())?;
    value.set_sensitive(true);
    let seconds = answer.expires_in.and_then(|life| match life {
        TokenLife::Number(seconds) => Some(seconds),
        TokenLife::Text(text) => text.trim().parse().ok(),
    });
    let life = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    // Some servers say 0 for a token without an end.
    let life = life.filter(|life| !life.is_zero()).unwrap_or(DEFAULT_LIFE);
    Ok((AccessToken(value), life.clamp(LIFE_MIN, LIFE_MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged};

    #[test]
    fn a_token_lives_as_long_as_its_server_says() {
        let read = |body: &str| {
            parse_answer(body.as_bytes()).map(|(token, life)| {
                (
                    token.to_header_value().to_str().expect("text").to_owned(),
                    life.as_secs(),
                )
            })
        };
        let issued = |life| Ok(("Bearer t1".to_owned(), life));
        for (body, expected) in [
            (
                r#"{"access_token":"t1","token_type":"bearer","expires_in":60}"#,
                issued(60),
            ),
            (
                r#"{"access_token":"t1","expires_in":"3599"}"#,
                issued(3_599),
            ),
            (
                r#"{"access_token":"t1","expires_in":1e9}"#,
                issued(24 * 3_600),
            ),
            (r#"{"access_token":"t1"}"#, issued(300)),
            (r#"{"access_token":"t1","expires_in":-5}"#, issued(300)),
            // An attempt had asked for such tokens one after another until its time was over.
            (r#"{"access_token":"t1","expires_in":0}"#, issued(300)),
            (r#"{"access_token":"t1","expires_in":0.001}"#, issued(1)),
            (
                r#"{"access_token":"t1","token_type":"mac"}"#,
                Err("the authorization server issues no Bearer tokens".to_owned()),
            ),
            (
                r#"{"error":"x"}"#,
                Err("the authorization server answered without an access_token".to_owned()),
            ),
            (
                "{\"access_token\":\"a\\nb\"}",
                Err("the access_token has characters that no header has".to_owned()),
            ),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_answer_of_an_authorization_server_is_read_or_refused(body in damaged(&[
            r#"{"access_token":"t1","token_type":"bearer","expires_in":60}"#,
            r#"{"access_token":"t\u00001","expires_in":"1e400","error":"invalid_client"}"#,
        ])) {
            let _ = parse_answer(&body);
        }
    }
}
