//! One configured source: how its sender signs, with which keys, and where its requests hold what
//! matters.

use std::fmt;
use std::time::Duration;

use super::body::{DocumentError, RequestDocument};
use super::extract::{ExtractedFields, ExtractionError, FieldLocators};
use super::handshake::{ProviderHandshake, Reply};
use super::key::{VerificationKey, VerificationKeyError};
use super::no_claim::ClaimError;
use super::presets::ProviderPreset;
use super::request::RequestView;
use super::scheme::SignatureScheme;
use super::signature_claim::{SignatureClaim, VerificationError};
use crate::event::Timestamp;

/// How a sender signs.
#[derive(Clone, Debug)]
pub enum SourceSigning {
    /// As this preset knows.
    Preset(&'static ProviderPreset),
    /// As described.
    Own(SignatureScheme),
}

impl SourceSigning {
    /// Reads one of its secrets.
    ///
    /// # Errors
    /// [`BadKey`] if it is not what the scheme needs.
    pub fn key(&self, text: &str) -> Result<VerificationKey, VerificationKeyError> {
        match self {
            Self::Preset(preset) => preset.key(text),
            Self::Own(scheme) => scheme.key(text),
        }
    }

    /// What `request` claims.
    ///
    /// # Errors
    /// [`NoClaim`].
    pub fn read_claim<'r>(
        &'r self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        match self {
            Self::Preset(preset) => preset.read_claim(request),
            Self::Own(scheme) => scheme.read_claim(request),
        }
    }

    /// Whether a header that a signature needs is not there, which can be told by the head of a
    /// request alone.
    #[must_use]
    pub fn is_header_missing(&self, head: &RequestView<'_>) -> bool {
        matches!(self.read_claim(head), Err(ClaimError::NoHeader(_)))
    }

    /// The header in which a scheme of one's own has its proof, under whatever name; those of
    /// presets say in their names what they are.
    #[must_use]
    pub fn scheme_header(&self) -> Option<&str> {
        match self {
            Self::Preset(_) => None,
            Self::Own(scheme) => Some(scheme.header()),
        }
    }

    /// How its provider shakes hands.
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

/// A configured source.
#[derive(Clone, Debug)]
pub struct WebhookSource {
    /// How its sender signs.
    pub signing: SourceSigning,
    /// Every active key.
    pub keys: Vec<VerificationKey>,
    /// How far a signed time may be from the clock, either way; zero switches that off.
    pub tolerance: Duration,
    /// Where its fields stand.
    pub fields: FieldLocators,
}

/// A request that a holder of a key has signed. Only such a one is decoded.
#[derive(Clone, Debug)]
pub struct VerifiedRequest<'a, 'r>(&'a RequestView<'r>);

impl WebhookSource {
    /// `request`, if it is signed with one of the keys, and lately.
    ///
    /// # Errors
    /// [`Refusal`]: the same for every failure of a kind.
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

    /// What an event came to, that `verified` brought in `document`.
    ///
    /// # Errors
    /// Every field that was not found.
    pub fn extract(
        &self,
        verified: &VerifiedRequest<'_, '_>,
        document: &RequestDocument<'_>,
    ) -> Result<ExtractedFields, Vec<ExtractionError>> {
        self.fields.extract(verified.0, document)
    }

    /// What is answered to `document` if it is no event but a handshake.
    #[must_use]
    pub fn answer_handshake(&self, document: &RequestDocument<'_>) -> Option<Reply> {
        match self.signing.handshake() {
            ProviderHandshake::Signed(read) => read(document),
            ProviderHandshake::None | ProviderHandshake::Subscription => None,
        }
    }
}

impl<'r> VerifiedRequest<'_, 'r> {
    /// Its body, to be looked into.
    ///
    /// # Errors
    /// [`Undecodable`].
    pub fn parse_document(&self) -> Result<RequestDocument<'r>, DocumentError> {
        RequestDocument::parse(self.0)
    }
}
