//! Report of one verification for `hookyard check`: what was found and compared. The report never
//! holds a secret or the expected signature.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::claim_error::ClaimError;
use super::moment;
use super::request::RequestView;
use super::signature_claim::{SignatureClaim, SignedTime, VerificationError};
use super::source::{SourceSigning, WebhookSource};
use crate::event::Timestamp;

/// Longest word before a `=` that may be the prefix of a signature, such as `sha256`.
const PREFIX_MAX_BYTES: usize = 16;

/// Components of message signatures that have the URL or its host.
const URL_COMPONENTS: [&str; 2] = ["@target-uri", "@authority"];

/// Result of the verification of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerificationOutcome {
    /// A signature matches one of the keys, and its time is within the tolerance.
    Verified,
    /// The request has no signature that could be compared.
    Unclaimed(ClaimError),
    /// No signature matches, or the signed time is outside the tolerance.
    Refused(VerificationError),
}

/// Result of one verification with the lines that explain it.
#[derive(Clone, Debug)]
pub struct VerificationReport {
    /// Result that the lines explain.
    pub outcome: VerificationOutcome,
    lines: Vec<(&'static str, String)>,
}

impl WebhookSource {
    /// Verifies `request` as [`WebhookSource::verify`] does, and reports each step.
    #[must_use]
    pub fn explain(&self, request: &RequestView<'_>, now: Timestamp) -> VerificationReport {
        let claim = match self.read_claim(request) {
            Ok(claim) => claim,
            Err(reason) => {
                let mut lines = vec![("reason", reason.to_string())];
                lines.extend(
                    self.suggest_prefix(&reason, request)
                        .map(|hint| ("hint", hint)),
                );
                return VerificationReport {
                    lines,
                    outcome: VerificationOutcome::Unclaimed(reason),
                };
            }
        };
        let mut lines = describe_claim(&claim);
        lines.push(("keys", self.keys.len().to_string()));
        let outcome = match claim.check(&self.keys, self.tolerance, now) {
            Ok(_) => VerificationOutcome::Verified,
            Err(refusal) => VerificationOutcome::Refused(refusal),
        };
        if let Some(time) = claim.time {
            lines.push(("time", describe_time(time, self.tolerance, now)));
        }
        if let VerificationOutcome::Refused(refusal) = &outcome {
            lines.push(("reason", refusal.to_string()));
            let hint = self
                .suggest_cause(*refusal, request, now)
                .or_else(|| url_hint(&claim, *refusal, request));
            lines.extend(hint.map(|hint| ("hint", hint.to_owned())));
        }
        VerificationReport { outcome, lines }
    }

    /// Describes the cause of a `refusal` for the operator, in words that repeat nothing of the
    /// request. Its sender must not learn them.
    #[must_use]
    pub fn describe_refusal(
        &self,
        request: &RequestView<'_>,
        refusal: VerificationError,
    ) -> String {
        match (self.signing.read_claim(request), refusal) {
            (Err(reason), _) => reason.to_string(),
            (Ok(_), VerificationError::InvalidSignature) => {
                "no secret of the source matches the signature".to_owned()
            }
            (Ok(_), VerificationError::StaleTimestamp) => refusal.to_string(),
        }
    }

    /// Returns a hint if the signature in its header stands behind a prefix that the scheme does not
    /// name, such as `sha256=`.
    fn suggest_prefix(&self, reason: &ClaimError, request: &RequestView<'_>) -> Option<String> {
        let ClaimError::Malformed(header, _) = reason else {
            return None;
        };
        let SourceSigning::Own(scheme) = &self.signing else {
            return None;
        };
        let (word, rest) = request.header(header)?.split_once('=')?;
        let is_word = (1..=PREFIX_MAX_BYTES).contains(&word.len())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (scheme.has_no_prefix() && is_word && !rest.is_empty())
            .then(|| format!("the value begins with `{word}=`: set prefix = \"{word}=\""))
    }

    /// Probable reason for `refusal`, if one of the usual mistakes explains it.
    fn suggest_cause(
        &self,
        refusal: VerificationError,
        request: &RequestView<'_>,
        now: Timestamp,
    ) -> Option<&'static str> {
        if self.keys.is_empty() {
            return Some("the source has no secret yet");
        }

        // Editors add a line end to a saved request file; the sender did not sign it.
        let body = request.body.strip_suffix(b"\n")?;
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        let trimmed = RequestView {
            body,
            ..request.clone()
        };
        let is_valid_trimmed = self.verify(&trimmed, now).is_ok();

        (refusal == VerificationError::InvalidSignature && is_valid_trimmed).then_some(
            "the signature matches without the line end at the end of the file; \
             an editor may have added it",
        )
    }
}

fn url_hint(
    claim: &SignatureClaim<'_>,
    refusal: VerificationError,
    request: &RequestView<'_>,
) -> Option<&'static str> {
    // The sender of a message signature lists the components there.
    let components = request.header("signature-input").unwrap_or_default();
    let has_url = claim.layout.to_string().contains("{url}")
        || claim.header == "signature"
            && URL_COMPONENTS.iter().any(|name| components.contains(name));
    let is_signed = refusal == VerificationError::InvalidSignature && has_url;
    is_signed.then_some(
        "the URL is signed too: it must equal the URL that the sender called, byte for byte",
    )
}

fn describe_claim(claim: &SignatureClaim<'_>) -> Vec<(&'static str, String)> {
    let mut lines = vec![("header", claim.header.to_owned())];
    for proof in &claim.proofs {
        let count = proof.signatures.len();
        let compared = if count == 1 {
            "1 to compare".to_owned()
        } else {
            format!("{count} to compare")
        };
        lines.push(("signature", format!("{}, {compared}", proof.algorithm)));
    }
    if !claim.covers_body {
        let risk = "the body is not signed; whoever has this credential can send any event";
        lines.push(("warning", risk.to_owned()));
    }
    if !claim.signed.bytes().is_empty() {
        let signed = claim.signed.bytes().concat();
        let hash = hex::encode(Sha256::digest(&signed));
        lines.push((
            "signed",
            format!("{}: {} bytes, SHA-256 {hash}", claim.layout, signed.len()),
        ));
    }
    lines
}

fn describe_time(time: SignedTime<'_>, tolerance: Duration, now: Timestamp) -> String {
    let at = match time {
        SignedTime::Sent(text) => match moment::parse_moment(text) {
            Some(at) => at,
            None => return "not RFC 3339, Unix seconds or Unix milliseconds".to_owned(),
        },
        SignedTime::Period {
            made_at: None,
            ends_at: None,
        } => return "missing: the signature would hold for ever".to_owned(),
        SignedTime::Period {
            made_at,
            ends_at: Some(end),
        } => {
            let from = made_at.map_or_else(String::new, |at| format!("from {at} "));
            return format!("{from}to {end}, at most a day; it is {now}");
        }
        SignedTime::Period {
            made_at: Some(at),
            ends_at: None,
        } => at,
    };
    let side = if at <= now { "ago" } else { "ahead" };
    let limit = match tolerance.is_zero() {
        true => "any time is accepted".to_owned(),
        false => format!("up to {} s are accepted", tolerance.as_secs_f64()),
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
