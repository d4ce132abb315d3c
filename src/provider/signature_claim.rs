//! What a request says of itself, and whether that is true.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use subtle::Choice;

use super::key::{SignatureAlgorithm, VerificationKey};
use super::moment;
use super::signed_template::SignedTemplate;
use crate::event::Timestamp;

/// The most signatures of one request that are looked at. Senders add one for each secret while
/// they rotate, so two or three; each costs a comparison, and with Ed25519 a verification.
pub(super) const SIGNATURES_MAX: usize = 8;

/// Signatures of one sort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureSet {
    /// What they were made with.
    pub algorithm: SignatureAlgorithm,
    /// Their bytes, at most 8 of them.
    pub signatures: Vec<Vec<u8>>,
}

/// How signed content is made up, for a person: `{timestamp}.{body}`.
#[derive(Clone, Copy, Debug)]
pub enum SignedContentLayout<'r> {
    /// As this text says.
    Fixed(&'static str),
    /// As this template says.
    Template(&'r SignedTemplate),
}

impl fmt::Display for SignedContentLayout<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(text) => f.write_str(text),
            Self::Template(template) => template.fmt(f),
        }
    }
}

/// What a request claims: that one of these signatures is of this content, made at this time.
#[derive(Clone, Debug)]
pub struct SignatureClaim<'r> {
    /// The header that the signatures stand in.
    pub header: &'r str,
    /// The signatures.
    pub proofs: Vec<SignatureSet>,
    /// How the signed content is made up.
    pub layout: SignedContentLayout<'r>,
    /// The signed content, in the pieces that it is made up of.
    pub signed: Vec<Cow<'r, [u8]>>,
    /// When it was signed, as the sender spells it, if that is part of the signed content.
    pub time: Option<&'r str>,
}

/// Why a request is refused; one for every failure of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    /// No signature, or none that fits.
    #[error("the signature is missing or not that of this request")]
    InvalidSignature,
    /// Signed by a holder of a key, but too long ago or ahead.
    #[error("the signed time is too far from this machine's clock")]
    StaleTimestamp,
}

impl SignatureClaim<'_> {
    /// Compares it with every one of `keys`, whichever fits, then its time with `now`. A
    /// `tolerance` of zero means that the time does not matter.
    ///
    /// # Errors
    /// [`Refusal`]; the time is judged only of what a holder of a key has signed.
    pub fn check(
        &self,
        keys: &[VerificationKey],
        tolerance: Duration,
        now: Timestamp,
    ) -> Result<(), VerificationError> {
        let mut fits = Choice::from(0);
        for key in keys {
            for proof in &self.proofs {
                fits |= key.matches_any(proof.algorithm, &self.signed, &proof.signatures);
            }
        }
        if !bool::from(fits) {
            return Err(VerificationError::InvalidSignature);
        }
        let is_fresh =
            |time| moment::parse_moment(time).is_some_and(|at| at.distance(now) <= tolerance);
        match self.time {
            Some(time) if !tolerance.is_zero() && !is_fresh(time) => {
                Err(VerificationError::StaleTimestamp)
            }
            Some(_) | None => Ok(()),
        }
    }
}
