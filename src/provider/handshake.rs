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
    /// Signed requests; the first that recognises a body gives the reply.
    Signed(&'static [SignedHandshake]),
    /// An unsigned GET with `hub.mode`, `hub.verify_token` and `hub.challenge`.
    Subscription,
    /// An unsigned form whose only field has this name, and a number as its value. It says nothing
    /// that anybody could not say, and is answered with 200.
    UnsignedNumber(&'static str),
}

/// Signed request that is no event: how it is recognised, and what is replied.
#[derive(Clone, Copy, Debug)]
pub struct SignedHandshake {
    /// Sign in the body by which the handshake is recognised.
    pub sign: HandshakeSign,
    /// Place where the body must have nothing, if an event has the same sign.
    pub absent: Option<&'static str>,
    /// Form of the reply to the handshake.
    pub reply: HandshakeReplyForm,
}

/// Sign in a body by which a handshake is recognised.
#[derive(Clone, Copy, Debug)]
pub enum HandshakeSign {
    /// String or number of this text at the pointer.
    Value(&'static str, &'static str),
    /// Empty list, or null, at the pointer.
    NoItems(&'static str),
}

/// Form of the reply to a handshake.
#[derive(Clone, Copy, Debug)]
pub enum HandshakeReplyForm {
    /// Text at the pointer, which is sent back.
    Challenge(&'static str),
    /// Fixed JSON text, with the status 200.
    Json(&'static str),
    /// No body, with this status.
    Empty(u16),
}

/// Reply to a handshake request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeReply {
    /// The provider's challenge, sent back as plain text.
    Challenge(String),
    /// Fixed JSON text, with the status 200.
    Json(&'static str),
    /// No body, with this status.
    Empty(u16),
}

/// A request that is no subscription with the configured verify token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hub.verify_token is missing or not the configured one")]
pub struct VerifyTokenError;

/// Longest challenge that is sent back. Providers send some dozens of bytes.
const CHALLENGE_MAX_BYTES: usize = 1024;
/// Most digits of the number in an unsigned handshake: those of 64 bits.
const NUMBER_MAX_DIGITS: usize = 20;

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

/// Returns the text of the parameter `validationToken` in `query`, if a subscription of Microsoft may
/// have it: printable ASCII without the marks of HTML, since anyone can have it sent back.
#[must_use]
pub fn find_validation_token(query: &str) -> Option<String> {
    let mut found =
        form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "validationToken");
    let (_, token) = found.next()?;
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && !b"<>\"'&".contains(&byte);
    let is_token = (1..=CHALLENGE_MAX_BYTES).contains(&token.len())
        && token.bytes().all(is_plain)
        && found.next().is_none();
    is_token.then(|| token.into_owned())
}

impl ProviderHandshake {
    /// Returns the reply to `document`, the body of a signed request, if it is a handshake.
    pub(super) fn reply_to(&self, document: &RequestDocument<'_>) -> Option<HandshakeReply> {
        match self {
            Self::Signed(handshakes) => handshakes
                .iter()
                .find_map(|handshake| handshake.reply_to(document.json())),
            Self::None | Self::Subscription | Self::UnsignedNumber(_) => None,
        }
    }

    /// Returns true if `body` is the unsigned handshake of the provider.
    #[must_use]
    pub fn is_unsigned_body(&self, body: &[u8]) -> bool {
        let Self::UnsignedNumber(field) = self else {
            return false;
        };
        let number = std::str::from_utf8(body)
            .ok()
            .and_then(|text| text.strip_prefix(field)?.strip_prefix('='));
        number.is_some_and(|number| {
            (1..=NUMBER_MAX_DIGITS).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    }
}

impl SignedHandshake {
    fn reply_to(&self, body: &RawValue) -> Option<HandshakeReply> {
        if !self.sign.is_in(body) || self.absent.is_some_and(|at| find(body, at).is_some()) {
            return None;
        }
        match self.reply {
            HandshakeReplyForm::Challenge(at) => find_text(body, at)
                .filter(|challenge| is_plain_challenge(challenge))
                .map(HandshakeReply::Challenge),
            HandshakeReplyForm::Json(text) => Some(HandshakeReply::Json(text)),
            HandshakeReplyForm::Empty(status) => Some(HandshakeReply::Empty(status)),
        }
    }
}

impl HandshakeSign {
    fn is_in(self, body: &RawValue) -> bool {
        match self {
            Self::Value(at, expected) => {
                let number = find(body, at).is_some_and(|value| value.get() == expected);
                number || find_text(body, at).is_some_and(|text| text == expected)
            }
            Self::NoItems(at) => find(body, at).is_some_and(|value| {
                let text = value.get();
                let inner = text
                    .strip_prefix('[')
                    .and_then(|text| text.strip_suffix(']'));
                text == "null" || inner.is_some_and(|inner| inner.trim().is_empty())
            }),
        }
    }
}

fn find<'b>(body: &'b RawValue, at: &'static str) -> Option<&'b RawValue> {
    JsonPointer::from_static(at).resolve(body)
}

fn find_text(body: &RawValue, at: &'static str) -> Option<String> {
    find(body, at).and_then(|value| serde_json::from_str(value.get()).ok())
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
    fn a_validation_token_is_plain_text_and_given_once() {
        let token =
            "Validation: Testing client application reachability for subscription Request-Id: 9-b";
        let query = "a=1&validationToken=Validation%3A+Testing+client+application+reachability+for+subscription+Request-Id%3A+9-b";
        assert_eq!(find_validation_token(query).as_deref(), Some(token));
        for query in [
            "",
            "validationToken=",
            "validationToken=%3Cscript%3E",
            "validationToken=a%0d%0ab",
            "validationToken=%C3%A4",
            "validationToken=a&validationToken=b",
            &format!("validationToken={}", "a".repeat(1025)),
        ] {
            assert_eq!(find_validation_token(query), None, "{query}");
        }
    }

    #[test]
    fn an_unsigned_handshake_is_one_field_with_a_number() {
        let ping = ProviderHandshake::UnsignedNumber("webhook_id");
        assert!(ping.is_unsigned_body(b"webhook_id=17"));
        for body in [
            "",
            "webhook_id=",
            "webhook_id=1&a=2",
            "webhook_id=-1",
            "id=1",
            "webhook_id=111111111111111111111",
        ] {
            assert!(!ping.is_unsigned_body(body.as_bytes()), "{body}");
        }
        assert!(!ProviderHandshake::None.is_unsigned_body(b"webhook_id=17"));
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
