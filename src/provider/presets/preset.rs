//! Preset of one provider: signature scheme, tolerance, handshake and default fields.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::provider::claim_error::ClaimError;
use crate::provider::handshake::ProviderHandshake;
use crate::provider::key::{VerificationKey, VerificationKeyError};
use crate::provider::request::RequestView;
use crate::provider::scheme::SignatureScheme;
use crate::provider::signature_claim::SignatureClaim;

/// Tolerance that most providers recommend for a signed time: 300 s, enough for the transport and
/// for the difference of two clocks.
pub(super) const USUAL_TOLERANCE: Duration = Duration::from_secs(300);

/// Preset of one provider: its signature scheme, handshake and default fields.
#[derive(Debug)]
pub struct ProviderPreset {
    /// Name of the preset in the configuration.
    pub name: &'static str,
    pub(super) signing: PresetSigning,
    /// True if the provider also sends forms. The content type is not signed, so it counts only then.
    pub sends_forms: bool,
    /// Largest distance between the signed time and the clock; `None` if no time is signed.
    pub tolerance: Option<Duration>,
    /// Default location of each field, where all events of the provider have it in common.
    pub defaults: PresetFields,
    /// Handshake that the provider makes.
    pub handshake: ProviderHandshake,
    /// Answer that the provider expects to an event.
    pub answer: PresetAnswer,
    /// Facts about the provider's requests that differ from the usual.
    pub facts: PresetFacts,
}

/// Facts about a provider's requests, which most providers have in common.
#[derive(Debug)]
pub struct PresetFacts {
    /// Headers that the signature covers besides the time.
    pub signed_headers: &'static [&'static str],
    /// Tells if an event with this name and body differs from every other one, so that an equal body
    /// is a repetition, whatever its unsigned headers say; `None` if equal bodies tell nothing.
    pub is_unique_body: Option<fn(name: &str, body: &RawValue) -> bool>,
    /// Credential without a signed time, which the provider also sends in place of one with a time.
    pub untimed: Option<&'static str>,
    /// True if the provider also sends events by `GET`, with the URL signed.
    pub sends_by_get: bool,
    /// Largest body that the provider sends, if that is more than a megabyte.
    pub body_bytes_max: Option<usize>,
}

impl PresetFacts {
    /// Facts that most providers have in common.
    pub const USUAL: Self = Self {
        signed_headers: &[],
        is_unique_body: None,
        untimed: None,
        sends_by_get: false,
        body_bytes_max: None,
    };
}

/// Answer that a provider expects to an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresetAnswer {
    /// 200 with the event's id and entity.
    Event,
    /// No body, with this status.
    Empty(u16),
    /// Status 200 with a body of this content type.
    Document(&'static str, &'static str),
}

/// Signature scheme of a preset.
#[derive(Debug)]
pub(super) enum PresetSigning {
    /// Scheme that data alone describes.
    Scheme(SignatureScheme),
    /// Scheme with its own functions for keys and claims.
    Own {
        key: fn(&str) -> Result<VerificationKey, VerificationKeyError>,
        claim: for<'r> fn(&RequestView<'r>) -> Result<SignatureClaim<'r>, ClaimError>,
    },
}

/// Default places of each field, spelt and tried as those of a list in the configuration, which
/// must give some where there are none.
#[derive(Debug)]
pub struct PresetFields {
    /// Places of the id of the entity.
    pub entity: &'static [&'static str],
    /// Places of the event's name.
    pub event: &'static [&'static str],
    /// Places of the idempotency key.
    pub idempotency_key: &'static [&'static str],
    /// Places of the event's time, which not every event has.
    pub occurred_at: &'static [&'static str],
    /// Lists in the body whose items are events; none if a body is one event.
    pub items: &'static [&'static str],
    /// Fields of a form that hold the event as JSON.
    pub json_fields: &'static [&'static str],
    /// Top-level members of an event that change when it is sent again, such as a count of attempts.
    pub volatile: &'static [&'static str],
}

impl PresetFields {
    /// Fields without a default place.
    pub const NONE: Self = Self {
        entity: &[],
        event: &[],
        idempotency_key: &[],
        occurred_at: &[],
        items: &[],
        json_fields: &[],
        volatile: &[],
    };
}

impl ProviderPreset {
    /// Parses one configured secret as a key of this preset.
    ///
    /// # Errors
    /// [`VerificationKeyError`] if it is not of the form that the provider issues.
    pub fn parse_key(&self, text: &str) -> Result<VerificationKey, VerificationKeyError> {
        match &self.signing {
            PresetSigning::Scheme(scheme) => scheme.parse_key(text),
            PresetSigning::Own { key, .. } => key(text),
        }
    }

    /// Returns the scheme of the preset, if data alone describes it.
    pub(in crate::provider) fn scheme(&self) -> Option<&SignatureScheme> {
        match &self.signing {
            PresetSigning::Scheme(scheme) => Some(scheme),
            PresetSigning::Own { .. } => None,
        }
    }

    /// Reads the signature claim of `request`, without checking it.
    ///
    /// # Errors
    /// [`ClaimError`] if the signature, or a header that it covers, is missing or malformed.
    pub fn read_claim<'r>(
        &'static self,
        request: &RequestView<'r>,
    ) -> Result<SignatureClaim<'r>, ClaimError> {
        match &self.signing {
            PresetSigning::Scheme(scheme) => scheme.read_claim(request),
            PresetSigning::Own { claim, .. } => claim(request),
        }
    }
}
