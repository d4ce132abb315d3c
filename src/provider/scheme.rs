//! A way of signing that a table describes: which header, which algorithm, over what. Most presets
//! are one, and so is a scheme of one's own.

use std::borrow::Cow;

use super::encoding::SignatureEncoding;
use super::key::{SignatureAlgorithm, VerificationKey, VerificationKeyError};
use super::no_claim::ClaimError;
use super::request::RequestView;
use super::signature_claim::{SIGNATURES_MAX, SignatureClaim, SignatureSet, SignedContentLayout};
use super::signed_template::{SignedContentPart, SignedTemplate};

/// How a sender signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureScheme {
    /// A signature in a header.
    Signature {
        /// The header, in lower case.
        header: Cow<'static, str>,
        /// What stands before the signature.
        prefix: Cow<'static, str>,
        /// HMAC or Ed25519.
        algorithm: SignatureAlgorithm,
        /// The signature's spelling.
        encoding: SignatureEncoding,
        /// What is signed.
        signed: SignedTemplate,
        /// The header with the time, if that is signed.
        timestamp_header: Option<Cow<'static, str>>,
        /// The header with the id, if that is signed.
        id_header: Option<Cow<'static, str>>,
    },
    /// The secret itself in a header.
    Token {
        /// The header, in lower case.
        header: Cow<'static, str>,
        /// What stands before the secret, such as `Bearer `.
        prefix: Cow<'static, str>,
    },
    /// `Authorization: Basic`, or the same in another header.
    Basic {
        /// The header, in lower case.
        header: Cow<'static, str>,
    },
}

impl SignatureScheme {
    /// A signature over the body alone, in `encoding` after `prefix`.
    #[must_use]
    pub const fn for_body(
        header: &'static str,
        prefix: &'static str,
        algorithm: SignatureAlgorithm,
        encoding: SignatureEncoding,
    ) -> Self {
        Self::Signature {
            header: Cow::Borrowed(header),
            prefix: Cow::Borrowed(prefix),
            algorithm,
            encoding,
            signed: SignedTemplate::BODY,
            timestamp_header: None,
            id_header: None,
        }
    }

    /// An HMAC-SHA256 over what `signed` makes of time and body.
    #[must_use]
    pub const fn with_timestamp(
        header: &'static str,
        prefix: &'static str,
        encoding: SignatureEncoding,
        timestamp_header: &'static str,
        signed: &'static [SignedContentPart],
    ) -> Self {
        Self::Signature {
            header: Cow::Borrowed(header),
            prefix: Cow::Borrowed(prefix),
            algorithm: SignatureAlgorithm::HmacSha256,
            encoding,
            signed: SignedTemplate::from_static(signed),
            timestamp_header: Some(Cow::Borrowed(timestamp_header)),
            id_header: None,
        }
    }

    /// Reads one of its secrets.
    ///
    /// # Errors
    /// [`BadKey`] if it is not what the algorithm needs.
    pub fn key(&self, text: &str) -> Result<VerificationKey, VerificationKeyError> {
        match self {
            Self::Signature {
                algorithm: SignatureAlgorithm::Ed25519,
                ..
            } => VerificationKey::from_public(text),
            Self::Signature { .. } | Self::Token { .. } => VerificationKey::from_secret(text),
            Self::Basic { .. } => VerificationKey::from_login(text),
        }
    }

    /// The header that proves who sends, in lower case.
    #[must_use]
    pub fn header(&self) -> &str {
        match self {
            Self::Signature { header, .. }
            | Self::Token { header, .. }
            | Self::Basic { header } => header,
        }
    }

    /// Whether the time is part of what is signed.
    #[must_use]
    pub fn has_timestamp(&self) -> bool {
        matches!(
            self,
            Self::Signature {
                timestamp_header: Some(_),
                ..
            }
        )
    }

    /// What `request` claims.
    ///
    /// # Errors
    /// [`NoClaim`] if a header is missing or malformed.
    pub fn read_claim<'r>(
        &'r self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        match self {
            Self::Signature {
                header,
                prefix,
                algorithm,
                encoding,
                signed,
                timestamp_header,
                id_header,
            } => {
                let optional = |name: &Option<Cow<'static, str>>| {
                    name.as_ref()
                        .map(|name| require_header(request, name))
                        .transpose()
                };
                let signatures =
                    split_signatures(require_header(request, header)?, prefix, *encoding)
                        .ok_or_else(|| {
                            ClaimError::malformed(header, describe_expected(prefix, *encoding))
                        })?;
                let (time, id) = (optional(timestamp_header)?, optional(id_header)?);
                Ok(SignatureClaim {
                    header,
                    proofs: vec![SignatureSet {
                        algorithm: *algorithm,
                        signatures,
                    }],
                    layout: SignedContentLayout::Template(signed),
                    signed: signed.fill(request, time, id)?,
                    time,
                })
            }
            Self::Token { header, prefix } => {
                let given = strip_prefix_ignore_case(require_header(request, header)?, prefix)
                    .ok_or_else(|| {
                        ClaimError::malformed(header, format!("`{prefix}` and a token"))
                    })?;
                Ok(token_claim(header, given.as_bytes().to_vec()))
            }
            Self::Basic { header } => {
                let given = strip_prefix_ignore_case(require_header(request, header)?, "basic ")
                    .and_then(|text| SignatureEncoding::Base64.decode(text.trim()));
                let expected =
                    || ClaimError::malformed(header, "`Basic ` and user:password in base64");
                Ok(token_claim(header, given.ok_or_else(expected)?))
            }
        }
    }
}

/// The header `name` of `request`.
pub(super) fn require_header<'r>(
    request: &RequestView<'r>,
    name: &str,
) -> Result<&'r str, ClaimError> {
    request
        .header(name)
        .ok_or_else(|| ClaimError::NoHeader(name.to_owned()))
}

fn token_claim<'r>(header: &'r str, given: Vec<u8>) -> SignatureClaim<'r> {
    let proof = SignatureSet {
        algorithm: SignatureAlgorithm::Token,
        signatures: vec![given],
    };
    SignatureClaim {
        header,
        proofs: vec![proof],
        layout: SignedContentLayout::Fixed(""),
        signed: Vec::new(),
        time: None,
    }
}

/// The signatures in a header's `value`: one, or several after each other with commas between, each
/// with its prefix.
fn split_signatures(
    value: &str,
    prefix: &str,
    encoding: SignatureEncoding,
) -> Option<Vec<Vec<u8>>> {
    let one = |text: &str| encoding.decode(strip_prefix_ignore_case(text.trim(), prefix)?);
    let signatures: Vec<_> = value
        .split(',')
        .filter_map(one)
        .take(SIGNATURES_MAX)
        .collect();
    (!signatures.is_empty()).then_some(signatures)
}

/// `value` after `prefix`, in whichever case that is.
fn strip_prefix_ignore_case<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    let (start, rest) = value.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn describe_expected(prefix: &str, encoding: SignatureEncoding) -> String {
    let name = SignatureEncoding::ALL
        .iter()
        .find(|(_, each)| *each == encoding)
        .map_or("", |(name, _)| name);
    match prefix {
        "" => format!("a signature in {name}"),
        prefix => format!("`{prefix}` and a signature in {name}"),
    }
}
