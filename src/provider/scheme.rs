//! Signature schemes that data alone describes: header, algorithm, encoding, signed content. Most
//! presets have one, and a configured source without a preset has one too.

use std::borrow::Cow;

use super::claim_error::ClaimError;
use super::encoding::SignatureEncoding;
use super::key::{SignatureAlgorithm, VerificationKey, VerificationKeyError};
use super::request::RequestView;
use super::signature_claim::{SIGNATURES_MAX, SignatureClaim, SignatureSet, SignedContentLayout};
use super::signed_content::SignedContent;
use super::signed_template::{SignedContentPart, SignedTemplate};

/// Description of the credential in a sender's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureScheme {
    /// A signature in a header.
    Signature {
        /// Name of the header, in lower case.
        header: Cow<'static, str>,
        /// Text before each signature, such as `sha256=`; may be empty.
        prefix: Cow<'static, str>,
        /// Algorithm of the signature: an HMAC or Ed25519.
        algorithm: SignatureAlgorithm,
        /// Encoding of the signature's bytes in the header.
        encoding: SignatureEncoding,
        /// Template of the signed content.
        signed: SignedTemplate,
        /// Header with the time, in lower case, if the time is signed.
        timestamp_header: Option<Cow<'static, str>>,
        /// Header with the id, in lower case, if the id is signed.
        id_header: Option<Cow<'static, str>>,
    },
    /// The secret itself, sent in a header.
    Token {
        /// Name of the header, in lower case.
        header: Cow<'static, str>,
        /// Text before the secret, such as `Bearer `; may be empty.
        prefix: Cow<'static, str>,
    },
    /// Basic authentication, in `Authorization` or in another header.
    Basic {
        /// Name of the header, in lower case.
        header: Cow<'static, str>,
    },
}

impl SignatureScheme {
    /// Scheme of a signature over the body alone, in `encoding` after `prefix`.
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

    /// Scheme of an HMAC-SHA256 over the parts `signed`, among them the time in
    /// `timestamp_header`.
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

    /// Parses one configured secret as a key of this scheme.
    ///
    /// # Errors
    /// [`VerificationKeyError`] if the algorithm cannot use the secret.
    pub fn parse_key(&self, text: &str) -> Result<VerificationKey, VerificationKeyError> {
        match self {
            Self::Signature {
                algorithm: SignatureAlgorithm::Ed25519,
                ..
            } => VerificationKey::from_public(text),
            Self::Signature { .. } | Self::Token { .. } => VerificationKey::from_secret(text),
            Self::Basic { .. } => VerificationKey::from_login(text),
        }
    }

    /// Name of the header with the signature or secret, in lower case.
    #[must_use]
    pub fn header(&self) -> &str {
        match self {
            Self::Signature { header, .. }
            | Self::Token { header, .. }
            | Self::Basic { header } => header,
        }
    }

    /// Returns true if the signed content includes a time.
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

    /// Reads the signature claim of `request`, without checking it.
    ///
    /// # Errors
    /// [`ClaimError`] if a header is missing or malformed.
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

                let value = require_header(request, header)?;
                let malformed =
                    || ClaimError::malformed(header, describe_expected(prefix, *encoding));
                let signatures =
                    split_signatures(value, prefix, *encoding).ok_or_else(malformed)?;
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
                let value = require_header(request, header)?;
                let malformed = || ClaimError::malformed(header, format!("`{prefix}` and a token"));
                let token = strip_prefix_ignore_case(value, prefix).ok_or_else(malformed)?;
                Ok(token_claim(header, token.as_bytes().to_vec()))
            }
            Self::Basic { header } => {
                let value = require_header(request, header)?;
                let malformed =
                    || ClaimError::malformed(header, "`Basic ` and user:password in base64");
                let login = strip_prefix_ignore_case(value, "basic ")
                    .and_then(|text| SignatureEncoding::Base64.decode(text.trim()))
                    .ok_or_else(malformed)?;
                Ok(token_claim(header, login))
            }
        }
    }
}

/// Returns the header `name` of `request` as text, or [`ClaimError::NoHeader`].
pub(super) fn require_header<'r>(
    request: &RequestView<'r>,
    name: &str,
) -> Result<&'r str, ClaimError> {
    request
        .header(name)
        .ok_or_else(|| ClaimError::NoHeader(name.to_owned()))
}

fn token_claim<'r>(header: &'r str, token: Vec<u8>) -> SignatureClaim<'r> {
    let proof = SignatureSet {
        algorithm: SignatureAlgorithm::Token,
        signatures: vec![token],
    };
    SignatureClaim {
        header,
        proofs: vec![proof],
        layout: SignedContentLayout::Fixed(""),
        signed: SignedContent::default(),
        time: None,
    }
}

/// Decodes the signatures in the `value` of a header: one, or several separated by commas, each
/// after `prefix`.
fn split_signatures(
    value: &str,
    prefix: &str,
    encoding: SignatureEncoding,
) -> Option<Vec<Vec<u8>>> {
    let decode = |text: &str| encoding.decode(strip_prefix_ignore_case(text.trim(), prefix)?);
    let signatures: Vec<_> = value
        .split(',')
        .filter_map(decode)
        .take(SIGNATURES_MAX)
        .collect();
    (!signatures.is_empty()).then_some(signatures)
}

/// Returns the rest of `value` after `prefix`, which may be in upper or lower case.
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
