//! Signature schemes that data alone describes: header, algorithm, encoding, signed content. Most
//! presets have one, and a configured source without a preset has one too.

use std::borrow::Cow;

use super::claim_error::ClaimError;
use super::claim_headers::{require_header, require_header_lines};
use super::encoding::SignatureEncoding;
use super::jwt::JwtScheme;
use super::key::{SignatureAlgorithm, VerificationKey, VerificationKeyError};
use super::message_signature::{MessageSignatureScheme, SIGNATURE_HEADER};
use super::request::RequestView;
use super::signature_claim::{SignatureClaim, SignatureSet, SignedContentLayout, SignedTime};
use super::signature_header::{
    SignatureHeaderForm, SignatureHeaderParts, strip_prefix_ignore_case,
};
use super::signed_content::SignedContent;
use super::signed_template::{SignedContentPart, SignedTemplate};

/// Description of the credential in a sender's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureScheme {
    /// A signature in a header.
    Signature {
        /// Name of the header, in lower case.
        header: Cow<'static, str>,
        /// Form of the header's value.
        form: SignatureHeaderForm,
        /// Algorithm of the signature: an HMAC, Ed25519, ECDSA or RSA.
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
    /// A JSON Web Token in a header.
    Jwt(JwtScheme),
    /// HTTP message signature of components that the sender names.
    MessageSignature(MessageSignatureScheme),
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
            form: SignatureHeaderForm::List {
                prefix: Cow::Borrowed(prefix),
            },
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
            form: SignatureHeaderForm::List {
                prefix: Cow::Borrowed(prefix),
            },
            algorithm: SignatureAlgorithm::HmacSha256,
            encoding,
            signed: SignedTemplate::from_static(signed),
            timestamp_header: Some(Cow::Borrowed(timestamp_header)),
            id_header: None,
        }
    }

    /// Scheme of an HMAC-SHA256 in hex over the parts `signed`, with the time in the same header as
    /// the signatures.
    #[must_use]
    pub const fn with_parts(
        header: &'static str,
        parts: SignatureHeaderParts,
        signed: &'static [SignedContentPart],
    ) -> Self {
        Self::Signature {
            header: Cow::Borrowed(header),
            form: SignatureHeaderForm::Parts(parts),
            algorithm: SignatureAlgorithm::HmacSha256,
            encoding: SignatureEncoding::Hex,
            signed: SignedTemplate::from_static(signed),
            timestamp_header: None,
            id_header: None,
        }
    }

    /// Parses one configured secret as a key of this scheme.
    ///
    /// # Errors
    /// [`VerificationKeyError`] if the algorithm cannot use the secret.
    pub fn parse_key(&self, text: &str) -> Result<VerificationKey, VerificationKeyError> {
        let algorithm = match self {
            Self::Signature { algorithm, .. } => *algorithm,
            Self::Jwt(scheme) => scheme.algorithm,
            Self::MessageSignature(scheme) => scheme.algorithm,
            Self::Token { .. } => SignatureAlgorithm::Token,
            Self::Basic { .. } => return VerificationKey::from_login(text),
        };
        match algorithm {
            SignatureAlgorithm::Ed25519 => VerificationKey::from_public(text),
            SignatureAlgorithm::EcdsaP256 | SignatureAlgorithm::EcdsaP256Fixed => {
                VerificationKey::from_ecdsa(text)
            }
            SignatureAlgorithm::RsaSha256 => VerificationKey::from_rsa(text),
            SignatureAlgorithm::HmacSha1
            | SignatureAlgorithm::HmacSha256
            | SignatureAlgorithm::HmacSha512
            | SignatureAlgorithm::Sha256
            | SignatureAlgorithm::Token => VerificationKey::from_secret(text),
        }
    }

    /// Name of the header with the signature or secret, in lower case.
    #[must_use]
    pub fn header(&self) -> &str {
        match self {
            Self::Signature { header, .. }
            | Self::Token { header, .. }
            | Self::Basic { header } => header,
            Self::Jwt(scheme) => &scheme.header,
            Self::MessageSignature(_) => SIGNATURE_HEADER,
        }
    }

    /// Returns true if the signed content includes a time.
    #[must_use]
    pub fn has_timestamp(&self) -> bool {
        match self {
            Self::Signature {
                form,
                timestamp_header,
                ..
            } => timestamp_header.is_some() || form.has_time(),
            Self::Jwt(_) | Self::MessageSignature(_) => true,
            Self::Token { .. } | Self::Basic { .. } => false,
        }
    }

    /// Tells if the signature covers the header `name`, in lower case.
    pub(super) fn signs_header(&self, name: &str) -> bool {
        match self {
            Self::Signature {
                timestamp_header,
                id_header,
                ..
            } => [timestamp_header, id_header]
                .into_iter()
                .any(|header| header.as_deref() == Some(name)),
            Self::MessageSignature(scheme) => scheme.covers_header(name),
            Self::Jwt(_) | Self::Token { .. } | Self::Basic { .. } => false,
        }
    }

    /// Returns true if the signature covers the body, so that it fits no other.
    #[must_use]
    pub const fn covers_body(&self) -> bool {
        match self {
            Self::Signature { .. } | Self::MessageSignature(_) => true,
            Self::Jwt(scheme) => scheme.body_hash.is_some(),
            Self::Token { .. } | Self::Basic { .. } => false,
        }
    }

    /// Returns true if the header holds signatures without a prefix before them.
    #[must_use]
    pub fn has_no_prefix(&self) -> bool {
        let Self::Signature { form, .. } = self else {
            return false;
        };
        matches!(form, SignatureHeaderForm::List { prefix } if prefix.is_empty())
    }

    /// Returns true if the signed content includes the URL that the sender calls, or its host.
    #[must_use]
    pub fn covers_url(&self) -> bool {
        match self {
            Self::Signature { signed, .. } => signed.has_part(&SignedContentPart::Url),
            Self::MessageSignature(scheme) => scheme.covers_url(),
            Self::Token { .. } | Self::Basic { .. } | Self::Jwt(_) => false,
        }
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
                form,
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

                let lines = require_header_lines(request, header)?;
                let malformed = || ClaimError::malformed(header, form.describe(*encoding));
                let content = form.read_lines(&lines, *encoding).ok_or_else(malformed)?;
                let time = content.time.or(optional(timestamp_header)?);
                let id = optional(id_header)?;

                Ok(SignatureClaim {
                    header,
                    proofs: vec![SignatureSet {
                        algorithm: *algorithm,
                        signatures: content.signatures,
                    }],
                    layout: SignedContentLayout::Template(signed),
                    signed: signed.fill(request, time, id)?,
                    alternatives: Vec::new(),
                    time: time.map(SignedTime::Sent),
                    covers_body: true,
                    others: Vec::new(),
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
            Self::Jwt(scheme) => scheme.read_claim(request),
            Self::MessageSignature(scheme) => scheme.read_claim(request),
        }
    }
}

/// Decodes the signatures in all headers `header`: one, or several separated by commas.
pub(super) fn require_signatures(
    request: &RequestView<'_>,
    header: &str,
    encoding: SignatureEncoding,
) -> Result<Vec<Vec<u8>>, ClaimError> {
    let form = SignatureHeaderForm::List {
        prefix: Cow::Borrowed(""),
    };
    let lines = require_header_lines(request, header)?;
    form.read_lines(&lines, encoding)
        .map(|content| content.signatures)
        .ok_or_else(|| ClaimError::malformed(header, form.describe(encoding)))
}

/// Claim of a request that carries the secret itself in `header`.
pub(super) fn token_claim<'r>(header: &'r str, token: Vec<u8>) -> SignatureClaim<'r> {
    let proof = SignatureSet {
        algorithm: SignatureAlgorithm::Token,
        signatures: vec![token],
    };
    SignatureClaim {
        header,
        proofs: vec![proof],
        layout: SignedContentLayout::Fixed(""),
        signed: SignedContent::default(),
        alternatives: Vec::new(),
        time: None,
        covers_body: false,
        others: Vec::new(),
    }
}
