//! Reasons for which a request claims nothing that could be checked.

/// Why a request claims nothing that could be checked. For its operator; its sender only hears that
/// it is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A header that is needed is not there, or is no text.
    #[error("there is no header {0}")]
    NoHeader(String),
    /// A header holds nothing that could be a signature.
    #[error("header {0} does not hold {1}")]
    Malformed(String, String),
    /// Something that the signature covers only by its hash is not what was hashed.
    #[error("the body is not the one that bodySHA256 in the URL stands for")]
    OtherBody,
    /// The body is covered by nothing.
    #[error(
        "the signature covers the body only if it is a form or if the URL has bodySHA256, and this one has neither"
    )]
    UnsignedBody,
    /// A body that whoever saw one signed request could have made out of that, without any secret.
    #[error(
        "a signature without HMAC could be continued over more content, so that only a body of JSON is taken with it"
    )]
    Extensible,
    /// A request that must have come with a better signature than it shows.
    #[error("header {0} belongs to a newer signature, which is not there")]
    Downgraded(String),
    /// A form that no provider would send.
    #[error("the form has more fields than any that is signed")]
    TooManyFields,
}

impl ClaimError {
    /// `header` does not hold `expected`.
    pub(super) fn malformed(header: &str, expected: impl Into<String>) -> Self {
        Self::Malformed(header.to_owned(), expected.into())
    }
}
