//! One call to a server of the enrichment: bounded in time and size, following nothing, saying nothing of what it carried.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};

use super::steps::{Call, Step};
use crate::config;
use crate::event::Timestamp;
use crate::retry_after::parse_retry_after;

/// The largest answer that is read. A person's data is a few KB; it becomes a part of the lead's state.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A 2xx with this body.
    Good(Vec<u8>),
    /// A 404.
    Missing,
    /// It may work later, and not before `after`.
    Transient { reason: String, after: Duration },
    /// It will not work.
    Refused { reason: String },
}

/// Makes calls. Cheap to clone.
#[derive(Clone)]
pub(super) struct Caller {
    client: Client,
    /// The header with the key, for those who know persons.
    key: Option<(HeaderName, HeaderValue)>,
}

impl Caller {
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(config: &config::Enrichment) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(config.timeout)
            // What is configured is what is called.
            .no_proxy()
            .user_agent(concat!("Hookyard/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let name = HeaderName::from_bytes(config.key_header.as_bytes()).ok();
        let value = HeaderValue::from_str(config.key.expose()).ok().filter(|value| !value.is_empty());
        let key = name.zip(value).map(|(name, mut value)| {
            value.set_sensitive(true);
            (name, value)
        });
        Ok(Self { client, key })
    }

    /// Makes `call` at `now`; `event_id` tells a server that was reached twice that it was. Says the answer's status too, if
    /// there was one.
    pub(super) async fn make(&self, call: &Call, event_id: &str, now: Timestamp) -> (Answer, Option<u16>) {
        let mut request = match &call.body {
            None => self.client.get(&call.url),
            Some(body) => {
                let posted = self.client.post(&call.url).body(body.clone());
                posted.header(CONTENT_TYPE, "application/json").header("idempotency-key", event_id)
            }
        };
        request = request.header(ACCEPT, "application/json");
        if let Some((name, value)) = self.key.as_ref().filter(|_| call.step == Step::Person) {
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                (judge(response, call.step, now).await, Some(status))
            }
            Err(error) => (broken(&error), None),
        }
    }
}

async fn judge(response: Response, step: Step, now: Timestamp) -> Answer {
    let status = response.status();
    match class(status) {
        // Whatever it says is not asked for.
        Class::Good if step == Step::Reply => Answer::Good(Vec::new()),
        Class::Good => body(response).await,
        Class::Missing => Answer::Missing,
        Class::Transient => Answer::Transient {
            reason: format!("answered {}", status.as_u16()),
            after: retry_after(response.headers(), now),
        },
        Class::Refused => Answer::Refused { reason: format!("answered {}", status.as_u16()) },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Good,
    Missing,
    Transient,
    Refused,
}

/// 408, 425, 429 and 5xx pass; nothing but 2xx is good; redirects are not followed.
fn class(status: StatusCode) -> Class {
    match status.as_u16() {
        200..300 => Class::Good,
        404 => Class::Missing,
        408 | 425 | 429 | 500..600 => Class::Transient,
        _ => Class::Refused,
    }
}

async fn body(mut response: Response) -> Answer {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Answer::Good(body),
            Ok(Some(piece)) if body.len() + piece.len() <= ANSWER_MAX_BYTES => body.extend_from_slice(&piece),
            Ok(Some(_)) => {
                return Answer::Refused { reason: format!("answered more than {ANSWER_MAX_BYTES} bytes") };
            }
            Err(error) => return broken(&error),
        }
    }
}

/// What became of a call without a whole answer. The error's own words hold the address, and so what was asked for.
fn broken(error: &reqwest::Error) -> Answer {
    if error.is_builder() {
        return Answer::Refused { reason: "cannot be called at the address that is configured".into() };
    }
    let reason = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "did not answer in time",
        (false, true) => "could not be reached",
        (false, false) => "broke off",
    };
    Answer::Transient { reason: reason.into(), after: Duration::ZERO }
}

/// The least pause that the server asks for at `now`.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Duration {
    let value = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    value.and_then(|value| parse_retry_after(value, now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_class() {
        let class_of = |status| class(StatusCode::from_u16(status).expect("a status"));
        let table = [
            (Class::Good, &[200, 201, 204][..]),
            (Class::Missing, &[404]),
            (Class::Transient, &[408, 425, 429, 500, 502, 503, 504, 599]),
            (Class::Refused, &[300, 301, 307, 400, 401, 403, 409, 410, 422]),
        ];
        for (expected, statuses) in table {
            assert!(statuses.iter().all(|status| class_of(*status) == expected), "{expected:?}");
        }
    }

    #[test]
    fn a_server_s_wish_is_honoured_and_none_is_no_pause() {
        let asked = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        assert_eq!(retry_after(&asked, Timestamp::default()), Duration::from_secs(7));
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::default()), Duration::ZERO);
    }
}
