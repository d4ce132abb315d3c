//! How a verification went, for the person who set it up: what was found and compared. Never a
//! secret, nor the signature that would have been right.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::moment;
use super::no_claim::ClaimError;
use super::request::RequestView;
use super::signature_claim::{SignatureClaim, VerificationError};
use super::source::WebhookSource;
use crate::event::Timestamp;

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerificationOutcome {
    /// Signed by a holder of a key, and lately.
    Verified,
    /// Nothing that could be compared.
    Unclaimed(ClaimError),
    /// Compared and refused.
    Refused(VerificationError),
}

/// A verification in words.
#[derive(Clone, Debug)]
pub struct VerificationReport {
    /// What came out.
    pub verdict: VerificationOutcome,
    lines: Vec<(&'static str, String)>,
}

impl WebhookSource {
    /// Verifies `request` as [`Source::verify`] does, and says how.
    #[must_use]
    pub fn explain(&self, request: &RequestView<'_>, now: Timestamp) -> VerificationReport {
        let claim = match self.signing.read_claim(request) {
            Ok(claim) => claim,
            Err(reason) => {
                return VerificationReport {
                    lines: vec![("reason", reason.to_string())],
                    verdict: VerificationOutcome::Unclaimed(reason),
                };
            }
        };
        let mut lines = describe_claim(&claim);
        lines.push(("keys", self.keys.len().to_string()));
        let verdict = match claim.check(&self.keys, self.tolerance, now) {
            Ok(()) => VerificationOutcome::Verified,
            Err(refusal) => VerificationOutcome::Refused(refusal),
        };
        if let Some(time) = claim.time {
            lines.push(("time", describe_time(time, self.tolerance, now)));
        }
        if let VerificationOutcome::Refused(refusal) = &verdict {
            lines.push(("reason", refusal.to_string()));
            let hint = self
                .suggest_cause(*refusal, request, now)
                .or_else(|| url_hint(&claim, *refusal));
            lines.extend(hint.map(|hint| ("hint", hint.to_owned())));
        }
        VerificationReport { verdict, lines }
    }

    /// What is probably wrong.
    fn suggest_cause(
        &self,
        refusal: VerificationError,
        request: &RequestView<'_>,
        now: Timestamp,
    ) -> Option<&'static str> {
        if self.keys.is_empty() {
            return Some("the source has no secret yet");
        }
        let body = request.body.strip_suffix(b"\n")?;
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        let shorter = RequestView {
            body,
            ..request.clone()
        };
        let fits = self.verify(&shorter, now).is_ok();
        (refusal == VerificationError::InvalidSignature && fits).then_some(
            "it fits without the line end at the end of the file, which an editor may have added",
        )
    }
}

fn url_hint(claim: &SignatureClaim<'_>, refusal: VerificationError) -> Option<&'static str> {
    let is_signed = refusal == VerificationError::InvalidSignature
        && claim.layout.to_string().contains("{url}");
    is_signed.then_some(
        "the URL is signed too: it has to be the one that the sender called, to the letter",
    )
}

fn describe_claim(claim: &SignatureClaim<'_>) -> Vec<(&'static str, String)> {
    let mut lines = vec![("header", claim.header.to_owned())];
    for proof in &claim.proofs {
        let count = proof.signatures.len();
        let what = if count == 1 {
            "1 to compare".to_owned()
        } else {
            format!("{count} to compare")
        };
        lines.push(("signature", format!("{}, {what}", proof.algorithm)));
    }
    if !claim.signed.is_empty() {
        let signed = claim.signed.concat();
        let hash = hex::encode(Sha256::digest(&signed));
        lines.push((
            "signed",
            format!("{}: {} bytes, SHA-256 {hash}", claim.layout, signed.len()),
        ));
    }
    lines
}

fn describe_time(time: &str, tolerance: Duration, now: Timestamp) -> String {
    let Some(at) = moment::parse_moment(time) else {
        return "not RFC 3339, Unix seconds or Unix milliseconds".to_owned();
    };
    let side = if at <= now { "ago" } else { "ahead" };
    let limit = match tolerance.is_zero() {
        true => "any is taken".to_owned(),
        false => format!("{} s are taken", tolerance.as_secs_f64()),
    };
    format!("{at}, {} s {side}; {limit}", at.distance(now).as_secs())
}

impl fmt::Display for VerificationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines
            .iter()
            .try_for_each(|(name, text)| writeln!(f, "  {name:<15} {text}"))
    }
}
