//! Reasons why no signature claim can be read from a request.

/// Reason why no signature claim can be read from a request. Only the operator sees it; the sender
/// is told no more than that the request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A required header is missing or is not valid UTF-8.
    #[error("header {0} is missing")]
    NoHeader(String),
    /// A header that must be there once is repeated.
    #[error("header {0} is repeated, and only one of the values can be meant")]
    Repeated(String),
    /// A header does not hold a value of the expected form.
    #[error("header {0} does not hold {1}")]
    Malformed(String, String),
    /// The body does not have the hash that the signature covers.
    #[error("body does not match the hash that is signed")]
    OtherBody,
    /// The signature does not cover the body.
    #[error("signature does not cover the body: the signed content has no hash of it")]
    UnsignedBody,
    /// The body may be the product of a length-extension attack, which needs one signed request
    /// and no secret.
    #[error(
        "signature without HMAC is open to length extension, only a JSON body is accepted with it"
    )]
    Extensible,
    /// The request has a header of a newer signature version, but not that signature.
    #[error("header {0} belongs to a newer signature version, whose signature is missing")]
    Downgraded(String),
    /// The signed content could be cut into other values with the same signature.
    #[error(
        "signature would fit other values too: a signed header holds the text that follows it \
         in the signed content, or meets the body without a mark between them"
    )]
    Ambiguous,
    /// The signature covers no time, and the source requires one.
    #[error("signature covers no time, and require_signed_time refuses such requests")]
    Untimed,
    /// The form has more fields than any provider sends.
    #[error("form has too many fields")]
    TooManyFields,
}

impl ClaimError {
    /// Returns the error for a `header` that does not hold `expected`.
    pub(super) fn malformed(header: &str, expected: impl Into<String>) -> Self {
        Self::Malformed(header.to_owned(), expected.into())
    }
}
