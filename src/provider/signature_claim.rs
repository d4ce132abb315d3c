//! Claim of a request to be signed, and its check against the keys of the source.

use std::fmt;
use std::time::Duration;

use subtle::Choice;

use super::key::{SignatureAlgorithm, VerificationKey};
use super::moment;
use super::signed_content::SignedContent;
use super::signed_template::SignedTemplate;
use crate::event::{RequestReuseRule, SignedRequestTag, Timestamp};

/// Most signatures of one request that are compared. A sender that rotates secrets sends two or
/// three; each one costs a comparison, and with Ed25519 a verification.
pub(super) const SIGNATURES_MAX: usize = 8;

/// Signatures that one algorithm made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureSet {
    /// Algorithm that made the signatures.
    pub algorithm: SignatureAlgorithm,
    /// Decoded bytes of each signature, at most 8 signatures.
    pub signatures: Vec<Vec<u8>>,
}

/// Layout of the signed content in words, such as `{timestamp}.{body}`.
#[derive(Clone, Copy, Debug)]
pub enum SignedContentLayout<'r> {
    /// Layout of a preset, as fixed text.
    Fixed(&'static str),
    /// Layout of a configured or tabular scheme.
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

/// Claim that one of these signatures was made over this content, at this time. Not yet checked.
#[derive(Clone, Debug)]
pub struct SignatureClaim<'r> {
    /// Name of the header with the signatures.
    pub header: &'r str,
    /// Signatures of the request, grouped by algorithm.
    pub proofs: Vec<SignatureSet>,
    /// Layout of the signed content, for reports.
    pub layout: SignedContentLayout<'r>,
    /// Content that the signatures cover.
    pub signed: SignedContent<'r>,
    /// Contents that the sender may have signed instead, such as the URL without its port.
    pub alternatives: Vec<SignedContent<'r>>,
    /// Time of the signature, if the signed content includes one.
    pub time: Option<SignedTime<'r>>,
    /// False if the signature proves the sender only, so that it fits any content.
    pub covers_body: bool,
    /// Claims of further signatures of the request, which are checked if this one is not valid, such as
    /// one by the next key of a rotation.
    pub others: Vec<SignatureClaim<'r>>,
}

/// Key and content that the signature of a request fits.
#[derive(Clone, Copy, Debug)]
pub struct SignatureMatch<'c, 'r> {
    /// Index of the key in the list that was compared.
    pub key: usize,
    /// Content that the signature covers.
    content: &'c SignedContent<'r>,
}

impl SignatureMatch<'_, '_> {
    /// Tag of the signed bytes, under the `key` that matches.
    pub(super) fn tag(&self, key: &VerificationKey) -> SignedRequestTag {
        let signed = self.content.bytes().iter().map(AsRef::as_ref);
        SignedRequestTag::new(key.identity(), signed)
    }
}

/// Time that a signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedTime<'r> {
    /// Moment of sending, as the sender spells it.
    Sent(&'r str),
    /// Period in which the signature holds.
    Period {
        /// Beginning: the moment at which the signature was made.
        made_at: Option<Timestamp>,
        /// End; without it, the tolerance decides.
        ends_at: Option<Timestamp>,
    },
}

/// Longest time for which a signature is accepted that tells its own end. The node remembers keys
/// for as long by default, so that it takes no call twice.
pub(super) const PERIOD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl SignedTime<'_> {
    /// Returns true if the signature holds at `now`, by a clock that may differ by `tolerance`. With a
    /// tolerance of zero the distance from the clock does not count, but an end that is signed does.
    pub(super) fn holds_at(&self, now: Timestamp, tolerance: Duration) -> bool {
        if tolerance.is_zero() {
            return match *self {
                Self::Sent(_) => true,
                Self::Period { ends_at, .. } => ends_at.is_none_or(|end| now <= end),
            };
        }
        match *self {
            Self::Sent(text) => {
                moment::parse_moment(text).is_some_and(|at| at.distance(now) <= tolerance)
            }
            Self::Period { made_at, ends_at } => {
                let is_begun = made_at.is_none_or(|at| at <= now.saturating_add(tolerance));
                let is_young = |limit| made_at.is_some_and(|at| at >= now.saturating_sub(limit));
                let is_in_time = match ends_at {
                    Some(end) if made_at.is_none() => {
                        now <= end && end <= now.saturating_add(PERIOD_MAX)
                    }
                    Some(end) => now <= end && is_young(PERIOD_MAX),
                    None => is_young(tolerance),
                };
                is_begun && is_in_time
            }
        }
    }
}

/// Reason why a request is refused. It does not tell what part of a signature is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    /// No signature, or none that matches.
    #[error("signature is missing or does not match this request")]
    InvalidSignature,
    /// A valid signature whose time is outside the tolerance.
    #[error("signed timestamp is outside the tolerance of this node's clock")]
    StaleTimestamp,
}

impl<'r> SignatureClaim<'r> {
    /// Returns this claim and the others of the request.
    pub(super) fn every_claim(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// Returns every content that the signatures may cover.
    pub(super) fn contents(&self) -> impl Iterator<Item = &SignedContent<'r>> {
        std::iter::once(&self.signed).chain(&self.alternatives)
    }

    /// Returns true if the signature covers the body and a time, so that it differs for each sending.
    #[must_use]
    pub fn proves_sending(&self) -> bool {
        self.time.is_some() && self.covers_body
    }

    /// Returns the rule for the same request, if it comes again; `None` if the signature leaves open
    /// which request it was made for, or two events may have the same one.
    pub(super) fn reuse_rule(&self) -> Option<RequestReuseRule> {
        if self.proves_sending() {
            return Some(RequestReuseRule::TakeOnce);
        }
        // The joined bytes would also fit other parts.
        let has_other_cuts = self.covers_body && self.signed.is_exempt();
        has_other_cuts.then_some(RequestReuseRule::FixContent)
    }

    /// Checks the claims of the request in turn, until one is valid.
    ///
    /// # Errors
    /// [`VerificationError`]; [`VerificationError::StaleTimestamp`] if a valid signature has a time
    /// outside the tolerance.
    pub fn check(
        &self,
        keys: &[VerificationKey],
        tolerance: Duration,
        now: Timestamp,
    ) -> Result<SignatureMatch<'_, 'r>, VerificationError> {
        let mut refusal = VerificationError::InvalidSignature;
        for claim in self.every_claim() {
            match claim.check_alone(keys, tolerance, now) {
                Ok(found) => return Ok(found),
                Err(VerificationError::InvalidSignature) => {}
                Err(stale) => refusal = stale,
            }
        }
        Err(refusal)
    }

    /// Compares the signatures with every key, also after a match, so that the time taken does not
    /// tell which key matched; then compares the signed time with `now`. Returns a key that matches, with the content that is signed.
    fn check_alone(
        &self,
        keys: &[VerificationKey],
        tolerance: Duration,
        now: Timestamp,
    ) -> Result<SignatureMatch<'_, 'r>, VerificationError> {
        let mut matching = None;
        for (key, known) in keys.iter().enumerate() {
            for content in self.contents() {
                let mut is_match = Choice::from(0);
                for proof in &self.proofs {
                    is_match |=
                        known.matches_any(proof.algorithm, content.bytes(), &proof.signatures);
                }
                if bool::from(is_match) {
                    matching = Some(SignatureMatch { key, content });
                }
            }
        }
        let matching = matching.ok_or(VerificationError::InvalidSignature)?;

        match self.time {
            Some(time) if !time.holds_at(now, tolerance) => Err(VerificationError::StaleTimestamp),
            Some(_) | None => Ok(matching),
        }
    }
}
