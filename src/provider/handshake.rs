//! What providers ask before they send, or to see whether anyone is there. None of it is an event.

use serde_json::value::RawValue;
use subtle::ConstantTimeEq;

use super::body::RequestDocument;
use super::pointer::JsonPointer;

/// How a provider shakes hands.
#[derive(Clone, Copy, Debug)]
pub enum ProviderHandshake {
    /// Not at all.
    None,
    /// By a signed request whose body tells it from an event.
    Signed(fn(&RequestDocument<'_>) -> Option<Reply>),
    /// By a GET with `hub.mode`, `hub.verify_token` and `hub.challenge`, before it has anything to
    /// sign.
    Subscription,
}

/// What is answered to a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What the provider sent, as plain text.
    Challenge(String),
    /// That someone is here.
    Pong,
}

/// A subscription with a verify token that is not ours, or that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hub.verify_token is missing or not the configured one")]
pub struct VerifyTokenError;

/// The longest challenge that is sent back: providers send some dozens of bytes.
const CHALLENGE_MAX_BYTES: usize = 1024;

/// The challenge in `query`, if it knows `token`.
///
/// # Errors
/// [`WrongToken`], also if there is no challenge or no mode `subscribe`: what is no subscription
/// learns nothing.
pub fn subscribe(query: &str, token: &str) -> Result<String, VerifyTokenError> {
    let value = |wanted: &str| {
        form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
    };
    let given = value("hub.verify_token").unwrap_or_default();
    let is_ours = !token.is_empty() && bool::from(given.as_bytes().ct_eq(token.as_bytes()));
    let challenge = value("hub.challenge").filter(|challenge| is_sane(challenge));
    match (is_ours, value("hub.mode").as_deref(), challenge) {
        (true, Some("subscribe"), Some(challenge)) => Ok(challenge),
        _ => Err(VerifyTokenError),
    }
}

/// The challenge at `pointer`, if the text at `kind` is `wanted`.
pub(super) fn find_challenge(
    document: &RequestDocument<'_>,
    kind: &'static str,
    wanted: &str,
    pointer: &'static str,
) -> Option<Reply> {
    let text = |pointer: &'static str| text_at(document, pointer);
    (text(kind)? == wanted).then(|| {
        text(pointer)
            .filter(|challenge| is_sane(challenge))
            .map(Reply::Challenge)
    })?
}

/// The string at `pointer`.
pub(super) fn text_at(document: &RequestDocument<'_>, pointer: &'static str) -> Option<String> {
    JsonPointer::from_static(pointer)
        .resolve(document.json())
        .map(RawValue::get)
        .and_then(|text| serde_json::from_str(text).ok())
}

fn is_sane(challenge: &str) -> bool {
    (1..=CHALLENGE_MAX_BYTES).contains(&challenge.len()) && !challenge.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_that_knows_the_token_gets_its_challenge() {
        let query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=me%26atyamo";
        assert_eq!(subscribe(query, "me&atyamo").as_deref(), Ok("1158201444"));
    }

    #[test]
    fn what_is_no_subscription_learns_nothing() {
        let table = [
            "hub.mode=subscribe&hub.challenge=1&hub.verify_token=other",
            "hub.mode=subscribe&hub.challenge=1",
            "hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=token",
            "hub.mode=subscribe&hub.verify_token=token",
            "hub.mode=subscribe&hub.challenge=a%0Ab&hub.verify_token=token",
            "",
        ];
        for query in table {
            assert_eq!(subscribe(query, "token"), Err(VerifyTokenError), "{query}");
        }
        assert_eq!(
            subscribe("hub.mode=subscribe&hub.challenge=1&hub.verify_token=", ""),
            Err(VerifyTokenError)
        );
        let long = format!(
            "hub.mode=subscribe&hub.verify_token=token&hub.challenge={}",
            "x".repeat(1025)
        );
        assert_eq!(subscribe(&long, "token"), Err(VerifyTokenError));
    }
}
