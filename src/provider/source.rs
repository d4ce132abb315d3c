//! One configured source: its signature scheme, its keys, and the location of its fields.

use std::fmt;
use std::time::Duration;

use super::body::{DocumentError, RequestDocument};
use super::claim_error::ClaimError;
use super::extract::{ExtractedFields, ExtractionError, FieldLocators};
use super::handshake::{HandshakeReply, ProviderHandshake};
use super::key::{VerificationKey, VerificationKeyError};
use super::presets::ProviderPreset;
use super::request::RequestView;
use super::scheme::SignatureScheme;
use super::signature_claim::{SignatureClaim, VerificationError};
use crate::event::Timestamp;

/// Signature scheme of a sender.
#[derive(Clone, Debug)]
pub enum SourceSigning {
    /// Scheme of a known provider.
    Preset(&'static ProviderPreset),
    /// Scheme that the configuration describes.
    Own(SignatureScheme),
}

impl SourceSigning {
    /// Parses one configured secret as a key of this scheme.
    ///
    /// # Errors
    /// [`VerificationKeyError`] if the scheme cannot use the secret.
    pub fn parse_key(&self, text: &str) -> Result<VerificationKey, VerificationKeyError> {
        match self {
            Self::Preset(preset) => preset.parse_key(text),
            Self::Own(scheme) => scheme.parse_key(text),
        }
    }

    /// Reads the signature claim of `request`, without checking it.
    ///
    /// # Errors
    /// [`ClaimError`] if a header is missing or malformed, or the body is not covered.
    pub fn read_claim<'r>(
        &'r self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        match self {
            Self::Preset(preset) => preset.read_claim(request),
            Self::Own(scheme) => scheme.read_claim(request),
        }
    }

    /// Returns true if a header that the signature needs is missing. The headers alone decide it,
    /// so that such a request is refused before its body is read.
    #[must_use]
    pub fn is_header_missing(&self, head: &RequestView<'_>) -> bool {
        matches!(self.read_claim(head), Err(ClaimError::NoHeader(_)))
    }

    /// Header in which a configured scheme has its signature or secret, so that the call log can
    /// redact it; `None` for a preset, whose header names are known to the redaction.
    #[must_use]
    pub fn scheme_header(&self) -> Option<&str> {
        match self {
            Self::Preset(_) => None,
            Self::Own(scheme) => Some(scheme.header()),
        }
    }

    /// Handshake of the provider; none for a configured scheme.
    #[must_use]
    pub fn handshake(&self) -> ProviderHandshake {
        match self {
            Self::Preset(preset) => preset.handshake,
            Self::Own(_) => ProviderHandshake::None,
        }
    }
}

impl fmt::Display for SourceSigning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(preset) => write!(f, "preset {}", preset.name),
            Self::Own(_) => f.write_str("a scheme of its own"),
        }
    }
}

/// One configured source, ready to verify requests and to find their fields.
#[derive(Clone, Debug)]
pub struct WebhookSource {
    /// Signature scheme of the sender.
    pub signing: SourceSigning,
    /// Active keys; a request may be signed with any of them.
    pub keys: Vec<VerificationKey>,
    /// Largest distance between the signed time and the clock, either way; zero accepts any time.
    pub tolerance: Duration,
    /// Location of each field in a request.
    pub fields: FieldLocators,
}

/// A request with a valid signature. Only a verified request can be decoded.
#[derive(Clone, Debug)]
pub struct VerifiedRequest<'a, 'r>(&'a RequestView<'r>);

impl WebhookSource {
    /// Verifies that `request` is signed with one of the keys, at a time within the tolerance of
    /// `now`.
    ///
    /// # Errors
    /// [`VerificationError`], which does not tell what part of the signature is wrong.
    pub fn verify<'a, 'r>(
        &self,
        request: &'a RequestView<'r>,
        now: Timestamp,
    ) -> Result<VerifiedRequest<'a, 'r>, VerificationError> {
        let claim = self
            .signing
            .read_claim(request)
            .map_err(|_| VerificationError::InvalidSignature)?;
        claim.check(&self.keys, self.tolerance, now)?;
        Ok(VerifiedRequest(request))
    }

    /// Extracts the fields of the event in `document`, the body of `verified`.
    ///
    /// # Errors
    /// One [`ExtractionError`] for each field that is missing or malformed.
    pub fn extract(
        &self,
        verified: &VerifiedRequest<'_, '_>,
        document: &RequestDocument<'_>,
    ) -> Result<ExtractedFields, Vec<ExtractionError>> {
        self.fields.extract(verified.0, document)
    }

    /// Returns the reply to `document` if it is a signed handshake and no event.
    #[must_use]
    pub fn answer_handshake(&self, document: &RequestDocument<'_>) -> Option<HandshakeReply> {
        match self.signing.handshake() {
            ProviderHandshake::Signed(recognise) => recognise(document),
            ProviderHandshake::None | ProviderHandshake::Subscription => None,
        }
    }
}

impl<'r> VerifiedRequest<'_, 'r> {
    /// Parses the body of the verified request.
    ///
    /// # Errors
    /// [`DocumentError`] for another format or for malformed content.
    pub fn parse_document(&self) -> Result<RequestDocument<'r>, DocumentError> {
        RequestDocument::parse(self.0)
    }
}
