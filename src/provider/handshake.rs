//! Handshakes of providers: a challenge before the first event, or a ping. None of them is an
//! event.

use serde_json::value::RawValue;
use subtle::ConstantTimeEq;

use super::body::RequestDocument;
use super::pointer::JsonPointer;

/// Handshake that a provider makes.
#[derive(Clone, Copy, Debug)]
pub enum ProviderHandshake {
    /// The provider makes no handshake.
    None,
    /// A signed request; the function recognises it by its body and returns the reply.
    Signed(fn(&RequestDocument<'_>) -> Option<HandshakeReply>),
    /// An unsigned GET with `hub.mode`, `hub.verify_token` and `hub.challenge`.
    Subscription,
}

/// Reply to a signed handshake request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeReply {
    /// The provider's challenge, sent back as plain text.
    Challenge(String),
    /// A JSON object with the status `pong`.
    Pong,
}

/// A request that is no subscription with the configured verify token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hub.verify_token is missing or not the configured one")]
pub struct VerifyTokenError;

/// Longest challenge that is sent back. Providers send some dozens of bytes.
const CHALLENGE_MAX_BYTES: usize = 1024;

/// Returns the challenge in `query` if its verify token equals `token`, compared in constant time.
///
/// # Errors
/// [`VerifyTokenError`], also without a challenge or with another mode than `subscribe`, so that
/// the answer does not tell which parameter is wrong.
pub fn verify_subscription(query: &str, token: &str) -> Result<String, VerifyTokenError> {
    let value = |parameter: &str| {
        form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == parameter)
            .map(|(_, value)| value.into_owned())
    };

    let verify_token = value("hub.verify_token").unwrap_or_default();
    // An empty token was never configured, and must not match an empty parameter.
    let is_valid_token =
        !token.is_empty() && bool::from(verify_token.as_bytes().ct_eq(token.as_bytes()));
    let challenge = value("hub.challenge").filter(|challenge| is_plain_challenge(challenge));

    match (is_valid_token, value("hub.mode").as_deref(), challenge) {
        (true, Some("subscribe"), Some(challenge)) => Ok(challenge),
        _ => Err(VerifyTokenError),
    }
}

/// Returns the challenge at `pointer` if the text at `kind_pointer` equals `kind`.
pub(super) fn find_challenge(
    document: &RequestDocument<'_>,
    kind_pointer: &'static str,
    kind: &str,
    pointer: &'static str,
) -> Option<HandshakeReply> {
    if find_text(document, kind_pointer)? != kind {
        return None;
    }
    find_text(document, pointer)
        .filter(|challenge| is_plain_challenge(challenge))
        .map(HandshakeReply::Challenge)
}

/// Returns the string at `pointer` in the body.
pub(super) fn find_text(document: &RequestDocument<'_>, pointer: &'static str) -> Option<String> {
    JsonPointer::from_static(pointer)
        .resolve(document.json())
        .map(RawValue::get)
        .and_then(|text| serde_json::from_str(text).ok())
}

fn is_plain_challenge(challenge: &str) -> bool {
    (1..=CHALLENGE_MAX_BYTES).contains(&challenge.len()) && !challenge.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_that_knows_the_token_gets_its_challenge() {
        let query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=me%26atyamo";
        assert_eq!(
            verify_subscription(query, "me&atyamo").as_deref(),
            Ok("1158201444")
        );
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
            assert_eq!(
                verify_subscription(query, "token"),
                Err(VerifyTokenError),
                "{query}"
            );
        }
        assert_eq!(
            verify_subscription("hub.mode=subscribe&hub.challenge=1&hub.verify_token=", ""),
            Err(VerifyTokenError)
        );
        let long = format!(
            "hub.mode=subscribe&hub.verify_token=token&hub.challenge={}",
            "x".repeat(1025)
        );
        assert_eq!(verify_subscription(&long, "token"), Err(VerifyTokenError));
    }
}
