//! Verifies the signatures of a delivery: each style that the delivery carries, with each known
//! key.

use std::fmt;
use std::time::Duration;

use crate::event::Timestamp;
use crate::provider::{
    ClaimError, ProviderPreset, RequestView, SignatureAlgorithm, SignatureClaim, SignatureEncoding,
    SignatureScheme, SignatureSet, VerificationKey, VerificationKeyError, find_preset,
};
use crate::subscription::SigningStyle;

const CRM: SignatureScheme = SignatureScheme::for_body(
    "x-webhook-signature",
    "",
    SignatureAlgorithm::HmacSha256,
    SignatureEncoding::Hex,
);
const HUB: SignatureScheme = SignatureScheme::for_body(
    "x-hub-signature-256",
    "sha256=",
    SignatureAlgorithm::HmacSha256,
    SignatureEncoding::Hex,
);

/// Largest difference between the signed time and this machine's clock, in either direction.
/// Source: the recommendation of Standard Webhooks.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Keys that deliveries are verified with.
#[derive(Debug, Default)]
pub(super) struct ListenerKeys {
    /// Characters of each secret; the styles `crm` and `hub` sign with them.
    plain: Vec<VerificationKey>,
    /// Decoded bytes of each secret, and its characters unless it begins with `whsec_`; the style
    /// `standard` signs with them.
    standard: Vec<VerificationKey>,
    public: Vec<VerificationKey>,
}

/// Result of verifying the signatures of one style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeliverySignatureVerdict {
    /// At least one signature matches.
    Right,
    /// No signature matches, or the header is malformed.
    Wrong,
    /// A signature matches, but its time is too far from the clock.
    Stale,
    /// The listener has no key for this style.
    Unchecked,
}

/// Signature style of a delivery, with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeliverySignatureCheck {
    pub(super) style: SigningStyle,
    pub(super) verdict: DeliverySignatureVerdict,
    /// Number of signatures in the header; `fitting` counts the valid ones.
    pub(super) given: usize,
    pub(super) fitting: usize,
}

impl ListenerKeys {
    /// Adds a subscription's secret.
    ///
    /// # Errors
    /// Returns [`VerificationKeyError`] for an empty secret.
    pub(super) fn add_secret(&mut self, text: &str) -> Result<(), VerificationKeyError> {
        let plain = VerificationKey::from_secret(text)?;
        let decoded = VerificationKey::from_standard(text).ok();
        if decoded.is_none() || !text.starts_with("whsec_") {
            self.standard.push(plain.clone());
        }
        self.standard.extend(decoded);
        self.plain.push(plain);
        Ok(())
    }

    /// Adds a subscription's public key, `whpk_…`.
    ///
    /// # Errors
    /// Returns [`VerificationKeyError`] for any other text.
    pub(super) fn add_public(&mut self, text: &str) -> Result<(), VerificationKeyError> {
        self.public.push(VerificationKey::from_public(text)?);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.public.is_empty()
    }

    /// Verifies every style that `request` carries.
    pub(super) fn check_signatures(
        &self,
        request: &RequestView<'_>,
        now: Timestamp,
    ) -> Vec<DeliverySignatureCheck> {
        let mut all = Vec::new();
        all.extend(self.check_body_style(SigningStyle::Crm, CRM.read_claim(request), now));
        all.extend(self.check_standard_styles(request, now));
        all.extend(self.check_body_style(SigningStyle::Hub, HUB.read_claim(request), now));
        all
    }

    fn check_body_style(
        &self,
        style: SigningStyle,
        claim: Result<SignatureClaim<'_>, ClaimError>,
        now: Timestamp,
    ) -> Option<DeliverySignatureCheck> {
        match claim {
            Ok(claim) => Some(check_style(
                style,
                &claim,
                &claim.proofs[0],
                &self.plain,
                now,
            )),
            Err(ClaimError::NoHeader(_)) => None,
            Err(_) => Some(DeliverySignatureCheck {
                style,
                verdict: DeliverySignatureVerdict::Wrong,
                given: 0,
                fitting: 0,
            }),
        }
    }

    /// Verifies the styles `standard` and `v1a`, which share the headers of Standard Webhooks.
    fn check_standard_styles(
        &self,
        request: &RequestView<'_>,
        now: Timestamp,
    ) -> Vec<DeliverySignatureCheck> {
        if request.header("webhook-signature").is_none() {
            return Vec::new();
        }
        let preset: &ProviderPreset = find_preset("standard").expect("it is one of them");
        let Ok(claim) = preset.read_claim(request) else {
            return vec![DeliverySignatureCheck {
                style: SigningStyle::Standard,
                verdict: DeliverySignatureVerdict::Wrong,
                given: 0,
                fitting: 0,
            }];
        };
        let of = |proof: &SignatureSet| match proof.algorithm {
            SignatureAlgorithm::Ed25519 => {
                check_style(SigningStyle::V1a, &claim, proof, &self.public, now)
            }
            SignatureAlgorithm::EcdsaP256
            | SignatureAlgorithm::EcdsaP256Fixed
            | SignatureAlgorithm::RsaSha256
            | SignatureAlgorithm::HmacSha1
            | SignatureAlgorithm::HmacSha256
            | SignatureAlgorithm::HmacSha512
            | SignatureAlgorithm::Sha256
            | SignatureAlgorithm::Token => {
                check_style(SigningStyle::Standard, &claim, proof, &self.standard, now)
            }
        };
        claim.proofs.iter().map(of).collect()
    }
}

fn check_style(
    style: SigningStyle,
    claim: &SignatureClaim<'_>,
    proof: &SignatureSet,
    keys: &[VerificationKey],
    now: Timestamp,
) -> DeliverySignatureCheck {
    let fits = |signature: &Vec<u8>| {
        let proof = SignatureSet {
            algorithm: proof.algorithm,
            signatures: vec![signature.clone()],
        };
        SignatureClaim {
            proofs: vec![proof],
            ..claim.clone()
        }
        .check(keys, Duration::ZERO, now)
        .is_ok()
    };
    let fitting = proof
        .signatures
        .iter()
        .filter(|signature| fits(signature))
        .count();
    let verdict = match fitting {
        _ if keys.is_empty() => DeliverySignatureVerdict::Unchecked,
        0 => DeliverySignatureVerdict::Wrong,
        _ if claim.check(keys, TOLERANCE, now).is_err() => DeliverySignatureVerdict::Stale,
        _ => DeliverySignatureVerdict::Right,
    };
    DeliverySignatureCheck {
        style,
        verdict,
        given: proof.signatures.len(),
        fitting,
    }
}

impl DeliverySignatureCheck {
    /// Returns the name of the style, as in the API.
    pub(super) fn style_name(&self) -> &'static str {
        match self.style {
            SigningStyle::Crm => "crm",
            SigningStyle::Standard => "standard",
            SigningStyle::Hub => "hub",
            SigningStyle::V1a => "v1a",
        }
    }

    /// Tells if the signature is wrong or stale.
    pub(super) fn is_bad(&self) -> bool {
        matches!(
            self.verdict,
            DeliverySignatureVerdict::Wrong | DeliverySignatureVerdict::Stale
        )
    }
}

impl DeliverySignatureVerdict {
    /// Stable word of the verdict in JSON output.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Stale => "stale",
            Self::Unchecked => "unchecked",
        }
    }
}

impl fmt::Display for DeliverySignatureCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            DeliverySignatureVerdict::Right => "ok",
            DeliverySignatureVerdict::Wrong => "WRONG",
            DeliverySignatureVerdict::Stale => "STALE",
            DeliverySignatureVerdict::Unchecked => "not checked",
        };
        write!(f, "{} {verdict}", self.style_name())?;
        // During a rotation, the header has a signature for each of two secrets.
        if self.given > 1 && self.verdict != DeliverySignatureVerdict::Unchecked {
            write!(f, " ({} of {})", self.fitting, self.given)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

    const BODY: &[u8] = br#"{"event":"status.changed"}"#;
    const TIME: &str = "1764844200";

    /// The signatures of [`BODY`] were made with openssl and with Python's `cryptography`.
    const OF_BODY: &str = "ceba75884bcad7aa44211eb4110028a3d04c93d4bbbe081207158e8c86545c95";
    const HUSH: &str = "v1,c48w1MpTZ+fgLx/ynYOsoAWXBo3YIS8Vr/Ta7L59qf4=";
    const DECODED: &str = "v1,eSzry+P3noU5UWT2S1/M5bu63+hg+c0ZWaU85DsK/F8=";
    const V1A: &str = "v1a,Sb90zSLni24HGe8Gv9HQ0ktqvPQIiXy4MJsdXCj1zf6hzGcGRGBdfteoUxmt0neZPZmOj2kq2F1Fj7Jj9gMsCw==";
    const PUBLIC: &str = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";

    fn keys(secrets: &[&str], public: &[&str]) -> ListenerKeys {
        let mut keys = ListenerKeys::default();
        secrets
            .iter()
            .for_each(|secret| keys.add_secret(secret).expect("a secret"));
        public
            .iter()
            .for_each(|public| keys.add_public(public).expect("a public key"));
        keys
    }

    /// Returns the checks of [`BODY`] with these headers, `age` seconds after it was signed.
    fn describe_checks(keys: &ListenerKeys, headers: &[(&'static str, &str)], age: u64) -> String {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let request = RequestView {
            method: "POST",
            url: "http://localhost/",
            headers,
            body: BODY,
        };
        let now = Timestamp::parse("2025-12-04T10:30:00Z")
            .expect("a time")
            .saturating_add(Duration::from_secs(age));
        keys.check_signatures(&request, now)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn standard(signature: &str) -> [(&'static str, &str); 3] {
        [
            ("webhook-id", "evt_1"),
            ("webhook-timestamp", TIME),
            ("webhook-signature", signature),
        ]
    }

    #[test]
    fn each_signature_style_is_checked_separately() {
        let hub = format!("sha256={OF_BODY}");
        let all = [
            &standard(HUSH)[..],
            &[
                ("x-webhook-signature", OF_BODY),
                ("x-hub-signature-256", &hub),
            ],
        ]
        .concat();
        assert_eq!(
            describe_checks(&keys(&["hush"], &[]), &all, 0),
            "crm ok, standard ok, hub ok"
        );
        assert_eq!(
            describe_checks(&keys(&["other"], &[]), &all, 0),
            "crm WRONG, standard WRONG, hub WRONG"
        );
        assert_eq!(
            describe_checks(&keys(&["other", "hush"], &[]), &all[3..], 0),
            "crm ok, hub ok",
            "any secret will do"
        );
        assert_eq!(
            describe_checks(&ListenerKeys::default(), &all, 0),
            "crm not checked, standard not checked, hub not checked"
        );
        assert_eq!(describe_checks(&keys(&["hush"], &[]), &[], 0), "");
        assert_eq!(
            describe_checks(&keys(&["hush"], &[]), &[("x-webhook-signature", "zz")], 0),
            "crm WRONG"
        );
    }

    #[test]
    fn a_secret_of_standard_webhooks_is_decoded_for_that_style_only() {
        let keys = keys(&["whsec_c2VjcmV0LW9mLXN0YW5kYXJk"], &[]);
        assert_eq!(describe_checks(&keys, &standard(DECODED), 0), "standard ok");
        assert_eq!(describe_checks(&keys, &standard(HUSH), 0), "standard WRONG");
    }

    #[test]
    fn several_signatures_are_counted_with_the_valid_ones() {
        let both = format!("{HUSH} {DECODED} {V1A}");
        assert_eq!(
            describe_checks(&keys(&["hush"], &[PUBLIC]), &standard(&both), 0),
            "standard ok (1 of 2), v1a ok"
        );
        assert_eq!(
            describe_checks(&keys(&["hush"], &[]), &standard(&both), 0),
            "standard ok (1 of 2), v1a not checked"
        );
        assert_eq!(
            describe_checks(&keys(&["x"], &[PUBLIC]), &standard(&both), 0),
            "standard WRONG (0 of 2), v1a ok"
        );
        assert_eq!(
            describe_checks(&keys(&["x"], &[PUBLIC]), &standard("v1a,AAAA"), 0),
            "v1a WRONG"
        );
        assert_eq!(
            describe_checks(&keys(&["x"], &[PUBLIC]), &standard("v2,AAAA"), 0),
            "standard WRONG"
        );
    }

    #[test]
    fn an_old_signature_is_stale_and_a_wrong_one_is_wrong_at_any_age() {
        assert_eq!(
            describe_checks(&keys(&["hush"], &[]), &standard(HUSH), 300),
            "standard ok"
        );
        assert_eq!(
            describe_checks(&keys(&["hush"], &[]), &standard(HUSH), 301),
            "standard STALE"
        );
        assert_eq!(
            describe_checks(&keys(&["x"], &[]), &standard(HUSH), 301),
            "standard WRONG"
        );
    }

    proptest! {
        #![proptest_config(damage_cases(CHEAP))]


        #[test]
        fn any_signature_of_a_delivery_is_checked_or_refused(
            signatures in damaged_text(&[HUSH, V1A, OF_BODY, "v1,AA== v1a,BB== v2,x"]),
            time in damaged_text(&[TIME, "-1", "99999999999999999999"]),
        ) {
            let keys = keys(&["hush", "whsec_aHVzaA=="], &[PUBLIC]);
            let headers = [
                ("webhook-id", "evt_1"), ("webhook-timestamp", &*time), ("webhook-signature", &signatures),
                ("x-hub-signature-256", &signatures), ("x-crm-signature", &signatures),
            ];
            let _ = describe_checks(&keys, &headers, 0);
        }
    }
}
